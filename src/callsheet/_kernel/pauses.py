"""The gates of paused flow runs: who waits for a resumption, and what must not start meanwhile."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING
from uuid import UUID

from callsheet._kernel.signals import Once

if TYPE_CHECKING:
    from callsheet._kernel.messages import Cell


class Pause:
    """One pause of one flow run. Made by the run that pauses; the orchestrator says how it ends.

    Args:
        key: Its name. A run that was resumed from it does not pause under this name again.
        until: When it times out, in microseconds since the epoch.
        check: Takes the answer (JSON) and raises `ValueError` if it is not what the run waits for.
        again: The run was resumed from it, but the answer was of no use.
        ordered: Somebody else wants it: the body does not wait in it, but its tasks do.
    """

    __slots__ = ("again", "answer", "cell", "check", "gate", "is_over", "key", "ordered", "resumed", "until")

    def __init__(
        self,
        key: str,
        until: int | None,
        check: Callable[[str], object] | None = None,
        *,
        again: bool = False,
        ordered: bool = False,
    ) -> None:
        self.key = key
        self.until = until
        self.check = check
        self.again = again
        self.ordered = ordered
        self.gate = Once()  # set when the pause is over, however it ended
        self.is_over = False
        self.resumed: tuple[int, int] | None = None  # number and time of the state that the run entered
        self.answer: str | None = None  # where it was resumed in this process
        self.cell: Cell | None = None


class Pauses:
    """Every pause that waits. Changed by the orchestrator only, under its lock."""

    __slots__ = ("waiting",)

    def __init__(self) -> None:
        self.waiting: dict[UUID, Pause] = {}  # by flow run

    def begin(self, cell: Cell, pause: Pause) -> None:
        """Close a flow run's gate."""
        cell.pause, pause.cell = pause, cell
        self.waiting[cell.id] = pause

    def give_up(self, cell: Cell) -> None:
        """Open the gate of a run that was not resumed: its body is told, and may still clean up."""
        pause = cell.pause
        if pause is not None and not pause.is_over:
            pause.is_over = True
            self.waiting.pop(cell.id, None)
            pause.gate.set()

    def end(self, cell: Cell) -> None:
        """Open the gate of a run that leaves its Paused state."""
        self.give_up(cell)
        if cell.pause is not None:
            cell.pause.cell = None
            cell.pause = None

    def resumed(self, cell: Cell, seq: int, at: int, answer: str | None) -> bool:
        """Open the gate of a run that was resumed; tell whether this is news."""
        pause = cell.pause
        if pause is None or cell.ended or seq != cell.seq + 1:
            return False
        pause.resumed, pause.answer = (seq, at), answer
        cell.passed = (*(cell.passed or ()), pause.key)
        self.end(cell)
        return True

    def gate_of(self, cell: Cell) -> Once | None:
        """Give what a proposal of this run has to wait for: its own pause, or one of a flow run around it."""
        if not self.waiting:
            return None
        at: Cell | None = cell
        while at is not None:
            pause = at.pause
            if pause is not None and not pause.is_over:
                return pause.gate
            at = at.flow
        return None

    def holds_back(self, cell: Cell) -> bool:
        """Tell whether a task run waits at a gate. The run that tracks a subflow goes along with the subflow."""
        if cell.flow is None or cell.actor is None or cell.actor.cell is not cell:
            return False
        return self.gate_of(cell.flow) is not None
