"""From the filters and orders that programs write to those that stores know."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from enum import Enum
from typing import Any, Final, TypeVar
from uuid import UUID

import msgspec

from callsheet._clock import micros
from callsheet._ids import flow_id
from callsheet._model import records
from callsheet._model.kinds import Kind, RunOrder
from callsheet._store.protocol import Reader
from callsheet.client.schemas.filters import FlowFilter, FlowRunFilter, LogFilter, TaskRunFilter, as_filter
from callsheet.client.schemas.sorting import FlowRunSort, LogSort, TaskRunSort

E = TypeVar("E", bound=Enum)

DEFAULT_LIMIT: Final = 200
"""How much one read gives where the program does not say."""
_ORDERS: Final = {
    "ID": RunOrder.CREATED,
    "START_TIME": RunOrder.STARTED,
    "EXPECTED_START_TIME": RunOrder.EXPECTED,
    "NAME": RunOrder.NAME,
    "END_TIME": RunOrder.ENDED,
}


async def flow_runs(reader: Reader, flow: Any, flow_run: Any, task_run: Any) -> records.RunFilter:
    """Give the store's filter for flow runs: of such flows, themselves such, with any such task run."""
    narrowed = _flow_runs(await _flow_names(reader, flow), as_filter(flow_run, FlowRunFilter, "flow_run_filter"))
    tasks = as_filter(task_run, TaskRunFilter, "task_run_filter")
    if tasks is None:
        return narrowed
    return msgspec.structs.replace(narrowed, any_task_run=_task_runs(tasks))


async def task_runs(reader: Reader, flow: Any, flow_run: Any, task_run: Any) -> records.RunFilter:
    """Give the store's filter for task runs: in runs of such flows, in such flow runs, themselves such."""
    narrowed = _task_runs(as_filter(task_run, TaskRunFilter, "task_run_filter"))
    names, around = await _flow_names(reader, flow), as_filter(flow_run, FlowRunFilter, "flow_run_filter")
    if names is None and around is None:
        return narrowed
    return msgspec.structs.replace(narrowed, flow_run=_flow_runs(names, around))


def named(flow: FlowFilter | None, known: Iterable[str]) -> tuple[str, ...]:
    """Give the names that a filter of flows lets through, each once."""
    found = list(dict.fromkeys(known))
    if flow is not None and flow.id is not None and flow.id.any_ is not None:
        ids = set(flow.id.any_)
        found = [name for name in found if flow_id(name) in ids]
    if flow is not None and flow.name is not None:
        if flow.name.any_ is not None:
            names = set(flow.name.any_)
            found = [name for name in found if name in names]
        if flow.name.like_ is not None:
            text = flow.name.like_.lower()
            found = [name for name in found if text in name.lower()]
    return tuple(found)


async def _flow_names(reader: Reader, flow: Any) -> tuple[str, ...] | None:
    """Give the names of the flows that are meant; `None` where all are. Flows are few: a row for each version."""
    wanted: FlowFilter | None = as_filter(flow, FlowFilter, "flow_filter")
    if wanted is None:
        return None
    return named(wanted, [definition.name for definition, _ in await reader.read_definitions(Kind.FLOW)])


def _flow_runs(names: tuple[str, ...] | None, where: FlowRunFilter | None) -> records.RunFilter:
    found: dict[str, Any] = {"kind": Kind.FLOW, "definition_names": names}
    if where is not None:
        found |= _common(where)
        if where.parent_flow_run_id is not None:
            found["flow_run_ids"] = _tuple(where.parent_flow_run_id.any_)
        if (parent := where.parent_task_run_id) is not None:
            found["parent_task_run_ids"] = _tuple(parent.any_)
            found["is_root"] = parent.is_null_  # a flow run that something called has a task run that tracks it
    return records.RunFilter(**found)


def _task_runs(where: TaskRunFilter | None) -> records.RunFilter:
    found: dict[str, Any] = {"kind": Kind.TASK}
    if where is not None:
        found |= _common(where)
        if (flow_run := where.flow_run_id) is not None:
            found["flow_run_ids"] = _tuple(flow_run.any_)
            found["is_in_flow_run"] = None if flow_run.is_null_ is None else not flow_run.is_null_
        if where.subflow_runs is not None:
            found["tracks_subflow"] = where.subflow_runs.exists_
    return records.RunFilter(**found)


def _common(where: FlowRunFilter | TaskRunFilter) -> dict[str, Any]:
    """Give what flow runs and task runs are both filtered by."""
    found: dict[str, Any] = {}
    if where.id is not None:
        found |= {"ids": _tuple(where.id.any_), "not_ids": _tuple(where.id.not_any_)}
    if where.name is not None:
        found |= {"names": _tuple(where.name.any_), "name_like": where.name.like_}
    if (tags := where.tags) is not None:
        found |= {"tags_all": _tuple(tags.all_), "tags_any": _tuple(tags.any_), "is_tagged": _not(tags.is_null_)}
    if (state := where.state) is not None:
        if state.type is not None:
            found |= {"state_types": _tuple(state.type.any_), "not_state_types": _tuple(state.type.not_any_)}
        if state.name is not None:
            found |= {"state_names": _tuple(state.name.any_), "not_state_names": _tuple(state.name.not_any_)}
    if (start := where.start_time) is not None:
        found |= _period(start, "started") | {"has_started": _not(start.is_null_)}
    if (end := where.end_time) is not None:
        found |= _period(end, "ended") | {"has_ended": _not(end.is_null_)}
    if where.expected_start_time is not None:
        found |= _period(where.expected_start_time, "expected")
    return found


def logs(where: Any) -> records.LogFilter:
    """Give the store's filter for log records."""
    wanted: LogFilter | None = as_filter(where, LogFilter, "log_filter")
    found: dict[str, Any] = {}
    if wanted is not None:
        if wanted.level is not None:
            found |= {"level_at_least": wanted.level.ge_, "level_at_most": wanted.level.le_}
        if wanted.timestamp is not None:
            found |= {"after": _micros(wanted.timestamp.after_), "before": _micros(wanted.timestamp.before_)}
        if wanted.flow_run_id is not None:
            found["flow_run_ids"] = _tuple(wanted.flow_run_id.any_)
        if wanted.task_run_id is not None:
            found["task_run_ids"] = _tuple(wanted.task_run_id.any_)
    return records.LogFilter(**found)


# ----------------------------------------------------------------------------------- orders and pages


def run_order(sort: FlowRunSort | TaskRunSort | str | None, kind: type[FlowRunSort | TaskRunSort]) -> dict[str, Any]:
    """Give the order of runs as arguments for a reader. Left out: the order of creation.

    Raises:
        NotImplementedError: the store cannot put runs in this order.
    """
    if sort is None:
        return {}
    name, _, direction = as_member(sort, kind).value.rpartition("_")
    order = _ORDERS.get(name)
    if order is None:
        raise NotImplementedError(f"sort={sort!s}: runs cannot be read in this order yet")
    return {"order": order, "newest_first": direction == "DESC"}


def log_order(sort: LogSort | str | None) -> dict[str, Any]:
    """Give the order of log records as arguments for a reader."""
    return {"newest_first": sort is not None and as_member(sort, LogSort) is LogSort.TIMESTAMP_DESC}


def as_member(value: Any, kind: type[E]) -> E:
    """Give a member of an enumeration from itself or its text.

    Raises:
        ValueError: there is no such member; the message names those that there are.
    """
    try:
        return kind(value)
    except ValueError:
        known = ", ".join(member.value for member in kind)
        raise ValueError(f"{value!r} is no {kind.__name__}; choose one of {known}") from None


def page(limit: int | None, offset: int | None, cursor: bytes | None) -> dict[str, Any]:
    """Give the place of a page as arguments for a reader.

    Raises:
        ValueError: `limit` or `offset` is negative.
    """
    for name, value in (("limit", limit), ("offset", offset)):
        if value is not None and value < 0:
            raise ValueError(f"'{name}' must be at least 0, not {value}")
    return {"limit": DEFAULT_LIMIT if limit is None else limit, "offset": offset or 0, "cursor": cursor}


def as_id(value: UUID | str) -> UUID:
    """Give an id from itself or its text.

    Raises:
        ValueError: the text is no id.
    """
    if isinstance(value, UUID):
        return value
    try:
        return UUID(value)
    except (ValueError, AttributeError, TypeError):
        raise ValueError(f"{value!r} is no id of a run or flow") from None


# --------------------------------------------------------------------------------------------- values


def _tuple(values: list[Any] | None) -> tuple[Any, ...] | None:
    return None if values is None else tuple(values)


def _not(value: bool | None) -> bool | None:
    return None if value is None else not value


def _micros(moment: datetime | None) -> int | None:
    return None if moment is None else micros(moment)


def _period(where: Any, name: str) -> dict[str, Any]:
    return {f"{name}_after": _micros(where.after_), f"{name}_before": _micros(where.before_)}
