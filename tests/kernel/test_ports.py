"""Ports: the same waits on a loop, in a thread, and in sync code inside of an async task."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import threading
import time
import weakref
from collections.abc import Callable
from typing import Any

import anyio
import pytest

from callsheet._kernel.driver import drive
from callsheet._kernel.host import current_host, runtime_thread
from callsheet._kernel.ports import THREAD_PORT, LoopPort, SwitchPort, run_on, step, sync_port, wait_blocking
from callsheet._kernel.scopes import CANCEL, DEADLINE, Interrupted, RunScope
from callsheet._kernel.signals import Once
from callsheet.exceptions import BlockingWaitError

Wait = Callable[..., Any]


def here() -> Any:
    host = current_host()
    assert host is not None
    return host


async def on_loop(*args: Any) -> bool:
    return await LoopPort(here()).wait(*args)


async def in_driven_code(*args: Any) -> bool:
    async def body() -> bool:
        return step(sync_port().wait(*args))

    return await drive(body())


async def in_thread(*args: Any) -> bool:
    return await anyio.to_thread.run_sync(lambda: step(THREAD_PORT.wait(*args)), abandon_on_cancel=True)


@pytest.fixture(params=[on_loop, in_driven_code, in_thread], ids=lambda fn: fn.__name__)
def wait(request: pytest.FixtureRequest) -> Wait:
    return request.param


def later(call: Callable[[], object], seconds: float = 0.02) -> None:
    timer = threading.Timer(seconds, call)
    timer.daemon = True
    timer.start()


@pytest.mark.anyio
async def test_a_condition_that_holds_already(wait: Wait) -> None:
    once = Once()
    once.set()
    assert await wait(once) is True


@pytest.mark.anyio
async def test_a_condition_that_another_thread_sets(wait: Wait) -> None:
    once = Once()
    later(once.set)
    assert await wait(once) is True
    assert once._subscribers == [], "nobody who went is woken"


@pytest.mark.anyio
async def test_a_time_out(wait: Wait) -> None:
    once = Once()
    assert await wait(once, 0.01) is False
    assert once._subscribers == []


@pytest.mark.anyio
async def test_a_scope_that_ends_meanwhile(wait: Wait) -> None:
    once, scope = Once(), RunScope()
    later(lambda: scope.cancel(DEADLINE))
    with pytest.raises(Interrupted):
        await wait(once, None, scope)
    assert once._subscribers == scope._subscribers == []


@pytest.mark.anyio
async def test_a_scope_that_has_ended(wait: Wait) -> None:
    once, scope = Once(), RunScope()
    once.set()
    scope.cancel(CANCEL)
    with pytest.raises(Interrupted):
        await wait(once, None, scope)


@pytest.mark.parametrize("elsewhere", [on_loop, in_driven_code], ids=lambda fn: fn.__name__)
@pytest.mark.anyio
async def test_the_loop_goes_on_meanwhile(elsewhere: Wait) -> None:
    once = Once()

    async def other() -> None:
        once.set()

    async with anyio.create_task_group() as group:
        group.start_soon(other)
        assert await elsewhere(once) is True


@pytest.mark.anyio
async def test_a_shielded_wait_outlasts_cancelled_surroundings() -> None:
    once = Once()
    with anyio.CancelScope() as scope:
        scope.cancel()
        later(once.set)
        assert await LoopPort(here()).shielded_wait(once) is True
        assert await LoopPort(here()).shielded_wait(Once(), 0.001) is False
    with anyio.CancelScope() as scope:
        scope.cancel()
        await LoopPort(here()).wait(Once())
    assert scope.cancelled_caught


# ------------------------------------------------------------------------------------ user functions


@pytest.mark.anyio
async def test_functions_of_either_colour_are_called() -> None:
    async def awaited(x: int) -> int:
        await anyio.sleep(0)
        return x

    def plain(x: int) -> int:
        return x

    async def driven_call(fn: Any) -> Any:
        return await drive(_stepped(fn))

    async def _stepped(fn: Any) -> Any:
        port = sync_port()
        assert isinstance(port, SwitchPort)
        return step(port.call(fn, 3))

    for fn in (awaited, plain):
        assert await LoopPort(here()).call(fn, 3) == 3
        assert await driven_call(fn) == 3


def test_async_functions_are_called_from_threads_without_a_loop() -> None:
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable")
    variable.set("carried")

    async def awaited() -> tuple[str, str]:
        await anyio.sleep(0)
        return variable.get(), threading.current_thread().name

    async def breaks() -> None:
        raise ValueError("mine")

    try:
        assert step(THREAD_PORT.call(awaited)) == ("carried", "callsheet-runtime")
        assert run_on(runtime_thread.host(), awaited())[0] == "carried"
        with pytest.raises(ValueError, match="mine"):
            step(THREAD_PORT.call(breaks))
    finally:
        runtime_thread.stop()


def test_what_runs_for_a_thread_is_kept_alive_until_it_has_ended() -> None:
    """An event loop holds its tasks weakly, and this one waits for something that only it knows."""
    waits = threading.Event()
    events: list[weakref.ref[anyio.Event]] = []

    async def awaited() -> str:
        event = anyio.Event()
        events.append(weakref.ref(event))
        waits.set()
        await event.wait()
        return "woken"

    def wake() -> None:
        waits.wait()
        gc.collect()
        event = events[0]()
        if event is not None:
            runtime_thread.host().post(event.set)

    later(wake)
    try:
        assert run_on(runtime_thread.host(), awaited()) == "woken"
    finally:
        runtime_thread.stop()


# -------------------------------------------------------------------------------------- what cannot be


def test_a_coroutine_that_suspends_cannot_be_stepped() -> None:
    async def suspends() -> None:
        await asyncio.sleep(0)

    with pytest.raises(BlockingWaitError, match="Await it in async code"):
        step(suspends())


@pytest.mark.anyio
async def test_a_wait_that_blocks_what_it_waits_for_is_refused_and_names_the_way_out() -> None:
    with pytest.raises(BlockingWaitError, match=r"await callsheet\.drive"):
        wait_blocking(Once(), None, None, here())


@pytest.mark.anyio
async def test_a_wait_for_something_elsewhere_may_block_the_loop() -> None:
    once = Once()
    later(once.set)
    began = time.monotonic()
    assert wait_blocking(once, 5, None, None) is True
    assert time.monotonic() - began < 5
