"""What texts of the environment, and values that programs give, mean to settings of a kind."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, cast

_TRUE: Final = frozenset({"1", "true", "yes", "on", "t", "y"})
_FALSE: Final = frozenset({"0", "false", "no", "off", "f", "n"})


def to_bool(value: Any) -> bool:
    """Read true or false, in the words of shells and files."""
    if isinstance(value, bool):
        return value
    text = str(value).strip().lower()
    if text in _TRUE:
        return True
    if text in _FALSE:
        return False
    raise ValueError("expected true or false")


def to_int(value: Any) -> int:
    """Read a whole number that is not negative."""
    try:
        number = int(value)
    except (TypeError, ValueError):
        raise ValueError("expected a whole number") from None
    if number != (float(value) if isinstance(value, float) else number) or isinstance(value, bool):
        raise ValueError("expected a whole number")
    if number < 0:
        raise ValueError("expected a number that is not negative")
    return number


def to_float(value: Any) -> float:
    """Read a number that is not negative."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise ValueError("expected a number") from None
    if not number >= 0:  # also refuses NaN
        raise ValueError("expected a number that is not negative")
    return number


def to_lease(value: Any) -> float:
    """Read the seconds of a lease."""
    if (seconds := to_float(value)) < 0.2:
        raise ValueError("expected at least 0.2 seconds")
    return seconds


def to_delays(value: Any) -> float | list[float]:
    """Read a number of seconds, or several for one after the other."""
    if isinstance(value, str) and ("," in value or value.strip().startswith("[")):
        value = [part for part in value.strip().strip("[]").split(",") if part.strip()]
    if isinstance(value, (list, tuple)):
        return [to_float(part) for part in cast("list[Any]", value)]
    return to_float(value)


def to_choice(*allowed: str) -> Callable[[Any], str]:
    """Give what reads one of some words."""

    def convert(value: Any) -> str:
        text = str(value).strip().lower()
        if text not in allowed:
            raise ValueError(f"expected one of {', '.join(allowed)}")
        return text

    return convert


def to_level(value: Any) -> str:
    """Read the name or number of a level of logging."""
    import logging

    text = str(value).strip().upper()
    names = logging.getLevelNamesMapping()
    if text.isdigit():
        return next((name for name, level in names.items() if level == int(text)), text)
    if text not in names:
        raise ValueError("expected a level such as DEBUG, INFO, WARNING or ERROR")
    return text


def to_database(value: Any) -> str:
    """Read the path of a database, or ``:memory:``."""
    text = str(value)
    return text if text == ":memory:" else str(Path(text).expanduser())
