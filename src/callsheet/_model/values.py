"""What a state stands for: the value or the exception of its run. Pure; loading what was stored comes before."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final, cast

from callsheet._model.kept import NOT_RECORDED, Kept
from callsheet._model.kinds import StateType
from callsheet._model.outcomes import is_state_iterable
from callsheet._model.states import State
from callsheet.exceptions import CancelledRun, CrashedRun, FailedRun, MissingResult, PausedRun, UnfinishedRun

_WITHOUT_OWN_EXCEPTION: dict[StateType, tuple[type[Exception], str]] = {
    StateType.FAILED: (FailedRun, "The run failed."),
    StateType.CRASHED: (CrashedRun, "The run crashed."),
    StateType.CANCELLED: (CancelledRun, "The run was cancelled."),
}
FAILURES: Final = frozenset(_WITHOUT_OWN_EXCEPTION)
"""Types of states that stand for an exception."""
_COMPLETED: Final = StateType.COMPLETED  # looking a member up in its enumeration costs as much as a call (3.11)


def value_of(state: State[Any], *, raise_on_failure: bool = True) -> Any:
    """Give the value of an ended run.

    Args:
        state: the run's state.
        raise_on_failure: raise what a failed, crashed or cancelled run raised; else hand it back.

    Returns:
        The value, or the exception.

    Raises:
        UnfinishedRun: the run has not ended (`PausedRun`: it is paused).
        MissingResult: the run completed and its value was not kept.
        TypeError: the run failed and holds something that is no exception.
    """
    kind, data = state.type, state.data
    if isinstance(data, Kept):
        data = data.result
    if kind is _COMPLETED:
        if data is NOT_RECORDED:
            raise MissingResult(
                f"The result of {name_of_run(state)} is gone from memory, and it was not persisted: no storage has it "
                f"under any key. Run it again, with `persist_result=True` if it is to be read from elsewhere."
            )
        return data
    if kind is StateType.PAUSED:
        raise PausedRun("The run is paused: its result is not available.", state=state)
    if kind not in _WITHOUT_OWN_EXCEPTION:
        raise UnfinishedRun(f"The run is in the state {state.name}: its result is not available until it has ended.")
    if not raise_on_failure:
        return exception_of(state) if data is None or data is NOT_RECORDED else data
    try:
        raise_exception_of(state)
    finally:
        del state, data  # the traceback holds this frame, and the state holds the exception
    return None


def name_of_run(state: State[Any]) -> str:
    """Say in a message whose state it is."""
    details = state.state_details
    if details.task_run_id is not None:
        return f"the task run {details.task_run_id}"
    return "a run" if details.flow_run_id is None else f"the flow run {details.flow_run_id}"


def raise_exception_of(state: State[Any]) -> None:
    """Raise what a failed, crashed or cancelled run raised, the same object. Other states raise nothing."""
    if state.type not in _WITHOUT_OWN_EXCEPTION:
        return
    exc = exception_of(state)
    try:
        raise exc
    finally:
        del exc, state  # the traceback holds this frame: no cycle through it


def exception_of(state: State[Any]) -> BaseException:
    """Give the exception that a failed, crashed or cancelled state stands for.

    Raises:
        ValueError: the state did not fail, or it holds states of which none failed.
        TypeError: it holds something that is no exception.
    """
    if state.type not in _WITHOUT_OWN_EXCEPTION:
        raise ValueError(f"Expected failed or crashed state got {state!r}.")
    wrapper, text = _WITHOUT_OWN_EXCEPTION[state.type]
    data = state.data
    if isinstance(data, Kept):
        data = data.result
    if isinstance(data, BaseException):
        return data
    if data is None or data is NOT_RECORDED:
        return wrapper(state.message or text)
    if isinstance(data, str):
        return wrapper(data)
    if isinstance(data, State):
        return exception_of(cast("State[Any]", data))
    if is_state_iterable(data):
        return _first_exception(data)
    raise TypeError(
        f"Unexpected result for a failed state: {data!r}. {type(data).__name__} cannot be resolved into an exception."
    )


def _first_exception(states: Iterable[State[Any]]) -> BaseException:
    for state in states:
        if state.type in _WITHOUT_OWN_EXCEPTION:
            return exception_of(state)
    raise ValueError("Failed state result was an iterable of states but none were failed.")


def describe(exc: BaseException) -> str:
    """Give ``Type: text`` of an exception, also where its text cannot be made."""
    try:
        text = str(exc)
    except Exception:  # the user's __str__ may do anything
        text = "<no text: its __str__ failed>"
    return f"{type(exc).__name__}: {text}"


def represent(value: object) -> str:
    """Give the `repr` of a value, also where that cannot be made.

    Example:
        >>> represent(ValueError("x"))
        "ValueError('x')"
    """
    try:
        return repr(value)
    except Exception:  # the user's __repr__ may do anything, and has no end where a value is nested deeply
        return f"<{type(value).__name__}: its __repr__ failed>"


def failed_state(exc: BaseException, *, message: str = "", **fields: Any) -> State[Any]:
    """Make the Failed state of an exception; its message is `message`, then the exception.

    Example:
        >>> failed_state(ValueError("xyz"), message="Task run encountered an exception").message
        'Task run encountered an exception ValueError: xyz'
    """
    if message and not message.endswith(" "):
        message += " "
    return State(type=StateType.FAILED, data=exc, message=message + describe(exc), **fields)
