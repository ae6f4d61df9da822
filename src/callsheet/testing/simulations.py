"""Simulations: a scenario under a seed, what goes wrong in it, and the judgement over its history."""

from __future__ import annotations

import hashlib
import logging
import random
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Iterable
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Any, Final, cast
from uuid import UUID

import anyio
import msgspec

from callsheet._engine import decode
from callsheet._engine.ambient import forget_dead
from callsheet._engine.core import Core
from callsheet._engine.engine import Engine
from callsheet._engine.flow_run import FlowRunActor
from callsheet._kernel.ports import step
from callsheet._kernel.signals import Once
from callsheet._model.kinds import TERMINAL_STATES
from callsheet._model.states import State
from callsheet._store.protocol import Store
from callsheet.exceptions import CallsheetError, StoreError
from callsheet.flow_runs import acancel_flow_run
from callsheet.settings import Setting, temporary_settings
from callsheet.testing import stage
from callsheet.testing.faults import Fault, FaultKind, Faults, Plan
from callsheet.testing.findings import Finding
from callsheet.testing.histories import all_of, check_store
from callsheet.testing.processes import Process, observer, was_told
from callsheet.testing.scenarios import Scenario
from callsheet.testing.shared import SharedHistory

__all__ = ["Simulated", "Simulation", "SimulationFailed", "Started", "simulate"]

_REST: Final = 0.5  # seconds until a run is started once more that did not get as far as the history
_STEPS: Final = 500_000


class Simulated(msgspec.Struct, frozen=True, kw_only=True):
    """What a simulation came to.

    Attributes:
        seed: Its seed.
        faults: What went wrong in it, in order.
        elapsed: Seconds that it took by its own clock.
        history: The whole history as text, a line a run: the same for the same seed, byte for byte.
    """

    seed: int
    faults: tuple[Fault, ...]
    elapsed: float
    history: str

    @property
    def digest(self) -> str:
        """Give 16 hexadecimal digits that two histories have in common only if they are the same."""
        return hashlib.sha256(self.history.encode()).hexdigest()[:16]


class SimulationFailed(CallsheetError, AssertionError):
    """Raised when a simulation ends in an error, does not end, or leaves a history that breaks a promise.

    Attributes:
        scenario: What was simulated.
        seed: The seed.
        faults: What was to go wrong.
        findings: What is wrong with the history.
        command: The command that repeats it.
    """

    def __init__(self, scenario: Scenario, seed: int, faults: tuple[Fault, ...], why: str, *found: Finding) -> None:
        self.scenario, self.seed, self.faults, self.findings = scenario, seed, faults, found
        self.command = scenario.command(seed, faults)
        planned = ", ".join(map(str, faults)) or "none"
        lines = [f"The simulation of {scenario.name} with seed {seed} failed: {why}", *map(str, found)]
        super().__init__("\n  ".join([*lines, f"faults: {planned}", f"repeat it: {self.command}"]))


class Started:
    """A run that was started in a simulation.

    Attributes:
        id: Its id. Where its process died before anything of it was on record, it is started again, with another id.
        times: How often it was started. What was done in those that are not on record is done all the same.
    """

    id: UUID

    def __init__(self, simulation: Simulation, flow: Any, parameters: dict[str, Any]) -> None:
        self._simulation = simulation
        self._flow = flow
        self._parameters = parameters
        self._run: FlowRunActor | None = None
        self._done = Once()
        self.times = 0

    async def begin(self) -> None:
        """Start it, in one of the processes."""
        simulation = self._simulation
        while True:
            process = simulation.random.choice(simulation.processes)
            begun = await process.start(self._flow, dict(self._parameters))
            if begun is not None:
                break
            await anyio.sleep(_REST)
        self.id, self._done, self._run = begun
        self.times += 1
        self._done.subscribe(simulation.stir)

    async def wait(self) -> State[Any]:
        """Wait until it has ended, in whatever process.

        Returns:
            Its state: that of its caller, or, where that one's process died, as the history has it.
        """
        simulation, history = self._simulation, self._simulation.history
        while not (history.has_ended(self.id) and self._done.is_set):
            changed = simulation.changed
            if self._done.is_set and history.newest(self.id) is None:
                await self.begin()
            else:
                await changed.wait()
        run = self._run
        if run is not None and was_told(run) and run.state.type in TERMINAL_STATES:
            simulation.acknowledged[self.id] = run.state.type.value
            return run.state
        return simulation.state_of(self.id)


class Simulation:
    """What a scenario is given: processes in which it starts flows, and randomness of its own.

    The scenario itself runs in a process that does not die. What else the package offers works there as in a program:
    it cancels, pauses and resumes runs of the other processes, and may call flows and tasks itself.

    Attributes:
        seed: The seed.
        random: Follows from the seed, for choices of the scenario.
    """

    def __init__(self, scenario: Scenario, seed: int, faults: Iterable[Fault]) -> None:
        self.seed = seed
        self.random = random.Random(f"scenario of {seed}")
        self.scenario, self.flows = scenario, scenario.flows
        self.history, self.plan = SharedHistory(seed), Plan(faults)
        self.processes = [Process(self) for _ in range(scenario.processes)]
        self.acknowledged: dict[UUID, str] = {}
        self.tasks: Any = None
        self.cores: list[Core] = []
        self.changed = anyio.Event()
        self.elapsed = 0.0
        self.error: Exception | None = None
        self._started: list[Started] = []
        self.history.listeners.append(self.stir)

    async def start(self, flow: Any, *args: Any, **kwargs: Any) -> Started:
        """Start a run of a flow in one of the processes.

        Args:
            flow: One of the scenario's flows.
            *args: Its arguments.
            **kwargs: Its keyword arguments.

        Raises:
            ValueError: The scenario does not name the flow.
        """
        if flow not in self.flows:
            raise ValueError(f"Name {flow!r} among the `flows` of the scenario: its processes must know it.")
        started = Started(self, flow, flow._binder.bind(args, kwargs))
        await started.begin()
        self._started.append(started)
        fault = self.plan.take(FaultKind.CANCEL, self.plan.count("started"))
        if fault is not None:
            self.tasks.start_soon(self._cancel, started, fault.seconds)
        return started

    async def run(self, flow: Any, *args: Any, **kwargs: Any) -> State[Any]:
        """Start a run of a flow and wait until it has ended, whatever happens to its process.

        Args:
            flow: One of the scenario's flows.
            *args: Its arguments.
            **kwargs: Its keyword arguments.

        Returns:
            Its final state.
        """
        return await (await self.start(flow, *args, **kwargs)).wait()

    def stir(self) -> None:
        """Let those look again who wait for something to change."""
        changed, self.changed = self.changed, anyio.Event()
        changed.set()

    def state_of(self, run_id: UUID) -> State[Any]:
        """Give the newest state of a run as the history has it."""
        reader = self.history.blocking_reader()
        record = next(one for one in self.history.records() if one.id == run_id)
        state = decode.flow_run(record, step(reader.read_states_of([run_id]))).state
        assert state is not None
        return state

    async def _cancel(self, started: Started, seconds: float) -> None:
        await anyio.sleep(seconds)
        try:
            await acancel_flow_run(started.id)
        except CallsheetError:  # it is not on record, or its engine does not answer
            pass

    async def play(self) -> None:
        """Play the scenario to its end."""
        async with anyio.create_task_group() as tasks:
            self.tasks = tasks
            with anyio.move_on_after(self.scenario.seconds) as limit:
                try:
                    await self._acts()
                except Exception as error:
                    self.error = error
            if limit.cancelled_caught:
                self.error = TimeoutError(f"it did not end within {self.scenario.seconds:g} s of its clock")
            self.elapsed = stage.elapsed()
            tasks.cancel_scope.cancel()

    async def _acts(self) -> None:
        async with _opened(observer(self)), anyio.create_task_group() as lives:
            for process in self.processes:
                lives.start_soon(process.live)
            try:
                await self.scenario.body(self)
                for started in self._started:
                    await started.wait()
            except BaseException:
                lives.cancel_scope.cancel()
                raise
            for process in self.processes:
                process.end()


def simulate(
    scenario: Scenario | Callable[[Simulation], Awaitable[object]],
    *,
    seed: int = 0,
    faults: Faults | Iterable[Fault] | None = None,
) -> Simulated:
    """Play a scenario in a simulated world whose every order and chance follows from a seed, and judge its history.

    All processes of it are in one event loop of trio. Time is virtual, the history is in memory, threads are tasks.
    Nothing else may run in the process meanwhile, and runs write no logs.

    Args:
        scenario: What is played: made by `scenario`, or an async function where no flow outlives its process.
        seed: What everything follows from.
        faults: How much goes wrong, or what exactly. Default: as the scenario says.

    Returns:
        What it came to.

    Raises:
        SimulationFailed: The scenario raised or did not end, or its history breaks a promise (see `check_history`). The
            message has the command that repeats it.
        RuntimeError: An event loop or another simulation runs here.
    """
    played = scenario if isinstance(scenario, Scenario) else Scenario(scenario)
    faults = played.faults if faults is None else faults
    plan = faults.draw(seed) if isinstance(faults, Faults) else tuple(faults)
    settings: dict[Setting[Any] | str, Any] = {
        "CALLSHEET_DURABILITY": played.durability,
        "CALLSHEET_LEASE_SECONDS": str(played.lease_seconds),
        "CALLSHEET_DATABASE": ":memory:",
    }
    with temporary_settings(settings), _silence():
        try:
            simulation, findings, text = stage.perform(lambda: _play(played, seed, plan), seed, _STEPS)
        except stage.TooLong as error:
            raise SimulationFailed(played, seed, plan, str(error)) from None
    if simulation.error is not None:
        error = _innermost(simulation.error)
        why = f"{type(error).__name__}: {error}"
        raise SimulationFailed(played, seed, plan, why, *findings) from error
    if findings:
        raise SimulationFailed(played, seed, plan, "its history breaks promises", *findings)
    return Simulated(seed=seed, faults=tuple(simulation.plan.happened), elapsed=simulation.elapsed, history=text)


@asynccontextmanager
async def _opened(engine: Engine) -> AsyncGenerator[None, None]:
    """Open an engine; at its end a slow disk may keep it from writing down that it takes its letters back."""
    await engine.__aenter__()
    try:
        yield
    finally:
        with suppress(StoreError):
            await engine.__aexit__()


def _innermost(error: BaseException) -> BaseException:
    """Give what a task group has wrapped."""
    while isinstance(error, BaseExceptionGroup):
        error = cast("BaseException", error.exceptions[0])
    return error


async def _play(played: Scenario, seed: int, plan: tuple[Fault, ...]) -> tuple[Simulation, list[Finding], str]:
    simulation = Simulation(played, seed, plan)
    try:
        await simulation.play()
    finally:
        for core in simulation.cores:  # of processes that have died: nobody closes those
            core.closed, core.lost = True, False
            core.orchestrator.mailbox.close()
        forget_dead()
    return simulation, check_store(simulation.history, simulation.acknowledged), _written(simulation.history)


def _written(store: Store) -> str:
    """Write a history down, run by run."""
    history = all_of(store)
    lines = (
        msgspec.json.encode([run, history.of(run.id), history.outcomes.get(run.id, ())], order="deterministic").decode()
        for run in history.runs.values()
    )
    return "\n".join(lines)


@contextmanager
def _silence() -> Generator[None, None, None]:
    logger = logging.getLogger("callsheet")
    before = logger.level
    logger.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        logger.setLevel(before)
