"""A digest of inputs that is the same in every process, and differs where the inputs do."""

# Values of any type are looked at here, and what pyright makes of their types it calls unknown.
# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false, reportUnknownMemberType=false

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Iterable, Mapping
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import Enum
from fractions import Fraction
from hashlib import blake2b
from pathlib import PosixPath, PurePosixPath, PureWindowsPath, WindowsPath
from typing import Any, Final, cast
from uuid import UUID

import msgspec

LIMIT: Final = 1024 * 1024  # bytes of the canonical form
PARTS: Final = 20_000  # values that were looked at one by one, about 20 ms
DEPTH: Final = 64
_begun: Final = blake2b(digest_size=16).copy  # to begin by a copy takes two thirds of the time
_encode: Final = msgspec.msgpack.Encoder().encode
_SCALARS: Final = frozenset({str, int, float, bool, bytes, type(None)})
# What repr says all of, in any process.
_BY_REPR: Final = frozenset(
    {datetime, date, time, timedelta, timezone, Decimal, Fraction, UUID, complex, range, bytearray}
    | {PosixPath, PurePosixPath, PureWindowsPath, WindowsPath}
)
_MOVED: Final = {"pathlib._local": "pathlib"}  # Python 3.13 calls its modules otherwise, and digests outlive it
_ITERABLES: Final = (list, tuple, set, frozenset)

Origin = Callable[[Any], bytes | None]


class _NoCanonicalFormError(Exception):
    """The value is of a type that is not known here, or too large."""


def inputs_digest(
    parameters: Mapping[str, Any], origin: Origin | None = None, *, limit: int = LIMIT, parts: int = PARTS
) -> bytes | None:
    """Digest the inputs of a call.

    Args:
        parameters: name to value; a bound `self` is left out by the caller.
        origin: gives the identity of the run that a value came from, `None` for other values. It is asked
            of every parameter and of everything in them that is no plain scalar. What came from a run is
            digested as that run's identity, never by its content.
        limit: of the canonical form, in bytes.
        parts: values that are looked at, members of collections included.

    Returns:
        16 bytes, or `None` where a value has no canonical form or they are too large.

    Example:
        >>> inputs_digest({"a": 1, "b": 2}) == inputs_digest({"b": 2, "a": 1})
        True
        >>> inputs_digest({"a": [1]}) == inputs_digest({"a": (1,)})
        False
        >>> inputs_digest({"a": object()}) is None
        True
    """
    flat: list[Any] = []
    plain = origin is None
    for name in sorted(parameters):
        value = parameters[name]
        flat.append(name)
        flat.append(value)
        kind: type[Any] = type(value)
        if kind not in _SCALARS or ((kind is str or kind is bytes) and len(value) > limit):
            plain = False
    try:
        try:
            packed = _encode(flat if plain else _Walk(origin, limit, parts, whole=True).top(flat))
        except (OverflowError, UnicodeEncodeError):  # integers over 64 bits, lone surrogates
            packed = _encode(_Walk(origin, limit, parts, whole=False).top(flat))
    except _NoCanonicalFormError:
        return None
    if len(packed) > limit:
        return None
    digest = _begun()
    digest.update(packed)
    return digest.digest()


class _Walk:
    """Turns values into what msgpack can tell apart: scalars as they are, all else as a list with its type in front.

    With `whole`, collections of scalars are taken as they are, which is some 50 times as fast.
    """

    __slots__ = ("_left", "_limit", "_origin", "_whole")

    def __init__(self, origin: Origin | None, limit: int, parts: int, *, whole: bool) -> None:
        self._origin = origin
        self._limit = limit
        self._whole = whole
        self._left = parts

    def top(self, flat: list[Any]) -> list[Any]:
        return [self._value(part, DEPTH, ask=index % 2 == 1) for index, part in enumerate(flat)]

    def _value(self, value: Any, depth: int, *, ask: bool = False) -> Any:
        self._left -= 1
        if self._left < 0 or not depth:
            raise _NoCanonicalFormError
        kind: type[Any] = type(value)  # not what a proxy or a mock says of itself
        scalar = kind in _SCALARS
        if self._origin is not None and (ask or not scalar):
            run = self._origin(value)
            if run is not None:
                return ["run", run]
        if scalar:
            return self._scalar(value, kind)
        if kind in _BY_REPR:
            return [_name(kind), repr(value)]
        if issubclass(kind, Enum):
            return [_name(kind), value.name]
        return [_name(kind), *self._inside(value, kind, depth - 1)]

    def _scalar(self, value: Any, kind: type) -> Any:
        if kind is str or kind is bytes:
            if len(value) > self._limit:
                raise _NoCanonicalFormError
            if not self._whole and kind is str:
                return ["str", value.encode("utf-8", "surrogatepass")]
        elif kind is int and not self._whole:
            return ["int", hex(value)]
        return value

    def _inside(self, value: Any, kind: type, depth: int) -> Iterable[Any]:
        if issubclass(kind, _ITERABLES):
            items = cast("Collection[Any]", value)
            if len(items) > self._limit:
                raise _NoCanonicalFormError
            listed = list(items) if self._are_scalars(items) else [self._value(item, depth) for item in items]
            return sorted(map(_encode, listed)) if issubclass(kind, (set, frozenset)) else listed
        if issubclass(kind, dict):
            pairs = cast("dict[Any, Any]", value).items()
            return sorted([_encode(self._value(key, depth)), _encode(self._value(item, depth))] for key, item in pairs)
        if issubclass(kind, msgspec.Struct):
            names: Iterable[str] = value.__struct_fields__
        elif dataclasses.is_dataclass(kind):
            names = [field.name for field in dataclasses.fields(value)]
        elif hasattr(kind, "__pydantic_fields__"):
            names = list(vars(value))
        else:
            raise _NoCanonicalFormError
        return [[name, self._value(getattr(value, name), depth)] for name in names]

    def _are_scalars(self, items: Iterable[Any]) -> bool:
        return self._whole and set(map(type, items)) <= _SCALARS


def _name(kind: type) -> str:
    return f"{_MOVED.get(kind.__module__, kind.__module__)}.{kind.__qualname__}"
