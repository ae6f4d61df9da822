"""Small flows of which one piece of work is counted or sampled: the shapes that the targets of speed are about."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final, NamedTuple

from callsheet import flow, task

CROWD: Final = 25  # flows at once
_failed: set[int] = set()


class Shape(NamedTuple):
    """A number of pieces of work, and what one of them is called."""

    work: Callable[[int], Awaitable[None]]
    piece: str = "task run"


@task
async def noop(i: int = 0) -> None:
    """Do nothing."""


@task(retries=1)
async def flaky(i: int) -> None:
    """Fail at first."""
    if i not in _failed:
        _failed.add(i)
        raise ValueError("once")


@flow
async def three() -> None:
    """Await three tasks."""
    for i in range(3):
        await noop(i)


@flow
async def one_by_one(size: int) -> None:
    """Await one task after the other."""
    for i in range(size):
        await noop(i)


@flow
async def mapped(size: int) -> None:
    """Map as many."""
    noop.map(range(size)).result()


@flow
async def retried(size: int) -> None:
    """Gather tasks each of which fails once."""
    _failed.clear()
    await asyncio.gather(*(flaky(i) for i in range(size)))


async def crowded(size: int) -> None:
    """Await flows of three tasks, a crowd at a time, as a web service does."""
    for start in range(0, size, CROWD):
        await asyncio.gather(*(three() for _ in range(min(CROWD, size - start))))


SHAPES: Final = {
    "sequential": Shape(one_by_one),
    "map": Shape(mapped),
    "retry": Shape(retried),
    "flows": Shape(crowded, "flow run of three tasks"),
}
