"""Running flow runs again: retrying what did not complete, restarting from a task, and forking into a run of its own.

All three put a run on record that waits to be taken up, as after a suspension; this engine takes it up at once where it
knows the flow, else another one does. What is not to be run again is told by that record (`Reuse`), so that it holds as
well for whoever takes the run over if this process dies.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, Final
from uuid import UUID

import msgspec

from callsheet._clock import from_micros
from callsheet._engine import decode
from callsheet._engine.history import flow_runs, records_of, the_run
from callsheet._engine.known_flows import imported, take_here
from callsheet._engine.past import Fork, Reuse, fork_of, with_fork, with_reuse
from callsheet._engine.places import Place
from callsheet._ids import new_id, new_name
from callsheet._model.kinds import Kind, StateType
from callsheet._model.records import RunCreated, RunFilter, RunRecord, StateEntered
from callsheet._model.runs import FlowRun
from callsheet._model.states import StateDetails
from callsheet._rules.again import judge_again
from callsheet._rules.facts import Facts
from callsheet._rules.guards import AWAITING_RETRY
from callsheet._rules.verdicts import AcceptIf
from callsheet.exceptions import ObjectNotFound, RunNotRepeatable

_PAGE: Final = 1000
_from_json = msgspec.json.Decoder(dict[str, Any]).decode
_to_json = msgspec.json.Encoder().encode


async def again(place: Place, run_id: UUID, *, retry: bool, from_task: Any = None, flow: Any = None) -> FlowRun:
    """Begin a flow run that has ended once more.

    Args:
        place: Where this is asked for.
        run_id: The run.
        retry: Only what did not complete is to run; else everything from `from_task` on.
        from_task: The first task that is to run again; `None`: all of them.
        flow: What it is a run of, where no engine knows that.

    Raises:
        ObjectNotFound: There is no such flow run, or no such task in it.
        RunNotRepeatable: It cannot be run again now; the message says why.
        StoreError: The history cannot be written.
    """
    while True:
        await place.catch_up()
        record = await the_run(place.reader, Kind.FLOW, run_id)
        _refuse_subflow(record)
        known = _known_flow(place, record, flow)
        point = None if retry else 0 if from_task is None else await _point(place, record, from_task)
        now = place.core.clock.micros()
        entry = scheduled(record, now, point, retry=retry)
        if await place.apart(partial(place.core.commit_guarded, entry)) is None:
            return await _taken_up(place, run_id, known)


async def fork(
    place: Place, run_id: UUID, *, from_task: Any = None, parameters: Mapping[str, Any] | None = None, flow: Any = None
) -> FlowRun:
    """Begin a new flow run that takes over what another one has finished before a task.

    Args:
        place: Where this is asked for.
        run_id: The other one, which may be in any state.
        from_task: The first task that is to run anew; `None`: nothing that has completed runs.
        parameters: Those that differ, by name.
        flow: What it is a run of, where no engine knows that.

    Raises:
        ObjectNotFound: There is no such flow run, or no such task in it.
        RunNotRepeatable: It cannot be forked; the message says why.
        StoreError: The history cannot be written.
    """
    await place.catch_up()
    record = await the_run(place.reader, Kind.FLOW, run_id)
    _refuse_subflow(record)
    known = _known_flow(place, record, flow)
    now = place.core.clock.micros()
    point = now if from_task is None else await _point(place, record, from_task)
    new = new_id()
    older = fork_of(record)
    seed = record.id.bytes if older is None else older.seed
    created = RunCreated(
        id=new,
        kind=Kind.FLOW,
        definition=record.definition,
        name=new_name(),
        created=now,
        root_id=new,
        tags=record.tags,
        parameters=_merged(record, parameters),
        extra=with_fork(record.extra, Fork(record.id.bytes, point, seed)),
    )
    entered = StateEntered(
        run_id=new,
        seq=1,
        type=StateType.SCHEDULED,
        name="Scheduled",
        at=now,
        message=f"Forked from the flow run '{record.name}' ({record.id}).",
        details=decode.encode_details(StateDetails(scheduled_time=from_micros(now))),
    )
    await place.apart(lambda: place.core.commit_guarded(created, entered))
    return await _taken_up(place, new, known)


def _merged(record: RunRecord, parameters: Mapping[str, Any] | None) -> bytes | None:
    if not parameters:
        return record.parameters
    said = {} if record.parameters is None else _from_json(record.parameters)
    try:
        return _to_json({**said, **parameters})
    except TypeError as error:
        raise RunNotRepeatable(
            f"The parameters of a fork are stored as JSON, and these cannot be: {error}. Give plain values."
        ) from error


def scheduled(record: RunRecord, now: int, point: int | None = None, *, retry: bool) -> StateEntered:
    """Give the state from which a run goes on that is run again.

    Raises:
        RunNotRepeatable: There is a rule against it.
    """
    state = record.state
    seq = 0 if state is None else state.seq
    facts = Facts(now=now / 1e6, attempts=record.attempt, restart=True, foreign=True, run_id=record.id, seq=seq)
    verdict = judge_again(
        None if state is None else state.type, facts, name=None if state is None else state.name, retry=retry
    )
    if not isinstance(verdict, AcceptIf):
        reason = getattr(verdict, "reason", "its state does not allow it")
        raise RunNotRepeatable(f"The flow run '{record.name}' cannot be run again: {reason}")
    return StateEntered(
        run_id=record.id,
        seq=seq + 1,
        type=StateType.SCHEDULED,
        name=AWAITING_RETRY,
        at=now if state is None else max(now, state.at),
        state_id=new_id(),
        message="It was asked for again.",
        details=with_reuse(StateDetails(scheduled_time=from_micros(now)), Reuse(before=point)),
        attempt=record.attempt,
        guards=verdict.guards,
    )


def _refuse_subflow(record: RunRecord) -> None:
    if record.parent_id is not None:
        raise RunNotRepeatable(
            f"The flow run '{record.name}' is a subflow's. Run the one around everything again: {record.root_id}."
        )


def _known_flow(place: Place, record: RunRecord, flow: Any) -> Any:
    """Give the flow where this process knows it, `None` where another engine does.

    Raises:
        RunNotRepeatable: Nobody does.
    """
    core, key = place.core, record.definition.key
    if flow is not None:
        if flow._entrypoint != key:
            raise RunNotRepeatable(f"The flow run '{record.name}' is one of {key}, not of {flow._entrypoint}.")
        return flow
    known = core.flows.get(key) or imported(key)
    if known is None and not any(key in engine.flows and not engine.lost for engine in core.store.engines.read()):
        raise RunNotRepeatable(
            f"No engine that is alive knows the flow {key}. Import its module, or open `Engine(flows=[…])` with it."
        )
    return known


async def _point(place: Place, record: RunRecord, task: Any) -> int:
    """Give when the first run of a task was made, or the run that is named.

    Raises:
        ObjectNotFound: There is none.
    """
    name = str(getattr(task, "name", task))
    cursor, names = None, dict[str, None]()
    while True:
        page = await place.reader.read_runs(RunFilter(flow_run_ids=(record.id,)), limit=_PAGE, cursor=cursor)
        for one in records_of(page.items):
            if name in (str(one.id), one.name, one.definition.name):
                return one.created
            names[one.definition.name] = None
        cursor = page.cursor
        if cursor is None:
            known = ", ".join(map(repr, names)) or "none"
            raise ObjectNotFound(
                help_message=f"There is no run of a task {name!r} in the flow run '{record.name}'. Its tasks: {known}."
            )


async def _taken_up(place: Place, run_id: UUID, flow: Any) -> FlowRun:
    """Take a run up here if its flow is known here, and give it."""
    core = place.core
    if flow is not None:
        await place.apart(lambda: take_here(core, run_id, flow))
    else:
        core.nudge()  # maybe another engine of this process
    await place.catch_up()
    return (await flow_runs(place.reader, [await the_run(place.reader, Kind.FLOW, run_id)]))[0]
