"""Runs as the history has them: looked up, and given as the objects that programs hold."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, cast
from uuid import UUID

from callsheet._clock import monotonic
from callsheet._engine import decode
from callsheet._engine.places import Place, ThreadPlace, current_core
from callsheet._kernel.ports import Port, step
from callsheet._kernel.signals import Once
from callsheet._model.kinds import Kind
from callsheet._model.records import RunFilter, RunRecord
from callsheet._model.runs import FlowRun, TaskRun
from callsheet._model.states import State
from callsheet._store.protocol import Reader
from callsheet.exceptions import ObjectNotFound

RECORDED_WITHIN: Final = 1.0
"""Seconds after which a run of another process is on record for certain. Its id may be known before."""
_SOON: Final = 0.05  # seconds until it is looked again


async def the_run(reader: Reader, kind: Kind, run_id: UUID) -> RunRecord:
    """Give the record of a run.

    Raises:
        ObjectNotFound: there is no such run of this kind.
    """
    found = records_of((await reader.read_runs(RunFilter(kind=kind, ids=(run_id,)), limit=1)).items)
    if not found:
        what = kind.name.lower()
        raise ObjectNotFound(help_message=f"There is no {what} run with the id {run_id} in this history.")
    return found[0]


async def the_run_soon(place: Place, port: Port, kind: Kind, run_id: UUID) -> RunRecord:
    """Give the record of a run that may have begun just now, in another process.

    Raises:
        ObjectNotFound: there is no such run of this kind, and none came.
    """
    deadline = monotonic() + RECORDED_WITHIN
    while True:
        await place.catch_up()
        try:
            return await the_run(place.reader, kind, run_id)
        except ObjectNotFound:
            if monotonic() >= deadline:
                raise
        await port.wait(Once(), _SOON)


async def flow_runs(reader: Reader, records: Sequence[RunRecord]) -> list[FlowRun]:
    """Give flow runs, with what their earlier states say."""
    retried = [record.id for record in records if decode.needs_states(record)]
    states = await reader.read_states_of(retried) if retried else {}
    return [decode.flow_run(record, states) for record in records]


async def task_runs(reader: Reader, records: Sequence[RunRecord]) -> list[TaskRun]:
    """Give task runs, with what their earlier states and those of their flow runs say."""
    wanted = {record.flow_run_id for record in records if record.flow_run_id is not None}
    wanted.update(record.id for record in records if decode.needs_states(record))
    states = await reader.read_states_of(sorted(wanted)) if wanted else {}
    tracked = await children(reader, records)
    return [decode.task_run(record, states, tracked.get(record.id)) for record in records]


async def children(reader: Reader, records: Sequence[RunRecord]) -> dict[UUID, UUID]:
    """Give the subflow's run behind each task run that tracks one."""
    trackers = tuple(record.id for record in records if record.kind is Kind.TASK and decode.is_tracker(record))
    if not trackers:
        return {}
    page = await reader.read_runs(RunFilter(kind=Kind.FLOW, parent_task_run_ids=trackers), limit=len(trackers))
    return {run.parent_task_run_id: run.id for run in records_of(page.items) if run.parent_task_run_id is not None}


def records_of(items: Sequence[object]) -> list[RunRecord]:
    """Give the items of a page of runs."""
    return cast("list[RunRecord]", list(items))


def state_of_task_run(run_id: UUID) -> State[Any] | None:
    """Give the newest state of a task run, from the history that is current here (blocking).

    Raises:
        ObjectNotFound: there is no such task run.
        StoreError: the history cannot be read.
    """
    place = ThreadPlace(current_core())
    try:
        step(place.catch_up())
        record = step(the_run(place.reader, Kind.TASK, run_id))
    finally:
        step(place.reader.aclose())
    return None if record.state is None else decode.state(record.state, decode.state_details(record))
