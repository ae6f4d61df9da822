"""A map whose entries come faster than the tables are written: with giving way to the thread that writes them, and without."""

from __future__ import annotations

import asyncio
import os
import statistics
import sys
import time
from pathlib import Path
from unittest.mock import patch

from benchmarks.measure import Row, each
from callsheet import Engine, flow, task
from callsheet._kernel import journal

COUNT = 10_000
HOME = Path(os.environ["CALLSHEET_HOME"])


@task
async def noop(number: int) -> None:
    """Do nothing."""


@flow
async def mapped(count: int) -> None:
    """Map many tasks, and wait for all."""
    noop.map(range(count)).result()


async def turn(engine: Engine, count: int, behind: int) -> tuple[float, float]:
    """Give the seconds until the flow has ended, and until all of it is in the history."""
    with patch.object(journal, "BEHIND", behind):
        start = time.perf_counter()
        await mapped(count)
        ended = time.perf_counter() - start
        engine.core.journal.flush()
        return ended, time.perf_counter() - start


async def turns(level: str, rounds: int, count: int) -> tuple[list[tuple[float, float]], list[tuple[float, float]]]:
    """Measure with and without, in turn, after one of each."""
    found: tuple[list[tuple[float, float]], list[tuple[float, float]]] = ([], [])
    async with Engine(database=HOME / f"{level}.db", durability=level) as engine:
        for number in range(rounds + 1):
            for seconds, behind in zip(found, (journal.BEHIND, sys.maxsize), strict=True):
                took = await turn(engine, count, behind)
                if number:
                    seconds.append(took)
    return found


def rows(rounds: int, count: int = COUNT) -> list[Row]:
    """Give two rows for each level; the floor is without giving way."""
    made: list[Row] = []
    for level in ("relaxed", "results"):
        found = asyncio.run(turns(level, rounds, count))
        for index, what in enumerate(("has ended", "is in the history")):
            ours, floor = (statistics.median(took[index] for took in seconds) for seconds in found)
            name = f"mapped no-op tasks, {level}: all of it {what}"
            made.append(Row(name, each(ours, count), each(floor, count), ours / floor, "", True))
    return made
