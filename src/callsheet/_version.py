"""The version, read by the build and by `callsheet.__version__`."""

__version__ = "0.1.0"
