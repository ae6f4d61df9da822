"""Values as JSON can carry them, with numbers, texts and truth values left as they are."""

from __future__ import annotations

import dataclasses
import sys
from collections import deque
from collections.abc import Mapping
from datetime import date, time, timedelta
from decimal import Decimal
from enum import Enum
from pathlib import PurePath
from typing import Any, cast
from uuid import UUID

import msgspec

_ITSELF = (bool, int, float, str)
_SEQUENCES = (list, tuple, set, frozenset, deque)


def to_jsonable(value: Any) -> Any:
    """Convert a value to `None`, truth values, numbers, texts, lists and dicts with texts as keys.

    Args:
        value: Any value.

    Returns:
        The converted value.

    Raises:
        TypeError: It, or something in it, has no such form.
        ValueError: The same, or it contains itself.

    Example:
        >>> to_jsonable({"when": date(2024, 5, 1), "sizes": (1, 2.5)})
        {'when': '2024-05-01', 'sizes': [1, 2.5]}
    """
    if value is None or type(value) in _ITSELF:
        return value
    try:
        return _convert(value)
    except RecursionError:
        raise ValueError("Circular reference") from None


def _convert(value: Any) -> Any:
    if value is None or type(value) in _ITSELF:
        return value
    if isinstance(value, Mapping):
        return {_key(key): _convert(item) for key, item in cast("Mapping[Any, Any]", value).items()}
    if isinstance(value, _SEQUENCES):
        return [_convert(item) for item in cast("list[Any]", value)]
    if isinstance(value, Enum):
        return _convert(value.value)
    if isinstance(value, msgspec.Struct):
        return {name: _convert(getattr(value, name)) for name in value.__struct_fields__}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: _convert(getattr(value, field.name)) for field in dataclasses.fields(value)}
    return _convert_scalar(value)


def _convert_scalar(value: Any) -> Any:
    for kind in _ITSELF:
        if isinstance(value, kind):
            return kind(value)
    if isinstance(value, (date, time)):
        return value.isoformat()
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, (UUID, PurePath)):
        return str(value)
    if isinstance(value, Decimal):
        return int(value) if value.as_tuple().exponent == 0 else float(value)
    if issubclass(type(value), bytes):  # what only says that it is does not decode to a text
        return value.decode()
    return _convert_model(value)


def _convert_model(value: Any) -> Any:
    """Let pydantic convert what is its own; a value can only be that if pydantic is imported."""
    version_1 = sys.modules.get("pydantic.v1")
    if version_1 is not None and isinstance(value, version_1.BaseModel):
        return _convert(value.dict())
    if "pydantic" in sys.modules:
        import pydantic_core

        # Its errors are ValueErrors. Generators are refused before, since converting would use them up.
        if not hasattr(value, "__next__"):
            return pydantic_core.to_jsonable_python(value)
    raise TypeError(f"{type(value).__name__} has no JSON form")


def _key(key: Any) -> str:
    if type(key) is str:
        return key
    if isinstance(key, Enum):
        return _key(key.value)
    converted = _convert_scalar(key) if key is not None else "null"
    if isinstance(converted, bool):
        return "true" if converted else "false"
    return str(converted)
