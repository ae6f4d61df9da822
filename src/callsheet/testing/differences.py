"""What is said of the first difference between a recording and what a flow's code does."""

from __future__ import annotations

import reprlib
from typing import Any, Final

from callsheet._engine.flow_run import FlowRunActor
from callsheet.exceptions import CallsheetError
from callsheet.testing.recorded import Attempt

__all__ = ["ReplayDiffers"]


class ReplayDiffers(CallsheetError, AssertionError):
    """Raised when today's code does something else than what is recorded of a run.

    Attributes:
        flow: Name of the flow whose body differs: the recorded one, or a subflow.
        run_id: Id of its run.
        index: Which call of its body it is, from 0; `None` where it is no call of the body itself.
        recorded: What is recorded there.
        now: What the code does there.
    """

    def __init__(
        self, run: FlowRunActor, attempt: Attempt, *, recorded: str, now: str, index: int | None, before: list[str]
    ) -> None:
        self.flow, self.run_id, self.index = run.definition.name, run.cell.id, index
        self.recorded, self.now = recorded, now
        number = "" if attempt.number == 1 else f", attempt {attempt.number}"
        head = f"The flow {self.flow!r} does not do what is recorded of its run {run.name!r}{number}"
        super().__init__(
            "\n  ".join(
                [f"{head} (- recorded, + now):", *(f"  {line}" for line in before), f"- {recorded}", f"+ {now}"]
            )
        )


def recorded_at(attempt: Attempt, index: int) -> str:
    """Say what is recorded at a place, of which nothing has come."""
    following = attempt.next()
    if following is not None:
        return f"{numbered(index)}{following[1]}"
    waiting = None if attempt.is_whole else attempt.next_open()
    return end(attempt) if waiting is None else f"{numbered(index)}{waiting}, which was under way"


def end(attempt: Attempt) -> str:
    """Say what is recorded behind the last call."""
    last = attempt.end
    if last is None:
        return "the end: the attempt fails, and is followed by another" if attempt.is_whole else "nothing more"
    return f"the end: {last.name}" + (f": {last.message}" if last.message else "")


def numbered(index: int | None) -> str:
    """Say which call of a body it is."""
    return "" if index is None else f"call {index}: "


def called(run: Any) -> str:
    """Say what a call is, with its arguments."""
    skipped = len(run.definition._bound)
    given = list(run.parameters.items())[skipped:]
    return f"{run.definition.name}({', '.join(f'{name}={shown(value)}' for name, value in given)})"


_short: Final = reprlib.Repr()
_short.maxstring = _short.maxother = 60


def shown(value: Any) -> str:
    """Show a value, shortened."""
    return _short.repr(value)
