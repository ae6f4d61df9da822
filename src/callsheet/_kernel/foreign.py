"""What somebody who is not a run's owner wants of it: how the run is found, and how the wish is judged."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final
from uuid import UUID

from callsheet._kernel.messages import Cell, SetState, Suspend
from callsheet._kernel.scopes import SUSPEND
from callsheet._model.kinds import SUSPENDED, TERMINAL_STATES, Kind, StateType
from callsheet._rules.facts import Facts
from callsheet._rules.table import judge
from callsheet._rules.verdicts import Abort, Verdict

ONLY_ITSELF: Final = Abort(
    "The run is alive, and only its own body moves it on. From outside it can be set to Cancelling or to a final state."
)

_SUBFLOW: Final = Abort("Cannot suspend subflows.")


def find(roots: Iterable[Cell], run_id: UUID, kind: Kind) -> Cell | None:
    """Look for a live run in the tree: outsiders ask rarely, and an index would cost every run."""
    cells = list(roots)
    while cells:
        cell = cells.pop()
        if cell.id == run_id:
            return cell if cell.kind is kind and not cell.actor.cell.ended else None
        cells += cell.children or ()
    return None


def ends_below(cell: Cell, at: int) -> list[tuple[Cell, SetState]]:
    """Give the live runs below a run that somebody ends, children before their parents, and how each of them ends.

    They end on the record at once, before the run itself does; their bodies leave when they can.
    """
    found = [cell]
    for one in found:
        found += one.children or ()
    return [(one, _end(one, at)) for one in reversed(found[1:]) if one.type not in TERMINAL_STATES]


def _end(cell: Cell, at: int) -> SetState:
    message = "The run around this one was ended."
    return SetState(run_id=cell.id, kind=cell.kind, type=StateType.CANCELLED, name="Cancelled", message=message, at=at)


def judged_suspension(cell: Cell, order: Suspend, at: int) -> Verdict:
    """Ask the rules whether a flow run may be suspended."""
    if cell.parent is not None:
        return _SUBFLOW
    facts = Facts(
        now=at / 1e6, attempts=cell.attempt, delivered=cell.delivered, pause_passed=order.key in (cell.passed or ())
    )
    return judge(cell.kind, cell.type, StateType.PAUSED, facts, current_name=cell.name, proposed_name=SUSPENDED)


def suspend(cell: Cell) -> None:
    """Tell a run and what is below it to leave. Task runs that have begun go on to their end, with what they call."""
    if cell.ended or cell.delivered is not None:
        return
    if cell.kind is Kind.TASK:
        if cell.type is not StateType.RUNNING and cell.actor.cell is cell:
            cell.delivered = "suspend"
            cell.actor.scope.cancel(SUSPEND)
        return
    cell.delivered = "suspend"
    for child in list(cell.children or ()):
        suspend(child)


def judged(cell: Cell, order: SetState, at: int) -> Verdict:
    """Ask the rules."""
    return _judged(cell, order.type, order.name, at)


def held(cell: Cell, at: int) -> Verdict:
    """Tell whether a flow run can be paused: one that runs, and whose body has not been told to leave."""
    if cell.type is not StateType.RUNNING or cell.delivered is not None:
        said = "leaving" if cell.type is StateType.RUNNING else cell.name
        return Abort(f"Only a flow run that is Running can be paused; this one is {said}.")
    return _judged(cell, StateType.PAUSED, "Paused", at)


def _judged(cell: Cell, type: StateType, name: str, at: int) -> Verdict:
    facts = Facts(
        now=at / 1e6,
        due_at=None if cell.due is None else cell.due / 1e6,
        attempts=cell.attempt,
        delivered=cell.delivered,
        foreign=True,
    )
    return judge(cell.kind, cell.type, type, facts, current_name=cell.name, proposed_name=name)
