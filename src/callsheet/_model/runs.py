"""Runs as users hold them, in contexts, hooks and the client: mutable, with the newest state spread over fields."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, ClassVar, Final, Self
from uuid import UUID

import msgspec

from callsheet._clock import utc_now
from callsheet._ids import new_id, new_name
from callsheet._model.kinds import StateType
from callsheet._model.states import State

_NO_TIME: Final = timedelta(0)
# Names of their own: looking a member up in its enumeration costs as much as calling a function (3.11).
_RUNNING: Final = StateType.RUNNING
_SCHEDULED: Final = StateType.SCHEDULED


class Copies(msgspec.Struct):
    """Making and copying by the names that programs use."""

    @classmethod
    def model_construct(cls, **fields: Any) -> Self:
        """Make an object from just the fields that are given, unchecked, as tests do for contexts.

        Args:
            **fields: Any of the fields; the others have their defaults, or are `None`.

        Returns:
            The object.

        Raises:
            TypeError: There is no such field.

        Example:
            >>> FlowRun.model_construct(id="any", tags=["x"]).id
            'any'
        """
        needed: dict[str, Any] = {field.name: None for field in msgspec.structs.fields(cls) if field.required}
        return cls(**needed | fields)

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """Copy the object.

        Args:
            update: fields to set in the copy.
            deep: copy what it holds too.

        Returns:
            The copy.

        Example:
            >>> Flow(name="a").model_copy(update={"name": "b"}).name
            'b'
        """
        new = copy.deepcopy(self) if deep else copy.copy(self)
        return msgspec.structs.replace(new, **update) if update else new

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: Any) -> Any:
        """Let models of pydantic have fields of this class: checked by `isinstance`, kept as they are."""
        del source, handler
        from pydantic_core import core_schema

        return core_schema.is_instance_schema(cls)


# ------------------------------------------------------------------------------- inputs and policies


class TaskRunInput(msgspec.Struct, frozen=True):
    """Where one input of a run came from."""

    input_type: ClassVar[str]


class TaskRunResult(TaskRunInput, frozen=True):
    """The input is the result of another run."""

    input_type: ClassVar[str] = "task_run"
    id: UUID


class Parameter(TaskRunInput, frozen=True):
    """The input is a parameter of the flow run."""

    input_type: ClassVar[str] = "parameter"
    name: str


class Constant(TaskRunInput, frozen=True):
    """The input is a value of this type."""

    input_type: ClassVar[str] = "constant"
    type: str


class TaskRunPolicy(Copies, kw_only=True):
    """How a task run is retried. Delays are in seconds."""

    retries: int | None = None
    retry_delay: float | list[float] | None = None
    retry_jitter_factor: float | None = None


class FlowRunPolicy(Copies, kw_only=True):
    """How a flow run is retried, and which pauses it has been through. The delay is in seconds."""

    retries: int | None = None
    retry_delay: float | None = None
    pause_keys: set[str] = msgspec.field(default_factory=set[str])
    resuming: bool = False


# --------------------------------------------------------------------------------------------- runs


class Run(Copies, kw_only=True):
    """What task runs and flow runs have in common. Times are in UTC."""

    id: UUID = msgspec.field(default_factory=new_id)
    name: str = msgspec.field(default_factory=new_name)
    tags: list[str] = []
    labels: dict[str, Any] = {}
    state_id: UUID | None = None
    state_type: StateType | None = None
    state_name: str | None = None
    run_count: int = 0
    expected_start_time: datetime | None = None
    next_scheduled_start_time: datetime | None = None
    start_time: datetime | None = None
    end_time: datetime | None = None
    total_run_time: timedelta = _NO_TIME
    state: State[Any] | None = None
    created: datetime | None = None
    updated: datetime | None = None

    def set_state(self, state: State[Any]) -> None:
        """Take `state` as the newest one and bring the fields that repeat it up to date.

        The first Running sets the start; every time spent in Running adds to the total; a final state sets
        the end if the run had started. `run_count` is the engine's.

        Example:
            >>> run = TaskRun(task_key="t")
            >>> run.set_state(State(type="RUNNING"))
            >>> run.state_name, run.start_time == run.state.timestamp
            ('Running', True)
        """
        before, kind, moment = self.state, state.type, state.timestamp
        if before is not None and before.type is _RUNNING:
            self.total_run_time += moment - before.timestamp
        self.state = state
        self.state_id = state.id
        self.state_type = kind
        self.state_name = state.name
        if kind is _RUNNING:
            if self.start_time is None:
                self.start_time = moment
            self.end_time = self.next_scheduled_start_time = None
        elif kind is _SCHEDULED:
            self.next_scheduled_start_time = state.state_details.scheduled_time
            self.end_time = None
        else:
            self.next_scheduled_start_time = None
            self.end_time = moment if state.is_final() and self.start_time is not None else None

    @property
    def estimated_run_time(self) -> timedelta:
        """The time spent in Running so far, up to now if the run is in it."""
        state = self.state
        if state is None or state.type is not _RUNNING:
            return self.total_run_time
        return self.total_run_time + max(utc_now() - state.timestamp, _NO_TIME)

    @property
    def estimated_start_time_delta(self) -> timedelta:
        """How late the run started or, if it has not, is by now; zero where it is early or was never planned."""
        expected = self.expected_start_time
        if expected is None or (self.start_time is None and self.end_time is not None):
            return _NO_TIME
        return max((self.start_time or utc_now()) - expected, _NO_TIME)


class TaskRun(Run, kw_only=True):
    """One run of a task."""

    task_key: str
    dynamic_key: str = ""
    flow_run_id: UUID | None = None
    cache_key: str | None = None
    cache_expiration: datetime | None = None
    task_version: str | None = None
    empirical_policy: TaskRunPolicy = msgspec.field(default_factory=TaskRunPolicy)
    task_inputs: dict[str, list[TaskRunResult | Parameter | Constant]] = {}
    flow_run_run_count: int = 0


class FlowRun(Run, kw_only=True):
    """One run of a flow."""

    flow_id: UUID | None = None
    deployment_id: UUID | None = None
    deployment_version: str | None = None
    work_queue_name: str | None = None
    flow_version: str | None = None
    parameters: dict[str, Any] = {}
    idempotency_key: str | None = None
    context: dict[str, Any] = {}
    empirical_policy: FlowRunPolicy = msgspec.field(default_factory=FlowRunPolicy)
    parent_task_run_id: UUID | None = None
    auto_scheduled: bool = False
    forked_from: UUID | None = None


# ----------------------------------------------------------------------------------- other objects


class Flow(Copies, kw_only=True):
    """A flow as history knows it (not the callable one)."""

    id: UUID = msgspec.field(default_factory=new_id)
    name: str
    tags: list[str] = []
    labels: dict[str, Any] = {}
    created: datetime | None = None
    updated: datetime | None = None


class FlowRunInput(Copies, kw_only=True):
    """A piece of input that was stored for a flow run."""

    id: UUID = msgspec.field(default_factory=new_id)
    flow_run_id: UUID
    key: str
    value: str
    sender: str | None = None
    created: datetime | None = None
    updated: datetime | None = None

    @property
    def decoded_value(self) -> Any:
        """What `value`, which is JSON, says."""
        return msgspec.json.decode(self.value)


class Log(Copies, kw_only=True):
    """A log record of a run; `level` is a number of the standard library's logging."""

    id: UUID = msgspec.field(default_factory=new_id)
    name: str
    level: int
    message: str
    timestamp: datetime
    flow_run_id: UUID | None = None
    task_run_id: UUID | None = None
