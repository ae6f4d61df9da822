"""A file of values by key, in SQLite: small bodies inline, and where the large ones are."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, TypeVar

from callsheet._store import forks, mishaps, places
from callsheet._store.committing import in_transaction
from callsheet._store.patience import PATIENCE, patiently

T = TypeVar("T")

APPLICATION_ID = 0x43415652  # "CAVR"
_IDLE = 4  # connections that wait for their next use
_TABLE = """CREATE TABLE IF NOT EXISTS value (
    key TEXT PRIMARY KEY, size INTEGER NOT NULL, body BLOB, file TEXT
) WITHOUT ROWID"""
_READ = "SELECT body, file, size FROM value WHERE key = ?"
_PEEK = "SELECT substr(body, 1, ?), file, size FROM value WHERE key = ?"
_WRITE = "INSERT OR REPLACE INTO value VALUES (?, ?, ?, ?)"
_PRAGMAS = ("PRAGMA journal_size_limit = 33554432", "PRAGMA temp_store = MEMORY")


class Value(NamedTuple):
    """What is known under a key: the body, or the name of the file that has it."""

    body: bytes | None
    file: str | None
    size: int


_UNSAID = Value(None, None, 0)


class ValueFile:
    """Values by key. Each use takes a connection of its own, so readers wait for nobody.

    Args:
        path: of the file; it and its folder are made when they are first written.
        patience: seconds to wait for other processes.
        full_sync: whether a write survives a power cut.
    """

    def __init__(self, path: Path, *, patience: float = PATIENCE, full_sync: bool = False) -> None:
        self.path = path
        self._name = str(path)
        self._patience = patience
        self._full_sync = full_sync
        self._lock = threading.Lock()
        self._idle: list[tuple[sqlite3.Connection, tuple[int, int] | None]] = []
        forks.remember(self)

    def read(self, key: str) -> Value | None:
        """Give what is known under a key, or `None`.

        Raises:
            StoreError: the file cannot be read.
        """
        if places.identity(self._name) is None:
            return None
        row = self._use(lambda connection: connection.execute(_READ, (key,)).fetchone())
        return None if row is None else Value(*row)

    def glance(self, key: str) -> Value | None:
        """Give the same without waiting: a value of which nothing is said where that cannot be done just now."""
        here = places.identity(self._name)
        with self._lock:
            if not self._idle or self._idle[-1][1] != here:
                return _UNSAID
            connection, file = self._idle.pop()
        try:
            row = connection.execute(_READ, (key,)).fetchone()
        except sqlite3.Error:  # whoever waits hears what is wrong
            connection.close()
            return _UNSAID
        with self._lock:
            self._idle.append((connection, file))
        return None if row is None else Value(*row)

    def peek(self, key: str, length: int) -> Value | None:
        """Give the same with no more than the beginning of the body.

        Raises:
            StoreError: the file cannot be read.
        """
        if places.identity(self._name) is None:
            return None
        row = self._use(lambda connection: connection.execute(_PEEK, (length, key)).fetchone())
        return None if row is None else Value(*row)

    def write(self, key: str, value: Value) -> None:
        """Keep a value under a key, in place of what was there.

        Raises:
            StoreError: the file cannot be written, or the disk is full; what was there before still is.
        """
        row = (key, value.size, value.body, value.file)
        self._use(lambda connection: connection.execute(_WRITE, row))

    def delete(self, key: str) -> None:
        """Forget a key.

        Raises:
            StoreError: the file cannot be written.
        """
        if places.identity(self._name) is not None:
            self._use(lambda connection: connection.execute("DELETE FROM value WHERE key = ?", (key,)))

    def files(self) -> set[str]:
        """Give the names of all files that values are in.

        Raises:
            StoreError: the file cannot be read.
        """
        if places.identity(self._name) is None:
            return set()
        query = "SELECT file FROM value WHERE file IS NOT NULL"
        return {row[0] for row in self._use(lambda connection: connection.execute(query).fetchall())}

    def close(self) -> None:
        """Close what is idle. The next use opens again."""
        with self._lock:
            idle, self._idle = self._idle, []
        for connection, _ in idle:
            connection.close()

    def forget_after_fork(self) -> None:
        """Let go of everything in a forked child, without touching files or locks of the parent."""
        for connection, _ in self._idle:
            forks.leak(connection)
        self._idle = []
        self._lock = threading.Lock()

    # -------------------------------------------------------------------------------- connections

    def _use(self, work: Callable[[sqlite3.Connection], T]) -> T:
        try:
            connection, file = self._take()
            try:
                made = patiently(lambda: work(connection), patience=self._patience)
            except BaseException:
                connection.close()  # whatever state it is in
                raise
        except (sqlite3.Error, OSError) as error:
            raise mishaps.translate(error, self.path, self._patience) from error
        with self._lock:
            if len(self._idle) < _IDLE:
                self._idle.append((connection, file))
                return made
        connection.close()
        return made

    def _take(self) -> tuple[sqlite3.Connection, tuple[int, int] | None]:
        here = places.identity(self._name)
        while True:
            with self._lock:
                found = self._idle.pop() if self._idle else None
            if found is None:
                break
            if found[1] == here:
                return found
            found[0].close()  # the file was removed or replaced meanwhile
        return self._open(), places.identity(self._name)

    def _open(self) -> sqlite3.Connection:
        places.prepare(self.path)
        connection = sqlite3.connect(self.path, timeout=0, isolation_level=None, check_same_thread=False)
        try:
            patiently(lambda: connection.execute("PRAGMA auto_vacuum = INCREMENTAL"), patience=self._patience)
            patiently(lambda: connection.execute("PRAGMA journal_mode = WAL").fetchone(), patience=self._patience)
            found = patiently(
                lambda: connection.execute("PRAGMA application_id").fetchone()[0], patience=self._patience
            )
            if found != APPLICATION_ID:
                patiently(lambda: in_transaction(connection, _begin), patience=self._patience)
            for pragma in (*_PRAGMAS, f"PRAGMA synchronous = {'FULL' if self._full_sync else 'NORMAL'}"):
                connection.execute(pragma)
        except BaseException:
            connection.close()
            raise
        return connection


def _begin(connection: sqlite3.Connection) -> None:
    """Make the table, where the file is new.

    Raises:
        sqlite3.DatabaseError: with the code for "not a database" if it has tables that are not ours.
    """
    tables = {row[0] for row in connection.execute("SELECT name FROM sqlite_master").fetchall()}
    if tables - {"value"} - {name for name in tables if name.startswith("sqlite_")}:
        error = sqlite3.DatabaseError("tables of another program")
        error.sqlite_errorcode = sqlite3.SQLITE_NOTADB
        raise error
    connection.execute(_TABLE)
    connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
