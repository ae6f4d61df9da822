"""The table of locks that processes share: compare and swap, one statement each."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, TypeVar

from callsheet._store import forks, mishaps, places
from callsheet._store.patience import patiently
from callsheet._store.sqlite import SqliteStore

T = TypeVar("T")
_READ_PATIENCE = 5.0
_INSERT = "INSERT OR IGNORE INTO named_lock (key, token, beat, body) VALUES (?, ?, ?, ?)"
_UPDATE = "UPDATE named_lock SET token = ?, beat = ?, body = ? WHERE key = ? AND token = ? AND beat = ?"
_DELETE = "DELETE FROM named_lock WHERE key = ? AND token = ? AND beat = ?"


class LockRow(NamedTuple):
    """One lock that is held."""

    token: str
    beat: int
    body: bytes


class LockTable:
    """Locks in the database of an engine. A connection for each use, except between `stay_open` and `close`.

    Args:
        path: The database; it is made when needed.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._is_ready = False
        self._lock = threading.Lock()
        self._stays_open = False
        self._idle: tuple[sqlite3.Connection, tuple[int, int] | None] | None = None
        forks.remember(self)

    def stay_open(self) -> None:
        """Keep a connection from the next use on: opening costs far more than what is done with it."""
        with self._lock:
            self._stays_open = True

    def close(self) -> None:
        """Close that connection, and keep none any more."""
        with self._lock:
            self._stays_open = False
            idle, self._idle = self._idle, None
        if idle is not None:
            idle[0].close()

    def forget_after_fork(self) -> None:
        """Let go of everything in a forked child, without touching files or locks of the parent."""
        if self._idle is not None:
            forks.leak(self._idle[0])
        self._idle = None
        self._stays_open = False
        self._lock = threading.Lock()

    def read(self, key: str) -> LockRow | None:
        """Give the row of a lock, or `None`.

        Raises:
            StoreError: The database refuses.
        """
        if not self._is_ready and not self.path.exists():
            return None
        row = self._use(
            lambda connection: connection.execute(
                "SELECT token, beat, body FROM named_lock WHERE key = ?", (key,)
            ).fetchone(),
            _READ_PATIENCE,
        )
        return None if row is None else LockRow(*row)

    def swap(self, key: str, old: LockRow | None, new: LockRow | None, patience: float) -> bool:
        """Put a row in the place of another one, if that is still there.

        Args:
            key: The lock.
            old: What must be there; `None` for nothing.
            new: What is put there; `None` takes the old one away.
            patience: Seconds to wait for other writers.

        Returns:
            Whether it was done.

        Raises:
            StoreError: The database refuses.
        """
        if new is None:
            statement, values = _DELETE, (key, *_mark(old))
        elif old is None:
            statement, values = _INSERT, (key, *new)
        else:
            statement, values = _UPDATE, (*new, key, *_mark(old))
        return self._use(lambda connection: connection.execute(statement, values).rowcount == 1, patience)

    def _use(self, work: Callable[[sqlite3.Connection], T], patience: float) -> T:
        if not self._is_ready or not self.path.exists():
            self._prepare()
        try:
            connection, file = self._take(patience)
            try:
                made = patiently(lambda: work(connection), patience=patience)
            except BaseException:
                connection.close()
                raise
        except sqlite3.Error as error:
            raise mishaps.translate(error, self.path, patience) from error
        with self._lock:
            if self._stays_open and self._idle is None:
                self._idle = connection, file
                return made
        connection.close()
        return made

    def _take(self, patience: float) -> tuple[sqlite3.Connection, tuple[int, int] | None]:
        here = places.identity(str(self.path))
        with self._lock:
            idle, self._idle = self._idle, None
        if idle is not None:
            if idle[1] == here:
                return idle
            idle[0].close()  # the file was removed or replaced meanwhile
        connection = sqlite3.connect(self.path, timeout=0, isolation_level=None, check_same_thread=False)
        try:
            # A power cut takes the holders along with their locks, so nobody waits for the disk here. This
            # statement opens the file, and may find others at it as any other may.
            patiently(lambda: connection.execute("PRAGMA synchronous = NORMAL"), patience=patience)
        except BaseException:
            connection.close()
            raise
        return connection, places.identity(str(self.path))

    def _prepare(self) -> None:
        """Make the file and its tables by opening it once as an engine does."""
        store = SqliteStore(self.path)
        store.open()
        store.close()
        self._is_ready = True


def _mark(row: LockRow | None) -> tuple[str, int]:
    return ("", -1) if row is None else (row.token, row.beat)
