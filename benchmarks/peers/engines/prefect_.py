"""Prefect, with its own server and SQLite."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import sys
import time
from contextlib import closing
from pathlib import Path

if "BENCH_SERVER" in os.environ:  # it is read when the package is imported
    os.environ["PREFECT_API_URL"] = os.environ["BENCH_SERVER"] + "/api"

from prefect import flow, task
from turn import computing, main, weigh

DATABASE = Path(os.environ.get("BENCH_SERVER_HOME", os.environ["BENCH_STATE"])) / "prefect" / "prefect.db"
clock = time.perf_counter
failed: set[int] = set()


@task
async def noop(i=0):
    """Do nothing."""


@task
def sync_noop(i=0):
    """Do nothing."""


@task(persist_result=True)
async def kept(i):
    """Give something that is kept."""
    return i


@task(retries=1, retry_delay_seconds=0)
async def flaky(i):
    """Fail at first."""
    if i not in failed:
        failed.add(i)
        raise ValueError("once")


@flow
async def nothing():
    """Do nothing."""


@flow
async def three():
    """Await three tasks."""
    for i in range(3):
        await noop(i)


@flow
async def sequential(size):
    """Await one task after the other."""
    waits = []
    for i in range(size):
        start = clock()
        await noop(i)
        waits.append(clock() - start)
    return waits


@flow
async def gather(size):
    """Await many at once."""
    await asyncio.gather(*(noop(i) for i in range(size)))


@flow
async def submit(size):
    """Submit many."""
    for future in [noop.submit(i) for i in range(size)]:
        future.result()


@flow
async def mapped(size):
    """Map many."""
    for future in noop.map(list(range(size))):
        future.result()


async def flows(size):
    """Await one flow after the other."""
    waits = []
    for _ in range(size):
        start = clock()
        await nothing()
        waits.append(clock() - start)
    return waits


async def flows_at_once(size):
    """Await many flows at once."""
    await asyncio.gather(*(nothing() for _ in range(size)))


@flow
def sync_called(size):
    """Call one task after the other."""
    for i in range(size):
        sync_noop(i)


@flow
def sync_submitted(size):
    """Submit many."""
    for future in [sync_noop.submit(i) for i in range(size)]:
        future.result()


@flow
async def retry(size):
    """Have each fail once."""
    failed.clear()
    await asyncio.gather(*(flaky(i) for i in range(size)))


@flow
async def persisted(size):
    """Keep every result."""
    for i in range(size):
        await kept(i)


@flow
async def chain(size):
    """Let each take the future of the one before."""
    last = noop.submit(0)
    for _ in range(size - 1):
        last = noop.submit(last)
    last.result()


@flow
async def diamond(size):
    """Let one be followed by many, and all of them by one."""
    top = noop.submit(0)
    middle = [noop.submit(top) for _ in range(size - 2)]
    noop.submit(middle).result()


async def beside_threads(size):
    """Await one after the other while others want the interpreter."""
    with computing():
        return await sequential(size)


@flow
async def held(size):
    """Hold the futures of task runs that have ended."""

    async def ended(size):
        futures = [noop.submit(i) for i in range(size)]
        for future in futures:
            future.result()
        return futures

    return await weigh(size, ended)


def recorded(workload):
    """Count what its own database says to be completed."""
    table = "flow_run" if workload in ("flows", "flows_at_once") else "task_run"

    def count():
        if not DATABASE.exists():
            return 0
        with closing(sqlite3.connect(f"file:{DATABASE}?mode=ro", uri=True, timeout=30)) as db:
            return db.execute(f"SELECT count(*) FROM {table} WHERE state_type = 'COMPLETED'").fetchone()[0]

    return count


def server(port):
    """Become the server that turns share."""
    command = str(Path(sys.executable).parent / "prefect")
    os.execv(command, [command, "server", "start", "--host", "127.0.0.1", "--port", str(port)])


def serve(port):
    """Await a flow of three tasks for each request."""
    import uvicorn
    from fastapi import FastAPI

    app = FastAPI()

    @app.get("/")
    async def root():
        await three()
        return {"ok": True}

    uvicorn.run(app, host="127.0.0.1", port=port, log_level="warning")


if __name__ == "__main__":
    main(
        {
            "cold": sequential,
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
            "held": held,
        },
        others={"server": server},
        recorded=recorded,
        serve=serve,
    )
