"""Unfinished files of writers that were killed: removed by the next writer in their folder, an hour later.

How old one is, is told by the clock that gave it its time, the file system's: it is compared with a file that was
written just now. That clock may have jumped meanwhile, so a living writer also holds a lock on its file.
"""

from __future__ import annotations

import fcntl
import os
import re
import secrets
import time
from contextlib import suppress
from pathlib import Path
from typing import Final

_HOUR: Final = 3600.0
_NAME: Final = re.compile(r"\.[0-9a-f]{16}\.part")
_MOST: Final = 1000  # folders that are remembered
_swept: Final[dict[str, float]] = {}  # when this process last looked, by its monotonic clock


def unfinished_name() -> str:
    """Give a name for a file that is not finished; it takes no more room than that of a finished one may."""
    return f".{secrets.token_hex(8)}.part"


def claim(descriptor: int) -> None:
    """Say that the writer of a file is alive, as long as it is open."""
    with suppress(OSError):  # a file system without such locks: age alone decides
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


def sweep(folder: Path, now: float) -> None:
    """Remove what killed writers left in a folder; each process looks once an hour.

    Args:
        folder: The folder.
        now: The time that its file system gave to a file just now.
    """
    if not _is_due(str(folder)):
        return
    with suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            # A clock that was set back makes leftovers look young, or not yet written: either way an hour is enough.
            if _NAME.fullmatch(entry.name) and abs(now - entry.stat(follow_symlinks=False).st_mtime) > _HOUR:
                _remove(entry.path)


def _is_due(folder: str) -> bool:
    moment = time.monotonic()
    last = _swept.get(folder)
    if last is not None and moment - last < _HOUR:
        return False
    if len(_swept) >= _MOST:
        _swept.clear()
    _swept[folder] = moment  # without a lock: to look twice does no harm
    return True


def _remove(path: str) -> None:
    with suppress(OSError):
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return  # its writer is alive
        except OSError:
            pass
        finally:
            os.close(descriptor)
        os.unlink(path)  # noqa: PTH108 - a path as `scandir` gives it
