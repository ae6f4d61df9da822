"""Which storage is meant: by an option, by an address, by default."""

from __future__ import annotations

import os
import threading
import weakref
from pathlib import Path
from typing import Any, Final, cast
from urllib.parse import unquote, urlsplit

from callsheet._dual import dual
from callsheet._model.kinds import Durability
from callsheet._results.database import DatabaseStorage
from callsheet._results.local import LocalFileSystem
from callsheet._results.remote import RemoteFileSystem
from callsheet._results.storage import MemoryStorage, NullFileSystem, Storage, WritableFileSystem
from callsheet._results.wires import APART
from callsheet.context import current_run
from callsheet.exceptions import ObjectNotFound, StorageUnavailable
from callsheet.settings import refresh_settings

_lock: Final = threading.Lock()
_defaults: dict[str, Storage] = {}  # by database
_known: weakref.WeakValueDictionary[str, Any] = weakref.WeakValueDictionary()
_unnamed: weakref.WeakKeyDictionary[Any, str] = weakref.WeakKeyDictionary()


def default_storage() -> Any:
    """Give the storage of results that do not say where (opens nothing).

    Raises:
        ConfigurationError: a setting names something that is no storage.
    """
    settings = refresh_settings()
    if settings.default_result_storage is not None:
        return _cached(f"setting:{settings.default_result_storage}", lambda: resolve(settings.default_result_storage))
    if settings.local_storage_path is not None:
        return LocalFileSystem(settings.local_storage_path)
    run = current_run.get()
    if run is not None and run.core.usable:
        location: str = run.core.store.location
        key = location if location != "memory" else f"memory:{id(run.core.store)}"
        durability = run.core.durability
    else:
        location, durability = settings.database, settings.durability
        key = location = "memory" if location == ":memory:" else os.path.abspath(location)  # noqa: PTH100
    if location == "memory":
        return _cached(key, MemoryStorage)
    full = durability is Durability.STRICT
    return _cached(f"{key}:{full}", lambda: DatabaseStorage(f"{location}-results", full_sync=full))


def _cached(key: str, make: Any) -> Any:
    with _lock:
        found = _defaults.get(key)
        if found is None:
            found = _defaults[key] = make()
        return found


def close_defaults(*, clear: bool = False) -> None:
    """Let go of the files of default storages; their next use opens them again.

    Args:
        clear: whether what is in memory is forgotten.
    """
    with _lock:
        storages = list(_defaults.values())
    for storage in storages:
        if isinstance(storage, DatabaseStorage):
            storage.close()
        elif clear and isinstance(storage, MemoryStorage):
            storage.clear()


async def aget_default_result_storage() -> Any:
    """Give the storage of results for which nobody names one.

    It is what ``CALLSHEET_DEFAULT_RESULT_STORAGE`` or ``CALLSHEET_LOCAL_STORAGE_PATH`` name, else a place beside the
    current history; a history in memory has its results in memory.

    Returns:
        The storage.

    Raises:
        ConfigurationError: a setting has a value that it cannot have.
        ObjectNotFound: a setting names something saved, and there is no such thing.

    Example:
        >>> from callsheet.settings import temporary_settings
        >>> with temporary_settings({"database": ":memory:"}):
        ...     storage = get_default_result_storage()
        >>> type(storage).__name__
        'MemoryStorage'
    """
    return default_storage()


get_default_result_storage = dual(aget_default_result_storage)


def resolve(given: Any) -> Any:
    """Give the storage that an option names.

    Args:
        given: a storage object, a path, the URL of a remote place, or the "type/name" of something saved.

    Raises:
        ObjectNotFound: it is the "type/name" of something, and nothing is saved under it.
        TypeError: it is something else.

    Example:
        >>> resolve("s3://bucket/results")
        RemoteFileSystem(basepath='s3://bucket/results')
    """
    if isinstance(given, Path):
        return LocalFileSystem(given)
    if isinstance(given, str):
        return _from_text(given)
    if isinstance(given, os.PathLike):
        return LocalFileSystem(cast("os.PathLike[str]", given))
    if isinstance(given, WritableFileSystem) or is_storage(given):
        return given
    if callable(getattr(given, "put", None)) and callable(getattr(given, "get", None)):
        return RemoteFileSystem(store=given)  # of obstore
    raise TypeError(
        "Result storage must be one of the following types: 'Path', 'str' (a path, a URL, or the 'type/name' of "
        f"something saved), or an object with `read_path` and `write_path`. Got unsupported type {type(given).__name__!r}."
    )


def is_storage(given: Any) -> bool:
    """Tell whether an object can read and write."""
    return callable(getattr(given, "read_path", None)) and callable(getattr(given, "write_path", None))


def _from_text(text: str) -> Any:
    scheme = urlsplit(text).scheme
    if "://" in text:
        if scheme == "file":
            return LocalFileSystem(unquote(urlsplit(text).path))
        return RemoteFileSystem(text)
    parts = text.split("/")
    if len(parts) == 2 and all(parts) and not text.startswith((".", "~")):
        raise ObjectNotFound(
            help_message=f"'{text}' reads as the 'type/name' of a storage that was saved, and nothing is saved under "
            f"it: saving storages is not available. For a folder write './{text}' or pass a `pathlib.Path`."
        )
    return LocalFileSystem(text)


# ---------------------------------------------------------------------------------------- addresses


def address_of(storage: Any, *, apart: bool = False) -> str | None:
    """Give a text by which a storage is found again, here at least. `apart`: what is there has no metadata with it."""
    address = _address_of(storage)
    return address if address is None or not apart else APART + address


def _address_of(storage: Any) -> str | None:
    address = storage.address() if isinstance(storage, Storage) else None
    if address is None:
        try:
            address = _unnamed.get(storage)
            if address is None:
                address = _unnamed[storage] = f"object:{type(storage).__qualname__}:{os.getpid()}-{id(storage):x}"
        except TypeError:  # no weak reference to it, or it cannot be hashed
            return None
    try:
        _known[address] = storage
    except TypeError:
        pass
    return address


def from_address(address: str | None) -> Any:
    """Give the storage that `address_of` named.

    Raises:
        StorageUnavailable: it was an object of another process, or it is gone.
    """
    if address is None:
        return default_storage()
    address = address.removeprefix(APART)
    known = _known.get(address)
    if known is not None:
        return known
    if address.startswith("database:"):
        return DatabaseStorage(address.removeprefix("database:"))
    if address.startswith("null:"):
        return NullFileSystem()
    if not address.startswith(("object:", "memory:")) or address.startswith("memory://"):
        return _from_text(address)
    what = "the memory of a process" if address.startswith("memory:") else f"an object ({address.split(':')[1]})"
    raise StorageUnavailable(
        f"It was kept in {what} that is not here. Read it there, or by a store that is given the same storage: "
        f"`ResultStore(result_storage=…).read(key)`."
    )
