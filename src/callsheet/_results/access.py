"""Reading from and writing to storages of every kind: ours, which block, and those of users, of either colour."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator
from types import NoneType
from typing import Any, TypeVar, cast

from callsheet._results.limits import asked
from callsheet._results.parts import Parts, join
from callsheet._results.storage import HEAD, NullFileSystem, Storage
from callsheet._results.ways import Way
from callsheet.exceptions import (
    MissingResult,
    ResultDamaged,
    ResultNotFound,
    SerializationError,
    StorageError,
    StorageFull,
    StorageUnavailable,
)

T = TypeVar("T")


async def fetch(way: Way, storage: Any, key: str, load: Callable[[bytes], T]) -> T:
    """Read what is under a key, and make something of it, both off the loop unless it is at hand.

    Raises:
        ResultNotFound: nothing is there.
        StorageError: it cannot be read.
    """
    if isinstance(storage, Storage):
        if storage.quick:
            return load(storage.get(key))
        if (small := storage.glance(key)) is not None:
            return load(small)
        return await way.ask(storage, key, lambda: load(asked(lambda: storage.get(key))))
    content = await _ask(way, storage, "read", storage.read_path, key)
    if content is None:
        raise ResultNotFound(f"The key '{key}' does not exist in {storage!r}.")
    return await way.apart(lambda: load(content))


async def peek(way: Way, storage: Any, key: str, length: int = HEAD) -> tuple[bytes, int]:
    """Read the beginning of what is under a key, and give its size too.

    Raises:
        ResultNotFound: nothing is there.
        StorageError: it cannot be read.
    """
    if isinstance(storage, Storage):
        if storage.quick:
            return storage.peek(key, length)
        if (small := storage.glance(key)) is not None:
            return small[:length], len(small)
        return await way.ask(storage, key, lambda: asked(lambda: storage.peek(key, length)))
    content = await _ask(way, storage, "read", storage.read_path, key)
    if content is None:
        raise ResultNotFound(f"The key '{key}' does not exist in {storage!r}.")
    return content[:length], len(content)


async def store(way: Way, storage: Any, key: str, dump: Callable[[], Parts]) -> None:
    """Make bytes and write them under a key, both off the loop.

    Raises:
        StorageError: they cannot be written.
        SerializationError: they cannot be made.
    """
    if isinstance(storage, NullFileSystem):
        return
    if isinstance(storage, Storage):
        if storage.quick:
            storage.put(key, await way.apart(dump))
        else:
            await way.ask(storage, key, lambda: _put(storage, key, dump()))
        return
    content = await way.apart(lambda: join(dump()))
    await _ask(way, storage, "write", storage.write_path, key, content)


def _put(storage: Storage, key: str, parts: Parts) -> None:
    asked(lambda: storage.put(key, parts))


async def _ask(way: Way, storage: Any, what: str, fn: Callable[..., Any], key: str, *args: Any) -> Any:
    try:
        answer: Any = await way.call(storage, fn, key, *args)
        if what == "read" and not isinstance(answer, (bytes, bytearray, memoryview, NoneType)):
            raise ResultDamaged(f"The storage gave something of type {type(answer).__name__}, not bytes.")
        return cast("Any", answer)
    except (MissingResult, StorageUnavailable, StorageFull):
        raise
    except (FileNotFoundError, KeyError) as error:
        raise ResultNotFound(f"The key '{key}' does not exist in {storage!r}.") from error
    except Exception as error:  # somebody else's code
        if what == "read" and isinstance(error, ValueError):
            raise ResultNotFound(f"The key '{key}' does not exist in {storage!r}: {error}") from error
        how = "did not answer in time" if isinstance(error, TimeoutError) else f"refused to {what}"
        raise StorageUnavailable(
            f"The storage {storage!r} {how} the key '{key}': {type(error).__name__}: {error}"
        ) from error


@contextlib.contextmanager
def naming(key: str, storage: Any) -> Generator[None]:
    """Say in an error which key and which storage it is about."""
    try:
        yield
    except (MissingResult, StorageError, SerializationError) as error:
        text, shown = str(error), repr(storage)
        if shown in text or f"Key '{key}'" in text:
            raise
        raise type(error)(f"{text} Key '{key}' in {shown}.") from error
