"""From texts of the environment, and values of programs, to the values of settings."""

from __future__ import annotations

import types
from collections.abc import Callable
from pathlib import Path
from typing import Any, Union, cast, get_args, get_origin

from callsheet._model.kinds import Durability

_TRUE = frozenset({"1", "true", "yes", "on", "t", "y"})
_FALSE = frozenset({"0", "false", "no", "off", "f", "n"})


def _to_bool(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    text = str(value).strip().lower()
    if text in _TRUE:
        return True
    if text in _FALSE:
        return False
    raise ValueError("expected true or false")


def _to_int(value: Any) -> int:
    try:
        number = int(value)
    except (TypeError, ValueError):
        raise ValueError("expected a whole number") from None
    if number != (float(value) if isinstance(value, float) else number) or isinstance(value, bool):
        raise ValueError("expected a whole number")
    if number < 0:
        raise ValueError("expected a number that is not negative")
    return number


def _to_float(value: Any) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise ValueError("expected a number") from None
    if not number >= 0:  # also refuses NaN
        raise ValueError("expected a number that is not negative")
    return number


def _to_lease(value: Any) -> float:
    if (seconds := _to_float(value)) < 0.2:
        raise ValueError("expected at least 0.2 seconds")
    return seconds


def _to_delays(value: Any) -> float | list[float]:
    if isinstance(value, str) and ("," in value or value.strip().startswith("[")):
        value = [part for part in value.strip().strip("[]").split(",") if part.strip()]
    if isinstance(value, (list, tuple)):
        return [_to_float(part) for part in cast("list[Any]", value)]
    return _to_float(value)


def _to_choice(*allowed: str) -> Callable[[Any], str]:
    def convert(value: Any) -> str:
        text = str(value).strip().lower()
        if text not in allowed:
            raise ValueError(f"expected one of {', '.join(allowed)}")
        return text

    return convert


def _to_level(value: Any) -> str:
    import logging

    text = str(value).strip().upper()
    names = logging.getLevelNamesMapping()
    if text.isdigit():
        return next((name for name, level in names.items() if level == int(text)), text)
    if text not in names:
        raise ValueError("expected a level such as DEBUG, INFO, WARNING or ERROR")
    return text


def _to_database(value: Any) -> str:
    text = str(value)
    return text if text == ":memory:" else str(Path(text).expanduser())


def _to_durability(value: Any) -> Durability:
    return Durability(_to_choice(*Durability)(value.value if isinstance(value, Durability) else value))


_SPECIAL: dict[str, Callable[[Any], Any]] = {
    "database": _to_database,
    "logging_level": _to_level,
    "blocking_waits": _to_choice("allow", "error"),
    "lease_seconds": _to_lease,
    "task_default_retry_delay_seconds": _to_delays,
}
_BY_TYPE: dict[object, Callable[[Any], Any]] = {
    bool: _to_bool,
    int: _to_int,
    float: _to_float,
    str: str,
    Path: lambda value: Path(value).expanduser(),
    Durability: _to_durability,
}


def converter(field: str, hint: object) -> Callable[[Any], Any]:
    """Give what makes the value of a field from a text, or from a value of a program. It raises a `ValueError` with what was expected."""
    if field in _SPECIAL:
        return _SPECIAL[field]
    if get_origin(hint) in (Union, types.UnionType):
        inner = _BY_TYPE[get_args(hint)[0]]
        return lambda value: None if value is None or value == "" else inner(value)
    return _BY_TYPE[hint]
