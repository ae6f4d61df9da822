"""Long waits of flows for signals: the run leaves its process, and whoever sends the signal, from wherever, brings it back."""

from __future__ import annotations

import threading
from contextvars import Context
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import pytest

from callsheet import Engine, flow, get_client, send_signal, sleep, suspend_flow_run, task, wait_signal
from callsheet._engine import signalling
from callsheet._engine.core import cores
from callsheet.exceptions import SignalTimeout
from callsheet.flow_runs import aresume_flow_run, wait_for_flow_run
from past import runs, states_of
from waits_helpers import PATIENCE, line, program

pytestmark = pytest.mark.anyio
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
async def order(timeout: float | None = None) -> list[int]:
    note("begun")
    try:
        return [await wait_signal("paid", int, timeout), await wait_signal("paid", int, timeout)]
    except SignalTimeout:
        note("too late")
        return []


@flow
def sync_order(timeout: float | None = None) -> list[int]:
    note("begun")
    return [wait_signal("paid", int, timeout), wait_signal("paid", int, timeout)]


async def _state(run_id: Any) -> Any:
    async with get_client() as client:
        return (await client.read_flow_run(run_id)).state


async def _until_it_sleeps(run_id: Any, often: int = 1) -> None:
    with anyio.fail_after(PATIENCE):
        while [name for name in states_of(run_id) if name == "Suspended"] != ["Suspended"] * often:
            await anyio.sleep(0.01)


async def _from_elsewhere(run_id: Any, value: int, name: str = "paid") -> None:
    await anyio.to_thread.run_sync(Context().run, partial(send_signal, run_id, name, value))


@pytest.mark.parametrize("body", [order, sync_order], ids=["async", "sync"])
@pytest.mark.parametrize("timeout", [None, 600], ids=["for ever", "timeout"])
async def test_the_run_leaves_and_is_woken_by_its_signal(body: Any, timeout: float | None) -> None:
    async with Engine(flows=[body]):
        state = body(timeout, return_state=True)
        state = await state if body is order else state
        assert state.name == "Suspended"
        run_id = state.state_details.flow_run_id
        assert not any(core.orchestrator.roots or core.expecting for core in cores())
        await send_signal(run_id, "paid", 1)
        await _until_it_sleeps(run_id, 2)
        await _from_elsewhere(run_id, 2)
        run: Any = await wait_for_flow_run(run_id, timeout=PATIENCE)
        assert run.state_name == "Completed"
    assert done == ["begun"]
    lived = ["Pending", "Running"]
    assert states_of(run_id) == [*lived, *["Suspending", "Suspended", *lived] * 2, "Completed"]


async def test_it_is_woken_when_its_time_is_up() -> None:
    async with Engine(flows=[order]):
        state = await order(0.3, return_state=True)
        assert state.name == "Suspended"
        run: Any = await wait_for_flow_run(state.state_details.flow_run_id, timeout=PATIENCE)
        assert run.state_name == "Completed"
    assert done == ["begun", "too late"]


async def test_other_signals_and_other_suspensions_wake_nobody() -> None:
    async with Engine(flows=[order]):
        state = await order(return_state=True)
        run_id = state.state_details.flow_run_id
        await send_signal(run_id, "shipped", 1)
        await anyio.sleep(0.2)
        assert states_of(run_id)[-1] == "Suspended"
        assert len(states_of(run_id)) == 4


async def test_a_resumption_by_hand_makes_it_look_and_wait_on() -> None:
    async with Engine(flows=[order]):
        state = await order(return_state=True)
        run_id = state.state_details.flow_run_id
        await aresume_flow_run(run_id)
        await _until_it_sleeps(run_id, 2)
        for value in (1, 2):
            await send_signal(run_id, "paid", value)
        assert (await wait_for_flow_run(run_id, timeout=PATIENCE)).state_name == "Completed"


async def test_a_signal_that_comes_while_the_run_leaves_is_not_slept_through(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is sent when the run has looked for the last time, and its sender finds that it does not wait yet."""
    suspend = signalling.suspend_here
    sent: list[int] = []

    async def late(run: Any, *args: Any) -> Any:
        if len(sent) < 2:
            sent.append(1)
            thread = threading.Thread(target=send_signal, args=(run.cell.id, "paid", len(sent)))
            thread.start()
            thread.join(PATIENCE)
        return await suspend(run, *args)

    monkeypatch.setattr(signalling, "suspend_here", late)
    async with Engine(flows=[order]):
        state = await order(return_state=True)
        run: Any = await wait_for_flow_run(state.state_details.flow_run_id, timeout=PATIENCE)
        assert run.state_name == "Completed"
    assert sent == [1, 1]


async def test_a_signal_that_comes_while_the_run_is_leaving(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is sent when the run has looked once more; its sender finds it Suspending."""

    @flow
    async def leaving() -> int:
        value = await wait_signal("paid", int)
        note(value)
        return value

    look = signalling.last_look

    async def too_early(waiting: Any) -> None:
        await look(waiting)
        await anyio.to_thread.run_sync(Context().run, partial(send_signal, waiting.run.cell.id, "paid", 3))

    monkeypatch.setattr(signalling, "last_look", too_early)
    async with Engine(flows=[leaving]):
        state = await leaving(return_state=True)
        assert (await wait_for_flow_run(state.state_details.flow_run_id, timeout=PATIENCE)).state_name == "Completed"
    assert done == [3]


@flow
async def both() -> str:
    async with anyio.create_task_group() as group:
        group.start_soon(partial(wait_signal, "one"))
        group.start_soon(partial(wait_signal, "two"))
    return "both"


async def test_two_that_wait_at_once_wait_in_memory() -> None:
    async with Engine(flows=[both]):
        async with anyio.create_task_group() as group:
            group.start_soon(partial(both, return_state=True))
            with anyio.fail_after(PATIENCE):
                while not runs():
                    await anyio.sleep(0.01)
            await anyio.sleep(0.2)
            (run,) = runs()
            assert states_of(run.id) == ["Pending", "Running"]
            for name in ("one", "two"):
                await send_signal(run.id, name)


async def test_without_an_engine_that_would_go_on_it_waits_in_memory() -> None:
    async with anyio.create_task_group() as group:
        group.start_soon(partial(order, return_state=True))
        with anyio.fail_after(PATIENCE):
            while not (found := [run for run in runs() if run.parent_id is None]):
                await anyio.sleep(0.01)
        await anyio.sleep(0.2)
        assert "Suspended" not in states_of(found[0].id)
        for value in (1, 2):
            await send_signal(found[0].id, "paid", value)


@flow
async def sleeps_and_waits() -> None:
    await sleep(0.1)
    note("awake")
    await suspend_flow_run(timeout=None)


async def test_a_suspension_for_ever_is_not_ended_by_a_time_that_is_past() -> None:
    async with Engine(flows=[sleeps_and_waits]):
        state = await sleeps_and_waits(return_state=True)
        run_id = state.state_details.flow_run_id
        await _until_it_sleeps(run_id, 2)
        await anyio.sleep(0.3)
        assert (await _state(run_id)).name == "Suspended"
        assert states_of(run_id).count("Suspended") == 2
        await aresume_flow_run(run_id)
        assert (await wait_for_flow_run(run_id, timeout=PATIENCE)).state_name == "Completed"
    assert done == ["awake"]


ORDER = """
import sys, anyio
from callsheet import Engine, flow, wait_signal

@flow
async def order():
    return await wait_signal("paid", int)

async def main():
    async with Engine(flows=[order]):
        if sys.argv[1:]:
            state = await order(return_state=True)
            print(state.name, state.state_details.flow_run_id, flush=True)
        else:
            print("open", flush=True)
        await anyio.to_thread.run_sync(sys.stdin.read)

anyio.run(main)
"""


async def test_across_processes_and_lives(tmp_path: Path) -> None:
    path = tmp_path / "orders.py"
    with program(path, ORDER, "begin") as process:
        name, run_id = line(process).split()
        assert name == "Suspended"
    await send_signal(run_id, "paid", 4)  # nobody is there to go on with it
    with program(path, ORDER) as process:
        assert line(process) == "open"
        assert (await wait_for_flow_run(run_id, timeout=PATIENCE)).state_name == "Completed"
