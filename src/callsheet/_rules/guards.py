"""One function for each rule. A rule that has nothing to say gives `None`, and the next one is asked.

Each docstring says which race the rule closes: what would go wrong if two things happened in the other order.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from callsheet._model.kinds import SUSPENDED, StateType
from callsheet._rules.facts import Facts, Move
from callsheet._rules.verdicts import ACCEPT, GO_ON, Abort, Reject, Verdict, Wait

Rule = Callable[[Facts, Move], Verdict | None]

# Every rule is handed both arguments, also where it looks at one.
# ruff: noqa: ARG001

AWAITING_RETRY: Final = "AwaitingRetry"
RETRYING: Final = "Retrying"
ROLLED_BACK: Final = "RolledBack"

_AS_CANCELLED: Final = Reject(type=StateType.CANCELLED, name="Cancelled", message="The run was cancelled.")
_AS_SUSPENDED: Final = Reject(type=StateType.PAUSED, name=SUSPENDED, message="The run was suspended.")
_WAIT_AT_GATE: Final = Wait(gate=True)
_FLOW_LEFT: Final = Abort("The flow run is suspended; this task run starts when it is resumed.")


# ------------------------------------------------------------------------------- beginning and end


def begin_at_the_beginning(facts: Facts, move: Move) -> Verdict | None:
    """A run's first state is Scheduled or Pending.

    Closes: an owner that lost its run's creation (refused, or another process's) reports a later state of a
    run that nobody knows.
    """
    return Abort(f"A run begins as Scheduled or Pending, not as {move.proposed_name or move.proposed.value}.")


def stay_ended(facts: Facts, move: Move) -> Verdict | None:
    """What has ended stays so, unless a retry, resumption or restart was asked for explicitly.

    Closes: a late report (an interrupted thread's result, a second owner, a cancel order that crossed the
    end) overwrites the outcome that callers were already given.
    """
    if facts.restart and move.proposed in _STARTS:
        return None
    return Abort(f"The run has ended as {move.current_name or _value(move.current)}.")


def roll_back_what_completed(facts: Facts, move: Move) -> Verdict | None:
    """A completed task that its transaction undoes becomes RolledBack, still of the type COMPLETED.

    Closes: the transaction fails after the task ended; without this its history would claim an effect that
    is gone.
    """
    return ACCEPT if move.proposed_name == ROLLED_BACK and move.current_name != ROLLED_BACK else None


_STARTS: Final = (StateType.SCHEDULED, StateType.PENDING, StateType.RUNNING)


# ------------------------------------------------------------------------------------------- orders


def leave_as_ordered(facts: Facts, move: Move) -> Verdict | None:
    """A flow run to which a suspend or cancel was delivered ends as Suspended or Cancelled, whatever it says.

    One that is being cancelled is not suspended any more, if both orders came.

    Closes: a body swallows the signal (`gather(return_exceptions=True)`, a bare `except`), goes on, and
    reports a value or an error of its own after callers and children were told of the order.
    """
    order = facts.delivered
    if order is None or facts.foreign or facts.restart:
        return None
    if order == "cancel":
        return None if move.proposed in _CANCELS else _AS_CANCELLED
    if StateType.CANCELLING in (move.current, move.proposed):
        return None
    if move.proposed is StateType.PAUSED and move.proposed_name == SUSPENDED:
        return None
    return _AS_SUSPENDED


def end_cancelled_task_as_cancelled(facts: Facts, move: Move) -> Verdict | None:
    """A task run that was told to leave does not start, and its interruption is no crash.

    Closes: the order arrives while the task waits for its inputs or its retry (its body would start after
    the flow run has ended), or it arrives as an exception that looks like one from outside. A task that
    finished its work all the same has completed.
    """
    if facts.delivered != "cancel" or facts.foreign or facts.restart:
        return None
    return _AS_CANCELLED


def cancel_once(facts: Facts, move: Move) -> Verdict | None:
    """A run that is Cancelling is not ordered to be a second time; whoever orders it is told that it is.

    Closes: two cancel orders (of a run and of the tree around it, or of two people) cross, and its history would
    tell of two cancellations.
    """
    return GO_ON if facts.foreign else None


def finish_cancelling(facts: Facts, move: Move) -> Verdict | None:
    """What is Cancelling ends as Cancelled; only a crash is still told apart.

    Closes: the cancel order is on record, and the body's end, its next attempt or a pause arrives before
    the order does.
    """
    return None if facts.restart and move.proposed in _STARTS else _AS_CANCELLED


# ---------------------------------------------------------------------------------------- pausing


def pause_once_for_a_key(facts: Facts, move: Move) -> Verdict | None:
    """A flow run that was resumed from a pause does not pause under the same key again.

    Closes: a body that runs again (a retry, a resumption in another process), or two branches of one, would
    ask people twice for what they have answered. A pause that timed out was not answered.
    """
    return GO_ON if facts.pause_passed and not facts.foreign else None


def one_pause_at_a_time(facts: Facts, move: Move) -> Verdict | None:
    """A second pause waits until the first is over, and is judged then.

    Closes: two branches pause together; one resumption would answer both, or the wrong one.
    """
    if not facts.pause_pending or facts.foreign or move.proposed_name == SUSPENDED:
        return None
    return _WAIT_AT_GATE


def fail_when_resumed(facts: Facts, move: Move) -> Verdict | None:
    """A failure with attempts left, of a run that somebody else has paused, is judged when the run is resumed.

    Closes: the body fails while the run is paused; its next attempt would begin in spite of the pause, or there
    would be none. One that waits in its own pause knows of it, and its failure is final.
    """
    if not facts.pause_ordered or facts.attempts > facts.retries or not facts.retriable or facts.foreign:
        return None
    return _WAIT_AT_GATE if facts.delivered is None else None


def refuse_late_resumption(facts: Facts, move: Move) -> Verdict | None:
    """A pause that has timed out cannot be resumed any more: the run fails, or has been told to.

    Closes: the resumption is on its way while the run's owner gives up waiting.
    """
    return _NOT_RESUMED if facts.pause_until is not None and facts.now >= facts.pause_until else None


_NOT_RESUMED: Final = Reject(type=StateType.FAILED, name="Failed", message="The flow was paused and never resumed.")
_CANCELS: Final = (StateType.CANCELLING, StateType.CANCELLED)


# ---------------------------------------------------------------------------------------- starting


def leave_with_suspended_flow(facts: Facts, move: Move) -> Verdict | None:
    """A task of a suspended flow run does not start: the flow leaves at this boundary.

    Closes: a branch that was asleep when the run was suspended starts new work that the resumed run, in
    another process maybe, starts once more.
    """
    return _FLOW_LEFT if facts.flow_suspended else None


def wait_at_gate(facts: Facts, move: Move) -> Verdict | None:
    """A task of a paused flow run waits until the flow run is resumed.

    Closes: the pause is accepted while a sibling branch is about to start a task.
    """
    return _WAIT_AT_GATE if facts.flow_paused else None


def wait_until_resumed(facts: Facts, move: Move) -> Verdict | None:
    """A paused run goes on only when somebody resumes it.

    Closes: a wake-up that is not a resumption (a time-out, a second poll) crosses the pause.
    """
    return None if facts.restart else _WAIT_AT_GATE


def wait_until_due(facts: Facts, move: Move) -> Verdict | None:
    """Nothing starts before its scheduled time.

    Closes: an early wake-up (a clock that was set back, a claim of a worker that is ahead) starts the run
    before its time or shortens the delay of a retry.
    """
    due = facts.due_at
    return Wait(until=due) if due is not None and facts.now < due else None


def say_retrying(facts: Facts, move: Move) -> Verdict | None:
    """What starts after AwaitingRetry is Retrying.

    Closes: an engine that recovers the run knows no attempt before its own and would call it a first one.
    """
    if move.current_name != AWAITING_RETRY or move.proposed_name == RETRYING:
        return None
    return Reject(type=StateType.RUNNING, name=RETRYING)


# ---------------------------------------------------------------------------------------- retrying


def try_again(facts: Facts, move: Move) -> Verdict | None:
    """A failure with attempts left becomes AwaitingRetry or, without a delay, Retrying at once.

    Closes: the failure would be final for a moment, in which callers and hooks see the end of a run that
    goes on. A failure that somebody outside reports is final: the owner's body may still be running.
    """
    if facts.attempts > facts.retries or not facts.retriable or facts.delivered == "cancel" or facts.foreign:
        return None
    if facts.retry_delay > 0 or facts.flow_paused or facts.flow_suspended:
        at = facts.now + max(facts.retry_delay, 0.0)
        return Reject(type=StateType.SCHEDULED, name=AWAITING_RETRY, scheduled_at=at)
    return Reject(type=StateType.RUNNING, name=RETRYING)


def _value(state: StateType | None) -> str:
    return "" if state is None else state.value
