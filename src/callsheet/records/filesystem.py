"""Records in files of one folder."""

from __future__ import annotations

from collections.abc import Callable
from hashlib import blake2b
from pathlib import Path
from typing import Any, Final, TypeVar

from callsheet._kernel.ports import step
from callsheet._results.files import write_file
from callsheet._results.limits import asked
from callsheet._results.local import cannot_write
from callsheet._results.ways import blocking
from callsheet.exceptions import SerializationError, StorageError
from callsheet.locking.filesystem import FileSystemLockManager
from callsheet.locking.names import file_name
from callsheet.locking.protocol import LockManager
from callsheet.logging.loggers import engine_log
from callsheet.records.base import RecordStore, TransactionRecord

__all__ = ["FileSystemRecordStore"]

T = TypeVar("T")
_MARK: Final = b"callsheet record 1\n"
_DIGEST: Final = 16  # bytes between the mark and the pickle
_LOG: Final = engine_log("callsheet.records")


class FileSystemRecordStore(RecordStore):
    """Keeps one file a record, which is there whole or not at all. Its locks are files beside them.

    Reading unpickles: use a folder that only you, and programs that you trust, can write.

    Args:
        records_directory: The folder; it is made when needed.
        lock_manager: Other locks than files in that folder.

    Example:
        >>> import tempfile
        >>> store = FileSystemRecordStore(tempfile.mkdtemp())
        >>> store.write("greeting", "hello")
        >>> store.read("greeting")
        TransactionRecord(key='greeting', result='hello')
    """

    def __init__(self, records_directory: str | Path, lock_manager: LockManager | None = None) -> None:
        self.records_directory = Path(records_directory).expanduser().absolute()
        self.lock_manager = lock_manager or FileSystemLockManager(self.records_directory)

    def read(self, key: str, holder: str | None = None) -> TransactionRecord | None:
        """Give the record of a key, or `None`. Waits while another holder has its lock.

        Args:
            key: The key.
            holder: Who reads; by default the code that runs here.

        Returns:
            The record.

        Raises:
            SerializationError: The file is no record, or what it holds cannot be read here.
            StorageTimeout: The disk does not answer in time.
        """
        self.wait_to_read(key, holder)
        return self._read(key)

    def _read(self, key: str) -> TransactionRecord | None:
        path = self._path(key)
        try:
            content = self._ask(key, path.read_bytes)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise SerializationError(f"The record in '{path}' cannot be read: {error.strerror or error}.") from error
        digest, pickled = content[len(_MARK) : len(_MARK) + _DIGEST], content[len(_MARK) + _DIGEST :]
        if not content.startswith(_MARK) or digest != _digest(pickled):
            raise SerializationError(f"'{path}' is not a record of callsheet, or it is damaged. Move it away.")
        from callsheet.serializers import PickleSerializer

        try:
            return TransactionRecord(key=key, result=PickleSerializer().loads(pickled))
        except Exception as error:
            raise SerializationError(f"The record in '{path}' cannot be read: {error}") from error

    def write(self, key: str, result: Any, holder: str | None = None) -> None:
        """Write the record of a key; an older one is replaced.

        Args:
            key: The key.
            result: The value.
            holder: Who writes; by default the code that runs here.

        Raises:
            ValueError: Another holder has the lock of the key.
            SerializationError: The value cannot be pickled.
            StorageError: The file cannot be written (`StorageFull`, `StorageTimeout`); an older one is still there.
        """
        self.check_write(key, holder)
        from callsheet.serializers import PickleSerializer

        pickled = PickleSerializer().dumps(result)
        path = self._path(key)
        try:
            self._ask(key, lambda: write_file(path, [_MARK, _digest(pickled), pickled]))
        except OSError as error:
            raise cannot_write(path, error) from error

    def exists(self, key: str) -> bool:
        """Tell whether there is a record of a key that can be read; one that cannot be is logged as a warning.

        Args:
            key: The key.
        """
        try:
            return self._read(key) is not None
        except (SerializationError, StorageError) as error:
            _LOG.warning("The record of key %r cannot be used, and counts as missing: %s", key, error)
            return False

    def __repr__(self) -> str:
        return f"FileSystemRecordStore(records_directory={str(self.records_directory)!r})"

    def _ask(self, key: str, work: Callable[[], T]) -> T:
        """Ask the disk something, within the time limit of storages."""
        return step(blocking().ask(self, key, lambda: asked(work)))

    def _path(self, key: str) -> Path:
        return self.records_directory / file_name(key)


def _digest(pickled: bytes) -> bytes:
    return blake2b(pickled, digest_size=_DIGEST).digest()
