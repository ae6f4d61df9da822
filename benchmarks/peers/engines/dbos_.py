"""DBOS, on SQLite."""

from __future__ import annotations

import asyncio
import sqlite3
import sys
import time
from contextlib import closing, contextmanager

from dbos import DBOS
from turn import STATE, computing, kill_when_ready, main

clock = time.perf_counter
failed: set[int] = set()
begun = []  # when the pieces of recovered workflows were called
stuck = [] if sys.argv[1] == "victim" else None  # the workflows that are stuck; nothing: none is to be
DATABASE = STATE / "dbos.sqlite"


@DBOS.step()
async def noop(i):
    """Do nothing."""


@DBOS.step()
def sync_noop(i):
    """Do nothing."""


@DBOS.step(retries_allowed=True, interval_seconds=0.0, max_attempts=3, backoff_rate=1.0)
async def flaky(i):
    """Fail at first."""
    if i not in failed:
        failed.add(i)
        raise ValueError("once")


@DBOS.workflow()
async def nothing():
    """Do nothing."""


@DBOS.workflow()
def sync_nothing():
    """Do nothing."""


@DBOS.workflow()
async def three():
    """Await three steps."""
    for i in range(3):
        await noop(i)


@DBOS.workflow()
async def sequential(size):
    """Await one step after the other."""
    waits = []
    for i in range(size):
        start = clock()
        await noop(i)
        waits.append(clock() - start)
    return waits


@DBOS.workflow()
async def gather(size):
    """Await many at once."""
    await asyncio.gather(*(noop(i) for i in range(size)))


async def flows(size):
    """Await one workflow after the other."""
    waits = []
    for _ in range(size):
        start = clock()
        await nothing()
        waits.append(clock() - start)
    return waits


async def flows_at_once(size):
    """Await many workflows at once."""
    await asyncio.gather(*(nothing() for _ in range(size)))


@DBOS.workflow()
def sync_called(size):
    """Call one step after the other."""
    for i in range(size):
        sync_noop(i)


def sync_submitted(size):
    """Start workflows on its threads: it has no other unit that is submitted."""
    for handle in [DBOS.start_workflow(sync_nothing) for _ in range(size)]:
        handle.get_result()


@DBOS.workflow()
async def retry(size):
    """Have each fail once."""
    failed.clear()
    await asyncio.gather(*(flaky(i) for i in range(size)))


@DBOS.step()
async def kept(i):
    """Give something that is kept, as all that steps give."""
    return i


@DBOS.workflow()
async def persisted(size):
    """Keep every result."""
    for i in range(size):
        await kept(i)


async def beside_threads(size):
    """Await one after the other while others want the interpreter."""
    with computing():
        return await sequential(size)


@DBOS.step()
async def piece(i):
    """Say that it runs."""
    begun.append(clock())
    return i


@DBOS.workflow()
async def pieces(run):
    """Do ten; the process that is to be killed does half of them."""
    for i in range(10):
        if i == 5 and stuck is not None:
            stuck.append(run)
            await asyncio.sleep(3600)
        await piece(i)


def victim(size):
    """Get stuck in the middle of all workflows, and say so."""

    async def say():
        while len(stuck) < size // 5:
            await asyncio.sleep(0.01)
        (STATE / "ready").touch()

    async def run():
        await asyncio.gather(say(), *(pieces(i) for i in range(size // 5)))

    with launched():
        asyncio.run(run())


def recovery(size):
    """Take up what a killed process has left."""
    kill_when_ready("victim", str(size))
    count, start = recorded("flows"), clock()
    with launched():
        while count() < size // 5:
            time.sleep(0.01)
        end = clock()
    return {"seconds": end - begun[0], "begin": begun[0] - start, "again": len(begun) - size}


def recorded(workload):
    """Count the steps, or the workflows, that its own database has."""
    query = "SELECT count(*) FROM operation_outputs"
    if workload in ("flows", "flows_at_once", "sync_submitted"):
        query = "SELECT count(*) FROM workflow_status WHERE status = 'SUCCESS'"

    def count():
        if not DATABASE.exists():
            return 0
        with closing(sqlite3.connect(f"file:{DATABASE}?mode=ro", uri=True, timeout=30)) as db:
            return db.execute(query).fetchone()[0]

    return count


@contextmanager
def launched():
    """Keep it running."""
    DBOS(config={"name": "bench", "system_database_url": f"sqlite:///{DATABASE}", "log_level": "ERROR"})
    DBOS.launch()
    try:
        yield
    finally:
        DBOS.destroy()


def serve(port):
    """Await a workflow of three steps for each request."""
    import uvicorn
    from fastapi import FastAPI

    app = FastAPI()

    @app.get("/")
    async def root():
        await three()
        return {"ok": True}

    uvicorn.run(app, host="127.0.0.1", port=port, log_level="warning")


if __name__ == "__main__":
    if sys.argv[1] in ("recovery", "victim"):
        main({"recovery": recovery}, others={"victim": victim})
    else:
        with launched():
            main(
                {
                    "cold": sequential,
                    "sequential": sequential,
                    "gather": gather,
                    "map": gather,
                    "flows": flows,
                    "flows_at_once": flows_at_once,
                    "sync_called": sync_called,
                    "sync_submitted": sync_submitted,
                    "retry": retry,
                    "persisted": persisted,
                    "beside_threads": beside_threads,
                },
                recorded=recorded,
                serve=serve,
            )
