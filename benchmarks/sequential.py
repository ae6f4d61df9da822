"""Awaited no-op async tasks, one after another in one flow, beside `asyncio.create_task` and await."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

from benchmarks.measure import Row, at_most_times, in_turn
from callsheet import Engine, flow, task

COUNT = 2_000
HOME = Path(os.environ["CALLSHEET_HOME"])
LEVELS = (("off", "history off", 6), ("relaxed", "durability relaxed", 12), ("results", "durability results", 20))


async def nothing() -> None:
    """Do nothing, without an engine."""


@task
async def noop() -> None:
    """Do nothing."""


@flow
async def one_by_one(count: int) -> None:
    """Await many tasks in turn."""
    for _ in range(count):
        await noop()


async def bare() -> None:
    """Do the same with tasks of the loop."""
    for _ in range(COUNT):
        await asyncio.create_task(nothing())


async def measure(level: str, name: str, limit: float, rounds: int) -> Row:
    """Measure one durability level in an engine of its own."""
    async with Engine(database=HOME / f"{level}.db", durability=level):
        ours, floor = await in_turn(rounds, lambda: one_by_one(COUNT), bare)
    return at_most_times(f"awaited no-op task, sequential, {name}", ours, floor, COUNT, limit)


def rows(rounds: int) -> list[Row]:
    """Give one row for each level."""
    return [asyncio.run(measure(level, name, limit, rounds)) for level, name, limit in LEVELS]
