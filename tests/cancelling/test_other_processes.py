"""Cancelling and pausing runs of other processes on the same history."""

from __future__ import annotations

import time
from typing import Any
from uuid import UUID

import anyio
import pytest

from callsheet import get_client, resume_flow_run
from callsheet._model.kinds import Kind
from callsheet.flow_runs import cancel_flow_run, cancel_flow_runs
from callsheet.states import Cancelled, Failed
from callsheet.task_runs import cancel_task_run
from elsewhere import other, until
from past import runs, states_of

NIGHT = """
@task
async def sleeper():
    say("task", task_run.id)
    say("asleep", flow_run.id)
    try:
        await asyncio.sleep(3600)
    finally:
        say("awake", time.time())

@task
async def late():
    say("late")

@flow(on_cancellation=[hook])
async def inner():
    await sleeper()

@flow(on_cancellation=[hook], retries=2)
async def outer():
    say("outer", flow_run.id)
    try:
        await inner()
    except BaseException:
        await late()

say("end", asyncio.run(outer(return_state=True)).name)
"""


def test_a_tree_is_cancelled() -> None:
    with other(NIGHT) as process:
        run_id = UUID(process.next("outer"))
        process.next("asleep")
        until(lambda: states_of(run_id))
        began = time.time()
        state = cancel_flow_run(run_id, message="rain")
        said = process.end()
    assert state.name in ("Cancelling", "Cancelled")
    assert float(said[[line.split()[0] for line in said].index("awake")].split()[1]) - began < 1
    assert said[-3:] == ["hook inner Cancelled", "hook outer Cancelled", "end Cancelled"]
    assert "late" not in said
    assert states_of(run_id) == ["Pending", "Running", "Cancelling", "Cancelled"]
    ends = {run.name: run.state.at for run in runs() if run.state.name == "Cancelled"}
    assert len(ends) == 4
    with get_client(sync_client=True) as client:
        assert client.read_flow_run_states(run_id)[2].message == "rain"


@pytest.mark.anyio
async def test_a_task_run_is_cancelled_from_async_code() -> None:
    with other(
        """
@task
async def sleeper():
    say("task", task_run.id)
    await asyncio.sleep(3600)

@flow
async def evening():
    future = sleeper.submit()
    future.wait()
    return future.state.name

say("end", asyncio.run(evening()))
"""
    ) as process:
        task_run_id = process.next("task")
        until(lambda: len(runs()) == 2)
        with anyio.fail_after(10):
            state = await cancel_task_run(task_run_id)
            again = await cancel_task_run(task_run_id)
        assert (state.name, again.name) in [("Cancelled",) * 2, ("Cancelling", "Cancelled"), ("Cancelling",) * 2]
        assert process.next("end") == "Cancelled"


def test_a_run_that_waits_in_a_pause_is_cancelled() -> None:
    with other(
        """
@flow(on_cancellation=[hook])
def asks():
    say("asks", flow_run.id)
    pause_flow_run(timeout=600, poll_interval=600)

say("end", asks(return_state=True).name)
"""
    ) as process:
        run_id = UUID(process.next("asks"))
        until(lambda: states_of(run_id)[-1:] == ["Paused"])
        cancel_flow_run(run_id)
        assert process.next("hook") == "asks Cancelled"
        assert process.next("end") == "Cancelled"
        process.end()
    assert states_of(run_id) == ["Pending", "Running", "Paused", "Cancelling", "Cancelled"]


def test_all_that_match_a_filter_in_several_processes() -> None:
    with other(NIGHT) as one, other(NIGHT) as two:
        for process in (one, two):
            process.next("asleep")
        until(lambda: len(runs(definition_names=("outer",), kind=Kind.FLOW)) == 2)
        found = cancel_flow_runs(flow_filter={"name": {"any_": ["outer"]}})
        assert len(found) == 2
        assert one.next("end") == two.next("end") == "Cancelled"


def test_a_client_sets_states_of_runs_elsewhere() -> None:
    with other(NIGHT) as process:
        run_id = UUID(process.next("outer"))
        process.next("asleep")
        until(lambda: states_of(run_id))
        with get_client(sync_client=True) as client:
            failed = client.set_flow_run_state(run_id, Failed(message="out of seed"))
            assert (failed.status.value, failed.state.name) == ("ACCEPT", "Failed")
            late = client.set_flow_run_state(run_id, Cancelled())
            assert (late.status.value, late.details.reason) == ("ABORT", "The run has ended as Failed.")
        assert process.next("end") == "Failed"


PAUSED = """
@task
def step(n):
    say("step", n)

@flow(retries=1)
def walk():
    say("walk", flow_run.id)
    step(1)
    sys.stdin.readline()
    step(2)
    return "there"

state = walk(return_state=True)
say("end", state.name)
"""


def test_a_run_elsewhere_pauses_at_its_next_task(tmp_path: Any) -> None:
    gate = tmp_path / "gate"
    program = PAUSED.replace(
        "sys.stdin.readline()", f"while not __import__('os').path.exists({str(gate)!r}): time.sleep(0.01)"
    )
    with other(program) as process:
        run_id = UUID(process.next("walk"))
        process.next("step")
        until(lambda: states_of(run_id))
        with get_client(sync_client=True) as client:
            done = client.pause_flow_run(run_id)
            assert (done.status.value, done.state.name) == ("ACCEPT", "Paused")
            again = client.pause_flow_run(run_id)
            assert again.details.reason == "Only a flow run that is Running can be paused; this one is Paused."
            gate.touch()
            time.sleep(0.5)  # in which the next task would start
            assert process.lines.empty()
            resume_flow_run(run_id)
        assert process.next("step") == "2"
        assert process.next("end") == "Completed"
        process.end()
    assert states_of(run_id) == ["Pending", "Running", "Paused", "Running", "Completed"]
