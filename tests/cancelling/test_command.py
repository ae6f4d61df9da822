"""The command, as programs of its own on the history of this one."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from typing import Any
from uuid import UUID

import pytest

import warm
from callsheet import __version__, flow, task
from callsheet._command import main as command
from callsheet._engine.ambient import shut_down
from elsewhere import PATIENCE, other, until
from past import states_of


@task
def count(n: int) -> int:
    return n


@flow
def census(year: int) -> int:
    return count(year)


@flow
def broken() -> None:
    raise ValueError("out of ink")


def run(*words: str, status: int = 0) -> str:
    """Call the command, and give what it writes: on standard error where it fails."""
    done = warm.run(warm.COMMAND, *words, timeout=PATIENCE, check=False, strict=True)
    assert done.returncode == status, done.stderr
    assert "Traceback" not in done.stderr
    return done.stderr if status else done.stdout


def said(*words: str) -> Any:
    return json.loads(run("flow-run", *words, "--json"))


@pytest.fixture
def here(capsys: pytest.CaptureFixture[str]) -> Any:
    """Call the command in this process, which is quicker."""

    def call(*words: str, status: int = 0) -> str:
        capsys.readouterr()
        try:
            found = command.main(["flow-run", *words])
        except SystemExit as end:
            found = end.code
        written = capsys.readouterr()
        assert found == status, written.err
        return written.err if status else written.out

    return call


def test_help_is_quick_and_needs_nothing() -> None:
    assert "flow-run" in run("--help")
    assert run("--version") == f"callsheet {__version__}\n"
    code = (
        "import sys; before = set(sys.modules); from callsheet._command.main import parser; parser().format_help();"
        "print(sorted({name.split('.')[0] for name in set(sys.modules) - before} & {'pydantic', 'sqlite3', 'asyncio', 'rich', 'trio'}))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "[]\n"


def test_runs_are_listed_and_inspected() -> None:
    done, failed = census(1900, return_state=True), broken(return_state=True)
    shut_down()
    listed = said("ls")
    assert [(one["flow"], one["state"]["name"]) for one in listed] == [("broken", "Failed"), ("census", "Completed")]
    assert [one["flow"] for one in said("ls", "--state", "failed")] == ["broken"]
    assert [one["flow"] for one in said("ls", "--flow", "census", "--limit", "1")] == ["census"]
    rows = [line.split("\t") for line in run("flow-run", "ls", "--name", listed[0]["name"]).splitlines()]
    assert [row[1:4] for row in rows] == [["broken", listed[0]["name"], "Failed"]]
    shown = said("inspect", str(done.state_details.flow_run_id))
    assert [state["name"] for state in shown["states"]] == ["Pending", "Running", "Completed"]
    assert (shown["parameters"], shown["task_run_count"]) == ({"year": 1900}, 1)
    assert shown["task_runs"][0]["state"]["name"] == "Completed"
    text = run("flow-run", "inspect", str(failed.state_details.flow_run_id))
    assert "error\tFlow run encountered an exception: ValueError: out of ink" in text


def test_ids_may_be_shortened(here: Any) -> None:
    one, two = (census(n, return_state=True).state_details.flow_run_id for n in (1, 2))
    alone = next(size for size in range(8, 33) if one.hex[:size] != two.hex[:size])
    for text in (str(one), one.hex.upper(), one.hex[:alone], str(one)[:20]):
        assert json.loads(here("inspect", text, "--json"))["id"] == str(one)
    error = here("inspect", one.hex[:8], status=1)
    assert "2 flow runs have ids that begin with" in error
    assert str(two) in error
    assert "no flow run whose id begins with 'fff'" in here("inspect", "fff", status=1)
    assert "'brave otter' is no id" in here("inspect", "brave otter", status=1)
    assert "There is no flow run with the id" in here("inspect", str(UUID(int=7)), status=1)


def test_what_is_not_understood(here: Any) -> None:
    assert "invalid choice: 'sing'" in here("sing", status=2)
    assert "Try `callsheet flow-run ls --help`" in here("ls", "--limit", "0", status=2)
    census(1)
    assert "which flow runs?" in here("cancel", status=1)
    assert "--input is no JSON object" in here("resume", "0", "--input", "[", status=1)


def test_no_history_is_made_by_looking(tmp_path: Any) -> None:
    place = tmp_path / "nowhere.db"
    error = run("--database", str(place), "flow-run", "ls", status=1)
    assert error.startswith(f"callsheet: there is no history in '{place}'.")
    assert not place.exists()


def test_what_has_ended_is_said_to_be(here: Any) -> None:
    run_id = str(census(1, return_state=True).state_details.flow_run_id)
    assert command.main(["flow-run", "cancel", run_id]) == 1
    assert "Cannot resume a flow run that is not paused." in here("resume", run_id, status=1)
    assert "No process runs this flow run now." in here("pause", run_id, status=1)
    assert here("cancel", "--all") == ""


ASKS = """
@task
async def tick():
    await asyncio.sleep(0.01)

@flow(on_cancellation=[hook])
async def asks():
    say("asks", flow_run.id)
    answer = await pause_flow_run(wait_for_input=int, timeout=600)
    say("answer", answer)
    while True:
        await tick()

say("end", asyncio.run(asks(return_state=True)).name)
"""


def test_a_run_is_resumed_paused_and_cancelled() -> None:
    with other(ASKS) as process:
        run_id = process.next("asks")
        until(lambda: states_of(UUID(run_id))[-1:] == ["Paused"])
        assert said("inspect", run_id)["waits_for"]["schema"]["required"] == ["value"]
        assert "Run input validation error" in run("flow-run", "resume", run_id, status=1)
        assert said("resume", run_id, "--input", '{"value": 3}')[0]["state"]["name"] == "Running"
        assert process.next("answer") == "3"
        assert said("pause", run_id)[0]["state"]["name"] == "Paused"
        assert said("resume", run_id)[0]["state"]["name"] == "Running"
        began = time.monotonic()
        (cancelled,) = said("cancel", "--flow", "asks", "--message", "enough", "--wait")
        assert cancelled["state"]["name"] == "Cancelled"
        assert time.monotonic() - began < PATIENCE
        assert process.next("hook") == "asks Cancelled"
        assert process.next("end") == "Cancelled"


ink: list[str] = []


@flow
def letter() -> int:
    count(1)
    if not ink:
        raise ValueError("out of ink")
    return count(2)


def test_a_retry_is_for_engines_that_know_the_flow(here: Any) -> None:
    ink.clear()
    run_id = letter(return_state=True).state_details.flow_run_id
    shut_down()
    assert "No engine that is alive knows the flow" in run("flow-run", "retry", str(run_id), status=1)
    ink.append("blue")
    assert here("retry", str(run_id)).startswith(str(run_id))
    until(lambda: states_of(run_id)[-1] == "Completed")
    assert "It has completed" in here("retry", str(run_id), status=1)
