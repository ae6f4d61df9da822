"""The table of transitions against its model."""

from __future__ import annotations

import inspect
import itertools
from collections.abc import Iterator
from typing import Any
from uuid import UUID

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from callsheet._model.kinds import TERMINAL_STATES, Kind, StateType
from callsheet._model.records import SeqIs
from callsheet._rules import guards
from callsheet._rules.facts import Facts, Move
from callsheet._rules.table import AGAIN, CALM, TABLE, judge
from callsheet._rules.verdicts import ACCEPT, GO_ON, Abort, Accept, AcceptIf, GoOn, Reject, Verdict, Wait
from rules_model import expected

S = StateType
NOW = 1_000.0
RUN_ID = UUID(int=7)
NAMES: dict[StateType, tuple[str, ...]] = {
    S.SCHEDULED: ("Scheduled", "AwaitingRetry", "Late"),
    S.PENDING: ("Pending", "NotReady"),
    S.RUNNING: ("Running", "Retrying"),
    S.COMPLETED: ("Completed", "Cached", "RolledBack"),
    S.FAILED: ("Failed", "TimedOut"),
    S.PAUSED: ("Paused", "Suspended"),
}


def as_tuple(verdict: Verdict) -> tuple[Any, ...]:
    assert verdict.accepted is isinstance(verdict, Accept | AcceptIf)
    match verdict:
        case Accept():
            return ("accept",)
        case AcceptIf((SeqIs(run_id, seq),)):
            return ("accept if", run_id, seq)
        case Reject():
            return ("reject", verdict.type, verdict.name, verdict.scheduled_at)
        case Wait():
            return ("wait", verdict.until, verdict.gate)
        case Abort():
            return ("abort",)
        case GoOn():
            return ("go on",)
    pytest.fail(f"unexpected verdict {verdict!r}")


def named(kind: StateType | None) -> list[tuple[StateType | None, str | None]]:
    return [(kind, None)] if kind is None else [(kind, name) for name in NAMES.get(kind, (kind.value.capitalize(),))]


def facts_that_matter(proposed: StateType) -> Iterator[Facts]:
    flags = (False, True)
    dues = (None, NOW - 1, NOW, NOW + 1) if proposed is S.RUNNING else (None,)
    tries = (
        list(itertools.product((1, 2, 3), flags, (0.0, 0.5))) if proposed is S.FAILED else [(1, True, 0.0)]
    )  # attempts, retriable, delay
    pauses = list(itertools.product(flags, flags)) if proposed is S.PAUSED else [(False, False)]  # pending, passed
    untils = (None, NOW, NOW + 1) if proposed is S.RUNNING else (None,)
    ordereds = flags if proposed is S.FAILED else (False,)
    for order, paused, suspended, restart, foreign, due, (attempts, retriable, delay), (
        pending,
        passed,
    ), until, ordered in itertools.product(
        (None, "suspend", "cancel"), flags, flags, flags, flags, dues, tries, pauses, untils, ordereds
    ):
        yield Facts(
            now=NOW,
            due_at=due,
            attempts=attempts,
            retries=2,
            retriable=retriable,
            retry_delay=delay,
            delivered=order,
            flow_paused=paused,
            flow_suspended=suspended,
            pause_pending=pending,
            pause_passed=passed,
            pause_until=until,
            pause_ordered=ordered,
            restart=restart,
            foreign=foreign,
            run_id=RUN_ID,
            seq=3,
        )


@pytest.mark.parametrize("kind", Kind)
@pytest.mark.parametrize("proposed", StateType)
def test_table_says_what_the_model_says(kind: Kind, proposed: StateType) -> None:
    olds = [old for current in (None, *StateType) for old in named(current)]
    all_facts = list(facts_that_matter(proposed))
    for (current, current_name), (_, proposed_name) in itertools.product(olds, named(proposed)):
        for facts in all_facts:
            verdict = judge(kind, current, proposed, facts, current_name=current_name, proposed_name=proposed_name)
            wanted = expected(kind, (current, current_name), (proposed, proposed_name), facts)
            assert as_tuple(verdict) == wanted, (kind, current_name, proposed_name, facts)


@given(
    kind=st.sampled_from(Kind),
    current=st.sampled_from([None, *StateType]),
    proposed=st.sampled_from(StateType),
    names=st.tuples(*[st.sampled_from(["Running", "Retrying", "AwaitingRetry", "Suspended", "RolledBack"])] * 2),
    facts=st.builds(
        Facts,
        now=st.just(NOW),
        due_at=st.none() | st.floats(0, 2 * NOW),
        attempts=st.integers(0, 5),
        retries=st.integers(0, 5),
        retry_delay=st.sampled_from([0.0, 0.5]),
        delivered=st.sampled_from([None, "suspend", "cancel"]),
        pause_pending=st.booleans(),
        pause_passed=st.booleans(),
        pause_ordered=st.booleans(),
        pause_until=st.none() | st.floats(0, 2 * NOW),
        run_id=st.just(RUN_ID),
        **{name: st.booleans() for name in ("retriable", "flow_paused", "flow_suspended", "restart", "foreign")},
    ),
)
def test_any_facts_at_once(
    kind: Kind, current: StateType | None, proposed: StateType, names: tuple[str, str], facts: Facts
) -> None:
    verdict = judge(kind, current, proposed, facts, current_name=names[0], proposed_name=names[1])
    assert as_tuple(verdict) == expected(kind, (current, names[0]), (proposed, names[1]), facts)


def test_ordinary_life_is_accepted() -> None:
    facts = Facts(now=NOW, attempts=1)
    for kind in Kind:
        for old, new in [(None, S.PENDING), (S.PENDING, S.RUNNING), (S.RUNNING, S.COMPLETED), (S.PENDING, S.PENDING)]:
            assert judge(kind, old, new, facts) is ACCEPT


def test_a_body_may_choose_any_outcome() -> None:
    facts = Facts(now=NOW, attempts=1)
    for kind, outcome in itertools.product(Kind, StateType):
        verdict = judge(kind, S.RUNNING, outcome, facts)
        assert verdict is ACCEPT


def test_a_crash_ends_whatever_has_not_ended() -> None:
    for kind, current in itertools.product(Kind, set(StateType) - TERMINAL_STATES):
        assert judge(kind, current, S.CRASHED, Facts(now=NOW)) is ACCEPT


def test_attempts_never_exceed_retries_and_one() -> None:
    for retries in range(4):
        attempts = 1
        while isinstance(
            judge(Kind.TASK, S.RUNNING, S.FAILED, Facts(now=NOW, attempts=attempts, retries=retries)), Reject
        ):
            attempts += 1
        assert attempts == retries + 1


def test_calm_is_what_no_fact_of_an_ordinary_run_stands_against() -> None:
    def accepted(kind: Kind, current: StateType | None, proposed: StateType, all_facts: list[Facts]) -> bool:
        moves = itertools.product(named(current), named(proposed), all_facts)
        return all(expected(kind, old, new, facts) == ("accept",) for old, new, facts in moves)  # type: ignore[arg-type]

    tries = itertools.product((0, 1, 2), (0, 1), (False, True), (0.0, 5.0))
    any_try = [
        Facts(now=NOW, attempts=attempts, retries=retries, retriable=retriable, retry_delay=delay)
        for attempts, retries, retriable, delay in tries
    ]
    moves = list(itertools.product(Kind, (None, *StateType), StateType))
    assert {move for move in moves if accepted(*move, [Facts(now=NOW)])} == CALM
    assert all(accepted(*move, any_try) for move in CALM)


def test_an_attempt_that_follows_at_once_is_what_no_other_fact_stands_against() -> None:
    def verdicts(kind: Kind, current: StateType | None, proposed: StateType, *tries: tuple[int, int]) -> set[Any]:
        facts = [Facts(now=NOW, attempts=attempts, retries=retries) for attempts, retries in tries]
        moves = itertools.product(named(current), named(proposed), facts)
        return {expected(kind, old, new, facts) for old, new, facts in moves}  # type: ignore[arg-type]

    moves = set(itertools.product(Kind, (None, *StateType), StateType)) - CALM
    retrying = as_tuple(Reject(type=S.RUNNING, name="Retrying"))
    assert {move for move in moves if verdicts(*move, (1, 1)) == {retrying}} == AGAIN.keys()
    for move, verdict in AGAIN.items():
        assert verdicts(*move, (0, 0), (1, 1), (1, 2), (2, 2), (3, 7)) == {as_tuple(verdict)}


def test_facts_and_verdicts_are_values() -> None:
    every: list[Any] = [
        ACCEPT,
        GO_ON,
        AcceptIf((SeqIs(RUN_ID, 3),)),
        Reject(type=S.FAILED, name="Failed", scheduled_at=NOW),
        Wait(until=NOW),
        Abort("why"),
    ]
    for verdict in every:
        assert msgspec.json.decode(msgspec.json.encode(verdict), type=Verdict) == verdict
    assert len({*every, Facts(now=NOW), Move(Kind.TASK, None, S.PENDING)}) == len(every) + 2
    for kind in (Facts, Reject, Wait):
        with pytest.raises(TypeError, match="positional"):
            kind(NOW)


def test_a_fact_of_which_nothing_is_said_stands_against_nothing() -> None:
    quiet = Facts(
        now=NOW, due_at=None, attempts=0, retries=0, retriable=True, retry_delay=0.0, delivered=None,
        flow_paused=False, flow_suspended=False, pause_pending=False, pause_ordered=False, pause_passed=False,
        pause_until=None, restart=False, foreign=False, run_id=None, seq=0,
    )  # fmt: skip
    assert Facts(now=NOW) == quiet
    assert Wait() == Wait(until=None, gate=False)


def test_messages_say_what_ended_and_how_runs_begin() -> None:
    facts = Facts(now=NOW)
    late = judge(Kind.TASK, S.COMPLETED, S.RUNNING, facts)
    assert late == Abort("The run has ended as COMPLETED.")
    early = judge(Kind.TASK, None, S.RUNNING, facts, proposed_name="Running")
    assert early == Abort("A run begins as Scheduled or Pending, not as Running.")
    named_late = judge(Kind.TASK, S.COMPLETED, S.RUNNING, facts, current_name="Cached")
    assert named_late == Abort("The run has ended as Cached.")
    unnamed = judge(Kind.TASK, None, S.RUNNING, facts)
    assert unnamed == Abort("A run begins as Scheduled or Pending, not as RUNNING.")


def test_what_is_only_called_suspended_is_not() -> None:
    ordered = Facts(now=NOW, delivered="suspend")
    verdict = judge(Kind.FLOW, S.RUNNING, S.COMPLETED, ordered, proposed_name="Suspended")
    assert as_tuple(verdict) == ("reject", S.PAUSED, "Suspended", None)


def test_what_is_being_cancelled_is_not_suspended_any_more() -> None:
    ordered = Facts(now=NOW, delivered="suspend")
    for proposed in (S.COMPLETED, S.FAILED, S.PAUSED, S.CANCELLED):
        verdict = judge(Kind.FLOW, S.CANCELLING, proposed, ordered, proposed_name="Suspended")
        assert verdict is ACCEPT if proposed is S.CANCELLED else as_tuple(verdict)[1] is S.CANCELLED


def test_a_foreign_proposal_without_a_run_is_plainly_accepted() -> None:
    assert judge(Kind.FLOW, S.PENDING, S.CANCELLED, Facts(now=NOW, foreign=True)) is ACCEPT


def test_every_rule_is_used_and_tells_its_race() -> None:
    rules = {fn for _, fn in inspect.getmembers(guards, inspect.isfunction) if not fn.__name__.startswith("_")}
    assert rules == {rule for row in TABLE.values() for rule in row}
    for rule in rules:
        assert "Closes:" in (rule.__doc__ or ""), rule.__name__
