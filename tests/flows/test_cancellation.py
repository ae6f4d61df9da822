"""Cancellation from outside: scopes, tasks and loops that end around runs."""

from __future__ import annotations

import asyncio
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from callsheet import State, flow, task
from callsheet.annotations import quote

BY_SURROUNDINGS = "Execution was cancelled by the runtime environment"


@pytest.mark.anyio
@pytest.mark.parametrize("depth", ["flow", "task", "subflow"])
async def test_cancelling_the_scope_around_crashes_the_runs(depth: str) -> None:
    ends: list[tuple[str, str]] = []
    started = anyio.Event()

    def note(flow: Any, flow_run: Any, state: State[Any]) -> None:
        ends.append((flow.name, str(state.message)))

    @task
    async def stuck() -> None:
        started.set()
        await anyio.sleep_forever()

    @flow(on_crashed=[note])
    async def inner() -> None:
        await stuck()

    @flow(on_crashed=[note])
    async def outer() -> None:
        if depth == "flow":
            started.set()
            await anyio.sleep_forever()
        await (stuck() if depth == "task" else inner())

    with anyio.fail_after(10):
        async with anyio.create_task_group() as group:
            group.start_soon(outer)
            await started.wait()
            group.cancel_scope.cancel()
    expected = ["inner", "outer"] if depth == "subflow" else ["outer"]
    assert [name for name, _ in ends] == expected
    assert all(BY_SURROUNDINGS in message for _, message in ends)


@pytest.mark.anyio
async def test_cancelling_an_asyncio_task_crashes_its_run(anyio_backend_name: str) -> None:
    if anyio_backend_name != "asyncio":
        pytest.skip("asyncio's own way")
    ends: list[str] = []
    started = asyncio.Event()

    @flow(on_crashed=[lambda flow, run, state: ends.append(state.message)])
    async def outer(limit: asyncio.Timeout | None = None) -> None:
        started.set()
        if limit is not None:
            limit.reschedule(asyncio.get_running_loop().time() + 0.001)  # not before there is a run to end
        await asyncio.sleep(100)

    running = asyncio.create_task(outer())
    await started.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert running.cancelled()
    assert len(ends) == 1
    assert BY_SURROUNDINGS in ends[0]
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(None) as limit:
            await outer(limit)
    assert len(ends) == 2


@pytest.mark.anyio
async def test_a_cancelled_flow_takes_its_submitted_children_along() -> None:
    started = anyio.Event()
    left: list[str] = []

    @task
    async def child() -> None:
        try:
            started.set()
            await anyio.sleep_forever()
        finally:
            left.append("child")

    @flow
    async def outer() -> None:
        future = child.submit()
        try:
            await future
        finally:
            left.append("outer")

    with anyio.fail_after(10):
        async with anyio.create_task_group() as group:
            group.start_soon(outer)
            await started.wait()
            group.cancel_scope.cancel()
    assert sorted(left) == ["child", "outer"]


@pytest.mark.anyio
async def test_a_scope_inside_a_flow_cancels_only_what_is_in_it() -> None:
    @task
    async def stuck() -> None:
        await anyio.sleep_forever()

    @task
    async def fine() -> int:
        return 1

    @flow
    async def outer() -> int:
        with anyio.move_on_after(0.01) as scope:
            await stuck()
        assert scope.cancelled_caught
        return await fine()

    assert await outer() == 1


@pytest.mark.anyio
async def test_cancellation_reaches_sync_code_that_waits() -> None:
    ends: list[tuple[str, str]] = []
    started = anyio.Event()

    def note(flow: Any, flow_run: Any, state: State[Any]) -> None:
        ends.append((flow.name, str(state.message)))

    @task
    async def stuck() -> None:
        started.set()
        await anyio.sleep_forever()

    @flow(on_crashed=[note])
    def inner() -> None:
        stuck.submit().result()

    @flow(on_crashed=[note])
    async def outer() -> None:
        inner()

    with anyio.fail_after(10):
        async with anyio.create_task_group() as group:
            group.start_soon(outer)
            await started.wait()
            group.cancel_scope.cancel()
    assert [name for name, _ in ends] == ["inner", "outer"]
    assert all(BY_SURROUNDINGS in message for _, message in ends)


@pytest.mark.anyio
async def test_a_run_that_is_cancelled_before_its_body_has_never_run() -> None:
    records: list[Any] = []

    @flow(on_crashed=[lambda flow, run, state: records.append(run)])
    async def outer() -> None:
        raise AssertionError

    with anyio.CancelScope() as scope:
        scope.cancel()
        await outer()
    assert scope.cancelled_caught
    (record,) = records
    assert record.state_name == "Crashed"
    assert (record.run_count, record.start_time, record.end_time) == (0, None, None)
    assert record.total_run_time.total_seconds() == 0


def test_a_loop_may_end_while_runs_are_alive() -> None:
    ends: list[str] = []

    @task
    async def stuck() -> None:
        await asyncio.sleep(100)

    @flow(on_crashed=[lambda flow, run, state: ends.append(state.message)])
    async def outer(started: asyncio.Event) -> None:
        stuck.submit()
        started.set()
        await stuck()

    @flow
    async def never_began() -> None:
        raise AssertionError

    async def main() -> list[Any]:
        started = asyncio.Event()
        running = [asyncio.create_task(outer(started))]
        await started.wait()
        await asyncio.sleep(0)
        return [*running, asyncio.create_task(never_began())]

    tasks = asyncio.run(main())
    assert all(each.cancelled() for each in tasks)
    assert len(ends) == 1
    assert BY_SURROUNDINGS in ends[0]


@pytest.mark.anyio
async def test_a_call_that_nobody_awaits_is_no_run() -> None:
    made: list[Any] = []

    @flow(on_running=[lambda *args: made.append(args)])
    async def outer() -> None:
        pass

    outer().close()
    assert made == []


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_leaving_by_an_error_cancels_what_was_submitted(backend: str) -> None:
    left: list[str] = []

    @task
    async def child(begun: anyio.Event) -> None:
        try:
            begun.set()
            await anyio.sleep_forever()
        finally:
            left.append("child")

    @flow
    async def outer() -> None:
        begun = anyio.Event()
        child.submit(quote(begun))
        await begun.wait()
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        anyio.run(outer, backend=backend)
    assert left == ["child"]


@pytest.mark.anyio
async def test_a_cancellation_that_comes_with_the_deadline_is_not_swallowed(anyio_backend_name: str) -> None:
    if anyio_backend_name != "asyncio":
        pytest.skip("asyncio's own way")
    attempts: list[int] = []

    @flow(timeout_seconds=0.02, retries=2)
    async def late() -> None:
        attempts.append(1)
        try:
            await asyncio.sleep(100)
        finally:
            running.cancel()
            await asyncio.sleep(0)

    running = asyncio.create_task(late())
    with pytest.raises(asyncio.CancelledError):
        await running
    assert running.cancelled()
    assert attempts == [1]


@pytest.mark.anyio
async def test_who_is_cancelled_while_others_wait_for_the_same_commit_keeps_nobody_waiting():
    @task
    async def one(number: int) -> int:
        return number

    @flow
    async def waiting(number: int) -> int:
        return await one(number)

    async def cancelled(number: int) -> None:
        with anyio.CancelScope() as scope:
            scopes.append(scope)
            await waiting(number)

    async def finished(number: int) -> None:
        given.append(await waiting(number))

    scopes: list[anyio.CancelScope] = []
    given: list[int] = []
    for steps in range(6):
        scopes.clear()
        with anyio.fail_after(20):
            async with anyio.create_task_group() as group:
                for number in range(4):
                    group.start_soon(cancelled, number)
                    group.start_soon(finished, number)
                for _ in range(steps):
                    await anyio.lowlevel.checkpoint()
                for scope in scopes:
                    scope.cancel()
    assert sorted(given) == sorted(list(range(4)) * 6)
