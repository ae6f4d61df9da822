"""What the same shapes cost with no engine at all. The variant says on top of what."""

from __future__ import annotations

import asyncio
import sqlite3
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any

from turn import STATE, VARIANT, computing, main, soak, weigh

clock = time.perf_counter


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


async def diamond(size: int) -> None:
    """Let one be followed by many, and all of them by one."""

    async def after(*tasks: asyncio.Task[Any]) -> None:
        for task in tasks:
            await task

    top = asyncio.create_task(noop())
    middle = [asyncio.create_task(after(top)) for _ in range(size - 2)]
    await asyncio.create_task(after(*middle))


async def beside_threads(size: int) -> list[float]:
    """Await one after the other while others want the interpreter."""
    with computing():
        return await sequential(size)


async def held(size: int) -> dict[str, float]:
    """Hold tasks that have ended."""

    async def ended(size: int) -> list[asyncio.Task[None]]:
        tasks = [asyncio.create_task(noop(i)) for i in range(size)]
        await asyncio.gather(*tasks)
        return tasks

    return await weigh(size, ended)


async def soaked(size: int) -> dict[str, Any]:
    """Gather a thousand at a time."""
    return await soak(size, gather)


def bare_sqlite(size: int) -> dict[str, Callable[[int], Any]]:
    """Give the shapes of what is written: a run in each transaction where each is waited for, else a thousand."""
    from same_rows import SameRows

    same = SameRows(STATE, max(size, 10))

    def beside(size: int) -> list[float]:
        with computing():
            return same.writing(1)(size)

    one, many = same.writing(1), same.writing(1000)
    return {
        **dict.fromkeys(("sequential", "flows", "chain"), one),
        **dict.fromkeys(("gather", "submit", "map", "gather_many", "submit_many", "diamond", "flows_at_once"), many),
        "beside_threads": beside,
    }


FANS = ("gather", "submit", "gather_many", "submit_many", "map")
SHAPES: dict[str, dict[str, Callable[[int], Any]]] = {
    "asyncio": {
        "sequential": sequential,
        "gather": gather,
        "submit": gather,
        "gather_many": gather,
        "submit_many": gather,
        "map": gather,
        "flows": sequential,
        "flows_at_once": gather,
        "sync_submitted": to_threads,
        "chain": chain,
        "diamond": diamond,
        "beside_threads": beside_threads,
        "held": held,
        "soak": soaked,
    },
    "anyio": dict.fromkeys(FANS, anyio_group),
    "trio": dict.fromkeys(FANS, in_trio(trio_nursery)),
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
    if VARIANT == "sqlite":
        main(bare_sqlite(int(sys.argv[2])) if sys.argv[1] not in ("cold", "import") else {})
    else:
        main(SHAPES[VARIANT], serve=serve if VARIANT == "asyncio" else None)
