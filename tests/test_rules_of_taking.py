"""Who may take up or begin again a run: the rules, against what they should say, written down a second time."""

from __future__ import annotations

import itertools
from typing import Any
from uuid import UUID

import pytest

from callsheet._model.kinds import Kind, StateType
from callsheet._rules import taking
from callsheet._rules.again import judge_again
from callsheet._rules.facts import Facts
from callsheet._rules.taking import judge_taking
from test_rules import NOW, as_tuple, named

S = StateType
ENDED = {S.COMPLETED, S.FAILED, S.CANCELLED, S.CRASHED}
CRASHED = ("reject", S.CRASHED, "Crashed", None)
STATES = [old for one in (None, *StateType) for old in named(one)]


def wanted(kind: Kind, state: Any, name: Any, due: float | None, died: bool, known: bool, often: int) -> Any:
    """Say what becomes of a run that an engine wants."""
    if state in ENDED:
        return ("abort",)
    if died and state is S.CANCELLING:
        return ("reject", S.CANCELLED, "Cancelled", None)
    if died:
        return ("accept",) if kind is Kind.FLOW and known and often < 5 else CRASHED
    woken = state is S.SCHEDULED or (name == "Suspended" and due is not None)
    if kind is Kind.TASK or not woken:
        return ("abort",)
    return ("wait", due, False) if due is not None and due > NOW else ("accept",)


@pytest.mark.parametrize("kind", Kind)
def test_taking_says_what_the_model_says(kind: Kind) -> None:
    flags = (False, True)
    for (state, name), due, died, known, often in itertools.product(
        STATES, (None, NOW, NOW + 1), flags, flags, (0, 4, 5, 6)
    ):
        facts = Facts(now=NOW, due_at=due)
        verdict = judge_taking(kind, state, facts, name=name, died=died, known=known, recoveries=often)
        assert as_tuple(verdict) == wanted(kind, state, name, due, died, known, often), (state, name, due, died)


def test_why_a_run_ends_with_its_engine_is_said() -> None:
    facts = Facts(now=NOW)

    def why(kind: Kind = Kind.FLOW, state: S = S.RUNNING, known: bool = True, recoveries: int = 0) -> Any:
        return judge_taking(kind, state, facts, died=True, known=known, recoveries=recoveries)

    assert "a task outside of flows" in why(Kind.TASK).message
    assert "no other knows its flow" in why(known=False).message
    assert "6 of them one after the other" in why(recoveries=taking.MOST_RECOVERIES).message
    assert why(state=S.FAILED).reason == "The run has ended."


def test_what_is_only_called_suspended_waits_for_nobody() -> None:
    facts = Facts(now=NOW, due_at=NOW)
    verdict = judge_taking(Kind.FLOW, S.RUNNING, facts, name="Suspended", died=False, known=True, recoveries=0)
    assert as_tuple(verdict) == ("abort",)


@pytest.mark.parametrize("retry", [False, True])
def test_only_what_has_ended_begins_again_and_a_retry_only_what_has_not_completed(retry: bool) -> None:
    facts = Facts(now=NOW, restart=True, foreign=True, run_id=UUID(int=7), seq=3)
    for state, name in STATES:
        may = state in ENDED and not (retry and state is S.COMPLETED)
        verdict = judge_again(state, facts, name=name, retry=retry)
        assert as_tuple(verdict) == (("accept if", UUID(int=7), 3) if may else ("abort",)), (state, name)


def test_what_was_not_asked_for_explicitly_does_not_begin_again() -> None:
    verdict = judge_again(S.FAILED, Facts(now=NOW), name="TimedOut", retry=True)
    assert verdict.reason == "The run has ended as TimedOut."  # type: ignore[union-attr]
    assert judge_again(S.COMPLETED, Facts(now=NOW), retry=True).reason.startswith("It has completed")  # type: ignore[union-attr]
    assert judge_again(S.RUNNING, Facts(now=NOW), retry=True).reason.startswith("It has not ended")  # type: ignore[union-attr]
