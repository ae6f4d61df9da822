"""Values as trees that JSON and msgpack can carry, and back: what has no such form becomes a tagged object.

A tag is a dict ``{"__class__": "module.Name", "data": …}``, for exceptions ``{"__exc_type__": …, "args": …}``.
"""

from __future__ import annotations

import base64
import dataclasses
import importlib
import sys
from collections import OrderedDict, deque
from collections.abc import Callable
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from fractions import Fraction
from pathlib import PurePath
from typing import Any, Final, cast
from uuid import UUID
from zoneinfo import ZoneInfo

import msgspec

CLASS: Final = "__class__"
EXCEPTION: Final = "__exc_type__"
_TAGS: Final = frozenset({CLASS, EXCEPTION})
_NATIVE: Final = frozenset({str, bool, type(None)})
_LARGEST: Final = 2**63

Encoder = Callable[[Any], Any]


def qualified_name(thing: type[Any]) -> str:
    """Give the import path of a class.

    Raises:
        TypeError: it cannot be imported by it, since it is local to a function.
    """
    # Python 3.13 says where pathlib keeps its classes, and no other Python finds them there.
    module = "pathlib" if thing.__module__ == "pathlib._local" else thing.__module__
    name = f"{module}.{thing.__qualname__}"
    try:
        found = import_class(name)
    except (ImportError, AttributeError, ValueError):
        found = None
    if found is not thing:
        raise TypeError(f"{name} cannot be imported by its name; define it at the top of a module")
    return name


def import_class(name: str) -> Any:
    """Give what an import path leads to.

    Raises:
        ImportError: there is no such module.
        AttributeError: there is nothing of this name in it.
        ValueError: it is no path.
    """
    parts = name.split(".")
    for split in range(len(parts) - 1, 0, -1):
        module_name = ".".join(parts[:split])
        module = sys.modules.get(module_name)
        if module is None:
            try:
                module = importlib.import_module(module_name)
            except ModuleNotFoundError as error:
                if error.name is not None and module_name.startswith(error.name):
                    continue
                raise
        found: Any = module
        for part in parts[split:]:
            found = getattr(found, part)
        return found
    raise ImportError(f"There is no module for {name!r}.")


def to_tree(value: Any, encode: Encoder, *, native_tuples: bool = False, native_bytes: bool = False) -> Any:
    """Turn a value into a tree of what JSON has; `encode` is asked for everything else.

    Args:
        value: any value.
        encode: gives a simpler value for one that has no form of its own, or raises `TypeError`.
        native_tuples: take tuples for lists, and dicts as they are.
        native_bytes: take bytes as they are.

    Raises:
        TypeError: something in it has no form.
        ValueError: it contains itself.
    """

    def walk(item: Any) -> Any:
        kind = item.__class__
        if kind in _NATIVE:
            return item
        if kind is int and -_LARGEST <= item < _LARGEST:
            return item
        if kind is float and item - item == 0:  # neither infinite nor NaN
            return item
        if kind is list or (native_tuples and kind is tuple):
            return [walk(part) for part in item]
        if kind is dict and (native_tuples or (all(type(key) is str for key in item) and _TAGS.isdisjoint(item))):
            return {key: walk(part) for key, part in item.items()}
        if native_bytes and kind is bytes:
            return item
        if native_tuples and kind in (int, float):
            return item
        made = encode(item)
        if made is item:
            raise TypeError(f"the object encoder gave the object back: {type(item).__qualname__}")
        if made.__class__ is dict and not native_tuples:  # a tag: its own keys are not looked at again
            return {key: walk(part) for key, part in made.items()}
        return walk(made)

    try:
        return walk(value)
    except RecursionError:
        raise ValueError("it contains itself, or it is nested too deeply") from None


def from_tree(tree: Any, decode: Callable[[dict[str, Any]], Any]) -> Any:
    """Turn a tree back: `decode` is given every dict, the innermost first."""
    if tree.__class__ is list:
        return [from_tree(part, decode) for part in tree]
    if tree.__class__ is dict:
        return decode({key: from_tree(part, decode) for key, part in tree.items()})
    return tree


# ----------------------------------------------------------------------------------------- one object


def encode_object(obj: Any) -> Any:
    """Give the tagged form of one object; see `callsheet.serializers.json_object_encoder`."""
    if isinstance(obj, BaseException):
        return _encode_exception(obj)
    kind: Any = obj.__class__
    simple = _SIMPLE.get(kind)
    if simple is not None:
        return {CLASS: _NAMES[kind], "data": simple[0](obj)}
    if isinstance(obj, type):
        return {CLASS: "builtins.type", "data": qualified_name(cast("type[Any]", obj))}
    return {CLASS: qualified_name(kind), "data": _data_of(obj)}


def _data_of(obj: Any) -> Any:
    if isinstance(obj, Enum):
        return obj.value
    if isinstance(obj, PurePath):
        return str(obj)
    if isinstance(obj, msgspec.Struct):
        return {name: getattr(obj, name) for name in obj.__struct_fields__}
    if dataclasses.is_dataclass(obj):
        return {field.name: getattr(obj, field.name) for field in dataclasses.fields(obj)}
    if _is_model(obj.__class__):
        state = obj.__getstate__()
        if state.get("__pydantic_private__"):
            raise TypeError(f"{type(obj).__qualname__} has private attributes")
        return {
            "fields": state["__dict__"],
            "set": sorted(state["__pydantic_fields_set__"]),
            "extra": state["__pydantic_extra__"],
        }
    if _is_named_tuple(obj.__class__):
        return list(obj)
    raise TypeError(f"an object of {obj.__class__.__module__}.{obj.__class__.__qualname__} has no form in it")


def _encode_exception(exc: BaseException) -> dict[str, Any]:
    name = qualified_name(type(exc))
    reduced: Any = exc.__reduce__()
    args, state = (
        (reduced[1], reduced[2] if len(reduced) > 2 else None) if reduced[0] is type(exc) else (exc.args, None)
    )
    made = {EXCEPTION: name, "message": str(exc), "args": list(args)}
    if state:
        made["state"] = state
    return made


def decode_object(tagged: dict[str, Any]) -> Any:
    """Give the object behind a tag; a dict without a tag is given as it is."""
    if CLASS in tagged:
        name = tagged[CLASS]
        simple = _BY_NAME.get(name)
        if simple is not None:
            return simple(tagged["data"])
        return _object_of(import_class(name), tagged["data"])
    if EXCEPTION in tagged:
        return _decode_exception(import_class(tagged[EXCEPTION]), tagged)
    return tagged


def _object_of(kind: Any, data: Any) -> Any:
    if not _is_a(kind, object):
        raise TypeError(f"{kind!r} is no class")
    if _is_a(kind, Enum) or _is_a(kind, PurePath):
        return kind(data)
    if _is_a(kind, msgspec.Struct):
        return kind(**data)
    if dataclasses.is_dataclass(kind):
        return _revived(kind, data)
    if _is_model(kind):
        made: Any = kind.__new__(kind)
        made.__setstate__(
            {
                "__dict__": data["fields"],
                "__pydantic_fields_set__": set(data["set"]),
                "__pydantic_extra__": data["extra"],
                "__pydantic_private__": None,
            }
        )
        return made
    if _is_named_tuple(kind):
        return kind._make(data)
    raise TypeError(f"{kind.__module__}.{kind.__qualname__} cannot be made from JSON")


def _decode_exception(kind: Any, tagged: dict[str, Any]) -> BaseException:
    if not _is_a(kind, BaseException):
        raise TypeError(f"{kind!r} is no exception")
    args = tagged.get("args")
    if args is None:
        args = [tagged["message"]]
    try:
        made = kind(*args)
    except Exception:  # its constructor takes something else than what it keeps as its arguments
        made = kind.__new__(kind, *args)
        made.args = tuple(args)
    made.__dict__.update(tagged.get("state") or {})
    return made


def _revived(kind: Any, fields: dict[str, Any]) -> Any:
    """Give what a dataclass' object was, and not what its constructor would make of it now."""
    made: Any = object.__new__(kind)
    for name, value in fields.items():
        object.__setattr__(made, name, value)
    return made


def _is_a(kind: Any, base: type[Any]) -> bool:
    return isinstance(kind, type) and issubclass(cast("type[Any]", kind), base)


def _is_named_tuple(kind: Any) -> bool:
    return _is_a(kind, tuple) and hasattr(kind, "_make")


def _is_model(kind: Any) -> bool:
    base = getattr(sys.modules.get("pydantic"), "BaseModel", None)
    return base is not None and _is_a(kind, base)


# -------------------------------------------------------------------------------- types of the language


def _text(value: bytes | bytearray) -> str:
    return base64.b64encode(value).decode("ascii")


def _encode_time(value: datetime | time) -> Any:
    zone = value.tzinfo
    key = zone.key if isinstance(zone, ZoneInfo) else None
    return [value.isoformat(), key, value.fold] if key or value.fold else value.isoformat()


def _decode_time(kind: Any) -> Callable[[Any], Any]:
    def decode(data: Any) -> Any:
        if isinstance(data, str):
            return kind.fromisoformat(data)
        text, key, fold = data
        value = kind.fromisoformat(text)
        return value.replace(tzinfo=value.tzinfo if key is None else ZoneInfo(key), fold=fold)

    return decode


def _pairs(value: Any) -> list[list[Any]]:
    return [[key, item] for key, item in value.items()]


def _elements(value: Any) -> list[Any]:
    return list(value)


_SIMPLE: Final[dict[type[Any], tuple[Callable[[Any], Any], Callable[[Any], Any]]]] = {
    tuple: (_elements, tuple),
    set: (_elements, set),
    frozenset: (_elements, frozenset),
    deque: (lambda value: [list(value), value.maxlen], lambda data: deque(data[0], data[1])),
    dict: (_pairs, dict),
    OrderedDict: (_pairs, OrderedDict),
    bytes: (_text, base64.b64decode),
    bytearray: (_text, lambda data: bytearray(base64.b64decode(data))),
    int: (str, int),
    float: (repr, float),
    complex: (lambda value: [value.real, value.imag], lambda data: complex(*data)),
    range: (lambda value: [value.start, value.stop, value.step], lambda data: range(*data)),
    Decimal: (str, Decimal),
    Fraction: (str, Fraction),
    UUID: (str, UUID),
    datetime: (_encode_time, _decode_time(datetime)),
    time: (_encode_time, _decode_time(time)),
    date: (date.isoformat, date.fromisoformat),
    timedelta: (
        lambda value: [value.days, value.seconds, value.microseconds],
        lambda data: timedelta(days=data[0], seconds=data[1], microseconds=data[2]),
    ),
}
_NAMES: Final = {kind: f"{kind.__module__}.{kind.__qualname__}" for kind in _SIMPLE}
_BY_NAME: Final[dict[Any, Callable[[Any], Any]]] = {
    **{_NAMES[kind]: codec[1] for kind, codec in _SIMPLE.items()},
    "builtins.type": import_class,
}
