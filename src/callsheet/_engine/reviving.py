"""Taking up a flow run whose earlier life was cut off: by a crash of its process, by a suspension, or for a retry.

`revive` starts it as a detached root run of an engine: the same id, name, tags and parameters, its states going on from
where they are. Its body is called from the beginning; what it calls is taken from the run's `Memory` where it has ended
(see `memory` and `replaying`). A subflow that has not ended is taken up by the call that made it (`adopt`).

Who calls `revive` owns the run (it has claimed it, and the unfinished task runs in it are on record as crashed).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Final, NamedTuple, NoReturn, Protocol, cast
from uuid import UUID

import msgspec

from callsheet._clock import bare_context, micros
from callsheet._engine import decode
from callsheet._engine.history import records_of, the_run
from callsheet._engine.keyed import keyed_by
from callsheet._engine.leaving import NotRecoverable
from callsheet._engine.past import FOR_SIGNAL, Past, details_of, fork_of, past_of
from callsheet._engine.places import LoopPlace, ThreadPlace
from callsheet._engine.recording import Calls
from callsheet._kernel.messages import SetState, Suspend, TakeUp
from callsheet._kernel.ports import step
from callsheet._kernel.scopes import CANCEL, Interrupted
from callsheet._model.kinds import SUSPENDED, SUSPENDING, TERMINAL_STATES, Kind
from callsheet._model.records import RunFilter
from callsheet.exceptions import FlowPauseTimeout, LostOwnership, Pause, StoreError
from callsheet.logging.loggers import engine_log

if TYPE_CHECKING:
    from callsheet._engine.core import Core
    from callsheet._engine.flow_run import FlowRunActor
    from callsheet._engine.memory import Memory
    from callsheet._kernel.host import Host
    from callsheet._kernel.messages import Cell
    from callsheet._kernel.ports import Port
    from callsheet._model.records import RunRecord, StateRecord
    from callsheet._store.protocol import Reader

_LOG: Final = engine_log("callsheet.engine")
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
    place = ThreadPlace(core)
    try:
        step(place.catch_up())
        record = step(the_run(place.reader, Kind.FLOW, run_id))
    finally:
        step(place.reader.aclose())
    run = _adopted(core, record, flow, parameters or {}, home)
    _start(run)
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


def revive_all(core: Core, flows: dict[UUID, Any], backlog: Backlog) -> None:
    """Take up root flow runs, which this engine owns, as `revive` does; what there is of them is read at once.

    Args:
        core: The engine.
        flows: The flows of which they are runs, by the runs' ids. Those that were started are taken out.
        backlog: Told of each run that was started with what was read for it; what it gives is called when the run has that.

    Raises:
        EngineClosed: The engine takes no new runs.
        StoreError: The history cannot be read.
    """
    place = ThreadPlace(core)
    try:
        step(place.catch_up())
        ids = tuple(flows)
        found = records_of(step(place.reader.read_runs(RunFilter(kind=Kind.FLOW, ids=ids), limit=len(ids))).items)
        runs: list[FlowRunActor] = []
        for record in found:
            try:
                runs.append(_adopted(core, record, flows[record.id], {}, None))
            except ValueError as error:
                _LOG.warning("The run %s was taken up and could not be started: %s", record.id, error)
        _start_all(place.reader, runs, flows, backlog)
        flows.clear()
    finally:
        step(place.reader.aclose())


def _start_all(reader: Reader, runs: list[FlowRunActor], flows: dict[UUID, Any], backlog: Backlog) -> None:
    """Start runs with what is remembered of them. Where that is much, fewer at once; a single one reads it itself."""
    recalled = step(_recall(reader, runs)) if len(runs) > 1 else [None] * len(runs)
    if recalled is None:
        half = len(runs) // 2
        _start_all(reader, runs[:half], flows, backlog)
        _start_all(reader, runs[half:], flows, backlog)
        return
    for run, known in zip(runs, recalled, strict=True):
        if known is not None:
            run.recalled = known._replace(taken=backlog.add())
        _start(run)
        del flows[run.cell.id]


def _adopted(core: Core, record: RunRecord, flow: Any, parameters: dict[str, Any], home: Host | None) -> FlowRunActor:
    from callsheet._engine.flow_run import FlowRunActor

    if record.parent_id is not None:
        raise ValueError(f"The flow run {record.id} is a subflow's: it is taken up by the run around it.")
    if record.state is not None and record.state.type in TERMINAL_STATES:
        raise ValueError(f"The flow run {record.id} has ended as {record.state.name}.")
    run = FlowRunActor(core, flow, parameters, None, None, home or core.home, frozenset(record.tags))
    adopt(run, record, None)
    return run


def _start(run: FlowRunActor) -> None:
    from callsheet._engine import dispatch

    run.register(start=False)
    # Nothing of whoever calls but the time: no run of its own is around this one.
    bare_context(run.core.clock).run(dispatch.start, run, None)


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


class Backlog(Protocol):
    """Keeps count of the runs for which something was read that they have not got to yet."""

    def add(self) -> Callable[[], None]:
        """Count one more; give what is called when it has."""
        ...


class Recalled(NamedTuple):
    """What there is of a run's earlier lives."""

    past: Past
    memory: Memory
    ended: StateRecord | None  # in which somebody has ended it meanwhile
    taken: Callable[[], None] | None = None  # called when the run has this


async def _recall(reader: Reader, runs: Sequence[FlowRunActor]) -> list[Recalled] | None:
    """Read what there is of the earlier lives of runs that were adopted; `None`: it is too much for several at once."""
    from callsheet._engine.changes import watching
    from callsheet._engine.memory import Wanted, read_memories

    states = await reader.read_states_of([run.cell.id for run in runs])
    found = [states.get(run.cell.id, ()) for run in runs]
    wanted: list[Wanted] = []
    for run, known in zip(runs, found, strict=True):
        record = cast("RunRecord", run.past)
        past = past_of(record, known)
        has_other_code = run.cell.definition.code != record.definition.code
        is_other = has_other_code or past.reuse is not None or past.fork is not None
        wanted.append(Wanted(past, partial(watching, run, has_other_code=has_other_code) if is_other else None))
    memories = await read_memories(reader, wanted)
    if memories is None:
        return None
    ended = [known[-1] if known and known[-1].type in TERMINAL_STATES else None for known in found]
    return list(map(Recalled, (one.past for one in wanted), memories, ended))


async def remember(run: FlowRunActor, port: Port) -> None:
    """Take over what there is of the earlier lives of a run that was adopted, before its body is called.

    Raises:
        Interrupted: It was about to be cancelled, or has been ended by somebody else.
        NotRecoverable: Its parameters cannot be had back.
        StoreError: The history cannot be read.
    """
    core, cell, record = run.core, run.cell, cast("RunRecord", run.past)
    recalled = run.recalled or await _recall_alone(run, port)
    run.past = run.recalled = None
    past, memory, ended, taken = recalled
    if taken is not None:
        taken()
    if ended is not None:
        _leave_as(run, ended)
    cell.attempt, cell.due, cell.passed = past.attempts, past.due, past.passed
    run.spent = past.running
    if past.stopped is not None:
        _go_on_after(run, past.stopped)
    if past.cancelled:
        run.scope.cancel(CANCEL)
        raise Interrupted
    if cell.parent is None:
        run.parameters = parameters_of_record(run.definition, record, run.parameters)
    if not memory.is_empty:
        core.memories[cell.id] = memory


async def _recall_alone(run: FlowRunActor, port: Port) -> Recalled:
    place = ThreadPlace(run.core) if port.host is None else LoopPlace(run.core, port.host)
    try:
        await place.catch_up()
        return cast("list[Recalled]", await _recall(place.reader, (run,)))[0]
    finally:
        await place.reader.aclose()


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
    if state.name == SUSPENDING and details.pause_key.startswith(FOR_SIGNAL):
        return  # and this one first looks whether the signal has come
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


def parameters_of_record(flow: Any, record: RunRecord, given: dict[str, Any]) -> dict[str, Any]:
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
