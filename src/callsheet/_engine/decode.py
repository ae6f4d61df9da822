"""From stored records to the objects that programs hold. Pure."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from datetime import timedelta
from hashlib import blake2b
from typing import Any, Final
from uuid import UUID

import msgspec

from callsheet._clock import from_micros
from callsheet._ids import flow_id, key_of_id
from callsheet._model.kept import NOT_RECORDED, metadata_of
from callsheet._model.kinds import TERMINAL_STATES, Kind, StateType
from callsheet._model.records import Definition, LogRecord, RunRecord, StateRecord
from callsheet._model.runs import Flow, FlowRun, FlowRunPolicy, Log, TaskRun, TaskRunPolicy, TaskRunResult
from callsheet._model.states import State, StateDetails

_RUNNING: Final = StateType.RUNNING
_PAUSED: Final = StateType.PAUSED
_PENDING: Final = StateType.PENDING


class _WithResult(msgspec.Struct):
    """What the details of a state say of its result: the metadata of a record, as JSON."""

    result: bytes | None = None


_OF_THE_RUN: Final = frozenset({"flow_run_id", "task_run_id", "child_flow_run_id"})
_pack = msgspec.msgpack.Encoder().encode
_details = msgspec.msgpack.Decoder(StateDetails).decode
_result = msgspec.msgpack.Decoder(_WithResult).decode
_extra = msgspec.msgpack.Decoder(dict[str, Any]).decode
_parameters = msgspec.json.Decoder(dict[str, Any]).decode

States = Mapping[UUID, Sequence[StateRecord]]


def is_tracker(record: RunRecord) -> bool:
    """Tell whether a task run stands for a subflow's run: it is no run of a task."""
    return "task_key" not in extra_of(record)


def needs_states(record: RunRecord) -> bool:
    """Tell whether the time that a run has spent running does not follow from its record alone.

    It does where the run has not started, has just started, or went Pending, Running, and then to its third state.
    """
    state = record.state
    if state is None or record.started is None:
        return False
    return not (record.attempt <= 1 and (state.seq == 3 or (state.type is _RUNNING and state.seq == 2)))


def flow_run(record: RunRecord, states: States) -> FlowRun:
    """Give a flow run."""
    extra = extra_of(record)
    retries, delay = extra.get("policy", (0, 0))
    run = FlowRun(
        id=record.id,
        name=record.name,
        flow_id=flow_id(record.definition.name),
        flow_version=extra.get("version"),
        parameters={} if record.parameters is None else _parameters(record.parameters),
        empirical_policy=FlowRunPolicy(retries=retries, retry_delay=delay),
        parent_task_run_id=record.parent_task_run_id,
        idempotency_key=extra["run_key"][0] if "run_key" in extra else None,
        forked_from=UUID(bytes=extra["fork"][0]) if "fork" in extra else None,
    )
    _fill(run, record, states, state_details(record))
    return run


def task_run(record: RunRecord, states: States, child: UUID | None = None) -> TaskRun:
    """Give a task run. `child` is the subflow's run that it tracks."""
    extra = extra_of(record)
    retries, delay, jitter = (*extra.get("policy", (0, 0)), None)[:3]
    key = extra.get("task_key") or record.definition.key
    inputs: dict[str, list[Any]] = {name: [] for name in extra.get("parameters", ())}
    for name, sources in record.inputs:
        inputs.setdefault(name, []).extend(TaskRunResult(id=source) for source in sources)
    run = TaskRun(
        id=record.id,
        name=record.name,
        flow_run_id=record.flow_run_id,
        task_key=key,
        dynamic_key=extra.get("dynamic_key") or _dynamic_key(record, key),
        task_version=extra.get("version"),
        empirical_policy=TaskRunPolicy(retries=retries, retry_delay=delay, retry_jitter_factor=jitter),
        task_inputs=inputs,
        flow_run_run_count=_attempts_before(record, states),
    )
    _fill(run, record, states, state_details(record, child))
    return run


def _dynamic_key(record: RunRecord, key: str) -> str:
    """Give what the engine derives from a run's id; keys that were chosen otherwise are stored."""
    if record.flow_run_id is None:
        return f"{key}-{record.id.hex}"
    return key_of_id(record.id)


def _attempts_before(record: RunRecord, states: States) -> int:
    around = () if record.flow_run_id is None else states.get(record.flow_run_id, ())
    starts = (
        one
        for one, before in zip(around, (None, *around), strict=False)
        if before is None or before.seq == 1 or before.type not in (_PAUSED, _PENDING)  # it went on, or was taken up
    )
    return sum(state.type is _RUNNING and state.at <= record.created for state in starts)


def _fill(run: FlowRun | TaskRun, record: RunRecord, states: States, details: StateDetails) -> None:
    """Fill in what both kinds of runs have."""
    run.tags = list(record.tags)
    run.run_count = record.attempt
    run.created = from_micros(record.created)
    run.expected_start_time = from_micros(record.created if record.due_at is None else record.due_at)
    run.total_run_time = timedelta(microseconds=_time_running(record, states.get(record.id)))
    if record.started is not None:
        run.start_time = from_micros(record.started)
    run.updated = run.created
    if record.state is not None:
        run.set_state(state(record.state, details))
        run.updated = from_micros(record.state.at)


def _time_running(record: RunRecord, states: Sequence[StateRecord] | None) -> int:
    if states is not None:
        return sum(after.at - one.at for one, after in itertools.pairwise(states) if one.type is _RUNNING)
    if record.started is None or record.state is None or record.state.type is _RUNNING:
        return 0
    return record.state.at - record.started


def state_details(record: RunRecord, child: UUID | None = None) -> StateDetails:
    """Give the details that every state of a run has."""
    if record.kind is Kind.FLOW:
        return StateDetails(flow_run_id=record.id, task_run_id=record.parent_task_run_id)
    return StateDetails(task_run_id=record.id, flow_run_id=record.flow_run_id, child_flow_run_id=child)


def encode_details(details: StateDetails, data: object = None) -> bytes | None:
    """Give the details that are set, without those that follow from the run, and where a kept result is."""
    unset = StateDetails()
    said = {
        name: value
        for name in details.__struct_fields__
        if name not in _OF_THE_RUN and (value := getattr(details, name)) != getattr(unset, name)
    }
    kept = metadata_of(data)
    if kept is not None:
        said["result"] = kept.dump_bytes()
    return _pack(said) if said else None


def _data(record: StateRecord) -> Any:
    """Give what a state that is read back holds: where its result is, or that it was not kept."""
    if record.type not in TERMINAL_STATES:
        return None
    if record.details is not None and b"result" in record.details:
        kept = _result(record.details).result
        if kept is not None:
            from callsheet._results.records import ResultRecordMetadata

            return ResultRecordMetadata.load_bytes(kept)
    return NOT_RECORDED


def state(record: StateRecord, of_run: StateDetails) -> State[Any]:
    """Give a state. What a body returned or raised is not with it: its data says where that is kept, or that it is not."""
    details = StateDetails() if record.details is None else _details(record.details)
    details.flow_run_id = of_run.flow_run_id
    details.task_run_id = of_run.task_run_id
    details.child_flow_run_id = of_run.child_flow_run_id
    at = from_micros(record.at)
    return State(
        id=record.id,
        type=record.type,
        name=record.name,
        timestamp=at,
        created=at,
        updated=at,
        message=record.message,
        state_details=details,
        data=_data(record),
    )


def log(record: LogRecord) -> Log:
    """Give a log record. Its id is derived from all that it says."""
    said = (record.flow_run_id, record.task_run_id, record.at, record.level, record.logger, record.message)
    digest = blake2b(repr(said).encode("utf-8", "backslashreplace"), digest_size=16).digest()
    return Log(
        id=UUID(bytes=digest, version=5),
        name=record.logger,
        level=record.level,
        message=record.message,
        timestamp=from_micros(record.at),
        flow_run_id=record.flow_run_id,
        task_run_id=record.task_run_id,
    )


def flows(definitions: Sequence[tuple[Definition, int | None]]) -> list[Flow]:
    """Give the flows behind definitions, by name: a flow has one for each version of its code."""
    found: dict[str, Flow] = {}
    for definition, created in definitions:
        first = None if created is None else from_micros(created)
        flow = found.get(definition.name)
        if flow is None:
            found[definition.name] = Flow(
                id=flow_id(definition.name), name=definition.name, created=first, updated=first
            )
        elif first is not None:
            flow.created = first if flow.created is None else min(flow.created, first)
            flow.updated = first if flow.updated is None else max(flow.updated, first)
    return list(found.values())


def extra_of(record: RunRecord) -> dict[str, Any]:
    """Give what is known of a run and never filtered by."""
    return {} if record.extra is None else _extra(record.extra)
