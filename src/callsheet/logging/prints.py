"""`print` as logging, for the runs that ask for it and for nobody else.

`builtins.print` belongs to the whole process, while runs come and go on many threads and tasks at once. So it is
replaced when the first run that logs prints begins and put back when the last one ends, and in between each call
decides by its own context: prints of other runs, of plain threads and of the program itself go where they always go.
"""

from __future__ import annotations

import builtins
import io
import sys
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any

_lock = threading.Lock()
_alive = 0  # blocks of `patch_print` that are open anywhere
_print: Callable[..., None] = builtins.print  # what a print that is not logged calls
_foreign: object = None  # what somebody else had put in the place of ours when our last block ended
_thread = threading.local()


@contextmanager
def patch_print() -> Generator[None, None, None]:
    """Let `print` be `print_as_log` inside the block.

    Blocks may overlap in any way. Whoever replaced `print` meanwhile keeps the place.

    Yields:
        Nothing.
    """
    global _alive, _print, _foreign
    with _lock:
        _alive += 1
        # A replacement that wraps ours leads here anyway; taking it for the original would go round in circles.
        if _alive == 1 and builtins.print not in (_foreign, print_as_log):
            _print = builtins.print
            builtins.print = print_as_log
    try:
        yield
    finally:
        with _lock:
            _alive -= 1
            if _alive == 0 and builtins.print is print_as_log:
                builtins.print = _print
            elif _alive == 0:
                _foreign = builtins.print


def print_as_log(*args: Any, **kwargs: Any) -> None:
    """Print, or log at INFO what would be printed if the current run asks for it (`log_prints`).

    Args:
        *args: As for `print`.
        **kwargs: As for `print`. What goes to a file other than the standard streams is printed there.
    """
    if not _is_logged(kwargs.get("file")):
        _print(*args, **kwargs)
        return
    from callsheet.logging.loggers import get_run_logger

    _thread.busy = True
    try:
        text = io.StringIO()
        _print(*args, **{**kwargs, "file": text})
        get_run_logger().info(text.getvalue().rstrip(), stacklevel=2)
    finally:
        _thread.busy = False


def _is_logged(file: object) -> bool:
    # A handler of the program that prints while our record is on its way would call for a record of its own.
    if getattr(_thread, "busy", False) or not (file is None or file is sys.stdout or file is sys.stderr):
        return False
    contexts = sys.modules.get("callsheet.context")
    if contexts is None:
        return False
    context = contexts.TaskRunContext.get() or contexts.FlowRunContext.get()
    return bool(getattr(context, "log_prints", False))
