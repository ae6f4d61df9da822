"""What tests of flows need."""

from callsheet.testing.findings import Finding, Promise
from callsheet.testing.histories import check_history
from callsheet.testing.utilities import exceptions_equal, harness, reset

__all__ = ["Finding", "Promise", "check_history", "exceptions_equal", "harness", "reset"]
