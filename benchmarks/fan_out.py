"""`map` of 10,000 no-op async tasks with history, beside an anyio task group; and the peak memory of the process."""

from __future__ import annotations

import asyncio

import anyio

from benchmarks.measure import Row, at_most_times, in_turn, memory_kib
from callsheet import flow, task

COUNT = 10_000
PEAK_MB = 150


@task
async def noop(_: int) -> None:
    """Do nothing."""


@flow
async def fan_out(count: int) -> None:
    """Map over a range and wait for every run."""
    noop.map(range(count)).result()


async def nothing(_: int) -> None:
    """Do nothing, without an engine."""


async def group() -> None:
    """Do the same with a task group."""
    async with anyio.create_task_group() as tasks:
        for i in range(COUNT):
            tasks.start_soon(nothing, i)


async def measure(rounds: int) -> list[Row]:
    """Take the peak of one fan-out first, before the turns that time it."""
    await fan_out(COUNT)
    peak = memory_kib("VmHWM") / 1024
    ours, floor = await in_turn(rounds, lambda: fan_out(COUNT), group)
    return [
        at_most_times("map of 10,000 no-op tasks with history", ours, floor, COUNT, 4),
        Row("… peak memory of the whole process", f"{peak:.0f} MB", "", None, f"≤ {PEAK_MB} MB", peak <= PEAK_MB),
    ]


def rows(rounds: int) -> list[Row]:
    """Give time and memory."""
    return asyncio.run(measure(min(rounds, 5)))
