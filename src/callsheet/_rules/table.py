"""Which rules judge which move, and in what order. The only place that orders them.

Everything here is pure: reading clocks, counting attempts and asking conditions is done before, and what the
verdict asks for is done after. A move that no rule stands against is accepted.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Final, TypeVar

from callsheet._model.kinds import TERMINAL_STATES, Kind, StateType
from callsheet._model.records import SeqIs
from callsheet._rules import guards
from callsheet._rules.facts import Facts, Move
from callsheet._rules.guards import Rule
from callsheet._rules.verdicts import ACCEPT, Accept, AcceptIf, Reject, Verdict

_S: Final = StateType
_Key = tuple[Kind, StateType | None, StateType]
_V = TypeVar("_V", Accept, Reject)


def _rules_of(kind: Kind, current: StateType | None, proposed: StateType) -> Iterator[Rule]:
    """Give the rules of one move, the deciding ones first."""
    if current is None:
        if proposed not in (_S.SCHEDULED, _S.PENDING):
            yield guards.begin_at_the_beginning
        return
    if current in TERMINAL_STATES:
        if (kind, current, proposed) == (Kind.TASK, _S.COMPLETED, _S.COMPLETED):
            yield guards.roll_back_what_completed
        yield guards.stay_ended
    else:
        yield from _orders(kind, current, proposed)
    if kind is Kind.FLOW and proposed is _S.PAUSED and current in (_S.RUNNING, _S.PAUSED):
        yield guards.pause_once_for_a_key
        yield guards.one_pause_at_a_time
    if proposed is _S.RUNNING:
        yield from _before_start(kind, current)
    if current is _S.RUNNING and proposed is _S.FAILED:
        yield guards.try_again
    if (kind, current, proposed) == (Kind.FLOW, _S.PAUSED, _S.FAILED):
        yield guards.fail_when_resumed


def _orders(kind: Kind, current: StateType, proposed: StateType) -> Iterator[Rule]:
    """Give the rules that put an order before what the run itself wants."""
    if kind is Kind.FLOW:
        yield guards.leave_as_ordered
    elif proposed in (_S.RUNNING, _S.CRASHED):
        yield guards.end_cancelled_task_as_cancelled
    if current is proposed is _S.CANCELLING:
        yield guards.cancel_once
    if current is _S.CANCELLING and proposed not in (_S.CANCELLING, _S.CANCELLED, _S.CRASHED):
        yield guards.finish_cancelling


def _before_start(kind: Kind, current: StateType) -> Iterator[Rule]:
    """Give the rules that keep a body from starting too early. Between attempts they all apply again."""
    if current is _S.PAUSED:
        if kind is Kind.FLOW:
            yield guards.refuse_late_resumption
        yield guards.wait_until_resumed
    if current is _S.RUNNING:
        return  # a body's own outcome, not a start
    if kind is Kind.TASK:
        yield guards.leave_with_suspended_flow
        yield guards.wait_at_gate
    yield guards.wait_until_due
    if current is _S.SCHEDULED:
        yield guards.say_retrying


_MOVES: Final = [(kind, current, proposed) for kind in Kind for current in (None, *StateType) for proposed in StateType]
TABLE: Final = {move: rules for move in _MOVES if (rules := tuple(_rules_of(*move)))}


def judge(
    kind: Kind,
    current: StateType | None,
    proposed: StateType,
    facts: Facts,
    *,
    current_name: str | None = None,
    proposed_name: str | None = None,
) -> Verdict:
    """Give the first verdict that a rule of this move has, else accept.

    Args:
        kind: of the run.
        current: the type of its state; `None` before its first one.
        proposed: the type of the state it shall enter.
        facts: what else is known now.
        current_name: the name of its state.
        proposed_name: the name of the state it shall enter.

    Returns:
        The verdict. A foreign proposal is accepted only if nobody else moved the run meanwhile.

    Example:
        >>> judge(Kind.TASK, StateType.COMPLETED, StateType.FAILED, Facts(now=0.0), current_name="Cached")
        Abort(reason='The run has ended as Cached.')
    """
    rules = TABLE.get((kind, current, proposed))
    if rules is not None:
        move = Move(kind, current, proposed, current_name, proposed_name)
        for rule in rules:
            verdict = rule(facts, move)
            if verdict is not None and verdict is not ACCEPT:
                return verdict
            if verdict is ACCEPT:
                break
    if facts.foreign and facts.run_id is not None:
        return AcceptIf((SeqIs(facts.run_id, facts.seq),))
    return ACCEPT


_NAMES: Final = (None, guards.AWAITING_RETRY, guards.RETRYING, guards.SUSPENDED, guards.ROLLED_BACK)
"""What a rule may know a state by, besides its type."""


def _whatever_the_names(move: _Key, facts: Facts, wanted: type[_V]) -> _V | None:
    """Give the verdict of a move if it is one of this type, and the same whatever the two states are called."""
    first = judge(*move, facts)
    if not isinstance(first, wanted):
        return None
    names = itertools.product(_NAMES, _NAMES) if move in TABLE else ()
    if all(judge(*move, facts, current_name=of, proposed_name=to) == first for of, to in names):
        return first
    return None


# Moves that are accepted while no fact stands out, which is nearly always: worked out once, by the rules themselves.
CALM: Final[frozenset[_Key]] = frozenset(m for m in _MOVES if _whatever_the_names(m, Facts(now=0.0), Accept))
# The others that begin another attempt at once, while there is one left and again no other fact stands out.
AGAIN: Final[dict[_Key, Verdict]] = {
    move: verdict
    for move in _MOVES
    if move not in CALM
    and (verdict := _whatever_the_names(move, Facts(now=0.0, attempts=1, retries=1), Reject))
    and verdict.type is _S.RUNNING
}
