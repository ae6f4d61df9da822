"""Waiting for a database that another process holds: the one place where anybody does.

SQLite's own busy handler starves writers (3.4 s seen with 8 of them) and does not cover opening, the switch
to WAL and checkpoints; short random pauses of our own bring the longest wait under a second.
"""

from __future__ import annotations

import random
import sqlite3
from collections.abc import Callable, Iterator
from typing import TypeVar

from callsheet._clock import machine

T = TypeVar("T")

PATIENCE = 60.0
"""Seconds before a held database becomes an error that a user sees."""

_SHORTEST = 0.0002
_LONGEST = 0.02
_HELD = frozenset({sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_PROTOCOL})


def primary_code(error: BaseException) -> int:
    """Give SQLite's primary result code of an error, or 0 where it has none."""
    return (getattr(error, "sqlite_errorcode", 0) or 0) & 0xFF


def is_held(error: BaseException) -> bool:
    """Tell whether an error only says that somebody else is at it just now."""
    return isinstance(error, sqlite3.Error) and primary_code(error) in _HELD


def pauses(patience: float = PATIENCE) -> Iterator[float]:
    """Give pauses in seconds, longer and longer up to 20 ms, each random, until `patience` seconds have passed."""
    deadline = machine.monotonic() + patience
    ceiling = _SHORTEST * 4
    while machine.monotonic() < deadline:
        yield random.uniform(_SHORTEST, ceiling)
        ceiling = min(ceiling * 1.5, _LONGEST)


def patiently(attempt: Callable[[], T], *, patience: float = PATIENCE) -> T:
    """Call `attempt` until it gets through, for at most `patience` seconds.

    Raises:
        sqlite3.OperationalError: the last refusal, when patience ran out; any other error at once.
    """
    for pause in pauses(patience):
        try:
            return attempt()
        except sqlite3.Error as error:
            if not is_held(error):
                raise
        machine.sleep(pause)
    return attempt()
