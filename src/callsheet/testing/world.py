"""The world of one simulation: processes on one history, what goes wrong, and whoever waits for something to change."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Iterable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any
from uuid import UUID

import anyio
from anyio.abc import TaskGroup

from callsheet._engine import decode
from callsheet._engine.ambient import forget_dead
from callsheet._engine.flow_run import FlowRunActor
from callsheet._kernel.ports import step
from callsheet._kernel.signals import Once
from callsheet._model.kinds import TERMINAL_STATES
from callsheet._model.states import State
from callsheet.exceptions import ObjectNotFound
from callsheet.flow_runs import acancel_flow_run
from callsheet.testing import stage
from callsheet.testing.faults import Fault, FaultKind, Plan
from callsheet.testing.processes import Process, closed, observer, was_told
from callsheet.testing.scenarios import Scenario
from callsheet.testing.shared import DiskFault, SharedHistory

if TYPE_CHECKING:
    from random import Random

    from callsheet._engine.core import Core


class RunInWorld:
    """A flow run that was started in one of the processes, over all the starts that it takes to get it on record."""

    id: UUID

    def __init__(self, world: World, flow: Any, parameters: dict[str, Any], chance: Random) -> None:
        self._world = world
        self._flow = flow
        self._parameters = parameters
        self._chance = chance
        self._run: FlowRunActor | None = None
        self._done = Once()
        self.times = 0

    async def begin(self) -> None:
        """Start it, in one of the processes."""
        process = self._chance.choice(self._world.processes)
        self.id, self._done, self._run = await process.start(self._flow, dict(self._parameters))
        self.times += 1
        self._done.subscribe(self._world.stir)

    async def wait(self) -> State[Any]:
        """Wait until it has ended, in whatever process, and give its state."""
        world = self._world
        while not (world.history.has_ended(self.id) and self._done.is_set):
            changed = world.changed
            if self._done.is_set and world.history.newest(self.id) is None:
                await self.begin()
            else:
                await changed.wait()
        run = self._run
        if run is not None and was_told(run) and run.state.type in TERMINAL_STATES:
            world.acknowledged[self.id] = run.state.type.value
            return run.state
        return world.state_of(self.id)


class World:
    """One simulation while it is played.

    Attributes:
        scenario: What is played.
        seed: What everything follows from.
        history: What all processes share.
        plan: What goes wrong.
        acknowledged: How runs have ended whose callers were told so, to be compared with the history.
        changed: Set, and replaced, whenever anything may have changed that somebody waits for.
        elapsed: Seconds that it took, when it is over.
        error: Why it did not end well.
    """

    def __init__(self, scenario: Scenario, seed: int, faults: Iterable[Fault]) -> None:
        self.scenario, self.seed, self.flows = scenario, seed, scenario.flows
        self.history, self.plan = SharedHistory(seed), Plan(faults)
        self.processes = [Process(self) for _ in range(scenario.processes)]
        self.acknowledged: dict[UUID, str] = {}
        self.cores: list[Core] = []
        self.changed = anyio.Event()
        self.elapsed = 0.0
        self.error: Exception | None = None
        self._callers: TaskGroup | None = None
        self._meddlers: TaskGroup | None = None
        self._started: list[RunInWorld] = []
        self.history.listeners.append(self.stir)

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

    def call(self, function: Callable[..., Coroutine[Any, Any, None]], *args: Any) -> None:
        """Call something as a task. What it raises ends the simulation."""
        assert self._callers is not None
        self._callers.start_soon(function, *args)

    async def start(self, flow: Any, parameters: dict[str, Any], chance: Random) -> RunInWorld:
        """Start a run in one of the processes; its cancellation may be among the faults."""
        started = RunInWorld(self, flow, parameters, chance)
        await started.begin()
        self._started.append(started)
        fault = self.plan.take(FaultKind.CANCEL, self.plan.count("started"))
        if fault is not None and self._meddlers is not None:
            self._meddlers.start_soon(self._cancel, started, fault.seconds)
        return started

    async def _cancel(self, started: RunInWorld, seconds: float) -> None:
        await anyio.sleep(seconds)
        run_id = started.id
        try:
            await acancel_flow_run(run_id)
        except DiskFault:
            pass
        except ObjectNotFound:
            if self.history.newest(run_id) is not None:
                raise

    # ------------------------------------------------------------------------------------------- playing

    async def play(self, body: Callable[[], Awaitable[object]]) -> None:
        """Play to the end, or until something goes wrong that is none of the faults."""
        try:
            async with anyio.create_task_group() as callers:
                self._callers = callers
                with anyio.move_on_after(self.scenario.seconds) as limit:
                    await self._act(body)
                self.elapsed = stage.elapsed()
                if limit.cancelled_caught:
                    raise TimeoutError(f"it did not end within {self.scenario.seconds:g} s of its clock")
                callers.cancel_scope.cancel()
        except Exception as error:
            self.error = error
        finally:
            self._bury()

    async def _act(self, body: Callable[[], Awaitable[object]]) -> None:
        async with self._observed(), anyio.create_task_group() as lives:
            for process in self.processes:
                lives.start_soon(process.live)
            try:
                async with anyio.create_task_group() as self._meddlers:
                    await body()
                    for started in self._started:
                        await started.wait()
                    self._meddlers.cancel_scope.cancel()
            except BaseException:
                lives.cancel_scope.cancel()
                raise
            for process in self.processes:
                process.end()

    @asynccontextmanager
    async def _observed(self) -> AsyncGenerator[None, None]:
        engine = observer(self)
        await engine.__aenter__()
        try:
            yield
        finally:
            await closed(engine)

    def _bury(self) -> None:
        """Let go of the engines of processes that have died: nobody closes those."""
        for core in self.cores:
            core.closed, core.lost = True, False
            core.orchestrator.mailbox.close()
        forget_dead()
