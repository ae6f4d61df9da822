"""Runs under a key whose process was killed, or stood still: the next call goes on with them."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest

from callsheet import Engine, run_key
from callsheet._engine import keyed_search
from callsheet._rules.taking import MOST_RECOVERIES
from callsheet.exceptions import CrashedRun
from callsheet.settings import refresh_settings
from callsheet.testing import check_history
from keyed_flows import FOLDER, Caller, Stage, call, charge
from past import runs, states_of

ALL = [("charge", "asyncio"), ("acharge", "asyncio"), ("acharge", "trio")]
LONG = "600"  # a lease that no test lives to see


@pytest.fixture
def stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stage:
    monkeypatch.setenv(FOLDER, str(tmp_path / "stage"))
    monkeypatch.setenv("CALLSHEET_LEASE_SECONDS", LONG)
    return Stage(tmp_path / "stage")


@pytest.fixture
def other(stage: Stage) -> Iterator[Caller]:
    with Caller() as caller:
        yield caller


@pytest.mark.parametrize(("name", "backend"), ALL)
def test_a_killed_process_is_noticed_at_once(stage: Stage, other: Caller, name: str, backend: str) -> None:
    other.tell(f"call({name!r}, 'k', backend={backend!r})")
    stage.await_body()
    other.kill()
    stage.open_before()
    assert call(name, "k", 1, backend) == call(name, "k", 1, backend) == "1: first second"
    assert stage.notes == ["first", "second"]
    (run,) = runs(definition_names=(name,))
    assert (run.recoveries, states_of(run.id)) == (1, ["Pending", "Running", "Pending", "Running", "Completed"])
    assert check_history() == []


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_it_goes_on_on_the_loop_of_the_call_and_with_its_parameters(stage: Stage, other: Caller, backend: str) -> None:
    other.tell(f"call('where', 'k', print, {backend!r})")
    stage.await_body()
    other.kill()
    stage.open_before()
    assert call("where", "k", print, backend) == backend


@pytest.mark.parametrize("name", ["charge", "acharge"])
def test_a_process_that_was_asked_to_end_leaves_its_run_to_others(stage: Stage, other: Caller, name: str) -> None:
    other.tell(f"call({name!r}, 'k')")
    stage.await_body()
    stage.open_before()
    other.process.terminate()
    if name == "acharge":  # what waits in a thread cannot be interrupted
        stage.open()
    other.process.wait()
    assert call(name, "k") == "1: first second"
    assert stage.notes == ["first", "second"]
    (run,) = runs(definition_names=(name,))
    assert states_of(run.id) == [
        "Pending", "Running", "Crashed", "AwaitingRetry", "Pending", "Running", "Completed",
    ]  # fmt: skip


@pytest.mark.anyio
async def test_an_engine_that_recovers_takes_it_over_for_all(stage: Stage, other: Caller) -> None:
    await anyio.to_thread.run_sync(other.tell, "call('charge', 'k')")
    await anyio.to_thread.run_sync(stage.await_body)
    stage.open_before()
    async with Engine(database=refresh_settings().database, flows=[charge]):
        other.kill()
        with run_key("k"):
            state = await anyio.to_thread.run_sync(lambda: charge(1, return_state=True))
    assert state.data == "1: first second"
    assert stage.notes == ["first", "second"]


@pytest.mark.parametrize(("name", "backend"), ALL)
def test_a_call_that_is_attached_takes_over(
    stage: Stage, other: Caller, name: str, backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    other.tell(f"call({name!r}, 'k', backend={backend!r})")
    stage.await_body()
    stage.open_before()
    look = keyed_search._look

    def attached(*args: Any) -> Any:
        found = look(*args)
        monkeypatch.setattr(keyed_search, "_look", look)
        other.kill()
        return found

    monkeypatch.setattr(keyed_search, "_look", attached)
    assert call(name, "k", 1, backend) == "1: first second"
    assert stage.notes == ["first", "second"]


def test_of_many_that_wait_one_takes_over(stage: Stage, other: Caller) -> None:
    other.tell("call('charge', 'k')")
    stage.await_body()
    with Caller() as a, Caller() as b:
        many = "[*__import__('concurrent.futures').futures.ThreadPoolExecutor(4).map(lambda _: call('charge', 'k'), range(4))]"
        a.tell(many)
        b.tell(many)
        stage.open_before()
        other.kill()
        assert call("charge", "k") == "1: first second"
        assert a.hear() == b.hear() == str(["1: first second"] * 4)
    assert stage.notes == ["first", "second"]
    assert check_history() == []


@pytest.mark.parametrize(("name", "backend"), ALL)
def test_one_that_stands_still_for_a_lease_has_lost_its_run(
    stage: Stage, name: str, backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CALLSHEET_LEASE_SECONDS", "0.4")
    with Caller() as other:
        other.tell(f"call({name!r}, 'k', backend={backend!r})")
        stage.await_body()
        other.stop()
        stage.open_before()
        assert call(name, "k", 1, backend) == "1: first second"
        other.go_on()
        (stage.folder / "gate").open("w").close()
        assert other.hear().startswith("LostOwnership")
    assert stage.notes.count("first") == 1
    assert check_history() == []


def test_one_that_is_slow_keeps_its_run(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CALLSHEET_LEASE_SECONDS", "0.4")
    with Caller() as other:
        other.tell("call('charge', 'k')")
        stage.await_body()
        opening = threading.Timer(2.0, stage.open)
        opening.start()
        assert call("charge", "k") == other.hear() == "1: first second"
        opening.join()
    assert stage.notes == ["first", "second"]
    assert runs(definition_names=("charge",))[0].recoveries == 0


def test_a_body_that_kills_its_process_is_given_up(stage: Stage) -> None:
    for _ in range(1 + MOST_RECOVERIES):
        with Caller() as caller:
            assert caller.ask("call('die', 'k')") == ""
    for _ in range(2):
        with pytest.raises(CrashedRun, match="one after the other"):
            call("die", "k")
    assert stage.notes == ["dies-1"] * (1 + MOST_RECOVERIES)
    with Caller() as caller:
        assert caller.ask("call('die', 'k', on_failed='retry')") == ""
    assert len(stage.notes) == 2 + MOST_RECOVERIES


def test_kills_at_random_moments(stage: Stage) -> None:
    """Each call is killed, whatever it is doing; in the end there is one run, whose steps were taken in order."""
    stage.open_before()
    moments = random.Random(7)
    for _ in range(MOST_RECOVERIES):
        with Caller() as caller:
            caller.tell("call('charge', 'k')")
            killing = threading.Timer(moments.uniform(0.2, 0.8), caller.kill)
            killing.start()
            answer = caller.hear()
            killing.join()
            assert answer in ("", "1: first second")
    assert call("charge", "k") == "1: first second"
    notes = stage.notes
    assert [*dict.fromkeys(notes)] == ["first", "second"] == sorted(notes, key="first second".find)[:1] + notes[-1:]
    assert check_history() == []
