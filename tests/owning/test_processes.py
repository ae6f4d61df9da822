"""Engines of several processes on one history: killed, stopped and woken, idle, closed."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

import warm
from callsheet._model.kinds import Kind, StateType
from callsheet._model.records import RunFilter, RunRecord
from callsheet._store.sqlite import SqliteStore
from owning_helpers import FLOWS, LEASE, PATIENCE, OwnerProcess, lines, until
from store_helpers import readers_are_closed, run_now

__all__ = ["readers_are_closed"]  # a fixture that every test here uses

S = StateType
LONG = 60.0  # a lease that no test lives to see
TAKER = "flows=[waiting, waiting_in_a_thread]"


class History:
    """The history of a test, seen from outside."""

    def __init__(self, path: Path) -> None:
        self.store = SqliteStore(path)
        self.store.open()
        self._reader = self.store.blocking_reader()

    def flow_runs(self) -> list[RunRecord]:
        return list(run_now(self._reader.read_runs(RunFilter(kind=Kind.FLOW))).items)  # type: ignore[arg-type]

    def flow_run(self) -> RunRecord:
        (run,) = self.flow_runs()
        return run

    def states(self, run_id: UUID) -> list[str]:
        return [state.name for state in run_now(self._reader.read_states(run_id))]

    def ended(self) -> RunRecord | None:
        run = self.flow_run()
        return run if run.ended is not None else None

    def engines(self) -> list[Any]:
        return list(self.store.engines.read())

    def engines_of(self, process: OwnerProcess) -> Any:
        (found,) = [engine for engine in self.engines() if engine.pid == process.pid]
        return found

    def close(self) -> None:
        self.store.close()


@pytest.fixture
def here(tmp_path: Path) -> Path:
    return tmp_path


@pytest.fixture
def history(callsheet_home: Path):
    made = History(callsheet_home / "callsheet.db")
    yield made
    made.close()


def go(here: Path) -> None:
    (here / "go").touch()


RUN = "await waiting(7)"
STAY = "await anyio.sleep(60)"


def test_runs_of_a_killed_process_go_on_at_once_in_another(here, history):
    """By the evidence of its file: the lease is far longer than the test may take."""
    with OwnerProcess.engine(here, RUN, lease=LONG) as owner:
        owner.hears("open")
        owner.hears("waiting", "7")
        with OwnerProcess.engine(here, STAY, TAKER, lease=LONG) as taker:
            taker.hears("open")
            owner.kill()
            taker.hears("waiting", "7")
            go(here)
            run = until(history.ended)
            assert (run.recoveries, run.fence, run.owner) == (1, 1, None)
            assert history.states(run.id) == ["Pending", "Running", "Pending", "Running", "Completed"]
            assert [pid for name, pid in lines(here) if name == "after"] == [str(taker.pid)]


def test_a_stopped_owner_is_fenced_and_told(here, history):
    """It cannot write any more, and its caller hears why."""
    body = """
    try:
        await waiting(7)
    except Exception as error:
        say(type(error).__name__)
    say(await other())
    """
    with OwnerProcess.engine(here, body) as owner:
        owner.hears("open")
        owner.hears("waiting", "7")
        with OwnerProcess.engine(here, STAY, TAKER, lease=LONG) as taker:
            taker.hears("open")
            owner.stop()
            taker.hears("waiting", "7")
            owner.go_on()
            owner.hears("LostOwnership")
            owner.hears("other")  # the engine that is open goes on
            owner.hears("None")
            assert owner.process.wait(PATIENCE) == 0
            go(here)
            run = until(lambda: next((one for one in history.flow_runs() if one.ended and one.recoveries), None))
            assert history.states(run.id) == ["Pending", "Running", "Pending", "Running", "Completed"]
            assert [pid for name, pid in lines(here) if name == "after"] == [str(taker.pid)]


def test_a_stopped_owner_that_wakes_starts_nothing(here, history):
    """It does not know how long it slept: it asks before it goes on."""
    body = """
    try:
        await counting()
    except Exception as error:
        say(type(error).__name__)
    """
    with OwnerProcess.engine(here, body) as owner:
        owner.hears("open")
        owner.hears("counting")
        with OwnerProcess.engine(here, STAY, "flows=[counting]", lease=LONG) as taker:
            taker.hears("open")
            owner.stop()
            before = len([pid for _, pid in lines(here) if pid == str(owner.pid)])
            taker.hears("counting")
            owner.go_on()
            owner.hears("LostOwnership")
            after = len([pid for _, pid in lines(here) if pid == str(owner.pid)])
            assert after - before <= 1  # what it was just about to start
            go(here)
            until(history.ended)


def test_a_blocking_body_that_was_fenced_is_told_at_its_next_call(here, history):
    """On the ambient engine, which makes place for a new one."""
    program = """
    try:
        waiting_in_a_thread(7)
    except Exception as error:
        say(type(error).__name__)
    say(anyio.run(other))
    """
    with OwnerProcess(here, program) as owner:
        owner.hears("waiting", "7")
        with OwnerProcess.engine(here, STAY, TAKER, lease=LONG) as taker:
            taker.hears("open")
            owner.stop()
            taker.hears("waiting", "7")
            owner.go_on()
            until(lambda: [engine for engine in history.engines() if engine.pid == owner.pid] == [])
            go(here)
            owner.hears("LostOwnership")
            owner.hears("other")
            owner.hears("None")
            assert owner.process.wait(PATIENCE) == 0
            run = until(lambda: next((one for one in history.flow_runs() if one.ended and one.recoveries), None))
            assert history.states(run.id)[-1] == "Completed"


@pytest.mark.parametrize("how", ["killed", "stopped"])
def test_two_takers_and_one_dead_owner(here, history, how):
    body = """
    async with anyio.create_task_group() as group:
        for number in range(20):
            group.start_soon(waiting, number)
    """
    with OwnerProcess.engine(here, body, lease=LONG if how == "killed" else LEASE) as owner:
        owner.hears("open")
        owner.hears_all([["waiting", str(number)] for number in range(20)])
        with (
            OwnerProcess.engine(here, STAY, TAKER, lease=LONG) as one,
            OwnerProcess.engine(here, STAY, TAKER, lease=LONG) as two,
        ):
            one.hears("open")
            two.hears("open")
            owner.kill() if how == "killed" else owner.stop()
            until(lambda: all(run.recoveries for run in history.flow_runs()))
            go(here)
            until(lambda: all(run.ended for run in history.flow_runs()))
            owner.go_on() if how == "stopped" else None
            runs = history.flow_runs()
            assert [(run.recoveries, run.fence, run.state.type) for run in runs] == [(1, 1, S.COMPLETED)] * 20
            afters = [pid for name, pid in lines(here) if name == "after"]
            assert len(afters) == 20
            assert set(afters) <= {str(one.pid), str(two.pid)}


def test_an_engine_that_was_idle_for_longer_than_its_lease_is_not_taken_for_dead(here, history):
    body = f"""
    await other()
    await anyio.sleep({3 * LEASE})
    await waiting(7)
    """
    with (
        OwnerProcess.engine(here, STAY, TAKER, lease=LONG) as taker,
        OwnerProcess.engine(here, body) as owner,
    ):
        taker.hears("open")
        owner.hears("open")
        owner.hears("other")
        owner.hears("waiting", "7")
        beat = history.engines_of(owner).beat
        until(lambda: history.engines_of(owner).beat > beat + 4)  # a whole lease later
        go(here)
        assert owner.process.wait(PATIENCE) == 0
        assert [run.recoveries for run in history.flow_runs()] == [0, 0]


def test_a_taker_that_was_stopped_itself_does_not_take_over_at_once(here, history):
    """Time in which it did not look does not count, and one that wakes first sees an old sign of life: the owner lives."""
    with (
        OwnerProcess.engine(here, RUN) as owner,
        OwnerProcess.engine(here, STAY, TAKER) as taker,
    ):
        owner.hears("open")
        owner.hears("waiting", "7")
        taker.hears("open")
        for _ in range(3):
            taker.stop()
            owner.stop()
            time.sleep(2 * LEASE)
            taker.go_on()  # it wakes first, and sees an old beat
            time.sleep(LEASE / 8)
            owner.go_on()
            time.sleep(LEASE / 2)
        go(here)
        until(history.ended)
        assert history.flow_run().recoveries == 0


def test_an_engine_that_closes_is_not_listed_any_more(here, history):
    with OwnerProcess.engine(here, "await waiting(7)") as owner:
        owner.hears("open")
        owner.hears("waiting", "7")
        assert [engine.pid for engine in history.engines()] == [owner.pid]
        folder = Path(f"{history.store.location}-engines")
        proofs = [
            path.name for path in folder.iterdir() if not path.name.startswith("redo-")
        ]  # a log is there if it was busy
        assert proofs == [history.engines()[0].file]
        go(here)
        assert owner.process.wait(PATIENCE) == 0
    assert history.engines() == []
    assert list(folder.iterdir()) == []


def test_what_nobody_can_take_over_is_marked_with_its_hooks_called_once(here, history):
    """No engine is there for the flow; one knows it all the same, because its module is imported."""
    with OwnerProcess.engine(here, RUN) as owner:
        owner.hears("open")
        owner.hears("waiting", "7")
        with (
            OwnerProcess.engine(here, STAY, "recover=True") as one,
            OwnerProcess.engine(here, STAY, "flows=[other]") as two,
        ):
            one.hears("open")
            two.hears("open")
            owner.kill()
            run = until(history.ended)
            assert (run.state.type, run.recoveries, run.owner) == (S.CRASHED, 0, None)
            assert run.state.message == "The engine that ran it is gone, and no other knows its flow."
            until(lambda: [line for line in lines(here) if line[0] == "crashed"])
            time.sleep(LEASE)
            assert [line[2] for line in lines(here) if line[0] == "crashed"] == [str(run.id)]


def test_other_code_takes_a_run_over_when_there_was_time_for_the_same(here, history):
    """Three leases of its own, from when it has seen the owner die: by the evidence of its file, however slow both are."""
    other_code = FLOWS.replace('await step("after")', 'await step("later")')
    with OwnerProcess.engine(here, RUN, lease=LONG) as owner:
        owner.hears("open")
        owner.hears("waiting", "7")
        with OwnerProcess.engine(here, STAY, TAKER, flows=other_code) as taker:
            taker.hears("open")
            before = time.monotonic()  # not after: the taker may see it before this process has heard of the end
            owner.kill()
            taker.hears("waiting", "7")
            assert time.monotonic() - before >= 3 * LEASE
            go(here)
            run = until(history.ended)
    assert run.state.name == "Completed"
    assert lines(here) == [["before", str(owner.pid)], ["later", str(taker.pid)]]


def test_other_code_leaves_a_run_to_the_same(here, history):
    other_code = FLOWS.replace('await step("after")', 'await step("later")')
    with OwnerProcess.engine(here, RUN, lease=LONG) as owner:
        owner.hears("open")
        owner.hears("waiting", "7")
        with (
            OwnerProcess.engine(here, STAY, TAKER, flows=other_code, lease=LONG) as other,
            OwnerProcess.engine(here, STAY, TAKER, lease=LONG) as same,
        ):
            other.hears("open")
            same.hears("open")
            owner.kill()
            same.hears("waiting", "7")
            go(here)
            until(history.ended)
    assert lines(here) == [["before", str(owner.pid)], ["after", str(same.pid)]]


def test_an_engine_that_starts_again_in_time_finds_its_runs(here, history):
    with OwnerProcess.engine(here, STAY, "recover=True", lease=5) as other:
        other.hears("open")
        with OwnerProcess.engine(here, RUN, TAKER, lease=LONG) as owner:
            owner.hears("open")
            owner.hears("waiting", "7")
            owner.kill()
        until(lambda: [engine for engine in history.engines() if engine.lost])
        with OwnerProcess.engine(here, STAY, TAKER, lease=5) as again:
            again.hears("open")
            again.hears("waiting", "7")
            go(here)
            assert until(history.ended).state.type is S.COMPLETED


def test_a_clock_that_jumps_is_of_no_consequence(here, history):
    """Nothing compares times of day."""
    body = """
    real, real_ns, shift = time.time, time.time_ns, [0]
    time.time = lambda: real() + shift[0]
    time.time_ns = lambda: real_ns() + shift[0] * 10**9
    async with anyio.create_task_group() as group:
        group.start_soon(waiting, 7)
        for days in (365, -365, 0, 20000):
            shift[0] = days * 86400
            await anyio.sleep(LEASE / 2)
        say("jumped")
    """.replace("LEASE", str(LEASE))
    with (
        OwnerProcess.engine(here, body) as owner,
        OwnerProcess.engine(here, body.replace("waiting", "other").replace(", 7", ""), TAKER) as taker,
    ):
        owner.hears("open")
        taker.hears("open")
        taker.hears("other")
        owner.hears("waiting", "7")
        owner.hears("jumped")
        taker.hears("jumped")
        go(here)
        assert owner.process.wait(PATIENCE) == 0
        assert [run.recoveries for run in history.flow_runs()] == [0, 0]


def doctor(*words: str) -> Any:
    done = warm.run(warm.COMMAND, "doctor", *words, timeout=PATIENCE, strict=True)
    return json.loads(done.stdout) if "--json" in words else done.stdout


def test_the_doctor_tells_the_living_from_the_dead(here, history):
    with (
        OwnerProcess.engine(here, RUN) as owner,
        OwnerProcess.engine(here, STAY, "flows=[other]", lease=LONG) as living,
    ):
        owner.hears("open")
        owner.hears("waiting", "7")
        living.hears("open")
        found = doctor("--json", "--integrity", "--watch", "0.5")
        assert {one["pid"]: (one["status"], one["runs"]) for one in found["engines"]} == {
            owner.pid: ("alive", 1),
            living.pid: ("alive", 0),
        }
        assert [one["beats"] for one in found["engines"] if one["pid"] == owner.pid] == [True]
        assert (found["integrity"], found["letters"], found["runs_of_dead_engines"]) == (["ok"], 0, 0)
        assert found["files_left_behind"] == []
        assert found["writer_pid"] is None
        owner.kill()
        found = doctor("--json", "--watch", "0")
        said = doctor("--watch", "0")
    status = {one["pid"]: one["status"] for one in found["engines"]}
    assert status[living.pid] == "alive"
    assert status[owner.pid] in ("gone", "lost"), "lost, once the living one has found it"
    assert found["runs_of_dead_engines"] == 1
    assert len(found["files_left_behind"]) == 1
    assert "runs of dead engines: 1" in said
    assert "integrity: not checked" in said


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux tells who holds a lock")
def test_the_doctor_names_who_holds_the_file(here, history, callsheet_home):
    body = """
    import sqlite3, time
    await other()
    connection = sqlite3.connect(sys.argv[2], isolation_level=None)
    connection.execute("BEGIN IMMEDIATE")
    say("inside")
    time.sleep(60)
    """
    with OwnerProcess.engine(
        here, body.replace("sys.argv[2]", repr(str(callsheet_home / "callsheet.db"))), TAKER
    ) as holder:
        for word in ("open", "other", "inside"):
            holder.hears(word)
        found, said = doctor("--json", "--watch", "0.2"), doctor("--watch", "0.2")
    assert found["writer_pid"] == holder.pid
    (engine,) = found["engines"]
    assert f"the process {holder.pid}, the engine {engine['id']} holds the file" in said
