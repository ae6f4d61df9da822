"""What the same shapes cost with no engine at all. The variant says on top of what."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import Awaitable, Callable
from typing import Any

from turn import STATE, VARIANT, main

clock = time.perf_counter
ROW = "INSERT INTO run (id, name, state, at, body) VALUES (?, ?, ?, ?, ?)"


async def noop(i: int = 0) -> None:
    """Do nothing."""


async def sequential(size: int) -> list[float]:
    """Await one task of the loop after the other."""
    waits = []
    for i in range(size):
        start = clock()
        await asyncio.create_task(noop(i))
        waits.append(clock() - start)
    return waits


async def gather(size: int) -> None:
    """Gather tasks of the loop."""
    await asyncio.gather(*(asyncio.create_task(noop(i)) for i in range(size)))


async def to_threads(size: int) -> None:
    """Call on threads."""
    await asyncio.gather(*(asyncio.to_thread(int) for _ in range(size)))


async def chain(size: int) -> None:
    """Let each task await the one before."""

    async def after(task: asyncio.Task[Any]) -> None:
        await task

    last = asyncio.create_task(noop())
    for _ in range(size - 1):
        last = asyncio.create_task(after(last))
    await last


async def anyio_group(size: int) -> None:
    """Start many in a task group."""
    import anyio

    async with anyio.create_task_group() as group:
        for i in range(size):
            group.start_soon(noop, i)


async def trio_nursery(size: int) -> None:
    """Start many in a nursery."""
    import trio

    async with trio.open_nursery() as nursery:
        for i in range(size):
            nursery.start_soon(noop, i)


def in_trio(work: Callable[[int], Awaitable[Any]]) -> Callable[[int], Any]:
    """Give work for trio as work that has a loop of its own."""

    def run(size: int) -> Any:
        import trio

        return trio.run(work, size)

    return run


def rows(per_commit: int) -> Callable[[int], None]:
    """Give work that writes a row for each piece, with one index, in a write-ahead log."""

    def write(size: int) -> None:
        db = sqlite3.connect(STATE / "floor.db", isolation_level=None)
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = NORMAL")
        db.execute("CREATE TABLE IF NOT EXISTS run (id BLOB PRIMARY KEY, name, state, at, body) WITHOUT ROWID")
        db.execute("CREATE INDEX IF NOT EXISTS by_state ON run (state, id)")
        for start in range(0, size, per_commit):
            db.execute("BEGIN IMMEDIATE")
            for _ in range(start, min(start + per_commit, size)):
                at = time.time_ns()
                db.execute(ROW, (at.to_bytes(16, "big"), "run", 3, at, b"x" * 100))
            db.execute("COMMIT")
        db.close()

    return write


SHAPES: dict[str, dict[str, Callable[[int], Any]]] = {
    "asyncio": {
        "sequential": sequential,
        "gather": gather,
        "submit": gather,
        "map": gather,
        "flows": sequential,
        "flows_at_once": gather,
        "sync_submitted": to_threads,
        "chain": chain,
    },
    "anyio": {"gather": anyio_group, "submit": anyio_group, "map": anyio_group},
    "trio": {name: in_trio(trio_nursery) for name in ("gather", "submit", "map")},
    "sqlite": {"sequential": rows(1), "flows": rows(1), "map": rows(1000), "gather": rows(1000), "submit": rows(1000)},
}


def serve(port: int) -> None:
    """Answer with the same work done by tasks of the loop and one inserted row."""
    import uvicorn
    from fastapi import FastAPI

    app = FastAPI()
    db = sqlite3.connect(STATE / "web.db", isolation_level=None)
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("PRAGMA synchronous = NORMAL")
    db.execute("CREATE TABLE answer (id INTEGER PRIMARY KEY, at)")

    @app.get("/")
    async def root() -> dict[str, bool]:
        for i in range(3):
            await asyncio.create_task(noop(i))
        db.execute("INSERT INTO answer (at) VALUES (?)", (time.time_ns(),))
        return {"ok": True}

    uvicorn.run(app, host="127.0.0.1", port=port, log_level="warning")


if __name__ == "__main__":
    main(SHAPES[VARIANT], serve=serve if VARIANT == "asyncio" else None)
