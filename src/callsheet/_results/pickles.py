"""Pickles: plain ones, cloudpickle where these fail, large buffers beside them, and who wrote them."""

from __future__ import annotations

import importlib
import pickle
import platform
import struct
import warnings
from functools import cache
from types import ModuleType
from typing import Any, Final, Self

import msgspec
from pydantic import field_validator, model_validator

from callsheet._results.serializing import Parts, Serializer, cannot_dump, join
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


class PickleSerializer(Serializer[Any]):
    """Serializes by pickle; objects that plain pickle refuses, such as lambdas, by cloudpickle.

    What wrote the bytes is kept with them. Bytes that cloudpickle wrote under another version of Python or of
    itself are read with a warning. Reading a pickle runs code that is in it: only read what you trust.

    Args:
        type: always ``pickle``.
        picklelib: a module with `dumps` and `loads` to use instead, by its name.
        picklelib_version: version of that module that is expected; by default the one that is installed.

    Raises:
        ValidationError: `picklelib` cannot be imported, or lacks `dumps` or `loads`.

    Example:
        >>> serializer = PickleSerializer()
        >>> serializer.loads(serializer.dumps({1, 2})) == {1, 2}
        True
    """

    type: str = "pickle"
    picklelib: str | None = None
    picklelib_version: str | None = None

    @field_validator("picklelib")
    @classmethod
    def _check_picklelib(cls, value: str | None) -> str | None:
        if value is None:
            return None
        try:
            module = importlib.import_module(value)
        except ImportError as error:
            raise ValueError(f"Failed to import requested pickle library: {value!r}.") from error
        for name in ("dumps", "loads"):
            if not callable(getattr(module, name, None)):
                raise ValueError(f"Pickle library at {value!r} does not have a {name!r} method.")
        return value

    @model_validator(mode="after")
    def _check_version(self) -> Self:
        if self.picklelib is None:
            if self.picklelib_version is not None:
                raise ValueError("`picklelib_version` was given without `picklelib`.")
            return self
        found = getattr(importlib.import_module(self.picklelib), "__version__", None)
        if self.picklelib_version is None:
            self.picklelib_version = found
        elif found != self.picklelib_version:
            warnings.warn(
                f"Mismatched {self.picklelib!r} versions. Found {found} in the environment but "
                f"{self.picklelib_version} was requested. This may cause the serializer to fail.",
                RuntimeWarning,
                stacklevel=3,
            )
        return self

    def dumps(self, obj: Any) -> bytes:
        return join(self.dump_parts(obj))

    def dump_parts(self, obj: Any) -> Parts:
        if self.picklelib is not None:
            try:
                return [bytes(importlib.import_module(self.picklelib).dumps(obj))]
            except Exception as error:
                raise cannot_dump(obj, f"a pickle by {self.picklelib!r}", error) from error
        try:
            return _dump(pickle.Pickler, "pickle", obj)
        except Exception as first:  # the user's object may raise anything
            module, library = _cloudpickle()
            try:
                return _dump(module.Pickler, library, obj)
            except Exception as error:
                raise cannot_dump(obj, "a pickle", error) from first

    def loads(self, blob: bytes) -> Any:
        if self.picklelib is not None:
            return _load(lambda: importlib.import_module(self.picklelib or "").loads(blob), None)
        view = memoryview(blob)
        if bytes(view[:4]) != _MAGIC:
            return _load(lambda: pickle.loads(blob), None)  # noqa: S301 - from the user's own storage
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
        return _load(lambda: pickle.loads(body, buffers=buffers), head)  # noqa: S301 - from the user's own storage


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
            stacklevel=4,
        )


def _load(load: Any, head: Head | None) -> Any:
    try:
        return load()
    except Exception as error:  # a class that is gone, a damaged stream, a constructor that refuses
        by = f" It was written by {head.library} on Python {head.python}." if head is not None else ""
        raise SerializationError(f"The value cannot be unpickled: {type(error).__name__}: {error}.{by}") from error
