"""A flow that is cancelled at any step of its loop leaves nothing behind, and a legal history.

In the suite one step in five is taken, others each time; `make proofs` takes them all.
"""

from __future__ import annotations

import os
import random
from pathlib import Path
from typing import Any
from uuid import UUID

import anyio
import pytest

from callsheet import Engine, flow, get_client, pause_flow_run, resume_flow_run, task
from callsheet.exceptions import NotPausedError
from callsheet.runtime import flow_run
from callsheet.testing import check_history
from callsheet.transactions import transaction
from cancel_points import Steps, cancelled_after, ids, run_counted

STRIDE = 1 if os.environ.get("CALLSHEET_PROOFS") else 5


@task
async def work(x: int = 0) -> int:
    await anyio.sleep(0)
    return x


@task
def sync_work(x: int = 0) -> int:
    return x


@task(retries=2, retry_delay_seconds=0.001)
async def shaky(tries: list[int]) -> int:
    await anyio.sleep(0)
    tries.append(1)
    if len(tries) < 3:
        raise ValueError("again")
    return len(tries)


@task(timeout_seconds=0.002)
async def slow() -> None:
    await anyio.sleep_forever()


@flow
async def sequential() -> None:
    assert [await work(x) for x in range(3)] == [0, 1, 2]


@flow
async def submitted() -> None:
    first = work.submit(1)
    second = work.submit(first)
    assert await second == 1


@flow
async def mapped() -> None:
    assert [await future for future in work.map([1, 2, 3])] == [1, 2, 3]


@flow
async def on_threads() -> None:
    futures = sync_work.map([1, 2])
    assert sync_work(3) == 3
    assert [await future for future in futures] == [1, 2]


@flow
async def around() -> None:
    await sequential()
    future = submitted.submit()
    await work()
    await future


@flow
async def retried() -> None:
    assert await shaky([]) == 3


@flow
async def timed_out() -> None:
    state = await slow(return_state=True)
    assert state.name == "TimedOut"


class Effects:
    """What tasks did in transactions of one call of the flow, and what was undone."""

    did = 0
    undone = 0


@task
async def effective() -> None:
    await anyio.sleep(0)
    Effects.did += 1


@effective.on_rollback
def undo(txn: Any) -> None:
    Effects.undone += 1


@flow
async def in_transaction() -> None:
    async with transaction():
        await effective()
        await effective()


@flow
async def branching() -> None:
    async with anyio.create_task_group() as group:
        group.start_soon(work, 1)
        group.start_soon(work, 2)


@flow
def plain() -> None:
    assert [work.submit(x).result() for x in range(2)] == [0, 1]


@flow
async def calls_plain() -> None:
    plain()


@flow
async def paused() -> None:
    async with anyio.create_task_group() as group:
        group.start_soon(_resume, flow_run.id)
        await pause_flow_run(timeout=60)
    await work()


async def _resume(run_id: str) -> None:
    while True:
        try:
            return await resume_flow_run(run_id)
        except NotPausedError:
            await anyio.sleep(0)


FLOWS: tuple[Any, ...] = (
    sequential,
    submitted,
    mapped,
    on_threads,
    around,
    retried,
    timed_out,
    in_transaction,
    branching,
    calls_plain,
    paused,
)


def to_order(one: Any) -> Any:
    """Give a flow that notes its run's id and calls another."""

    @flow(name=one.name)
    async def noted() -> None:
        ids.append(flow_run.id)
        await one()

    return noted


async def cancel_everywhere(one: Any, way: str, steps: Steps) -> tuple[int, dict[UUID, str]]:
    """Cancel a flow after one step, after more, and so on; give how many it has, and what callers were told."""
    number, acknowledged = random.randint(1, STRIDE) - STRIDE, {}
    before_end = True
    while before_end:
        number += STRIDE
        Effects.did = Effects.undone = 0
        before_end, told = await cancelled_after(steps, number, one, way)
        acknowledged |= told
        assert Effects.undone in {0, Effects.did}, f"step {number}"
        assert way == "order" or Effects.did == Effects.undone or (told and Effects.did == 2), f"step {number}"
    return number, acknowledged


@pytest.mark.parametrize(
    ("backend", "way"),
    [("asyncio", "scope"), ("asyncio", "task"), ("asyncio", "order"), ("trio", "scope"), ("trio", "order")],
)
def test_cancelled_at_any_step(backend: str, way: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("CRITICAL", "callsheet")
    database = tmp_path / "h.db"
    acknowledged: dict[UUID, str] = {}
    taken: dict[str, int] = {}

    async def main(steps: Steps) -> None:
        async with Engine(database=database):
            for one in FLOWS:
                taken[one.name], told = await cancel_everywhere(to_order(one) if way == "order" else one, way, steps)
                acknowledged.update(told)
            async with get_client() as client:
                runs = await client.read_flow_runs(limit=10_000)
        assert {run.state_type.value for run in runs} <= {"COMPLETED", "CRASHED", "CANCELLED"}

    run_counted(backend, main)
    assert min(taken.values()) >= 5, f"steps are counted: {taken}"
    assert check_history(database, acknowledged=acknowledged) == []
    print(taken)
