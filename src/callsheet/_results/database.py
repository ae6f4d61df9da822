"""Storage in a database: small results in its file, large ones in files beside it."""

from __future__ import annotations

import os
import secrets
import threading
import time
import weakref
from pathlib import Path
from typing import Final

from callsheet._results.files import read_head, write_file
from callsheet._results.limits import refuse_what_was_given_up
from callsheet._results.local import cannot_write
from callsheet._results.parts import Parts, join
from callsheet._results.storage import HEAD, Storage
from callsheet._store.values import Value, ValueFile
from callsheet.exceptions import (
    ResultNotFound,
    StorageFull,
    StorageUnavailable,
    StoreError,
    StoreFull,
)

INLINE: Final = 64 * 1024
_GRACE: Final = 24 * 3600.0  # seconds before a file that no row names is removed
_TRIES: Final = 5


class DatabaseStorage(Storage):
    """Keeps results in a folder: up to 64 KiB inside an SQLite file, larger ones in immutable files.

    Many processes may use one folder. Opened when it is first used; `close` lets go of it until the next use.

    Args:
        path: the folder. It must be on a local disk.
        full_sync: whether small results, too, survive a power cut (each write then waits for the disk).

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     storage = DatabaseStorage(folder)
        ...     _ = storage.write_path("a", b"1")
        ...     value = storage.read_path("a")
        ...     storage.close()
        >>> value
        b'1'
    """

    def __init__(self, path: str | os.PathLike[str], *, full_sync: bool = False) -> None:
        self.path = Path(os.path.abspath(Path(path).expanduser()))  # noqa: PTH100 - links are kept
        self._values = ValueFile(self.path / "results.db", full_sync=full_sync)
        self._swept = False
        self._lock = threading.Lock()
        weakref.finalize(self, self._values.close).atexit = False

    def close(self) -> None:
        """Close the database file; the next use opens it again."""
        self._values.close()

    def get(self, key: str) -> bytes:
        for _ in range(_TRIES):
            found = self._read(key, None)
            if found.file is None:
                return found.body or b""
            try:
                return (self.path / found.file).read_bytes()
            except FileNotFoundError:
                continue  # another writer has replaced it meanwhile, so the row names another one now
            except OSError as error:
                raise self._unreadable(found.file, error) from error
        raise ResultNotFound(f"The file of the key '{key}' does not exist any more in '{self.path}'.")

    def glance(self, key: str) -> bytes | None:
        found = self._values.glance(key)
        if found is None:
            raise self._missing(key)
        return found.body

    def peek(self, key: str, length: int = HEAD) -> tuple[bytes, int]:
        for _ in range(_TRIES):
            found = self._read(key, length)
            if found.file is None:
                return found.body or b"", found.size
            try:
                return read_head(self.path / found.file, length)
            except FileNotFoundError:
                continue
            except OSError as error:
                raise self._unreadable(found.file, error) from error
        raise ResultNotFound(f"The file of the key '{key}' does not exist any more in '{self.path}'.")

    def put(self, key: str, parts: Parts) -> None:
        size = sum(memoryview(part).nbytes for part in parts)
        if size <= INLINE:
            self._write(key, Value(join(parts), None, size))
            return
        name = f"files/{secrets.token_hex(16)}"
        path = self.path / name
        try:
            write_file(path, parts)
        except OSError as error:
            raise cannot_write(path, error) from error
        try:
            self._write(key, Value(None, name, size))
        except BaseException:
            path.unlink(missing_ok=True)
            raise
        self._sweep()

    def drop(self, key: str) -> None:
        try:
            self._values.delete(key)
        except StoreError as error:
            raise StorageUnavailable(str(error)) from error

    def _read(self, key: str, length: int | None) -> Value:
        try:
            found = self._values.read(key) if length is None else self._values.peek(key, length)
        except StoreError as error:
            raise StorageUnavailable(str(error)) from error
        if found is None:
            raise self._missing(key)
        return found

    def _missing(self, key: str) -> ResultNotFound:
        return ResultNotFound(f"The key '{key}' does not exist in '{self.path}'.")

    def _write(self, key: str, value: Value) -> None:
        refuse_what_was_given_up()
        try:
            self._values.write(key, value)
        except StoreFull as error:
            raise StorageFull(str(error)) from error
        except StoreError as error:
            raise StorageUnavailable(str(error)) from error

    def _unreadable(self, name: str, error: OSError) -> StorageUnavailable:
        return StorageUnavailable(f"'{self.path / name}' cannot be read ({error.strerror or error}).")

    def _sweep(self) -> None:
        """Once a process, remove files that no row names, a day after they were written."""
        with self._lock:
            if self._swept:
                return
            self._swept = True
        try:
            before = time.time() - _GRACE
            old = [file for file in (self.path / "files").iterdir() if file.stat().st_mtime < before]
            if old:
                named = self._values.files()
                for file in old:
                    if f"files/{file.name}" not in named:
                        file.unlink(missing_ok=True)
        except (OSError, StoreError):
            return  # somebody else tidies, or the next process does

    def address(self) -> str | None:
        return f"database:{self.path}"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, DatabaseStorage) and other.path == self.path

    def __hash__(self) -> int:
        return hash(self.path)

    def __repr__(self) -> str:
        return f"DatabaseStorage(path={str(self.path)!r})"
