"""Locks as files of a folder, for all processes that see it."""

from __future__ import annotations

import fcntl
import os
import random
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Final
from uuid import uuid4

from callsheet.exceptions import StoreError, StoreLocked, StoreReadOnly, StoreUnavailable
from callsheet.locking.leased import LeasedLockManager
from callsheet.locking.names import file_name
from callsheet.locking.tickets import LEASE, Ticket, decode, encode

__all__ = ["FileSystemLockManager", "LockFiles"]

_OWNERS: Final = ".owners"


class FileSystemLockManager(LeasedLockManager):
    """Locks as files: ``<key>.lock`` is there while somebody holds the lock.

    A lock whose process has ended is free at once for others on the same machine, and after a lease for those on other
    machines. The same holds for a process that is stopped; when it goes on, its lock is lost and it is told so.

    Args:
        lock_files_directory: The folder; it is made when needed.
        lease: Seconds after which a holder that gives no sign of life counts as dead.

    Example:
        >>> import tempfile
        >>> locks = FileSystemLockManager(tempfile.mkdtemp())
        >>> locks.acquire_lock("report", holder="a"), locks.acquire_lock("report", holder="b", acquire_timeout=0.01)
        (True, False)
        >>> [path.name for path in locks.lock_files_directory.glob("*.lock")]
        ['report.lock']
        >>> locks.release_lock("report", holder="a")
    """

    def __init__(self, lock_files_directory: str | os.PathLike[str], *, lease: float = LEASE) -> None:
        self.lock_files_directory = Path(lock_files_directory).expanduser().absolute()
        super().__init__(LockFiles(self.lock_files_directory), lease)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, FileSystemLockManager):
            return NotImplemented
        return self.lock_files_directory == other.lock_files_directory

    def __hash__(self) -> int:
        return hash(self.lock_files_directory)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self.lock_files_directory)!r})"


class LockFiles:
    """Tickets as files. Who writes one holds the folder's guard, which takes as long as a rename does."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.name = f"files:{os.path.realpath(folder)}"
        self.owners = folder / _OWNERS

    def read(self, key: str) -> Ticket | None:
        """Give the ticket of a lock, or `None` where nobody holds it."""
        try:
            return decode(self._path(key).read_bytes())
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise self._translated(error) from error

    def stay_open(self) -> None:
        """Do nothing: files are opened for each use."""

    def close(self) -> None:
        """Do nothing."""

    def swap(self, key: str, old: Ticket | None, new: Ticket | None, patience: float) -> bool:
        """Put a ticket in the place of another one, if that is still there.

        Args:
            key: The lock.
            old: What must be there.
            new: What is put there.
            patience: Seconds to wait for others who are writing just now.

        Returns:
            Whether it was done.

        Raises:
            StoreLocked: Others were writing all the time.
            StoreError: The folder cannot be written.
        """
        path = self._path(key)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with self._guard(patience):
                found = self.read(key)
                if not (found is None if old is None else old.is_same(found)):
                    return False
                if new is None:
                    path.unlink()
                else:
                    self._write(path, encode(new))
                return True
        except OSError as error:
            raise self._translated(error) from error

    def _write(self, path: Path, content: bytes) -> None:
        beside = self.owners / f"{uuid4().hex}.new"
        try:
            beside.write_bytes(content)
            beside.replace(path)
        except BaseException:
            beside.unlink(missing_ok=True)
            raise

    @contextmanager
    def _guard(self, patience: float) -> Generator[None, None, None]:
        # `flock`, not `lockf`: it also parts the threads of one process. A child that is forked meanwhile has a copy
        # of the descriptor, so it is unlocked and not only closed.
        self.owners.mkdir(parents=True, exist_ok=True)
        file = os.open(self.owners / "guard", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            self._flock(file, patience)
            try:
                yield
            finally:
                fcntl.flock(file, fcntl.LOCK_UN)
        finally:
            os.close(file)

    def _flock(self, file: int, patience: float) -> None:
        deadline = time.monotonic() + patience
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    raise StoreLocked(
                        f"Another process has held the guard of the locks in '{self._folder}' for {patience:g} s. "
                        "End or continue that process (it may be stopped)."
                    ) from None
            time.sleep(random.uniform(0.0002, 0.005))

    def _path(self, key: str) -> Path:
        return self._folder / f"{file_name(key)}.lock"

    def _translated(self, error: OSError) -> StoreError:
        if isinstance(error, PermissionError):
            return StoreReadOnly(
                f"Locks cannot be written in '{self._folder}'. Give this user write access to the folder, or name another."
            )
        return StoreUnavailable(f"The locks in '{self._folder}' cannot be used ({error.strerror or error}).")
