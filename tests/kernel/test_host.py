"""Hosts: event loops as places where actors are started and posted to, from anywhere."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import os
import threading
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import anyio
import pytest
import sniffio

from callsheet._kernel.host import RuntimeThread, correct_library, current_host, runtime_thread


def current() -> Any:
    host = current_host()
    assert host is not None
    return host


def test_outside_of_loops_there_is_none() -> None:
    assert current_host() is None


@pytest.mark.anyio
async def test_a_loop_has_one_host() -> None:
    host = current()
    assert host is current()
    assert host.is_here()
    assert not host.closed
    assert await anyio.to_thread.run_sync(current_host) is None
    assert not await anyio.to_thread.run_sync(host.is_here)


@pytest.mark.anyio
async def test_actors_live_in_the_context_that_they_are_given() -> None:
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="none")
    done = anyio.Event()
    found: list[str] = []

    async def actor() -> None:
        await anyio.sleep(0)
        found.append(variable.get())
        variable.set("its own")
        done.set()

    token = variable.set("given")
    context = contextvars.copy_context()
    variable.reset(token)
    task = current().spawn(actor, context)
    assert found == [], "not even its first step ran inside the call"
    await done.wait()
    assert (found, variable.get(), context[variable]) == (["given"], "none", "its own")
    del task


@pytest.mark.anyio
async def test_an_actor_outlives_the_scopes_of_who_started_it() -> None:
    done = anyio.Event()

    async def actor() -> None:
        await anyio.sleep(0.01)
        done.set()

    with anyio.CancelScope() as scope:
        task = current().spawn(actor, contextvars.copy_context())
        scope.cancel()
    await done.wait()
    del task


@pytest.mark.anyio
async def test_posts_from_threads_arrive_in_order() -> None:
    host, found, done = current(), [], anyio.Event()

    def post() -> None:
        for i in range(100):
            host.post(lambda i=i: found.append((i, threading.get_ident())))
        host.post(done.set)

    await anyio.to_thread.run_sync(post)
    await done.wait()
    assert found == [(i, threading.get_ident()) for i in range(100)]


def test_a_loop_that_has_ended_takes_no_posts(run_on: Callable[..., Any]) -> None:
    async def main() -> Any:
        return current()

    host = run_on(main)
    assert host.closed
    assert not host.is_here()
    host.post(lambda: pytest.fail("called"))


def test_loops_and_their_hosts_are_let_go(run_on: Callable[..., Any]) -> None:
    async def main() -> None:
        found.append(weakref.ref(current()))

    found: list[weakref.ref[Any]] = []
    for _ in range(3):
        run_on(main)
    gc.collect()
    assert sum(host() is not None for host in found) <= 1, "a thread may remember the last one"


def test_a_context_says_which_library_runs_where_it_goes() -> None:
    async def look() -> contextvars.Context:
        return contextvars.copy_context()

    context = anyio.run(look, backend="trio")
    assert context[sniffio.current_async_library_cvar] == "trio"
    correct_library(context, "asyncio")
    assert context[sniffio.current_async_library_cvar] == "asyncio"
    correct_library(context, None)
    assert context[sniffio.current_async_library_cvar] is None
    with pytest.raises(sniffio.AsyncLibraryNotFoundError):
        context.run(sniffio.current_async_library)


# ------------------------------------------------------------------------------------ the runtime thread


@pytest.fixture
def thread() -> Iterator[RuntimeThread]:
    made = RuntimeThread()
    yield made
    made.stop()


def test_the_runtime_thread_starts_once_and_again_after_it_was_stopped(thread: RuntimeThread) -> None:
    host = thread.host()
    assert host is thread.host()
    assert not host.is_here()
    thread.stop()
    thread.stop()
    assert host.closed
    again = thread.host()
    assert again is not host
    assert not again.closed


def test_many_that_need_it_at_once_get_the_same(thread: RuntimeThread) -> None:
    hosts: list[Any] = []
    threads = [threading.Thread(target=lambda: hosts.append(thread.host())) for _ in range(8)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert len(set(map(id, hosts))) == 1


def test_stopping_cancels_what_still_runs_there(thread: RuntimeThread) -> None:
    started, ends = threading.Event(), []

    async def actor() -> None:
        started.set()
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            await asyncio.sleep(0)
            ends.append("cancelled")

    host, tasks = thread.host(), []
    host.post(lambda: tasks.append(host.spawn(actor, contextvars.copy_context())))
    started.wait()
    thread.stop()
    assert ends == ["cancelled"]


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_forked_child_has_none_of_it() -> None:
    host = runtime_thread.host()
    read, write = os.pipe()
    try:
        child = os.fork()
        if child == 0:
            os.write(write, b"new" if runtime_thread.host() is not host else b"old")
            os._exit(0)
        assert os.read(read, 3) == b"new"
        os.waitpid(child, 0)
        assert runtime_thread.host() is host
    finally:
        os.close(read)
        os.close(write)
        runtime_thread.stop()
