"""Deadlines of sync code: in the main thread, where it is interrupted, on other threads and on a loop's thread."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import anyio
import pytest

from callsheet import State, flow, task

pytestmark = pytest.mark.usefixtures("untraced")

SOON = 0.05
LONG = 20.0  # nobody waits so long


def in_a_thread(call: Callable[[], Any]) -> Any:
    """Make a call on another thread than the main one."""
    found: list[Any] = []
    thread = threading.Thread(target=lambda: found.append(call()))
    thread.start()
    thread.join()
    return found[0]


def assert_timed_out(state: State[Any], what: str, seconds: float = SOON) -> None:
    assert state.is_failed()
    assert state.name == "TimedOut"
    assert state.message == f"{what} run exceeded timeout of {seconds} second(s)"
    error = state.data
    assert isinstance(error, TimeoutError)
    assert f"timed out after {seconds} second(s)" in str(error)


# ---------------------------------------------------------------------- sync bodies in the main thread


@pytest.mark.parametrize("decorate", [task, flow], ids=["task", "flow"])
@pytest.mark.parametrize("naps", [1, 2000], ids=["one long sleep", "many short ones"])
def test_sync_code_in_the_main_thread_is_interrupted_in_the_middle(decorate: Any, naps: int) -> None:
    after: list[int] = []

    @decorate(timeout_seconds=SOON)
    def sleepy() -> None:
        for _ in range(naps):
            time.sleep(LONG / naps)
        after.append(1)

    started = time.monotonic()
    state = sleepy(return_state=True)
    assert time.monotonic() - started < LONG
    assert_timed_out(state, "Task" if decorate is task else "Flow")
    with pytest.raises(TimeoutError):
        sleepy()
    assert after == []


def test_a_busy_loop_is_interrupted_too() -> None:
    @task(timeout_seconds=SOON)
    def busy() -> None:
        while True:
            pass

    assert_timed_out(busy(return_state=True), "Task")


def test_no_task_starts_after_the_deadline() -> None:
    started: list[int] = []

    @task
    def work() -> None:
        started.append(1)

    @flow(timeout_seconds=SOON)
    def around() -> None:
        try:
            time.sleep(LONG)
        except BaseException:
            pass  # however hard it tries
        work()

    assert around(return_state=True).name == "TimedOut"
    assert started == []


def test_no_task_is_submitted_after_the_deadline() -> None:
    started: list[int] = []

    @task
    def work() -> None:
        started.append(1)

    @flow(timeout_seconds=SOON)
    def around() -> None:
        try:
            time.sleep(LONG)
        except BaseException:
            pass
        work.submit()
        work.map([1, 2])

    assert around(return_state=True).name == "TimedOut"
    assert started == []


def test_a_deadline_inside_of_a_deadline() -> None:
    @task(timeout_seconds=SOON)
    def inner() -> None:
        time.sleep(LONG)

    @flow(timeout_seconds=LONG)
    def outer() -> str:
        assert_timed_out(inner(return_state=True), "Task")
        return "went on"

    assert outer() == "went on"

    @task(timeout_seconds=LONG)
    def long() -> None:
        time.sleep(LONG)

    @flow(timeout_seconds=SOON)
    def short() -> None:
        long()

    state = short(return_state=True)
    assert_timed_out(state, "Flow")


def test_a_sync_flow_waits_for_a_future_until_its_deadline() -> None:
    never = threading.Event()

    @task
    def waits() -> None:
        never.wait(LONG)

    @flow(timeout_seconds=SOON)
    def around() -> None:
        try:
            waits.submit().result()
        finally:
            never.set()  # the flow waits for the child that it leaves

    started = time.monotonic()
    assert around(return_state=True).name == "TimedOut"
    assert time.monotonic() - started < LONG


def test_a_handled_timeout_lets_the_flow_complete() -> None:
    @task(timeout_seconds=SOON)
    def slow() -> None:
        time.sleep(LONG)

    @flow
    def around() -> str:
        try:
            slow()
        except TimeoutError:
            return "handled"
        return "not"

    assert around() == "handled"


# ---------------------------------------------------------------------------- sync bodies elsewhere


@pytest.mark.parametrize("decorate", [task, flow], ids=["task", "flow"])
def test_sync_code_on_another_thread_ends_at_its_deadline(decorate: Any) -> None:
    after: list[int] = []

    @decorate(timeout_seconds=SOON)
    def sleepy() -> None:
        for _ in range(2000):
            time.sleep(LONG / 2000)
        after.append(1)

    state = in_a_thread(lambda: sleepy(return_state=True))
    assert_timed_out(state, "Task" if decorate is task else "Flow")
    assert after == []


def test_submitted_sync_tasks_end_at_their_deadlines() -> None:
    @task(timeout_seconds=SOON)
    def sleepy() -> None:
        for _ in range(2000):
            time.sleep(LONG / 2000)

    @flow
    def around() -> None:
        futures = [sleepy.submit() for _ in range(3)]
        for future in futures:
            future.wait()
            assert_timed_out(future.state, "Task")
        return None

    around()


@pytest.mark.anyio
async def test_a_sync_task_with_a_deadline_leaves_the_loop_alone() -> None:
    ticks: list[int] = []
    release = threading.Event()

    @task(timeout_seconds=LONG)
    def waits() -> str:
        return "released" if release.wait(5) else "stuck"

    @flow
    async def around() -> str:
        async with anyio.create_task_group() as group:

            async def tick() -> None:
                for _ in range(3):
                    await anyio.sleep(0.001)
                    ticks.append(1)
                release.set()

            group.start_soon(tick)
            await anyio.sleep(0)
            return waits()

    assert await around() == "released"
    assert ticks == [1, 1, 1]


@pytest.mark.anyio
@pytest.mark.parametrize("decorate", [task, flow], ids=["task", "flow"])
async def test_sync_code_on_a_loops_thread_ends_at_its_deadline(decorate: Any) -> None:
    release = threading.Event()

    @decorate(timeout_seconds=SOON)
    def waits() -> None:
        release.wait(LONG)

    @flow
    async def around() -> None:
        state = waits(return_state=True)
        assert_timed_out(state, "Task" if decorate is task else "Flow")

    started = time.monotonic()
    try:
        await around()
        assert waits(return_state=True).name == "TimedOut"  # as a root
        assert time.monotonic() - started < LONG
    finally:
        release.set()


def test_a_late_result_is_discarded_and_told_once(caplog: pytest.LogCaptureFixture) -> None:
    release, over = threading.Event(), threading.Event()

    @task(timeout_seconds=SOON)
    def stuck() -> str:
        try:
            # One call into C: nothing interrupts it.
            release.wait(LONG)
            return "late"
        finally:
            over.set()

    @flow
    def around() -> str:
        state = stuck.submit(return_state=True)
        assert_timed_out(state, "Task")
        release.set()
        return "went on"

    assert around() == "went on"
    assert over.wait(5)
    deadline = time.monotonic() + 5
    while not (told := [r for r in caplog.records if "discarded" in r.message]) and time.monotonic() < deadline:
        time.sleep(0.001)
    assert len(told) == 1
