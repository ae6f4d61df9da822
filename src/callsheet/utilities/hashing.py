"""Digests of files and values that are the same in every process."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from functools import lru_cache
from pathlib import Path, PurePath
from typing import Any, cast
from uuid import UUID

from callsheet.exceptions import SerializationError

_LENGTH = 16  # bytes: enough that two different values never meet
_AS_TEXT = (datetime, date, time, timedelta, Decimal, UUID, PurePath, complex)

HashAlgorithm = Callable[[bytes], Any]


def _blake2b(data: bytes) -> Any:
    return hashlib.blake2b(data, digest_size=_LENGTH)


def stable_hash(*args: str | bytes, hash_algo: HashAlgorithm = _blake2b) -> str:
    """Digest texts and bytes.

    Args:
        *args: What to digest, in order; how it is cut into arguments matters.
        hash_algo: A constructor of the kind that `hashlib` has.

    Returns:
        The digest in hexadecimal.

    Example:
        >>> stable_hash("a", "b") == stable_hash("a", "b"), stable_hash("ab") == stable_hash("a", "b")
        (True, False)
    """
    digest = hash_algo(b"")
    for arg in args:
        data = arg.encode() if isinstance(arg, str) else arg
        digest.update(b"%c%d:" % (b"s" if isinstance(arg, str) else b"b", len(data)))
        digest.update(data)
    return cast("str", digest.hexdigest())


def file_hash(path: str | Path, hash_algo: HashAlgorithm = _blake2b) -> str:
    """Digest what a file holds.

    Args:
        path: The file.
        hash_algo: A constructor of the kind that `hashlib` has.

    Returns:
        The digest in hexadecimal.

    Raises:
        OSError: The file cannot be read.
    """
    stat = Path(path).stat()
    return _file_hash(str(path), hash_algo, (stat.st_mtime_ns, stat.st_size, stat.st_ino))


@lru_cache(maxsize=256)
def _file_hash(path: str, hash_algo: HashAlgorithm, version: tuple[int, int, int]) -> str:
    """Digest a file once a version of it: a module with many flows asks for the same file each time."""
    del version
    return cast("str", hash_algo(Path(path).read_bytes()).hexdigest())


def hash_objects(
    *args: Any, hash_algo: HashAlgorithm = _blake2b, raise_on_failure: bool = False, **kwargs: Any
) -> str | None:
    """Digest values of any type.

    Numbers, texts, bytes, dates, collections and such go by what they are, whatever the order of sets and dicts;
    everything else by its pickled form.

    Args:
        *args: Values, in order.
        hash_algo: A constructor of the kind that `hashlib` has.
        raise_on_failure: Whether a value that cannot be digested is an error.
        **kwargs: More values, by name.

    Returns:
        The digest in hexadecimal; `None` if a value has no digest.

    Raises:
        SerializationError: A value has no digest and `raise_on_failure` is set.

    Example:
        >>> hash_objects({"a": 1, "b": {2, 3}}) == hash_objects({"b": {3, 2}, "a": 1})
        True
        >>> hash_objects(1) == hash_objects(True)
        False
    """
    try:
        return stable_hash(_canonical((args, kwargs)), hash_algo=hash_algo)
    except Exception as plain_error:
        try:
            return stable_hash(_pickled((args, kwargs)), hash_algo=hash_algo)
        except Exception as pickle_error:
            if not raise_on_failure:
                return None
            raise SerializationError(
                "Unable to create a hash: the arguments could not be serialized.\n\n"
                f"JSON error: {plain_error}\n\nPickle error: {pickle_error}\n"
            ) from None


def _pickled(value: object) -> bytes:
    import cloudpickle

    return cloudpickle.dumps(value)  # pyright: ignore[reportUnknownMemberType]


def _canonical(value: Any) -> bytes:
    """Write a value so that equal ones of the same type give the same bytes and others do not."""
    kind = cast("type[Any]", type(value))
    name = kind.__qualname__
    if value is None or value is ... or kind in (bool, int, str):
        return _framed(name, repr(value).encode())
    if kind is float:
        return _framed(name, b"nan" if math.isnan(value) else value.hex().encode())
    if kind in (bytes, bytearray):
        return _framed(name, bytes(value))
    if kind in (list, tuple):
        return _framed(name, b"".join(_canonical(item) for item in value))
    if kind in (set, frozenset):
        return _framed(name, b"".join(sorted(_canonical(item) for item in value)))
    if kind is dict:
        items = sorted((_canonical(key), _canonical(item)) for key, item in value.items())
        return _framed(name, b"".join(key + item for key, item in items))
    if isinstance(value, Enum):
        return _framed(f"{kind.__module__}.{name}", value.name.encode())
    if kind in _AS_TEXT or isinstance(value, PurePath):
        return _framed(name, repr(value).encode())
    raise TypeError(f"{kind.__module__}.{name} has no canonical form")


def _framed(name: str, data: bytes) -> bytes:
    return b"%s:%d:%s" % (name.encode(), len(data), data)
