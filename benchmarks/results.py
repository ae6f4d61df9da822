"""Results: what journalling them, finding them in the cache, and writing a large one costs."""

from __future__ import annotations

import asyncio
import gc
import os
import statistics
import time
from pathlib import Path

from benchmarks.measure import Row, at_most_times, in_turn, memory_kib
from callsheet import Engine, flow, task
from callsheet.cache_policies import INPUTS, TASK_SOURCE
from callsheet.filesystems import LocalFileSystem

HOME = Path(os.environ["CALLSHEET_HOME"])
CONCURRENT, HITS, ON_DISK, FLOOR = 1_000, 2_000, 10_000, 3_000
MEGABYTES = 100


@task
async def noop(x: int) -> int:
    """Give a small result."""
    return x


@task
async def empty(x: int) -> None:
    """Give nothing."""


@task(cache_policy=INPUTS + TASK_SOURCE)
async def found(x: int) -> int:
    """Give a small result that is kept."""
    return x


@flow
async def at_once(kind: str) -> None:
    """Run many tasks concurrently."""
    chosen = noop if kind == "results" else empty
    for future in [chosen.submit(n) for n in range(CONCURRENT)]:
        await future


@flow
async def plain() -> None:
    """Await many no-op tasks in turn."""
    for _ in range(HITS):
        await noop(1)


@flow
async def hits() -> None:
    """Await as many hits in turn."""
    for _ in range(HITS):
        await found(1)


async def journalling(rounds: int) -> Row:
    """Compare tasks whose results the history keeps with tasks that have none."""
    ours: list[float] = []
    floor: list[float] = []
    for turn in range(rounds + 1):
        for kind, seconds in (("nothing", floor), ("results", ours)):
            async with Engine(database=HOME / f"{kind}.db"):
                start = time.perf_counter()
                await at_once(kind)
                if turn:
                    seconds.append(time.perf_counter() - start)
    return at_most_times(
        f"{CONCURRENT:,} concurrent tasks, small results journalled",
        statistics.median(ours), statistics.median(floor), CONCURRENT, 1.25,
    )  # fmt: skip


async def in_memory(rounds: int) -> Row:
    """Compare hits with no-op tasks."""
    async with Engine(database=HOME / "hits.db"):
        await found(1)
        ours, floor = await in_turn(rounds, hits, plain)
    return at_most_times("a cache hit, beside a no-op task", ours, floor, HITS, 1.5)


async def on_disk(name: str, **options: object) -> Row:
    """Count hits a second, each of another record, none of which is in memory."""
    kept = found.with_options(cache_result_in_memory=False, **options)

    @flow
    async def once(expected: str) -> None:
        for n in range(ON_DISK):
            state = await kept(n, return_state=True)
            assert state.name == expected

    async with Engine(database=HOME / f"{name}.db", durability="relaxed"):
        await once("Completed")
        start = time.perf_counter()
        await once("Cached")
        rate = ON_DISK / (time.perf_counter() - start)
    return Row(f"{ON_DISK:,} cache hits in {name}", f"{rate:,.0f} / s", "", None, f"≥ {FLOOR:,} / s", rate >= FLOOR)


async def large() -> list[Row]:
    """Write a large array, and watch memory and the loop meanwhile."""
    import numpy as np

    size = MEGABYTES << 20

    array = np.ones(size, dtype="u1")

    @task(persist_result=True, result_storage=LocalFileSystem(HOME / "large"), cache_policy=None)
    async def ones(n: int) -> object:
        return array[:n]

    longest = 0.0

    async def watch() -> None:
        nonlocal longest
        while True:
            start = time.perf_counter()
            await asyncio.sleep(0.001)
            longest = max(longest, time.perf_counter() - start)

    async with Engine(database=HOME / "large.db"):
        await ones(1)
        gc.collect()
        before = memory_kib("VmRSS")
        watcher = asyncio.create_task(watch())
        await asyncio.sleep(0)
        await ones(size)
        watcher.cancel()
        peak = 1 + (memory_kib("VmHWM") - before) * 1024 / size  # with the array itself
    name = f"a {MEGABYTES} MB array persisted"
    return [
        Row(f"{name}, peak of memory", f"{peak:.2f} × its size", "", None, "≤ 2.2 ×", peak <= 2.2),
        Row(f"{name}, longest block", f"{longest * 1e3:.1f} ms", "", None, "≤ 50 ms", longest <= 0.05),
    ]


def rows(rounds: int) -> list[Row]:
    """Give all rows; the one of memory's peak first, which only rises."""
    return [
        *asyncio.run(large()),
        asyncio.run(journalling(rounds)),
        asyncio.run(in_memory(rounds)),
        asyncio.run(on_disk("the database")),
        asyncio.run(on_disk("files", result_storage=LocalFileSystem(HOME / "files"))),
    ]
