"""Context objects: entered by a run or by hand, read from anywhere, carried elsewhere as data."""

from __future__ import annotations

import asyncio
import contextvars
import pickle
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from types import SimpleNamespace
from typing import Any

import anyio
import cloudpickle
import pytest

from callsheet import Task, flow, get_run_logger, runtime, tags, task
from callsheet._clock import utc_now
from callsheet.context import (
    ContextModel,
    EngineContext,
    FlowRunContext,
    TagsContext,
    TaskRunContext,
    current_tags,
    get_run_context,
    hydrated_context,
    serialize_context,
)
from callsheet.exceptions import MissingContextError
from callsheet.task_runners import ThreadPoolTaskRunner


class Colour(ContextModel):
    __var__ = contextvars.ContextVar("colour")
    name: str


# ------------------------------------------------------------------------------------------- by hand


def test_outside_of_a_context_there_is_none() -> None:
    assert Colour.get() is None


def test_contexts_nest_by_class() -> None:
    outer, inner = Colour(name="red"), Colour(name="blue")
    assert Colour.get() is None
    with outer:
        with inner as entered:
            assert entered is inner
            assert Colour.get() is inner
        assert Colour.get() is outer
    assert Colour.get() is None


def test_a_context_is_entered_once_at_a_time() -> None:
    context = Colour(name="red")
    with context, pytest.raises(RuntimeError, match="Context already entered"), context:
        pass
    with context:
        assert Colour.get() is context
    with pytest.raises(RuntimeError, match="Asymmetric use of context"):
        context.__exit__(None, None, None)


def test_a_context_ends_with_an_error_too() -> None:
    with pytest.raises(ValueError, match="no"), Colour(name="red"):
        raise ValueError("no")
    assert Colour.get() is None


def test_a_copy_can_be_entered_inside_its_origin() -> None:
    context = Colour(name="red")
    with context:
        copy = context.model_copy(update={"name": "blue"})
        with copy:
            assert (Colour.get().name, context.name) == ("blue", "red")
        assert Colour.get() is context


def test_run_contexts_made_by_hand_are_those_of_the_code_inside() -> None:
    flow_run = SimpleNamespace(id=1, name="by-hand", tags=["t"])
    with FlowRunContext.model_construct(flow_run=flow_run, flow=SimpleNamespace(name="f")) as context:
        assert FlowRunContext.get() is context
        assert get_run_context() is context
        assert runtime.flow_run.name == "by-hand"
        assert get_run_logger().extra["flow_run_name"] == "by-hand"  # type: ignore[index,union-attr]
        assert isinstance(context.start_time, datetime)
        with pytest.raises(AttributeError, match="'FlowRunContext' has no 'task_runner'"):
            _ = context.task_runner
        with TaskRunContext(task_run=SimpleNamespace(id=2, name="t")) as inner:
            assert get_run_context() is inner
        assert get_run_context() is context
    assert FlowRunContext.get() is None


def test_runs_that_begin_inside_a_context_made_by_hand_have_their_own() -> None:
    @task
    def work() -> tuple[Any, Any]:
        return FlowRunContext.get(), TaskRunContext.get()

    @flow
    def run() -> tuple[Any, Any, Any]:
        with FlowRunContext(flow_run="again by hand") as entered:
            inside = FlowRunContext.get() is entered and work()[0] is entered
        return FlowRunContext.get(), TaskRunContext.get(), inside

    with FlowRunContext(flow_run="by hand") as flow_context, TaskRunContext(task_run="by hand"):
        found, no_task, inside = run()
        assert found is not flow_context
        assert found.flow.name == "run"
        assert no_task is None
        assert inside
        around, own = work()
        assert around is flow_context
        assert own.task.name == "work"


def test_outside_of_runs() -> None:
    assert FlowRunContext.get() is TaskRunContext.get() is EngineContext.get() is None
    assert TagsContext.get().current_tags == set()
    with pytest.raises(MissingContextError, match="No run context available"):
        get_run_context()


@pytest.mark.parametrize("tag", [1, None, ["a"]])
def test_tags_are_texts(tag: Any) -> None:
    with pytest.raises(TypeError, match="Tags are strings; got "), tags("a", tag):
        pass


def test_tags_by_their_context() -> None:
    with TagsContext(current_tags={"a"}):
        assert current_tags() == {"a"}
        with tags("b"):
            assert TagsContext.get().current_tags == {"a", "b"}
        with TagsContext(current_tags={"c"}):
            assert current_tags() == {"c"}
        assert TagsContext.get().current_tags == {"a"}
    assert current_tags() == frozenset()


# ------------------------------------------------------------------------------------------- in runs


@pytest.mark.anyio
async def test_what_a_body_finds_in_its_contexts() -> None:
    @task
    def work(y: int) -> None:
        flow_context, context = FlowRunContext.get(), TaskRunContext.get()
        assert flow_context is not None
        assert context is not None
        assert flow_context.flow is outer
        assert get_run_context() is context
        assert context.task.name == "work"
        assert context.parameters == {"y": y}
        assert context.task_run.flow_run_id == flow_context.flow_run.id
        assert context.task_run.state_name == "Running"
        assert context.log_prints is False

    @flow
    async def outer(x: int = 3) -> None:
        context = FlowRunContext.get()
        assert context is not None
        assert FlowRunContext.get() is context
        assert get_run_context() is context
        assert context.parameters == {"x": 3}
        assert context.flow_run.state_name == "Running"
        assert context.flow_run.run_count == 1
        assert isinstance(context.task_runner, ThreadPoolTaskRunner)
        assert isinstance(context.start_time, datetime)
        assert TaskRunContext.get() is None
        work(1)
        work.submit(2).result()
        assert FlowRunContext.get() is context

    await outer()
    assert FlowRunContext.get() is None


@pytest.mark.anyio
async def test_a_subflow_inside_a_task_is_no_part_of_the_task() -> None:
    @flow
    def inner() -> bool:
        return TaskRunContext.get() is None and runtime.flow_run.flow_name == "inner"

    @task
    def between() -> bool:
        return inner() and TaskRunContext.get() is not None

    @flow
    async def outer() -> bool:
        return between()

    assert await outer()


@pytest.mark.anyio
async def test_contexts_reach_threads_and_tasks_that_a_body_starts() -> None:
    @flow(flow_run_name="around")
    async def outer() -> list[str]:
        found: list[str] = []

        async def helper() -> None:
            found.append(runtime.flow_run.name)

        async with anyio.create_task_group() as group:
            group.start_soon(helper)
        found.append(await anyio.to_thread.run_sync(lambda: runtime.flow_run.name))
        context = contextvars.copy_context()
        thread = threading.Thread(target=context.run, args=(lambda: found.append(runtime.flow_run.name),))
        thread.start()
        thread.join()
        return found

    assert await outer() == ["around"] * 3


def test_a_thread_that_knows_nothing_is_outside() -> None:
    @flow
    def outer() -> Any:
        with ThreadPoolExecutor(1) as pool:
            return pool.submit(FlowRunContext.get).result()

    assert outer() is None


@pytest.mark.anyio
async def test_code_that_outlives_its_run_starts_runs_of_its_own() -> None:
    """A helper that a body started and left behind still sees the ended run, but calls no children of it."""
    may_go_on, done = anyio.Event(), anyio.Event()
    found: list[Any] = []

    @task
    async def late() -> Any:
        return runtime.task_run.id and FlowRunContext.get()

    async def helper() -> None:
        await may_go_on.wait()
        found.append(await late())
        done.set()

    async with anyio.create_task_group() as group:

        @flow
        async def outer() -> None:
            group.start_soon(helper)

        await outer()
        may_go_on.set()
        await done.wait()
    assert found == [None]


# ---------------------------------------------------------------------------------------- as plain data


def test_nothing_to_carry() -> None:
    described = serialize_context()
    assert pickle.loads(pickle.dumps(described)) == described
    with hydrated_context(described):
        assert FlowRunContext.get() is None
        assert TaskRunContext.get() is None
    with hydrated_context():
        assert FlowRunContext.get() is None


@pytest.mark.anyio
async def test_contexts_are_carried_as_data() -> None:
    carried: list[bytes] = []

    @task(log_prints=True)
    def work(y: int) -> tuple[Any, Any]:
        carried.append(cloudpickle.dumps(serialize_context()))
        flow_context, context = FlowRunContext.get(), TaskRunContext.get()
        assert flow_context is not None
        assert context is not None
        return flow_context.flow_run.id, context.task_run.id

    @flow(flow_run_name="carried")
    async def outer(x: int) -> tuple[Any, Any]:
        with tags("t"):
            return work(x + 1)

    ids = await outer(1)
    with hydrated_context(pickle.loads(carried[0])):
        flow_context, context = FlowRunContext.get(), TaskRunContext.get()
        assert flow_context is not None
        assert context is not None
        assert (flow_context.flow_run.id, context.task_run.id) == ids
        assert (flow_context.flow.name, context.task.name) == ("outer", "work")
        assert (flow_context.flow_run.state_name, context.task_run.state_name) == ("Running", "Running")
        assert (flow_context.log_prints, context.log_prints) == (False, True)
        assert (flow_context.persist_result, context.persist_result) == (False, False)
        assert flow_context.start_time <= context.start_time < utc_now()
        assert (flow_context.parameters, context.parameters) == ({"x": 1}, {"y": 2})
        assert (runtime.flow_run.name, runtime.flow_run.parameters) == ("carried", {"x": 1})
        assert runtime.task_run.id == str(ids[1])
        assert current_tags() == {"t"}
        assert get_run_context() is context
    assert FlowRunContext.get() is TaskRunContext.get() is None
    assert current_tags() == frozenset()


def test_a_carried_flow_run_context_without_a_task() -> None:
    @flow
    def outer() -> dict[str, Any]:
        return serialize_context()

    described = outer()
    with hydrated_context(described):
        assert FlowRunContext.get() is not None
        assert TaskRunContext.get() is None


def test_tasks_called_inside_a_carried_context_have_its_tags() -> None:
    @task
    def work() -> list[str]:
        return runtime.task_run.tags

    with tags("far"):
        described = serialize_context()
    assert work() == []
    with hydrated_context(described):
        assert work() == ["far"]
        assert asyncio.run(_called_on_a_loop(work)) == ["far"]


async def _called_on_a_loop(work: Task[[], list[str]]) -> list[str]:
    return work()
