"""What the ambient history tells of a run, for tests of behaviour that have no other way to look."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from callsheet._engine.ambient import ambient_core
from callsheet._model.records import RunFilter, RunRecord
from store_helpers import run_now


def states_of(run_id: Any) -> list[str]:
    """Name every state that a run entered, in order. Takes an id or a state of the run."""
    core = ambient_core()
    core.journal.flush()
    reader = core.store.blocking_reader()
    try:
        return [record.name for record in run_now(reader.read_states(_id(run_id)))]
    finally:
        run_now(reader.aclose())


def runs(**where: Any) -> list[RunRecord]:
    """Give the runs that match a filter, in order of creation."""
    core = ambient_core()
    core.journal.flush()
    reader = core.store.blocking_reader()
    try:
        return list(run_now(reader.read_runs(RunFilter(**where), limit=1000)).items)  # type: ignore[arg-type]
    finally:
        run_now(reader.aclose())


def inputs_of(run_id: Any) -> dict[str, list[UUID]]:
    """Give the runs behind each input that a run had."""
    (record,) = runs(ids=(_id(run_id),))
    return {name: list(sources) for name, sources in record.inputs}


def _id(run: Any) -> UUID:
    if isinstance(run, UUID):
        return run
    details = run.state_details
    return (
        details.task_run_id if details.flow_run_id is None or details.task_run_id is not None else details.flow_run_id
    )
