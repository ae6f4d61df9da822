"""What a memory store knows of runs, and the records that it makes of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from uuid import UUID

import msgspec

from callsheet._ids import state_id as derived_state_id
from callsheet._model.engines import RunDue
from callsheet._model.kinds import TERMINAL_STATES, StateType
from callsheet._model.records import (
    InputRecord,
    InputStored,
    LogRecord,
    LogWritten,
    OutcomeRecord,
    OutcomeRecorded,
    RunCreated,
    RunRecord,
    RunRenamed,
    StateEntered,
    StateRecord,
    gives_up_owner,
    is_usual,
)


class KnownRun:
    """What is known of one run: its creation, and what became of it."""

    __slots__ = ("created", "due", "fence", "inputs", "name", "owner", "parameters", "recoveries", "since")

    def __init__(self, created: RunCreated) -> None:
        self.created = created
        self.name = created.name
        self.parameters = created.parameters
        self.owner = created.owner
        self.due = created.due_at
        self.fence = self.recoveries = self.since = 0  # the state with which the owner took it up
        self.inputs: dict[str, set[UUID]] = {}
        self.resolve(created.inputs, None)

    def amend(self, entry: RunRenamed | RunDue) -> None:
        """Note another name, or another time."""
        if isinstance(entry, RunDue):
            self.due = entry.due_at
        else:
            self.name = entry.name

    def resolve(self, inputs: Iterable[tuple[str, Iterable[UUID]]], parameters: bytes | None) -> None:
        """Note what came in from other runs."""
        for parameter, sources in inputs:
            self.inputs.setdefault(parameter, set()).update(sources)
        if parameters is not None:
            self.parameters = parameters


def record_of(run: KnownRun, states: Mapping[int, StateEntered]) -> RunRecord:
    """Give a run with what its states say."""
    created = run.created
    newest = states[max(states)] if states else None
    return RunRecord(
        id=created.id,
        kind=created.kind,
        definition=created.definition,
        name=run.name,
        created=created.created,
        parent_id=created.parent_id,
        flow_run_id=created.flow_run_id,
        parent_task_run_id=created.parent_task_run_id,
        root_id=created.root_id,
        due_at=run.due,
        started=_first_start(states),
        ended=newest.at if newest is not None and newest.type in TERMINAL_STATES else None,
        attempt=0 if newest is None else newest.attempt,
        fence=run.fence,
        owner=None if _was_given_up(run, states) else run.owner,
        recoveries=run.recoveries,
        state=None if newest is None else state_of(newest),
        tags=tuple(sorted(set(created.tags))),
        inputs=tuple((name, tuple(sorted(run.inputs[name]))) for name in sorted(run.inputs)),
        parameters=run.parameters,
        extra=created.extra,
    )


def _was_given_up(run: KnownRun, states: Mapping[int, StateEntered]) -> bool:
    return any(gives_up_owner(one.type, one.name) for seq, one in states.items() if seq > run.since)


def _first_start(states: Mapping[int, StateEntered]) -> int | None:
    first = states.get(2)
    if first is not None and is_usual(first):
        return first.at
    return min((one.at for one in states.values() if one.type is StateType.RUNNING), default=None)


def state_of(state: StateEntered) -> StateRecord:
    """Give a state as readers see it."""
    return StateRecord(
        run_id=state.run_id,
        seq=state.seq,
        id=state.state_id or derived_state_id(state.run_id, state.seq),
        type=state.type,
        name=state.name,
        at=state.at,
        message=state.message,
        details=state.details,
    )


def input_of(entry: InputStored) -> InputRecord:
    """Give what a run was handed as readers see it."""
    return InputRecord(
        run_id=entry.run_id, key=entry.key, id=entry.id, at=entry.at, value=entry.value, sender=entry.sender
    )


def log_of(log: LogWritten) -> LogRecord:
    """Give a log record as readers see it."""
    return LogRecord(
        flow_run_id=log.flow_run_id,
        task_run_id=log.task_run_id,
        at=log.at,
        level=log.level,
        logger=log.logger,
        message=log.message,
        n=log.n,
    )


def outcome_of(outcome: OutcomeRecorded) -> OutcomeRecord:
    """Give an outcome as readers see it."""
    return OutcomeRecord(**msgspec.structs.asdict(outcome))
