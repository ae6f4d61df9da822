"""Start and stop of an engine with an in-memory store, beside opening and closing SQLite in memory."""

from __future__ import annotations

import asyncio
import sqlite3

from benchmarks.measure import Row, at_most, in_turn
from callsheet import Engine

COUNT = 50


async def engines() -> None:
    """Start and stop one engine after another."""
    for _ in range(COUNT):
        async with Engine(database=":memory:"):
            pass


async def connections() -> None:
    """Open and close one connection after another."""
    for _ in range(COUNT):
        sqlite3.connect(":memory:").close()


def rows(rounds: int) -> list[Row]:
    """Give the time of one start and stop."""
    ours, floor = asyncio.run(in_turn(rounds, engines, connections))
    return [at_most("engine start + stop, in-memory store", ours / COUNT * 1e3, floor / COUNT * 1e3, 10)]
