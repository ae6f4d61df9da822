"""How long a loop has been with our runs, so that they let it go on soon enough and no oftener.

A run that awaits nothing lets the loop go round all the same, or a thousand of them would be one long step. To go
round for each costs as much as half of what the engine does for a run, so runs share a turn of the loop until a
budget of time is used up. (The idea of a cooperative budget, as in Tokio's scheduler, with time for a unit.)

The first run of each task in a turn goes ahead whatever is used up: the loop has come to that task in its order, and to
send it to the end of the row would give its place to nobody who has waited for longer.
"""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic  # of the machine: a virtual clock stands still while runs go on
from typing import Protocol

BUDGET = 0.001  # seconds of one turn, for all runs of the loop together


class Steps(Protocol):
    """A loop that makes a call after what it is doing."""

    def after_step(self, call: Callable[[], object]) -> None:
        """Have the loop make a call in its next round."""
        ...


class Turn:
    """One turn of a loop, from the first run that asks to the loop's next round. Used in the loop's thread only."""

    __slots__ = ("_began", "_is_open", "_latest")

    def __init__(self) -> None:
        self._began = 0.0
        self._is_open = False
        self._latest: object = None  # the task of the latest run: steps of tasks do not interleave

    def is_over(self, task: object, host: Steps) -> bool:
        """Tell whether a task that begins a run is to let others run first.

        Args:
            task: The loop's running task.
            host: The loop.
        """
        if not self._is_open:
            self._is_open, self._began = True, monotonic()
            host.after_step(self._end)
        elif self._latest is task:
            return monotonic() - self._began > BUDGET
        self._latest = task
        return False

    def _end(self) -> None:
        self._is_open, self._latest = False, None
