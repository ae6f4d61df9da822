"""The state of a run as users hold it: mutable, generic in the run's result, a few microseconds to make."""

from __future__ import annotations

import copy
import importlib
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final, Generic, Literal, Protocol, Self, TypeVar, cast, get_type_hints, overload
from uuid import UUID

import msgspec

from callsheet._clock import utc_now
from callsheet._ids import new_id
from callsheet._model.kept import Kept, KeptElsewhere
from callsheet._model.kinds import TERMINAL_STATES, StateType

R = TypeVar("R")


_FILLED_IN: Final[Any] = None  # a default that `__post_init__` replaces
_SCHEDULED: Final = StateType.SCHEDULED  # looking a member up in its enumeration costs as much as a call (3.11)

DEFAULT_NAMES: Final[dict[StateType, str]] = {kind: kind.value.capitalize() for kind in StateType}


class StateDetails(msgspec.Struct, kw_only=True):
    """What is known of a state besides its type, name and message. Unset fields are `None` or `False`."""

    flow_run_id: UUID | None = None
    task_run_id: UUID | None = None
    child_flow_run_id: UUID | None = None
    scheduled_time: datetime | None = None
    cache_key: str | None = None
    cache_expiration: datetime | None = None
    refresh_cache: bool | None = None
    deferred: bool | None = None
    task_parameters_id: UUID | None = None
    retriable: bool | None = None
    pause_timeout: datetime | None = None
    pause_reschedule: bool = False
    pause_key: str | None = None
    run_input_keyset: dict[str, str] | None = None


class StateCreate(msgspec.Struct, kw_only=True):
    """The part of a state that may be sent elsewhere: no identity, no time, no local data."""

    type: StateType
    name: str | None = None
    message: str | None = None
    state_details: StateDetails = msgspec.field(default_factory=StateDetails)
    data: Any = None


class ResultReader(Protocol):
    """How `State.result` finds a value. The engine, which knows run contexts, puts its own way in here."""

    def __call__(self, state: State[Any], *, raise_on_failure: bool, retry_result_failure: bool, dual: bool) -> Any:
        """Give the value or a coroutine of it: by the place of the call if `dual`, else always a coroutine."""
        ...


class State(msgspec.Struct, Generic[R], kw_only=True, eq=False):
    """The state of a run.

    Args:
        type: one of the nine types; its string is accepted.
        name: refines the type; by default the type's own word, such as "Completed".
        message: a sentence for people.
        state_details: run ids, scheduled time and more; a mapping is accepted.
        data: the run's value or exception.
        timestamp: when the state was entered; now, in UTC, by default.
        id: of this state.
        created: when this object was made.
        updated: when it was last stored.

    Raises:
        ValueError: `type` names no type.

    Example:
        >>> State(type="COMPLETED", message="done", data=1)
        Completed(message='done', type=COMPLETED, result=1)
    """

    type: StateType
    name: str = _FILLED_IN
    timestamp: datetime = msgspec.field(default_factory=utc_now)
    message: str | None = None
    state_details: StateDetails = msgspec.field(default_factory=StateDetails)
    data: Any = None
    id: UUID = msgspec.field(default_factory=new_id)
    created: datetime = _FILLED_IN
    updated: datetime = _FILLED_IN

    def __post_init__(self) -> None:
        """Fill in what depends on other fields."""
        kind: Any = self.type
        if kind.__class__ is not StateType:
            self.type = kind = StateType(kind)
        # Cheaper than three default factories, which could not know type and timestamp either.
        if self.name is _FILLED_IN:
            self.name = DEFAULT_NAMES[kind]
        if self.created is _FILLED_IN:
            self.created = self.timestamp
        if self.updated is _FILLED_IN:
            self.updated = self.timestamp
        details: Any = self.state_details
        if details.__class__ is not StateDetails:
            self.state_details = details = _details_of(details)
        if kind is _SCHEDULED and details.scheduled_time is None:
            details.scheduled_time = utc_now()
        data = self.data
        if data.__class__ is dict and data.get("type") == "unpersisted":
            self.data = None

    def default_name_from_type(self) -> Self:
        """Name the state by its type if it has no name, as `State(…)` does.

        Returns:
            The state itself.

        Example:
            >>> state = State(type="COMPLETED", name="Cached")
            >>> state.name = None
            >>> state.default_name_from_type().name
            'Completed'
        """
        if self.name is _FILLED_IN:
            self.name = DEFAULT_NAMES[self.type]
        return self

    # ---------------------------------------------------------------------------------- questions

    def is_scheduled(self) -> bool:
        """Tell whether the type is SCHEDULED."""
        return self.type is StateType.SCHEDULED

    def is_pending(self) -> bool:
        """Tell whether the type is PENDING."""
        return self.type is StateType.PENDING

    def is_running(self) -> bool:
        """Tell whether the type is RUNNING."""
        return self.type is StateType.RUNNING

    def is_completed(self) -> bool:
        """Tell whether the type is COMPLETED."""
        return self.type is StateType.COMPLETED

    def is_failed(self) -> bool:
        """Tell whether the type is FAILED."""
        return self.type is StateType.FAILED

    def is_crashed(self) -> bool:
        """Tell whether the type is CRASHED."""
        return self.type is StateType.CRASHED

    def is_cancelled(self) -> bool:
        """Tell whether the type is CANCELLED."""
        return self.type is StateType.CANCELLED

    def is_cancelling(self) -> bool:
        """Tell whether the type is CANCELLING."""
        return self.type is StateType.CANCELLING

    def is_paused(self) -> bool:
        """Tell whether the type is PAUSED."""
        return self.type is StateType.PAUSED

    def is_final(self) -> bool:
        """Tell whether the run has ended in this state.

        Example:
            >>> State(type="CRASHED").is_final()
            True
        """
        return self.type in TERMINAL_STATES

    # ------------------------------------------------------------------------------------- result

    @overload
    def result(
        self, raise_on_failure: Literal[True] = ..., fetch: bool = ..., retry_result_failure: bool = ...
    ) -> R: ...
    @overload
    def result(
        self, raise_on_failure: bool = ..., fetch: bool = ..., retry_result_failure: bool = ...
    ) -> R | BaseException: ...
    def result(self, raise_on_failure: bool = True, fetch: bool = True, retry_result_failure: bool = True) -> Any:
        """Give the run's value; in async code a coroutine of it (or use `aresult`).

        Args:
            raise_on_failure: raise what a failed, crashed or cancelled run raised; else hand it back.
            fetch: anything but `True` is deprecated and changes nothing.
            retry_result_failure: try again where a stored value cannot be loaded at once.

        Returns:
            The value, or the exception of a run that failed.

        Raises:
            UnfinishedRun: the run has not ended (`PausedRun`: it is paused).
            MissingResult: the run completed and its value was not kept.
            TypeError: the run failed and holds something that is no exception.

        Example:
            >>> State(type="COMPLETED", data=3).result()
            3
        """
        if fetch is not True:
            warn_of_fetch(stacklevel=3)
        read = _reader or _load_reader()
        return read(self, raise_on_failure=raise_on_failure, retry_result_failure=retry_result_failure, dual=True)

    @overload
    async def aresult(self, raise_on_failure: Literal[True] = ..., retry_result_failure: bool = ...) -> R: ...
    @overload
    async def aresult(self, raise_on_failure: bool = ..., retry_result_failure: bool = ...) -> R | BaseException: ...
    async def aresult(self, raise_on_failure: bool = True, retry_result_failure: bool = True) -> Any:
        """Give the run's value, as `result` does, wherever it is awaited.

        Args:
            raise_on_failure: raise what a failed, crashed or cancelled run raised; else hand it back.
            retry_result_failure: try again where a stored value cannot be loaded at once.

        Returns:
            The value, or the exception of a run that failed.

        Raises:
            UnfinishedRun: the run has not ended.
            MissingResult: the value was not kept.
            BaseException: what the run raised.

        Example:
            >>> import anyio
            >>> anyio.run(State(type="COMPLETED", data=3).aresult)
            3
        """
        read = _reader or _load_reader()
        return await read(
            self, raise_on_failure=raise_on_failure, retry_result_failure=retry_result_failure, dual=False
        )

    # ------------------------------------------------------------------------------------- copies

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """Copy the state: same id, new timestamp unless `update` gives one.

        Args:
            update: fields to set in the copy.
            deep: copy the data too.

        Returns:
            The copy. Its details can be changed without changing the original's.

        Raises:
            TypeError: `update` names a field that does not exist.

        Example:
            >>> State(type="RUNNING").model_copy(update={"name": "Busy"}).name
            'Busy'
        """
        changes: dict[str, Any] = {"timestamp": utc_now(), "state_details": copy.copy(self.state_details)}
        if deep:
            changes["data"] = copy.deepcopy(self.data)
            changes["state_details"] = copy.deepcopy(self.state_details)
        if update:
            changes.update(update)
        return msgspec.structs.replace(self, **changes)

    def fresh_copy(self, *, deep: bool = False, **update: Any) -> Self:
        """Copy the state with a new id and new times.

        Args:
            deep: copy the data too.
            **update: fields to set in the copy.

        Returns:
            A state that is not equal to this one.

        Example:
            >>> state = State(type="PENDING")
            >>> state.fresh_copy().id == state.id
            False
        """
        now = utc_now()
        new: dict[str, Any] = {"id": new_id(), "created": now, "updated": now, "timestamp": now}
        return self.model_copy(update=new | update, deep=deep)

    def to_state_create(self) -> StateCreate:
        """Give the part of this state that may be sent elsewhere.

        Of its data only what was kept goes along, as its metadata, where the current run or the setting keeps
        results; local data is dropped.

        Example:
            >>> State(type="FAILED", data=ValueError()).to_state_create().data is None
            True
        """
        data: Any = self.data
        if isinstance(data, Kept):
            keeps = importlib.import_module("callsheet.results").should_persist_result
            data = data.metadata if keeps() else None
        return StateCreate(
            type=self.type,
            name=self.name,
            message=self.message,
            state_details=copy.copy(self.state_details),
            data=data if isinstance(data, KeptElsewhere) else None,
        )

    # ------------------------------------------------------------------------ comparing, showing

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: Any) -> Any:
        """Let models of pydantic have fields of this class: checked by `isinstance`, kept as they are."""
        del source, handler
        from pydantic_core import core_schema

        return core_schema.is_instance_schema(cls)

    def __eq__(self, other: object) -> bool:
        """Compare all but id, created and updated, which copies reset."""
        if not isinstance(other, State):
            return NotImplemented
        mine, theirs = self.data, other.data  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
        return (
            self.type is other.type
            and self.timestamp == other.timestamp
            and self.name == other.name
            and self.message == other.message
            and self.state_details == other.state_details
            and (mine is theirs or bool(mine == theirs))
        )

    def __ne__(self, other: object) -> bool:
        """Say the opposite of equality. Structs have a comparison of their own, which would be asked otherwise."""
        equal = self.__eq__(other)
        return equal if equal is NotImplemented else not equal

    def __hash__(self) -> int:
        """Hash what identifies the moment: run ids, timestamp, type."""
        details = self.state_details
        return hash((details.flow_run_id, details.task_run_id, self.timestamp, self.type))

    def __repr__(self) -> str:
        """Show name, message, type and result."""
        return f"{self.name}(message={self.message!r}, type={self.type.value}, result={self.data!r})"

    def __str__(self) -> str:
        """Show name and message, and the type where the name does not say it."""
        parts: list[str] = []
        if self.message:
            parts.append(repr(self.message))
        if self.type.value.lower() != self.name.lower():
            parts.append(f"type={self.type.value}")
        return f"{self.name}({', '.join(parts)})"


# Pickles and messages name the public module, whose import also makes `result` work. Its names are not those of the
# annotations above, which `inspect.signature` would look up there: so they are resolved here.
State.__annotations__.update(get_type_hints(State))
State.__module__ = "callsheet.states"

_reader: ResultReader | None = None


def read_results_with(reader: ResultReader) -> None:
    """Put in how `State.result` finds values; called once, by the engine's module that knows how."""
    global _reader
    _reader = reader


def _load_reader() -> ResultReader:
    """Let the layer that knows how to find values put itself in, where nothing has imported it yet."""
    importlib.import_module("callsheet.states")
    return cast("ResultReader", _reader)


def _details_of(value: object) -> StateDetails:
    """Turn what a user passed as details into details."""
    if value is None:
        return StateDetails()
    if isinstance(value, Mapping):
        return StateDetails(**value)  # pyright: ignore[reportUnknownArgumentType]
    raise TypeError(f"Expected StateDetails or a mapping for 'state_details'; got {type(value).__name__} instead.")


def warn_of_fetch(stacklevel: int) -> None:
    """Tell the caller that `fetch` no longer chooses anything."""
    import warnings

    warnings.warn(
        "The `fetch` argument of `State.result` is deprecated: stored results are always fetched.",
        DeprecationWarning,
        stacklevel=stacklevel,
    )
