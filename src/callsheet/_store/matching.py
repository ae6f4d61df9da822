"""Does a record match a filter? The same meaning as the SQL of queries.py, for records in memory."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from callsheet._model.records import LogFilter, LogRecord, RunFilter, RunRecord


def select(runs: Sequence[RunRecord], where: RunFilter) -> list[RunRecord]:
    """Give the runs that match, of all that there are: some of the questions are about other runs."""
    found = [run for run in runs if run_matches(run, where)]
    if where.tracks_subflow is not None:
        tracking = {run.parent_task_run_id for run in runs}
        found = [run for run in found if (run.id in tracking) is where.tracks_subflow]
    if where.flow_run is not None:
        around = {run.id for run in select(runs, where.flow_run)}
        found = [run for run in found if run.flow_run_id in around]
    if where.any_task_run is not None:
        holding = {run.flow_run_id for run in select(runs, where.any_task_run)}
        found = [run for run in found if run.id in holding]
    return found


def run_matches(run: RunRecord, where: RunFilter) -> bool:
    """Tell whether a run matches every field of a filter that is set, except what is asked of other runs."""
    state = run.state
    return (
        (where.kind is None or run.kind is where.kind)
        and _among(run.id, where.ids)
        and _among(run.name, where.names)
        and (where.name_like is None or _folded(where.name_like) in _folded(run.name))
        and _among(run.definition.name, where.definition_names)
        and _among(state and state.type, where.state_types)
        and _among(state and state.name, where.state_names)
        and (where.tags_all is None or set(where.tags_all) <= set(run.tags))
        and (where.tags_any is None or not set(where.tags_any).isdisjoint(run.tags))
        and _among(run.parent_id, where.parent_ids)
        and _among(run.flow_run_id, where.flow_run_ids)
        and _among(run.parent_task_run_id, where.parent_task_run_ids)
        and _among(run.root_id, where.root_ids)
        and (where.is_root is None or (run.parent_id is None) is where.is_root)
        and _between(run.created, where.created_after, where.created_before)
        and _between(run.started, where.started_after, where.started_before)
        and _between(run.ended, where.ended_after, where.ended_before)
        and _between(run.created if run.due_at is None else run.due_at, where.expected_after, where.expected_before)
        and _matches_absence(run, where)
    )


def _matches_absence(run: RunRecord, where: RunFilter) -> bool:
    state = run.state
    return (
        (where.not_ids is None or run.id not in where.not_ids)
        and (where.not_state_types is None or (state and state.type) not in where.not_state_types)
        and (where.not_state_names is None or (state and state.name) not in where.not_state_names)
        and (where.is_tagged is None or bool(run.tags) is where.is_tagged)
        and (where.has_started is None or (run.started is not None) is where.has_started)
        and (where.has_ended is None or (run.ended is not None) is where.has_ended)
        and (where.is_in_flow_run is None or (run.flow_run_id is not None) is where.is_in_flow_run)
    )


def log_matches(log: LogRecord, where: LogFilter) -> bool:
    """Tell whether a log record matches every field of a filter that is set."""
    return (
        _among(log.flow_run_id, where.flow_run_ids)
        and _among(log.task_run_id, where.task_run_ids)
        and _between(log.level, where.level_at_least, where.level_at_most)
        and _between(log.at, where.after, where.before)
    )


def _among(value: Any, wanted: Collection[Any] | None) -> bool:
    return wanted is None or value in wanted


def _between(value: int | None, after: int | None, before: int | None) -> bool:
    if after is None and before is None:
        return True
    return value is not None and (after is None or value >= after) and (before is None or value <= before)


def _folded(text: str) -> bytes:
    return text.encode("utf-8", "backslashreplace").lower()  # of ASCII only, as SQLite's LIKE does
