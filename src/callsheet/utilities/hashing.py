"""Digests of files and values that are the same in every process."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from functools import lru_cache
from pathlib import Path
from typing import Any, Final, cast

from callsheet.exceptions import SerializationError
from callsheet.utilities.canonical import digest

__all__ = ["HashAlgorithm", "file_hash", "hash_objects", "stable_hash"]

_LENGTH = 16  # bytes: enough that two different values never meet
_PLAIN: Final[frozenset[type[Any]]] = frozenset(
    {type(None), bool, int, float, str, bytes, list, tuple, dict, set, frozenset}
)

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
    made = hash_algo(b"")
    for arg in args:
        data = arg.encode() if isinstance(arg, str) else arg
        made.update(b"%c%d:" % (b"s" if isinstance(arg, str) else b"b", len(data)))
        made.update(data)
    return cast("str", made.hexdigest())


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
    """Digest values of any type, equally in every process and version of Python.

    Numbers, texts, bytes, dates, collections and such go by what they are, whatever the order of sets and dicts;
    functions by their source, defaults and closures; everything else by what it would give to pickle. What would say
    less than the value is (a lock, an iterator, an `object()`, a description with an address) has no digest.

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
        return stable_hash(digest((args, kwargs)), hash_algo=hash_algo)
    except Exception as error:
        if not raise_on_failure:
            return None
        raise SerializationError(
            "Unable to create a hash: the arguments could not be serialized.\n\n"
            f"JSON error: {_plainly(args, kwargs)}\n\nPickle error: {error or repr(error)}\n"
        ) from None


def _plainly(args: tuple[Any, ...], kwargs: dict[str, Any]) -> str:
    """Name the types that are no plain data."""
    kinds: set[type[Any]] = set()
    for value in (*args, *kwargs.values()):
        if isinstance(value, dict):
            kinds.update(map(type, cast("dict[Any, Any]", value).values()))
        elif isinstance(value, (list, tuple, set, frozenset)):
            kinds.update(map(type, cast("Iterable[Any]", value)))
        else:
            kinds.add(cast("type[Any]", type(value)))
    names = sorted(f"{kind.__module__}.{kind.__qualname__}" for kind in kinds - _PLAIN)
    return f"no plain data: {', '.join(names) or 'something inside of a collection'}"
