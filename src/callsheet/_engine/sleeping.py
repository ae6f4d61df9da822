"""Waiting for a moment. In a flow's body the moment is put on record, so that a later life waits only for the rest."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from callsheet._clock import SYSTEM_CLOCK, Clock
from callsheet._engine.run_inputs import port_here
from callsheet._engine.steps import Step
from callsheet._engine.waiting import lent
from callsheet._kernel.signals import Once
from callsheet.context import FlowRunContext, TaskRunContext, current_run

if TYPE_CHECKING:
    from callsheet._engine.flow_run import FlowRunActor
    from callsheet._kernel.ports import Port
    from callsheet._kernel.scopes import RunScope

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
    """
    body, run, port = flow_body(), current_run.get(), port_here()
    clock = SYSTEM_CLOCK if run is None else run.core.clock
    until = int((seconds or 0.0) * 1e6) + clock.micros() if moment is None else moment
    if body is not None:
        step = Step(body, "sleep", {} if seconds is None else {"seconds": seconds})
        if not step.known:
            step.record(until)
        until = int(step.value)
    if run is None or run.cell.ended:
        await _wait_until(until, clock, port, None)
    else:
        await lent(run, port, lambda: _wait_until(until, clock, port, run.scope))


async def _wait_until(until: int, clock: Clock, port: Port, scope: RunScope | None) -> None:
    if until <= clock.micros():
        await port.checkpoint()
    while (left := until - clock.micros()) > 0:
        await port.wait(Once(), min(left / 1e6, _SLICE), scope)
