"""Storage in a folder."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from callsheet._results.files import read_head, write_file
from callsheet._results.parts import Parts
from callsheet._results.storage import HEAD, Storage
from callsheet.exceptions import ResultNotFound, StorageError, StorageFull, StorageUnavailable

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


class LocalFileSystem(Storage):
    """Keeps each result in a file of its own, below a folder.

    A file is written under a temporary name, synced, and then renamed: readers see the old or the new, and writers
    of one key, in whatever process, do not disturb each other. Keys may have slashes; they do not lead out of the
    folder.

    Args:
        basepath: the folder; made when something is written. By default the user's home folder.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     storage = LocalFileSystem(folder)
        ...     _ = storage.write_path("reports/march", b"12")
        ...     storage.read_path("reports/march")
        b'12'
    """

    def __init__(self, basepath: str | os.PathLike[str] | None = None) -> None:
        self._base = Path.home() if basepath is None else Path(basepath).expanduser()

    @property
    def basepath(self) -> str:
        """The folder."""
        return str(self._base)

    def _resolve_path(self, path: str | os.PathLike[str], validate: bool = False) -> Path:
        """Give the file of a key.

        Raises:
            ValueError: `validate`, and it is outside of the folder.
        """
        base = Path(os.path.abspath(self._base))  # noqa: PTH100 - links are kept
        given = Path(path).expanduser() if str(path).startswith("~") else Path(path)
        found = Path(os.path.normpath(base / given))
        if validate and found != base and base not in found.parents:
            raise ValueError(f"Provided path {str(path)!r} is outside of the base path {str(base)!r}.")
        return found

    def _file(self, key: str) -> Path:
        found = self._resolve_path(key, validate=True)
        if "\0" in key:
            raise ValueError(f"A key cannot have a null character: {key!r}.")
        return found

    def get(self, key: str) -> bytes:
        path = self._file(key)
        try:
            return path.read_bytes()
        except OSError as error:
            raise self._reading(path, error) from error

    def peek(self, key: str, length: int = HEAD) -> tuple[bytes, int]:
        path = self._file(key)
        try:
            return read_head(path, length)
        except OSError as error:
            raise self._reading(path, error) from error

    def put(self, key: str, parts: Parts) -> None:
        path = self._file(key)
        try:
            write_file(path, parts)
        except OSError as error:
            raise cannot_write(path, error) from error

    def drop(self, key: str) -> None:
        path = self._file(key)
        try:
            path.unlink(missing_ok=True)
        except NotADirectoryError:
            return
        except OSError as error:
            raise StorageUnavailable(f"'{path}' cannot be removed ({error.strerror}).") from error

    def _reading(self, path: Path, error: OSError) -> Exception:
        if isinstance(error, (FileNotFoundError, NotADirectoryError)):
            return ResultNotFound(f"Path {path} does not exist.")
        if isinstance(error, IsADirectoryError):
            return ResultNotFound(f"Path {path} is not a file.")
        return StorageUnavailable(
            f"'{path}' cannot be read ({error.strerror or error}). Check the disk and its rights."
        )

    def address(self) -> str | None:
        return Path(os.path.abspath(self._base)).as_uri()  # noqa: PTH100 - links are kept

    def locate(self, key: str) -> str:
        return str(self._file(key))

    def plain_key(self, key: str) -> str:
        return self._file(key).relative_to(self._resolve_path("")).as_posix()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, LocalFileSystem) and other._base == self._base

    def __hash__(self) -> int:
        return hash(self._base)

    def __repr__(self) -> str:
        return f"LocalFileSystem(basepath={self.basepath!r})"


def cannot_write(path: Path, error: OSError) -> StorageError:
    """Make the error of a file that could not be written."""
    if error.errno in _FULL:
        return StorageFull(f"There is no room left for '{path}'. Free some space, or name another storage.")
    if error.errno == errno.ENAMETOOLONG:
        return StorageUnavailable(f"The key makes too long a name for a file: '{path}'. Choose a shorter key.")
    return StorageUnavailable(
        f"'{path}' cannot be written ({error.strerror or error}). Give this user write access to the folder, or "
        f"name another storage."
    )
