"""Evidence that processes are alive: engines with runs of their own, and holders of named locks.

Each has a file of its own, locked by `lockf` for as long as it owns or holds anything in a place. The system lets go of
that lock when the process ends, however it ends. A process never opens its own file twice: closing it once would let go.
"""

from __future__ import annotations

import fcntl
import os
import time
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Final
from uuid import uuid4

from callsheet._clock import machine

_DAY: Final = 86_400.0
_own: set[str] = set()  # names of this process's files; one is never opened a second time


def folder_beside(database: Path) -> Path:
    """Give the folder of those who have to do with a database."""
    return database.with_name(f"{database.name}-engines")


class Proof:
    """That an owner in this process lives, in one place."""

    def __init__(self, folder: Path, name: str | None = None) -> None:
        """Prove it.

        Args:
            folder: The place.
            name: Of the file, 32 hexadecimal digits; a new one where left out.

        Raises:
            OSError: The folder cannot be made or written.
        """
        folder.mkdir(parents=True, exist_ok=True)
        _sweep(folder)
        self.name = uuid4().hex if name is None else name
        _own.add(self.name)
        self._path = folder / self.name
        self._file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
        try:
            fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self.machine = machine_of(folder)
        except OSError:  # a file system without such locks: the lease decides
            self.machine = ""

    def close(self) -> None:
        """Take the proof away; nothing is owned or held under its name any more."""
        with suppress(OSError):
            self._path.unlink()
        os.close(self._file)
        _own.discard(self.name)


class Watch:
    """How long a sign of life has been seen without a new one, by this process, awake. For where there is no proof."""

    __slots__ = ("_at", "_mark", "_silent")

    def __init__(self) -> None:
        self._mark: object = None
        self._at = 0.0
        self._silent = 0.0

    def look(self, mark: object, lease: float) -> bool:
        """Count the time since the last look; tell whether it makes a full lease.

        A gap counts for a quarter of the lease at most: if both processes stood still (a laptop asleep, a container
        frozen), the other one has as long as it needs to give a sign.

        Args:
            mark: The sign of life that is seen now.
            lease: Seconds.
        """
        now = machine.monotonic()
        if mark != self._mark:
            self._mark, self._silent = mark, 0.0
        else:
            self._silent += min(now - self._at, lease / 4)
        self._at = now
        return self._silent >= lease


def is_gone(folder: Path, machine: str, name: str) -> bool:
    """Tell whether the process behind a proof has certainly ended.

    Args:
        folder: The place.
        machine: Where the file's lock means something; empty where that is nowhere.
        name: The file's.
    """
    if not machine or machine != machine_of(folder):
        return False
    return name not in _own and is_free(folder / name)


def machine_of(folder: Path) -> str:
    """Name the running kernel and the folder as it sees it: locks of files mean something inside of both only."""
    try:
        found = folder.stat()
    except OSError:
        return ""
    boot = _boot()
    return f"{boot}:{found.st_dev}:{found.st_ino}" if boot else ""


@cache
def _boot() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
    except OSError:
        return ""


def is_free(path: Path) -> bool:
    """Tell whether nobody holds the lock of a file. Not to be asked of this process's own."""
    try:
        file = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return False  # no file, no evidence
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    except OSError:
        return False
    finally:
        os.close(file)


def _sweep(folder: Path) -> None:
    """Remove what dead processes left: a day old, so that whoever waits for their locks has seen it."""
    with suppress(OSError):
        for path in folder.iterdir():
            if (
                len(path.name) == 32
                and path.name not in _own
                and time.time() - path.stat().st_mtime > _DAY
                and is_free(path)
            ):
                path.unlink()


os.register_at_fork(after_in_child=_own.clear)
