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


@flow
async def gathered(size: int) -> None:
    """Gather as many."""
    await asyncio.gather(*(noop(i) for i in range(size)))


@flow
async def submitted(size: int) -> None:
    """Submit as many, then wait for them."""
    for future in [noop.submit(i) for i in range(size)]:
        future.result()


@flow
async def chained(size: int) -> None:
    """Submit tasks each of which takes the future of the last."""
    last = noop.submit()
    for _ in range(size - 1):
        last = noop.submit(last)  # type: ignore[arg-type]
    last.result()


@flow
async def nothing() -> None:
    """Do nothing."""


async def flows_alone(size: int) -> None:
    """Await flows that do nothing, one after the other."""
    for _ in range(size):
        await nothing()


async def at_once(size: int) -> None:
    """Await as many flows of ten tasks as that gives, all at once."""
    await asyncio.gather(*(one_by_one(10) for _ in range(size // 10)))


# What the guard counts and the page of the docs shows by stage.
SHAPES: Final = {
    "sequential": Shape(one_by_one),
    "map": Shape(mapped),
    "retry": Shape(retried),
    "flows": Shape(crowded, "flow run of three tasks"),
}

MORE: Final = {
    "gather": Shape(gathered),
    "submit": Shape(submitted),
    "chain": Shape(chained),
    "flows alone": Shape(flows_alone, "flow run that does nothing"),
    "at once": Shape(at_once, "task run of flows of ten tasks"),
}
