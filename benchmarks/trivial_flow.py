"""A flow that does nothing, with no explicit engine and default durability, once the process is warm."""

from __future__ import annotations

import asyncio

from benchmarks.measure import Row, at_most, in_turn
from callsheet import flow

COUNT = 200


@flow
async def trivial() -> None:
    """Do nothing."""


async def nothing() -> None:
    """Do nothing, without an engine."""


async def many_flows() -> None:
    """Await flow after flow."""
    for _ in range(COUNT):
        await trivial()


async def many_tasks() -> None:
    """Await loop task after loop task."""
    for _ in range(COUNT):
        await asyncio.create_task(nothing())


def rows(rounds: int) -> list[Row]:
    """Give the time of one flow."""
    ours, floor = asyncio.run(in_turn(rounds, many_flows, many_tasks))
    return [at_most("trivial flow, no explicit engine, warm", ours / COUNT * 1e3, floor / COUNT * 1e3, 1)]
