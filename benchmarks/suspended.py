"""10,000 flow runs that are suspended, each after a task: what the process keeps of them."""

from __future__ import annotations

import asyncio
import gc

from benchmarks.measure import Row, memory_kib
from callsheet import Engine, flow, suspend_flow_run, task

RUNS = 10_000
AT_ONCE = 100
LIMIT = 20.0  # MB


@task
async def piece(number: int) -> int:
    """Do next to nothing."""
    return number


@flow
async def waits(number: int) -> None:
    """Get as far as the suspension."""
    await piece(number)
    await suspend_flow_run(timeout=None)


async def suspend(count: int) -> None:
    """Suspend so many runs, a hundred at a time."""
    for first in range(0, count, AT_ONCE):
        states = await asyncio.gather(*(waits(first + n, return_state=True) for n in range(AT_ONCE)))
        assert {state.name for state in states} == {"Suspended"}


async def growth() -> float:
    """Give what the process has grown by, in MB, after as many runs again as fill every cache."""
    async with Engine(flows=[waits]):
        await suspend(RUNS // 10)
        gc.collect()
        before = memory_kib("VmRSS")
        await suspend(RUNS)
        gc.collect()
        return (memory_kib("VmRSS") - before) / 1024


def rows(_: int) -> list[Row]:
    """Measure the growth."""
    grown = asyncio.run(growth())
    name = f"growth of the process by {RUNS:,} suspended runs"
    return [Row(name, f"{grown:.1f} MB", "", None, f"≤ {LIMIT:g} MB", grown <= LIMIT)]
