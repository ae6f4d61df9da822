"""Which runs, flows and log records to read. Every condition that is set must hold; lists match any of their members.

Conditions may be given as objects or as nested mappings, and values as text where a program has them so:
``FlowRunFilter(state={"type": {"any_": ["FAILED"]}})``. Times need a time zone and are inclusive.
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID

import msgspec

from callsheet._later import later as _later
from callsheet._model.kinds import StateType

__all__ = [
    "Filter", "FlowFilter", "FlowFilterId", "FlowFilterName", "FlowRunFilter", "FlowRunFilterEndTime",
    "FlowRunFilterExpectedStartTime", "FlowRunFilterId", "FlowRunFilterName", "FlowRunFilterParentFlowRunId",
    "FlowRunFilterParentTaskRunId", "FlowRunFilterStartTime", "FlowRunFilterState", "FlowRunFilterStateName",
    "FlowRunFilterStateType", "FlowRunFilterTags", "LogFilter", "LogFilterFlowRunId", "LogFilterLevel",
    "LogFilterTaskRunId", "LogFilterTimestamp", "TaskRunFilter", "TaskRunFilterEndTime",
    "TaskRunFilterExpectedStartTime", "TaskRunFilterFlowRunId", "TaskRunFilterId", "TaskRunFilterName",
    "TaskRunFilterStartTime", "TaskRunFilterState", "TaskRunFilterStateName", "TaskRunFilterStateType",
    "TaskRunFilterSubFlowRuns", "TaskRunFilterTags", "as_filter",
]  # fmt: skip


class Filter(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Base of filters: checks what it is given, and turns mappings into conditions."""

    def __post_init__(self) -> None:
        for field in msgspec.structs.fields(type(self)):
            value = getattr(self, field.name)
            if value is None:
                continue
            try:
                value = msgspec.convert(value, field.type, strict=False)
            except msgspec.ValidationError as error:
                raise ValueError(f"{type(self).__name__}.{field.name}: {error}") from None
            if isinstance(value, datetime) and value.tzinfo is None:
                raise ValueError(f"{type(self).__name__}.{field.name}: the time {value} has no time zone")
            setattr(self, field.name, value)


class _Id(Filter):
    """By id."""

    any_: list[UUID] | None = None
    not_any_: list[UUID] | None = None


class _Name(Filter):
    """By name: one of these, or with this text in it (case of ASCII letters ignored)."""

    any_: list[str] | None = None
    like_: str | None = None


class _Tags(Filter):
    """By tags: all of these, any of these, or none at all (`is_null_=False`: at least one)."""

    all_: list[str] | None = None
    any_: list[str] | None = None
    is_null_: bool | None = None


class _StateType(Filter):
    """By the type of the current state."""

    any_: list[StateType] | None = None
    not_any_: list[StateType] | None = None


class _StateName(Filter):
    """By the name of the current state."""

    any_: list[str] | None = None
    not_any_: list[str] | None = None


class _Time(Filter):
    """By a moment."""

    before_: datetime | None = None
    after_: datetime | None = None


class _OptionalTime(_Time):
    """By a moment that a run may not have."""

    is_null_: bool | None = None


class _AnyId(Filter):
    """By the id of something else."""

    any_: list[UUID] | None = None


class _OptionalId(_AnyId):
    """By the id of something else, which a run may not have."""

    is_null_: bool | None = None


# -------------------------------------------------------------------------------------------- flows


class FlowFilterId(_AnyId):
    """Flows by id."""


class FlowFilterName(_Name):
    """Flows by name."""


class FlowFilter(Filter):
    """Which flows.

    Example:
        >>> FlowFilter(name=FlowFilterName(like_="census")).name.like_
        'census'
    """

    id: FlowFilterId | None = None
    name: FlowFilterName | None = None


# ---------------------------------------------------------------------------------------- flow runs


class FlowRunFilterId(_Id):
    """Flow runs by id."""


class FlowRunFilterName(_Name):
    """Flow runs by name."""


class FlowRunFilterTags(_Tags):
    """Flow runs by tags."""


class FlowRunFilterStateType(_StateType):
    """Flow runs by the type of their state."""


class FlowRunFilterStateName(_StateName):
    """Flow runs by the name of their state."""


class FlowRunFilterState(Filter):
    """Flow runs by their current state."""

    type: FlowRunFilterStateType | None = None
    name: FlowRunFilterStateName | None = None


class FlowRunFilterStartTime(_OptionalTime):
    """Flow runs by when their body was first started."""


class FlowRunFilterEndTime(_OptionalTime):
    """Flow runs by when they entered their final state."""


class FlowRunFilterExpectedStartTime(_Time):
    """Flow runs by when they were to start."""


class FlowRunFilterParentFlowRunId(_AnyId):
    """Subflow runs by the flow run around them."""


class FlowRunFilterParentTaskRunId(_OptionalId):
    """Subflow runs by the task run that tracks them; `is_null_=True`: flow runs that are no subflow's."""


class FlowRunFilter(Filter):
    """Which flow runs.

    Example:
        >>> FlowRunFilter(state={"type": {"any_": ["FAILED"]}}).state.type.any_
        [<StateType.FAILED: 'FAILED'>]
    """

    id: FlowRunFilterId | None = None
    name: FlowRunFilterName | None = None
    tags: FlowRunFilterTags | None = None
    state: FlowRunFilterState | None = None
    start_time: FlowRunFilterStartTime | None = None
    end_time: FlowRunFilterEndTime | None = None
    expected_start_time: FlowRunFilterExpectedStartTime | None = None
    parent_flow_run_id: FlowRunFilterParentFlowRunId | None = None
    parent_task_run_id: FlowRunFilterParentTaskRunId | None = None


# ---------------------------------------------------------------------------------------- task runs


class TaskRunFilterId(_Id):
    """Task runs by id."""


class TaskRunFilterName(_Name):
    """Task runs by name."""


class TaskRunFilterTags(_Tags):
    """Task runs by tags."""


class TaskRunFilterStateType(_StateType):
    """Task runs by the type of their state."""


class TaskRunFilterStateName(_StateName):
    """Task runs by the name of their state."""


class TaskRunFilterState(Filter):
    """Task runs by their current state."""

    type: TaskRunFilterStateType | None = None
    name: TaskRunFilterStateName | None = None


class TaskRunFilterStartTime(_OptionalTime):
    """Task runs by when their body was first started."""


class TaskRunFilterEndTime(_OptionalTime):
    """Task runs by when they entered their final state."""


class TaskRunFilterExpectedStartTime(_Time):
    """Task runs by when they were to start."""


class TaskRunFilterFlowRunId(_OptionalId):
    """Task runs by the flow run around them; `is_null_=True`: task runs outside of flow runs."""


class TaskRunFilterSubFlowRuns(Filter):
    """Task runs that track a subflow's run, or those that do not."""

    exists_: bool | None = None


class TaskRunFilter(Filter):
    """Which task runs.

    Example:
        >>> TaskRunFilter(name=TaskRunFilterName(any_=["parse-0"])).name.any_
        ['parse-0']
    """

    id: TaskRunFilterId | None = None
    name: TaskRunFilterName | None = None
    tags: TaskRunFilterTags | None = None
    state: TaskRunFilterState | None = None
    start_time: TaskRunFilterStartTime | None = None
    end_time: TaskRunFilterEndTime | None = None
    expected_start_time: TaskRunFilterExpectedStartTime | None = None
    flow_run_id: TaskRunFilterFlowRunId | None = None
    subflow_runs: TaskRunFilterSubFlowRuns | None = None


# --------------------------------------------------------------------------------------------- logs


class LogFilterLevel(Filter):
    """Log records by level, a number of the standard library's logging."""

    ge_: int | None = None
    le_: int | None = None


class LogFilterTimestamp(_Time):
    """Log records by when they were written."""


class LogFilterFlowRunId(_AnyId):
    """Log records of flow runs and of the task runs in them."""


class LogFilterTaskRunId(_AnyId):
    """Log records of task runs."""


class LogFilter(Filter):
    """Which log records.

    Example:
        >>> LogFilter(level={"ge_": 40}).level.ge_
        40
    """

    level: LogFilterLevel | None = None
    timestamp: LogFilterTimestamp | None = None
    flow_run_id: LogFilterFlowRunId | None = None
    task_run_id: LogFilterTaskRunId | None = None


def as_filter(value: Any, kind: type[Any], name: str) -> Any:
    """Give a filter from an object or a mapping.

    Raises:
        ValueError: it does not fit; the message says where.
        TypeError: it is neither.
    """
    if value is None or isinstance(value, kind):
        return value
    if not isinstance(value, dict):
        raise TypeError(f"Expected {kind.__name__} or a mapping for '{name}'; got {type(value).__name__} instead.")
    try:
        return msgspec.convert(value, kind, strict=False)
    except msgspec.ValidationError as error:
        raise ValueError(f"{name}: {error}") from None


if not TYPE_CHECKING:
    __getattr__ = _later(
        __name__,
        "DeploymentFilter",
        "DeploymentFilterId",
        "DeploymentFilterName",
        "DeploymentFilterTags",
        "WorkerFilter",
        "WorkerFilterStatus",
    )
