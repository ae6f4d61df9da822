"""100,000 mapped tasks in chunks whose futures are dropped: the peak of memory in every chunk.

The peak, because that is what a machine must have. What is still resident after a chunk says less: of the objects of
a chunk none is left (`sys._debugmallocstats` gives the same bytes in use after each), but Python gives arenas back to
the system only where nothing at all lives in them, more of them after the first chunk than later.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

from benchmarks.fan_out import noop
from benchmarks.measure import Row, memory_kib
from callsheet import flow

CHUNK = 10_000
CHUNKS = 10
ALLOWED = 0.10


@flow
async def in_chunks() -> list[float]:
    """Map chunk after chunk, keeping nothing but how much memory was resident at most."""
    peaks: list[float] = []
    for _ in range(CHUNKS):
        Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew: proc(5)
        noop.map(range(CHUNK)).result()
        peaks.append(memory_kib("VmHWM") / 1024)
    return peaks


def rows(_: int) -> list[Row]:
    """Compare every later chunk with the first."""
    first, *later = asyncio.run(in_chunks())
    growth = max(later) / first - 1
    return [
        Row(
            "100,000 mapped tasks in chunks of 10,000, peak of a chunk",
            f"{max(later):.0f} MB",
            f"{first:.0f} MB",
            max(later) / first,
            f"± {ALLOWED:.0%}",
            abs(growth) <= ALLOWED,
        )
    ]
