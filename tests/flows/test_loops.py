"""Several loops and threads in one process: each runs flows, and they meet."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import Callable
from typing import Any

import anyio
import pytest

from callsheet import flow, task
from callsheet.context import FlowRunContext


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


def test_a_flow_is_a_programs_main(run_on: Callable[..., Any]) -> None:
    @flow
    async def main(x: int) -> int:
        return await adouble(x)

    assert run_on(main, 1) == 2
    assert run_on(main, 2) == 4


def test_trio_runs_a_flow() -> None:
    import trio

    @flow
    async def main(x: int) -> int:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(adouble, x)
        return await adouble(x)

    assert trio.run(main, 5) == 10


def test_loops_of_many_threads_run_flows_at_once() -> None:
    found: list[int] = []

    def own_loop(backend: str) -> None:
        found.append(anyio.run(async_sum, 5, backend=backend))

    threads = [threading.Thread(target=own_loop, args=(name,)) for name in ["asyncio", "trio"] * 3]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [20] * 6


@pytest.mark.anyio
async def test_a_worker_thread_inside_a_flow_may_have_a_loop_of_its_own() -> None:
    def elsewhere() -> int:
        return asyncio.run(async_sum(3))

    @flow
    async def outer() -> int:
        return await anyio.to_thread.run_sync(elsewhere) + await adouble(1)

    assert await outer() == 8


@pytest.mark.anyio
async def test_a_sync_flow_may_be_called_on_a_worker_thread() -> None:
    assert await anyio.to_thread.run_sync(sync_sum, 4) == 12

    @flow
    async def outer() -> int:
        return await anyio.to_thread.run_sync(sync_sum, 4)

    assert await outer() == 12


def test_a_sync_task_may_run_a_loop_of_its_own() -> None:
    @task
    def with_loop(x: int) -> int:
        return asyncio.run(adouble(x))

    @flow
    def outer() -> list[int]:
        return with_loop.map([1, 2, 3]).result()

    assert outer() == [2, 4, 6]


@pytest.mark.anyio
@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@pytest.mark.parametrize("timeout", [None, 30])
async def test_a_sync_task_inside_a_loop_may_run_one_too(backend: str, timeout: float | None) -> None:
    @task(timeout_seconds=timeout)
    def with_loop(x: int) -> int:
        return anyio.run(adouble, x, backend=backend)

    @flow
    async def outer() -> list[int]:
        return with_loop.map([1, 2, 3]).result()

    assert await outer() == [2, 4, 6]


@pytest.mark.anyio
async def test_a_future_is_waited_for_and_awaited_from_another_loop() -> None:
    @flow
    async def outer() -> list[int]:
        future = adouble.submit(4)

        async def elsewhere() -> int:
            return await future

        waited = await anyio.to_thread.run_sync(future.result)
        awaited = await anyio.to_thread.run_sync(asyncio.run, elsewhere())
        return [waited, awaited]

    assert await outer() == [8, 8]


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_sync_flow_may_run_a_loop_in_its_body(backend: str) -> None:
    @flow
    async def inner(x: int) -> list[int]:
        futures = [adouble.submit(x), double.submit(x)]
        return [future.result() for future in futures] + [await adouble(x)]

    @flow
    def outer() -> Any:
        return anyio.run(inner, 2, backend=backend), inner.submit(1).result(), adouble.submit(1).result()

    assert outer() == ([4, 4, 4], [2, 2, 2], 2)


def test_threads_of_users_start_roots_or_with_the_context_subflows() -> None:
    parents: list[Any] = []

    @flow
    def inner() -> int:
        context = FlowRunContext.get()
        assert context is not None
        parents.append(context.flow_run.parent_task_run_id)
        return double.submit(1).result()

    @flow
    def outer() -> None:
        for target in (inner, lambda: contextvars.copy_context().run(inner)):
            thread = threading.Thread(target=target)
            thread.start()
            thread.join()
        context = contextvars.copy_context()
        thread = threading.Thread(target=context.run, args=(inner,))
        thread.start()
        thread.join()

    outer()
    assert [parent is None for parent in parents] == [True, True, False]


@pytest.mark.anyio
async def test_tasks_are_submitted_from_worker_threads() -> None:
    @flow
    async def outer() -> list[int]:
        futures = await anyio.to_thread.run_sync(lambda: [adouble.submit(1), double.submit(2)])
        return [future.result() for future in futures]

    assert await outer() == [2, 4]


@pytest.mark.anyio
async def test_an_async_subflow_of_a_sync_task_runs_on_the_loop_of_its_flow() -> None:
    where: list[int] = []

    @flow
    async def inner(x: int) -> int:
        where.append(threading.get_ident())
        return await adouble(x)

    @task
    def calls(x: int) -> int:
        return inner.submit(x).result()

    @flow
    async def outer() -> list[int]:
        return [calls(3), calls.submit(3).result()]

    assert await outer() == [6, 6]
    assert where == [threading.get_ident()] * 2
