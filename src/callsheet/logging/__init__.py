"""Loggers of runs, `print` as logging, and how records get to the console and into the history.

Everything goes through the standard library's `logging`, below the logger ``callsheet``; the root logger is never
touched. Records reach whatever handlers the program has. Only where it has none does a console handler of ours
write them to standard error; ``CALLSHEET_LOGGING_CONFIGURE=0`` switches that off.
"""

from callsheet.logging.handlers import LogEavesdropper
from callsheet.logging.loggers import (
    LogAdapter,
    disable_logger,
    disable_run_logger,
    flow_run_logger,
    get_logger,
    get_run_logger,
    task_run_logger,
)
from callsheet.logging.prints import patch_print, print_as_log

__all__ = [
    "LogAdapter",
    "LogEavesdropper",
    "disable_logger",
    "disable_run_logger",
    "flow_run_logger",
    "get_logger",
    "get_run_logger",
    "patch_print",
    "print_as_log",
    "task_run_logger",
]
