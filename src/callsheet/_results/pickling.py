"""Pickles: plain ones, cloudpickle where these fail, large buffers beside them, and who wrote them.

The journal writes by this too, and a program that only runs flows is to be spared what serializers need: no pydantic here.
"""

from __future__ import annotations

import pickle
import platform
import struct
import warnings
from collections.abc import Callable
from functools import cache
from types import ModuleType
from typing import Any, Final

import msgspec

from callsheet._results.parts import Parts
from callsheet.exceptions import SerializationError

_MAGIC: Final = b"CSPK"
_HEAD: Final = struct.Struct("<4sI")  # magic, length of the head
_APART: Final = 64 * 1024  # buffers from here on are kept beside the pickle, where they need not be copied
_PYTHON: Final = ".".join(platform.python_version_tuple()[:2])


class Head(msgspec.Struct, array_like=True):
    """What precedes a pickle: who wrote it, how long it is, and the buffers behind it."""

    python: str
    library: str  # "pickle", or the module's name and version
    size: int
    buffers: list[tuple[int, bool]] = []  # length, and whether it is read-only


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Head).decode


@cache
def _cloudpickle() -> tuple[ModuleType, str]:
    import cloudpickle

    return cloudpickle, f"cloudpickle {cloudpickle.__version__}"


class _Sink:
    """A file that keeps what is written to it as it is: large bytes are not copied."""

    __slots__ = ("parts", "write")

    def __init__(self) -> None:
        self.parts: Parts = []
        self.write = self.parts.append


def cannot_dump(value: Any, what: str, error: BaseException) -> SerializationError:
    """Make the error of a value that a serializer refuses."""
    return SerializationError(
        f"A value of type {type(value).__qualname__} cannot be turned into {what}: {type(error).__name__}: {error}"
    )


def dump(obj: Any) -> Parts:
    """Pickle a value.

    Args:
        obj: the value.

    Returns:
        The bytes in parts; large buffers are the value's own memory.

    Raises:
        SerializationError: neither pickle nor cloudpickle takes it.
    """
    try:
        return _dump(pickle.Pickler, "pickle", obj)
    except Exception as first:  # the user's object may raise anything
        module, library = _cloudpickle()
        try:
            return _dump(module.Pickler, library, obj)
        except Exception as error:
            raise cannot_dump(obj, "a pickle", error) from first


def load(blob: bytes | memoryview) -> Any:
    """Give the value of bytes that `dump` made, or of a bare pickle.

    Args:
        blob: the bytes.

    Raises:
        SerializationError: they are damaged, or refuse to be unpickled.
    """
    view = memoryview(blob)
    if bytes(view[:4]) != _MAGIC:
        return reading(lambda: pickle.loads(blob))  # noqa: S301 - from the user's own storage
    try:
        length = _HEAD.unpack_from(view)[1]
        head = _decode(view[_HEAD.size : _HEAD.size + length])
    except (struct.error, msgspec.MsgspecError) as error:
        raise SerializationError("The bytes are no whole pickle: their beginning is damaged.") from error
    at = _HEAD.size + length
    body = view[at : at + head.size]
    at += head.size
    buffers: list[Any] = []
    for size, read_only in head.buffers:
        piece = view[at : at + size]
        # A copy of its own: what was writable, an array for instance, is to be writable again.
        buffers.append(piece if read_only else bytearray(piece))
        at += size
    if at != len(view):
        raise SerializationError(f"The bytes are no whole pickle: {at} were written, {len(view)} are here.")
    _tell_of_mismatch(head)
    return reading(lambda: pickle.loads(body, buffers=buffers), head)  # noqa: S301 - from the user's own storage


def _dump(pickler: Any, library: str, obj: Any) -> Parts:
    sink = _Sink()
    apart: list[memoryview] = []

    def keep(buffer: pickle.PickleBuffer) -> bool:
        try:
            raw = buffer.raw()
        except BufferError:  # not contiguous
            return True
        if raw.nbytes < _APART:
            return True
        apart.append(raw)
        return False

    pickler(sink, 5, buffer_callback=keep).dump(obj)
    size = sum(len(part) for part in sink.parts)
    buffers = [(raw.nbytes, raw.readonly) for raw in apart]
    head = _encode(Head(_PYTHON, library, size, buffers))
    return [_HEAD.pack(_MAGIC, len(head)), head, *sink.parts, *apart]


def _tell_of_mismatch(head: Head) -> None:
    if head.library == "pickle":
        return
    _, library = _cloudpickle()
    if head.python != _PYTHON or head.library != library:
        warnings.warn(
            f"Mismatched versions: this value was pickled by {head.library} on Python {head.python}, "
            f"and is read by {library} on Python {_PYTHON}. This may cause the serializer to fail.",
            RuntimeWarning,
            stacklevel=5,
        )


def reading(load: Callable[[], Any], head: Head | None = None) -> Any:
    """Do what reads a pickle.

    Raises:
        SerializationError: it fails.
    """
    try:
        return load()
    except Exception as error:  # a class that is gone, a damaged stream, a constructor that refuses
        by = f" It was written by {head.library} on Python {head.python}." if head is not None else ""
        raise SerializationError(f"The value cannot be unpickled: {type(error).__name__}: {error}.{by}") from error
