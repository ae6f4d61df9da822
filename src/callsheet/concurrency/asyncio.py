"""Limits for async code. Not available yet."""

from callsheet._later import later
from callsheet.concurrency.errors import ConcurrencySlotAcquisitionError

__all__ = ["ConcurrencySlotAcquisitionError"]

__getattr__ = later(__name__, "concurrency", "rate_limit")
