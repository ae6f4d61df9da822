"""SIGTERM in this process: who gets the handler, what callers and states say."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import anyio
import pytest

from callsheet import Engine, State, flow, task
from callsheet.exceptions import TerminationSignal

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")

TERMINATED = "Execution was aborted by a termination signal."


@contextmanager
def handler(function: Any) -> Iterator[None]:
    """Install a SIGTERM handler as a host would; it must still be there at the end."""
    before = signal.signal(signal.SIGTERM, function)
    try:
        yield
        assert signal.getsignal(signal.SIGTERM) is function
    finally:
        signal.signal(signal.SIGTERM, before)


def test_a_sync_flow_may_be_terminated_by_itself() -> None:
    calls: list[Any] = []

    @flow(on_crashed=[lambda flow, run, state: calls.append(state.message)])
    def outer() -> None:
        os.kill(os.getpid(), signal.SIGTERM)

    with handler(lambda signum, frame: calls.append(signum)), pytest.raises(TerminationSignal):
        outer()
    assert calls == [TERMINATED, signal.SIGTERM]


def test_an_async_flow_may_be_terminated_by_itself(run_on: Callable[..., Any]) -> None:
    calls: list[Any] = []

    @flow(on_crashed=[lambda flow, run, state: calls.append(state.message)])
    async def outer() -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        await anyio.sleep_forever()

    with handler(lambda signum, frame: calls.append(signum)), pytest.raises(TerminationSignal):
        run_on(outer)
    assert calls == [TERMINATED, signal.SIGTERM]


def wakeup_fd() -> int:
    found = signal.set_wakeup_fd(-1)
    signal.set_wakeup_fd(found)
    return found


def test_what_wakes_the_loop_is_given_back(run_on: Callable[..., Any]) -> None:
    @flow
    async def inner() -> int:
        return wakeup_fd()

    async def main() -> tuple[int, int, int]:
        return wakeup_fd(), await inner(), wakeup_fd()

    outside = wakeup_fd()
    before, within, after = run_on(main)
    assert within != -1, "a signal always wakes a loop that runs a flow"
    assert before == after
    assert wakeup_fd() == outside


def test_a_signal_handler_that_the_body_gives_its_loop_goes_on_waking_it() -> None:
    @flow
    async def outer() -> None:
        asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, rang.set)

    async def main() -> None:
        await outer()
        assert wakeup_fd() != -1
        os.kill(os.getpid(), signal.SIGUSR1)
        with anyio.fail_after(10):
            await rang.wait()
        asyncio.get_running_loop().remove_signal_handler(signal.SIGUSR1)

    rang = asyncio.Event()
    asyncio.run(main())


def test_the_state_says_that_the_run_was_terminated(run_on: Callable[..., Any]) -> None:
    seen: list[State[Any]] = []

    @task
    async def stuck() -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        await anyio.sleep_forever()

    @flow(on_crashed=[lambda flow, run, state: seen.append(state)])
    async def outer() -> None:
        await stuck()

    with handler(lambda signum, frame: None), pytest.raises(TerminationSignal) as caught:
        run_on(outer)
    assert seen[0].data is caught.value
    assert caught.value.signal == signal.SIGTERM


def test_handlers_of_loops_and_servers_stay() -> None:
    seen: list[Any] = []

    @flow
    async def outer() -> None:
        seen.append(signal.getsignal(signal.SIGTERM))

    async def with_a_loops_handler() -> None:
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, print)
        before = signal.getsignal(signal.SIGTERM)
        await outer()
        assert seen.pop() is before
        asyncio.get_running_loop().remove_signal_handler(signal.SIGTERM)

    class Server:
        __module__ = "uvicorn.server"

        def handle_exit(self, signum: int, frame: Any) -> None:
            raise AssertionError

    asyncio.run(with_a_loops_handler())
    server = Server()
    handle_exit = server.handle_exit
    handle_exit.__func__.__module__ = "uvicorn.server"
    with handler(handle_exit):
        asyncio.run(outer())
        assert seen.pop() is handle_exit


def test_runs_of_explicit_engines_install_nothing(run_on: Callable[..., Any]) -> None:
    seen: list[Any] = []

    @flow
    async def outer() -> None:
        seen.append(signal.getsignal(signal.SIGTERM))

    async def main() -> None:
        async with Engine():
            await outer()
        await outer()

    before = signal.getsignal(signal.SIGTERM)
    run_on(main)
    assert seen[0] == before != seen[1]


def test_loops_of_other_threads_install_nothing() -> None:
    seen: list[Any] = []

    @flow
    async def outer() -> None:
        seen.append(signal.getsignal(signal.SIGTERM))

    async def main() -> None:
        await anyio.to_thread.run_sync(lambda: asyncio.run(outer()))

    before = signal.getsignal(signal.SIGTERM)
    asyncio.run(main())
    assert seen == [before]
    assert signal.getsignal(signal.SIGTERM) == before


def test_nothing_is_left_installed_after_async_runs(run_on: Callable[..., Any]) -> None:
    @flow
    async def outer() -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(inner)

    @flow
    async def inner() -> None:
        pass

    async def main() -> None:
        async with anyio.create_task_group() as group:
            for _ in range(3):
                group.start_soon(outer)

    before = signal.getsignal(signal.SIGTERM)
    run_on(main)
    assert signal.getsignal(signal.SIGTERM) == before
