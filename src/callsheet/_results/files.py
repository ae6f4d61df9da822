"""Writing a file so that nobody ever sees half of it, and reading it back."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Final

from callsheet._results.leftovers import claim, sweep, unfinished_name
from callsheet._results.limits import refuse_what_was_given_up
from callsheet._results.parts import Parts

_VECTOR: Final = 512  # parts in one call of the system
_NO_WAIT: Final = getattr(os, "RWF_NOWAIT", 0)
_CANNOT_SAY: Final = frozenset({errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS})


def write_file(path: Path, parts: Parts, *, sync: bool = True) -> None:
    """Write a file under a temporary name beside its own, sync it, and give it its name.

    Others see what was there before or all of the new. Parts are not copied.

    Args:
        path: the file.
        parts: what is to be in it.
        sync: whether that holds after a power cut too.

    Raises:
        OSError: it cannot be written; what was there before still is.
    """
    folder = path.parent
    folder.mkdir(parents=True, exist_ok=True)
    unfinished = folder / unfinished_name()
    descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o666)
    try:
        try:
            claim(descriptor)
            _write_all(descriptor, parts)
            if sync:
                os.fsync(descriptor)
            refuse_what_was_given_up()
            unfinished.replace(path)
            now = os.fstat(descriptor).st_mtime
        finally:
            os.close(descriptor)
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise
    if sync:
        _sync_folder(folder)
    sweep(folder, now)


def _write_all(descriptor: int, parts: Parts) -> None:
    views = [view for part in parts if (view := memoryview(part).cast("B")).nbytes]
    at = 0
    while at < len(views):
        written = os.writev(descriptor, views[at : at + _VECTOR])
        while at < len(views) and written >= views[at].nbytes:
            written -= views[at].nbytes
            at += 1
        if written:
            views[at] = views[at][written:]


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # a file system whose folders cannot be synced
            raise
    finally:
        os.close(descriptor)


def read_head(path: Path, length: int) -> tuple[bytes, int]:
    """Give the first bytes of a file, and its whole size.

    Raises:
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        return file.read(length), os.fstat(file.fileno()).st_size


def read_at_once(path: str, most: int) -> bytes | None:
    """Give what is in a file, or `None` where it is large, or its disk would have to be waited for.

    Whether a disk is needed is known where the system can say so; elsewhere the file is read all the same.

    Args:
        path: the file.
        most: bytes that it may have.

    Raises:
        OSError: it cannot be read.
    """
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
    try:
        size = os.fstat(descriptor).st_size
        if size > most:
            return None
        content = bytearray(size)
        try:
            read = os.preadv(descriptor, [content], 0, _NO_WAIT)
        except BlockingIOError:
            return None
        except OSError as error:
            if error.errno not in _CANNOT_SAY:
                raise
            return os.read(descriptor, size)
        return bytes(content) if read == size else None
    finally:
        os.close(descriptor)
