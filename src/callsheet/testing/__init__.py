"""What tests of flows need."""

from callsheet.testing.utilities import exceptions_equal, harness, reset

__all__ = ["exceptions_equal", "harness", "reset"]
