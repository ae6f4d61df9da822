"""Cancelling runs of this process: flow runs, task runs, trees, and all that match a filter."""

from __future__ import annotations

import threading
import time
from typing import Any
from uuid import UUID

import anyio
import pytest

from callsheet import Engine, flow, get_client, pause_flow_run, task
from callsheet.exceptions import CancelledRun, ObjectNotFound
from callsheet.flow_runs import cancel_flow_run, cancel_flow_runs
from callsheet.runtime import flow_run, task_run
from callsheet.states import Scheduled
from callsheet.task_runs import cancel_task_run
from past import runs, states_of
from pausing_helpers import PATIENCE, Resumer, resumer

__all__ = ["resumer"]

SOON = 0.1  # seconds within which async code has stopped
NOBODY = UUID(int=7)


class Night:
    """A tree of runs that sleep: a flow with a subflow and a task; who wakes them looks at `log`."""

    def __init__(self) -> None:
        self.log: list[str] = []
        self.ids: dict[str, Any] = {}
        self.asleep = anyio.Event()
        self.stopped = 0.0

        def note(flow: Any, run: Any, state: Any) -> None:
            self.log.append(f"{flow.name}: {state.name}")

        @task
        async def sleeper() -> None:
            self.ids["task"] = task_run.id
            self.asleep.set()
            try:
                await anyio.sleep_forever()
            finally:
                self.stopped = time.monotonic()

        @task
        async def late() -> None:
            self.log.append("late")

        @flow(on_cancellation=[note])
        async def inner() -> None:
            self.ids["inner"] = flow_run.id
            await sleeper()

        @flow(on_cancellation=[note], retries=2)
        async def outer() -> None:
            self.ids["outer"] = flow_run.id
            try:
                await inner()
            except BaseException:  # what swallows the order starts nothing either
                await late()

        self.outer = outer

    async def run(self) -> None:
        self.state = await self.outer(return_state=True)


@task
async def nothing() -> None: ...


@pytest.mark.anyio
@pytest.mark.parametrize("fails", [False, True])
async def test_several_branches_that_hear_of_the_order_at_once_leave_as_one(fails: bool) -> None:
    @flow
    async def forked() -> None:
        async def branch() -> None:
            try:
                await nothing()
            except Exception as error:  # not what tells it to leave
                raise AssertionError from error

        async def failing() -> None:
            try:
                await branch()
            finally:
                if fails:
                    raise ValueError("while leaving")

        order = cancel_flow_run(flow_run.id)
        async with anyio.create_task_group() as group:
            group.start_soon(branch)
            group.start_soon(failing)
            with anyio.CancelScope(shield=True):
                await order

    state = await forked(return_state=True)
    assert state.name == "Cancelled"


@pytest.mark.anyio
async def test_several_branches_that_hear_of_the_deadline_at_once_time_out() -> None:
    @flow(timeout_seconds=0.02)
    async def forked() -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(nothing)
            group.start_soon(nothing)
            time.sleep(0.03)

    state = await forked(return_state=True)
    assert state.name == "TimedOut"


@pytest.mark.anyio
@pytest.mark.parametrize("sync", [False, True])
async def test_a_tree_leaves_children_first_and_hooks_run_once(sync: bool) -> None:
    night = Night()
    with anyio.fail_after(PATIENCE):
        async with anyio.create_task_group() as group:
            group.start_soon(night.run)
            await night.asleep.wait()
            began = time.monotonic()
            outer = night.ids["outer"]
            state = cancel_flow_run(outer, _sync=True) if sync else await cancel_flow_run(outer, message="rain")
    assert state.name in ("Cancelling", "Cancelled")
    assert state.state_details.flow_run_id == UUID(outer)
    assert night.stopped - began < SOON
    assert night.state.name == "Cancelled"
    assert night.log == ["inner: Cancelled", "outer: Cancelled"]
    assert states_of(UUID(outer)) == ["Pending", "Running", "Cancelling", "Cancelled"]
    ends = {str(run.id): run.state.at for run in runs() if run.state.name == "Cancelled"}
    assert ends[night.ids["task"]] <= ends[night.ids["inner"]] <= ends[outer]
    assert len(ends) == 4, "the task run that tracks the subflow as well"
    again = await cancel_flow_run(outer)
    assert (again.name, states_of(UUID(outer))[2:]) == ("Cancelled", ["Cancelling", "Cancelled"])


@pytest.mark.anyio
async def test_a_task_run_is_cancelled_and_its_flow_goes_on() -> None:
    asleep = anyio.Event()

    @task
    async def sleeper() -> None:
        asleep.set()
        await anyio.sleep_forever()

    @flow
    async def evening() -> str:
        future = sleeper.submit()
        await asleep.wait()
        state = await cancel_task_run(str(future.task_run_id))
        assert state.name in ("Cancelling", "Cancelled")
        with pytest.raises(CancelledRun):
            await future
        return "went on"

    with anyio.fail_after(PATIENCE):
        assert await evening() == "went on"


@pytest.mark.anyio
async def test_all_that_match_a_filter() -> None:
    asleep = {name: anyio.Event() for name in ("a", "b", "c")}
    ends: dict[str, str] = {}

    @flow(flow_run_name="{name}")
    async def sleeper(name: str) -> None:
        asleep[name].set()
        await anyio.sleep_forever()

    async def one(name: str) -> None:
        ends[name] = (await sleeper(name, return_state=True)).name

    with anyio.fail_after(PATIENCE):
        async with anyio.create_task_group() as group:
            for name in asleep:
                group.start_soon(one, name)
            for event in asleep.values():
                await event.wait()
            found = await cancel_flow_runs(flow_run_filter={"name": {"any_": ["a", "c", "d"]}})
            assert len({state.state_details.flow_run_id for state in found}) == 2
            with pytest.raises(ValueError, match="Which flow runs"):
                await cancel_flow_runs()
            assert await cancel_flow_runs(flow_run_filter={"end_time": {"is_null_": False}}) == []
            rest = await cancel_flow_runs(flow_filter={"name": {"any_": ["sleeper"]}}, flow_run_filter={})
            assert rest[-1].name in ("Cancelling", "Cancelled")
    assert ends == dict.fromkeys("abc", "Cancelled")


def test_a_paused_run(resumer: Resumer) -> None:
    log: list[str] = []

    @flow(on_cancellation=[lambda *_: log.append("hook")])
    def asks() -> None:
        pause_flow_run(timeout=PATIENCE)

    resumer.does(lambda: resumer.said.append(cancel_flow_run(resumer.next_pause())))
    state = asks(return_state=True)
    assert state.name == "Cancelled"
    assert states_of(state) == ["Pending", "Running", "Paused", "Cancelling", "Cancelled"]
    assert log == ["hook"]


def test_sync_code_leaves_where_it_calls_the_engine() -> None:
    begun, ids, ran = threading.Event(), [], []

    @task
    def tick() -> None:
        ran.append(time.monotonic())

    @flow
    def siege() -> None:
        ids.append(flow_run.id)
        while True:
            tick()
            begun.set()

    done: list[float] = []

    def cancel() -> None:
        begun.wait(PATIENCE)
        cancel_flow_run(ids[0])
        done.append(time.monotonic())

    thread = threading.Thread(target=cancel)
    thread.start()
    state = siege(return_state=True)
    thread.join()
    assert state.name == "Cancelled"
    assert ran[-1] < done[0], "after the acknowledgement no task starts"


@pytest.mark.anyio
async def test_what_nobody_runs_is_cancelled_where_it_is_stored() -> None:
    @task
    def held() -> None: ...

    async with get_client() as client:
        alone = await client.create_task_run(held, None, "k", state=Scheduled())
        state = await cancel_task_run(alone.id, message="not today")
        assert (state.name, state.message, state.state_details.task_run_id) == ("Cancelled", "not today", alone.id)
        assert (await cancel_task_run(alone.id)).id == state.id
        assert [one.name for one in await client.read_task_run_states(alone.id)] == ["Scheduled", "Cancelled"]


@pytest.mark.anyio
async def test_there_is_no_such_run() -> None:
    with pytest.raises(ObjectNotFound, match="no flow run with the id"):
        await cancel_flow_run(NOBODY)
    with pytest.raises(ObjectNotFound, match="no task run with the id"):
        await cancel_task_run(NOBODY)


@pytest.mark.anyio
async def test_nothing_needs_to_be_kept() -> None:
    @flow
    async def own_end() -> None:
        state = cancel_flow_run(flow_run.id, _sync=True)
        assert state.name == "Cancelling"
        await anyio.sleep_forever()

    async with Engine(durability="off"):
        assert (await own_end(return_state=True)).name == "Cancelled"
