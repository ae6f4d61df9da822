"""The logger ``callsheet`` gets its handlers and its level: once, at first use, and nothing else is touched."""

from __future__ import annotations

import logging
import os
import threading

from callsheet.logging.handlers import ROOT, ConsoleHandler, HistoryHandler, logger_named
from callsheet.settings import get_current_settings

_lock = threading.Lock()
_history = HistoryHandler()
_configured = False


def ensure() -> None:
    """Connect the logger ``callsheet`` to the history and, unless the program opted out, to the console.

    Cheap enough for every use. The history's handler comes back if the program's own logging configuration has
    removed it; level and console are set only once, so that what a program changes stays changed.

    ``CALLSHEET_LOGGING_CONFIGURE=0`` leaves level and console to the program.
    """
    global _configured
    logger = logger_named(ROOT)
    if _configured and _history in logger.handlers:
        return
    with _lock:
        if _history not in logger.handlers:
            logger.addHandler(_history)
        if not _configured:
            _configured = True
            if os.environ.get("CALLSHEET_LOGGING_CONFIGURE", "1").strip().lower() not in {"0", "false", "no", "off"}:
                _configure(logger)


def _configure(logger: logging.Logger) -> None:
    if logger.level == logging.NOTSET:
        logger.setLevel(get_current_settings().logging_level)
    logger.addHandler(ConsoleHandler())
