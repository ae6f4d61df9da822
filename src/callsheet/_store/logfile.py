"""A file to which one process appends batches, and which others read, and close to it, when they must.

A batch counts when it is there whole, and when its owner found the file unsealed *after* writing it. Whoever wants to be
certain of the end of the file seals it first and reads then: each batch is either seen, or its owner sees the seal. (The
two write first and look afterwards, as in E. W. Dijkstra's and T. J. Dekker's mutual exclusion, 1965.)

What a killed process wrote is there, since the pages are the system's. Nothing here waits for the disk.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import secrets
import struct
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final, NamedTuple
from zlib import crc32

PREFIX: Final = "redo-"
SEGMENT: Final = 512 << 10
"""Bytes of each of the two segments. One is written while the other may still hold what is not in the tables."""
_SEAL: Final = 0  # the first byte that says that nothing counts any more
_NEWEST: Final = 8  # where the number of the last batch is: a hint for those who only want to know whether to read
_FIRST: Final = 64
_STARTS: Final = (_FIRST, _FIRST + SEGMENT)
_SIZE: Final = _FIRST + 2 * SEGMENT
_HEAD: Final = struct.Struct("<QQI")  # number, epoch, bytes
_NUMBER: Final = struct.Struct("<Q")
_SUM: Final = struct.Struct("<I")  # of head and body
_AROUND: Final = _HEAD.size + _SUM.size
_MAPPED: Final = frozenset({"ext2", "ext3", "ext4", "xfs", "tmpfs"})
"""File systems that write in place. Elsewhere a full disk would end a process that writes by memory, without an error."""


class LoggedBatch(NamedTuple):
    """A batch as it was found in a file."""

    number: int
    epoch: int
    body: bytes


class LogFile:
    """A log of this process's own.

    Args:
        folder: where it is made.
        kind: the file system there, if known.
        mode: permissions of the file.
        number: that of the batch before the first.

    Raises:
        OSError: it cannot be made.
    """

    def __init__(self, folder: Path, kind: str, mode: int, number: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / f"{PREFIX}{secrets.token_hex(8)}"
        self._file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
        try:
            with suppress(OSError):
                os.fchmod(self._file, mode)  # whoever may write the database may close this log, whatever the umask
            with suppress(OSError):  # a file system without such locks
                fcntl.flock(self._file, fcntl.LOCK_SH | fcntl.LOCK_NB)  # as long as anybody has it open who may append
            if kind in _MAPPED:
                os.posix_fallocate(self._file, 0, _SIZE)
                self._write = self._write_mapped
            else:
                os.ftruncate(self._file, _SIZE)
                self._write = self._write_called
            self._pages = mmap.mmap(self._file, _SIZE)
        except BaseException:
            os.close(self._file)
            self.path.unlink(missing_ok=True)
            raise
        self.number = number
        self._at, self._end = _FIRST, _FIRST + SEGMENT
        self._other = (self._end, self._end + SEGMENT)  # the segment that is not written just now
        self._last_of_other = 0  # the last number in it

    def append(self, epoch: int, body: bytes, settled: int) -> int | None:
        """Write a batch and give its number. `None`: there is no room, or others have closed the log.

        Args:
            epoch: what must be in the database for the batch to follow it.
            body: the batch.
            settled: the number up to which nothing is needed here any more.

        Raises:
            OSError: the disk refuses. The file is of no use after that.
        """
        size = len(body)
        if self._at + size + _AROUND > self._end and not self._make_room(size + _AROUND, settled):
            return None
        number, at = self.number + 1, self._at
        head = _HEAD.pack(number, epoch, size)
        self._write(at, head + _SUM.pack(crc32(body, crc32(head))) + body, number)
        # No call between these: an interrupt before them has the next batch written over this one.
        self._at, self.number = at + size + _AROUND, number
        return None if self._pages[_SEAL] else number

    @property
    def is_sealed(self) -> bool:
        """Tell whether others have closed the log: then the batch that was appended last does not count."""
        return self._pages[_SEAL] != 0

    def _make_room(self, size: int, settled: int) -> bool:
        """Go on in the other segment, if nothing there is needed any more."""
        if self._last_of_other > settled or size > SEGMENT:
            return False
        here = self._end - SEGMENT, self._end
        self._last_of_other = self.number
        (self._at, self._end), self._other = self._other, here
        return True

    def _write_mapped(self, at: int, content: bytes, number: int) -> None:
        self._pages[at : at + len(content)] = content
        _NUMBER.pack_into(self._pages, _NEWEST, number)

    def _write_called(self, at: int, content: bytes, number: int) -> None:
        for start, part in ((at, content), (_NEWEST, _NUMBER.pack(number))):
            if os.pwrite(self._file, part, start) != len(part):
                raise OSError("A batch was written in part.")

    def is_there(self) -> bool:
        """Tell whether the file still has its name."""
        return os.fstat(self._file).st_nlink > 0

    def drop(self) -> None:
        """Let go of it, and take it away."""
        self.close()
        remove(self.path)

    def close(self) -> None:
        """Let go of it. What others have not sealed stays where it is."""
        self._pages.close()
        os.close(self._file)


def newest(path: Path) -> int | None:
    """Give the number of the last batch, or `None` where there is no file.

    Raises:
        OSError: it cannot be read.
    """
    try:
        with path.open("rb") as file:
            return newest_in(file.read(_FIRST))
    except FileNotFoundError:
        return None


def is_cut_off(content: bytes) -> bool:
    """Tell whether the content of a file is less than it was made with."""
    return len(content) < _SIZE


def newest_in(content: bytes) -> int:
    """Give that number from the content of a file; 0 where it has none."""
    return _NUMBER.unpack_from(content, _NEWEST)[0] if len(content) >= _FIRST else 0


def seal_and_read(path: Path) -> list[LoggedBatch]:
    """Have nothing count that is appended from now on, and give every batch that counts, in order.

    Raises:
        OSError: it cannot be read or written.
    """
    with suppress(FileNotFoundError), path.open("r+b", buffering=0) as file:
        file.write(b"\x01")
    return read_file(path)


def read_file(path: Path) -> list[LoggedBatch]:
    """Give every batch that was appended before this call, and maybe some that are being appended.

    Raises:
        OSError: it cannot be read.
    """
    try:
        return read(path.read_bytes())
    except FileNotFoundError:
        return []


def read(content: bytes) -> list[LoggedBatch]:
    """Give the batches in the content of a file, in order."""
    return sorted(batch for start in _STARTS for batch in _segment(content, start))


def _segment(content: bytes, at: int) -> list[LoggedBatch]:
    """Read one segment as far as each batch is whole and follows the one before: behind that is what was there earlier."""
    found: list[LoggedBatch] = []
    end = at + SEGMENT
    while at + _AROUND <= min(end, len(content)):
        number, epoch, size = _HEAD.unpack_from(content, at)
        body = content[at + _AROUND : at + _AROUND + size]
        total = crc32(body, crc32(content[at : at + _HEAD.size]))
        if len(body) != size or not number or total != _SUM.unpack_from(content, at + _HEAD.size)[0]:
            break
        if found and number != found[-1].number + 1:
            break
        found.append(LoggedBatch(number, epoch, body))
        at += _AROUND + size
    return found


def following(batches: Sequence[LoggedBatch], settled: int, epoch: int) -> list[LoggedBatch]:
    """Give what follows the tables as they are. A power loss may have left something later alone.

    Args:
        batches: in order.
        settled: the number of the last batch that is in the tables.
        epoch: the transactions that the owner had made by then.
    """
    found: list[LoggedBatch] = []
    for batch in batches:
        if batch.number > settled:
            if batch.number != settled + 1 or batch.epoch > epoch:
                break
            settled = batch.number
            found.append(batch)
    return found


def is_in_use(path: Path) -> bool | None:
    """Tell whether a process may still append to a file; `None` where nobody can tell. For those who look from outside."""
    try:
        with path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return False
    except BlockingIOError:
        return True
    except OSError:
        return None


def remove(path: Path) -> None:
    """Remove a file, if it is there."""
    with suppress(OSError):
        path.unlink()
