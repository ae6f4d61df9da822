"""From what SQLite and the file system say to errors that name the place and the way out."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path

from callsheet._store.patience import is_held, primary_code
from callsheet.exceptions import (
    LostOwnership,
    StoreClosed,
    StoreError,
    StoreFull,
    StoreLocked,
    StoreNotADatabase,
    StoreReadOnly,
    StoreTooNew,
    StoreUnavailable,
)

_ELSEWHERE = "set CALLSHEET_HOME to another folder"
_MOVED = 1032  # SQLITE_READONLY_DBMOVED: the name leads to another file now
_SHORT_READ = 522  # SQLITE_IOERR_SHORT_READ: of the write-ahead log, since the file itself may end anywhere
_SHORT_WRITE = frozenset({778, 1034, 1290})  # IOERR_WRITE, IOERR_FSYNC, IOERR_DIR_FSYNC
_LITTLE = 1 << 20


def held(path: Path | str, patience: float) -> StoreLocked:
    """Somebody else kept the database for the whole deadline."""
    return StoreLocked(
        f"Another process has held the history in '{path}' for {patience:.0f} s. End or continue that process "
        f"(it may be stopped in a debugger or hold a backup open), or {_ELSEWHERE}."
    )


def not_a_database(path: Path) -> StoreNotADatabase:
    """The file is something else, or damaged."""
    return StoreNotADatabase(
        f"'{path}' is not a readable history of callsheet: it is another kind of file, or it is damaged. "
        f"Move it away (a new history is made in its place), restore a backup, or {_ELSEWHERE}."
    )


def a_folder(path: Path) -> StoreNotADatabase:
    """A folder stands where the file should be."""
    return StoreNotADatabase(f"'{path}' is a folder. Name a file in it, for instance '{path / 'callsheet.db'}'.")


def read_only(path: Path) -> StoreReadOnly:
    """The file or its folder cannot be written."""
    return StoreReadOnly(
        f"The history in '{path}' cannot be written. Give this user write access to the file and to its folder, "
        f"or {_ELSEWHERE}."
    )


def full(path: Path) -> StoreFull:
    """No room for another row."""
    return StoreFull(f"There is no room left for the history in '{path}'. Free some space, or {_ELSEWHERE}.")


def too_new(path: Path, needs: int, knows: int) -> StoreTooNew:
    """A newer program changed the file so that this one would do harm."""
    return StoreTooNew(
        f"The history in '{path}' was written by a newer version of callsheet (it needs schema {needs}, this one knows "
        f"{knows}). Upgrade callsheet in this environment and start this program anew, or {_ELSEWHERE}."
    )


def shut_out(error: StoreTooNew) -> LostOwnership:
    """A newer program did so while this one ran."""
    return LostOwnership(
        f"{error} What this process was running belongs to engines of the newer version now: they go on with runs whose "
        f"flows they know, after the lease of this one."
    )


def lost(path: Path | str) -> LostOwnership:
    """Others have found this engine dead."""
    return LostOwnership(
        f"This engine gave no sign of life for longer than its lease, so its runs in the history '{path}' belong to "
        f"others now. A process that is stopped or starved for so long needs a longer lease: set CALLSHEET_LEASE_SECONDS."
    )


def lost_with_its_file(path: Path | str) -> LostOwnership:
    """The runs of this engine are in a file that is not there any more."""
    return LostOwnership(
        f"The history in '{path}' was removed or replaced while this engine was using it, and what was running is not in "
        f"the one that is there now. Start the run again."
    )


def gone(path: Path) -> StoreUnavailable:
    """The file was removed, replaced or renamed under us."""
    return StoreUnavailable(
        f"The history file '{path}' was removed or replaced while it was in use. Put it back, or restart the "
        f"program to begin a new history there."
    )


def log_gone(path: Path) -> StoreUnavailable:
    """A file beside it that SQLite needs was removed, replaced or cut short under us."""
    return StoreUnavailable(
        f"'{path}-wal' was removed or replaced while the history was in use (or '{path}-shm' was). They belong to the history, and the "
        f"first one holds what was saved last: never remove one by itself. A program that writes there notices, saves what it had "
        f"written, and goes on; if this error stays, restart the programs that use the history."
    )


def on_network(path: Path, kind: str) -> StoreUnavailable:
    """A network file system has no locks that a database could trust."""
    return StoreUnavailable(
        f"'{path}' is on a network file system ({kind}), where a database gets damaged. Set CALLSHEET_HOME to a "
        f"folder on a local disk."
    )


def unavailable(path: Path, reason: object) -> StoreUnavailable:
    """Anything else that the disk or the system refuses."""
    return StoreUnavailable(f"The history in '{path}' cannot be used ({reason}). Check the disk, or {_ELSEWHERE}.")


def closed(path: Path | str) -> StoreClosed:
    """Used after its end."""
    return StoreClosed(f"The history in '{path}' is closed here. Open a new engine or client.")


def reading_took_too_long(path: Path, seconds: float) -> StoreUnavailable:
    """A read was stopped, because a long one keeps the file from being tidied."""
    return StoreUnavailable(
        f"Reading the history in '{path}' took longer than {seconds:g} s and was stopped. Ask for less: fewer runs "
        f"a page, a time range, a flow run."
    )


def translate(error: sqlite3.Error | OSError, path: Path, patience: float) -> StoreError:
    """Give the error that a user should see for one of SQLite or the operating system."""
    if isinstance(error, OSError):
        return read_only(path) if isinstance(error, PermissionError) else unavailable(path, error.strerror or error)
    if is_held(error):
        return held(path, patience)
    code = primary_code(error)
    extended = getattr(error, "sqlite_errorcode", 0) or 0
    if extended == _MOVED:
        return gone(path)
    if extended == _SHORT_READ:
        return log_gone(path)
    if code in (sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT):
        return not_a_database(path)
    if code in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM):
        return read_only(path)
    if code == sqlite3.SQLITE_FULL or (extended in _SHORT_WRITE and _no_room(path)):
        return full(path)
    if code == sqlite3.SQLITE_CANTOPEN:
        return _cannot_open(path)
    return unavailable(path, error)


def _no_room(path: Path) -> bool:
    try:
        import resource

        if resource.getrlimit(resource.RLIMIT_FSIZE)[0] != resource.RLIM_INFINITY:
            return True
    except ImportError:
        pass
    try:
        room = os.statvfs(path.parent)
    except (AttributeError, OSError):
        return False
    return room.f_bavail * room.f_frsize < _LITTLE


def _cannot_open(path: Path) -> StoreError:
    if path.is_dir():
        return a_folder(path)
    if not path.parent.is_dir():
        return unavailable(path, "its folder does not exist")
    if not os.access(path.parent, os.W_OK) or (path.exists() and not os.access(path, os.W_OK)):
        return read_only(path)
    return unavailable(path, "it cannot be opened")
