"""Taking up a flow run whose earlier life was cut off: by a crash of its process, by a suspension, or for a retry.

`revive` starts it as a detached root run of an engine: the same id, name, tags and parameters, its states going on from
where they are. Its body is called from the beginning; what it calls is taken from the run's `Memory` where it has ended
(see `memory` and `replaying`). A subflow that has not ended is taken up by the call that made it (`adopt`).

Who calls `revive` owns the run (it has claimed it, and the unfinished task runs in it are on record as crashed).
"""

from __future__ import annotations

from contextvars import Context
from functools import partial
from typing import TYPE_CHECKING, Any, Final, NoReturn
from uuid import UUID

import msgspec

from callsheet._clock import micros
from callsheet._engine import decode
from callsheet._engine.history import the_run
from callsheet._engine.keyed import keyed_by
from callsheet._engine.leaving import NotRecoverable
from callsheet._engine.past import details_of, fork_of, past_of
from callsheet._engine.places import LoopPlace, ThreadPlace
from callsheet._engine.recording import Calls
from callsheet._kernel.messages import SetState, Suspend, TakeUp
from callsheet._kernel.ports import step
from callsheet._kernel.scopes import CANCEL, Interrupted
from callsheet._model.kinds import SUSPENDED, SUSPENDING, TERMINAL_STATES, Kind
from callsheet.exceptions import FlowPauseTimeout, LostOwnership, Pause, StoreError

if TYPE_CHECKING:
    from callsheet._engine.core import Core
    from callsheet._engine.flow_run import FlowRunActor
    from callsheet._kernel.host import Host
    from callsheet._kernel.messages import Cell
    from callsheet._kernel.ports import Port
    from callsheet._model.records import RunRecord, StateRecord

_WHY: Final = "The run is taken up again where it was cut off."
_from_json = msgspec.json.Decoder(dict[str, Any]).decode


def revive(
    core: Core, run_id: UUID, flow: Any, *, parameters: dict[str, Any] | None = None, home: Host | None = None
) -> FlowRunActor:
    """Take up a root flow run, which this engine owns. Blocks while its record is read: in async code, call it apart.

    Async flows live on the engine's loop (else on the runtime thread's), sync ones on a thread. Nobody awaits the run;
    its end is in the history, and `when_ended` of the actor tells of it.

    Args:
        core: The engine.
        run_id: The run. Its state is not final; unless it is Pending already, it becomes Pending.
        flow: The flow that it is a run of.
        parameters: Its parameters, for where the history does not have them.
        home: The loop on which it lives where its flow is async. Default: the engine's.

    Returns:
        The run, which has been started.

    Raises:
        ObjectNotFound: There is no such flow run.
        ValueError: It is a subflow's, or has ended.
        EngineClosed: The engine takes no new runs.
        StoreError: The history cannot be read.
    """
    from callsheet._engine import dispatch
    from callsheet._engine.flow_run import FlowRunActor

    place = ThreadPlace(core)
    try:
        step(place.catch_up())
        record = step(the_run(place.reader, Kind.FLOW, run_id))
    finally:
        step(place.reader.aclose())
    if record.parent_id is not None:
        raise ValueError(f"The flow run {run_id} is a subflow's: it is taken up by the run around it.")
    if record.state is not None and record.state.type in TERMINAL_STATES:
        raise ValueError(f"The flow run {run_id} has ended as {record.state.name}.")
    run = FlowRunActor(core, flow, parameters or {}, None, None, home or core.home, frozenset(record.tags))
    adopt(run, record, None)
    run.register(start=False)
    Context().run(dispatch.start, run, None)  # nothing of whoever calls: no run of its own is around this one
    return run


def bring_to_life(
    core: Core, run_id: UUID, flow: Any, *, parameters: dict[str, Any] | None = None, home: Host | None = None
) -> FlowRunActor:
    """Do that with a run that was just claimed. If the history refuses, the run stays to be brought to life later.

    It belongs to this engine, which lives: nobody else would ever see to it.
    """
    try:
        return revive(core, run_id, flow, parameters=parameters, home=home)
    except LostOwnership:
        raise
    except StoreError:
        core.ownership.arrivals.stuck[run_id] = flow
        raise


def adopt(run: FlowRunActor, record: RunRecord, tracker: RunRecord | None) -> None:
    """Make a run that has not been registered the one of a record."""
    cell, state = run.cell, record.state
    cell.id, cell.root_id = record.id, record.root_id or record.id
    if state is not None:
        cell.type, cell.name, cell.seq = state.type, state.name, state.seq
    cell.attempt = record.attempt
    fork = fork_of(record)
    run.name, run.calls = record.name, Calls(record.id.bytes if fork is None else fork.seed)
    run.past, run.keyed = record, keyed_by(record)
    tracking = run.tracking
    if tracking is not None and tracker is not None:
        _adopt_tracker(tracking, tracker)


def _adopt_tracker(tracking: Cell, record: RunRecord) -> None:
    state = record.state
    tracking.id, tracking.attempt = record.id, record.attempt
    if state is not None:
        tracking.type, tracking.name, tracking.seq = state.type, state.name, state.seq
        tracking.ended = state.type in TERMINAL_STATES  # it has crashed with the process, and stays so


def take_up(run: FlowRunActor, record: RunRecord) -> int:
    """Put a run that was adopted among the living; give the position in the journal."""
    core, state = run.core, record.state
    core.admit(run.cell.parent)
    run.inputs = record.inputs
    if run.tracking is not None and not run.tracking.ended:
        core.ask(TakeUp(cell=run.tracking))
    answer = core.ask(TakeUp(cell=run.cell, why=_WHY))
    run.seq, run.at = answer.seq, answer.at if state is None or answer.seq != state.seq else state.at
    run.created, run.first_started = record.created, record.started or 0
    run.logger().info("Taking up the flow run where it was cut off.")
    return answer.position


async def remember(run: FlowRunActor, record: RunRecord, port: Port) -> None:
    """Read what there is of a run's earlier lives, before its body is called.

    Raises:
        Interrupted: It was about to be cancelled, or has been ended by somebody else.
        NotRecoverable: Its parameters cannot be had back.
        StoreError: The history cannot be read.
    """
    from callsheet._engine.changes import watching
    from callsheet._engine.memory import read_memory

    core, cell = run.core, run.cell
    place = ThreadPlace(core) if port.host is None else LoopPlace(core, port.host)
    try:
        await place.catch_up()
        states = await place.reader.read_states(cell.id)
        if states and states[-1].type in TERMINAL_STATES:
            _leave_as(run, states[-1])
        past = past_of(record, states)
        has_other_code = run.cell.definition.code != record.definition.code
        is_other = has_other_code or past.reuse is not None or past.fork is not None
        watch = partial(watching, run, has_other_code=has_other_code) if is_other else None
        memory = await read_memory(place.reader, past, watch)
    finally:
        await place.reader.aclose()
    cell.attempt, cell.due, cell.passed = past.attempts, past.due, past.passed
    run.spent = past.running
    if past.stopped is not None:
        _go_on_after(run, past.stopped)
    if past.cancelled:
        run.scope.cancel(CANCEL)
        raise Interrupted
    if cell.parent is None:
        run.parameters = _parameters(run.definition, record, run.parameters)
    if not memory.is_empty:
        core.memories[cell.id] = memory


def _leave_as(run: FlowRunActor, state: StateRecord) -> NoReturn:
    """Let a run end as somebody has ended it on the record, a moment before it was taken up."""
    cell = run.cell
    cell.seq = state.seq
    cell.overruled = SetState(
        run_id=cell.id, kind=cell.kind, type=state.type, name=state.name, message=state.message, at=state.at
    )
    run.scope.cancel(CANCEL)
    raise Interrupted


def _go_on_after(run: FlowRunActor, state: StateRecord) -> None:
    """See to the suspension that a run left by, and that nobody has resumed it from.

    Raises:
        FlowPauseTimeout: It has timed out.
        Pause: The run was cut off while it was leaving: it stays suspended.
    """
    details = details_of(state)
    if state.name not in (SUSPENDED, SUSPENDING) or details.pause_key is None:
        return  # the body pauses there once more
    core, cell, now = run.core, run.cell, run.core.clock.now()
    if details.scheduled_time is not None and details.scheduled_time <= now:
        cell.passed = (*(cell.passed or ()), details.pause_key)
    elif details.pause_timeout is not None and details.pause_timeout <= now:
        raise FlowPauseTimeout("Flow run was paused and never resumed")
    elif state.name == SUSPENDING:
        until = details.scheduled_time or details.pause_timeout
        order = Suspend(
            run_id=cell.id,
            key=details.pause_key,
            details=state.details or b"",
            due=None if until is None else micros(until),
        )
        core.ask(order)
        raise Pause


def _parameters(flow: Any, record: RunRecord, given: dict[str, Any]) -> dict[str, Any]:
    """Give a root run's parameters as the history has them, else as they are given; the flow makes of them what it can.

    Raises:
        NotRecoverable: It has not all of them.
    """
    if flow.isgenerator:
        raise NotRecoverable("its items went to a caller who is gone")
    said = {} if record.parameters is None else _from_json(record.parameters)
    binder = flow._binder
    parameters = dict(zip(binder.names, flow._bound, strict=False)) | said
    lost = [name for name in decode.extra_of(record).get("opaque", ()) if _is_placeholder(said.get(name))]
    lost += [name for name in binder.names if name not in binder.with_defaults(parameters)]
    if lost and given:
        return given
    if lost:
        raise NotRecoverable(f"the history has no value of its parameters {', '.join(map(repr, lost))}")
    return parameters


def _is_placeholder(value: object) -> bool:
    return isinstance(value, str) and value.startswith("<") and value.endswith(">")
