"""Threads that are tasks of a simulation's event loop, and what they wait for.

Each is on a stack of its own, so that its waits are waits of the loop. A wait costs one step of the loop: it is parked
with a time on the simulation's clock, and not under a cancel scope.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from contextvars import Context
from typing import Any, Final

import trio

from callsheet._clock import machine
from callsheet._kernel import driver
from callsheet._kernel.host import is_in_simulated_thread, simulated_threads
from callsheet.testing.stage_clock import Parked, current_clock

_LOG: Final = logging.getLogger("callsheet.engine")


def sleep(seconds: float) -> None:
    """Sleep in the calling code: a simulated thread lets others run, whoever blocks the loop's thread keeps everybody waiting."""
    clock = current_clock()
    if is_in_simulated_thread():
        driver.wait(clock.sleep(seconds))
    else:
        clock.jump(seconds)


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
        self._waiting: dict[Parked, None] = {}

    def is_set(self) -> bool:
        """Tell whether it is set."""
        return self._is_set

    def set(self) -> None:
        """Set it, and let everybody go on who waits."""
        self._is_set = True
        for parked in self._waiting:
            parked.end()

    def clear(self) -> None:
        """Take it back."""
        self._is_set = False

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until it is set, for so many seconds at most; tell whether it is."""
        if not self._is_set:
            driver.wait(self._wait(timeout))
        return self._is_set

    async def _wait(self, timeout: float | None) -> None:
        if timeout is not None and timeout <= 0:
            await trio.lowlevel.checkpoint()
            return
        parked = Parked(trio.lowlevel.current_task())
        self._waiting[parked] = None
        try:
            await current_clock().park(parked, timeout)
        finally:
            del self._waiting[parked]


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

    def sleep(self, seconds: float | None) -> bool:
        """Sleep until it rings, at most so many seconds; tell whether it has rung."""
        rung = self._rung.wait(seconds)
        self._rung.clear()
        return rung


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
