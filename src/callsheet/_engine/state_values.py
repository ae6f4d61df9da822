"""From states to values and exceptions, and from exceptions to states."""

from __future__ import annotations

import operator
import sys
from collections.abc import Iterable
from types import GeneratorType
from typing import TYPE_CHECKING, Any, cast

import msgspec

from callsheet._engine.dual import dual
from callsheet._model.kept import Kept, KeptElsewhere
from callsheet._model.kinds import StateType
from callsheet._model.outcomes import is_state_iterable, state_of_value
from callsheet._model.states import State, read_results_with, warn_of_fetch
from callsheet._model.values import (
    FAILURES,
    describe,
    exception_of,
    failed_state,
    name_of_run,
    raise_exception_of,
    value_of,
)
from callsheet.exceptions import TerminationSignal

if TYPE_CHECKING:
    from callsheet._results.records import ResultRecord, ResultRecordMetadata
    from callsheet._results.store import ResultStore
    from callsheet._results.ways import Way


async def aget_state_result(
    state: State[Any],
    fetch: bool = True,
    raise_on_failure: bool = True,
    retry_result_failure: bool = True,
) -> Any:
    """Give the value of an ended run: `State.result` as a function.

    Args:
        state: of the run.
        fetch: anything but `True` is deprecated and changes nothing.
        raise_on_failure: raise what a failed, crashed or cancelled run raised; else hand it back.
        retry_result_failure: try again where a stored value cannot be loaded at once.

    Returns:
        The value, or the exception of a run that failed.

    Raises:
        UnfinishedRun: the run has not ended.
        MissingResult: the value was not kept, or is gone from where it was; one of its kinds says which.
        StorageError: the storage that has it cannot be read.
        BaseException: what the run raised.

    Example:
        >>> from callsheet.states import Completed
        >>> get_state_result(Completed(data=1))
        1
    """
    if fetch is not True:
        warn_of_fetch(stacklevel=2)
    state = await with_value(state, retry=retry_result_failure, nested=raise_on_failure)
    return value_of(state, raise_on_failure=raise_on_failure)


async def araise_state_exception(state: State[Any]) -> None:
    """Raise what a failed, crashed or cancelled run raised; do nothing for other states.

    Args:
        state: of the run.

    Raises:
        BaseException: what the run raised, the same object. A run that holds none: `FailedRun`,
            `CrashedRun` or `CancelledRun`.
        ValueError: the state holds states of which none failed.
        TypeError: it holds something that is no exception.

    Example:
        >>> from callsheet.states import Failed
        >>> raise_state_exception(Failed(data="no disk"))
        Traceback (most recent call last):
        callsheet.exceptions.FailedRun: no disk
    """
    raise_exception_of(await with_value(state))


async def aget_state_exception(state: State[Any]) -> BaseException:
    """Give the exception that a failed, crashed or cancelled state stands for.

    Args:
        state: of the run.

    Returns:
        The exception that the run raised, the same object, or one made from its text.

    Raises:
        ValueError: the state did not fail, or it holds states of which none failed.
        TypeError: it holds something that is no exception.

    Example:
        >>> from callsheet.states import Crashed
        >>> get_state_exception(Crashed(message="power cut"))
        CrashedRun('power cut')
    """
    return exception_of(await with_value(state))


async def with_value(
    state: State[Any], way: Way | None = None, *, retry: bool = True, nested: bool = True
) -> State[Any]:
    """Give a state, or a copy with its value, where that is kept elsewhere.

    Args:
        state: of the run.
        way: how to wait; by default that of the dual function that is under way.
        retry: try again where the value cannot be loaded at once.
        nested: of a state that failed because of other states, load the exceptions of those as well.
    """
    data = state.data
    if isinstance(data, KeptElsewhere):
        if not state.is_final():
            return state
        from callsheet._results.current import load_by
        from callsheet._results.ways import way_here

        metadata = cast("ResultRecordMetadata", data)
        data = await load_by(way or way_here(), metadata, retry=retry, run=name_of_run(state))
    if nested and state.type in FAILURES:
        data = await _with_exceptions(data, way, retry)
    return state if data is state.data else msgspec.structs.replace(state, data=data)


async def _with_exceptions(data: Any, way: Way | None, retry: bool) -> Any:
    """Load the exceptions of failed states in what a failed state holds; without any, give the same object."""
    if isinstance(data, State):
        return await with_value(cast("State[Any]", data), way, retry=retry)
    if not is_state_iterable(data):
        return data
    states = list(data)
    loaded = [await with_value(one, way, retry=retry) if one.type in FAILURES else one for one in states]
    return data if all(map(operator.is_, loaded, states)) else loaded


get_state_result = dual(aget_state_result)


def value_here(state: State[Any], *, raise_on_failure: bool = True) -> Any:
    """Give the value of an ended run, as `get_state_result` does; blocks the caller, in async code too."""
    return cast("Any", get_state_result)(state, raise_on_failure=raise_on_failure, _sync=True)


raise_state_exception = dual(araise_state_exception)
get_state_exception = dual(aget_state_exception)


def _read(state: State[Any], *, raise_on_failure: bool, retry_result_failure: bool, dual: bool) -> Any:
    read = get_state_result if dual else aget_state_result
    return read(state, raise_on_failure=raise_on_failure, retry_result_failure=retry_result_failure)


read_results_with(_read)


# --------------------------------------------------------------------------------------- into states


def crashed_state(exc: BaseException) -> State[Any]:
    """Make the Crashed state of something that ended a run from outside."""
    if is_cancellation(exc):
        message = "Execution was cancelled by the runtime environment."
    elif isinstance(exc, KeyboardInterrupt):
        message = "Execution was aborted by a keyboard interrupt."
    elif isinstance(exc, TerminationSignal):
        message = "Execution was aborted by a termination signal."
    elif isinstance(exc, SystemExit):
        message = f"Execution was aborted by an exit of Python (code {exc.code!r})."
    else:
        message = f"Execution was ended by an unexpected exception: {describe(exc)}"
    return State(type=StateType.CRASHED, data=exc, message=message)


def is_cancellation(exc: BaseException) -> bool:
    if isinstance(exc, Exception):
        return False
    import anyio

    try:
        return isinstance(exc, anyio.get_cancelled_exc_class())
    except anyio.NoEventLoopError:
        # In a thread without a loop: whatever loop cancelled what this thread was waiting for.
        return type(exc).__name__ in ("CancelledError", "Cancelled")


async def exception_to_crashed_state(exc: BaseException, result_store: Any = None) -> State[Any]:
    """Make the Crashed state of something that ended a run from outside: a cancellation, an interrupt.

    Args:
        exc: what ended it.
        result_store: makes a record of the exception, which is the state's data then.

    Returns:
        The state; its message tells what happened, its data is the exception.

    Example:
        >>> import anyio
        >>> anyio.run(exception_to_crashed_state, KeyboardInterrupt()).message
        'Execution was aborted by a keyboard interrupt.'
    """
    state = crashed_state(exc)
    return state if result_store is None else await _record(state, result_store, write=False)


async def exception_to_failed_state(
    exc: BaseException | None = None, result_store: Any = None, write_result: bool = False, **kwargs: Any
) -> State[Any]:
    """Make the Failed state of an exception.

    Args:
        exc: the exception; by default the one that is being handled.
        result_store: makes a record of the exception, which is the state's data then.
        write_result: write that record, too.
        **kwargs: fields of `State`; a `message` is put before the exception's text.

    Returns:
        The state; its data is the exception.

    Raises:
        ValueError: there is no exception, or `write_result` is set and there is no store to write to.

    Example:
        >>> import anyio
        >>> anyio.run(exception_to_failed_state, ValueError("xyz")).message
        'ValueError: xyz'
    """
    _check_store(result_store, write_result=write_result)
    exc = sys.exception() if exc is None else exc
    if exc is None:
        raise ValueError("No exception was given and none is being handled.")
    state = failed_state(exc, **kwargs)
    return state if result_store is None else await _record(state, result_store, write=write_result)


async def return_value_to_state(
    retval: Any, result_store: Any = None, key: str | None = None, expiration: Any = None, write_result: bool = False
) -> State[Any]:
    """Give the final state that follows from what a body returned.

    A state that no run has had is the outcome itself; states of runs decide together; everything else is the
    value of a completed run. A generator is used up into a list.

    Args:
        retval: what the body returned, its futures replaced by their states.
        result_store: makes a record of the value, which is the state's data then.
        key: of that record; by default a new one.
        expiration: when that record must no longer be used.
        write_result: write that record, too. A value that cannot be written is logged as a warning.

    Returns:
        The state.

    Raises:
        ValueError: `key`, `expiration` or `write_result` is given and there is no store for them.

    Example:
        >>> import anyio
        >>> anyio.run(return_value_to_state, [1, 2])
        Completed(message=None, type=COMPLETED, result=[1, 2])
    """
    _check_store(result_store, key=key, expiration=expiration, write_result=write_result)
    if isinstance(retval, GeneratorType):
        retval = list(cast("Iterable[Any]", retval))
    state = state_of_value(retval)
    if result_store is None or not state.is_final():
        return state
    return await _record(state, result_store, key, expiration, write=write_result)


def _check_store(store: Any, **of_a_record: Any) -> None:
    """Refuse what says how a record is made, where none is."""
    given = [f"`{name}`" for name, value in of_a_record.items() if value]
    if store is None and given:
        raise ValueError(f"{' and '.join(given)} need a record to be made: give a `result_store` too.")


async def _record(
    state: State[Any], store: ResultStore, key: str | None = None, expiration: Any = None, *, write: bool
) -> State[Any]:
    """Make a state's data a record, in place."""
    from callsheet._results.keeping import keep
    from callsheet._results.ways import suspending

    if not isinstance(state.data, (Kept, KeptElsewhere)):
        state.data = store.create_result_record(state.data, key, expiration)
    if write and isinstance(state.data, Kept):
        await keep(suspending(), store, cast("ResultRecord[Any]", state.data))
    return state
