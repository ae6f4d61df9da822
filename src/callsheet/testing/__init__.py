"""What tests of flows need."""

from callsheet.testing.findings import Finding, Promise
from callsheet.testing.histories import check_history
from callsheet.testing.timeline import Happened
from callsheet.testing.utilities import exceptions_equal, harness, reset
from callsheet.testing.virtual import VirtualRun, run_virtual

__all__ = [
    "Finding",
    "Happened",
    "Promise",
    "VirtualRun",
    "check_history",
    "exceptions_equal",
    "harness",
    "reset",
    "run_virtual",
]
