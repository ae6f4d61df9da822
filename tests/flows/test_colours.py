"""Sync and async code in each other, on every loop and on none."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import anyio
import pytest

from callsheet import flow, task
from callsheet.exceptions import BlockingWaitError
from callsheet.futures import TaskFuture


@task
def double(x: int) -> int:
    return 2 * x


@task
async def adouble(x: int) -> int:
    await anyio.sleep(0)
    return 2 * x


@flow
def sync_sum(n: int) -> int:
    return sum(future.result() for future in [double.submit(i) for i in range(n)])


@flow
async def async_sum(n: int) -> int:
    futures = [(double if i % 2 else adouble).submit(i) for i in range(n)]
    return sum(future.result() for future in futures)


# ------------------------------------------------------------------------------------------- no loop


def test_a_sync_call_gives_the_value_and_an_async_one_a_coroutine() -> None:
    assert double(2) == 4
    assert sync_sum(3) == 6
    coroutine = async_sum(3)
    assert asyncio.iscoroutine(coroutine)
    assert asyncio.run(coroutine) == 6


def test_an_async_subflow_that_a_sync_flow_returns_is_the_callers_to_await() -> None:
    @flow
    def outer() -> Any:
        return async_sum(3)

    assert asyncio.run(outer()) == 6


def test_async_tasks_are_submitted_in_sync_flows() -> None:
    @flow
    def outer() -> list[int]:
        return adouble.map([1, 2, 3]).result()

    assert outer() == [2, 4, 6]


def test_many_sync_calls_from_many_threads_are_runs_of_their_own() -> None:
    found: list[int] = []

    def call() -> None:
        found.append(sync_sum(4))

    threads = [threading.Thread(target=call) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [12] * 6


@pytest.mark.parametrize("colour", ["sync", "async"])
def test_a_task_outside_of_flows_is_a_run(colour: str) -> None:
    state = double(4, return_state=True) if colour == "sync" else asyncio.run(adouble(4, return_state=True))
    assert state.is_completed()
    assert state.result() == 8
    assert state.state_details.flow_run_id is None
    assert state.state_details.task_run_id is not None


# --------------------------------------------------------------------------------------- on any loop


@pytest.mark.anyio
async def test_a_sync_flow_runs_in_the_thread_of_the_loop_that_calls_it() -> None:
    @flow
    def where() -> int:
        return threading.get_ident()

    assert where() == threading.get_ident()
    assert double(3) == 6


@pytest.mark.anyio
async def test_a_sync_root_that_waits_on_the_loops_thread_does_not_hang() -> None:
    # Every cell of a notebook calls flows like this.
    @flow
    def outer() -> list[int]:
        return [double.submit(1).result(), adouble.submit(2).result(), sync_sum(3)]

    assert outer() == [2, 4, 6]


@pytest.mark.anyio
async def test_flows_of_both_colours_nest() -> None:
    @flow
    def innermost(x: int) -> int:
        return adouble.submit(double(x)).result()

    @flow
    async def inner(x: int) -> int:
        return innermost(x) + await adouble(x)

    @flow
    def middle(x: int) -> Any:
        return inner(x)

    @flow
    async def outer(x: int) -> int:
        return await middle(x) + innermost(x)

    assert await outer(1) == 10


@pytest.mark.anyio
async def test_a_sync_flow_below_an_async_one_lets_the_loop_go_on() -> None:
    opened = anyio.Event()

    @task
    async def wait_for_it() -> str:
        await opened.wait()
        return "opened"

    @flow
    def blocks() -> str:
        return wait_for_it.submit().result()

    @flow
    async def outer() -> str:
        async with anyio.create_task_group() as group:
            group.start_soon(open_it)
            return blocks()

    async def open_it() -> None:
        opened.set()

    assert await outer() == "opened"


@pytest.mark.anyio
async def test_futures_give_plain_values_in_async_flows() -> None:
    @flow
    async def outer() -> list[Any]:
        future = adouble.submit(1)
        assert isinstance(future, TaskFuture)
        assert future.wait() is None
        return [future.result(), await future, future.state.name, await adouble.submit(3), double.map([1, 2]).result()]

    assert await outer() == [2, 2, "Completed", 6, [2, 4]]


@pytest.mark.anyio
async def test_states_follow_the_run_that_asks_for_their_result() -> None:
    seen: dict[str, Any] = {}

    @flow
    def in_sync() -> None:
        seen["sync flow"] = double(1, return_state=True).result()

    @flow
    async def in_async() -> None:
        seen["async flow"] = await (await adouble(2, return_state=True)).result()
        state = double(3, return_state=True)
        seen["sync task's state in an async flow"] = await state.result()
        in_sync()

    await in_async()
    assert seen == {"async flow": 4, "sync flow": 2, "sync task's state in an async flow": 6}


@pytest.mark.anyio
async def test_tasks_start_in_every_way_that_coroutine_functions_do(anyio_backend_name: str) -> None:
    found: list[int] = []

    @task
    async def note(x: int) -> None:
        await anyio.sleep(0)
        found.append(x)

    @flow
    async def outer() -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(note, 1)
            group.start_soon(note, 2)
        if anyio_backend_name == "asyncio":
            await asyncio.gather(note(3), note(4))
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(note(5))
                tasks.create_task(note(6))
            await asyncio.create_task(note(7))
            await asyncio.wait_for(note(8), 10)

    await outer()
    assert sorted(found) == ([1, 2, 3, 4, 5, 6, 7, 8] if anyio_backend_name == "asyncio" else [1, 2])


@pytest.mark.anyio
async def test_gathered_tasks_may_block_on_futures(anyio_backend_name: str) -> None:
    if anyio_backend_name != "asyncio":
        pytest.skip("gather is asyncio's")

    @task
    async def blocks(x: int) -> int:
        return adouble.submit(x).result()

    @flow
    async def outer() -> list[int]:
        return await asyncio.gather(*(blocks(x) for x in range(5)))

    assert await outer() == [0, 2, 4, 6, 8]


@pytest.mark.anyio
async def test_a_helper_that_nobody_drives_is_told_what_to_do() -> None:
    refused: list[str] = []

    async def helper() -> None:
        try:
            slow.submit().result()
        except BlockingWaitError as error:
            refused.append(str(error))

    release = anyio.Event()

    @task
    async def slow() -> None:
        await release.wait()

    @flow
    async def outer() -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(helper)
        release.set()

    await outer()
    assert len(refused) == 1
    assert "await future" in refused[0]
    assert "callsheet.drive" in refused[0]


@pytest.mark.anyio
async def test_a_submitted_tasks_body_runs_while_the_flow_awaits_something_else() -> None:
    met = anyio.Event()

    @task
    async def meet() -> None:
        met.set()

    @flow
    async def outer() -> str:
        meet.submit()
        await met.wait()
        return "met"

    with anyio.fail_after(10):
        assert await outer() == "met"


# ----------------------------------------------------------------------------------------- recursion

DEPTH = 40


@task
def down(n: int) -> int:
    return 0 if n == 0 else 1 + down.submit(n - 1).result()


@task
async def adown(n: int) -> int:
    return 0 if n == 0 else 1 + adown.submit(n - 1).result()


@task
async def adown_awaiting(n: int) -> int:
    return 0 if n == 0 else 1 + await adown_awaiting.submit(n - 1)


@task
def zigzag(n: int) -> int:
    return 0 if n == 0 else 1 + azigzag.submit(n - 1).result()


@task
async def azigzag(n: int) -> int:
    return 0 if n == 0 else 1 + zigzag.submit(n - 1).result()


@pytest.mark.parametrize("recursive", [down, adown, adown_awaiting, zigzag, azigzag], ids=lambda each: each.name)
def test_submits_may_nest_deep_in_sync_flows(recursive: Any) -> None:
    @flow
    def outer() -> int:
        return recursive.submit(DEPTH).result()

    assert outer() == DEPTH


@pytest.mark.anyio
@pytest.mark.parametrize("recursive", [down, adown, adown_awaiting, zigzag, azigzag], ids=lambda each: each.name)
async def test_submits_may_nest_deep_in_async_flows(recursive: Any) -> None:
    @flow
    async def outer() -> int:
        return recursive.submit(DEPTH).result()

    assert await outer() == DEPTH


@pytest.mark.anyio
async def test_flows_may_call_themselves() -> None:
    @flow
    async def countdown(n: int) -> list[int]:
        return [n, *(await countdown(n - 1))] if n else [0]

    @flow
    def sync_countdown(n: int) -> list[int]:
        return [n, *sync_countdown(n - 1)] if n else [0]

    assert await countdown(12) == list(range(12, -1, -1))
    assert sync_countdown(12) == list(range(12, -1, -1))
