"""Runs on their way into an engine: the history says that they belong to it, and they are not alive in it yet.

Whoever has an order for such a run finds the engine in the history and the run nowhere. The order waits here: carried out
on the record alone, it would be written over by the run, which knows nothing of it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any, Final
from uuid import UUID

from callsheet._kernel.ports import Port
from callsheet._kernel.signals import Once


class Arrivals:
    """What one engine is taking up just now. Usable from any thread."""

    def __init__(self) -> None:
        self._lock: Final = threading.Lock()
        self._under_way: list[Once] = []
        self.stuck: dict[UUID, Any] = {}  # claimed, but not to be had from the history just now: the flow, by run

    @contextmanager
    def one(self) -> Generator[None, None, None]:
        """Claim a run inside, and bring it to life; orders for it wait until this is left, however."""
        settled = Once()
        with self._lock:
            self._under_way.append(settled)
        try:
            yield
        finally:
            with self._lock:
                self._under_way.remove(settled)
            settled.set()

    async def settled(self, port: Port) -> None:
        """Wait until all that is under way now has come to life, or will not."""
        for one in list(self._under_way):
            await port.wait(one)

    def when_settled(self, call: Callable[[], None]) -> bool:
        """Have something called then; false, and nothing is called, where nothing is under way."""
        with self._lock:
            under_way = list(self._under_way)
        if not under_way:
            return False
        _after(under_way, call)
        return True


def _after(ones: list[Once], call: Callable[[], None]) -> None:
    """Call when every one of some conditions holds."""
    if ones:
        ones[0].subscribe(lambda: _after(ones[1:], call))
    else:
        call()
