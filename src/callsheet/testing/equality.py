"""Telling whether two results are the same, also where they have no `==` of their own."""

from __future__ import annotations

import re
from typing import Any, Final

from callsheet._results.parts import join
from callsheet._results.pickling import dump
from callsheet.exceptions import SerializationError
from callsheet.testing.utilities import exceptions_equal

_ADDRESS: Final = re.compile(r"\b0x[0-9a-f]{4,}\b")


def are_equal(a: Any, b: Any) -> bool:
    """Tell whether two values are equal or, where they cannot say so themselves, are made of the same bytes."""
    if isinstance(a, BaseException) and isinstance(b, BaseException):
        return exceptions_equal(a, b) or (type(a) is type(b) and same_text(str(a), str(b)))
    try:
        if bool(a == b):
            return True
    except Exception:  # an array's, say, or whatever a user's `==` raises
        pass
    try:
        return type(a) is type(b) and join(dump(a)) == join(dump(b))
    except SerializationError:
        return False


def same_text(a: str | None, b: str | None) -> bool:
    """Tell whether two messages are equal but for addresses in memory."""
    return _ADDRESS.sub("0x", a or "") == _ADDRESS.sub("0x", b or "")
