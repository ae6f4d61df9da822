"""Pausing a flow run and resuming it in the same process, from the call of `pause_flow_run` to its return."""

from __future__ import annotations

import asyncio
import statistics
import threading
import time
from uuid import UUID

from benchmarks.measure import Row
from callsheet import flow, pause_flow_run, resume_flow_run
from callsheet.exceptions import NotPausedError
from callsheet.runtime import flow_run

PAUSES = 40
LIMIT = 20.0  # milliseconds


@flow
async def pauses() -> list[float]:
    """Pause again and again, and give how long each took, in milliseconds."""
    taken: list[float] = []
    for _ in range(PAUSES):
        resumer = asyncio.create_task(resume(UUID(flow_run.id)))
        since = time.perf_counter()
        await pause_flow_run(timeout=60)
        taken.append((time.perf_counter() - since) * 1e3)
        await resumer
    return taken


async def resume(run_id: UUID) -> None:
    """Resume a run as soon as it is paused."""
    while True:
        try:
            return await resume_flow_run(run_id)
        except NotPausedError:
            await asyncio.sleep(0)


@flow
def sync_pauses() -> list[float]:
    """Do the same in sync code, with a thread that resumes."""
    taken: list[float] = []
    for _ in range(PAUSES):
        resumer = threading.Thread(target=sync_resume, args=(UUID(flow_run.id),))
        resumer.start()
        since = time.perf_counter()
        pause_flow_run(timeout=60)
        taken.append((time.perf_counter() - since) * 1e3)
        resumer.join()
    return taken


def sync_resume(run_id: UUID) -> None:
    """Resume a run as soon as it is paused."""
    while True:
        try:
            resume_flow_run(run_id)
        except NotPausedError:
            time.sleep(0.0002)
        else:
            return


def rows(_: int) -> list[Row]:
    """Give the medians in async and in sync code."""
    return [_row("async", asyncio.run(pauses())), _row("sync", sync_pauses())]


def _row(code: str, taken: list[float]) -> Row:
    median = statistics.median(taken)
    name = f"pausing and resuming a run in process, {code}"
    return Row(name, f"{median:.3g} ms", "", None, f"≤ {LIMIT:g} ms", median <= LIMIT)
