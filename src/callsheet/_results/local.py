"""Storage in a folder."""

from __future__ import annotations

import errno
import os
import time
from pathlib import Path
from typing import Final

from callsheet._results.files import read_at_once, read_head, write_file
from callsheet._results.paces import pace_of
from callsheet._results.parts import Parts
from callsheet._results.storage import HEAD, Storage
from callsheet.exceptions import ResultNotFound, StorageError, StorageFull, StorageUnavailable

_SMALL: Final = 64 * 1024  # bytes of a file that may be read on a loop
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
        self._is_absolute = self._base.is_absolute()
        self._folder = os.path.normpath(self._base)

    @property
    def basepath(self) -> str:
        """The folder."""
        return str(self._base)

    def _resolve_path(self, path: str | os.PathLike[str], validate: bool = False) -> Path:
        """Give the file of a key.

        Raises:
            ValueError: `validate`, and it is outside of the folder.
        """
        return Path(self._name(os.fspath(path), self._root(), validate=validate))

    def _root(self) -> str:
        return self._folder if self._is_absolute else os.path.abspath(self._folder)  # noqa: PTH100 - links are kept

    def _name(self, key: str, root: str, *, validate: bool = True) -> str:
        # As text: every hit comes through here, and path objects would cost more than reading the file.
        if "\0" in key:
            raise ValueError(f"A key cannot have a null character: {key!r}.")
        given = os.path.expanduser(key) if key.startswith("~") else key  # noqa: PTH111
        found = os.path.normpath(os.path.join(root, given))  # noqa: PTH118
        if validate and found != root and not found.startswith(root if root.endswith(os.sep) else root + os.sep):
            raise ValueError(f"Provided path {key!r} is outside of the base path {root!r}.")
        return found

    def _file(self, key: str) -> Path:
        return Path(self._name(key, self._root()))

    def get(self, key: str) -> bytes:
        path = self._file(key)
        try:
            with pace_of(self._root()).measured(self._base):
                return path.read_bytes()
        except OSError as error:
            raise self._reading(path, error) from error

    def glance(self, key: str) -> bytes | None:
        root = self._root()
        pace = pace_of(root)
        if not pace.is_quick or type(self).get is not LocalFileSystem.get:  # a subclass may wait for anything
            return None
        path = self._name(key, root)
        start = time.perf_counter()
        try:
            return read_at_once(path, _SMALL)
        except OSError as error:
            raise self._reading(Path(path), error) from error
        finally:
            pace.note(time.perf_counter() - start)

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
        return Path(self._root()).as_uri()

    def locate(self, key: str) -> str:
        return self._name(key, self._root())

    def plain_key(self, key: str) -> str:
        root = self._root()
        found = self._name(key, root)[len(root) :].lstrip(os.sep)
        return found.replace(os.sep, "/") or "."

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
