"""Waiting for runs: which port, which scope, and a place in the runner that is lent out meanwhile."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, TypeVar

from callsheet._engine import circles
from callsheet._kernel.host import current_host
from callsheet._kernel.ports import LoopPort, wait_blocking
from callsheet._kernel.scopes import Interrupted
from callsheet._kernel.signals import Once
from callsheet.context import current_run
from callsheet.exceptions import BlockingWaitError

if TYPE_CHECKING:
    from callsheet._engine.run import Run
    from callsheet._kernel.host import Host
    from callsheet._kernel.ports import Port
    from callsheet._kernel.scopes import RunScope

T = TypeVar("T")


class Places:
    """The places of a bounded task runner: so many runs at once, the rest in order of arrival.

    A run that waits for another lends its place out, so that runs which submit and wait cannot fill every
    place and wait for ever for children that have none.
    """

    __slots__ = ("_free", "_lock", "_queue")

    def __init__(self, size: int) -> None:
        self._lock = threading.Lock()
        self._free = size
        self._queue: deque[Callable[[], object]] = deque()

    def take(self, start: Callable[[], object], *, first: bool = False) -> None:
        """Have `start` called as soon as there is a place: now, or by whoever gives one back."""
        with self._lock:
            if self._free > 0:
                self._free -= 1
            else:
                (self._queue.appendleft if first else self._queue.append)(start)
                return
        start()

    def give_back(self) -> None:
        """Give a place back; the next in line has it at once."""
        with self._lock:
            if not self._queue:
                self._free += 1
                return
            start = self._queue.popleft()
        start()


def _places_of(run: Run | None) -> Places | None:
    """Give the places of which the body that is executing here occupies one."""
    while run is not None:
        if run.places is not None:
            return run.places
        parent = run.cell.parent
        run = None if parent is None else parent.actor
    return None


def _scope_of(run: Run | None) -> RunScope | None:
    return None if run is None or run.cell.ended else run.scope


def scope_here() -> RunScope | None:
    """Give the scope of the run whose body is executing here."""
    return _scope_of(current_run.get())


def wait_once(once: Once, timeout: float | None = None) -> bool:
    """Block until a condition holds, at most `timeout` seconds; tell whether it does."""
    return _wait(once, timeout, None)


def wait_for_run(run: Run, timeout: float | None = None) -> bool:
    """Block until a run has ended, at most `timeout` seconds; tell whether it has.

    Raises:
        BlockingWaitError: The wait could never end.
    """
    ended = run.when_ended()
    if ended.is_set:
        return True
    if current_run.get() is run:
        raise BlockingWaitError("A run cannot wait for its own end.")
    return _wait(ended, timeout, run)


def _wait(once: Once, timeout: float | None, run: Run | None) -> bool:
    caller = current_run.get()
    home = run.home if run is not None and run.definition.isasync else None
    if once.is_set:
        return True
    if caller is None or run is None or timeout is not None or run.unsaved:  # then it only waits to be saved
        return _block(once, timeout, caller, home)
    held = circles.enter(caller, run)
    try:
        return _block(once, None, caller, home)
    finally:
        circles.leave(held, run)


def _block(once: Once, timeout: float | None, caller: Run | None, home: Host | None) -> bool:
    places = _places_of(caller)
    if places is None:
        return wait_blocking(once, timeout, _scope_of(caller), home)
    places.give_back()
    try:
        return wait_blocking(once, timeout, _scope_of(caller), home)
    finally:
        again = Once()
        places.take(again.set, first=True)
        wait_blocking(again, None, None, None)


async def wait_for_input(source: Run, run: Run, port: Port) -> None:
    """Wait, before a run's body, until a run has ended whose outcome goes into it.

    Raises:
        BlockingWaitError: That one waits for this one.
        Interrupted: The run must leave.
    """
    ended = source.when_ended()
    if ended.is_set:
        return
    if source.unsaved:  # nothing of it runs any more that could wait for anybody
        await wait_in_life(ended, run, port)
        return
    held = circles.enter(run, source)
    try:
        await wait_in_life(ended, run, port)
    finally:
        circles.leave(held, source)


def wait_in_life(once: Once, run: Run, port: Port, timeout: float | None = None) -> Awaitable[bool]:
    """Wait in a run's life, before or after its body, for runs that it depends on; tell whether they have ended.

    Raises:
        Interrupted: The run must leave.
    """
    return _waiting(_places_of(run), port, once, timeout, run.scope)


def _waiting(
    places: Places | None, port: Port, once: Once, timeout: float | None, scope: RunScope | None
) -> Awaitable[bool]:
    """Wait, and lend the waiting run's place to others meanwhile, if it has one."""
    if places is None:
        return port.wait(once, timeout, scope)
    return _lending(places, port, once, timeout, scope)


async def _lending(places: Places, port: Port, once: Once, timeout: float | None, scope: RunScope | None) -> bool:
    places.give_back()
    try:
        return await port.wait(once, timeout, scope)
    finally:
        again = Once()
        places.take(again.set, first=True)
        if not again.is_set:
            await port.shielded_wait(again)


async def lent(run: Run, port: Port, wait: Callable[[], Awaitable[T]]) -> T:
    """Wait in a run's body for what is no run, and lend its place to others meanwhile."""
    places = _places_of(run)
    if places is None:
        return await wait()
    places.give_back()
    try:
        return await wait()
    finally:
        again = Once()
        places.take(again.set, first=True)
        if not again.is_set:
            await port.shielded_wait(again)


async def await_once(once: Once, run: Run | None = None, timeout: float | None = None) -> bool:
    """Wait in async code for the same.

    Raises:
        BlockingWaitError: A run awaits its own end.
    """
    host = current_host()
    if host is None:
        raise RuntimeError("Futures are awaited in async code; call `.result()` in sync code.")
    caller = current_run.get()
    if run is not None and caller is run:
        raise BlockingWaitError("A run cannot wait for its own end.")
    scope = _scope_of(caller)
    if not once.is_set:
        return await _waiting(_places_of(caller), LoopPort(host), once, timeout, scope)
    if (others := host.due_checkpoint()) is not None:
        await others
    if scope is not None and scope.reason is not None:
        raise Interrupted
    return True
