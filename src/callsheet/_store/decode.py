"""From rows back to records. Pure; the order of columns is that of queries.py."""

from __future__ import annotations

import itertools
import operator
from collections.abc import Iterable, Sequence
from typing import Any
from uuid import UUID

from callsheet._ids import state_id as derived_state_id
from callsheet._model.kinds import Kind
from callsheet._model.records import (
    Definition,
    InputRecord,
    LogRecord,
    OutcomeRecord,
    ResultBlob,
    RunRecord,
    StateRecord,
)
from callsheet._store.codes import TERMINAL, name_of, type_of

Row = Sequence[Any]
Inputs = tuple[tuple[str, tuple[UUID, ...]], ...]


def runs(rows: Sequence[Row], tags: Iterable[Row], inputs: Iterable[Row]) -> tuple[RunRecord, ...]:
    """Give the runs of a page with their tags and inputs."""
    tags_by_run: dict[bytes, list[str]] = {}
    for run, tag in tags:
        tags_by_run.setdefault(run, []).append(tag)
    inputs_by_run: dict[bytes, dict[str, list[UUID]]] = {}
    for run, parameter, source in inputs:
        sources = inputs_by_run.setdefault(run, {}).setdefault(parameter, [])
        if source:
            sources.append(UUID(bytes=source))
    known: dict[tuple[int, str, str, str], Definition] = {}
    return tuple(
        _run(row, tuple(tags_by_run.get(row[0], ())), _inputs(inputs_by_run.get(row[0], {})), known) for row in rows
    )


def _inputs(found: dict[str, list[UUID]]) -> Inputs:
    return tuple((name, tuple(sources)) for name, sources in found.items())


def _run(
    row: Row, tags: tuple[str, ...], inputs: Inputs, known: dict[tuple[int, str, str, str], Definition]
) -> RunRecord:
    (
        run, kind, key, definition_name, code, name, created, parent, flow, tracking, root, due, started, attempt,
        fence, extra, owner, recoveries, seq, state_type, state_name, state_at, state_id, message, details, parameters,
    ) = row  # fmt: skip
    said = (kind, key or "", definition_name or "", code or "")
    definition = known.get(said)
    if definition is None:
        definition = known[said] = Definition(Kind(kind), *said[1:])
    id_ = UUID(bytes=run)
    state = None
    if state_type is not None and state_at is not None:
        state = _state(id_, (seq, state_id, state_type, state_name, state_at, message, details))
    return RunRecord(
        id=id_,
        kind=Kind(kind),
        definition=definition,
        name=name,
        created=created,
        parent_id=_uuid(parent),
        flow_run_id=_uuid(flow),
        parent_task_run_id=_uuid(tracking),
        root_id=_uuid(root),
        due_at=due,
        started=started,
        ended=state_at if state_type in TERMINAL else None,
        attempt=attempt,
        state=state,
        fence=fence,
        owner=_uuid(owner),
        recoveries=recoveries,
        tags=tags,
        inputs=inputs,
        parameters=parameters,
        extra=extra,
    )


def states(run_id: UUID, rows: Iterable[Row]) -> tuple[StateRecord, ...]:
    """Give the states of a run."""
    return tuple(_state(run_id, row) for row in rows)


def states_of_many(rows: Iterable[Row]) -> dict[UUID, tuple[StateRecord, ...]]:
    """Give the states of several runs, whose ids stand in front of the rows."""
    return {
        run_id: states(run_id, (row[1:] for row in of_run))
        for run, of_run in itertools.groupby(rows, key=operator.itemgetter(0))
        for run_id in (UUID(bytes=run),)
    }


def _state(run_id: UUID, row: Row) -> StateRecord:
    seq, id_, code, name, at, message, details = row
    return StateRecord(
        run_id=run_id,
        seq=seq,
        id=derived_state_id(run_id, seq) if id_ is None else UUID(bytes=id_),
        type=type_of(code),
        name=name_of(code, name),
        at=at,
        message=message,
        details=details,
    )


def logs(rows: Iterable[Row]) -> tuple[LogRecord, ...]:
    """Give log records."""
    return tuple(
        LogRecord(
            flow_run_id=_uuid(scope) if scope and scope != task else None,
            task_run_id=_uuid(task),
            at=at,
            level=level,
            logger=logger,
            message=message,
            n=n,
        )
        for scope, at, n, task, level, logger, message in rows
    )


def outcomes(flow_run_id: UUID, rows: Iterable[Row]) -> tuple[OutcomeRecord, ...]:
    """Give the outcomes of a flow run, in the order of their runs."""
    return tuple(
        OutcomeRecord(
            flow_run_id=flow_run_id,
            identity=identity,
            run_id=UUID(bytes=run),
            status=type_of(status),
            recorded=bool(recorded),
            inputs_digest=inputs_digest,
            result=None if codec is None else ResultBlob(codec, size, inline, uri, digest),
        )
        for identity, run, status, recorded, inputs_digest, codec, size, digest, uri, inline in rows
    )


def outcomes_of_many(rows: Iterable[Row]) -> dict[UUID, tuple[OutcomeRecord, ...]]:
    """Give the outcomes of several flow runs, whose ids stand in front of the rows."""
    return {
        flow_run_id: outcomes(flow_run_id, (row[1:] for row in of_run))
        for run, of_run in itertools.groupby(rows, key=operator.itemgetter(0))
        for flow_run_id in (UUID(bytes=run),)
    }


def inputs(run_id: UUID, rows: Iterable[Row]) -> tuple[InputRecord, ...]:
    """Give what a flow run was handed."""
    return tuple(
        InputRecord(run_id=run_id, key=key, id=UUID(bytes=id), at=at, value=value, sender=sender)
        for key, id, at, value, sender in rows
    )


def _uuid(value: bytes | None) -> UUID | None:
    return None if value is None else UUID(bytes=value)
