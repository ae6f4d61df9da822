"""Task runs that are made without being run: `Task.create_run` and `Task.create_local_run`."""

from __future__ import annotations

from uuid import uuid4

import pytest

from callsheet import flow, get_client, tags, task
from callsheet.client.schemas.objects import TaskRunResult
from callsheet.context import FlowRunContext, TaskRunContext
from callsheet.exceptions import ObjectAlreadyExists, ObjectNotFound
from callsheet.states import StateType

pytestmark = pytest.mark.anyio


@task(tags=["metal"], retries=2, retry_delay_seconds=3, version="4")
async def melt(ore: str, grams: int = 1) -> str:
    return ore * grams


@task
async def dig() -> str:
    return "ore"


async def test_a_run_outside_of_flows_is_stored():
    with tags("night"):
        run = await melt.create_run()
    assert run.name == "melt"
    assert run.flow_run_id is None
    assert run.dynamic_key.startswith(f"{melt.task_key}-")
    assert run.task_key == melt.task_key
    assert run.task_version == "4"
    assert (run.empirical_policy.retries, run.empirical_policy.retry_delay) == (2, 3)
    assert sorted(run.tags) == ["metal", "night"]
    assert run.state_type is StateType.PENDING
    async with get_client() as client:
        assert await client.read_task_run(run.id) == run


async def test_inside_a_flow_runs_are_counted():
    @flow
    async def smithy():
        runs = [await melt.create_run(), await melt.create_run(), await dig.create_run()]
        return FlowRunContext.get().flow_run.id, runs

    flow_run_id, runs = await smithy()
    assert [run.name for run in runs] == ["melt-0", "melt-1", "dig-0"]
    assert [run.dynamic_key for run in runs] == ["0", "1", "0"]
    assert {run.flow_run_id for run in runs} == {flow_run_id}


async def test_the_id_can_be_chosen_once():
    chosen = uuid4()
    assert (await melt.create_run(id=chosen)).id == chosen
    with pytest.raises(ObjectAlreadyExists):
        await melt.create_run(id=chosen)


async def test_a_client_can_be_handed_over():
    async with get_client() as client:
        run = await melt.create_run(client=client)
        assert await client.read_task_run(run.id) == run


async def test_upstream_runs_are_found():
    @task
    async def around():
        return await melt.create_run(parameters={"ore": 1, "grams": 2}), TaskRunContext.get().task_run.id

    @flow
    async def smithy():
        ore = dig.submit()
        other = dig.submit()
        run = await melt.create_run(
            parameters={"ore": ore, "grams": 2},
            wait_for=[other],
            extra_task_inputs={
                "ore": [TaskRunResult(id=ore.task_run_id)],
                "fuel": [TaskRunResult(id=other.task_run_id)],
            },
        )
        return run, ore.task_run_id, other.task_run_id, *(await around())

    run, ore, other, child, parent = await smithy()
    assert run.task_inputs == {
        "ore": [TaskRunResult(id=ore)],
        "grams": [],
        "wait_for": [TaskRunResult(id=other)],
        "fuel": [TaskRunResult(id=other)],
    }
    assert child.task_inputs == {"ore": [], "grams": [], "__parents__": [TaskRunResult(id=parent)]}


async def test_contexts_can_be_handed_over():
    @task
    async def outer():
        return TaskRunContext.get()

    @flow
    async def smithy():
        return {"flow": FlowRunContext.get(), "task": await outer()}

    contexts = await smithy()
    run = await dig.create_local_run(flow_run_context=contexts["flow"], parent_task_run_context=contexts["task"])
    assert run.flow_run_id == contexts["flow"].flow_run.id
    assert run.task_inputs == {"__parents__": [TaskRunResult(id=contexts["task"].task_run.id)]}


async def test_a_deferred_run_is_scheduled():
    run = await melt.create_run(deferred=True)
    assert run.state_type is StateType.SCHEDULED
    assert run.state.state_details.deferred is True
    local = await melt.create_local_run(deferred=True)
    assert local.state_type is StateType.SCHEDULED
    assert melt.persist_result is None


@pytest.mark.parametrize("given", [{"parameters": {"ore": "iron"}}, {"wait_for": [1]}])
async def test_what_a_task_worker_would_need_is_refused(given):
    with pytest.raises(NotImplementedError, match="deferred=True"):
        await melt.create_run(deferred=True, **given)


async def test_a_local_run_is_not_stored():
    run = await melt.create_local_run(parameters={"ore": "iron"})
    assert run.name == "melt"
    assert run.expected_start_time == run.created == run.updated == run.state.timestamp
    assert run.state.state_details.task_run_id == run.id
    assert (run.state_id, run.state_type, run.state_name) == (run.state.id, StateType.PENDING, "Pending")
    async with get_client() as client:
        with pytest.raises(ObjectNotFound):
            await client.read_task_run(run.id)


async def test_a_local_run_in_a_flow_has_a_random_key():
    @flow
    async def smithy():
        return [await melt.create_local_run(), await melt.create_local_run()], FlowRunContext.get().flow_run.id

    runs, flow_run_id = await smithy()
    assert runs[0].dynamic_key != runs[1].dynamic_key
    assert [run.name for run in runs] == [f"melt-{run.dynamic_key[:3]}" for run in runs]
    assert {run.state.state_details.flow_run_id for run in runs} == {flow_run_id}


def test_the_coroutine_says_where_it_belongs():
    with pytest.raises(RuntimeError, match="asyncio or trio"):
        melt.create_run().send(None)
