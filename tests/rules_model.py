"""What the table of transitions should say, written down a second time: as sentences in order, without a table.

The first sentence that fits decides. It shares nothing with the package but the words for types and kinds.
"""

from __future__ import annotations

from typing import Any

from callsheet._model.kinds import Kind, StateType

S = StateType
ENDED = {S.COMPLETED, S.FAILED, S.CANCELLED, S.CRASHED}
ANEW = {S.SCHEDULED, S.PENDING, S.RUNNING}
ABORT = ("abort",)
CANCELLED = ("reject", S.CANCELLED, "Cancelled", None)
SUSPENDED = ("reject", S.PAUSED, "Suspended", None)
RETRYING = ("reject", S.RUNNING, "Retrying", None)
GATE = ("wait", None, True)
GO_ON = ("go on",)
TOO_LATE = ("reject", S.FAILED, "Failed", None)


def expected(kind: Kind, old: tuple[S | None, str | None], new: tuple[S, str | None], facts: Any) -> tuple[Any, ...]:
    """Give the verdict as a tuple whose first word is its kind."""
    yes = ("accept if", facts.run_id, facts.seq) if facts.foreign else ("accept",)
    (current, current_name), (proposed, proposed_name) = old, new
    from_body = not facts.foreign and not facts.restart
    anew = facts.restart and proposed in ANEW

    if current is None:
        return yes if proposed in {S.SCHEDULED, S.PENDING} else ABORT

    if current in ENDED and not anew:
        undone = kind is Kind.TASK and current is proposed is S.COMPLETED
        return yes if undone and proposed_name == "RolledBack" != current_name else ABORT

    if current not in ENDED and from_body:
        order = None if facts.delivered == "suspend" and current is S.CANCELLING else facts.delivered
        answer = _ordered(kind, proposed, proposed_name, order)
        if answer is not None:
            return answer

    if current is S.CANCELLING and proposed not in {S.CANCELLING, S.CANCELLED, S.CRASHED} and not anew:
        return CANCELLED

    if current is proposed is S.CANCELLING and facts.foreign:
        return GO_ON

    if kind is Kind.FLOW and (proposed, facts.foreign) == (S.PAUSED, False) and current in {S.RUNNING, S.PAUSED}:
        if facts.pause_passed:
            return GO_ON
        if proposed_name != "Suspended" and facts.pause_pending:
            return GATE

    if proposed is S.RUNNING and current is not S.RUNNING:
        return _started(kind, current, current_name, proposed_name, facts) or yes

    if (kind, current, proposed) == (Kind.FLOW, S.PAUSED, S.FAILED) and facts.pause_ordered and not facts.foreign:
        if facts.retriable and facts.attempts <= facts.retries and not facts.delivered:
            return GATE

    if (current, proposed) == (S.RUNNING, S.FAILED) and not facts.foreign:
        attempts_left = facts.retries + 1 - facts.attempts
        if attempts_left > 0 and facts.retriable and facts.delivered != "cancel":
            blocked = facts.flow_paused or facts.flow_suspended
            if facts.retry_delay == 0 and not blocked:
                return RETRYING
            return ("reject", S.SCHEDULED, "AwaitingRetry", facts.now + facts.retry_delay)
    return yes


def _ordered(kind: Kind, proposed: S, proposed_name: str | None, order: str | None) -> tuple[Any, ...] | None:
    if kind is Kind.TASK:
        return CANCELLED if order == "cancel" and proposed in {S.RUNNING, S.CRASHED} else None
    if order == "cancel" and proposed not in {S.CANCELLING, S.CANCELLED}:
        return CANCELLED
    if order == "suspend" and proposed is not S.CANCELLING and (proposed, proposed_name) != (S.PAUSED, "Suspended"):
        return SUSPENDED
    return None


def _started(
    kind: Kind, current: S, current_name: str | None, proposed_name: str | None, facts: Any
) -> tuple[Any, ...] | None:
    if (kind, current) == (Kind.FLOW, S.PAUSED) and facts.pause_until is not None and facts.pause_until <= facts.now:
        return TOO_LATE
    if current is S.PAUSED and not facts.restart:
        return GATE
    if kind is Kind.TASK and facts.flow_suspended:
        return ABORT
    if kind is Kind.TASK and facts.flow_paused:
        return GATE
    if facts.due_at is not None and facts.due_at > facts.now:
        return ("wait", facts.due_at, False)
    if current is S.SCHEDULED and current_name == "AwaitingRetry" and proposed_name != "Retrying":
        return RETRYING
    return None
