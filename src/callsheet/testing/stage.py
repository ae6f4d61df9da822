"""Where a simulation takes place: one event loop whose order follows a seed, its clock, and threads that are its tasks.

The schedule is that of trio, which can be asked for a repeatable one (for its own tests, so by private names: a test of
ours holds them). Nothing moves its clock but that everybody waits. What the engine does on threads it does here on tasks
of the loop, on a stack of their own, so that their waits are waits of the loop.
"""

from __future__ import annotations

import gc
import random
import sys
import threading
from collections.abc import Awaitable, Callable, Generator
from contextlib import ExitStack, contextmanager
from typing import Any, TypeVar, cast

import anyio
import trio

from callsheet import _ids
from callsheet._clock import Machine, machine
from callsheet._kernel import driver
from callsheet._kernel.host import here, runtime_thread, simulated_threads
from callsheet._kernel.spawning import Threads, threads
from callsheet.testing import stage_threads
from callsheet.testing.stage_clock import StageClock

T = TypeVar("T")
_running = threading.Lock()


class TooLong(Exception):
    """Raised when a simulation takes too many steps: it goes round in circles."""


def perform(play: Callable[[], Awaitable[T]], seed: int, most_steps: int) -> T:
    """Run something to its end on an event loop of its own, in an order that follows from the seed.

    The whole process is in the simulation meanwhile: its clocks, ids, randomness and threads. Nothing else may run.

    Args:
        play: What is run.
        seed: What the order follows from.
        most_steps: Of its tasks; one that takes more is stopped.

    Raises:
        TooLong: It took more steps.
        RuntimeError: Another simulation is under way, or an event loop runs here.
        BaseException: What it raises.
    """
    if driver.current_backend_task() is not None:
        raise RuntimeError("A simulation has an event loop of its own; call `simulate` in sync code.")
    if not _running.acquire(blocking=False):
        raise RuntimeError("A simulation is under way in this process already; there can be one at a time.")
    clock, steps = StageClock(), _Steps(most_steps)

    async def main() -> T:
        runtime_thread.lend(here())
        try:
            with steps.scope:
                return await play()
            raise TooLong(f"it was stopped after {most_steps} steps, at {clock.seconds:g} s of its clock")
        finally:
            runtime_thread.lend(None)

    try:
        with ExitStack() as stack:
            stack.enter_context(_without_gc())
            stack.enter_context(_seeded(seed))
            stack.enter_context(_on_clock(clock))
            stack.enter_context(_without_threads())
            return anyio.run(main, backend="trio", backend_options={"clock": clock, "instruments": [steps]})
    finally:
        _running.release()


class _Steps(trio.abc.Instrument):
    """Counts the steps of all tasks, and stops a run that takes too many."""

    def __init__(self, most: int) -> None:
        self._left = most
        self.scope = trio.CancelScope()

    def before_task_step(self, task: trio.lowlevel.Task) -> None:  # noqa: ARG002
        self._left -= 1
        if self._left == 0:
            self.scope.cancel()


def elapsed() -> float:
    """Give the seconds that a simulation has taken so far, by its own clock."""
    return trio.current_time()


# ---------------------------------------------------------------------------------------------- what it replaces


@contextmanager
def _without_gc() -> Generator[None, None, None]:
    """Keep finalizers from running at moments that no seed decides."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


@contextmanager
def _seeded(seed: int) -> Generator[None, None, None]:
    run: Any = sys.modules["trio._core._run"]
    ours, theirs, deterministic = random.getstate(), run._r.getstate(), run._ALLOW_DETERMINISTIC_SCHEDULING
    run._ALLOW_DETERMINISTIC_SCHEDULING = True
    run._r.seed(seed)
    random.seed(seed)
    try:
        with _ids.repeatable(seed):
            yield
    finally:
        random.setstate(ours)
        run._r.setstate(theirs)
        run._ALLOW_DETERMINISTIC_SCHEDULING = deterministic


@contextmanager
def _on_clock(clock: StageClock) -> Generator[None, None, None]:
    machine.monotonic, machine.time_ns = clock.monotonic, clock.time_ns
    machine.now, machine.sleep = clock.now, stage_threads.sleep
    try:
        yield
    finally:
        _give_back(machine, Machine())


@contextmanager
def _without_threads() -> Generator[None, None, None]:
    threads.start, threads.body = stage_threads.SimulatedThread.begin, stage_threads.Body
    threads.flag, threads.bell, threads.lock = stage_threads.Flag, stage_threads.Bell, stage_threads.Lock
    threads.simulated = True
    try:
        yield
    finally:
        _give_back(threads, Threads())
        simulated_threads.clear()


def _give_back(place: object, fresh: object) -> None:
    for name in cast("tuple[str, ...]", getattr(type(place), "__slots__")):  # noqa: B009
        setattr(place, name, getattr(fresh, name))
