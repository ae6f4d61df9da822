"""Reading and setting signal handlers, by the interpreter's own functions.

Those of `signal` look up members of enumerations for each number and each handler, by way of exceptions where a handler is a
function: 65,000 instructions of the processor for a root run that sets one and puts the host's back, against 1,500. What is
no function is a plain number here: `DEFAULT` is equal to the member of that name, which `set_handler` does not take.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from types import FrameType
from typing import Any, Final

Handler = Callable[[int, FrameType | None], Any] | int | None
"""What handles a signal; `None` where that was not set by Python."""

_interpreter: Any = import_module("_signal")

DEFAULT: Final[int] = _interpreter.SIG_DFL
handler_of: Callable[[int], Handler] = _interpreter.getsignal
set_handler: Callable[[int, Handler], Handler] = _interpreter.signal
