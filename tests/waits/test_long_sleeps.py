"""Long sleeps of flows whose engine goes on with them: the run leaves its process until then."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import anyio
import pytest

from callsheet import (
    Engine,
    flow,
    get_client,
    pause_flow_run,
    resume_flow_run,
    send_signal,
    sleep,
    sleep_until,
    task,
    wait_signal,
    watch,
)
from callsheet._engine.core import cores
from callsheet.events import StateEvent
from callsheet.exceptions import Pause
from callsheet.flow_runs import wait_for_flow_run
from callsheet.runtime import flow_run
from waits_helpers import PATIENCE, line, program

SECONDS = 0.25
done: list[Any] = []


@pytest.fixture(autouse=True)
def long_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take a twentieth of a second for long."""
    done.clear()
    monkeypatch.setenv("CALLSHEET_SLEEP_SUSPENDS_AFTER_SECONDS", "0.05")


@task
def note(what: Any) -> None:
    done.append(what)


@flow
async def night(seconds: float = SECONDS) -> str:
    note("evening")
    await sleep(seconds)
    note("morning")
    return "awake"


@flow
def sync_night(seconds: float = SECONDS) -> str:
    note("evening")
    sleep_until(datetime.now(UTC) + timedelta(seconds=seconds))
    note("morning")
    return "awake"


@flow
async def two_nights() -> None:
    for n in range(2):
        await sleep(SECONDS / 2)
        note(n)


async def state_names(run_id: Any) -> list[str]:
    async with get_client() as client:
        return [state.name for state in await client.read_flow_run_states(run_id)]


@pytest.mark.anyio
@pytest.mark.parametrize("body", [night, sync_night], ids=["async", "sync"])
async def test_the_run_is_suspended_and_goes_on_in_time(body: Any) -> None:
    began = time.time()
    async with Engine(flows=[body]):
        state = body(return_state=True)
        state = await state if body is night else state
        assert state.name == "Suspended"
        run_id = state.state_details.flow_run_id
        assert not any(core.orchestrator.roots for core in cores())
        events = [event async for event in watch(run_id)]
        assert time.time() - began >= SECONDS
        names = await state_names(run_id)
    assert names == [event.name for event in events if isinstance(event, StateEvent) and event.run_id == run_id]
    assert done == ["evening", "morning"]
    assert names == ["Pending", "Running", "Suspending", "Suspended", "Pending", "Running", "Completed"]


@pytest.mark.anyio
async def test_who_waits_for_its_end_hears_of_it_at_once() -> None:
    """Also where the run was in no process when they began to wait."""
    async with Engine(flows=[night]):
        state = await night(return_state=True)
        with anyio.fail_after(PATIENCE):
            run = await wait_for_flow_run(state.state_details.flow_run_id, timeout=None, poll_interval=10_000)
        assert run.state_name == "Completed"


@pytest.mark.anyio
async def test_one_after_the_other() -> None:
    async with Engine(flows=[two_nights]):
        state = await two_nights(return_state=True)
        assert (await wait_for_flow_run(state.state_details.flow_run_id, timeout=PATIENCE)).state_name == "Completed"
        assert (await state_names(state.state_details.flow_run_id)).count("Suspended") == 2
    assert done == [0, 1]


@pytest.mark.anyio
async def test_who_waits_for_the_result_hears_of_it() -> None:
    async with Engine(flows=[night]):
        with pytest.raises(Pause):
            await night()


@pytest.mark.anyio
async def test_in_memory_where_the_engine_does_not_go_on_with_the_flow() -> None:
    async with Engine(flows=[two_nights]):
        assert await night() == "awake"
    assert await night() == "awake"


@pytest.mark.anyio
async def test_in_memory_where_it_is_short() -> None:
    async with Engine(flows=[night]):
        assert await night(0.01) == "awake"


@flow
async def with_a_task() -> None:
    running = slow.submit()
    await sleep(SECONDS)
    done.append((await state_names(flow_run.id))[-1])
    running.wait()


@task
async def slow() -> None:
    await anyio.sleep(2 * SECONDS)


@flow
async def with_a_wait() -> int:
    got: list[int] = []

    async def receive() -> None:
        got.append(await wait_signal("n", int))

    async with anyio.create_task_group() as group:
        group.start_soon(receive)
        await anyio.sleep(0.05)
        await send_signal(flow_run.id, "later", 1)
        await sleep(SECONDS)
        await send_signal(flow_run.id, "n", 3)
    return got[0]


@flow
async def in_a_branch() -> None:
    async with anyio.create_task_group() as group:
        group.start_soon(sleep, SECONDS)


@flow
async def around() -> str:
    return await night()


@pytest.mark.parametrize("body", [with_a_task, with_a_wait, in_a_branch, around])
@pytest.mark.anyio
async def test_in_memory_while_something_else_is_under_way(body: Any) -> None:
    """A task, another wait; and what is no root run's own body sleeps in memory too."""
    async with Engine(flows=[body, night]):
        state = await body(return_state=True)
        assert state.name == "Completed"


@pytest.mark.anyio
async def test_one_that_is_resumed_by_hand_sleeps_to_its_end() -> None:
    began = time.time()
    async with Engine(flows=[night]):
        state = await night(3 * SECONDS, return_state=True)
        await resume_flow_run(state.state_details.flow_run_id)
        run = await wait_for_flow_run(state.state_details.flow_run_id, timeout=PATIENCE)
    assert run.state_name == "Completed"
    assert time.time() - began >= 3 * SECONDS
    assert done == ["evening", "morning"]


@flow
async def sleeps_and_asks() -> int:
    await sleep(SECONDS)
    return await pause_flow_run(wait_for_input=int, timeout=PATIENCE)


@pytest.mark.anyio
async def test_a_pause_after_it_is_the_first_one() -> None:
    async with Engine(flows=[sleeps_and_asks]):
        state = await sleeps_and_asks(return_state=True)
        run_id = state.state_details.flow_run_id
        async with get_client() as client:
            while (found := (await client.read_flow_run(run_id)).state).name != "Paused":
                await anyio.sleep(0.01)
        assert found.state_details.pause_key == "1"
        await resume_flow_run(run_id, run_input={"value": 3})
        assert (await wait_for_flow_run(run_id, timeout=PATIENCE)).state_name == "Completed"


SLEEPER = """
import sys, anyio
from callsheet import Engine, flow, sleep
@flow
async def night():
    await sleep(1)
    print("awake", flush=True)
async def main():
    async with Engine(flows=[night]):
        if sys.argv[1] == "begin":
            state = await night(return_state=True)
            print(state.name, flush=True)
        else:
            print("open", flush=True)
            await anyio.to_thread.run_sync(sys.stdin.read)
anyio.run(main)
"""


def test_another_process_goes_on(tmp_path: Path) -> None:
    """The first one ended in order long before the moment."""
    with program(tmp_path / "night.py", SLEEPER, "begin") as process:
        assert line(process) == "Suspended"
        assert process.wait(PATIENCE) == 0
    with program(tmp_path / "night.py", SLEEPER, "go on") as process:
        assert line(process) == "open"
        assert line(process) == "awake"
        process.stdin.close()
        assert process.wait(PATIENCE) == 0
