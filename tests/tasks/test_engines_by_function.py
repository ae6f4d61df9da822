"""`run_task` and `run_flow`: definitions run by a function instead of by a call."""

from __future__ import annotations

import anyio
import pytest

from callsheet import flow, tags, task
from callsheet.context import TaskRunContext, serialize_context
from callsheet.flow_engine import run_flow, run_flow_async, run_flow_sync
from callsheet.task_engine import run_task, run_task_async, run_task_sync


@task
def double(x: int, times: int = 2) -> int:
    return x * times


@task
async def adouble(x: int) -> int:
    await anyio.sleep(0)
    return 2 * x


@flow
def doubles(x: int) -> int:
    return double(x)


@flow
async def adoubles(x: int) -> int:
    return await adouble(x)


def test_sync_definitions_give_values():
    assert run_task(double, parameters={"x": 2}) == 4
    assert run_task_sync(double, parameters={"x": 2, "times": 3}) == 6
    assert run_flow(doubles, parameters={"x": 2}) == 4
    assert run_flow_sync(doubles, parameters={"x": 2}) == 4


def test_states_on_request():
    assert run_task(double, parameters={"x": 2}, return_type="state").data == 4
    assert run_flow(doubles, parameters={"x": 2}, return_type="state").data == 4


def test_other_return_types_are_refused():
    for call in (run_task, run_flow):
        with pytest.raises(ValueError, match="`return_type` must be 'state' or 'result', not 'value'"):
            call(double if call is run_task else doubles, parameters={"x": 2}, return_type="value")


@pytest.mark.anyio
async def test_async_definitions_give_coroutines():
    assert await run_task(adouble, parameters={"x": 2}) == 4
    assert await run_task_async(adouble, parameters={"x": 2}) == 4
    assert await run_flow(adoubles, parameters={"x": 2}) == 4
    assert await run_flow_async(adoubles, parameters={"x": 2}) == 4


def test_generators_give_generators():
    @task
    def count(upto: int):
        yield from range(upto)

    assert list(run_task(count, parameters={"upto": 3})) == [0, 1, 2]
    with pytest.raises(NotImplementedError, match="`context` of run_task"):
        run_task(count, parameters={"upto": 3}, context=serialize_context())


def test_futures_are_waited_for():
    @flow
    def around() -> tuple[int, int]:
        before = double.submit(1)
        return run_task(double, parameters={"x": before}, wait_for=[before]), before.result()

    assert around() == (4, 2)


def test_each_colour_has_its_function():
    with pytest.raises(TypeError, match="run_task_async"):
        run_task_sync(adouble, parameters={"x": 2})
    with pytest.raises(TypeError, match="run_flow_async"):
        run_flow_sync(adoubles, parameters={"x": 2})
    with pytest.raises(TypeError, match="run_task_sync"):
        run_task_async(double, parameters={"x": 2}).send(None)
    with pytest.raises(TypeError, match="run_flow_sync"):
        run_flow_async(doubles, parameters={"x": 2}).send(None)


def test_a_context_is_entered_for_the_run():
    @task
    def tagged() -> list[str]:
        return TaskRunContext.get().task_run.tags

    with tags("night"):
        described = serialize_context()
    assert tagged() == []
    assert run_task(tagged, context=described) == ["night"]


@pytest.mark.anyio
async def test_a_context_is_entered_for_an_async_run():
    @task
    async def tagged() -> list[str]:
        return TaskRunContext.get().task_run.tags

    with tags("night"):
        described = serialize_context()
    assert await run_task(tagged, context=described) == ["night"]


@pytest.mark.parametrize("name", ["task_run_id", "task_run", "dependencies"])
def test_arguments_of_later_releases_are_named(name):
    with pytest.raises(NotImplementedError, match=f"`{name}`"):
        run_task(double, parameters={"x": 1}, **{name: object()})


def test_a_flow_run_that_was_made_before_is_refused():
    with pytest.raises(NotImplementedError, match="`flow_run`"):
        run_flow(doubles, flow_run=object(), parameters={"x": 1})
