"""Is this a place for a database? Asked before opening, and again while it is in use."""

from __future__ import annotations

import os
import re
from pathlib import Path

from callsheet._store import mishaps

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
