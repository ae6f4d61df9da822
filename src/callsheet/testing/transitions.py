"""Which states may follow each other in a history: the rules of the engine, written down once more from the outside.

It shares nothing with the table of transitions but the words for types, so that neither can excuse the other.
"""

from __future__ import annotations

from collections.abc import Sequence

from callsheet._ids import state_id
from callsheet._model.kinds import Kind, StateType
from callsheet._model.records import StateRecord

_S = StateType
ENDED = frozenset({_S.COMPLETED, _S.FAILED, _S.CANCELLED, _S.CRASHED})
_AFTER_CANCELLING = frozenset({_S.CANCELLING, _S.CANCELLED, _S.CRASHED})


def is_rollback(kind: Kind, before: StateRecord, after: StateRecord) -> bool:
    """Tell whether a task run that had completed was undone: the only thing that follows an end by itself."""
    undone = before.type is after.type is _S.COMPLETED and before.name != "RolledBack" == after.name
    return undone and kind is Kind.TASK


def is_begun_again(kind: Kind, before: StateRecord, after: StateRecord) -> bool:
    """Tell whether somebody asked for a flow run that had ended once more (a retry or restart from outside)."""
    asked = before.type in ENDED and after.type is _S.SCHEDULED and after.name == "AwaitingRetry" and was_chosen(after)
    return asked and kind is Kind.FLOW


def begins(state: StateRecord) -> str | None:
    """Say why a run cannot begin in a state, or give `None`."""
    return None if state.type in {_S.SCHEDULED, _S.PENDING} else "a run begins as Scheduled or Pending"


def follows(before: StateRecord, after: StateRecord) -> str | None:
    """Say why a state cannot follow another one of a run that has not ended, or give `None`."""
    if after.name == "RolledBack":
        return "only what has completed is rolled back"
    if before.type is _S.CANCELLING and after.type not in _AFTER_CANCELLING:
        return "what is being cancelled ends as Cancelled"
    if after.type is _S.RUNNING and before.type is _S.RUNNING and after.name == "Running" and not was_chosen(after):
        return "a body that is running is not started as if it were not"
    if after.type is _S.RUNNING and before.name == "AwaitingRetry" and after.name != "Retrying":
        return "what starts after AwaitingRetry is Retrying"
    return None


def was_chosen(state: StateRecord) -> bool:
    """Tell whether somebody made a state himself: a body that returned it, or a client. The engine's have derived ids."""
    return state.id != state_id(state.run_id, state.seq)


def may_skip_a_number(before: StateRecord) -> bool:
    """Tell whether the number after a state may be missing: after a pause it belongs to a resumption."""
    return before.type is _S.PAUSED


def starts(states: Sequence[StateRecord]) -> int:
    """Count how often a body was started: going on after a pause is no start, after a suspension it is one."""
    before = (None, *states)
    return sum(
        state.type is _S.RUNNING and not _goes_on(last, state) for state, last in zip(states, before, strict=False)
    )


def _goes_on(last: StateRecord | None, state: StateRecord) -> bool:
    """Tell whether a body is in the middle of itself: it was resumed, or returned a Running state of its own making."""
    if last is None:
        return False
    return (last.type is _S.PAUSED and last.name != "Suspended") or (last.type is _S.RUNNING and was_chosen(state))


def end_of(states: Sequence[StateRecord]) -> StateRecord | None:
    """Give the state in which a run has ended, `None` while it has not. A rollback does not move the end."""
    if not states or states[-1].type not in ENDED:
        return None
    end = states[-1]
    for state in reversed(states[:-1]):
        if state.type not in ENDED:
            break
        end = state
    return end
