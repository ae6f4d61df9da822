"""Deadlines of tasks and flows: what they end, what everybody is told, and when they begin to count."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import anyio
import pytest

from callsheet import State, flow, task
from callsheet._model.kinds import Kind
from callsheet.exceptions import UnfinishedRun
from harness import ever_longer
from past import runs, states_of

SOON = 0.05
LONG = 20.0  # nobody waits so long


def assert_timed_out(state: State[Any], what: str, seconds: float = SOON) -> None:
    assert state.is_failed()
    assert state.name == "TimedOut"
    assert state.message == f"{what} run exceeded timeout of {seconds} second(s)"
    error = state.data
    assert isinstance(error, TimeoutError)
    assert f"timed out after {seconds} second(s)" in str(error)


# ------------------------------------------------------------------------------------------- options


def test_a_timeout_is_a_float_and_zero_means_none() -> None:
    @task(timeout_seconds=3)
    def one() -> None: ...

    @flow(timeout_seconds=0)
    def none() -> None: ...

    assert type(one.timeout_seconds) is float
    assert none.timeout_seconds is None
    assert one.with_options(timeout_seconds=0).timeout_seconds is None


@pytest.mark.anyio
async def test_who_is_quick_enough_is_not_disturbed() -> None:
    @task(timeout_seconds=LONG)
    async def quick(x: int) -> int:
        await anyio.sleep(0)
        return x

    @task(timeout_seconds=LONG)
    def sync_quick(x: int) -> int:
        return x

    @flow(timeout_seconds=LONG)
    async def around() -> int:
        return await quick(1) + sync_quick(2) + quick.submit(3).result() + sync_quick.submit(4).result()

    assert await around() == 10


# --------------------------------------------------------------------------------------- async bodies


@pytest.mark.anyio
async def test_an_async_task_ends_at_its_deadline() -> None:
    after: list[int] = []

    @task(timeout_seconds=SOON)
    async def forever() -> None:
        await anyio.sleep_forever()
        after.append(1)

    @flow
    async def around() -> list[State[Any]]:
        submitted = forever.submit()
        called = await forever(return_state=True)
        submitted.wait()
        with pytest.raises(TimeoutError, match=r"timed out after 0\.05 second\(s\)"):
            await forever()
        with pytest.raises(TimeoutError):
            await submitted
        assert_timed_out(called, "Task")
        assert_timed_out(submitted.state, "Task")
        return states_of(called)

    assert await around() == ["Pending", "Running", "TimedOut"]
    assert after == []


@pytest.mark.anyio
async def test_an_async_flow_ends_at_its_deadline_with_everything_below() -> None:
    begun: list[str] = []
    ended: list[str] = []

    @task
    async def child() -> None:
        begun.append("child")
        try:
            await anyio.sleep_forever()
        finally:
            ended.append("child")

    @flow
    async def around() -> None:
        child.submit()
        await child()

    for seconds in ever_longer(lambda: len(begun) == 2):
        begun.clear()
        ended.clear()
        state = await around.with_options(timeout_seconds=seconds)(return_state=True)
        assert_timed_out(state, "Flow", seconds)
        with pytest.raises(TimeoutError):
            await state.result()
        assert ended == begun
        assert states_of(state) == ["Pending", "Running", "TimedOut"]
    assert {run.state.name for run in runs(flow_run_ids=(state.state_details.flow_run_id,))} == {"Cancelled"}


@pytest.mark.anyio
async def test_a_body_that_hides_its_cancellation_is_timed_out_all_the_same() -> None:
    @task(timeout_seconds=SOON)
    async def stubborn() -> str:
        try:
            await anyio.sleep_forever()
        except BaseException:
            return "I did it"

    assert_timed_out(await stubborn(return_state=True), "Task")


@pytest.mark.anyio
async def test_timeouts_of_the_body_itself_are_its_own_failures() -> None:
    @task(timeout_seconds=LONG)
    async def impatient() -> None:
        with anyio.fail_after(0.001):
            await anyio.sleep_forever()

    state = await impatient(return_state=True)
    assert state.name == "Failed"
    with pytest.raises(TimeoutError):
        await state.result()


@pytest.mark.anyio
async def test_a_timed_out_task_is_tried_again_with_all_of_its_time() -> None:
    attempts: list[int] = []

    @task(retries=1)
    async def slow_at_first() -> str:
        attempts.append(1)
        if len(attempts) == 1:
            await anyio.sleep_forever()
        await anyio.sleep(0)
        return "done"

    for seconds in ever_longer(lambda: state.is_completed()):
        attempts.clear()
        state = await slow_at_first.with_options(timeout_seconds=seconds)(return_state=True)
    assert await state.result() == "done"
    assert states_of(state) == ["Pending", "Running", "Retrying", "Completed"]


@pytest.mark.anyio
async def test_a_parked_wait_ends_at_the_flows_deadline() -> None:
    @task
    async def forever() -> None:
        await anyio.sleep_forever()

    @flow(timeout_seconds=SOON)
    async def around() -> None:
        forever.submit().result()

    assert_it = await around(return_state=True)
    assert assert_it.name == "TimedOut"


@pytest.mark.anyio
async def test_waiting_for_children_that_nobody_reads_ends_at_the_deadline() -> None:
    @task
    async def forever() -> None:
        await anyio.sleep_forever()

    @flow(timeout_seconds=SOON)
    async def around() -> int:
        forever.submit()
        return 1

    assert (await around(return_state=True)).name == "TimedOut"


# ------------------------------------------------------------------------------------------ subflows


@pytest.mark.anyio
async def test_a_subflow_has_a_deadline_of_its_own() -> None:
    @flow(timeout_seconds=SOON)
    async def inner() -> None:
        await anyio.sleep_forever()

    @flow
    async def outer() -> str:
        state = await inner(return_state=True)
        assert_it(state)
        return "went on"

    def assert_it(state: State[Any]) -> None:
        assert state.name == "TimedOut"
        assert states_of(state.state_details.task_run_id)[-1] == "TimedOut"

    assert await outer() == "went on"


@pytest.mark.anyio
async def test_the_time_of_a_subflow_begins_with_its_body() -> None:
    @task
    async def slow(seconds: float) -> None:
        await anyio.sleep(2 * seconds)

    @flow
    async def inner() -> str:
        await anyio.sleep(0)
        return "in time"

    @flow
    async def outer(seconds: float) -> str:
        return await inner.with_options(timeout_seconds=seconds)(wait_for=[slow.submit(seconds)])

    for seconds in ever_longer(lambda: state.is_completed()):
        state = await outer(seconds, return_state=True)
    assert await state.result() == "in time"


def test_the_time_of_a_sync_subflow_begins_with_its_body() -> None:
    @task
    def slow(seconds: float) -> None:
        time.sleep(2 * seconds)

    @flow
    def inner() -> str:
        return "in time"

    @flow
    def outer(seconds: float) -> str:
        return inner.with_options(timeout_seconds=seconds)(wait_for=[slow.submit(seconds)])

    for seconds in ever_longer(lambda: state.is_completed()):
        state = outer(seconds, return_state=True)
    assert state.result() == "in time"


@pytest.mark.anyio
async def test_the_outer_deadline_ends_a_subflow() -> None:
    found: list[Any] = []

    @flow
    async def inner() -> None:
        found.append(1)
        await anyio.sleep_forever()

    @flow
    async def outer() -> None:
        await inner()

    for seconds in ever_longer(lambda: found):
        state = await outer.with_options(timeout_seconds=seconds)(return_state=True)
        assert state.name == "TimedOut"
    child = runs(kind=Kind.FLOW, definition_names=("inner",))[-1]
    assert child.state is not None
    assert child.state.name == "Cancelled"


# -------------------------------------------------------------------------------- the surroundings


@pytest.mark.anyio
async def test_a_deadline_of_the_caller_is_no_deadline_of_the_run() -> None:
    states: list[str] = []

    @flow(on_crashed=[lambda _, __, state: states.append(state.name)])
    async def forever() -> None:
        scope.deadline = anyio.current_time() + 0.001  # not before there is a run to end
        await anyio.sleep_forever()

    with anyio.CancelScope() as scope:
        await forever()
    assert scope.cancelled_caught
    assert states == ["Crashed"]


def test_asyncios_own_timeout_around_a_flow() -> None:
    @flow
    async def forever(limit: asyncio.Timeout) -> None:
        limit.reschedule(asyncio.get_running_loop().time() + 0.001)  # not before there is a run to end
        await asyncio.sleep(LONG)

    async def main() -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(None) as limit:
                await forever(limit)

    asyncio.run(main())
    (run,) = runs(definition_names=("forever",))
    assert run.state is not None
    assert run.state.name == "Crashed"


def test_a_not_ready_run_has_no_deadline_to_miss() -> None:
    @task
    def fails() -> None:
        raise ValueError("no")

    @task(timeout_seconds=SOON)
    def after(_: Any) -> None: ...

    @flow
    def around() -> None:
        with pytest.raises(UnfinishedRun):
            after(fails(return_state=True))

    around()


@pytest.mark.anyio
async def test_what_no_except_clause_expects_ends_a_submitted_run_and_nothing_else() -> None:
    class Odd(BaseException):
        pass

    @task
    async def odd() -> None:
        raise Odd("from a task")

    @task
    def sync_odd() -> None:
        raise Odd("from a thread")

    @flow
    async def around() -> list[str]:
        return [odd.submit(return_state=True).name, sync_odd.submit(return_state=True).name]

    assert await around() == ["Crashed", "Crashed"]


@pytest.mark.anyio
async def test_a_body_that_computed_past_its_deadline_starts_no_further_task() -> None:
    """Also where the task before has just let others run while it waited for the disk, in company."""
    started: list[str] = []

    @task
    async def note(name: str) -> None:
        started.append(name)

    @task
    async def company() -> None:
        await anyio.sleep_forever()

    @flow(timeout_seconds=0.2)
    async def late() -> None:
        company.submit()
        await note("in time")
        over = time.monotonic() + 0.3
        while time.monotonic() < over:
            pass
        await note("late")

    assert (await late(return_state=True)).name == "TimedOut"
    assert "late" not in started
