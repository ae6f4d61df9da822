"""Does a record match a filter? The same meaning as the SQL of queries.py, for records in memory."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from callsheet._model.records import LogFilter, LogRecord, RunFilter, RunRecord


def run_matches(run: RunRecord, where: RunFilter) -> bool:
    """Tell whether a run matches every field of a filter that is set."""
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
    )


def log_matches(log: LogRecord, where: LogFilter) -> bool:
    """Tell whether a log record matches every field of a filter that is set."""
    return (
        _among(log.flow_run_id, where.flow_run_ids)
        and _among(log.task_run_id, where.task_run_ids)
        and (where.level_at_least is None or log.level >= where.level_at_least)
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
