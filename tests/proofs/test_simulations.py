"""Seeded simulations: that they repeat, what goes wrong in them, and a handful of seeds of every scenario."""

from __future__ import annotations

import os
import random
import shlex
import subprocess
import sys
import threading
import time
import uuid
from pathlib import Path
from typing import Any

import anyio
import pytest
import trio
import trio.testing

import simulations
from callsheet import Engine, flow, task
from callsheet._clock import machine
from callsheet._engine.flow_run import FlowRunActor
from callsheet._engine.run import Run
from callsheet._ids import new_id
from callsheet._kernel.spawning import threads
from callsheet._model.kinds import StateType
from callsheet._model.records import StateEntered
from callsheet.exceptions import EngineClosed, LostOwnership, ObjectNotFound, StoreUnavailable
from callsheet.testing import (
    Fault,
    FaultKind,
    Faults,
    Promise,
    Scenario,
    SimulatedError,
    Simulation,
    SimulationFailed,
    scenario,
    shrink,
    simulate,
)
from callsheet.testing.command import main
from callsheet.testing.processes import ProcessEngine

ALL = [one for one in vars(simulations).values() if isinstance(one, Scenario)]
TESTS = Path(simulations.__file__).parent
SEEDS = 8  # of each scenario; `make proofs-short` takes 200, `make simulate` any number

# What was found by a seed once, and is mended: the plan, made as small as it goes.
FOUND = [
    # what was put into a journal while its closing wrote to the disk for the last time was said to be lost; the order
    # that it takes is chosen in tests/test_journal_simulated.py
    ("fanning", 1028, "cancel@1:0.5 slow_commit@10:0.3 task_fails_late@1"),
    # an engine that others took for dead while a subflow ran waited for the subflow's tracking task run, for good
    ("subflows", 645, "crash_after_commit@8 slow_commit@14:15"),
]


@pytest.mark.parametrize("played", ALL, ids=lambda one: one.name.partition(":")[2])
def test_every_promise_is_kept_whatever_the_seed(played: Scenario) -> None:
    for seed in range(SEEDS):
        simulate(played, seed=seed)


@pytest.mark.parametrize(("name", "seed", "plan"), FOUND)
def test_what_was_found_once_stays_mended(name: str, seed: int, plan: str) -> None:
    simulate(getattr(simulations, name), seed=seed, faults=[Fault.parse(text) for text in plan.split()])


# ------------------------------------------------------------------------------------------ repeatability


def command(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "callsheet.testing", *arguments],
        cwd=TESTS,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_seed_gives_the_same_history_in_any_process() -> None:
    """Two scenarios in each process: importing what they need takes longer than they do."""
    names = ("fanning", "orders")
    arguments = [[f"simulations:{name}", "--seed", "8"] for name in names]
    program = f"from callsheet.testing.command import main\nfor arguments in {arguments}: main(arguments)"
    outputs = [
        subprocess.run(
            [sys.executable, "-c", program],
            cwd=TESTS,
            env={**os.environ, "PYTHONHASHSEED": hashing},
            capture_output=True,
            text=True,
            check=True,
        ).stdout.splitlines()[::2]  # after each comes a line that says how long it took
        for hashing in ("1", "4242")
    ]
    assert outputs[0] == outputs[1]
    for name, line in zip(names, outputs[0], strict=True):
        here = simulate(getattr(simulations, name), seed=8)
        assert f"history {here.digest}" in line
        assert here.history == simulate(getattr(simulations, name), seed=8).history


def test_another_seed_gives_another_order() -> None:
    found = {simulate(simulations.fanning, seed=seed, faults=Faults.none()).history for seed in range(5)}
    assert len(found) == 5


def test_trio_has_what_its_schedule_is_seeded_by() -> None:
    """These names are private. If a version of trio has others, simulations must find another way."""
    run = sys.modules["trio._core._run"]
    assert isinstance(run._r, random.Random)
    assert isinstance(run._ALLOW_DETERMINISTIC_SCHEDULING, bool)

    async def order() -> list[int]:
        seen: list[int] = []

        async def note(n: int) -> None:
            await trio.lowlevel.checkpoint()
            seen.append(n)

        async with trio.open_nursery() as tasks:
            for n in range(8):
                tasks.start_soon(note, n)
        return seen

    from callsheet.testing.stage import perform

    assert perform(order, 3, 1000) == perform(order, 3, 1000)
    assert len({tuple(perform(order, seed, 1000)) for seed in range(20)}) > 10


def test_who_waits_until_nobody_can_go_on_comes_before_time_does() -> None:
    """The clock asks trio by a private name whether anybody does."""
    from callsheet.testing.stage import perform

    async def play() -> list[str]:
        seen: list[str] = []

        async def sleeps() -> None:
            await trio.sleep(1)
            seen.append("a second is over")

        async with trio.open_nursery() as tasks:
            tasks.start_soon(sleeps)
            await trio.testing.wait_all_tasks_blocked()
            seen.append(f"blocked at {trio.current_time()}")
        return seen

    assert perform(play, 0, 1000) == ["blocked at 0.0", "a second is over"]


def test_a_simulated_thread_is_woken_in_time_and_leaves_when_it_is_over() -> None:
    from callsheet.testing.stage import perform

    seen: list[tuple[float, bool]] = []

    async def play() -> None:
        flag, never = threads.flag(), threads.flag()

        def work() -> None:
            seen.append((machine.monotonic() - 1000, flag.wait(0)))
            seen.append((machine.monotonic() - 1000, flag.wait(2)))
            seen.append((machine.monotonic() - 1000, flag.wait(10)))
            machine.sleep(0.5)
            seen.append((machine.monotonic() - 1000, flag.wait()))
            never.wait()

        threads.start(work, "worker")
        await trio.sleep(3)
        flag.set()
        await trio.sleep(1)

    perform(play, 0, 1000)
    assert seen == [(0.0, False), (0.0, False), (2.0, True), (3.5, True)]


# ------------------------------------------------------------------------------------------------- faults


@task
async def once() -> int:
    return 1


@task(retries=3)
async def thrice() -> int:
    await anyio.sleep(0.05)
    return 1


@flow
async def careless() -> int:
    return await once()


@flow
async def careful() -> int:
    return sum([await thrice() for _ in range(4)])


STATES: list[Any] = []


@scenario(flows=[careless])
async def fragile(sim: Simulation) -> None:
    STATES[:] = [await sim.run(careless)]
    assert STATES[0].is_completed()


@scenario(flows=[careful])
async def sturdy(sim: Simulation) -> None:
    STATES[:] = [await sim.run(careful)]


CRASHES = [kind for kind in FaultKind if kind.value.startswith("crash")]


@pytest.mark.parametrize("kind", [FaultKind.TASK_FAILS, FaultKind.TASK_FAILS_LATE])
def test_a_body_fails(kind: FaultKind) -> None:
    with pytest.raises(SimulationFailed, match="AssertionError"):
        simulate(fragile, faults=[Fault(kind, 1)])
    with pytest.raises(SimulatedError, match="once"):
        STATES[0].result()
    assert simulate(sturdy, faults=[Fault(kind, 1)]).history.count("Retrying") == 1


@pytest.mark.parametrize("kind", CRASHES)
def test_a_process_dies_and_another_one_goes_on_with_its_run(kind: FaultKind) -> None:
    done = simulate(sturdy, seed=2, faults=[Fault(kind, 8 if "commit" in kind.value else 3)])
    assert [fault.kind for fault in done.faults] == [kind]
    assert done.elapsed >= 10, "the others wait for a lease"
    assert '"recoveries":1' in done.history
    assert STATES[0].is_completed()


def test_a_run_that_never_got_on_record_is_started_again() -> None:
    done = simulate(sturdy, faults=[Fault(FaultKind.CRASH_BEFORE_COMMIT, 1)])
    assert STATES[0].is_completed()
    assert done.faults


def test_a_process_that_stands_still_loses_its_runs() -> None:
    done = simulate(sturdy, faults=[Fault(FaultKind.SLOW_COMMIT, 5, 40.0)])
    assert '"recoveries":1' in done.history
    assert STATES[0].is_completed()


def test_a_run_is_cancelled() -> None:
    simulate(sturdy, faults=[Fault(FaultKind.CANCEL, 1, 0.08)])
    assert STATES[0].is_cancelled()


@pytest.mark.parametrize("kind", [FaultKind.FAILED_COMMIT, FaultKind.UNSURE_COMMIT])
def test_a_commit_fails_and_is_made_up_for(kind: FaultKind) -> None:
    assert simulate(sturdy, faults=[Fault(kind, at) for at in (1, 2, 4)]).faults
    assert STATES[0].is_completed()


@pytest.mark.parametrize("fault", ["late_news@1:8", "repeated_letters@1"])
def test_news_are_late_and_letters_come_twice(fault: str) -> None:
    done = simulate(simulations.orders, seed=3, faults=[Fault.parse(fault)])
    assert [str(one) for one in done.faults] == [fault]


# ------------------------------------------------------------------------------------------------ failures


def test_a_failure_names_the_command_that_repeats_it() -> None:
    with pytest.raises(SimulationFailed) as failed:
        simulate(simulations.failing, seed=3, faults=[Fault.parse("task_fails@1")])
    said = failed.value.command
    assert said == "python -m callsheet.testing simulations:failing --seed 3 --faults 'task_fails@1'"
    again = command(*shlex.split(said)[3:])
    assert again.returncode == 1
    assert again.stdout.startswith(str(failed.value))


def test_a_scenario_that_no_command_finds_is_repeated_by_a_call() -> None:
    @scenario(flows=[careless])
    async def local(sim: Simulation) -> None:
        assert (await sim.run(careless)).is_completed()

    with pytest.raises(SimulationFailed, match=r"repeat it: simulate\(local, seed=1, faults=\[Fault.parse"):
        simulate(local, seed=1, faults=[Fault(FaultKind.TASK_FAILS, 1)])


def test_a_plan_shrinks_to_what_it_takes() -> None:
    plan = "slow_commit@2:0.3 task_fails_late@7 late_news@1:1 task_fails@1 failed_commit@3 unsure_commit@5"
    with pytest.raises(SimulationFailed) as failed:
        simulate(fragile, faults=[Fault.parse(text) for text in plan.split()])
    assert [str(fault) for fault in shrink(failed.value).faults] == ["task_fails@1"]


def test_a_broken_promise_is_found() -> None:
    @scenario(flows=[careless], seconds=60)
    async def forged(sim: Simulation) -> None:
        state = await sim.run(careless)
        run_id = state.state_details.flow_run_id
        late = StateEntered(run_id=run_id, seq=9, type=StateType.RUNNING, name="Running", at=machine.time_ns() // 1000)
        sim._world.history.commit([late])

    with pytest.raises(SimulationFailed) as failed:
        simulate(forged, faults=())
    assert {found.promise for found in failed.value.findings} >= {Promise.ENDS_ONCE, Promise.WHOLE}


def test_what_was_acknowledged_is_missed() -> None:
    @scenario(flows=[careless])
    async def forgetful(sim: Simulation) -> None:
        await sim.run(careless)
        sim._world.acknowledged[new_id()] = "COMPLETED"

    with pytest.raises(SimulationFailed, match="ACKNOWLEDGED"):
        simulate(forgetful, faults=())


def test_a_caller_that_hears_what_is_in_no_state_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    async def lives(run: FlowRunActor, port: Any) -> None:
        await Run.live(run, port)
        raise KeyError("planted")

    monkeypatch.setattr(FlowRunActor, "live", lives)
    with pytest.raises(SimulationFailed, match=r"with seed 4 failed: KeyError: 'planted'\n"):
        simulate(sturdy, seed=4)


@pytest.mark.parametrize("error", [StoreUnavailable("planted"), LostOwnership("planted"), EngineClosed("planted")])
def test_an_engine_that_cannot_be_closed_is_a_failure(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    async def leave(engine: ProcessEngine, *_: object) -> None:
        await Engine.__aexit__(engine)
        raise error

    monkeypatch.setattr(ProcessEngine, "__aexit__", leave)
    with pytest.raises(SimulationFailed, match=f"{type(error).__name__}: planted"):
        simulate(sturdy, faults=())


@pytest.mark.parametrize("error", [StoreUnavailable("planted"), LostOwnership("planted")])
def test_an_engine_that_cannot_be_opened_is_a_failure(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    async def enter(engine: ProcessEngine) -> None:
        raise error

    monkeypatch.setattr(ProcessEngine, "__aenter__", enter)
    with pytest.raises(SimulationFailed, match=f"{type(error).__name__}: planted"):
        simulate(sturdy, faults=())


def test_a_cancellation_that_fails_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    async def cancel(flow_run_id: uuid.UUID) -> None:
        raise ObjectNotFound("planted")

    monkeypatch.setattr("callsheet.testing.world.acancel_flow_run", cancel)
    with pytest.raises(SimulationFailed, match="ObjectNotFound: planted"):
        simulate(sturdy, faults=[Fault(FaultKind.CANCEL, 1, 0.08)])


def test_an_error_that_the_engine_only_logs_is_a_failure() -> None:
    @scenario(flows=[careful])
    async def mumbling(sim: Simulation) -> None:
        started = await sim.start(careful)
        for core in sim._world.cores:
            core.journal.follow(lambda: 1 // 0)  # the journal logs what its callbacks raise
        await started.wait()

    with pytest.raises(SimulationFailed, match="had to log an error: A callback of the journal failed: ZeroDivision"):
        simulate(mumbling, faults=())


def test_what_does_not_end_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    @scenario(seconds=60)
    async def endless(sim: Simulation) -> None:
        await anyio.sleep_forever()

    with pytest.raises(SimulationFailed, match="did not end within 60 s of its clock"):
        simulate(endless)

    async def circling(sim: Simulation) -> None:
        while True:
            await anyio.lowlevel.checkpoint()

    monkeypatch.setattr("callsheet.testing.simulations._STEPS", 2000)
    with pytest.raises(SimulationFailed, match="was stopped after 2000 steps"):
        simulate(circling)


def test_flows_are_named_first() -> None:
    async def nameless(sim: Simulation) -> None:
        await sim.start(careless)

    with pytest.raises(SimulationFailed, match="Name <Flow 'careless'"):
        simulate(nameless)


# --------------------------------------------------------------------------------------------- the process


def test_the_process_is_itself_again_afterwards() -> None:
    before, state = new_id(), random.getstate()
    allowed = sys.modules["trio._core._run"]._ALLOW_DETERMINISTIC_SCHEDULING
    simulate(simulations.fanning, seed=1)
    assert random.getstate() == state
    assert (machine.monotonic, machine.time_ns, machine.sleep) == (time.monotonic, time.time_ns, time.sleep)
    assert threads.flag is threading.Event
    assert not threads.simulated
    assert new_id() > before
    assert uuid.UUID(int=new_id().int).version == 7
    assert sys.modules["trio._core._run"]._ALLOW_DETERMINISTIC_SCHEDULING is allowed
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("callsheet")]


async def test_a_simulation_is_not_for_async_code(anyio_backend: Any = "trio") -> None:
    with pytest.raises(RuntimeError, match="call `simulate` in sync code"):
        simulate(sturdy)


test_a_simulation_is_not_for_async_code = pytest.mark.anyio(test_a_simulation_is_not_for_async_code)


def test_there_is_one_at_a_time() -> None:
    async def nested(sim: Simulation) -> None:
        failures: list[Exception] = []

        def another() -> None:
            try:
                simulate(sturdy)
            except RuntimeError as error:
                failures.append(error)

        thread = threading.Thread(target=another)
        thread.start()
        thread.join()
        assert "one at a time" in str(failures[0])

    simulate(nested)


def test_the_command_counts(capsys: pytest.CaptureFixture[str]) -> None:
    main(["simulations:fanning", "-n", "2", "--seed", "5"])
    assert capsys.readouterr().out.startswith("2 simulations of seeds 5 to 6: 0 failed, ")
    with pytest.raises(SystemExit) as ended:
        main(["simulations:failing", "--faults", "task_fails@1"])
    assert ended.value.code == 1
    with pytest.raises(SystemExit) as ended:
        main(["harness"])
    assert ended.value.code == 2
