"""Suspending flow runs and going on with them, in the process that suspended them."""

from __future__ import annotations

import threading
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any
from uuid import UUID

import anyio
import pytest

from callsheet import Engine, flow, get_client, resume_flow_run, suspend_flow_run, task
from callsheet._clock import utc_now
from callsheet._engine.ambient import core_for_call
from callsheet._kernel.host import current_host
from callsheet._model.kinds import Kind
from callsheet._model.records import RunFilter
from callsheet.exceptions import FlowPauseTimeout, NotPausedError, Pause
from callsheet.flow_runs import aresume_flow_run, asuspend_flow_run, wait_for_flow_run
from callsheet.runtime import flow_run
from pausing_helpers import PATIENCE

pytestmark = pytest.mark.anyio
done: list[Any] = []


@pytest.fixture(autouse=True)
def _nothing_done() -> None:
    done.clear()


@task
async def note(x: Any) -> Any:
    done.append(x)
    return x


@task
def note_sync(x: Any) -> Any:
    done.append(x)
    return x


@asynccontextmanager
async def engine(*flows: Any, **options: Any) -> AsyncGenerator[Engine]:
    async with Engine(database=options.pop("database", ":memory:"), flows=flows, **options) as opened:
        yield opened


async def ended(run_id: Any) -> Any:
    with anyio.fail_after(PATIENCE):
        return await wait_for_flow_run(run_id, poll_interval=0.05)


async def states_of(run_id: UUID) -> list[str]:
    core = core_for_call(current_host())
    reader = core.store.reader()
    try:
        return [state.name for state in await reader.read_states(run_id)]
    finally:
        await reader.aclose()


async def until_suspended(run_id: Any) -> None:
    async with get_client() as client:
        with anyio.fail_after(PATIENCE):
            while (await client.read_flow_run(run_id)).state_name != "Suspended":
                await anyio.sleep(0.01)


@flow
async def approves(order: str) -> str:
    await note("checked")
    approved = await suspend_flow_run(wait_for_input=bool)
    return f"{order}: {approved} {await note('told')}"


@flow
def approves_sync(order: str) -> str:
    note_sync("checked")
    approved = suspend_flow_run(wait_for_input=bool)
    return f"{order}: {approved} {note_sync('told')}"


@pytest.mark.parametrize("colour", [approves, approves_sync], ids=["async", "sync"])
@pytest.mark.parametrize("where", ["memory", "file"])
async def test_a_suspended_run_goes_on_when_it_is_resumed(colour: Any, where: str, tmp_path: Any) -> None:
    database = ":memory:" if where == "memory" else str(tmp_path / "h.db")
    async with engine(colour, database=database) as opened:
        call = colour("paper", return_state=True)
        state = await call if colour.isasync else call
        assert (state.type, state.name) == ("PAUSED", "Suspended")
        run_id = state.state_details.flow_run_id
        assert not opened.core.orchestrator.roots
        with pytest.raises(RuntimeError, match="Run input validation error"):
            await aresume_flow_run(run_id, run_input={"value": "perhaps"})
        await aresume_flow_run(run_id, run_input={"value": True})
        assert (await ended(run_id)).state_name == "Completed"
        assert done == ["checked", "told"]
        assert await states_of(run_id) == [
            "Pending", "Running", "Suspending", "Suspended", "Resuming", "Pending", "Running", "Completed",
        ]  # fmt: skip
        with pytest.raises(NotPausedError):
            await aresume_flow_run(run_id)
        assert not opened.core.memories


async def test_the_call_raises_for_who_does_not_ask_for_states() -> None:
    async with engine(approves):
        with pytest.raises(Pause) as caught:
            await approves("paper")
    assert caught.value.state.name == "Suspended"


async def test_where_nobody_could_go_on_with_it_it_is_refused() -> None:
    async with engine():
        with pytest.raises(RuntimeError, match="Cannot suspend flows without a deployment"):
            await approves("paper")


async def test_subflows_and_tasks_are_not_suspended() -> None:
    @task
    async def suspends() -> None:
        await asuspend_flow_run()

    @flow
    async def parent() -> list[str]:
        states = [await approves("paper", return_state=True), await suspends(return_state=True)]
        return [state.message for state in states]

    async with engine(parent, approves):
        first, second = await parent()
    assert "Cannot suspend subflows." in first
    assert "Cannot suspend task runs." in second
    with pytest.raises(RuntimeError, match="Flow runs can only be suspended from within a flow run"):
        await asuspend_flow_run()


async def _gathers() -> None:
    async def branch(suspends: bool) -> None:
        await note(f"branch {suspends}")
        if suspends:
            await asuspend_flow_run()

    found: list[BaseException] = []

    async def swallowing(suspends: bool) -> None:
        try:
            await branch(suspends)
        except BaseException as error:
            found.append(error)
            if not isinstance(error, Pause):
                raise

    async with anyio.create_task_group() as group:
        group.start_soon(swallowing, True)
        group.start_soon(swallowing, False)


async def _task_group() -> None:
    async def branch(suspends: bool) -> None:
        if suspends:
            await note("branch True")
            await asuspend_flow_run()
        else:
            await anyio.sleep(3600 if flow_run.run_count and "again" not in done else 0)

    async with anyio.create_task_group() as group:
        group.start_soon(branch, False)
        group.start_soon(branch, True)


async def _bare() -> None:
    try:
        await asuspend_flow_run()
    except BaseException:
        pass


@pytest.mark.parametrize("body", [_gathers, _task_group, _bare])
async def test_it_holds_whoever_swallows_the_signal(body: Any) -> None:
    @flow
    async def whole() -> str:
        await note("before")
        try:
            await body()
        except ValueError:
            pass
        await note("after")
        return "done"

    async with engine(whole):
        state = await whole(return_state=True)
        assert state.name == "Suspended"
        assert "after" not in done
        done.append("again")
        run_id = state.state_details.flow_run_id
        await aresume_flow_run(run_id)
        assert (await ended(run_id)).state_name == "Completed"
        assert done.count("before") == done.count("after") == 1


async def test_a_value_that_comes_after_all_is_not_the_outcome() -> None:
    @flow
    async def whole() -> int:
        try:
            await asuspend_flow_run(key="once")
        except BaseException:
            return 1
        return 2

    async with engine(whole):
        state = await whole(return_state=True)
        assert state.name == "Suspended"
        await aresume_flow_run(state.state_details.flow_run_id)
        assert (await ended(state.state_details.flow_run_id)).state_name == "Completed"


async def test_what_has_begun_ends_and_nothing_else_begins() -> None:
    begun, go = threading.Event(), threading.Event()

    @task
    def slow() -> str:
        begun.set()
        assert go.wait(PATIENCE)
        done.append("slow")
        return "slow"

    @flow
    async def whole() -> list[str]:
        first = slow.submit()
        second = note.submit("second", wait_for=[first])
        while not begun.is_set():
            await anyio.sleep(0.001)
        await suspend_flow_run()
        return [await first, await second]

    async with engine(whole) as opened:
        states: list[Any] = []

        async def run() -> None:
            states.append(await whole(return_state=True))

        async with anyio.create_task_group() as group:
            group.start_soon(run)
            with anyio.fail_after(PATIENCE):
                while not (opened.core.orchestrator.roots and _root(opened).name == "Suspending"):
                    await anyio.sleep(0.001)
            run_id = _root(opened).id
            go.set()
        assert states[0].name == "Suspended"
        assert done == ["slow"]
        await aresume_flow_run(run_id)
        assert (await ended(run_id)).state_name == "Completed"
        assert done == ["slow", "second"]


def _root(opened: Engine) -> Any:
    return next(iter(opened.core.orchestrator.roots))


async def test_another_run_leaves_at_its_next_call() -> None:
    go: list[anyio.Event] = [anyio.Event(), anyio.Event()]

    @flow
    async def child() -> None:
        await note("child 1")
        go[0].set()
        await go[1].wait()
        await note("child 2")

    @flow
    async def whole() -> None:
        await child()
        await note("last")

    async with engine(whole) as opened:
        states: list[Any] = []

        async def run() -> None:
            states.append(await whole(return_state=True))

        async with anyio.create_task_group() as group:
            group.start_soon(run)
            await go[0].wait()
            run_id = _root(opened).id
            assert await asuspend_flow_run(flow_run_id=run_id, timeout=None) is None
            go[1].set()
        assert states[0].name == "Suspended"
        assert done == ["child 1"]
        await aresume_flow_run(run_id)
        assert (await ended(run_id)).state_name == "Completed"
        assert done == ["child 1", "child 2", "last"]
        reader = opened.core.store.reader()
        runs = (await reader.read_runs(RunFilter(kind=Kind.FLOW))).items
        await reader.aclose()
        assert len(runs) == 2


async def test_nobody_resumes_it_in_time() -> None:
    failed: list[str] = []

    @flow
    async def whole() -> None:
        await asuspend_flow_run(timeout=0.05)

    @whole.on_failure
    def tell(_flow: Any, _run: Any, state: Any) -> None:
        failed.append(state.message)

    async with engine(whole):
        run_id = (await whole(return_state=True)).state_details.flow_run_id
        run = await ended(run_id)
    assert run.state_name == "Failed"
    assert failed == [run.state.message]
    assert "never resumed" in run.state.message


async def test_a_late_resumption_is_refused() -> None:
    async with engine(approves, recover=False):
        pass

    @flow
    async def whole() -> None:
        await asuspend_flow_run(timeout=0)

    async with engine(whole, recover=False):
        run_id = (await whole(return_state=True)).state_details.flow_run_id
        with pytest.raises(FlowPauseTimeout):
            await aresume_flow_run(run_id)


async def test_it_resumes_by_itself() -> None:
    @flow
    async def whole() -> int:
        await asuspend_flow_run(until=utc_now() + timedelta(seconds=0.1), key="nap")
        return await note(1)

    async with engine(whole):
        run_id = (await whole(return_state=True)).state_details.flow_run_id
        assert (await ended(run_id)).state_name == "Completed"
    assert done == [1]


async def test_a_sync_flow_on_a_thread(tmp_path: Any) -> None:
    database = str(tmp_path / "h.db")

    async with engine(approves_sync, database=database) as opened:
        states: list[Any] = []

        def work() -> None:
            states.append(approves_sync("paper", return_state=True))
            resume_flow_run(states[0].state_details.flow_run_id, run_input={"value": False})

        await anyio.to_thread.run_sync(work)
        run_id = states[0].state_details.flow_run_id
        assert (await ended(run_id)).state_name == "Completed"
        assert done == ["checked", "told"]
        assert not opened.core.orchestrator.roots
