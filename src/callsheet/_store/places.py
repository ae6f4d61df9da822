"""Is this a place for a database? Asked before opening, and again while it is in use."""

from __future__ import annotations

import os
import re
import time
from pathlib import Path

from callsheet._store import mishaps
from callsheet.logging.loggers import engine_log

_NETWORK = frozenset(
    [
        "nfs",
        "nfs4",
        "cifs",
        "smb",
        "smb2",
        "smb3",
        "smbfs",
        "ncpfs",
        "afs",
        "ceph",
        "glusterfs",
        "fuse.glusterfs",
        "lustre",
        "gpfs",
        "beegfs",
        "9p",
        "fuse.sshfs",
        "fuse.s3fs",
        "fuse.gcsfuse",
        "fuse.rclone",
        "fuse.davfs",
        "davfs",
        "webdav",
        "ocfs2",
        "orangefs",
        "pvfs2",
    ]
)
MOUNTS = Path("/proc/mounts")
_logger = engine_log("callsheet.journal")
_ESCAPED = re.compile(r"\\([0-7]{3})")


def prepare(path: Path) -> None:
    """Make the folder of a database, and refuse places where one cannot live.

    Raises:
        StoreNotADatabase: `path` is a folder.
        StoreReadOnly: the folder cannot be made or written.
        StoreUnavailable: a network file system, or no folder at all.
    """
    if path.is_dir():
        raise mishaps.a_folder(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        if isinstance(error, PermissionError):
            raise mishaps.read_only(path) from error
        raise mishaps.unavailable(path, error.strerror) from error
    if kind := network_kind(path.parent):
        raise mishaps.on_network(path, kind)


def network_kind(folder: Path) -> str | None:
    """Name the network file system that a folder is on, or give `None` (also where nobody can tell)."""
    kind = kind_of(folder)
    return kind if kind in _NETWORK else None


def is_surely_local(folder: Path) -> bool:
    """Tell whether a folder is on a disk of this machine, served by its kernel; `False` too where nobody can tell."""
    kind = kind_of(folder)
    return bool(kind) and kind not in _NETWORK and not kind.startswith(("fuse", "autofs", "virtiofs"))


def kind_of(folder: Path) -> str:
    """Name the file system that a folder is on; an empty text where nobody can tell."""
    try:
        lines = MOUNTS.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    real = os.path.realpath(folder)
    best, found = -1, ""
    for line in lines:
        parts = line.split()
        if len(parts) < 3:
            continue
        point = _ESCAPED.sub(lambda found: chr(int(found[1], 8)), parts[1])  # spaces are written \040
        # Later lines lie over earlier ones of the same mount point.
        if len(point) >= best and (real == point or real.startswith(point.rstrip("/") + "/")):
            best, found = len(point), parts[2]
    return found


def identity(path: str) -> tuple[int, int] | None:
    """Give what tells a file from its replacement, or `None` where no file is."""
    try:
        found = os.stat(path)  # noqa: PTH116 - 2 µs less than by a path object, and asked often
    except OSError:
        return None
    return found.st_dev, found.st_ino


class Presence:
    """Whether a file that is in use is still where it was opened, and still that one.

    What is written to a file that was removed goes nowhere, and no system call says so.

    Args:
        path: The file.

    Attributes:
        written: Something was written since it was last looked for.
        is_another: It was opened anew, and was another file than before.
        lost_log: What was found missing is its write-ahead log, and nothing else: those who had that open still have it.
    """

    __slots__ = (
        "_again",
        "_beside",
        "_file",
        "_name",
        "_names_beside",
        "_path",
        "is_another",
        "lost_log",
        "written",
    )

    def __init__(self, path: Path) -> None:
        self._path = path
        self._name = str(path)  # stat() takes 1.5 µs with it, 3.5 µs with the path object
        self._names_beside = self._name + "-wal", self._name + "-shm"
        self._file: tuple[int, int] | None = None
        self._beside: list[tuple[int, int] | None] = []
        self._again = 0.0
        self.written = self.is_another = self.lost_log = False

    def opening(self) -> None:
        """Tell, before it is opened again, where it is another one: a file that is made then may get the old one's number."""
        if self._file is not None and self._file != identity(self._name):
            self.is_another = True
            _logger.warning(
                "A new history is begun in '%s', since the one in use there was removed or replaced. What that held is "
                "not in the new one.",
                self._path,
            )

    def opened(self) -> None:
        """Note which files they are."""
        self._file, self._again = identity(self._name), 0.0
        self._beside = [identity(name) for name in self._names_beside]
        self.written = self.lost_log = False

    def is_looked_for(self, every: float) -> bool:
        """Look whether it is still there, and what is beside it, if that was not done for so many seconds; tell whether it was done.

        Raises:
            StoreUnavailable: It is not.
        """
        now = time.monotonic()
        if now < self._again:
            return False
        if identity(self._name) != self._file:
            raise mishaps.gone(self._path)  # and again at the next attempt, however soon that is
        if [identity(name) for name in self._names_beside] != self._beside:
            self.lost_log = self._beside[1] == identity(
                self._names_beside[1]
            )  # else locks do not hold between old users and new
            raise mishaps.log_gone(self._path)
        self._again, self.written = now + every, False
        return True

    def closing(self) -> None:
        """Tell where it has gone since something was written to it."""
        if self.written and identity(self._name) != self._file:
            _logger.error("%s What was saved in the last moments went with it.", mishaps.gone(self._path))
