"""Signals to flow runs: values under a name, kept until the body asks for them, each given once.

They are among what a flow run was handed (`run_inputs`), under the keys ``signal:<name>:<id>``. The body that takes one
records it as a step, and in the same breath it moves to ``signal-taken:<name>:<id>``: a body that is taken up again gets it
from the record, and another attempt of the flow run, which does everything again, finds there what earlier ones took.

A long wait is not waited for in memory, if nothing else of its run is under way: the run is suspended, and whoever sends the
signal has it taken up.
"""

from __future__ import annotations

import heapq
import re
from math import inf
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

from callsheet._clock import from_micros, micros, until_look
from callsheet._engine.history import the_run_soon
from callsheet._engine.past import FOR_SIGNAL, details_of
from callsheet._engine.places import Place
from callsheet._engine.run_inputs import Bell, create, find, port_here, stored
from callsheet._engine.sleeping import could_leave, flow_body, is_alone, waiting
from callsheet._engine.steps import Step
from callsheet._engine.suspending import Wish, suspend_here
from callsheet._engine.waiting import lent
from callsheet._ids import new_id
from callsheet._kernel.ports import Port
from callsheet._model.engines import RunDue
from callsheet._model.kinds import TERMINAL_STATES, Kind, StateType
from callsheet._model.records import InputDropped
from callsheet._model.runs import FlowRunInput
from callsheet.exceptions import Pause, RunNotLive, SignalTimeout
from callsheet.settings import get_current_settings

if TYPE_CHECKING:
    from callsheet._engine.flow_run import FlowRunActor
    from callsheet._model.records import StateRecord

_NAME: Final = re.compile(r"[A-Za-z0-9._\-]+")
SIGNAL, SIGNAL_UNTIL = "signal:", "signal-until:"
"""What the keys of the two steps that a wait for a signal is begin with: what came, and until when it is waited for."""
_SENT, _TAKEN = "signal", "signal-taken"
_LOOK_AGAIN = 10.0  # seconds, in case that a commit was not heard of


def check_name(name: str) -> str:
    """Refuse a name that keys cannot carry.

    Raises:
        ValueError: It is empty, or has other characters than letters, digits, and ``. _ -``.
    """
    if not _NAME.fullmatch(name):
        raise ValueError(
            f"Names of signals must have only letters, digits, hyphens, underscores and dots; {name!r} does not."
        )
    return name


def signal_of(key: str) -> str | None:
    """Give the name of the signal that a flow run was handed under a key, if it is one."""
    kind, _, rest = key.partition(":")
    return rest.partition(":")[0] if kind in (_SENT, _TAKEN) else None


async def send(place: Place, port: Port, run_id: UUID, name: str, text: str, sender: str | None) -> None:
    """Keep a signal for a flow run, and wake it up.

    Raises:
        ObjectNotFound: There is no such flow run.
        RunNotLive: It has ended.
        ValueError: The name has characters that it may not have.
    """
    key = f"{_SENT}:{check_name(name)}:{new_id()}"
    state = (await the_run_soon(place, port, Kind.FLOW, run_id)).state
    if state is not None and state.type in TERMINAL_STATES:
        raise RunNotLive(
            f"The flow run {run_id} has ended in the state {state.name!r} and receives no signals any more."
        )
    await create(place, run_id, key, text, sender)
    state = (await the_run_soon(place, port, Kind.FLOW, run_id)).state
    if state is not None and state.type is StateType.PAUSED and _waits_for(state, name):
        await wake(place, run_id)


def _waits_for(state: StateRecord, name: str) -> bool:
    """Tell whether a run is suspended, or about to be, until a signal of this name comes."""
    return (details_of(state).pause_key or "").startswith(f"{FOR_SIGNAL}{name}:")


async def wake(place: Place, run_id: UUID) -> None:
    """Have a suspended run taken up, or one that is leaving as soon as it has left, by any engine that knows its flow."""
    core = place.core
    now = core.clock.micros()
    await place.apart(lambda: core.commit_guarded(RunDue(run_id, now)))
    heapq.heappush(core.dues, now)
    core.nudge()


def receiving_run() -> FlowRunActor:
    """Give the flow run whose body is executing here, and which can be sent signals.

    Raises:
        RuntimeError: None is, or nothing is kept of it.
    """
    run = flow_body()
    if run is None:
        raise RuntimeError("Signals are waited for in the body of a flow, not in tasks or outside of runs.")
    if not run.core.journal.keeps:
        raise RuntimeError("At durability 'off' nothing is kept, so this flow run cannot be sent signals.")
    return run


async def receive(run: FlowRunActor, place: Place, name: str, timeout: float | None) -> str:
    """Wait for the next signal of a name, and give its value as JSON.

    Raises:
        SignalTimeout: None came in time.
        Interrupted: The run must leave.
        ValueError: The name has characters that none has.
    """
    check_name(name)
    step = Step(run, f"{SIGNAL}{name}", {"name": name})
    limit = None if timeout is None else Step(run, f"{SIGNAL_UNTIL}{name}", {"name": name})
    if not step.known:
        if limit is not None and not limit.known:
            limit.record(run.core.clock.micros() + round((timeout or 0.0) * 1e6))
        one = _Waiting(run, place, name, None if limit is None else int(limit.value))
        with waiting(run):
            found = await lent(run, one.port, one.through)
        one.record(step, found)
    if step.value is None:
        raise SignalTimeout(f"No signal {name!r} came within {timeout} seconds.")
    taken, text = step.value
    run.signals[UUID(taken)] = None
    return text


async def last_look(waiting: _Waiting) -> None:
    """Have a run taken up at once that is about to leave, if its signal is there.

    Whoever sent it before Suspending was on record has not seen that the run is to be woken; whoever sends it later does.
    """
    if await waiting.oldest() is not None:
        await wake(waiting.place, waiting.run.cell.id)


class _Waiting:
    """One wait for one signal."""

    def __init__(self, run: FlowRunActor, place: Place, name: str, until: int | None) -> None:
        self.run = run
        self.place = place
        self.name = name
        self.until = until
        self.port = port_here()

    async def through(self) -> FlowRunInput | None:
        core, bell = self.run.core, Bell()
        longest = get_current_settings().sleep_suspends_after_seconds
        leaves_at = core.clock.micros() / 1e6 + longest if could_leave(self.run) else inf
        core.expect(bell.ring, expected=True)
        try:
            while True:
                bell.renew()
                found = await self.oldest()
                if found is not None:
                    return found
                now = core.clock.micros() / 1e6
                left = inf if self.until is None else self.until / 1e6 - now
                if left <= 0:
                    return None
                if now >= leaves_at and left > longest and is_alone(self.run):
                    await self._leave()
                    leaves_at = inf  # it cannot
                left = min(left, leaves_at - now) if leaves_at > now else left
                rest = until_look(None if left == inf else left, _LOOK_AGAIN)
                await self.port.wait(bell.once, rest, self.run.scope)
        finally:
            core.expect(bell.ring, expected=False)

    async def _leave(self) -> None:
        """Suspend the run until the signal comes; return only where it cannot be suspended."""
        run = self.run
        pauses, until = run.pauses, None if self.until is None else from_micros(self.until)
        try:
            await suspend_here(run, Wish(None, None, until), f"{FOR_SIGNAL}{self.name}:{new_id().hex}")
        except RuntimeError as error:
            run.logger().debug("The signal is waited for in memory. %s", error)
        except Pause:
            await last_look(self)
            raise
        finally:
            run.pauses = pauses  # it is none of those that the body counts

    async def oldest(self) -> FlowRunInput | None:
        """Give the oldest signal that this attempt has not taken, and take it: branches of the body may wait at once."""
        run_id = self.run.cell.id
        found = await find(self.place, run_id, f"{_SENT}:{self.name}:", None)
        if self.run.cell.attempt > 1:
            found += await find(self.place, run_id, f"{_TAKEN}:{self.name}:", None)
            found.sort(key=lambda signal: (signal.created, signal.id))
        mine = object()
        return next((one for one in found if self.run.signals.setdefault(one.id, mine) is mine), None)

    def record(self, step: Step, found: FlowRunInput | None) -> None:
        """Put on record what came, and take it out of what is waiting."""
        if found is None:
            step.record(None)
            return
        moved: list[Any] = []
        if found.key.startswith(f"{_SENT}:") and found.created is not None:
            moved.append(InputDropped(self.run.cell.id, found.key))
            key = f"{_TAKEN}:{self.name}:{found.id}"
            kept = stored(
                self.run.cell.id, key, found.value, at=micros(found.created), sender=found.sender, id=found.id
            )
            moved.append(kept)
        step.record((str(found.id), found.value), *moved)
