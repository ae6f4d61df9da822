"""The `runtime` modules as bodies of real runs see them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from callsheet import flow, runtime, tags, task
from callsheet.context import FlowRunContext, TaskRunContext


@task(tags=["t"])
def look_at_task(y: int, z: int = 5) -> dict[str, Any]:
    context = TaskRunContext.get()
    assert context is not None
    assert runtime.task_run.id == str(context.task_run.id)
    assert runtime.flow_run.id == str(context.task_run.flow_run_id)
    return {name: getattr(runtime.task_run, name) for name in ("name", "task_name", "tags", "parameters", "run_count")}


@flow(version="v7", flow_run_name="the-run")
def look_at_flow(x: int) -> dict[str, Any]:
    context = FlowRunContext.get()
    assert context is not None
    assert runtime.flow_run.id == str(context.flow_run.id)
    assert abs(runtime.flow_run.scheduled_start_time - datetime.now(UTC)) < timedelta(seconds=30)
    assert runtime.task_run.id is None
    assert runtime.task_run.parameters == {}
    names = "name flow_name flow_version tags parameters run_count parent_flow_run_id parent_deployment_id"
    return {name: getattr(runtime.flow_run, name) for name in names.split()}


def test_in_a_flow_run() -> None:
    with tags("a"):
        found = look_at_flow("3")  # type: ignore[arg-type]
    assert found == {
        "name": "the-run",
        "flow_name": "look-at-flow",
        "flow_version": "v7",
        "tags": ["a"],
        "parameters": {"x": 3},
        "run_count": 1,
        "parent_flow_run_id": None,
        "parent_deployment_id": None,
    }
    assert runtime.flow_run.id is None
    assert (runtime.flow_run.parameters, runtime.flow_run.tags, runtime.flow_run.run_count) == ({}, [], 0)


@pytest.mark.anyio
async def test_in_task_runs() -> None:
    @flow
    async def outer() -> list[dict[str, Any]]:
        return [look_at_task(1), look_at_task.submit(1).result(), look_at_task.map([1]).result()[0]]

    for found in await outer():
        assert found.pop("name").startswith("look_at_task-")
        assert found == {"task_name": "look_at_task", "tags": ["t"], "parameters": {"y": 1, "z": 5}, "run_count": 1}
    assert runtime.task_run.id is None


@pytest.mark.anyio
async def test_parents_and_roots() -> None:
    def ids() -> tuple[str | None, str | None, str | None]:
        return runtime.flow_run.id, runtime.flow_run.parent_flow_run_id, runtime.flow_run.root_flow_run_id

    @flow
    def inner() -> Any:
        return ids()

    @task
    async def between() -> Any:
        return ids(), inner()

    @flow
    async def middle() -> Any:
        return ids(), inner.submit().result(), await between()

    @flow
    async def outer() -> Any:
        return ids(), await middle()

    (root, no_parent, own_root), (second, third, (in_task, fourth)) = await outer()
    assert (no_parent, own_root) == (None, root)
    assert second[1:] == (root, root)
    assert third[1:] == fourth[1:] == (second[0], root)
    assert in_task == second
    assert len({root, second[0], third[0], fourth[0]}) == 4


@pytest.mark.anyio
async def test_attempts_are_counted() -> None:
    seen: list[tuple[str, int]] = []

    @task(retries=2)
    async def tries() -> None:
        seen.append(("task", runtime.task_run.run_count))
        raise ValueError

    @flow(retries=1)
    async def outer() -> None:
        seen.append(("flow", runtime.flow_run.run_count))
        await tries()

    await outer(return_state=True)
    tasks = [("task", 1), ("task", 2), ("task", 3)]
    assert seen == [("flow", 1), *tasks, ("flow", 2), *tasks]


def test_a_mock_from_the_environment_inside_a_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CALLSHEET__RUNTIME__FLOW_RUN__NAME", "mocked")
    monkeypatch.setenv("CALLSHEET__RUNTIME__FLOW_RUN__RUN_COUNT", "7")
    found = look_at_flow(1)
    assert (found["name"], found["run_count"]) == ("mocked", 7)
