"""The one source of time: wall clock in UTC and a monotonic clock, both replaceable in tests."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Protocol


class Clock(Protocol):
    """What the engine asks for the time."""

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
    """The clocks of the machine that everything here runs on, and sleeping by them.

    A simulation puts its own in their place, for the whole process, so they are always called by way of `machine`.
    """

    __slots__ = ("monotonic", "now", "sleep", "time_ns")

    def __init__(self) -> None:
        self.monotonic: Callable[[], float] = time.monotonic
        self.time_ns: Callable[[], int] = time.time_ns
        self.now: Callable[[], datetime] = _now
        self.sleep: Callable[[float], None] = time.sleep


def _now() -> datetime:
    return datetime.now(UTC)


machine = Machine()


class SystemClock:
    """The clocks of the machine."""

    __slots__ = ()

    def now(self) -> datetime:
        """Give the time of day in UTC, with its time zone."""
        return machine.now()

    def micros(self) -> int:
        """Give the time of day as microseconds since the epoch."""
        return machine.time_ns() // 1_000

    def monotonic(self) -> float:
        """Give seconds of a clock that never jumps back."""
        return machine.monotonic()


SYSTEM_CLOCK = SystemClock()


def utc_now() -> datetime:
    """Give the time of day in UTC, for objects that users make outside an engine."""
    return machine.now()


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
