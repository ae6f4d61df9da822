"""A process with one engine whose flows do what they are told, step by step; for the state machine over the engine.

It is forked from a server that has everything imported, is told what to do through a pipe, answers when it is done,
and may be killed at any moment. What its bodies do is told to a file outside of the engine (`kill_victim`).
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import trio  # noqa: F401 - before the fork

import kill_victim as victim
from callsheet import Engine, flow, get_client, pause_flow_run, resume_flow_run, sleep, suspend_flow_run, task
from callsheet._engine import ambient, invoke  # noqa: F401 - before the fork
from callsheet.exceptions import LostOwnership, ObjectNotFound, Pause
from callsheet.flow_runs import cancel_flow_run
from callsheet.runtime import flow_run, task_run
from kill_victim import call, log, settled, told

PATIENCE = 30.0  # seconds until a step counts as hung
LEASE = 0.4

Step = tuple[str, dict[str, Any]]

LEFT = {"Paused", "Suspended", "Completed", "Failed", "Cancelled", "Crashed"}
LEAVING: Step = ("task", {})

scripts: dict[str, list[Step]] = {}
"""What each flow is to do, by its name. It is told again to every new process, whose bodies begin at the beginning."""
performed: dict[str, int] = {}
ids: dict[str, str] = {}
ended: dict[str, str] = {}


@task(timeout_seconds=0.005)
async def endless(key: str) -> None:
    log().write("begin", key, run=task_run.id)
    await anyio.sleep_forever()


async def perform(name: str, step: Step) -> None:
    """Do one step of a body."""
    what, more = step
    key = f"{name}/{performed[name]}"
    match what:
        case "task":
            await call(victim.work, key)
        case "plain task":
            told(key, victim.sync_work(key, return_state=True))
        case "shaky":
            await call(victim.shaky, key)
        case "hopeless":
            await call(victim.hopeless, key)
        case "endless":
            assert (await endless(key, return_state=True)).name == "TimedOut"
        case "map":
            keys = [f"{key}/{number}" for number in range(3)]
            for one, future in zip(keys, victim.work.map(keys), strict=True):
                settled(one, future)
        case "branches":
            async with anyio.create_task_group() as group:
                for which in "ab":
                    group.start_soon(call, victim.work, f"{key}/{which}")
        case "subflow":
            told(key, await victim.inner(key, return_state=True), "subflow")
        case "sleep":
            await sleep(more["seconds"])
        case "pause":
            await pause_flow_run(timeout=more["seconds"])
        case "fail":
            raise ValueError(key)
        case _:
            raise AssertionError(what)


@flow
async def scripted(name: str) -> str:
    """Do one step after the other, and wait where there is none yet."""
    performed[name] = 0
    ids[name] = flow_run.id
    while True:
        while performed[name] >= len(scripts[name]):
            await anyio.sleep(0.0005)
        step = scripts[name][performed[name]]
        if step[0] == "end":
            return name
        await perform(name, step)
        performed[name] += 1


class Worker:
    """Does what it is told."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._group: Any = None

    async def serve(self, database: Path) -> None:
        async with (
            Engine(database, flows=[scripted, victim.inner], drain_seconds=0),
            anyio.create_task_group() as self._group,
        ):
            self._connection.send("open")
            while True:
                name, *arguments = await anyio.to_thread.run_sync(self._connection.recv)
                if name == "close":
                    self._group.cancel_scope.cancel()
                    break
                with anyio.fail_after(PATIENCE):
                    self._connection.send(await getattr(self, name)(*arguments))

    async def start(self, name: str) -> str:
        """Start a flow."""
        scripts[name] = []
        self._group.start_soon(self._call, name)
        await until(lambda: name in ids)
        return ids[name]

    async def _call(self, name: str) -> None:
        try:
            state = await scripted(name, return_state=True)
        except (Pause, LostOwnership):
            return
        if state.type.value in {"COMPLETED", "FAILED", "CANCELLED", "CRASHED"}:
            told(name, state, "root")

    async def step(self, name: str, run_id: str, step: Step) -> str:
        """Have a flow do one more step; give its state when that is done, or as far as it gets."""
        scripts[name].append(step)
        return await self.settle(name, run_id)

    async def settle_again(self, name: str, run_id: str) -> str:
        """Wait until a flow that another process has left is taken up, or is not to be; then do the same."""
        async with get_client() as client:
            while name not in performed:
                try:
                    run = await client.read_flow_run(run_id)
                except ObjectNotFound:
                    return "gone"
                if run.state_name in LEFT - {"Paused"}:
                    return run.state_name
                await anyio.sleep(0.002)
        return await self.settle(name, run_id)

    async def settle(self, name: str, run_id: str) -> str:
        """Wait until a flow does nothing more; give its state, or ``gone`` where it had not come onto the disk."""
        async with get_client() as client:
            while True:
                idle = performed.get(name) == len(scripts[name])
                try:
                    run = await client.read_flow_run(run_id)
                except ObjectNotFound:
                    return "gone"
                if run.state_name in LEFT:
                    return run.state_name
                if idle and run.state_name == "Running":
                    return run.state_name
                await anyio.sleep(0.001)

    async def order(self, kind: str, name: str, run_id: str) -> str:
        """Pause, suspend, resume or cancel a run from outside; give its state when that is done."""
        async with get_client() as client:
            if kind == "pause":
                await client.pause_flow_run(run_id)
            else:
                orders: dict[str, Callable[[str], Awaitable[Any]]] = {
                    "resume": resume_flow_run,
                    "suspend": lambda one: suspend_flow_run(flow_run_id=one, timeout=3600),
                    "cancel": cancel_flow_run,
                }
                if kind == "resume":  # a body begins again, or goes on
                    performed.pop(name, None) if (await self._state(run_id)) == "Suspended" else None
                await orders[kind](run_id)
                if kind == "suspend":  # a body leaves at its next call
                    scripts[name].append(LEAVING)
        return await self.settle(name, run_id)

    async def _state(self, run_id: str) -> str:
        async with get_client() as client:
            return (await client.read_flow_run(run_id)).state_name

    async def wait(self, seconds: float) -> None:
        """Let time pass."""
        await anyio.sleep(seconds)


async def until(condition: Callable[[], object]) -> None:
    """Wait for something that other tasks do."""
    while not condition():
        await anyio.sleep(0.0005)


def work(connection: Connection, folder: Path, backend: str, life: int, known: dict[str, list[Step]]) -> None:
    """Be the process."""
    errors = os.open(folder / "stderr", os.O_CREAT | os.O_APPEND | os.O_WRONLY, 0o600)
    os.dup2(errors, 1)
    os.dup2(errors, 2)
    os.environ.update(
        CALLSHEET_HOME=str(folder), CALLSHEET_LEASE_SECONDS=str(LEASE), CALLSHEET_LOGGING_LEVEL="CRITICAL"
    )
    scripts.update(known)
    victim.outside.append(victim.Log(folder / "outside.jsonl", life))
    anyio.run(Worker(connection).serve, folder / "h.db", backend=backend)
    connection.send("closed")
