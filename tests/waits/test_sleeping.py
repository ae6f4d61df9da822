"""Waiting for a moment, in one life of a run."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import anyio
import pytest

from callsheet import flow, sleep, sleep_until, task
from callsheet._engine import sleeping
from callsheet.task_runners import ThreadPoolTaskRunner
from callsheet.waits import asleep, asleep_until
from harness import ever_longer

SECONDS = 0.05


def soon(seconds: float = SECONDS) -> datetime:
    return datetime.now(UTC) + timedelta(seconds=seconds)


def took(call: Callable[[], Any]) -> float:
    began = time.monotonic()
    call()
    return time.monotonic() - began


@pytest.mark.parametrize("wait", [lambda: sleep(SECONDS), lambda: sleep_until(soon())], ids=["for", "until"])
def test_in_sync_code(wait: Callable[[], None]) -> None:
    """In a flow, in a task, and in none."""
    assert took(flow(wait)) >= SECONDS
    assert took(task(wait)) >= SECONDS
    assert took(wait) >= SECONDS


class Others:
    """Another task of the loop, which counts the moments at which it was let run."""

    def __init__(self) -> None:
        self.ticks = 0

    async def tick(self) -> None:
        while True:
            await anyio.sleep(SECONDS / 5)
            self.ticks += 1

    async def run_during(self, call: Callable[[float], Awaitable[Any]]) -> None:
        """Sleep so long that they surely come to run, if they can: on a busy machine a short sleep is over by then."""
        async with anyio.create_task_group() as group:
            group.start_soon(self.tick)
            before = self.ticks
            for seconds in ever_longer(lambda: self.ticks > before, first=SECONDS):
                began, before = time.monotonic(), self.ticks
                await call(seconds)
                assert time.monotonic() - began >= seconds
            group.cancel_scope.cancel()


@pytest.mark.anyio
@pytest.mark.parametrize("wait", [asleep, lambda seconds: asleep_until(soon(seconds))], ids=["for", "until"])
async def test_in_async_code(wait: Callable[[float], Any]) -> None:
    async def body(seconds: float) -> None:
        await wait(seconds)

    for call in (flow(body), task(body), body):
        await Others().run_during(call)


@pytest.mark.anyio
async def test_a_sync_flow_in_async_code_lets_others_run() -> None:
    @flow
    def inner(seconds: float) -> None:
        sleep(seconds)

    @flow
    async def outer(seconds: float) -> None:
        inner(seconds)

    await Others().run_during(outer)


def test_what_has_passed_is_not_waited_for() -> None:
    @flow
    def body() -> None:
        sleep(0)
        sleep_until(datetime(2000, 1, 1, tzinfo=UTC))

    assert took(body) < 10


def test_the_time_limit_of_a_flow_goes_on() -> None:
    @flow(timeout_seconds=SECONDS)
    def body() -> None:
        sleep(60)

    assert body(return_state=True).name == "TimedOut"


@pytest.mark.anyio
async def test_a_sleep_is_cancelled() -> None:
    left: list[str] = []
    gone_on = anyio.Event()

    @flow
    async def body() -> None:
        with anyio.move_on_after(0.01):
            await sleep(60)
        left.append("one")
        gone_on.set()
        await sleep(60)
        left.append("two")

    with anyio.fail_after(30):
        async with anyio.create_task_group() as group:
            group.start_soon(body)
            await gone_on.wait()
            group.cancel_scope.cancel()
    assert left == ["one"]


def test_a_place_in_a_runner_is_lent_meanwhile() -> None:
    gone_on = threading.Event()

    @task
    def sleeper() -> None:
        while not gone_on.is_set():
            sleep(0.001)

    @flow(task_runner=ThreadPoolTaskRunner(max_workers=1))
    def outer() -> None:
        first = sleeper.submit()
        task(gone_on.set).submit().wait()
        first.wait()

    outer()


def test_long_waits_look_at_the_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that a machine that was asleep, or whose clock was set, is up in time."""
    monkeypatch.setattr(sleeping, "_SLICE", 0.001)
    assert took(lambda: sleep(SECONDS)) >= SECONDS


@pytest.mark.parametrize("seconds", [-1, math.nan, math.inf])
def test_no_number_of_seconds(seconds: float) -> None:
    with pytest.raises(ValueError, match="`seconds` must be 0 or more"):
        sleep(seconds)


def test_a_moment_without_a_time_zone() -> None:
    with pytest.raises(ValueError, match="needs a time zone"):
        sleep_until(datetime(2100, 1, 1))
