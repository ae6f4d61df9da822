"""Watching runs: what happens in them, as it happens, from any process on the same history."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Self
from uuid import UUID

from callsheet._clock import between_looks, monotonic, until_look
from callsheet._engine.history import RECORDED_WITHIN
from callsheet._engine.live import when_ended
from callsheet._engine.places import LoopPlace, current_core
from callsheet._engine.run_inputs import Bell
from callsheet._engine.seen import Seen
from callsheet._engine.watching import Record, Tree
from callsheet._kernel.host import here
from callsheet._kernel.ports import LoopPort
from callsheet._kernel.signals import Once
from callsheet._later import later
from callsheet._model.events import Event, LogEvent, StateEvent
from callsheet.exceptions import ObjectNotFound

if TYPE_CHECKING:
    from callsheet._engine.core import Core

__all__ = ["Event", "LogEvent", "StateEvent", "Watch", "watch"]

_LOOK_AGAIN = 5.0  # seconds, in case that a commit was not heard of
_REST = 0.05
"""Seconds between two looks, at least: a busy run commits every few milliseconds."""
_SHARE, _LONGEST_REST = 4, 0.5  # after a look at a large run: so many times as long as that took, but not longer
_LAST_LINES = 0.3  # seconds in which a run of another process may still write lines after its final state


def watch(run_id: UUID | str, cursor: str | None = None) -> Watch:
    """Watch a run from its first state to its end.

    Gives its states, those of all runs in it, and the lines of their logs: first what has happened already, then what
    happens, a fraction of a second later. Nothing is left out or given twice. Each run's states come in their order;
    beyond that the order is that of time. The iteration ends when the run has ended, or at once where it has.

    Of a task run only its own states and lines are given.

    Args:
        run_id: The run: of this process or of another one on the same history.
        cursor: Where to go on: `Watch.cursor` of an earlier iteration over the same run.

    Returns:
        What `async for` iterates over, on asyncio and trio. It may be left at any time; it holds nothing open
        between two events.

    Raises:
        ObjectNotFound: There is no such run. Raised by the iteration.
        ValueError: The cursor is none.

    Example:
        >>> import asyncio
        >>> from callsheet import flow
        >>> @flow
        ... def census() -> int:
        ...     return 1
        >>> state = census(return_state=True)
        >>> async def main() -> None:
        ...     async for event in watch(state.state_details.flow_run_id):
        ...         if isinstance(event, StateEvent):
        ...             print(event.number, event.name)
        >>> asyncio.run(main())
        1 Pending
        2 Running
        3 Completed
    """
    return Watch(UUID(str(run_id)), cursor)


class Watch:
    """An iteration over the events of a run, made by `watch`. For one task at a time."""

    def __init__(self, run_id: UUID, cursor: str | None) -> None:
        self._seen = Seen(cursor)
        self._tree = Tree(run_id, self._seen)
        self._core = current_core()
        self._waiting: deque[tuple[Record, Event]] = deque()
        self._finished = False
        self._alive: Once | None = None  # set when the run and its hooks have ended, if it is of this process
        self._looked = self._took = 0.0
        self._began = monotonic()

    @property
    def cursor(self) -> str:
        """Give where another iteration can go on, behind the event that was given last.

        It can be kept and used in any process; `watch` takes it.
        """
        return self._seen.cursor()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Event:
        if not self._waiting and not self._finished:
            await self._look_until_news()
        else:
            await here().checkpoint()
        if not self._waiting:
            raise StopAsyncIteration
        record, event = self._waiting.popleft()
        self._seen.note(record)
        return event

    async def _look_until_news(self) -> None:
        while not self._waiting and not self._finished:
            if not self._core.usable:  # closed, or taken for dead by others: the history goes on
                self._core = current_core()
            await self._look_until_news_of(self._core)

    async def _look_until_news_of(self, core: Core) -> None:
        port, journal, bell = LoopPort(here()), core.journal, Bell()
        journal.follow(bell.ring)
        try:
            while True:
                was_over = self._tree.ended is not None
                if was_over:
                    await self._last_lines(port)
                else:
                    await self._rest(port)
                bell.renew()
                if self._alive is None or self._alive.is_set:
                    self._alive = when_ended(self._core, self._tree.run_id)
                try:
                    await self._look(port)
                except ObjectNotFound:
                    if not await self._may_come(port, bell):
                        raise
                    continue
                self._finished = was_over or self._is_long_over()
                if self._waiting or self._finished or not core.usable:
                    return
                if self._tree.ended is None:
                    await port.wait(bell.once, until_look(None, _LOOK_AGAIN))
        finally:
            journal.unfollow(bell.ring)

    async def _look(self, port: LoopPort) -> None:
        place, began = LoopPlace(self._core, port.host), monotonic()
        try:
            await place.catch_up()
            self._waiting.extend(await self._tree.read(place.reader))
        finally:
            await place.reader.aclose()
            self._looked = monotonic()
            self._took = self._looked - began

    async def _rest(self, port: LoopPort) -> None:
        left = self._looked + max(between_looks(_REST), min(_SHARE * self._took, _LONGEST_REST)) - monotonic()
        if left > 0 and self._looked:
            await port.wait(Once(), left)

    async def _may_come(self, port: LoopPort, bell: Bell) -> bool:
        """Wait for the run to appear: of one that has just begun elsewhere, the id may be known before the record is."""
        left = self._began + RECORDED_WITHIN - monotonic()
        if left > 0:
            await port.wait(bell.once, left)
        return left > 0

    def _is_long_over(self) -> bool:
        return self._tree.ended is not None and self._alive is None and self._lines_may_come_for() <= 0

    def _lines_may_come_for(self) -> float:
        return (self._tree.ended or 0) / 1e6 + between_looks(_LAST_LINES) - self._core.clock.micros() / 1e6

    async def _last_lines(self, port: LoopPort) -> None:
        """Wait until the hooks of a run that has ended have written their lines."""
        if self._alive is not None:
            await port.wait(self._alive)
        elif (left := self._lines_may_come_for()) > 0:
            await port.wait(Once(), min(left, _LAST_LINES))


if not TYPE_CHECKING:
    __getattr__ = later(__name__, "DeploymentEventTrigger", "emit_event")
