"""The clock of a simulation: it stands still while a task can go on, and jumps to the next moment for which one waits.

Trio's own clock that jumps looks a second time whether really nobody can go on, and has its waits under cancel scopes.
In a simulation all that happens is in the loop's one thread, so that a look is enough; and most waits are those of
simulated threads, which nobody cancels until the end.
"""

from __future__ import annotations

import heapq
import itertools
import math
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, Final, cast

import trio

_START: Final = datetime(2026, 1, 1, tzinfo=UTC)
_START_MICROS: Final = int(_START.timestamp()) * 1_000_000
_UPTIME: Final = 1_000.0  # seconds for which the machine has been up


class Parked:
    """A task that waits until somebody ends its wait."""

    __slots__ = ("_task",)

    def __init__(self, task: trio.lowlevel.Task) -> None:
        self._task: trio.lowlevel.Task | None = task

    def end(self) -> None:
        """End the wait, if it has not ended."""
        task, self._task = self._task, None
        if task is not None:
            trio.lowlevel.reschedule(task)

    def abort(self, _: object) -> trio.lowlevel.Abort:
        """Let the task leave, which is cancelled."""
        self._task = None
        return trio.lowlevel.Abort.SUCCEEDED

    @property
    def has_ended(self) -> bool:
        """Tell whether it has ended."""
        return self._task is None


class Call:
    """A call that is made at a moment, between the steps of tasks."""

    __slots__ = ("end",)
    has_ended = False

    def __init__(self, call: Callable[[], object]) -> None:
        self.end = call


class StageClock(trio.abc.Clock):
    """The clock of one simulation, in seconds since its beginning."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self._parked: list[tuple[float, int, Parked | Call]] = []
        self._order = itertools.count()
        self._idlers: Any = ()

    # -------------------------------------------------------------------------------------- what trio asks

    def start_clock(self) -> None:
        """Begin."""
        # Those who wait until nobody can go on (`wait_all_tasks_blocked`) come before any jump.
        self._idlers = sys.modules["trio._core._run"].GLOBAL_RUN_CONTEXT.runner.waiting_for_idle

    def current_time(self) -> float:
        """Give the seconds."""
        return self.seconds

    def deadline_to_sleep_time(self, deadline: float) -> float:
        """Jump to the next moment for which anybody waits. Trio asks where no task can go on."""
        if self._idlers:
            return math.inf
        parked = self._parked
        while parked and parked[0][2].has_ended:
            heapq.heappop(parked)
        moment = min(deadline, parked[0][0]) if parked else deadline
        if moment == math.inf:
            return math.inf
        self.jump(moment - self.seconds, moment)
        return 0.0

    # ------------------------------------------------------------------------------------------- who waits

    def jump(self, seconds: float, moment: float | None = None) -> None:
        """Go on by so many seconds, while everybody stands still; and on to a moment exactly, where it is given."""
        if seconds > 0:
            self.seconds = self.seconds + seconds if moment is None else moment
        while self._parked and self._parked[0][0] <= self.seconds:
            heapq.heappop(self._parked)[2].end()

    async def park(self, parked: Parked, seconds: float | None) -> None:
        """Wait in the running task until somebody ends it, or so many seconds are over."""
        if seconds is not None:
            heapq.heappush(self._parked, (self.seconds + seconds, next(self._order), parked))
        await trio.lowlevel.wait_task_rescheduled(parked.abort)

    def call_later(self, seconds: float, call: Callable[[], object]) -> None:
        """Have a call made in so many seconds, when no task can go on."""
        heapq.heappush(self._parked, (self.seconds + seconds, next(self._order), Call(call)))

    async def sleep(self, seconds: float) -> None:
        """Wait in the running task for so many seconds."""
        if seconds > 0:
            await self.park(Parked(trio.lowlevel.current_task()), seconds)
        else:
            await trio.lowlevel.checkpoint()

    # ----------------------------------------------------------------------------- what the machine's clocks tell

    def monotonic(self) -> float:
        """Give seconds of a clock that never jumps back."""
        return _UPTIME + self.seconds

    def now(self) -> datetime:
        """Give the time of day."""
        return _START + timedelta(microseconds=round(self.seconds * 1e6))

    def time_ns(self) -> int:
        """Give the same as nanoseconds since the epoch."""
        return (_START_MICROS + round(self.seconds * 1e6)) * 1_000


def current_clock() -> StageClock:
    """Give the clock of the simulation that goes on here."""
    return cast("StageClock", trio.lowlevel.current_clock())
