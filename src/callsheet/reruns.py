"""Running flow runs again: retry what did not complete, restart from a task, fork into a run of its own.

What has completed is taken from the run journal: it keeps its task runs, and its results are used. What became of the code
in the meantime, or of the parameters, is a matter for the flow's `on_change`, and `patched` marks what was changed on
purpose.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from uuid import UUID

from callsheet._engine import again, run_inputs
from callsheet._engine.changes import patch
from callsheet._engine.dual import dual
from callsheet._model.runs import FlowRun
from callsheet.context import current_run
from callsheet.exceptions import MissingContextError

if TYPE_CHECKING:
    from callsheet.flows import Flow
    from callsheet.tasks import Task

    AnyFlow = Flow[..., Any]
    TaskPoint = Task[..., Any] | UUID | str

__all__ = [
    "afork_flow_run",
    "arestart_flow_run",
    "aretry_flow_run",
    "fork_flow_run",
    "patched",
    "restart_flow_run",
    "retry_flow_run",
]


async def aretry_flow_run(flow_run_id: UUID | str, *, flow: AnyFlow | None = None) -> FlowRun:
    """Run what did not complete in a flow run that failed, crashed or was cancelled.

    The same flow run goes on, in another attempt. Tasks and subflows that have completed are not run again. It is run
    by this process where it knows the flow, else by an engine that does; nobody waits for it here (`wait_for_flow_run`
    does).

    Args:
        flow_run_id: Its id.
        flow: What it is a run of, if that has not been imported under its own name.

    Returns:
        The flow run.

    Raises:
        ObjectNotFound: There is no such flow run.
        RunNotRepeatable: It has not ended, or has completed, or is a subflow's, or nobody knows its flow.
        StoreError: The history cannot be written.

    Example:
        >>> import asyncio
        >>> from callsheet import flow, task
        >>> from callsheet.flow_runs import wait_for_flow_run
        >>> weather = ["rain"]
        >>> @task
        ... def pack() -> str:
        ...     print("packing")
        ...     return "bags"
        >>> @flow
        ... def travel() -> str:
        ...     bags = pack()
        ...     if weather[0] == "rain":
        ...         raise ValueError("It rains.")
        ...     return f"left with {bags}"
        >>> failed = travel(return_state=True)
        packing
        >>> weather[0] = "sun"
        >>> run = retry_flow_run(failed.state_details.flow_run_id, flow=travel)
        >>> asyncio.run(wait_for_flow_run(run.id)).state_name
        'Completed'
    """
    place = run_inputs.place_here()
    try:
        return await again.again(place, UUID(str(flow_run_id)), retry=True, flow=flow)
    finally:
        await place.reader.aclose()


async def arestart_flow_run(
    flow_run_id: UUID | str, from_task: TaskPoint | None = None, *, flow: AnyFlow | None = None
) -> FlowRun:
    """Run a flow run that has ended again, from a task on.

    The same flow run goes on, in another attempt. What had completed in calls before that task is not run again.

    Args:
        flow_run_id: Its id.
        from_task: The first task that is to run: the task, its name, or the id or name of one of its runs (of several,
            the first). Default: everything runs again.
        flow: What it is a run of, if that has not been imported under its own name.

    Returns:
        The flow run.

    Raises:
        ObjectNotFound: There is no such flow run, or no such task in it.
        RunNotRepeatable: It has not ended, or is a subflow's, or nobody knows its flow.
        StoreError: The history cannot be written.
    """
    place = run_inputs.place_here()
    try:
        return await again.again(place, UUID(str(flow_run_id)), retry=False, from_task=from_task, flow=flow)
    finally:
        await place.reader.aclose()


async def afork_flow_run(
    flow_run_id: UUID | str,
    from_task: TaskPoint | None = None,
    parameters: Mapping[str, Any] | None = None,
    *,
    flow: AnyFlow | None = None,
) -> FlowRun:
    """Begin a new flow run that takes over what another one had completed before a task.

    The other one stays as it is; the history knows where the new one comes from (`FlowRun.forked_from`), and the task runs
    that were taken over are the other one's.

    Args:
        flow_run_id: The id of the other one, in whatever state that is.
        from_task: The first task that is to run, as for `restart_flow_run`. Default: nothing that has completed runs.
        parameters: Those that are to differ, by name: what JSON can carry. What completed with other inputs runs again,
            and all that follows, unless the flow's `on_change` says otherwise.
        flow: What it is a run of, if that has not been imported under its own name.

    Returns:
        The new flow run.

    Raises:
        ObjectNotFound: There is no such flow run, or no such task in it.
        RunNotRepeatable: It is a subflow's, or nobody knows its flow, or the parameters cannot be stored.
        StoreError: The history cannot be written.
    """
    place = run_inputs.place_here()
    try:
        return await again.fork(place, UUID(str(flow_run_id)), from_task=from_task, parameters=parameters, flow=flow)
    finally:
        await place.reader.aclose()


def patched(name: str) -> bool:
    """Tell, in a flow's body, whether a run takes the new way through code that was changed while runs were under way.

    A run that began before the change, and has come further than this place, gets `False` and takes the old way, so that
    its calls stay those that it has recorded. Every other run gets `True`. The answer is recorded: a run gets the same one
    in each of its lives.

    Args:
        name: Of the change; the answer is one for each name.

    Raises:
        MissingContextError: It was not called in the body of a flow.

    Example:
        >>> from callsheet import flow
        >>> @flow
        ... def order() -> str:
        ...     return "new" if patched("two invoices") else "old"
        >>> order()
        'new'
    """
    run: Any = current_run.get()
    if run is None or not run.is_flow:
        raise MissingContextError("`patched` is for the bodies of flows: what a task did is recorded as a whole.")
    return patch(run, name)


retry_flow_run = dual(aretry_flow_run)
restart_flow_run = dual(arestart_flow_run)
fork_flow_run = dual(afork_flow_run)
