"""The one source of time: wall clock in UTC and a monotonic clock, both replaceable in tests."""

from __future__ import annotations

import time
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


class SystemClock:
    """The clocks of the operating system."""

    __slots__ = ()

    def now(self) -> datetime:
        """Give the time of day in UTC, with its time zone."""
        return datetime.now(UTC)

    def micros(self) -> int:
        """Give the time of day as microseconds since the epoch."""
        return time.time_ns() // 1_000

    def monotonic(self) -> float:
        """Give seconds of a clock that never jumps back."""
        return time.monotonic()


SYSTEM_CLOCK = SystemClock()


def utc_now() -> datetime:
    """Give the time of day in UTC, for objects that users make outside an engine."""
    return datetime.now(UTC)


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
