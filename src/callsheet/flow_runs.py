"""Pausing, resuming, cancelling and repeating flow runs, and waiting for their end."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, TypeVar, overload
from uuid import UUID

from callsheet._engine import cancelling, run_inputs
from callsheet._engine.dual import dual
from callsheet._engine.endings import until_ended
from callsheet._engine.pausing import Wanted, pause, pausing_run
from callsheet._engine.resuming import NOT_PAUSED, resume
from callsheet._engine.suspending import Wish, suspend_here, suspend_other, suspending_run
from callsheet._model.kinds import Kind, StateType
from callsheet._model.runs import FlowRun
from callsheet._model.states import State
from callsheet._rules.verdicts import Reject
from callsheet.client import _narrow
from callsheet.client.schemas.filters import FlowFilter, FlowRunFilter, TaskRunFilter
from callsheet.exceptions import FlowPauseTimeout, NotPausedError
from callsheet.reruns import (
    afork_flow_run,
    arestart_flow_run,
    aretry_flow_run,
    fork_flow_run,
    restart_flow_run,
    retry_flow_run,
)

T = TypeVar("T")

__all__ = [
    "acancel_flow_run",
    "acancel_flow_runs",
    "afork_flow_run",
    "apause_flow_run",
    "arestart_flow_run",
    "aresume_flow_run",
    "aretry_flow_run",
    "asuspend_flow_run",
    "cancel_flow_run",
    "cancel_flow_runs",
    "fork_flow_run",
    "pause_flow_run",
    "restart_flow_run",
    "resume_flow_run",
    "retry_flow_run",
    "suspend_flow_run",
    "wait_for_flow_run",
]


@overload
async def apause_flow_run(
    wait_for_input: None = None,
    timeout: float | None = 3600,
    poll_interval: float = 10,
    key: str | None = None,
    *,
    until: datetime | None = None,
) -> None: ...
@overload
async def apause_flow_run(
    wait_for_input: type[T],
    timeout: float | None = 3600,
    poll_interval: float = 10,
    key: str | None = None,
    *,
    until: datetime | None = None,
) -> T: ...
async def apause_flow_run(
    wait_for_input: Any = None,
    timeout: float | None = 3600,
    poll_interval: float = 10,
    key: str | None = None,
    *,
    until: datetime | None = None,
) -> Any:
    """Pause the current flow run until somebody resumes it.

    The body waits here. Tasks that are called meanwhile, in this flow run or a flow run inside it, start when it is
    resumed; those that run already go on.

    Args:
        wait_for_input: What to ask for: a subclass of `RunInput`, or any type that pydantic knows.
        timeout: Seconds after which the run fails, unless it was resumed; `None`: never. A time limit of the flow
            itself is not put off. With `until` it goes on instead.
        poll_interval: Seconds after which at the latest a resumption by another process is noticed. It nearly always
            is within a fraction of a second, and one by this process at once.
        key: Names the pause: a run that was resumed from it does not pause under this name again. Default: the
            number of pauses so far, counted from 1.
        until: When it is resumed by itself, without input.

    Returns:
        What was handed in, validated; `None` if nothing is asked for.

    Raises:
        FlowPauseTimeout: Nobody resumed it in time.
        RuntimeError: The call is in a task, or outside of flow runs, or nothing is kept of this run.

    Example:
        >>> import threading, time
        >>> from callsheet import flow
        >>> from callsheet.runtime import flow_run
        >>> def approve(run_id: str) -> None:
        ...     while True:
        ...         try:
        ...             return resume_flow_run(run_id, run_input={"value": 3})
        ...         except NotPausedError:
        ...             time.sleep(0.01)
        >>> @flow
        ... def order() -> int:
        ...     threading.Thread(target=approve, args=(flow_run.id,)).start()
        ...     return pause_flow_run(wait_for_input=int, timeout=30)
        >>> order()
        3
    """
    run = pausing_run()
    return await pause(run, _wanted(wait_for_input), timeout, poll_interval, key, until)


@overload
async def asuspend_flow_run(
    wait_for_input: None = None,
    flow_run_id: UUID | str | None = None,
    timeout: float | None = 3600,
    key: str | None = None,
    client: Any = None,
    *,
    until: datetime | None = None,
) -> None: ...
@overload
async def asuspend_flow_run(
    wait_for_input: type[T],
    flow_run_id: UUID | str | None = None,
    timeout: float | None = 3600,
    key: str | None = None,
    client: Any = None,
    *,
    until: datetime | None = None,
) -> T: ...
async def asuspend_flow_run(
    wait_for_input: Any = None,
    flow_run_id: UUID | str | None = None,
    timeout: float | None = 3600,
    key: str | None = None,
    client: Any = None,
    *,
    until: datetime | None = None,
) -> Any:
    """Let a flow run leave its process until somebody resumes it.

    A suspended run costs nothing: no memory, no thread. When it is resumed, an engine that knows its flow goes on
    with it, in this process or another one: it calls the body again from the beginning, and task runs that had ended
    give what they gave. So keep what must happen once in tasks.

    The current run leaves here: the call raises `Pause`, which belongs to nobody but the engine. Another run leaves when its body
    makes its next call. Task runs that have begun go on to their end; the run is Suspended when they have ended.

    Args:
        wait_for_input: What to ask for: a subclass of `RunInput`, or any type that pydantic knows.
        flow_run_id: The run, of whatever process. Default: the current one.
        timeout: Seconds after which the run fails, unless it was resumed; `None`: never. With `until` it goes on instead.
        key: Names the suspension: a run that was resumed from it goes on here. Default: the number of pauses so far,
            counted from 1; for another run a random one.
        client: An open client on the history of the run. Default: the history of the place of the call.
        until: When it is resumed by itself, without input.

    Returns:
        What was handed in, validated, when the resumed run comes here again; `None` if nothing was asked for.

    Raises:
        Pause: The current run is suspended.
        RuntimeError: It cannot be suspended: it is a subflow's, or no living engine knows its flow, so that none could go
            on with it; or the call is in a task, or outside of flow runs.
        TypeError: What is given as `client` is none.
        ValueError: The current run is not in the history of `client`.

    Example:
        >>> import asyncio
        >>> from callsheet import Engine, flow
        >>> @flow
        ... async def order() -> int:
        ...     return 2 * await suspend_flow_run(wait_for_input=int)
        >>> async def main() -> str:
        ...     async with Engine(database=":memory:", flows=[order]):
        ...         state = await order(return_state=True)
        ...         await resume_flow_run(state.state_details.flow_run_id, run_input={"value": 21})
        ...         run = await wait_for_flow_run(state.state_details.flow_run_id)
        ...         return f"{state.name}, then {run.state_name}"
        >>> asyncio.run(main())
        'Suspended, then Completed'
    """
    wish = Wish(_wanted(wait_for_input), timeout, until)
    if flow_run_id is None:
        return await suspend_here(suspending_run(), wish, key, client)
    return await suspend_other(UUID(str(flow_run_id)), wish, key, client)


def _wanted(wait_for_input: Any) -> Wanted | None:
    if wait_for_input is None:
        return None
    from callsheet.input.run_input import Question, run_input_subclass_from_type

    return Question(run_input_subclass_from_type(wait_for_input))


async def aresume_flow_run(flow_run_id: UUID | str, run_input: Mapping[str, Any] | None = None) -> None:
    """Resume a paused flow run, of this process or of another one on the same history.

    Args:
        flow_run_id: Its id.
        run_input: What it waits for, by field; for a plain type the field is ``value``. Without any, the defaults.

    Raises:
        NotPausedError: It is not paused.
        FlowPauseTimeout: Its pause has timed out.
        RuntimeError: It cannot be resumed, for instance because the input does not fit; it stays paused then.
        ObjectNotFound: There is no such flow run.

    Example:
        >>> from callsheet import flow
        >>> @flow
        ... def census() -> int:
        ...     return 1
        >>> state = census(return_state=True)
        >>> resume_flow_run(state.state_details.flow_run_id)
        Traceback (most recent call last):
        callsheet.exceptions.NotPausedError: Cannot resume a run that isn't paused!
    """
    place = run_inputs.place_here()
    try:
        done = await resume(place, UUID(str(flow_run_id)), run_input)
    finally:
        await place.reader.aclose()
    if done.verdict is NOT_PAUSED:
        raise NotPausedError("Cannot resume a run that isn't paused!")
    if isinstance(done.verdict, Reject):
        if done.verdict.type is StateType.FAILED:
            raise FlowPauseTimeout("Flow run can no longer be resumed.")
        raise RuntimeError(f"Cannot resume this run: {done.reason}")


async def acancel_flow_run(flow_run_id: UUID | str, message: str | None = None) -> State[Any]:
    """Cancel a flow run and everything below it, of this process or of another one on the same history.

    When this returns, it is on record, and no task of the flow run starts any more. A run that is alive is Cancelling then:
    its children end first, then its body is cancelled, its hooks for cancellation are called, and it is Cancelled
    (`wait_for_flow_run` waits for that). Async code is interrupted where it waits, sync code where it calls the
    engine or waits for it. What no process runs (paused for good, scheduled, left behind by a process that died) is
    Cancelled at once.

    Args:
        flow_run_id: Its id. That of a root run stands for its whole tree.
        message: Why, for the history.

    Returns:
        The state that it is in then: Cancelling or Cancelled; or how it has ended, if it had before.

    Raises:
        ObjectNotFound: There is no such flow run.
        StoreError: The history cannot be written.

    Example:
        >>> import asyncio
        >>> from callsheet import flow
        >>> @flow
        ... async def night() -> None:
        ...     await asyncio.sleep(3600)
        >>> @flow
        ... async def evening() -> str:
        ...     future = night.submit()
        ...     await cancel_flow_run(future.state.state_details.flow_run_id, message="It is late.")
        ...     future.wait()
        ...     return future.state.name
        >>> asyncio.run(evening())
        'Cancelled'
    """
    return await cancelling.cancel_here(Kind.FLOW, UUID(str(flow_run_id)), message)


async def acancel_flow_runs(
    *,
    flow_filter: FlowFilter | Mapping[str, Any] | None = None,
    flow_run_filter: FlowRunFilter | Mapping[str, Any] | None = None,
    task_run_filter: TaskRunFilter | Mapping[str, Any] | None = None,
    message: str | None = None,
) -> list[State[Any]]:
    """Cancel all flow runs that match filters and have not ended, each as `cancel_flow_run` does.

    Args:
        flow_filter: What their flows must match.
        flow_run_filter: What they must match; ``{}`` matches every one.
        task_run_filter: What at least one of their task runs must match.
        message: Why, for the history.

    Returns:
        The state of each of them then, oldest run first; its details have the id.

    Raises:
        ValueError: No filter is given, or one makes no sense.
        StoreError: The history cannot be written.

    Example:
        >>> cancel_flow_runs(flow_run_filter={"tags": {"all_": ["night"]}}, message="It is late.")
        []
    """
    if flow_filter is flow_run_filter is task_run_filter is None:
        raise ValueError("Which flow runs? Give a filter; `flow_run_filter={}` matches every one.")
    place = run_inputs.place_here()
    try:
        await place.catch_up()
        where = await _narrow.flow_runs(place.reader, flow_filter, flow_run_filter, task_run_filter)
        return await cancelling.cancel_all(place, where, message)
    finally:
        await place.reader.aclose()


async def wait_for_flow_run(
    flow_run_id: UUID | str,
    timeout: float | None = 10800,
    poll_interval: float = 5,
    client: Any = None,
    log_states: bool = False,
) -> FlowRun:
    """Wait until a flow run has ended, in async code.

    Args:
        flow_run_id: Its id; of any process on the same history.
        timeout: Seconds to wait at most; `None`: for ever.
        poll_interval: Seconds after which at the latest it is looked again. The end of a run in this process is
            noticed at once, that of another one within a fraction of a second.
        client: An open client, on whose history it is looked for. Default: the history of the place of the call.
        log_states: Log each state that it is found in, at level INFO.

    Returns:
        The flow run, with its final state.

    Raises:
        TypeError: What is given as `client` is none.
        FlowRunWaitTimeout: It had not ended in time.
        ObjectNotFound: There is no such flow run.

    Example:
        >>> import asyncio
        >>> from callsheet import flow
        >>> @flow
        ... def census() -> int:
        ...     return 1
        >>> state = census(return_state=True)
        >>> asyncio.run(wait_for_flow_run(state.state_details.flow_run_id)).state_name
        'Completed'
    """
    return await until_ended(UUID(str(flow_run_id)), timeout, poll_interval, client, log_states)


# Not typed like its twin: checkers would take the first of its overloads for all.
pause_flow_run: Callable[..., Any] = dual(apause_flow_run)
suspend_flow_run: Callable[..., Any] = dual(asuspend_flow_run)
resume_flow_run = dual(aresume_flow_run)
cancel_flow_run = dual(acancel_flow_run)
cancel_flow_runs = dual(acancel_flow_runs)
