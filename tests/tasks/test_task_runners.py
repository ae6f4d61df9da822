"""Task runners: how many runs at once, and that no number of workers makes runs wait for each other for ever."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import anyio
import pytest

from callsheet import flow, task
from callsheet.annotations import quote
from callsheet.context import FlowRunContext
from callsheet.settings import temporary_settings
from callsheet.task_runners import (
    ConcurrentTaskRunner,
    DaskTaskRunner,
    ProcessPoolTaskRunner,
    RayTaskRunner,
    ThreadPoolTaskRunner,
)


class Crowd:
    """Counts how many are inside at once."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.inside = self.most = 0

    def __enter__(self) -> None:
        with self._lock:
            self.inside += 1
            self.most = max(self.most, self.inside)

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self.inside -= 1


# ----------------------------------------------------------------------------------------- choosing


@pytest.mark.parametrize("runner", [ThreadPoolTaskRunner, ConcurrentTaskRunner])
def test_a_class_or_an_instance(runner: Any) -> None:
    @flow(task_runner=runner)
    def of_class() -> Any:
        return type(FlowRunContext.get().task_runner)  # type: ignore[union-attr]

    assert of_class() is runner
    assert isinstance(of_class.task_runner, runner)
    instance = runner(max_workers=3)
    of_instance = of_class.with_options(task_runner=instance)
    assert of_instance.task_runner is instance
    assert of_instance() is runner


def test_a_run_has_a_runner_of_its_own() -> None:
    runner = ThreadPoolTaskRunner(max_workers=3)

    @flow(task_runner=runner)
    def around() -> Any:
        return FlowRunContext.get().task_runner  # type: ignore[union-attr]

    used = around()
    assert used is not runner
    assert used == runner
    assert used.max_workers == 3


def test_without_one_there_is_no_limit_but_a_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    @flow
    def plain() -> None: ...

    assert type(plain.task_runner) is ThreadPoolTaskRunner
    assert plain.task_runner.max_workers is None
    monkeypatch.setenv("CALLSHEET_TASK_RUNNER_MAX_WORKERS", "5")
    assert ThreadPoolTaskRunner().max_workers == 5


@pytest.mark.parametrize("number", [0, -1])
def test_nobody_at_all_is_refused(number: int) -> None:
    with pytest.raises(ValueError, match="max_workers"):
        ThreadPoolTaskRunner(max_workers=number)


@pytest.mark.parametrize("runner", [ProcessPoolTaskRunner, DaskTaskRunner, RayTaskRunner])
def test_runners_that_come_later_say_so(runner: Any) -> None:
    with pytest.raises(NotImplementedError, match=runner.__name__):
        runner()
    with pytest.raises(NotImplementedError, match=runner.__name__):
        flow(task_runner=runner)(lambda: None)


# ---------------------------------------------------------------------------------------- max_workers


@pytest.mark.parametrize("size", [1, 2, 3])
def test_sync_tasks_share_the_workers(size: int) -> None:
    crowd = Crowd()
    full = threading.Event()

    @task
    def work(x: int) -> int:
        with crowd:
            if crowd.inside == size:
                full.set()
            assert full.wait(5)
            return x

    @flow(task_runner=ThreadPoolTaskRunner(max_workers=size))
    def around() -> list[int]:
        return work.map(range(8)).result()

    assert around() == list(range(8))
    assert crowd.most == size


@pytest.mark.anyio
@pytest.mark.parametrize("size", [1, 3])
async def test_async_tasks_share_the_workers(size: int) -> None:
    crowd = Crowd()

    @task
    async def work(x: int) -> int:
        with crowd:
            for _ in range(5):
                await anyio.sleep(0)
            return x

    @flow(task_runner=ThreadPoolTaskRunner(max_workers=size))
    async def around() -> list[int]:
        return await work.map(range(8))

    assert await around() == list(range(8))
    assert crowd.most == size


@pytest.mark.anyio
async def test_tasks_of_both_colours_share_the_same_workers() -> None:
    crowd = Crowd()
    both = threading.Event()  # until both workers have been at work no run ends

    @task
    async def awork(x: int) -> int:
        with crowd:
            while not both.is_set():
                both.set() if crowd.inside == 2 else await anyio.sleep(0.001)
            return x

    @task
    def work(x: int) -> int:
        with crowd:
            if crowd.inside == 2:
                both.set()
            assert both.wait(10)
            return x

    @flow(task_runner=ThreadPoolTaskRunner(max_workers=2))
    async def around() -> list[int]:
        futures = [(awork if i % 2 else work).submit(i) for i in range(10)]
        return [await future for future in futures]

    assert await around() == list(range(10))
    assert crowd.most == 2


def test_one_worker_keeps_the_order() -> None:
    order: list[int] = []

    @task
    def work(x: int) -> None:
        order.append(x)

    @flow(task_runner=ThreadPoolTaskRunner(max_workers=1))
    def around() -> None:
        work.map(range(20)).wait()

    around()
    assert order == list(range(20))


def test_a_failed_task_gives_its_place_back() -> None:
    @task
    def fails() -> None:
        raise ValueError("no")

    @flow(task_runner=ThreadPoolTaskRunner(max_workers=1))
    def around() -> list[str]:
        return [fails.submit(return_state=True).name for _ in range(3)]

    assert around() == ["Failed"] * 3


def test_a_flow_that_fails_ends_also_those_in_the_queue() -> None:
    ran: list[int] = []
    entered = threading.Event()
    go = threading.Event()

    @task
    def work(x: int) -> None:
        ran.append(x)
        entered.set()
        go.wait(5)

    @flow(task_runner=ThreadPoolTaskRunner(max_workers=1))
    def around() -> None:
        kept = work.map(range(5))
        entered.wait(5)
        threading.Timer(0.02, go.set).start()
        raise ValueError(kept)

    assert around(return_state=True).is_failed()
    assert ran == [0]


# ------------------------------------------------------------------------------- nested with one worker


def nest(run_on: Callable[..., Any], tasks: dict[str, Any], outer: str, depth: int) -> Any:
    if outer == "sync":

        @flow(task_runner=ThreadPoolTaskRunner(max_workers=1))
        def around() -> Any:
            return tasks["first"].submit(depth).result()

        return around()

    @flow(task_runner=ThreadPoolTaskRunner(max_workers=1))
    async def aaround() -> Any:
        return await tasks["first"].submit(depth)

    return run_on(aaround)


@pytest.mark.parametrize("outer", ["sync", "async"])
@pytest.mark.parametrize("first", ["sync", "blocking", "awaiting"])
@pytest.mark.parametrize("second", ["sync", "blocking", "awaiting"])
def test_one_worker_is_enough_for_runs_that_submit_and_wait(
    outer: str, first: str, second: str, run_on: Callable[..., Any]
) -> None:
    def make(colour: str, other: str) -> Any:
        @task
        def sync(n: int) -> int:
            return 0 if n == 0 else 1 + tasks[other].submit(n - 1).result()

        @task
        async def blocking(n: int) -> int:
            return 0 if n == 0 else 1 + tasks[other].submit(n - 1).result()

        @task
        async def awaiting(n: int) -> int:
            return 0 if n == 0 else 1 + await tasks[other].submit(n - 1)

        return {"sync": sync, "blocking": blocking, "awaiting": awaiting}[colour]

    tasks: dict[str, Any] = {}
    tasks["first"] = make(first, "second")
    tasks["second"] = make(second, "first")
    assert nest(run_on, tasks, outer, 12) == 12


@pytest.mark.parametrize("outer", ["sync", "async"])
@pytest.mark.parametrize("colour", ["sync", "async"])
@pytest.mark.parametrize("called", ["task", "flow"])
def test_one_worker_is_enough_for_calls_inside_of_tasks_that_wait_for_runs(
    outer: str, colour: str, called: str, run_on: Callable[..., Any]
) -> None:
    @task
    def give(x: int) -> int:
        return x

    wrap = task if called == "task" else flow

    @wrap
    def add_one(x: int) -> int:
        return x + 1

    @wrap
    async def aadd_one(x: int) -> int:
        return x + 1

    @task
    def sync(n: int) -> int:
        return add_one(give.submit(n), wait_for=[give.submit(n)])

    @task
    async def awaiting(n: int) -> int:
        return await aadd_one(give.submit(n), wait_for=[give.submit(n)])

    assert nest(run_on, {"first": sync if colour == "sync" else awaiting}, outer, 4) == 5


def test_one_worker_is_enough_for_a_subflow_that_waits_for_runs_of_the_outer_flow() -> None:
    @task
    def give(x: int) -> int:
        return x

    @flow
    def inner(future: Any) -> int:
        return len([give.submit(future)])  # its own child, which the outer worker is needed for

    @task
    def calls_inner() -> int:
        return inner(quote(give.submit(1)))

    @flow(task_runner=ThreadPoolTaskRunner(max_workers=1))
    def outer() -> int:
        return calls_inner.submit().result()

    assert outer() == 1


def test_one_worker_is_enough_for_a_list_that_gets_a_later_run() -> None:
    @task
    def give(x: Any) -> Any:
        return x

    @flow(task_runner=ThreadPoolTaskRunner(max_workers=1))
    def around() -> Any:
        upstream: list[Any] = [give.submit(1)]
        first = give.submit(2, wait_for=upstream)
        upstream.append(give.submit(3))
        return first.result()

    assert around() == 2


@pytest.mark.anyio
async def test_one_worker_is_enough_for_runs_that_wait_for_earlier_ones() -> None:
    @task
    async def slow(x: int) -> int:
        await anyio.sleep(0.001)
        return x

    @task
    def add(x: int, y: int) -> int:
        return x + y

    @flow(task_runner=ThreadPoolTaskRunner(max_workers=1))
    async def around() -> int:
        total: Any = 0
        for i in range(6):
            total = add.submit(total, slow.submit(i))
        return await total

    assert await around() == 15


@pytest.mark.anyio
async def test_subflows_have_workers_of_their_own() -> None:
    @task
    def work(x: int) -> int:
        return x

    @flow(task_runner=ThreadPoolTaskRunner(max_workers=1))
    def inner(x: int) -> int:
        return work.submit(x).result()

    @task
    def calls_inner(x: int) -> int:
        return inner(x)

    @flow(task_runner=ThreadPoolTaskRunner(max_workers=1))
    async def outer() -> list[int]:
        return await calls_inner.map([1, 2, 3])

    assert await outer() == [1, 2, 3]


def test_each_flow_run_has_a_runner_as_its_class_makes_it():
    class Counting(ThreadPoolTaskRunner):
        def __init__(self, max_workers: int | None = None) -> None:
            super().__init__(max_workers)
            self.submitted: list[str] = []

        def submit(self, task: Any, *args: Any, **rest: Any) -> Any:
            self.submitted.append(task.name)
            return super().submit(task, *args, **rest)

    @task
    def one() -> int:
        return 1

    given = Counting(max_workers=2)

    @flow(task_runner=given)
    def counted() -> list[str]:
        one.submit()
        runner: Any = FlowRunContext.get().task_runner
        assert runner.max_workers == 2
        return runner.submitted

    assert counted() == counted() == ["one"]
    assert given.submitted == []


def test_a_runner_of_no_size_has_that_of_the_settings_of_each_flow_run():
    @flow
    def size() -> int | None:
        return FlowRunContext.get().task_runner.max_workers

    with temporary_settings({"task_runner_max_workers": 3}):
        assert size() == 3
    assert size() is None
