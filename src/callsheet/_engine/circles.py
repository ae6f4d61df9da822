"""Runs that wait for each other in a circle, which would never end: found when the last of them begins to wait.

Only waits that nothing can end are counted: those that block without a timeout, and those for inputs. Who awaits a
future may have put a time limit around it.
"""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING, Any, Final

from callsheet.exceptions import BlockingWaitError

if TYPE_CHECKING:
    from callsheet._engine.run import Run

_FAR: Final = 64
"""Steps of a search. In a chain of runs, of which each waits for the one before, every wait might begin one."""
_lock = threading.Lock()
_waits: dict[Any, dict[Any, int]] = {}  # by who cannot end before: for whom, and how many waits of it
_awaited: dict[Any, int] = {}  # how many of those are for whom


def enter(waiting: Run, target: Run) -> list[Any]:
    """Note that a run waits for the end of another one.

    Returns:
        Whose end that holds up; for `leave`.

    Raises:
        BlockingWaitError: That one waits, by whatever way, for the first.
    """
    held = _held_up_by(waiting)
    with _lock:
        # No way leads back to where nobody waits: so it is in a chain, whose runs begin to wait in its order.
        if not _awaited.keys().isdisjoint(held) and _leads_to(target, held):
            raise BlockingWaitError(
                f"{waiting.noun} run {waiting.name!r} would wait for {target.noun.lower()} run {target.name!r}, which waits "
                "for it: neither could ever end. Wait for one of them outside of both, or with a timeout."
            )
        for one in held:
            targets = _waits.setdefault(one, {})
            targets[target] = targets.get(target, 0) + 1
        _awaited[target] = _awaited.get(target, 0) + len(held)
    return held


def leave(held: list[Any], target: Run) -> None:
    """Note that the wait is over."""
    with _lock:
        for one in held:
            targets = _waits[one]
            targets[target] -= 1
            if not targets[target]:
                del targets[target]
            if not targets:
                del _waits[one]
        _awaited[target] -= len(held)
        if not _awaited[target]:
            del _awaited[target]


def _held_up_by(run: Run) -> list[Any]:
    """Give the run and the flow runs around it: none of them ends before it."""
    held: list[Any] = [run]
    cell = run.cell.flow
    while cell is not None and cell.actor is not None:
        held.append(cell.actor)
        cell = cell.flow
    return held


def _leads_to(start: Any, goals: list[Any]) -> bool:
    found, ahead = {start}, [start]
    for _ in range(_FAR):
        if not ahead:
            return False
        one = ahead.pop()
        if one in goals:
            return True
        new = _waits.get(one, {}).keys() - found
        found |= new
        ahead += new
    return False


def _after_fork() -> None:
    global _lock
    _lock = threading.Lock()
    _waits.clear()
    _awaited.clear()


os.register_at_fork(after_in_child=_after_fork)
