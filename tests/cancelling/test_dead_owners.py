"""Orders for runs whose process is gone, or does not answer."""

from __future__ import annotations

import signal
import subprocess
from pathlib import Path
from uuid import UUID

import pytest

import warm
from callsheet import get_client
from callsheet.flow_runs import cancel_flow_run
from callsheet.states import Cancelled
from elsewhere import PATIENCE, other, until
from past import runs, states_of
from stopping import stop_outside

NIGHT = """
@task
async def sleeper():
    say("asleep", flow_run.id)
    await asyncio.sleep(1)
    say("awake")

@flow(on_cancellation=[hook])
async def inner():
    await sleeper()
    await sleeper()

@flow(on_cancellation=[hook])
async def outer():
    say("outer", flow_run.id)
    await inner()

try:
    say("end", asyncio.run(outer(return_state=True)).name)
except BaseException as error:
    say("lost", type(error).__name__)
"""


def test_what_a_killed_process_ran_is_cancelled_at_once() -> None:
    with other(NIGHT) as process:
        run_id = UUID(process.next("outer"))
        process.next("asleep")
        until(lambda: len(runs()) == 4)
        process.process.kill()
        process.process.wait()
        state = cancel_flow_run(run_id, message="no use")
    assert (state.name, state.message) == ("Cancelled", "no use")
    assert states_of(run_id) == ["Pending", "Running", "Cancelled"]
    assert {run.state.name for run in runs()} == {"Cancelled"}
    assert [run.owner for run in runs()] == [None] * 4
    assert cancel_flow_run(run_id).id == state.id


def test_a_process_that_does_not_answer_is_fenced_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CALLSHEET_LEASE_SECONDS", "0.5")
    with other(NIGHT) as process:
        run_id = UUID(process.next("outer"))
        process.next("asleep")
        until(lambda: len(runs()) == 4)
        stop_outside(process.process)
        try:
            state = cancel_flow_run(run_id)
        finally:
            process.process.send_signal(signal.SIGCONT)
        said = process.end()
    assert state.name == "Cancelled"
    assert states_of(run_id) == ["Pending", "Running", "Cancelled"], "who wakes up writes nothing any more"
    assert len([line for line in said if line.startswith("asleep")]) == 1, "and starts nothing"
    assert not [line for line in said if line.startswith("hook")]


def test_a_client_sets_the_state_of_such_a_run() -> None:
    with other(NIGHT) as process:
        run_id = UUID(process.next("outer"))
        process.next("asleep")
        until(lambda: len(runs()) == 4)
    with get_client(sync_client=True) as client:
        assert client.set_flow_run_state(run_id, Cancelled()).status.value == "ACCEPT"
        assert client.pause_flow_run(run_id).details.reason == "No process runs this flow run now."


PROGRAM = """
import asyncio, sys, time
from callsheet import flow
from callsheet.flow_runs import cancel_flow_run
from callsheet.runtime import flow_run

async def note(flow, run, state):
    print("hook", flow.name, run.id, state.name, flush=True)

@flow(on_cancellation=[note])
def night():
    print("night", flow_run.id, flush=True)
    time.sleep(3600)

if sys.argv[1:]:
    print("state", cancel_flow_run(sys.argv[1]).name)
else:
    night()
"""


def test_a_process_that_knows_the_flow_calls_its_hooks_once(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    with warm.start(program, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        run_id = process.stdout.readline().split()[1]
        until(lambda: states_of(UUID(run_id)))
        process.kill()
    for hooks in (1, 0):
        done = warm.run(program, run_id, timeout=PATIENCE)
        assert done.stdout == f"hook night {run_id} Cancelled\n" * hooks + "state Cancelled\n"
