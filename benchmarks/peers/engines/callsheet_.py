"""This engine, at the level of durability that its settings say."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from typing import Any

from turn import STATE, computing, kill_when_ready, main, soak, weigh

from callsheet import Engine, flow, task

DATABASE = STATE / "callsheet.db"
clock = time.perf_counter
failed: set[int] = set()
begun: list[float] = []  # when the pieces of recovered runs were called
stuck: list[int] | None = None  # the runs that are stuck; nothing: none is to be


@task
async def noop(i: Any = 0) -> None:
    """Do nothing."""


@task
def sync_noop(i: int = 0) -> None:
    """Do nothing."""


@task(persist_result=True)
async def kept(i: int) -> int:
    """Give something that is kept."""
    return i


@task(retries=1)
async def flaky(i: int) -> None:
    """Fail at first."""
    if i not in failed:
        failed.add(i)
        raise ValueError("once")


@flow
async def nothing() -> None:
    """Do nothing."""


@flow
async def three() -> None:
    """Await three tasks."""
    for i in range(3):
        await noop(i)


@flow
async def sequential(size: int) -> list[float]:
    """Await one task after the other."""
    waits = []
    for i in range(size):
        start = clock()
        await noop(i)
        waits.append(clock() - start)
    return waits


@flow
async def gather(size: int) -> None:
    """Await many at once."""
    await asyncio.gather(*(noop(i) for i in range(size)))


@flow
async def submit(size: int) -> None:
    """Submit many."""
    for future in [noop.submit(i) for i in range(size)]:
        future.result()


@flow
async def mapped(size: int) -> None:
    """Map many."""
    noop.map(range(size)).result()


async def flows(size: int) -> list[float]:
    """Await one flow after the other."""
    waits = []
    for _ in range(size):
        start = clock()
        await nothing()
        waits.append(clock() - start)
    return waits


async def flows_at_once(size: int) -> None:
    """Await many flows at once."""
    await asyncio.gather(*(nothing() for _ in range(size)))


@flow
def sync_called(size: int) -> None:
    """Call one task after the other."""
    for i in range(size):
        sync_noop(i)


@flow
def sync_submitted(size: int) -> None:
    """Submit many."""
    for future in [sync_noop.submit(i) for i in range(size)]:
        future.result()


@flow
async def retry(size: int) -> None:
    """Have each fail once."""
    failed.clear()
    await asyncio.gather(*(flaky(i) for i in range(size)))


@flow
async def persisted(size: int) -> None:
    """Keep every result."""
    for i in range(size):
        await kept(i)


@flow
async def chain(size: int) -> None:
    """Let each take the future of the one before."""
    last = noop.submit(0)
    for _ in range(size - 1):
        last = noop.submit(last)
    last.result()


@flow
async def diamond(size: int) -> None:
    """Let one be followed by many, and all of them by one."""
    top = noop.submit(0)
    middle = [noop.submit(top) for _ in range(size - 2)]
    noop.submit(middle).result()


async def beside_threads(size: int) -> list[float]:
    """Await one after the other while others want the interpreter."""
    with computing():
        return await sequential(size)


@flow
async def held(size: int) -> dict[str, float]:
    """Hold the futures of task runs that have ended."""

    async def ended(size: int) -> list[Any]:
        futures = [noop.submit(i) for i in range(size)]
        for future in futures:
            future.wait()
        return futures

    return await weigh(size, ended)


@flow
async def soaked(size: int) -> dict[str, Any]:
    """Map a thousand at a time."""

    async def some(size: int) -> None:
        noop.map(range(size)).result()

    return await soak(size, some)


@task
async def piece(i: int) -> int:
    """Say that it runs."""
    begun.append(clock())
    return i


@flow
async def pieces(run: int) -> None:
    """Do ten; the process that is to be killed does half of them."""
    for i in range(10):
        if i == 5 and stuck is not None:
            stuck.append(run)
            await asyncio.sleep(3600)
        await piece(i)


def victim(size: int) -> None:
    """Get stuck in the middle of all runs, and say so."""
    global stuck
    stuck = []

    async def say() -> None:
        while len(stuck or ()) < size // 5 or recorded("tasks")() < size:
            await asyncio.sleep(0.01)
        (STATE / "ready").touch()

    async def run() -> None:
        await asyncio.gather(say(), *(pieces(i) for i in range(size // 5)))

    asyncio.run(run())


def recovery(size: int) -> dict[str, float]:
    """Take up what a killed process has left."""
    kill_when_ready("victim", str(size))

    async def run() -> dict[str, float]:
        count, start = recorded("flows"), clock()
        async with Engine(database=DATABASE, flows=[pieces]):
            while count() < size // 5:
                await asyncio.sleep(0.01)
            end = clock()
        return {"seconds": end - begun[0], "begin": begun[0] - start, "again": len(begun) - size}

    return asyncio.run(run())


async def cold(size: int) -> None:
    """Run the first flow with the first task."""
    await sequential(size)


def recorded(workload: str) -> Callable[[], int]:
    """Count what has completed: task runs, or flow runs where a workload has only these."""
    kind = 0 if workload in ("flows", "flows_at_once") else 1

    def count() -> int:
        if not DATABASE.exists():
            return 0
        with closing(sqlite3.connect(DATABASE)) as db:
            if not db.execute("SELECT 1 FROM sqlite_master WHERE name = 'redo'").fetchone():
                return 0
            return db.execute("SELECT count(*) FROM run WHERE kind = ? AND state_type = 3", (kind,)).fetchone()[0]

    return count


def serve(port: int) -> None:
    """Await a flow of three tasks for each request."""
    import uvicorn
    from fastapi import FastAPI

    app = FastAPI(lifespan=Engine().lifespan)

    @app.get("/")
    async def root() -> dict[str, bool]:
        await three()
        return {"ok": True}

    uvicorn.run(app, host="127.0.0.1", port=port, log_level="warning")


if __name__ == "__main__":
    main(
        {
            "cold": cold,
            "sequential": sequential,
            "gather": gather,
            "submit": submit,
            "map": mapped,
            "flows": flows,
            "flows_at_once": flows_at_once,
            "sync_called": sync_called,
            "sync_submitted": sync_submitted,
            "retry": retry,
            "persisted": persisted,
            "chain": chain,
            "diamond": diamond,
            "beside_threads": beside_threads,
            "gather_many": gather,
            "submit_many": submit,
            "held": held,
            "recovery": recovery,
            "soak": soaked,
        },
        others={"victim": victim},
        recorded=recorded,
        serve=serve,
    )
