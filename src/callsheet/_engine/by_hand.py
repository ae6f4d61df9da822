"""Task runs that are made without running them: `Task.create_run` and `Task.create_local_run`."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping
from typing import Any
from uuid import UUID

from callsheet._engine.names import default_task_run_name
from callsheet._engine.task_run import task_inputs_of
from callsheet._engine.upstream import find_inputs
from callsheet._ids import new_id
from callsheet._model.kinds import StateType
from callsheet._model.runs import TaskRun, TaskRunPolicy
from callsheet._model.states import State, StateDetails
from callsheet.context import FlowRunContext, TaskRunContext, current_tags


def local_run(
    task: Any,
    id: UUID | None,
    parameters: dict[str, Any] | None,
    flow_run_context: FlowRunContext | None,
    parent_task_run_context: TaskRunContext | None,
    wait_for: Iterable[Any] | None,
    extra_task_inputs: Mapping[str, Any] | None,
    deferred: bool,
) -> TaskRun:
    """Make a task run that nobody stores."""
    flow_context = flow_run_context or FlowRunContext.get()
    parent = parent_task_run_context or TaskRunContext.get()
    flow_run_id: UUID | None = None if flow_context is None else flow_context.flow_run.id
    run_id = id or new_id()
    dynamic_key = uuid.uuid4().hex if flow_run_id is not None else f"{task.task_key}-{uuid.uuid4().hex}"
    state: State[Any] = State(
        type=StateType.SCHEDULED if deferred else StateType.PENDING,
        state_details=StateDetails(task_run_id=run_id, flow_run_id=flow_run_id, deferred=True if deferred else None),
    )
    tags = set(current_tags()) | task.tags
    run = TaskRun(
        id=run_id,
        name=task.name if flow_run_id is None else default_task_run_name(task.name, dynamic_key),
        flow_run_id=flow_run_id,
        task_key=task.task_key,
        dynamic_key=dynamic_key,
        task_version=task.version,
        empirical_policy=TaskRunPolicy(
            retries=task.retries, retry_delay=task.retry_delay_seconds, retry_jitter_factor=task.retry_jitter_factor
        ),
        tags=sorted(tags),
        task_inputs=_inputs(task, parameters or {}, flow_context, parent, wait_for, extra_task_inputs),
        expected_start_time=state.timestamp,
        created=state.timestamp,
        updated=state.timestamp,
    )
    run.set_state(state)
    return run


def _inputs(
    task: Any,
    parameters: dict[str, Any],
    flow_context: FlowRunContext | None,
    parent: TaskRunContext | None,
    wait_for: Iterable[Any] | None,
    extra: Mapping[str, Any] | None,
) -> dict[str, list[Any]]:
    live = None if flow_context is None else getattr(flow_context, "_run", None)
    _, found = find_inputs(parameters, wait_for, None if live is None else live.known)
    if parent is not None:
        found = (*found, ("__parents__", (parent.task_run.id,)))
    inputs = task_inputs_of(parameters, found)
    for name, items in (extra or {}).items():
        known = inputs.setdefault(name, [])
        known += [item for item in items if item not in known]
    return inputs


async def create_local_task_run(task: Any, *, client: Any = None, **given: Any) -> TaskRun:
    """Make a task run that nobody stores (see `Task.create_local_run`); it needs no client."""
    del client
    return local_run(task, **given)


async def create_task_run(task: Any, *, client: Any = None, **given: Any) -> TaskRun:
    """Make a task run and store it (see `Task.create_run`).

    Raises:
        NotImplementedError: It is to be left to a task worker, with parameters.
    """
    if given["deferred"] and (given["parameters"] or given["wait_for"]):
        raise NotImplementedError("create_run(deferred=True) with parameters or `wait_for` is not implemented yet")
    run = local_run(task, **given)
    context = given["flow_run_context"] or FlowRunContext.get()
    live = None if context is None else getattr(context, "_run", None)
    if live is not None:
        run.dynamic_key = str(live.count_by_hand(task.task_key))
        run.name = f"{task.name}-{run.dynamic_key}"
    elif run.flow_run_id is None:
        run.name = task.name
    if client is not None:
        return await _store(client, task, run)
    from callsheet.client.orchestration import get_client

    async with get_client() as own:
        return await _store(own, task, run)


async def _store(client: Any, task: Any, run: TaskRun) -> TaskRun:
    return await client.create_task_run(
        task=task,
        flow_run_id=run.flow_run_id,
        dynamic_key=run.dynamic_key,
        id=run.id,
        name=run.name,
        state=run.state,
        task_inputs=run.task_inputs,
        extra_tags=set(run.tags) - task.tags,
    )

