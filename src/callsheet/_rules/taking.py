"""Who may take up a run that is in no process: pure, as every rule."""

from __future__ import annotations

from typing import Final

from callsheet._model.kinds import SUSPENDED, TERMINAL_STATES, Kind, StateType
from callsheet._rules.facts import Facts
from callsheet._rules.table import judge
from callsheet._rules.verdicts import ACCEPT, Abort, Reject, Verdict, Wait

MOST_RECOVERIES: Final = 5
"""A body that takes its process along must not kill one engine after another."""

RECOVERED: Final = "The engine that ran it is gone; another one goes on with it."
TAKEN_UP: Final = "An engine has taken it up."
DIED: Final = "The engine that ran it is gone."
_NO_FLOW: Final = "The engine that ran it is gone, and no other knows its flow."
_NO_TASK: Final = "The engine that ran it is gone, and a task outside of flows is not run again."
_TOO_OFTEN: Final = f"The engines that ran it went down, {MOST_RECOVERIES + 1} of them one after the other."
_IS_OVER: Final = Abort("The run has ended.")
_IS_NOT_WAITING: Final = Abort("The run does not wait to be taken up.")


def judge_taking(
    kind: Kind,
    current: StateType | None,
    facts: Facts,
    *,
    name: str | None = None,
    died: bool,
    known: bool,
    recoveries: int,
) -> Verdict:
    """Give what becomes of a run that an engine wants to take up.

    Args:
        kind: Of the run.
        current: The type of its state.
        facts: Now, and when the run is due.
        name: The name of its state.
        died: Whether it belongs to an engine that is gone; else it belongs to none.
        known: Whether any living engine knows its flow.
        recoveries: How often it was taken over so far.

    Returns:
        Accept: it enters Pending and goes on. Reject: it ends so. Wait: it is not due. Abort: it is not to be had.

    Example:
        >>> judge_taking(Kind.FLOW, StateType.RUNNING, Facts(now=0.0), died=True, known=True, recoveries=5).name
        'Crashed'
    """
    if current in TERMINAL_STATES:
        return _IS_OVER
    if not died:
        suspended = current is StateType.PAUSED and name == SUSPENDED and facts.due_at is not None
        if kind is Kind.TASK or not (suspended or current is StateType.SCHEDULED):
            return _IS_NOT_WAITING
        return Wait(until=facts.due_at) if facts.due_at is not None and facts.now < facts.due_at else ACCEPT
    if current is StateType.CANCELLING:  # the order is on record
        return judge(kind, current, StateType.PENDING, facts, current_name=name)
    if kind is Kind.TASK:
        return _crashed(_NO_TASK)
    if recoveries >= MOST_RECOVERIES:
        return _crashed(_TOO_OFTEN)
    return ACCEPT if known else _crashed(_NO_FLOW)


def _crashed(why: str) -> Reject:
    return Reject(type=StateType.CRASHED, name="Crashed", message=why)
