"""What the limits raise."""

from callsheet.exceptions import CallsheetError

__all__ = ["ConcurrencySlotAcquisitionError"]


class ConcurrencySlotAcquisitionError(CallsheetError):
    """No place could be had."""
