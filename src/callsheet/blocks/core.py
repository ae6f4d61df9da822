"""Stored documents. Not available yet."""

from callsheet._later import later

__getattr__ = later(__name__, "Block")
