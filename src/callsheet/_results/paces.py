"""How quick the files of a folder are read: whether that can be done on a loop, or only on a thread.

To hand a small file's reading to a thread costs several times what the reading does; a slow disk would hold up a loop.
So it is measured (ADR 0013). Reading begins on threads. A folder on a disk of this machine whose files were read at once
several times in a row is read on the spot, as long as that stays so.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from callsheet._store.places import is_surely_local

QUICK: Final = 0.01  # seconds that one reading may take
_FIRST: Final = 3  # quick ones in a row before the first on the spot
_AGAIN: Final = 16  # the same after one was slow
_MOST: Final = 1000  # folders that are remembered


class Pace:
    """What is known of one folder."""

    __slots__ = ("_left", "_local", "_lock", "_waiting")

    def __init__(self) -> None:
        self._left = _FIRST
        self._waiting = 0
        self._local: bool | None = None
        self._lock = threading.Lock()

    @property
    def is_quick(self) -> bool:
        """Tell whether files can be read on the spot. While somebody still waits for one they cannot."""
        return not self._left and not self._waiting

    def note(self, seconds: float) -> None:
        """Take note of how long one reading took."""
        if seconds > QUICK:
            self._left = _AGAIN
        elif self._left and self._local:
            self._left -= 1

    @contextmanager
    def measured(self, folder: Path) -> Generator[None]:
        """Measure a reading on a thread."""
        if self._local is None:
            self._local = is_surely_local(folder)
        with self._lock:
            self._waiting += 1
        start = time.perf_counter()
        try:
            yield
            self.note(time.perf_counter() - start)
        finally:
            with self._lock:
                self._waiting -= 1


_paces: dict[str, Pace] = {}


def pace_of(folder: str) -> Pace:
    """Give what is known of a folder."""
    found = _paces.get(folder)
    if found is None:
        if len(_paces) >= _MOST:
            _paces.clear()
        found = _paces.setdefault(folder, Pace())
    return found
