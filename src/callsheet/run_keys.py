"""Run keys: a flow that is called under one runs once."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import timedelta
from typing import TYPE_CHECKING, Final, Literal

from callsheet.context import current_run
from callsheet.logging.loggers import engine_log

if TYPE_CHECKING:
    from uuid import UUID

__all__ = ["run_key"]

current_key: ContextVar[KeyBlock | None] = ContextVar("callsheet_run_key", default=None)
_LOG: Final = engine_log("callsheet.engine")


class KeyBlock:
    """One block of `run_key`: what it says, and where it is."""

    __slots__ = ("_free", "_within", "expiration", "key", "on_failed")

    def __init__(self, key: str, on_failed: str, expiration: timedelta | None) -> None:
        self.key = key
        self.on_failed = on_failed
        self.expiration = expiration
        self._within = _id_here()
        self._free = [True]

    def is_here(self) -> bool:
        """Tell whether the code that is executing is directly in the block, and not in a run that started in it."""
        return _id_here() == self._within

    @property
    def is_used(self) -> bool:
        """Tell whether a flow has been called in it."""
        return not self._free

    def take(self) -> bool:
        """Take the key for a call; tell whether it was the first one. Any thread."""
        try:
            return self._free.pop()
        except IndexError:
            return False


def _id_here() -> UUID | None:
    run = current_run.get()
    return None if run is None else run.cell.id


@contextmanager
def run_key(
    key: str, *, on_failed: Literal["raise", "retry"] = "raise", expiration: timedelta | None = None
) -> Generator[None, None, None]:
    """Have the flow that is called inside the block run once for a key, whoever calls it, and how often.

    The first call starts a flow run, which has the key from then on. Every other call of the same flow under the
    same key, also in another thread or process on the same history, waits for that run and gets its result.
    The block is for one call: of a flow, awaited or not, or `submit`. What that flow calls itself is as always.

    Args:
        key: Names the run among those of its flow.
        on_failed: What to do where the key's run failed or was cancelled before this call: ``raise`` that again, or
            ``retry``: begin the run again, without the tasks that had completed.
        expiration: After which time the key is free again, counted from the start of its run, but never before
            that has ended. Default: never.

    Yields:
        Nothing.

    Raises:
        ValueError: The key is empty, `on_failed` is unknown, or `expiration` is not positive.

    Example:
        >>> from callsheet import flow
        >>> @flow
        ... def charge(cents: int) -> str:
        ...     print("charging", cents)
        ...     return "receipt 1"
        >>> for _ in range(2):
        ...     with run_key("order-17"):
        ...         charge(900)
        charging 900
        'receipt 1'
        'receipt 1'
    """
    if not key or on_failed not in ("raise", "retry"):
        raise ValueError("A run key is some text that is not empty, and `on_failed` is 'raise' or 'retry'.")
    if expiration is not None and expiration <= timedelta(0):
        raise ValueError("The expiration of a run key must be later than the start of its run.")
    block = KeyBlock(key, on_failed, expiration)
    token = current_key.set(block)
    try:
        yield
    finally:
        current_key.reset(token)
        if not block.is_used:
            _LOG.warning("No flow was called in the block of the run key %r, in its thread or context.", key)
