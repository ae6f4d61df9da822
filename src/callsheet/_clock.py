"""The one source of time: wall clock in UTC and a monotonic clock, both replaceable in tests.

What users see (delays, deadlines, time stamps, expiry) is told by the clock that is kept in the context: the system's, or
a virtual one. What concerns other processes and the disk (leases, journals, locks of files) is told by the system's.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import Context, ContextVar
from datetime import UTC, datetime
from threading import Event
from typing import Any, Protocol, Self, cast


class Clock(Protocol):
    """What the engine asks for the time."""

    @property
    def is_virtual(self) -> bool:
        """Tell whether time is that of an event loop that jumps, so that nobody else can set it."""
        ...

    def now(self) -> datetime:
        """Give the time of day in UTC, with its time zone."""
        ...

    def micros(self) -> int:
        """Give the time of day as microseconds since the epoch."""
        ...

    def monotonic(self) -> float:
        """Give seconds of a clock that never jumps back."""
        ...


class Machine:
    """The clock of the machine that everything here runs on, and sleeping by it.

    A simulation, which has the whole process, puts its own functions in the place of these, so they are always called by
    way of `machine`. Virtual time, which has one context, cannot: it leaves the machine to journals, leases and locks.
    """

    __slots__ = ("monotonic", "now", "sleep", "time_ns")
    is_virtual = False

    def __init__(self) -> None:
        self.monotonic: Callable[[], float] = time.monotonic
        self.time_ns: Callable[[], int] = time.time_ns
        self.now: Callable[[], datetime] = _now
        self.sleep: Callable[[float], None] = time.sleep

    def micros(self) -> int:
        """Give the time of day as microseconds since the epoch."""
        time_ns = self.time_ns
        return time_ns() // 1_000


def _now() -> datetime:
    return datetime.now(UTC)


machine = Machine()
SYSTEM_CLOCK = cast("Clock", machine)  # type checkers take a function that is an attribute for no method


class Virtual(Clock, Protocol):
    """A clock that jumps to the next timer when nothing is left to do. It stands still while it is held."""

    @property
    def host(self) -> Any:
        """Give the event loop that jumps, as a host."""
        ...

    def holding(self) -> AbstractContextManager[None]:
        """Give a context in which it stands still, whatever waits in it."""
        ...

    def hop(self, job: Callable[[], None], start: Callable[[Callable[[], None]], object]) -> None:
        """Have `start` begin a job on a thread; the clock stands still until it has ended, or waits for time itself."""
        ...

    def held(self, callback: Callable[[], object]) -> Callable[[], None]:
        """Let the clock stand still until the callback, which is called once, has been called."""
        ...

    def parking(self, timeout: float | None) -> Parking:
        """Give a wait of the calling thread, which lets time go on meanwhile."""
        ...


class Parking(Protocol):
    """One wait of a thread in virtual time: a context, in which `event` is waited for and others call `wake`."""

    event: Event

    def wake(self) -> None:
        """End the wait, from any thread."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(self, *_: object) -> None: ...


_kept: ContextVar[Virtual | None] = ContextVar("callsheet_clock", default=None)
_in_use = 0  # virtual clocks of this process: nothing else is looked at where there is none


@contextmanager
def keep(clock: Virtual) -> Generator[None, None, None]:
    """Have a virtual clock tell the time in this context."""
    global _in_use
    token = _kept.set(clock)
    _in_use += 1
    try:
        yield
    finally:
        _in_use -= 1
        _kept.reset(token)


def virtual_clock() -> Virtual | None:
    """Give the virtual clock of this context; `None` where time is the system's."""
    return _kept.get() if _in_use else None


def current_clock() -> Clock:
    """Give the clock of this context."""
    return virtual_clock() or SYSTEM_CLOCK


def bare_context(clock: Clock) -> Context:
    """Give a context that holds nothing but a clock, where that is a virtual one."""
    context = Context()
    if clock.is_virtual:
        context.run(_kept.set, cast("Virtual", clock))
    return context


def standing() -> AbstractContextManager[None]:
    """Give a context in which virtual time stands still: for waits whose end comes from a thread of somebody else."""
    clock = virtual_clock()
    return nullcontext() if clock is None else clock.holding()


def until_look(left: float | None, interval: float) -> float | None:
    """Give the seconds of a wait after which it is looked whether others have done something that was not heard of.

    In virtual time that is never: others do not live in it, and a clock that jumps would have every look made in a row.

    Args:
        left: Seconds until the wait is over; `None`: for ever.
        interval: Seconds between looks.
    """
    if virtual_clock() is not None:
        return left
    return interval if left is None else min(left, interval)


def between_looks(seconds: float) -> float:
    """Give the seconds that are waited so that looks do not follow each other too closely; none in virtual time."""
    return seconds if virtual_clock() is None else 0.0


def utc_now() -> datetime:
    """Give the time of day in UTC, for objects that users make outside an engine."""
    return current_clock().now() if _in_use else machine.now()


def monotonic() -> float:
    """Give seconds of a clock that never jumps back, for what users time."""
    return current_clock().monotonic() if _in_use else machine.monotonic()


def micros(moment: datetime) -> int:
    """Give microseconds since the epoch, the form in which stores keep time.

    Example:
        >>> micros(datetime(1970, 1, 1, 0, 0, 1, tzinfo=UTC))
        1000000
    """
    delta = moment - _EPOCH
    return (delta.days * 86_400 + delta.seconds) * 1_000_000 + delta.microseconds


def from_micros(value: int) -> datetime:
    """Give the UTC time of microseconds since the epoch.

    Example:
        >>> from_micros(1000000).isoformat()
        '1970-01-01T00:00:01+00:00'
    """
    seconds, rest = divmod(value, 1_000_000)
    return datetime.fromtimestamp(seconds, UTC).replace(microsecond=rest)


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
