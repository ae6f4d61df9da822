"""Where a simulation takes place: one event loop whose order follows a seed, its clock, and threads that are its tasks.

The schedule is that of trio, which can be asked for a repeatable one (for its own tests, so by private names: a test of
ours holds them). Nothing moves its clock but that everybody waits. What the engine does on threads it does here on tasks
of the loop, on a stack of their own, so that their waits are waits of the loop.
"""

from __future__ import annotations

import gc
import logging
import random
import sys
import threading
from collections.abc import Awaitable, Callable, Generator
from contextlib import ExitStack, contextmanager
from contextvars import Context
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast

import anyio
import trio

from callsheet import _ids
from callsheet._clock import Machine, machine
from callsheet._kernel import driver
from callsheet._kernel.host import here, is_in_simulated_thread, runtime_thread, simulated_threads
from callsheet._kernel.spawning import Threads, threads

if TYPE_CHECKING:
    from trio.testing import MockClock

T = TypeVar("T")
_START: Final = datetime(2026, 1, 1, tzinfo=UTC)
_UPTIME: Final = 1_000.0  # seconds for which the machine has been up
_LOG: Final = logging.getLogger("callsheet.engine")
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
    from trio.testing import MockClock  # which imports pytest, where that is installed

    clock, steps = MockClock(autojump_threshold=0), _Steps(most_steps)

    async def main() -> T:
        runtime_thread.lend(here())
        try:
            with steps.scope:
                return await play()
            raise TooLong(f"it was stopped after {most_steps} steps, at {clock.current_time():g} s of its clock")
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
def _on_clock(clock: MockClock) -> Generator[None, None, None]:
    def now() -> datetime:
        return _START + timedelta(seconds=clock.current_time())

    def time_ns() -> int:
        return (now() - _START) // timedelta(microseconds=1) * 1_000 + int(_START.timestamp()) * 1_000_000_000

    def sleep(seconds: float) -> None:
        if is_in_simulated_thread():
            driver.wait(trio.sleep(seconds))  # noqa: ASYNC105 - the driver awaits it
        else:
            clock.jump(seconds)  # whoever blocks the loop's thread keeps everybody waiting

    machine.monotonic, machine.time_ns = lambda: _UPTIME + clock.current_time(), time_ns
    machine.now, machine.sleep = now, sleep
    try:
        yield
    finally:
        _give_back(machine, Machine())


@contextmanager
def _without_threads() -> Generator[None, None, None]:
    threads.start, threads.flag, threads.bell, threads.body = SimulatedThread.begin, Flag, Bell, Body
    threads.lock = Lock
    threads.simulated = True
    try:
        yield
    finally:
        _give_back(threads, Threads())
        simulated_threads.clear()


def _give_back(place: object, fresh: object) -> None:
    for name in cast("tuple[str, ...]", getattr(type(place), "__slots__")):  # noqa: B009
        setattr(place, name, getattr(fresh, name))


# ------------------------------------------------------------------------------------------------------- threads


class SimulatedThread:
    """A thread that is a task."""

    def __init__(self, work: Callable[[], None]) -> None:
        self._work = work
        self._task: object = None
        self._ended = Flag()

    @classmethod
    def begin(cls, work: Callable[[], None], name: str) -> SimulatedThread:
        """Start one."""
        thread = cls(work)
        thread._task = trio.lowlevel.spawn_system_task(thread._live, name=name, context=Context())
        return thread

    async def _live(self) -> None:
        task = trio.lowlevel.current_task()
        simulated_threads.add(task)
        try:
            await driver.driven(self._called())
        except Exception:
            _LOG.exception("The thread %s failed", task.name)
        finally:
            simulated_threads.discard(task)
            self._ended.set()

    async def _called(self) -> None:
        self._work()

    def is_alive(self) -> bool:
        """Tell whether it has not ended."""
        return not self._ended.is_set()

    def is_here(self) -> bool:
        """Tell whether the caller runs in it."""
        return trio.lowlevel.in_trio_task() and trio.lowlevel.current_task() is self._task

    def join(self, timeout: float | None) -> None:
        """Wait until it has ended."""
        self._ended.wait(timeout)


class Flag:
    """What simulated threads wait for."""

    def __init__(self) -> None:
        self._is_set = False
        self._waiting: dict[trio.Event, None] = {}

    def is_set(self) -> bool:
        """Tell whether it is set."""
        return self._is_set

    def set(self) -> None:
        """Set it, and let everybody go on who waits."""
        self._is_set = True
        for event in self._waiting:
            event.set()

    def clear(self) -> None:
        """Take it back."""
        self._is_set = False

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until it is set, for so many seconds at most; tell whether it is."""
        if not self._is_set:
            driver.wait(self._wait(timeout))
        return self._is_set

    async def _wait(self, timeout: float | None) -> None:
        event = trio.Event()
        self._waiting[event] = None
        try:
            with trio.move_on_after(float("inf") if timeout is None else max(0.0, timeout)):
                await event.wait()
        finally:
            del self._waiting[event]


class Lock:
    """A lock under which simulated threads wait."""

    def __init__(self) -> None:
        self._is_held = False
        self._freed = Flag()

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        """Take it, or tell that it was not to be had in time."""
        until = None if timeout < 0 else machine.monotonic() + timeout
        while self._is_held:
            rest = None if until is None else until - machine.monotonic()
            if not blocking or (rest is not None and rest <= 0):
                return False
            self._freed.clear()
            self._freed.wait(rest)
        self._is_held = True
        return True

    def release(self) -> None:
        """Give it back."""
        self._is_held = False
        self._freed.set()

    def __enter__(self) -> bool:
        return self.acquire()

    def __exit__(self, *_: object) -> None:
        self.release()


class Bell:
    """What one simulated thread sleeps by."""

    def __init__(self, gate: threading.Lock) -> None:
        self.gate = gate
        self._rung = Flag()

    def ring(self) -> None:
        """Wake the sleeper, or let its next sleep end at once."""
        self._rung.set()

    def sleep(self, seconds: float | None) -> None:
        """Sleep until it rings, at most so many seconds."""
        self._rung.wait(seconds)
        self._rung.clear()


class Body:
    """One call of a body on a simulated thread. Nothing interrupts it; what it returns too late is discarded."""

    def __init__(self) -> None:
        self.interrupted = False

    def call(self, fn: Callable[[], Any], /) -> Any:
        """Call it."""
        return fn()

    def interrupt(self, exc_type: type[BaseException]) -> bool:  # noqa: ARG002
        """Note that nobody waits for it any more."""
        self.interrupted = True
        return False
