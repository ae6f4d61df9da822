"""What can go wrong in a simulation, and drawing it from a seed."""

from __future__ import annotations

import math
import random
from collections.abc import Iterable
from enum import Enum
from typing import Final

import msgspec

__all__ = ["Fault", "FaultKind", "Faults"]


class FaultKind(str, Enum):
    """What happens."""

    TASK_FAILS = "task_fails"
    TASK_FAILS_LATE = "task_fails_late"
    CANCEL = "cancel"
    CRASH_BEFORE_TASK = "crash_before_task"
    CRASH_AFTER_TASK = "crash_after_task"
    CRASH_BEFORE_COMMIT = "crash_before_commit"
    CRASH_AFTER_COMMIT = "crash_after_commit"
    SLOW_COMMIT = "slow_commit"
    FAILED_COMMIT = "failed_commit"
    UNSURE_COMMIT = "unsure_commit"
    LATE_NEWS = "late_news"
    REPEATED_LETTERS = "repeated_letters"


class Fault(msgspec.Struct, frozen=True, order=True):
    """One thing that goes wrong.

    Attributes:
        kind: What happens.
        at: Which time it happens: at the so many-th body of a task, commit, started run, or look for letters, counted
            over all processes from 1.
        seconds: How long it takes: a slow commit, news that are late, or the wait before a cancellation.

    Example:
        >>> print(Fault(FaultKind.SLOW_COMMIT, 3, 0.5))
        slow_commit@3:0.5
        >>> Fault.parse("slow_commit@3:0.5") == Fault(FaultKind.SLOW_COMMIT, 3, 0.5)
        True
    """

    kind: FaultKind
    at: int
    seconds: float = 0.0

    def __str__(self) -> str:
        return f"{self.kind.value}@{self.at}" + (f":{self.seconds:g}" if self.seconds else "")

    @classmethod
    def parse(cls, text: str) -> Fault:
        """Read what `str` writes.

        Args:
            text: Such as ``slow_commit@3:0.5``.

        Raises:
            ValueError: It is something else.
        """
        kind, _, rest = text.partition("@")
        at, _, seconds = rest.partition(":")
        return cls(FaultKind(kind), int(at), float(seconds or 0))


_K = FaultKind
_KINDS: Final[dict[str, tuple[tuple[FaultKind, ...], int, tuple[float, ...]]]] = {
    # by the name of the bound: what may happen, at which of how many times at most, and for how long
    "task_errors": ((_K.TASK_FAILS, _K.TASK_FAILS_LATE), 20, (0.0,)),
    "cancellations": ((_K.CANCEL,), 4, (0.0, 0.01, 0.5, 2.0, 20.0)),
    "crashes": (
        (_K.CRASH_BEFORE_TASK, _K.CRASH_AFTER_TASK, _K.CRASH_BEFORE_COMMIT, _K.CRASH_AFTER_COMMIT),
        30,
        (0.0,),
    ),
    "slow_commits": ((_K.SLOW_COMMIT,), 60, (0.02, 0.3, 3.0, 15.0)),
    "failed_commits": ((_K.FAILED_COMMIT, _K.UNSURE_COMMIT), 60, (0.0,)),
    "late_news": ((_K.LATE_NEWS,), 20, (0.1, 1.0, 8.0)),
    "repeated_letters": ((_K.REPEATED_LETTERS,), 4, (0.0,)),
}


class Faults(msgspec.Struct, frozen=True, kw_only=True):
    """How much may go wrong in one simulation: at most so many of each kind. What does is drawn from the seed.

    Attributes:
        task_errors: Bodies of tasks that raise `SimulatedError`, at their beginning or when their work is done.
        cancellations: Started flow runs that are cancelled.
        crashes: Processes that end without a word, before or after a body or a commit, and are started again.
        slow_commits: Commits that take up to 15 seconds, which is longer than the lease.
        failed_commits: Commits that fail, with or without having been carried out.
        late_news: Times at which a process notices up to 8 seconds late what others have written.
        repeated_letters: Times at which a process is given letters again that it had before.

    Example:
        >>> [str(fault) for fault in Faults(crashes=1, task_errors=0).draw(3)] == [
        ...     str(fault) for fault in Faults(crashes=1, task_errors=0).draw(3)
        ... ]
        True
        >>> Faults.none().draw(3)
        ()
    """

    task_errors: int = 2
    cancellations: int = 1
    crashes: int = 2
    slow_commits: int = 2
    failed_commits: int = 2
    late_news: int = 2
    repeated_letters: int = 1

    @classmethod
    def none(cls) -> Faults:
        """Give those of a simulation in which nothing goes wrong but the order of things."""
        return cls(**dict.fromkeys(_KINDS, 0))

    def draw(self, seed: int) -> tuple[Fault, ...]:
        """Give what goes wrong with a seed.

        Args:
            seed: Of the simulation.

        Returns:
            The faults, in order of kind and time.
        """
        chance = random.Random(f"faults of {seed}")
        drawn: set[Fault] = set()
        for name, (kinds, latest, lengths) in _KINDS.items():
            for _ in range(chance.randint(0, getattr(self, name))):
                # Early times are likelier than late ones: many simulations are short.
                at = int(math.exp(chance.uniform(0.0, math.log(latest + 1))))
                drawn.add(Fault(chance.choice(kinds), at, chance.choice(lengths)))
        return tuple(sorted(drawn))


class Plan:
    """What goes wrong in one simulation, while it goes on: counts what happens, and says when it is time.

    Args:
        faults: What is to happen.
    """

    def __init__(self, faults: Iterable[Fault]) -> None:
        self.faults = tuple(faults)
        self._waiting = {(fault.kind, fault.at): fault for fault in self.faults}
        self._counts: dict[str, int] = {}
        self.happened: list[Fault] = []

    def count(self, what: str) -> int:
        """Count one more of something, and give the number."""
        self._counts[what] = number = self._counts.get(what, 0) + 1
        return number

    def take(self, kind: FaultKind, number: int) -> Fault | None:
        """Give the fault of this kind that happens now, if there is one."""
        fault = self._waiting.pop((kind, number), None)
        if fault is not None:
            self.happened.append(fault)
        return fault
