"""Runs that were suspended or paused in a process that is gone."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any
from uuid import UUID

import anyio
import pytest

import warm
from callsheet import Engine, flow, get_client, pause_flow_run, suspend_flow_run, task
from callsheet.exceptions import NotPausedError
from callsheet.flow_runs import aresume_flow_run, wait_for_flow_run
from callsheet.runtime import flow_run
from pausing_helpers import PATIENCE

pytestmark = pytest.mark.anyio
WHERE = "CALLSHEET_TEST_FOLDER"

PROGRAM = f"""
import asyncio, os, sys
from callsheet import Engine
from {__name__} import FLOWS
flow = FLOWS[sys.argv[1]]
async def main():
    async with Engine(database=sys.argv[2], flows=[flow]):
        await flow(return_state=True)
        os._exit(9)
asyncio.run(main())
"""


def _say(what: str) -> None:
    with Path(os.environ[WHERE], "said").open("a") as file:
        file.write(f"{what}\n")


@task
def check(x: int) -> int:
    _say(f"check {x}")
    return x


@flow
async def suspends() -> list[int]:
    checked = [check(i) for i in range(3)]
    Path(os.environ[WHERE], "run").write_text(str(flow_run.id))
    return [*checked, await suspend_flow_run(wait_for_input=int)]


ends: list[Any] = []  # keeps a task alive


async def _end_when_paused(run_id: str) -> None:
    """End the process as a crash does."""
    async with get_client() as client:
        while (await client.read_flow_run(UUID(run_id))).state_name != "Paused":
            await anyio.sleep(0.01)
    os._exit(9)


@flow
async def pauses() -> list[int]:
    checked = [check(i) for i in range(3)]
    path = Path(os.environ[WHERE], "run")
    if not path.exists():
        path.write_text(str(flow_run.id))
        ends.append(asyncio.create_task(_end_when_paused(flow_run.id)))
    return [*checked, await pause_flow_run(wait_for_input=int)]


FLOWS: dict[str, Any] = {"suspends": suspends, "pauses": pauses}


@pytest.fixture
def gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Give `gone(name)`: run a flow in a process that ends without a word, and give the run's id."""
    monkeypatch.setenv(WHERE, str(tmp_path))
    monkeypatch.setenv("CALLSHEET_LEASE_SECONDS", "2")
    tests = Path(__file__).parent.parent
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(map(str, (tests.parent, tests))))

    def run(name: str) -> str:
        done = warm.run(PROGRAM, name, tmp_path / "h.db", timeout=PATIENCE, check=False)
        assert done.returncode == 9
        return (tmp_path / "run").read_text()

    return run


@pytest.mark.parametrize("name", ["suspends", "pauses"])
async def test_another_process_goes_on_with_it(gone: Any, name: str, tmp_path: Path) -> None:
    run_id = await anyio.to_thread.run_sync(gone, name)
    async with Engine(database=tmp_path / "h.db"):
        with pytest.raises(RuntimeError, match="no living one knows its flow"):
            await aresume_flow_run(run_id, run_input={"value": 3})
    async with Engine(database=tmp_path / "h.db", flows=[FLOWS[name]]):
        await _resume(run_id)
        with anyio.fail_after(PATIENCE):
            run = await wait_for_flow_run(run_id, poll_interval=0.05)
    assert run.state_name == "Completed"
    assert (tmp_path / "said").read_text().splitlines() == [f"check {i}" for i in range(3)]


async def _resume(run_id: str) -> None:
    """Resume a run as soon as it is paused: who takes a paused run up pauses it anew."""
    with anyio.fail_after(PATIENCE):
        while True:
            try:
                return await aresume_flow_run(run_id, run_input={"value": 3})
            except NotPausedError:
                await anyio.sleep(0.01)
