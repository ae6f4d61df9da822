"""Simulations: a scenario under a seed, what goes wrong in it, and the judgement over its history."""

from __future__ import annotations

import hashlib
import logging
import random
from collections.abc import Awaitable, Callable, Generator, Iterable
from contextlib import contextmanager
from typing import Any, Final, cast
from uuid import UUID

import msgspec

from callsheet._model.states import State
from callsheet._store.protocol import Store
from callsheet.exceptions import CallsheetError
from callsheet.settings import Setting, temporary_settings
from callsheet.testing import stage
from callsheet.testing.faults import Fault, Faults
from callsheet.testing.findings import Finding
from callsheet.testing.histories import all_of, check_store
from callsheet.testing.scenarios import Scenario
from callsheet.testing.shared import ProcessDied
from callsheet.testing.world import RunInWorld, World

__all__ = ["Simulated", "Simulation", "SimulationFailed", "Started", "simulate"]

_STEPS: Final = 500_000
_OF_THE_ENGINE: Final = ("callsheet.engine", "callsheet.journal")


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
    """A run that was started in a simulation."""

    def __init__(self, run: RunInWorld) -> None:
        self._run = run

    @property
    def id(self) -> UUID:
        """Give its id. Where its process died before anything of it was on record, it is started again, with another id."""
        return self._run.id

    @property
    def times(self) -> int:
        """Tell how often it was started. What was done in those that are not on record is done all the same."""
        return self._run.times

    async def wait(self) -> State[Any]:
        """Wait until it has ended, in whatever process.

        Returns:
            Its state: that of its caller, or, where that one's process died, as the history has it.
        """
        return await self._run.wait()


class Simulation:
    """What a scenario is given: processes in which it starts flows, and randomness of its own. Made by `simulate`.

    The scenario itself runs in a process that does not die. What else the package offers works there as in a program:
    it cancels, pauses and resumes runs of the other processes, and may call flows and tasks itself. `anyio.sleep` and
    `anyio.current_time` go by the clock of the simulation.

    Attributes:
        seed: The seed.
        random: Follows from the seed, for choices of the scenario.
    """

    def __init__(self, world: World) -> None:
        self._world = world
        self.seed = world.seed
        self.random = random.Random(f"scenario of {world.seed}")

    async def start(self, flow: Any, *args: Any, **kwargs: Any) -> Started:
        """Start a run of a flow in one of the processes.

        Args:
            flow: One of the scenario's flows.
            *args: Its arguments.
            **kwargs: Its keyword arguments.

        Returns:
            The run, to be waited for. The simulation waits for it in any case before it ends.

        Raises:
            ValueError: The scenario does not name the flow.
        """
        if flow not in self._world.flows:
            raise ValueError(f"Name {flow!r} among the `flows` of the scenario: its processes must know it.")
        return Started(await self._world.start(flow, flow._binder.bind(args, kwargs), self.random))

    async def run(self, flow: Any, *args: Any, **kwargs: Any) -> State[Any]:
        """Start a run of a flow and wait until it has ended, whatever happens to its process.

        Args:
            flow: One of the scenario's flows.
            *args: Its arguments.
            **kwargs: Its keyword arguments.

        Returns:
            Its final state.

        Raises:
            ValueError: The scenario does not name the flow.
        """
        return await (await self.start(flow, *args, **kwargs)).wait()


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
    with temporary_settings(settings), _listening() as heard:
        try:
            world, findings, text = stage.perform(lambda: _play(played, seed, plan), seed, _STEPS)
        except stage.TooLong as error:
            raise SimulationFailed(played, seed, plan, str(error)) from None
    if world.error is not None:
        error = _innermost(world.error)
        why = f"{type(error).__name__}: {error}"
        raise SimulationFailed(played, seed, plan, why, *findings) from error
    if heard:
        said, error = heard[0]
        why = f"the engine had to log an error: {said}" + (f": {error!r}" if error else "")
        raise SimulationFailed(played, seed, plan, why, *findings) from error
    if findings:
        raise SimulationFailed(played, seed, plan, "its history breaks promises", *findings)
    return Simulated(seed=seed, faults=tuple(world.plan.happened), elapsed=world.elapsed, history=text)


def _innermost(error: BaseException) -> BaseException:
    """Give what a task group has wrapped."""
    while isinstance(error, BaseExceptionGroup):
        error = cast("BaseException", error.exceptions[0])
    return error


async def _play(played: Scenario, seed: int, plan: tuple[Fault, ...]) -> tuple[World, list[Finding], str]:
    world = World(played, seed, plan)
    await world.play(lambda: played.body(Simulation(world)))
    return world, check_store(world.history, world.acknowledged), _written(world.history)


def _written(store: Store) -> str:
    """Write a history down, run by run."""
    history = all_of(store)
    lines = (
        msgspec.json.encode([run, history.of(run.id), history.outcomes.get(run.id, ())], order="deterministic").decode()
        for run in history.runs.values()
    )
    return "\n".join(lines)


class _Ear(logging.Handler):
    """Hears what the engine has to say of itself: whatever it could not do, and nobody is told of."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.heard: list[tuple[str, BaseException | None]] = []

    def emit(self, record: logging.LogRecord) -> None:
        error = record.exc_info[1] if record.exc_info else None
        if record.name in _OF_THE_ENGINE and not isinstance(error, ProcessDied):
            self.heard.append((record.getMessage(), error))


@contextmanager
def _listening() -> Generator[list[tuple[str, BaseException | None]], None, None]:
    """Keep log records from everybody else, and give the engine's own errors."""
    logger, ear = logging.getLogger("callsheet"), _Ear()
    level, handlers, propagate = logger.level, logger.handlers, logger.propagate
    logger.setLevel(logging.ERROR)
    logger.handlers, logger.propagate = [ear], False
    try:
        yield ear.heard
    finally:
        logger.handlers, logger.propagate = handlers, propagate
        logger.setLevel(level)
