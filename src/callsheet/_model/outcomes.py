"""Making states: one constructor for each name, and one state out of what a body returned."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any, TypeGuard, cast

import msgspec

from callsheet._clock import utc_now
from callsheet._model.kinds import TERMINAL_STATES, StateType
from callsheet._model.states import State, StateDetails

# The constructors are named like the states they make.
# ruff: noqa: N802


def Completed(cls: type[State[Any]] = State, **kwargs: Any) -> State[Any]:
    """Make a Completed state. Keywords are fields of `State`.

    Example:
        >>> Completed(message="x", data=1)
        Completed(message='x', type=COMPLETED, result=1)
    """
    return cls(type=StateType.COMPLETED, **kwargs)


def Running(cls: type[State[Any]] = State, **kwargs: Any) -> State[Any]:
    """Make a Running state. Keywords are fields of `State`."""
    return cls(type=StateType.RUNNING, **kwargs)


def Failed(cls: type[State[Any]] = State, **kwargs: Any) -> State[Any]:
    """Make a Failed state; `data` is the exception or a text. Keywords are fields of `State`."""
    return cls(type=StateType.FAILED, **kwargs)


def Crashed(cls: type[State[Any]] = State, **kwargs: Any) -> State[Any]:
    """Make a Crashed state: ended by something from outside. Keywords are fields of `State`."""
    return cls(type=StateType.CRASHED, **kwargs)


def Cancelling(cls: type[State[Any]] = State, **kwargs: Any) -> State[Any]:
    """Make a Cancelling state. Keywords are fields of `State`."""
    return cls(type=StateType.CANCELLING, **kwargs)


def Cancelled(cls: type[State[Any]] = State, **kwargs: Any) -> State[Any]:
    """Make a Cancelled state. Keywords are fields of `State`."""
    return cls(type=StateType.CANCELLED, **kwargs)


def Pending(cls: type[State[Any]] = State, **kwargs: Any) -> State[Any]:
    """Make a Pending state. Keywords are fields of `State`."""
    return cls(type=StateType.PENDING, **kwargs)


def Scheduled(cls: type[State[Any]] = State, scheduled_time: datetime | None = None, **kwargs: Any) -> State[Any]:
    """Make a Scheduled state.

    Args:
        cls: the class of the state.
        scheduled_time: when to start; by default now, in UTC.
        **kwargs: fields of `State`.

    Returns:
        The state.

    Raises:
        ValueError: the time is given in `state_details` too.

    Example:
        >>> Scheduled().name
        'Scheduled'
    """
    if scheduled_time is not None:
        details = _own_details(kwargs)
        if details.scheduled_time is not None:
            raise ValueError("The scheduled time was given twice: as 'scheduled_time' and in 'state_details'.")
        details.scheduled_time = scheduled_time
    return cls(type=StateType.SCHEDULED, **kwargs)


def Paused(
    cls: type[State[Any]] = State,
    timeout_seconds: float | None = None,
    pause_expiration_time: datetime | None = None,
    reschedule: bool = False,
    pause_key: str | None = None,
    **kwargs: Any,
) -> State[Any]:
    """Make a Paused state.

    Args:
        cls: the class of the state.
        timeout_seconds: how long the pause may last, in seconds; by default without end.
        pause_expiration_time: when it ends, instead of `timeout_seconds`.
        reschedule: whether the run leaves and is started again later.
        pause_key: names the pause, so that it happens once.
        **kwargs: fields of `State`.

    Returns:
        The state.

    Raises:
        ValueError: the end of the pause is given twice.

    Example:
        >>> Paused(pause_key="review").state_details.pause_key
        'review'
    """
    if timeout_seconds is not None and pause_expiration_time is not None:
        raise ValueError("Give either 'timeout_seconds' or 'pause_expiration_time', not both.")
    details = _own_details(kwargs)
    if timeout_seconds is not None:
        pause_expiration_time = utc_now() + timedelta(seconds=timeout_seconds)
    if pause_expiration_time is not None:
        if details.pause_timeout is not None:
            raise ValueError("The end of the pause was given twice: as an argument and in 'state_details'.")
        details.pause_timeout = pause_expiration_time
    details.pause_reschedule = reschedule or details.pause_reschedule
    if pause_key is not None:
        details.pause_key = pause_key
    return cls(type=StateType.PAUSED, **kwargs)


def Suspended(
    cls: type[State[Any]] = State,
    timeout_seconds: float | None = None,
    pause_expiration_time: datetime | None = None,
    pause_key: str | None = None,
    **kwargs: Any,
) -> State[Any]:
    """Make a Paused state named "Suspended", of a run that left and starts again later.

    Args:
        cls: the class of the state.
        timeout_seconds: how long the run may stay away, in seconds; by default without end.
        pause_expiration_time: when that ends, instead of `timeout_seconds`.
        pause_key: names the pause, so that it happens once.
        **kwargs: fields of `State`.

    Returns:
        The state.

    Raises:
        ValueError: the end of the pause is given twice.
    """
    return Paused(cls, timeout_seconds, pause_expiration_time, True, pause_key, **_named("Suspended", kwargs))


def AwaitingRetry(cls: type[State[Any]] = State, scheduled_time: datetime | None = None, **kwargs: Any) -> State[Any]:
    """Make a Scheduled state named "AwaitingRetry".

    Args:
        cls: the class of the state.
        scheduled_time: when to start; by default now, in UTC.
        **kwargs: fields of `State`.

    Returns:
        The state.
    """
    return Scheduled(cls, scheduled_time, **_named("AwaitingRetry", kwargs))


def AwaitingConcurrencySlot(
    cls: type[State[Any]] = State, scheduled_time: datetime | None = None, **kwargs: Any
) -> State[Any]:
    """Make a Scheduled state named "AwaitingConcurrencySlot".

    Args:
        cls: the class of the state.
        scheduled_time: when to start; by default now, in UTC.
        **kwargs: fields of `State`.

    Returns:
        The state.
    """
    return Scheduled(cls, scheduled_time, **_named("AwaitingConcurrencySlot", kwargs))


def Retrying(cls: type[State[Any]] = State, **kwargs: Any) -> State[Any]:
    """Make a Running state named "Retrying". Keywords are fields of `State`."""
    return cls(type=StateType.RUNNING, **_named("Retrying", kwargs))


def Late(cls: type[State[Any]] = State, scheduled_time: datetime | None = None, **kwargs: Any) -> State[Any]:
    """Make a Scheduled state named "Late".

    Args:
        cls: the class of the state.
        scheduled_time: when to start; by default now, in UTC.
        **kwargs: fields of `State`.

    Returns:
        The state.
    """
    return Scheduled(cls, scheduled_time, **_named("Late", kwargs))


def _named(name: str, kwargs: dict[str, Any]) -> dict[str, Any]:
    kwargs.setdefault("name", name)
    return kwargs


def _own_details(kwargs: dict[str, Any]) -> StateDetails:
    """Give details that may be changed: a copy of the caller's, or new ones."""
    given: Any = kwargs.get("state_details")
    if given is None:
        details = StateDetails()
    elif isinstance(given, StateDetails):
        details = msgspec.structs.replace(given)
    else:
        details = StateDetails(**given)
    kwargs["state_details"] = details
    return details


# ------------------------------------------------------------------------------------------- groups


def is_state(value: object) -> TypeGuard[State[Any]]:
    """Tell whether `value` is a state.

    Example:
        >>> is_state(Completed()), is_state("Completed")
        (True, False)
    """
    return isinstance(value, State)


def is_state_iterable(value: object) -> TypeGuard[Iterable[State[Any]]]:
    """Tell whether `value` is a list, tuple or set that holds states only, and at least one.

    Example:
        >>> is_state_iterable([Completed()]), is_state_iterable([]), is_state_iterable([Completed(), 1])
        (True, False, False)
    """
    if not isinstance(value, (list, tuple, set)) or not value:
        return False
    return all(isinstance(item, State) for item in cast("Iterable[object]", value))


class StateGroup:
    """Counts of several states, and what follows from them.

    Args:
        states: the states, each counted once for every time it is given.

    Example:
        >>> StateGroup([Completed(), Crashed()]).counts_message()
        "total=2, 'COMPLETED'=1, 'CRASHED'=1"
    """

    def __init__(self, states: Iterable[State[Any]]) -> None:
        self.states = list(states)
        # Ends first, so that a message opens with what decides.
        ordered = sorted(StateType, key=lambda kind: kind not in TERMINAL_STATES)
        self.type_counts = dict.fromkeys(ordered, 0)
        for state in self.states:
            self.type_counts[state.type] += 1
        self.total_count = len(self.states)
        self.cancelled_count = self.type_counts[StateType.CANCELLED]
        self.paused_count = self.type_counts[StateType.PAUSED]
        self.final_count = sum(self.type_counts[kind] for kind in TERMINAL_STATES)
        self.not_final_count = self.total_count - self.final_count

    @property
    def fail_count(self) -> int:
        """How many failed or crashed."""
        return self.type_counts[StateType.FAILED] + self.type_counts[StateType.CRASHED]

    def all_completed(self) -> bool:
        """Tell whether every state is COMPLETED."""
        return self.type_counts[StateType.COMPLETED] == self.total_count

    def any_cancelled(self) -> bool:
        """Tell whether a state is CANCELLED."""
        return self.cancelled_count > 0

    def any_failed(self) -> bool:
        """Tell whether a state is FAILED or CRASHED."""
        return self.fail_count > 0

    def any_paused(self) -> bool:
        """Tell whether a state is PAUSED."""
        return self.paused_count > 0

    def all_final(self) -> bool:
        """Tell whether every run has ended."""
        return self.not_final_count == 0

    def counts_message(self) -> str:
        """Give the counts that are not zero, as text."""
        parts = [f"total={self.total_count}"]
        if self.not_final_count:
            parts.append(f"not_final={self.not_final_count}")
        parts += [f"{kind.value!r}={count}" for kind, count in self.type_counts.items() if count]
        return ", ".join(parts)


def made_by_user(state: State[Any]) -> bool:
    """Tell whether no run has had this state: a body made it to choose its own outcome."""
    details = state.state_details
    return details.flow_run_id is None and details.task_run_id is None


def state_of_value(value: Any) -> State[Any]:
    """Give the final state that follows from what a body returned (futures are states by now).

    A state that the user made is the outcome itself, the same object. States that came from runs decide
    together: cancelled before paused before failed before unfinished. Everything else is a value.

    Example:
        >>> state_of_value([Completed(state_details={"task_run_id": 1}), Failed()]).message
        '1/2 states failed.'
    """
    if isinstance(value, State):
        state = cast("State[Any]", value)
        return state if made_by_user(state) else _aggregate([state], state)
    if is_state_iterable(value):
        return _aggregate(value, value)
    return State(type=StateType.COMPLETED, data=value)


def _aggregate(states: Iterable[State[Any]], data: Any) -> State[Any]:
    group = StateGroup(states)
    total = group.total_count
    if group.any_cancelled():
        kind, message = StateType.CANCELLED, f"{group.cancelled_count}/{total} states cancelled."
    elif group.any_paused():
        kind, message = StateType.PAUSED, f"{group.paused_count}/{total} states paused."
    elif group.any_failed():
        kind, message = StateType.FAILED, f"{group.fail_count}/{total} states failed."
    elif not group.all_final():
        kind, message = StateType.FAILED, f"{group.not_final_count}/{total} states are not final."
    else:
        kind, message = StateType.COMPLETED, "All states completed."
    return State(type=kind, message=message, data=data)
