"""Waiting for a moment. In a flow's body the moment is put on record, so that a later life waits only for the rest.

A long sleep is not waited for in memory, if nothing else of its run is under way: the run is suspended until the moment.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from callsheet._clock import Clock, current_clock, from_micros, until_look
from callsheet._engine.run_inputs import port_here
from callsheet._engine.steps import Step
from callsheet._engine.suspending import Wish, suspend_here
from callsheet._engine.waiting import lent
from callsheet._kernel.signals import Once
from callsheet._model.kinds import Durability
from callsheet.context import FlowRunContext, TaskRunContext, current_run
from callsheet.settings import get_current_settings

if TYPE_CHECKING:
    from callsheet._engine.flow_run import FlowRunActor
    from callsheet._kernel.ports import Port
    from callsheet._kernel.scopes import RunScope

SLEEP = "sleep"
"""The key of the step that a sleep is."""
_SLICE = 30.0
"""Seconds in one wait: so soon it is noticed that the clock was set, or that the machine was asleep."""


def flow_body() -> FlowRunActor | None:
    """Give the flow run whose body, and not a task's, is executing here."""
    run: Any = current_run.get()
    if TaskRunContext.get() is not None or FlowRunContext.get() is None:
        return None
    return run if run is not None and run.is_flow and not run.cell.ended else None


async def sleep(seconds: float | None, moment: int | None) -> None:
    """Wait for so many seconds, or until a moment (microseconds since the epoch).

    Raises:
        Interrupted: The run must leave.
        Pause: The run was suspended until then.
    """
    body, run, port = flow_body(), current_run.get(), port_here()
    clock = current_clock() if run is None else run.core.clock
    until = round((seconds or 0.0) * 1e6) + clock.micros() if moment is None else moment
    if body is not None:
        step = Step(body, SLEEP, {} if seconds is None else {"seconds": seconds})
        if not step.known:
            step.record(until)
        sleeping = _Sleep(body, int(step.value), port)
        with waiting(body):
            await lent(body, port, sleeping.through)
    elif run is None or run.cell.ended:
        await _wait_until(until, clock, port, None)
    else:
        await lent(run, port, lambda: _wait_until(until, clock, port, run.scope))


async def _wait_until(until: int, clock: Clock, port: Port, scope: RunScope | None) -> None:
    if until <= clock.micros():
        await port.checkpoint()
    while (left := until - clock.micros()) > 0:
        await port.wait(Once(), until_look(left / 1e6, _SLICE), scope)


@contextmanager
def waiting(run: FlowRunActor) -> Generator[None, None, None]:
    """Note that a branch of a body waits: a run is not suspended while another one of its branches does."""
    run.waits += 1
    try:
        yield
    finally:
        run.waits -= 1


def could_leave(run: FlowRunActor) -> bool:
    """Tell whether the engine would go on with a run whose body waits here, if it left its process meanwhile."""
    core = run.core
    return (
        run.cell.definition.key in core.flows
        and run.cell.parent is None
        and core.durability is not Durability.OFF
        and core.replay is None
        and run.calls.is_own_branch()
    )


def is_alone(run: FlowRunActor) -> bool:
    """Tell whether the one wait here is all that a run does."""
    return run.waits == 1 and not run.cell.children and run.cell.pause is None


class _Sleep:
    """A sleep in the body of a flow, which leaves its process meanwhile if it is long."""

    def __init__(self, run: FlowRunActor, until: int, port: Port) -> None:
        self._run = run
        self._until = until
        self._port = port
        self._stays = False

    async def through(self) -> None:
        run, longest = self._run, get_current_settings().sleep_suspends_after_seconds
        while self._left() > longest and not self._stays and could_leave(run):
            if is_alone(run):
                await self._leave()
            else:  # until what is under way has ended, perhaps
                await self._port.wait(Once(), until_look(self._left() - longest, _SLICE), run.scope)
        await _wait_until(self._until, run.core.clock, self._port, run.scope)

    def _left(self) -> float:
        return (self._until - self._run.core.clock.micros()) / 1e6

    async def _leave(self) -> None:
        """Suspend the run; return only where somebody has resumed it before the time, or it cannot be suspended."""
        run = self._run
        self._stays, pauses = True, run.pauses
        try:
            await suspend_here(run, Wish(None, None, from_micros(self._until)), f"sleep-{self._until}")
        except RuntimeError as error:
            run.logger().debug("The sleep is waited for in memory. %s", error)
        finally:
            run.pauses = pauses  # it is none of those that the body counts
