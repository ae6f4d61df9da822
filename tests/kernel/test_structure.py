"""What the concurrency design promises: fairness, nothing pending, nothing left for the garbage collector."""

from __future__ import annotations

import asyncio
import gc
import sys
import threading
import weakref
from collections.abc import Callable
from functools import partial
from itertools import count
from typing import Any

import anyio
import pytest
from anyio.lowlevel import RunVar

from callsheet import State, flow, task
from callsheet._kernel import turns
from callsheet._kernel.host import current_host
from callsheet.futures import TaskFuture
from callsheet.states import Completed, Failed
from past import runs


@task
def plain() -> None: ...


@task
async def awaited() -> None: ...


@task
def plain_fails() -> None:
    raise ValueError


@task
async def awaited_fails() -> None:
    raise ValueError


@flow
def plain_flow() -> None: ...


@flow
async def awaited_flow() -> None: ...


@flow
async def picky(x: int) -> None: ...


@task
async def after(x: Any) -> None: ...


@task
async def tries_again(seen: list[int]) -> None:
    seen.append(1)
    if len(seen) % 3:
        raise ValueError


twice = tries_again.with_options(retries=1)


# ------------------------------------------------------------------------------------------- fairness

NOT_READY = Failed(message="no")
LOOPS: dict[str, Callable[[], Any]] = {
    "task": awaited,
    "failing task": lambda: awaited_fails(return_state=True),
    "raising task": lambda: _swallow(awaited_fails),
    "not ready": lambda: after(NOT_READY, return_state=True),
    "retried": lambda: tries_again.with_options(retries=3)([]),
    "flow": awaited_flow,
    "rejected flow": lambda: picky("x", return_state=True),  # type: ignore[call-overload]
    "ended future": lambda: _again(),
}

ended: RunVar[TaskFuture[None]] = RunVar("ended")


async def _again() -> None:
    if (future := ended.get(None)) is None:
        await submitted()
    else:
        await future


@flow
async def submitted() -> None:
    ended.set(awaited.submit())


async def _swallow(call: Callable[[], Any]) -> None:
    with pytest.raises(ValueError):
        await call()


@pytest.mark.parametrize("kind", LOOPS)
@pytest.mark.anyio
async def test_a_loop_of_quick_runs_obeys_a_deadline_and_lets_others_run(
    kind: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("CALLSHEET_DURABILITY", "off")
    monkeypatch.setattr(turns, "monotonic", partial(next, count(0.0, turns.BUDGET / 4)))
    caplog.set_level("CRITICAL", "callsheet")
    ticks = rounds = 0

    async def ticker() -> None:
        nonlocal ticks
        while True:
            await anyio.sleep(0)
            ticks += 1

    async def endless() -> None:
        nonlocal rounds
        while True:
            await LOOPS[kind]()
            rounds += 1
            if rounds == 1:  # from here on it is a loop, however slow the machine was up to here
                scope.deadline = anyio.current_time() + 0.1

    await LOOPS[kind]()  # the first one opens the engine
    async with anyio.create_task_group() as group:
        group.start_soon(ticker)
        with anyio.CancelScope() as scope:
            await endless()
        group.cancel_scope.cancel()
    assert scope.cancelled_caught
    assert rounds
    assert ticks >= rounds // 6  # a run asks for the time once, and five of them use up a turn


@pytest.mark.anyio
async def test_each_task_of_a_crowd_gets_one_run_a_turn(
    anyio_backend_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if anyio_backend_name != "asyncio":
        pytest.skip("on trio every run passes a checkpoint")
    monkeypatch.setenv("CALLSHEET_DURABILITY", "off")
    monkeypatch.setattr(turns, "BUDGET", -1.0)  # used up at once
    order: list[int] = []

    @task
    async def note(i: int) -> None:
        order.append(i)

    async def three(i: int) -> None:
        for _ in range(3):
            await note(i)

    @flow
    async def crowd() -> None:
        await asyncio.gather(*(three(i) for i in range(5)))

    await crowd()
    assert order == [*range(5), *range(5), *range(5)]


@pytest.mark.anyio
async def test_a_loop_of_quick_runs_in_a_flow_obeys_its_deadline() -> None:
    @flow(timeout_seconds=0.1)
    async def endless() -> None:
        while True:
            await awaited()

    state = await endless(return_state=True)
    assert state.name == "TimedOut"


# ---------------------------------------------------------------------------------- loops that end


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_loop_ends_while_submitted_runs_are_alive(backend: str) -> None:
    """The flow is left behind by a task of the host that is cancelled when its loop ends."""
    futures: list[TaskFuture[Any]] = []

    @task
    async def forever() -> None:
        await anyio.sleep_forever()

    @flow
    async def lasts() -> None:
        futures.append(forever.submit())
        await anyio.sleep_forever()

    async def main() -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(lasts)
            while not futures:
                await anyio.sleep(0.001)
            await anyio.sleep(0.01)
            group.cancel_scope.cancel()

    anyio.run(main, backend=backend)
    assert futures[0].state.is_final()
    found = {run.definition.name: run.state.name for run in runs() if run.state is not None}
    assert found == {"lasts": "Crashed", "forever": "Cancelled"}


def test_asyncio_cancels_what_is_left_when_it_ends() -> None:
    @flow
    async def lasts() -> None:
        started.set()
        await asyncio.sleep(60)

    started = threading.Event()

    async def main() -> asyncio.Task[Any]:
        left = asyncio.ensure_future(lasts())
        while not started.is_set():
            await asyncio.sleep(0.001)
        return left

    left = asyncio.run(main())
    assert left.cancelled()
    (run,) = runs()
    assert run.state is not None
    assert run.state.name == "Crashed"


def test_a_future_of_a_loop_that_has_ended_can_be_read() -> None:
    @task
    async def work() -> int:
        return 7

    @flow
    async def outer() -> Any:
        return Completed(data=[work.submit(), None])

    future = asyncio.run(outer())[0]
    assert future.result(timeout=1) == 7
    assert asyncio.run(_await(future)) == 7


async def _await(future: Any) -> Any:
    return await future


def test_loops_one_after_the_other_and_at_once() -> None:
    @flow
    async def total(n: int) -> int:
        return sum(len(future.result()) for future in [word.submit(i) for i in range(n)])

    @task
    async def word(i: int) -> str:
        await anyio.sleep(0)
        return "x" * i

    assert [anyio.run(total, 4, backend=name) for name in ("asyncio", "trio", "asyncio")] == [6] * 3
    found: list[int] = []
    threads = [
        threading.Thread(target=lambda name=name: found.append(anyio.run(total, 5, backend=name)))
        for name in ("asyncio", "trio") * 2
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [10] * 4


# ----------------------------------------------------------------------------------- garbage


@flow(validate_parameters=False)
async def calls(call: Callable[[], Any]) -> None:
    for _ in range(20):
        await call()


@flow(validate_parameters=False)
async def submits(job: Any) -> None:
    for future in [job.submit() for _ in range(20)]:
        future.wait()


@task(timeout_seconds=0.001)
async def slow() -> None:
    await anyio.sleep_forever()


async def _many(call: Callable[[], Any]) -> None:
    for _ in range(100):
        await call()


async def _sync(call: Callable[[], Any]) -> None:
    call()


def _raised() -> None:
    try:
        plain_fails()
    except ValueError:
        pass


async def _araised() -> None:
    try:
        await awaited_fails()
    except ValueError:
        pass


async def _timed_out() -> None:
    for _ in range(5):
        await slow(return_state=True)


async def _retried() -> None:
    for _ in range(10):
        await twice([], return_state=True)


GARBAGE: dict[str, Callable[[], Any]] = {
    "sync tasks": lambda: _many(lambda: _sync(plain)),
    "async tasks": lambda: _many(awaited),
    "sync tasks that fail": lambda: _many(lambda: _sync(lambda: plain_fails(return_state=True))),
    "async tasks that fail": lambda: _many(lambda: awaited_fails(return_state=True)),
    "sync tasks that raise": lambda: _many(lambda: _sync(_raised)),
    "async tasks that raise": lambda: _many(_araised),
    "flows": lambda: _many(awaited_flow),
    "flows with bad parameters": lambda: _many(lambda: picky("x", return_state=True)),  # type: ignore[call-overload]
    "tasks in a flow": lambda: calls(awaited),
    "tasks that fail in a flow": lambda: calls(lambda: awaited_fails(return_state=True)),
    "submitted": lambda: submits(awaited),
    "submitted to threads": lambda: submits(plain),
    "submitted, failing": lambda: submits(awaited_fails),
    "submitted to threads, failing": lambda: submits(plain_fails),
    "timed out": _timed_out,
    "retried": _retried,
}


@pytest.mark.parametrize("kind", GARBAGE)
@pytest.mark.anyio
async def test_runs_leave_no_cycles(kind: str, caplog: pytest.LogCaptureFixture) -> None:
    if kind == "timed out" and sys.version_info >= (3, 12) and current_host().__class__.__name__ == "TrioHost":
        pytest.skip("trio's own Cancelled holds the frame that it ended, and with it a port of ours, from 3.12 on")
    caplog.set_level("CRITICAL", "callsheet")
    await GARBAGE[kind]()  # what is made once
    gc.disable()
    gc.collect()
    gc.freeze()  # What earlier tests left is not looked at: only these runs are asked about, and it saves a second.
    # For good: nothing can be let go of alone, and with this every later collection would walk through thousands of tests.
    flags = gc.get_debug()
    gc.set_debug(gc.DEBUG_SAVEALL)
    try:
        await GARBAGE[kind]()
        gc.collect()
        ours = [f"{type(item).__module__}.{type(item).__qualname__}" for item in gc.garbage]
        gc.garbage.clear()
    finally:
        gc.set_debug(flags)
        gc.enable()
    assert [name for name in ours if name.startswith("callsheet.")] == []


@pytest.mark.anyio
async def test_what_a_run_was_given_is_let_go() -> None:
    class Big:
        pass

    @task
    async def use(big: Big) -> None: ...

    @task
    def fails(big: Big) -> None:
        raise ValueError

    @flow
    async def around() -> tuple[list[Any], list[State[Any]]]:
        one, two, three = Big(), Big(), Big()
        await use(one)
        future = use.submit(two)
        future.wait()
        refs = [weakref.ref(big) for big in (one, two)]
        del one, two, three
        assert [ref() for ref in refs] == [None, None]
        return future.state.is_completed(), fails.submit(Big(), return_state=True).name

    assert await around() == (True, "Failed")
