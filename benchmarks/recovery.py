"""1,000 flow runs of 10 tasks each, whose process is killed when half of their tasks are done, and which another one takes up.

The floor is what was missing, run by an engine that nobody killed: 1,000 runs of 5 tasks.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.measure import Row
from callsheet import Engine, flow, get_client, task
from callsheet.client.schemas.filters import FlowRunFilter, FlowRunFilterState, FlowRunFilterStateType

RUNS = 1_000
TASKS = 10
LEASE = 2.0  # seconds
LIMIT = 2.0

begun: list[float] = []  # when the bodies of tasks were called in this process


@task
async def piece(number: int) -> int:
    """Do next to nothing."""
    begun.append(time.perf_counter())
    return number


@flow
async def pieces(first: int, wait_at: int | None) -> int:
    """Call the tasks from `first` on; wait for the end of the process where told to, unless it has come already."""
    for number in range(first, TASKS):
        if number == wait_at and VICTIM in os.environ:
            with Path(os.environ[VICTIM]).open("a") as ready:
                ready.write(".")
            await asyncio.sleep(3600)
        await piece(number)
    return first


VICTIM = "CALLSHEET_BENCHMARK_VICTIM"


async def start_all(database: Path, first: int, wait_at: int | None) -> None:
    """Run all flows at once."""
    async with Engine(database=database):
        await asyncio.gather(*(pieces(first, wait_at) for _ in range(RUNS)))


def interrupted(home: Path) -> Path:
    """Give the history of a process that was killed in the middle of all runs."""
    database, ready = home / "interrupted.db", home / "ready"
    code = "import asyncio, pathlib, sys; from benchmarks import recovery as r; asyncio.run(r.start_all(pathlib.Path(sys.argv[1]), 0, 5))"
    environment = {**os.environ, VICTIM: str(ready), "CALLSHEET_LEASE_SECONDS": str(LEASE)}
    process = subprocess.Popen([sys.executable, "-c", code, str(database)], env=environment)
    while not ready.exists() or ready.stat().st_size < RUNS:
        if process.poll() is not None:
            raise RuntimeError("The process that was to be killed has ended.")
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    return database


async def take_up(database: Path) -> tuple[float, float]:
    """Give the seconds until the first task ran, and from there to the end of the last run."""
    opened = time.perf_counter()
    begun.clear()
    async with Engine(database=database, flows=[pieces]), get_client() as client:
        completed = FlowRunFilter(state=FlowRunFilterState(type=FlowRunFilterStateType(any_=["COMPLETED"])))
        while await client.count_flow_runs(flow_run_filter=completed) < RUNS:
            await asyncio.sleep(0.05)
        ended = time.perf_counter()
    assert len(begun) == RUNS * TASKS // 2, f"{len(begun)} tasks ran"
    return begun[0] - opened, ended - begun[0]


def rows(_: int) -> list[Row]:
    """Measure the recovery, and running what it had to run."""
    home = Path(os.environ["CALLSHEET_HOME"])
    os.environ["CALLSHEET_LEASE_SECONDS"] = str(LEASE)
    since = time.perf_counter()
    asyncio.run(start_all(home / "missing.db", TASKS // 2, None))
    floor = time.perf_counter() - since
    start, whole = asyncio.run(take_up(interrupted(home)))
    of = f"of {RUNS:,} interrupted runs of {TASKS} tasks"
    return [
        Row(f"begin {of}", f"{start:.2f} s", "", None, f"≤ {2 * LEASE:g} s", start <= 2 * LEASE),
        Row(
            f"recovery {of}",
            f"{whole:.2f} s",
            f"{floor:.2f} s",
            whole / floor,
            f"≤ {LIMIT:g} ×",
            whole <= LIMIT * floor,
        ),
    ]
