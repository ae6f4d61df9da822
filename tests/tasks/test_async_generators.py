"""Asynchronous generator tasks and flows, on every event loop."""

from __future__ import annotations

import gc
from collections.abc import AsyncGenerator
from typing import Any

import anyio
import pytest

from callsheet import flow, task
from callsheet.context import FlowRunContext, TaskRunContext
from harness import ever_longer
from past import states_of

BOTH = pytest.mark.parametrize("decorate", [task, flow], ids=["task", "flow"])


def current_run() -> Any:
    context = TaskRunContext.get()
    if context is not None:
        return context.task_run
    flow_context = FlowRunContext.get()
    return None if flow_context is None else flow_context.flow_run


@pytest.mark.anyio
@BOTH
async def test_an_async_generator_streams_and_runs_meanwhile(decorate: Any) -> None:
    seen: list[Any] = []

    @decorate
    async def count(n: int) -> AsyncGenerator[int, None]:
        seen.append(current_run())
        for i in range(n):
            await anyio.sleep(0)
            assert current_run() is seen[0]
            yield i

    stream = count(3)
    assert await stream.__anext__() == 0
    assert current_run() is None
    assert seen[0].state_name == "Running"
    assert [i async for i in stream] == [1, 2]
    assert states_of(seen[0].id) == ["Pending", "Running", "Completed"]


@pytest.mark.anyio
@BOTH
async def test_values_and_exceptions_go_into_async_generators(decorate: Any) -> None:
    @decorate
    async def echo() -> AsyncGenerator[Any, Any]:
        given = yield "ready"
        while True:
            try:
                given = yield given
            except KeyError as error:
                given = f"caught {error}"

    stream = echo()
    assert await stream.__anext__() == "ready"
    assert await stream.asend(1) == 1
    assert await stream.athrow(KeyError("k")) == "caught 'k'"
    await stream.aclose()


@pytest.mark.anyio
@BOTH
async def test_async_generators_fail_and_are_tried_again(decorate: Any) -> None:
    ids: list[Any] = []

    @decorate(retries=1)
    async def shaky() -> AsyncGenerator[int, None]:
        ids.append(current_run().id)
        yield 1
        raise ValueError(f"attempt {len(ids)}")

    found: list[int] = []
    with pytest.raises(ValueError, match="attempt 2"):
        async for i in shaky():
            found.append(i)
    assert found == [1, 1]
    assert states_of(ids[0]) == ["Pending", "Running", "Retrying", "Failed"]


@pytest.mark.anyio
@BOTH
async def test_an_async_generator_has_a_deadline(decorate: Any) -> None:
    @decorate
    async def slow() -> AsyncGenerator[int, None]:
        yield 1
        await anyio.sleep_forever()

    found: list[int] = []
    for seconds in ever_longer(lambda: found):
        stream = slow.with_options(timeout_seconds=seconds)()
        with pytest.raises(TimeoutError):
            while True:
                found.append(await stream.__anext__())
    assert found == [1]


@pytest.mark.anyio
async def test_a_state_cannot_be_streamed_in_async_code_either() -> None:
    @task
    async def count() -> AsyncGenerator[int, None]:
        yield 1

    with pytest.raises(ValueError, match="The return_type for a generator task must be 'result'"):
        await count(return_state=True).__anext__()


@pytest.mark.anyio
@BOTH
async def test_an_async_generator_that_is_closed_early_ends_crashed(decorate: Any) -> None:
    ids: list[Any] = []
    closed: list[int] = []

    @decorate
    async def count() -> AsyncGenerator[int, None]:
        ids.append(current_run().id)
        try:
            yield 1
            yield 2
        finally:
            await anyio.sleep(0)
            closed.append(1)

    stream = count()
    assert await stream.__anext__() == 1
    await stream.aclose()
    assert closed == [1]

    @task
    async def other() -> None: ...

    await other()
    assert states_of(ids[0]) == ["Pending", "Running", "Crashed"]


@pytest.mark.anyio
async def test_scopes_of_the_caller_lie_around_steps_only() -> None:
    @flow
    async def count() -> AsyncGenerator[int, None]:
        for i in range(4):
            await anyio.sleep(0)
            yield i

    found: list[int] = []
    stream = count()
    for _ in range(2):
        with anyio.fail_after(5):
            found.append(await stream.__anext__())
    async with anyio.create_task_group() as group:
        group.start_soon(anyio.sleep, 0)
        found.append(await stream.__anext__())
    found.append(await stream.__anext__())
    with pytest.raises(StopAsyncIteration):
        await stream.__anext__()
    assert found == [0, 1, 2, 3]


@pytest.mark.anyio
async def test_blocking_waits_in_async_generators_work() -> None:
    @task
    async def double(x: int) -> int:
        await anyio.sleep(0)
        return 2 * x

    @flow
    async def doubles(n: int) -> AsyncGenerator[int, None]:
        for i in range(n):
            yield double.submit(i).result()

    assert [i async for i in doubles(3)] == [0, 2, 4]


@pytest.mark.anyio
@pytest.mark.filterwarnings("ignore:.*Async generator.*was garbage collected:ResourceWarning")  # trio's advice
async def test_an_async_generator_that_is_dropped_ends_crashed() -> None:
    ids: list[Any] = []
    closed = anyio.Event()

    @task
    async def count() -> AsyncGenerator[int, None]:
        ids.append(current_run().id)
        try:
            yield 1
        finally:
            closed.set()

    @task
    async def other() -> None: ...

    stream = count()
    assert await stream.__anext__() == 1
    del stream
    gc.collect()
    with anyio.fail_after(5):
        await closed.wait()
    await other()
    assert states_of(ids[0]) == ["Pending", "Running", "Crashed"]
