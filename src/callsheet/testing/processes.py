"""The processes of a simulation: each an engine with a store of its own, which may die and is started again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

import anyio

from callsheet._clock import machine
from callsheet._engine import ambient
from callsheet._engine.engine import Engine
from callsheet._engine.flow_run import FlowRunActor
from callsheet._engine.invoke import call_root, new_run
from callsheet._kernel.driver import driven
from callsheet._kernel.host import here
from callsheet._kernel.ports import LoopPort
from callsheet._kernel.signals import Once
from callsheet._kernel.spawning import threads
from callsheet._model.kinds import Durability
from callsheet.context import EngineContext
from callsheet.exceptions import CallsheetError, LostOwnership, StoreUnavailable
from callsheet.testing.faults import FaultKind
from callsheet.testing.shared import DiskFault, ProcessDied, SharedStore

if TYPE_CHECKING:
    from callsheet._engine.core import Core
    from callsheet.settings import Settings
    from callsheet.testing.world import World

_K: Final = FaultKind
_DOWN: Final = 0.5  # seconds until a process that has died is started again


class SimulatedError(CallsheetError):
    """Raised by bodies of tasks in a simulation, as one of its faults."""


class ProcessEngine(Engine):
    """The engine of one life of a process."""

    def __init__(self, world: World, *, recover: bool) -> None:
        super().__init__(":memory:", flows=world.flows if recover else (), drain_seconds=60.0)
        self._world = world
        self._stores: list[SharedStore] = []
        self.is_dead = False
        self.died = anyio.Event()

    def _opened(self, settings: Settings) -> Core:
        store = SharedStore(self._world.history, self._world.plan, self.crash)
        core = ambient.open_core(settings, store)
        core.beset = self._beset
        self._world.cores.append(core)
        self._stores.append(store)
        return core

    def _replace(self, core: Core) -> None:
        if not self.is_dead:
            super()._replace(core)

    def crash(self) -> bool:
        """End this life at once, where it can die: nothing of it is written any more, and its bodies are made to leave unheard."""
        if not self._recovers:
            return False  # whoever plays the scenario lives on
        if self.is_dead:
            return True
        self.is_dead = True
        for store in self._stores:
            store.is_dead = True
        core, self._core = self._core, None
        if core is not None:
            ambient.closed(self, core)
            core.journal.abandon(ProcessDied())
        self.died.set()
        return True

    def was_slow_since(self, moment: float) -> bool:
        """Tell whether a slow commit of its own was under way at any time since then."""
        return any(store.slow_until > moment for store in self._stores)

    def _beset(self, run: Any, *, before: bool) -> None:
        plan = self._world.plan
        number = plan.count("begun") if before else plan.count("done")
        if plan.take(_K.CRASH_BEFORE_TASK if before else _K.CRASH_AFTER_TASK, number) and self.crash():
            raise ProcessDied
        if plan.take(_K.TASK_FAILS if before else _K.TASK_FAILS_LATE, number):
            raise SimulatedError(f"A simulated fault of the task {run.definition.name!r}")


def observer(world: World) -> ProcessEngine:
    """Give the engine of the process in which the scenario itself runs."""
    return ProcessEngine(world, recover=False)


async def closed(engine: ProcessEngine) -> None:
    """Close an engine. It may fail where a fault keeps it from writing in time, and where it dies meanwhile."""
    began = machine.monotonic()
    try:
        await engine.__aexit__()
    except StoreUnavailable:
        if not engine.was_slow_since(began):
            raise
    except LostOwnership:
        if not engine.is_dead:
            raise


class Process:
    """One process of a simulation, over all its lives."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._engine: ProcessEngine | None = None
        self._up = anyio.Event()
        self._ending = anyio.Event()

    async def live(self) -> None:
        """Live until the end of the simulation."""
        while not self._ending.is_set():
            engine = ProcessEngine(self._world, recover=True)
            try:
                await engine.__aenter__()
            except (DiskFault, ProcessDied):
                await anyio.sleep(_DOWN)  # it did not get as far as that, and tries again
                continue
            self._engine = engine
            self._up.set()
            await _first_of(engine.died, self._ending)
            self._up = anyio.Event()
            if not engine.is_dead:
                await closed(engine)
                return
            await anyio.sleep(_DOWN)

    def end(self) -> None:
        """Let it end in order."""
        self._ending.set()

    async def start(self, flow: Any, parameters: dict[str, Any]) -> tuple[UUID, Once, FlowRunActor]:
        """Start a run of a flow in this process; give its id, and when its caller there has heard of its end."""
        while self._engine is None or self._engine.is_dead or self._engine.core.lost:
            await _first_of(self._up, self._ending) if self._engine is None else await anyio.sleep(_DOWN)
        done = Once()
        with EngineContext(engine=self._engine):
            run = new_run(FlowRunActor, flow, parameters, None, here(), None, start=True)
            self._world.call(_lived if flow.isasync else _called, run, flow, done)
        return run.cell.id, done, run


async def _lived(run: FlowRunActor, flow: Any, done: Once) -> None:
    """Await a run, as a caller does who asks for its state."""
    del flow
    try:
        await driven(run.live(LoopPort(here())))
    except BaseException as error:
        if not _is_told(run, error):
            raise
    finally:
        done.set()


async def _called(run: FlowRunActor, flow: Any, done: Once) -> None:
    """Call a sync flow, on a thread."""

    def call() -> None:
        try:
            call_root(FlowRunActor, flow, {}, None, return_state=True, registered=run)
        except BaseException as error:
            if not _is_told(run, error):
                raise
        finally:
            done.set()

    threads.start(call, "callsheet-caller")


def _is_told(run: FlowRunActor, error: BaseException) -> bool:
    """Tell whether an error is what the caller of a run hears of its end, such as a cancellation."""
    return run.final is not None and run.final.reraise is error


def was_told(run: FlowRunActor) -> bool:
    """Tell whether the caller of a run has been told of an end that was promised to be on record."""
    return (
        run.final is not None
        and not run.core.journal.is_lost
        and run.core.journal.failure is None
        and run.core.durability in (Durability.RESULTS, Durability.STRICT)
    )


async def _first_of(*events: anyio.Event) -> None:
    async with anyio.create_task_group() as tasks:

        async def wait(event: anyio.Event) -> None:
            await event.wait()
            tasks.cancel_scope.cancel()

        for event in events:
            tasks.start_soon(wait, event)
