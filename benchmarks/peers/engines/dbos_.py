"""DBOS, on SQLite."""

from __future__ import annotations

import asyncio
import time

from dbos import DBOS
from turn import STATE, main

clock = time.perf_counter
failed: set[int] = set()


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
    DBOS(config={"name": "bench", "system_database_url": f"sqlite:///{STATE}/dbos.sqlite", "log_level": "ERROR"})
    DBOS.launch()
    try:
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
            },
            serve=serve,
        )
    finally:
        DBOS.destroy()
