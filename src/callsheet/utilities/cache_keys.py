"""Parts of cache keys: values by their names, constants around a function, and what is refused as a key."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any, cast

from callsheet.utilities.functions import rebound_names
from callsheet.utilities.hashing import hash_objects, stable_hash


class UnhashableInputs(ValueError):
    """Raised where a key cannot be made of values; the message advises what to do."""


def check_key(key: object) -> str:
    """Refuse a key that is no text, or an empty one.

    Raises:
        TypeError: It is none.
        ValueError: It is empty.
    """
    if not isinstance(key, str):
        hint = ""
        if inspect.iscoroutine(key):
            key.close()  # it would warn that nobody awaited it, on top of the error
            hint = " (an async function cannot make keys)"
        raise TypeError(f"Expected a cache key of type str or None; got {type(key).__name__} instead{hint}.")
    if not key:
        raise ValueError("A cache key cannot be empty. Give None for a run that is not cached.")
    return key


_ADVICE = """\
A cache key could not be made of the {what}: {culprits}.

This often occurs when task inputs contain objects that cannot be cached like locks, open files, iterators or \
connections.

To mend this, either:
  1. Exclude these arguments by defining a custom `cache_key_fn`, or by a policy such as `INPUTS - "{name}"`
  2. Disable caching by passing `cache_policy=NONE`

{error}"""


def hash_by_name(values: Mapping[str, Any], what: str) -> str | None:
    """Digest values by their names.

    Raises:
        UnhashableInputs: One of them has no digest; the message names it and advises.
    """
    plain = _plainly(values)
    if plain is not None:
        return stable_hash("plain values by name", plain)
    try:
        return hash_objects(dict(values), raise_on_failure=True)
    except Exception as error:
        refused = [name for name, value in values.items() if hash_objects(value) is None]
        culprits = ", ".join(f"'{name}' ({type(values[name]).__name__})" for name in refused)
        raise UnhashableInputs(
            _ADVICE.format(what=what, culprits=culprits or "all", name=(*refused, "name")[0], error=error)
        ) from None


def _plainly(values: Mapping[str, Any]) -> str | None:
    """Spell out a few short plain values, which is a fifth of the price of looking into them; `None` for all others.

    ASCII, because what `repr` escapes of other characters differs between versions of Python.
    """
    if len(values) > 16:
        return None
    for value in values.values():
        kind = cast("type[Any]", type(value))
        if kind is str or kind is bytes:
            if len(value) > 256:
                return None
        elif kind is int:
            if value.bit_length() > 1024:
                return None
        elif kind is not float and kind is not bool and value is not None:
            return None
    return ascii(sorted(values.items()))


def closed_constants(fn: Any) -> dict[str, Any]:
    """Give the plain constants that a function takes from the scope around it and does not change."""
    code = getattr(fn, "__code__", None)
    cells = getattr(fn, "__closure__", None)
    if code is None or not cells:
        return {}
    rebound = rebound_names(code)
    found: dict[str, Any] = {}
    for name, cell in zip(code.co_freevars, cells, strict=True):
        try:
            value = cell.cell_contents
        except ValueError:  # assigned later
            continue
        if name not in rebound and type(value) in _CONSTANTS:
            found[name] = value
    return found


_CONSTANTS = frozenset({bool, int, float, complex, str, bytes, type(None)})
