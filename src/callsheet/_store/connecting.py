"""The writing connection of a file, and the size of its write-ahead log."""

from __future__ import annotations

import os
import sqlite3
import sys
import time
from collections.abc import Callable
from pathlib import Path

from callsheet._store import migrate
from callsheet._store.patience import patiently

TRUNCATE_ABOVE = 32 << 20
"""Bytes of write-ahead log from which writers wait while it is emptied."""

_PRAGMAS = (
    "PRAGMA synchronous = NORMAL",
    "PRAGMA wal_autocheckpoint = 0",
    f"PRAGMA journal_size_limit = {TRUNCATE_ABOVE}",
    "PRAGMA cache_size = -2000",  # KiB: rows come in order of time, so what is written next is near what was last
    *(("PRAGMA fullfsync = 1", "PRAGMA checkpoint_fullfsync = 1") if sys.platform == "darwin" else ()),
)


def connect(path: Path, patience: float) -> sqlite3.Connection:
    """Open a file for writing, and bring it to the newest version."""
    connection = sqlite3.connect(path, timeout=0, isolation_level=None, check_same_thread=False, cached_statements=64)
    try:
        # Before the first table: it cannot be changed later without rewriting the file.
        patiently(lambda: connection.execute("PRAGMA auto_vacuum = INCREMENTAL"), patience=patience)
        # A read-only file stays in its old mode without an error; the first write tells.
        patiently(lambda: connection.execute("PRAGMA journal_mode = WAL").fetchone(), patience=patience)
        migrate.migrate(connection, path, patience=patience)
        for pragma in _PRAGMAS:
            connection.execute(pragma)
    except BaseException:
        connection.close()
        raise
    return connection


def data_version(connection: sqlite3.Connection) -> int:
    """Give the number that changes when another connection has committed."""
    return int(connection.execute("PRAGMA data_version").fetchone()[0])


def wait_for_change(path: Path, deadline: float, pause: float, stopped: Callable[[], bool]) -> bool:
    """Wait in the calling thread until anybody has committed to a file; false: not before the deadline."""
    connection = sqlite3.connect(path, timeout=0, isolation_level=None)
    try:
        before = data_version(connection)
        while not stopped() and (left := deadline - time.monotonic()) > 0:
            time.sleep(min(pause, left))
            if data_version(connection) != before:
                return True
        return False
    finally:
        connection.close()


def save_log(connection: sqlite3.Connection) -> None:
    """Copy home a write-ahead log that only those have who had it open before it was removed, and let the next one begin empty."""
    try:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    except sqlite3.Error:  # somebody else is at it; or there is no more to be had of it
        pass


def checkpoint(path: Path, log: str, copy_above: int, truncate_above: int) -> None:
    """Copy a long write-ahead log home, beside writers; a very long one is emptied."""
    try:
        size = os.stat(log).st_size  # noqa: PTH116 - 2 µs less, after every batch
    except OSError:
        return
    if size < copy_above:
        return
    how = "TRUNCATE" if size > truncate_above else "PASSIVE"
    try:
        # A connection of its own: on the writer's, a commit would wait for the copying.
        connection = sqlite3.connect(path, timeout=0, isolation_level=None)
        try:
            connection.execute(f"PRAGMA wal_checkpoint({how})").fetchone()
        finally:
            connection.close()
    except sqlite3.Error:  # somebody else is at it, or the disk refuses: then the next commit says so
        return
