"""What runs in the processes of the kill loop: flows whose every effect is told to a file outside of the engine."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import anyio

from callsheet import flow, run_key, suspend_flow_run, task
from callsheet.exceptions import LostOwnership, NotPausedError, RunNotLive
from callsheet.flow_runs import aresume_flow_run, asuspend_flow_run
from callsheet.futures import TaskFuture
from callsheet.runtime import task_run
from callsheet.states import State
from callsheet.waits import asend_signal, asleep, await_signal, sleep, wait_signal
from kill_points import Points


class Log:
    """The outside world: lines of JSON that are on the disk before anything goes on.

    Args:
        path: of the file.
        life: how many processes have written to it before this one.
        points: what may end this process after a line.
    """

    def __init__(self, path: Path, life: int = 0, points: Points | None = None) -> None:
        self.path = path
        self.life = life
        self.points = points or Points()
        self._file = os.open(path, os.O_CREAT | os.O_APPEND | os.O_WRONLY, 0o600)

    def write(self, what: str, key: str, **more: Any) -> None:
        self.points.reach(f"before {what}")
        line = {"what": what, "key": key, "life": self.life, "at": time.monotonic(), **more}
        os.write(self._file, json.dumps(line).encode() + b"\n")
        os.fsync(self._file)
        self.points.reach(f"after {what}")

    def lines(self, what: str | None = None) -> list[dict[str, Any]]:
        """Give what was written, by all processes."""
        return read(self.path, what)

    def close(self) -> None:
        os.close(self._file)


def read(path: Path, what: str | None = None) -> list[dict[str, Any]]:
    """Give the lines of a log."""
    if not path.exists():
        return []
    first = b"{" if what is None else f'{{"what": "{what}",'.encode()
    with path.open("rb") as file:
        return [json.loads(line) for line in file if line.startswith(first)]


outside: list[Log] = []  # the log of this process, which the loop sets


def log() -> Log:
    """Give the log of this process."""
    return outside[-1]


class Flaky(Exception):
    """What a task raises that is to be tried again."""


def effect(key: str, failures: int) -> str:
    """Begin, fail as often as is wanted (over all processes), and do it."""
    log().write("begin", key, run=task_run.id)
    if failures and sum(line["key"] == key for line in log().lines("failed")) < failures:
        log().write("failed", key, run=task_run.id)
        raise Flaky(key)
    log().write("did", key, run=task_run.id)
    return key


def told(key: str, state: State[Any], kind: str = "task") -> None:
    """Note that a caller was told how a run has ended, or that others have taken it over."""
    if isinstance(state.data, LostOwnership):
        return log().write("fenced", key)
    if not state.is_final():  # it was suspended
        return None
    details = state.state_details
    run = details.task_run_id if kind == "task" else details.flow_run_id
    log().write("told", key, run=str(run), state=state.type.value, kind=kind)


def pause(key: str) -> float:
    """Give a time that is nothing for most steps and a moment for some, the same in every life."""
    return 0.004 if sum(key.encode()) % 3 == 0 else 0.0


# --------------------------------------------------------------------------------------------- tasks


@task
async def work(key: str, after: Any = None, failures: int = 0) -> str:
    await anyio.sleep(pause(key))
    return effect(key, failures)


@task(retries=2, retry_delay_seconds=0.002)
async def shaky(key: str) -> str:
    await anyio.sleep(pause(key))
    return effect(key, 2)


@task
async def hopeless(key: str) -> str:
    return effect(key, 1000)


@task
def sync_work(key: str) -> str:
    time.sleep(pause(key))
    return effect(key, 0)


@task(retries=1)
def sync_shaky(key: str) -> str:
    return effect(key, 1)


async def call(one: Any, key: str, **more: Any) -> None:
    told(key, await one(key, **more, return_state=True))


def settled(key: str, future: TaskFuture[Any], kind: str = "task") -> None:
    future.wait()
    told(key, future.state, kind)


# --------------------------------------------------------------------------------------------- flows


@flow
async def sequential(name: str) -> str:
    for number in range(8):
        await call(work, f"{name}/{number}")
    return name


@flow
async def mapped(name: str) -> str:
    keys = [f"{name}/{number}" for number in range(6)]
    for key, future in zip(keys, work.map(keys), strict=True):
        settled(key, future)
    await call(work, f"{name}/last")
    return name


@flow
async def chained(name: str) -> str:
    future = None
    keys = [f"{name}/{number}" for number in range(4)]
    futures = [future := work.submit(key, after=future) for key in keys]
    for key, one in zip(keys, futures, strict=True):
        settled(key, one)
    return name


@flow
async def branches(name: str) -> str:
    async def branch(which: str) -> None:
        for number in range(3):
            await call(work, f"{name}/{which}{number}")

    async with anyio.create_task_group() as group:
        for which in "abc":
            group.start_soon(branch, which)
    return name


@flow
async def retrying(name: str) -> str:
    await call(shaky, f"{name}/shaky")
    await call(hopeless, f"{name}/hopeless")
    for number, future in enumerate([shaky.submit(f"{name}/shaky{number}") for number in range(2)]):
        settled(f"{name}/shaky{number}", future)
    return name


@flow(retries=1)
async def tried_again(name: str) -> str:
    await call(work, f"{name}/before")
    await work(f"{name}/fails", failures=1)
    await call(work, f"{name}/after")
    return name


@flow
async def inner(name: str) -> str:
    for number in range(2):
        await call(work, f"{name}/{number}")
    return name


@flow
async def nested(name: str) -> str:
    await call(work, f"{name}/before")
    told(f"{name}/inner", await inner(f"{name}/inner", return_state=True), "subflow")
    futures = {key: inner.submit(key) for key in (f"{name}/x", f"{name}/y")}
    for key, future in futures.items():
        settled(key, future, "subflow")
    return name


@flow
def sync_inner(name: str) -> str:
    told(f"{name}/0", sync_work(f"{name}/0", return_state=True))
    return name


@flow
def synchronous(name: str) -> str:
    told(f"{name}/first", sync_work(f"{name}/first", return_state=True))
    told(f"{name}/shaky", sync_shaky(f"{name}/shaky", return_state=True))
    keys = [f"{name}/{number}" for number in range(3)]
    for key, future in zip(keys, sync_work.map(keys), strict=True):
        settled(key, future)
    told(f"{name}/inner", sync_inner(f"{name}/inner", return_state=True), "subflow")
    return name


# Flows that wait for time and for the world; the world is `attend`.


@flow
async def suspending(name: str) -> str:
    for number in range(3):
        await call(work, f"{name}/{number}")
        if number < 2:
            await asuspend_flow_run(timeout=600)
    return name


@flow
def sync_suspending(name: str) -> str:
    told(f"{name}/0", sync_work(f"{name}/0", return_state=True))
    suspend_flow_run(timeout=600)
    told(f"{name}/1", sync_work(f"{name}/1", return_state=True))
    return name


@flow
async def sleeping(name: str) -> str:
    await call(work, f"{name}/before")
    await asleep(0.02)  # in memory, or suspended: see LONG_SLEEP
    await call(work, f"{name}/between")
    await asleep(0.06)
    await call(work, f"{name}/after")
    return name


@flow
async def signalled(name: str) -> str:
    got = await await_signal(SIGNALS[0], int)
    await call(work, f"{name}/first{got}")
    got += await await_signal(SIGNALS[1], int)
    await call(work, f"{name}/both{got}")
    return name


@flow
def sync_signalled(name: str) -> str:
    sleep(0.05)
    got = [wait_signal(signal, int) for signal in SIGNALS]
    told(f"{name}/{got}", sync_work(f"{name}/{got}", return_state=True))
    return name


SIGNALS = ("paid", "sent")
LONG_SLEEP = 0.04  # seconds
SUSPENDING: tuple[Any, ...] = (suspending, sync_suspending)
WAITING: tuple[Any, ...] = (sleeping, signalled, sync_signalled)
FLOWS: tuple[Any, ...] = (sequential, mapped, chained, branches, retrying, tried_again, nested, synchronous)
KNOWN: tuple[Any, ...] = (*FLOWS, inner, sync_inner)


# ---------------------------------------------------------------------------------------------- lives


async def run_root(root: Any, name: str) -> None:
    """Run a root flow in async code, and note how its caller was told that it has ended."""
    log().write("start", name)
    if root.isasync:
        state = await root(name, return_state=True)
    else:
        state = await anyio.to_thread.run_sync(lambda: root(name, return_state=True))
    told(name, state, "root")


async def run_roots(roots: dict[str, Any]) -> None:
    async with anyio.create_task_group() as group:
        for name, root in roots.items():
            group.start_soon(run_root, root, name)


def run_in_turn(roots: dict[str, Any], run: Callable[..., Any]) -> None:
    """Run root flows one after the other, each from where its colour is called."""
    for name, root in roots.items():
        if root.isasync:
            run(run_root, root, name)
        else:
            log().write("start", name)
            told(name, root(name, return_state=True), "root")


async def attend(suspended: list[str], waiting: list[str]) -> None:
    """Do what the world does: resume runs that are suspended, and send each signal that nobody was told of to have sent."""
    for run in suspended:
        with suppress(NotPausedError):  # somebody else was quicker
            await aresume_flow_run(run)
    for run in waiting:
        for number, signal in enumerate(SIGNALS):
            key = f"{run}/{signal}"
            if not any(line["key"] == key for line in log().lines("signal")):
                with suppress(RunNotLive):  # it was sent before, by a process that did not live to tell
                    await asend_signal(run, signal, number + 1)
                log().write("signal", key)


def run_keyed(roots: dict[str, Any], run: Callable[..., Any]) -> None:
    """Call root flows under a run key, each from where its colour is called."""

    async def awaited(root: Any, name: str) -> Any:
        with run_key(name):
            return await root(name, return_state=True)

    for name, root in roots.items():
        if root.isasync:
            told(name, run(awaited, root, name), "root")
        else:
            with run_key(name):
                told(name, root(name, return_state=True), "root")
