"""Stored documents of every day. Not available yet."""

from callsheet._later import later

__getattr__ = later(__name__, "Secret")
