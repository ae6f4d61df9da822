"""Coroutines that nobody may begin: whoever made them on behalf of another one closes them then."""

from __future__ import annotations

from collections.abc import Awaitable
from types import CoroutineType
from typing import Any


class Unstarted:
    """An awaitable inside of another one, which Python names where that is never awaited. This one is closed without a word.

    Args:
        awaitable: Given back by `take`, to whoever begins it.
    """

    __slots__ = ("_awaitable",)

    def __init__(self, awaitable: Awaitable[Any]) -> None:
        self._awaitable: Awaitable[Any] | None = awaitable

    def take(self) -> Any:
        """Give it to whoever awaits it now."""
        awaitable, self._awaitable = self._awaitable, None
        return awaitable

    def __del__(self) -> None:
        discard(getattr(self, "_awaitable", None))  # `__init__` may have found the stack full


def discard(awaitable: object) -> None:
    """Close a coroutine that nobody will begin; nothing, where it has ended."""
    if isinstance(awaitable, CoroutineType):
        awaitable.close()
