"""Virtual time: a clock that jumps to the next timer when nothing is left to do, and stands still while a thread works.

An event loop that jumps (see `virtual_loops`) tells this clock its time and asks it, before each jump, whether it
`is_held`. Every thread hop of ours holds it from the moment at which the hop begins. A thread that itself waits for time,
by a port, is parked: it holds nothing until whoever wakes it has it hold again, before it runs.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from contextvars import Context, copy_context
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Final, Self

from anyio import move_on_after

from callsheet._clock import from_micros, keep
from callsheet._kernel.signals import Once
from callsheet.exceptions import BlockingWaitError

if TYPE_CHECKING:
    from callsheet._kernel.host import Host


class VirtualClock:
    """The time of one event loop that jumps. Usable from any thread once the loop is known.

    Args:
        start: microseconds since the epoch at which it begins.
    """

    is_virtual = True

    def __init__(self, start: int) -> None:
        self._start = start
        self._zero = 0.0
        self._seconds: Callable[[], float] = float
        self._guests: Callable[[], int] = int
        self._is_guest: Callable[[], bool] = bool
        self._host: Host | None = None
        self._lock = threading.Lock()
        self._holds = 0

    @property
    def host(self) -> Host | None:
        """Give the event loop that jumps, once it is known."""
        return self._host

    def follow(
        self, host: Host, seconds: Callable[[], float], guests: Callable[[], int], is_guest: Callable[[], bool]
    ) -> None:
        """Tell the time of a loop from now on.

        Args:
            host: The loop.
            seconds: Gives its time.
            guests: Counts threads at work that are not ours but the loop's own.
            is_guest: Tells whether the calling thread is one of those.
        """
        self._start, self._zero = self.micros(), seconds()
        self._host, self._seconds, self._guests, self._is_guest = host, seconds, guests, is_guest

    # -------------------------------------------------------------------------------------- the time

    def now(self) -> datetime:
        """Give the time of day in UTC."""
        return from_micros(self.micros())

    def micros(self) -> int:
        """Give the time of day as microseconds since the epoch."""
        return self._start + round((self._seconds() - self._zero) * 1e6)

    def monotonic(self) -> float:
        """Give the seconds of the loop."""
        return self._seconds()

    # ------------------------------------------------------------------------------------- holding it

    @property
    def is_held(self) -> bool:
        """Tell, in the loop's thread, whether anything is under way that takes real time."""
        # A guest that is parked is counted as being at work, and has taken back a hold that it never had. What was posted
        # is looked at last: several threads share a wake-up of the loop, and one may have posted for another's.
        return self._holds + self._guests() > 0 or (self._host is not None and bool(self._host.posts.calls))

    def hold(self) -> None:
        """Let it stand still until as many calls of `release`. Any thread."""
        with self._lock:
            self._holds += 1

    def release(self) -> None:
        """Take one hold back. What was to reach the loop has been posted before."""
        with self._lock:
            self._holds -= 1
        if self._host is not None:
            self._host.post(_nothing)  # it may be asleep, and have to look again whether it may jump

    @contextmanager
    def holding(self) -> Generator[None, None, None]:
        """Give a context in which it stands still."""
        self.hold()
        try:
            yield
        finally:
            self.release()

    def held(self, callback: Callable[[], object]) -> Callable[[], None]:
        """Let it stand still until the callback, which is called once, has been called."""
        self.hold()

        def call() -> None:
            try:
                callback()
            finally:
                self.release()

        return call

    # ---------------------------------------------------------------------------------------- threads

    def hop(self, job: Callable[[], None], start: Callable[[Callable[[], None]], object]) -> None:
        """Have `start` begin a job on a thread, and hold until it has ended."""
        self.hold()
        try:
            start(self._carried(job))
        except BaseException:
            self.release()
            raise

    @contextmanager
    def carrying(self) -> Generator[None, None, None]:
        """Give a context in which the calling thread works in this time; a hold is had for it."""
        outer, _here.clock = _here.clock, self
        try:
            with keep(self):
                yield
        finally:
            _here.clock = outer

    def _carried(self, job: Callable[[], None]) -> Callable[[], None]:
        def run() -> None:
            try:
                with self.carrying():
                    job()
            finally:
                self.release()

        return run

    def parking(self, timeout: float | None) -> Parking:
        """Give a wait of the calling thread, which lets time go on meanwhile.

        Raises:
            BlockingWaitError: It would block the loop that keeps the time, so it could never end.
        """
        if timeout is not None and self._host is not None and self._host.is_here():
            raise BlockingWaitError(
                "This wait for time blocks the event loop that keeps virtual time, so it could never end. Sync code that "
                "waits is called by a flow or task, on a thread, or by `await callsheet.drive(helper())`."
            )
        return Parking(self, self._host, timeout, counts=_here.clock is self or self._is_guest())


class _Here(threading.local):
    clock: VirtualClock | None = None  # that stands still for the job of this thread


_here: Final = _Here()


class Parking:
    """One wait of a thread in virtual time: a context, in which `event` is waited for and others call `wake`."""

    def __init__(self, clock: VirtualClock, host: Host | None, timeout: float | None, *, counts: bool) -> None:
        self.event = threading.Event()
        self._clock = clock
        self._host = host
        self._timeout = timeout
        self._counts = counts
        self._lock = threading.Lock()
        self._is_parked = False
        self._woken = Once()
        self._ringer: object = None

    def wake(self) -> None:
        """End the wait, from any thread; time stands still for the woken thread before it runs."""
        with self._lock:
            if self._is_parked:
                self._is_parked = False
                self._clock.hold()
            self.event.set()
        self._woken.set()

    def __enter__(self) -> Self:
        if self._timeout is not None and self._host is not None:
            self._host.post(partial(self._keep_time, self._host, self._timeout, copy_context()))
        with self._lock:
            leaves = self._is_parked = self._counts and not self.event.is_set()
        if leaves:
            self._clock.release()
        return self

    def __exit__(self, *_: object) -> None:
        self.wake()  # an interruption may have ended the wait; and nobody needs to keep the time for it

    def _keep_time(self, host: Host, seconds: float, context: Context) -> None:
        self._ringer = host.spawn(partial(self._ring, host, seconds), context)

    async def _ring(self, host: Host, seconds: float) -> None:
        event = host.new_event()
        self._woken.subscribe(lambda: host.post(event.set))
        with move_on_after(seconds):
            await event.wait()
        self.wake()


def _nothing() -> None:
    pass
