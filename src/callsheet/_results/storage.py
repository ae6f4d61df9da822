"""What every storage can do, and the two simplest ones."""

from __future__ import annotations

import abc
import itertools
import threading
from collections.abc import Callable
from typing import Any, ClassVar, NoReturn, TypeVar

from callsheet._dual import dual
from callsheet._results.limits import asked
from callsheet._results.parts import Parts, join
from callsheet._results.ways import way_here
from callsheet.exceptions import ResultNotFound

T = TypeVar("T")
HEAD = 4096


class ReadableFileSystem(abc.ABC):
    """Something from which bytes can be read by key. A subclass may define `read_path` as a coroutine function."""

    @abc.abstractmethod
    def read_path(self, path: str) -> Any:
        """Give the bytes that were written under a key."""


class WritableFileSystem(ReadableFileSystem):
    """Something to which bytes can be written by key, too: all that results need of a storage.

    A subclass defines `read_path` and `write_path`, as plain or as coroutine functions. A key that is not there is
    a `ValueError`, `KeyError` or `FileNotFoundError`.

    Example:
        >>> class Shelf(WritableFileSystem):
        ...     def __init__(self):
        ...         self.kept = {}
        ...
        ...     def read_path(self, path):
        ...         return self.kept[path]
        ...
        ...     def write_path(self, path, content):
        ...         self.kept[path] = content
        >>> from callsheet.results import ResultStore
        >>> store = ResultStore(result_storage=Shelf())
        >>> store.write([1, 2], key="numbers")
        >>> store.read("numbers").result
        [1, 2]
    """

    @abc.abstractmethod
    def write_path(self, path: str, content: bytes) -> Any:
        """Keep bytes under a key, in place of what was there.

        Args:
            path: the key.
            content: the bytes.

        Returns:
            Anything.
        """


class Storage(WritableFileSystem):
    """A storage of ours. Its core is `get`, `peek`, `put` and `drop`, which block; a store calls these on a thread.

    The methods that programs call, `read_path`, `write_path`, `exists` and `delete`, give their value in sync
    code and a coroutine of it in async code.
    """

    quick: ClassVar[bool] = False
    """Whether the core never waits for anything, so that it can be called on a loop."""

    @abc.abstractmethod
    def get(self, key: str) -> bytes:
        """Give what is kept under a key (blocking).

        Raises:
            ResultNotFound: nothing is.
            StorageError: it cannot be read.
        """

    def glance(self, key: str) -> bytes | None:
        """Give what is kept under a key if that takes microseconds, for a caller on a loop; else `None`.

        Raises:
            ResultNotFound: nothing is.
        """
        del key

    @abc.abstractmethod
    def put(self, key: str, parts: Parts) -> None:
        """Keep parts, joined, under a key (blocking).

        Raises:
            StorageError: it cannot be written.
        """

    @abc.abstractmethod
    def drop(self, key: str) -> None:
        """Forget a key (blocking); one that is not there too."""

    def peek(self, key: str, length: int = HEAD) -> tuple[bytes, int]:
        """Give the beginning of what is kept under a key, and its size (blocking).

        Args:
            key: under which it is kept.
            length: of the beginning, in bytes.

        Raises:
            ResultNotFound: nothing is.
            StorageError: it cannot be read.
        """
        content = self.get(key)
        return content[:length], len(content)

    @abc.abstractmethod
    def address(self) -> str | None:
        """Give a text by which this storage is found again, or `None` where there is none."""

    def locate(self, key: str) -> str:
        """Give the key by which a record is found again without knowing more than its metadata."""
        return key

    def plain_key(self, key: str) -> str:
        """Give the key that `locate` was given."""
        return key

    @classmethod
    def load(cls, *_: Any, **__: Any) -> NoReturn:
        """Refuse: storages are not stored documents yet. Make one where it is needed, or pass its folder or URL.

        Raises:
            NotImplementedError: always.
        """
        raise NotImplementedError(f"{cls.__name__}.load is not implemented yet: make the storage where it is needed")

    def save(self, *_: Any, **__: Any) -> NoReturn:
        """Refuse, as `load` does; nothing needs to be saved before a storage can be used.

        Raises:
            NotImplementedError: always.
        """
        raise NotImplementedError(
            f"{type(self).__name__}.save is not implemented yet, and not needed: pass the storage itself"
        )

    # ------------------------------------------------------------------------- what programs call

    async def aread_path(self, path: str) -> bytes:
        """Give the bytes under a key.

        Args:
            path: the key.

        Returns:
            What was written under it last.

        Raises:
            ResultNotFound: nothing was (it is a `ValueError` too).
            StorageError: it cannot be read.
        """
        return await self._apart(path, lambda: self.get(path))

    async def awrite_path(self, path: str, content: bytes) -> str:
        """Keep bytes under a key, in place of what was there.

        Args:
            path: the key.
            content: the bytes.

        Returns:
            The key by which they are found again.

        Raises:
            StorageError: they cannot be written; what was there before still is.
        """
        await self._apart(path, lambda: self.put(path, [content]))
        return self.locate(path)

    async def aexists(self, path: str) -> bool:
        """Tell whether something is kept under a key.

        Args:
            path: the key.

        Returns:
            Whether it is.

        Raises:
            StorageError: it cannot be read.
        """

        def look() -> bool:
            try:
                self.peek(path, 1)
            except ResultNotFound:
                return False
            return True

        return await self._apart(path, look)

    async def adelete(self, path: str) -> None:
        """Forget a key; one that is not there is fine.

        Args:
            path: the key.

        Raises:
            StorageError: it cannot be removed.
        """
        await self._apart(path, lambda: self.drop(path))

    async def _apart(self, key: str, work: Callable[[], T]) -> T:
        return work() if self.quick else await way_here().ask(self, key, lambda: asked(work))

    read_path = dual(aread_path)
    write_path = dual(awrite_path)
    exists = dual(aexists)
    delete = dual(adelete)


class NullFileSystem(Storage):
    """Keeps nothing.

    Example:
        >>> storage = NullFileSystem()
        >>> storage.write_path("a", b"1")
        'a'
        >>> storage.exists("a")
        False
    """

    quick: ClassVar[bool] = True

    def get(self, key: str) -> bytes:
        raise ResultNotFound(f"Nothing is kept under '{key}': this storage, a NullFileSystem, keeps nothing.")

    def put(self, key: str, parts: Parts) -> None:
        del key, parts

    def drop(self, key: str) -> None:
        del key

    def address(self) -> str | None:
        return "null:"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, NullFileSystem)

    def __hash__(self) -> int:
        return hash(NullFileSystem)

    def __repr__(self) -> str:
        return "NullFileSystem()"


class MemoryStorage(Storage):
    """Keeps bytes in this process, as long as it lives itself.

    Example:
        >>> storage = MemoryStorage()
        >>> storage.write_path("a", b"1")
        'a'
        >>> storage.read_path("a")
        b'1'
    """

    quick: ClassVar[bool] = True
    _numbers: ClassVar[itertools.count[int]] = itertools.count(1)

    def __init__(self) -> None:
        self._kept: dict[str, bytes] = {}
        self._number = next(self._numbers)
        self._lock = threading.Lock()

    def get(self, key: str) -> bytes:
        try:
            return self._kept[key]
        except KeyError:
            raise ResultNotFound(
                f"The key '{key}' does not exist in {self!r}. What is in the memory of a process ends with it."
            ) from None

    def put(self, key: str, parts: Parts) -> None:
        content = join(parts)
        with self._lock:
            self._kept[key] = content

    def drop(self, key: str) -> None:
        with self._lock:
            self._kept.pop(key, None)

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            self._kept.clear()

    def address(self) -> str | None:
        return f"memory:{self._number}"

    def __repr__(self) -> str:
        return f"MemoryStorage(number={self._number})"
