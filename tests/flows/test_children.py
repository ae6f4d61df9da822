"""Runs that a flow leaves running: they end before it does, and how it ends is its own affair."""

from __future__ import annotations

import threading
import time
from typing import Any

import anyio
import pytest

from callsheet import flow, task
from past import runs, states_of


@pytest.mark.anyio
async def test_submitted_runs_end_before_their_flow_does() -> None:
    ended: list[str] = []
    go = anyio.Event()

    @task
    async def slow(name: str) -> None:
        await go.wait()
        ended.append(name)

    @task
    def sync_slow(name: str) -> None:
        ended.append(name)

    @flow(on_completion=[lambda *_: ended.append("flow")])
    async def around() -> str:
        kept = [slow.submit("async"), sync_slow.submit("sync")]
        go.set()
        return f"{len(kept)} left running"

    assert await around() == "2 left running"
    assert sorted(ended[:2]) == ["async", "sync"]
    assert ended[2:] == ["flow"]


def test_submitted_runs_end_before_their_sync_flow_does() -> None:
    ended: list[str] = []
    go = threading.Event()

    @task
    def slow() -> None:
        go.wait(10)
        ended.append("sync")

    @task
    async def aslow() -> None:
        while not go.is_set():
            await anyio.sleep(0.001)
        ended.append("async")

    @flow(on_completion=[lambda *_: ended.append("flow")])
    def around() -> int:
        kept = [slow.submit(), aslow.submit()]
        threading.Timer(0.01, go.set).start()
        return len(kept)

    assert around() == 2
    assert sorted(ended[:2]) == ["async", "sync"]
    assert ended[2:] == ["flow"]


@pytest.mark.anyio
async def test_what_becomes_of_them_does_not_change_the_flows_state() -> None:
    @task
    async def fails() -> None:
        raise ValueError("nobody reads this")

    @task
    def sync_fails() -> None:
        raise ValueError("nor this")

    @flow
    async def around() -> str:
        kept = [fails.submit(), sync_fails.submit()]
        return f"{len(kept)}"

    state = await around(return_state=True)
    assert state.is_completed()
    assert {run.state.name for run in runs(flow_run_ids=(state.state_details.flow_run_id,))} == {"Failed"}


def test_without_a_return_value_a_flow_completes_whatever_its_tasks_did() -> None:
    @task
    def fails() -> None:
        raise ValueError("no")

    @flow
    def around() -> None:
        fails(return_state=True)
        fails.submit().wait()
        fails.map

    assert around(return_state=True).is_completed()


@pytest.mark.anyio
async def test_a_failure_that_nobody_reads_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    @task
    async def fails() -> None:
        raise ValueError("unread")

    @flow
    async def around() -> int:
        return len([fails.submit()])

    await around()
    told = [record for record in caplog.records if "unread" in record.getMessage()]
    assert len(told) == 1
    assert told[0].levelname == "ERROR"


@pytest.mark.anyio
async def test_a_flow_that_fails_cancels_them() -> None:
    ended: list[str] = []

    begun: list[anyio.Event] = [anyio.Event(), anyio.Event()]

    @task
    async def child(number: int) -> None:
        try:
            begun[number].set()
            await anyio.sleep_forever()
        except BaseException:
            ended.append("child")
            raise

    @flow
    async def inner() -> None:
        kept = child.submit(1)
        await kept

    @flow(on_failure=[lambda *_: ended.append("flow")])
    async def around() -> None:
        kept = [child.submit(0), inner.submit()]
        for event in begun:
            await event.wait()
        raise ValueError(len(kept))

    state = await around(return_state=True)
    assert state.is_failed()
    assert ended == ["child", "child", "flow"]
    below = [run for run in runs() if run.id != state.state_details.flow_run_id]
    assert {run.state.name for run in below} == {"Cancelled"}
    assert len(below) == 4  # two tasks, a subflow and its tracker


def test_a_sync_flow_that_fails_does_not_wait_for_ever(caplog: pytest.LogCaptureFixture) -> None:
    entered = threading.Event()

    @task
    def child() -> None:
        entered.set()
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            other()  # whoever calls the engine is told to leave

    @task
    def other() -> None: ...

    @flow
    def around() -> None:
        kept = child.submit()
        entered.wait(5)
        raise ValueError(kept)

    started = time.monotonic()
    state = around(return_state=True)
    assert state.is_failed()
    assert time.monotonic() - started < 10
    (run,) = runs(definition_names=("child",))
    assert run.state is not None
    assert run.state.name == "Cancelled"


@pytest.mark.anyio
async def test_runs_that_have_not_begun_never_begin() -> None:
    ran: list[int] = []

    @task
    async def forever() -> None:
        await anyio.sleep_forever()

    @task
    async def after(_: Any) -> None:
        ran.append(1)

    @flow
    async def around() -> None:
        waiting = after.submit(forever.submit())
        await anyio.sleep(0.005)
        raise ValueError(waiting)

    with anyio.fail_after(5), pytest.raises(ValueError):
        await around()
    assert ran == []
    (run,) = runs(definition_names=("after",))
    assert states_of(run.id) == ["Pending", "Cancelled"]


@pytest.mark.anyio
async def test_children_of_tasks_end_before_the_flow_does() -> None:
    ended: list[str] = []
    go = anyio.Event()

    @task
    async def grandchild() -> None:
        await go.wait()
        ended.append("grandchild")

    box: list[Any] = []

    @task
    async def child() -> None:
        box.append(grandchild.submit())
        ended.append("child")

    @flow
    async def around() -> None:
        await child()
        go.set()

    await around()
    assert sorted(ended) == ["child", "grandchild"]


@pytest.mark.anyio
async def test_scopes_of_the_caller_do_not_reach_submitted_runs() -> None:
    go = anyio.Event()

    @task
    async def child() -> str:
        await go.wait()
        return "unharmed"

    @flow
    async def around() -> str:
        with anyio.move_on_after(0.001):
            kept = child.submit()
            await anyio.sleep_forever()
        go.set()
        return await kept

    assert await around() == "unharmed"


@pytest.mark.anyio
async def test_a_wait_that_is_cancelled_leaves_the_run_alone() -> None:
    go = anyio.Event()

    @task
    async def child() -> str:
        await go.wait()
        return "unharmed"

    @flow
    async def around() -> str:
        kept = child.submit()
        with anyio.move_on_after(0.001):
            await kept
        assert not kept.state.is_final()
        with anyio.move_on_after(0.001):
            kept.result()
        assert not kept.state.is_final()
        go.set()
        return await kept

    assert await around() == "unharmed"


@pytest.mark.anyio
async def test_cancelling_the_flow_cancels_submitted_runs() -> None:
    ended: list[str] = []
    begun = anyio.Event()

    @task
    async def child() -> None:
        try:
            begun.set()
            await anyio.sleep_forever()
        finally:
            ended.append("child")

    @flow
    async def around() -> None:
        kept = child.submit()
        await kept

    async with anyio.create_task_group() as group:
        group.start_soon(around)
        await begun.wait()
        group.cancel_scope.cancel()
    assert ended == ["child"]
    (run,) = runs(definition_names=("child",))
    assert run.state is not None
    assert run.state.name == "Cancelled"


@pytest.mark.anyio
async def test_an_attempt_of_a_task_that_fails_cancels_what_it_left_running() -> None:
    ended: list[str] = []

    @task
    async def grandchild() -> None:
        begun.set()
        try:
            await anyio.sleep_forever()
        finally:
            ended.append("grandchild")

    begun = anyio.Event()

    @task
    async def child() -> None:
        kept = grandchild.submit()
        await begun.wait()
        raise ValueError(kept)

    @flow
    async def around() -> None:
        await child(return_state=True)

    with anyio.fail_after(5):
        await around()
    assert ended == ["grandchild"]
