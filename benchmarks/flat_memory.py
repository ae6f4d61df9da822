"""100,000 mapped tasks in chunks whose futures are dropped: memory after every chunk."""

from __future__ import annotations

import asyncio

from benchmarks.fan_out import noop
from benchmarks.measure import Row, memory_kib
from callsheet import flow

CHUNK = 10_000
CHUNKS = 10
ALLOWED = 0.10


@flow
async def in_chunks() -> list[float]:
    """Map chunk after chunk, keeping nothing but what memory was resident."""
    resident: list[float] = []
    for _ in range(CHUNKS):
        noop.map(range(CHUNK)).result()
        resident.append(memory_kib("VmRSS") / 1024)
    return resident


def rows(_: int) -> list[Row]:
    """Compare every later chunk with the first."""
    first, *later = asyncio.run(in_chunks())
    growth = max(later) / first - 1
    return [
        Row(
            "100,000 mapped tasks in chunks of 10,000, resident memory",
            f"{max(later):.0f} MB",
            f"{first:.0f} MB",
            max(later) / first,
            f"± {ALLOWED:.0%}",
            abs(growth) <= ALLOWED,
        )
    ]
