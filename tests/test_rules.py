"""The table of transitions against its model; delays, identities and digests by property."""

from __future__ import annotations

import dataclasses
import enum
import inspect
import itertools
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from callsheet._model.kinds import TERMINAL_STATES, Kind, StateType
from callsheet._model.records import SeqIs
from callsheet._rules import guards
from callsheet._rules.digest import DEPTH, LIMIT, PARTS, inputs_digest
from callsheet._rules.facts import Facts
from callsheet._rules.identity import ROOT, Branches, element, keyed_identity, task_identity
from callsheet._rules.retry import retry_delay
from callsheet._rules.table import TABLE, judge
from callsheet._rules.verdicts import ACCEPT, Abort, Accept, AcceptIf, GoOn, Reject, Verdict, Wait
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
        list(itertools.product((1, 2, 3), flags, (0.0, 5.0))) if proposed is S.FAILED else [(1, True, 0.0)]
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


# ------------------------------------------------------------------------------------------- delays


@given(
    delays=st.floats(0, 1e6) | st.lists(st.floats(0, 1e6), max_size=50),
    attempt=st.integers(1, 100),
    jitter=st.none() | st.floats(0, 10),
    u=st.floats(0, 1, exclude_max=True),
)
def test_a_delay_is_never_shorter_than_asked_and_at_most_its_jitter_longer(
    delays: float | list[float], attempt: int, jitter: float | None, u: float
) -> None:
    base = retry_delay(delays, attempt)
    chosen = retry_delay(delays, attempt, jitter, u)
    assert base <= chosen <= base * (1 + (jitter or 0)) + 1e-9
    if isinstance(delays, list):
        assert base == (delays[min(attempt, len(delays)) - 1] if delays else 0)


def test_no_delay_is_zero_and_none_is_negative() -> None:
    assert retry_delay(None, 1) == retry_delay([], 1) == retry_delay(-3, 1, 2.0, 0.5) == 0


# -------------------------------------------------------------------------------------- identities


@given(
    st.lists(
        st.tuples(st.binary(max_size=4), st.binary(max_size=4), st.text(max_size=4), st.integers(0, 5)),
        min_size=2,
        max_size=2,
        unique=True,
    )
)
def test_different_calls_have_different_identities(calls: list[tuple[bytes, bytes, str, int]]) -> None:
    one, other = (task_identity(*call) for call in calls)
    assert one != other
    assert len(one) == 16


def test_parts_of_an_identity_do_not_run_into_each_other() -> None:
    split = [(b"ab", b"c", "d"), (b"a", b"bc", "d"), (b"ab", b"", "cd"), (b"abcd", b"", ""), (b"", b"abc", "d")]
    assert len({task_identity(*parts, 0) for parts in split}) == len(split)
    branches = Branches(b"run")
    assert branches.anchor("ab", b"c") != branches.anchor("a", b"bc")


@given(st.lists(st.tuples(st.sampled_from([ROOT, b"x", b"y"]), st.sampled_from(["a", "b"])), max_size=30))
def test_branches_do_not_disturb_each_other(calls: list[tuple[bytes, str]]) -> None:
    together = Branches(b"run")
    seen = [(branch, key, together.identify(branch, key)) for branch, key in calls]
    for alone in {branch for branch, _ in calls}:
        again = Branches(b"run")
        for branch, key, identity in seen:
            if branch == alone:
                assert again.identify(branch, key) == identity


@given(st.permutations([("a", b"1"), ("a", b"2"), ("b", b"1"), ("b", None)]))
def test_anchors_do_not_depend_on_the_order_in_which_branches_start(order: list[tuple[str, bytes | None]]) -> None:
    first, second = Branches(b"run"), Branches(b"run")
    assert {call: first.anchor(*call) for call in order} == {
        call: second.anchor(*call) for call in sorted(order, key=lambda call: (call[0], call[1] or b""))
    }


def test_branches_with_the_same_first_call_are_numbered() -> None:
    branches = Branches(b"run")
    names = [branches.anchor("a", b"1") for _ in range(3)]
    assert len(set(names)) == 3
    again = Branches(b"run")
    assert names == [again.anchor("a", b"1") for _ in range(3)]


def test_a_forgotten_branch_costs_nothing_and_counts_anew() -> None:
    branches = Branches(b"run")
    name = branches.anchor("a", None)
    first = branches.identify(name, "a")
    branches.forget(name)
    branches.forget(name)
    assert branches.identify(name, "a") == first
    assert branches.anchor("a", None) != name


def test_elements_keys_and_calls_are_told_apart() -> None:
    call = task_identity(b"run", ROOT, "a", 0)
    ids = {call, element(call, 0), element(call, 1), keyed_identity(b"run", "a"), keyed_identity(b"other", "a")}
    ids |= {task_identity(b"run", "branch", "a", 0), task_identity(b"run", b"other", "a", 0)}
    assert len(ids) == 7
    assert task_identity(b"run", "branch", "a", 0) == task_identity(b"run", b"branch", "a", 0)


# ----------------------------------------------------------------------------------------- digests

scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary()
values = st.recursive(
    scalars | st.decimals(allow_nan=False) | st.uuids() | st.datetimes(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.tuples(inner, inner)
        | st.dictionaries(st.text(max_size=3) | st.integers(), inner, max_size=3)
    ),
    max_leaves=8,
)


def strict(value: Any) -> Any:
    """Give a form that is equal only for values of equal types too."""
    if isinstance(value, dict):
        return (dict, frozenset((strict(key), strict(item)) for key, item in value.items()))
    if isinstance(value, (list, tuple)):
        return (type(value), tuple(strict(item) for item in value))
    return (type(value), repr(value))


@given(one=values, other=values)
def test_digests_differ_where_values_do(one: Any, other: Any) -> None:
    same = strict(one) == strict(other)
    assert (inputs_digest({"x": one}) == inputs_digest({"x": other})) is same


@given(st.dictionaries(st.text(max_size=4), values, max_size=5), st.randoms())
def test_digests_do_not_depend_on_the_order_of_dicts(parameters: dict[str, Any], random: Any) -> None:
    items = list(parameters.items())
    random.shuffle(items)
    assert inputs_digest(dict(items)) == inputs_digest(parameters)
    assert inputs_digest({"x": dict(items)}) == inputs_digest({"x": parameters})


@given(values)
def test_digests_do_not_depend_on_being_asked_for_the_origin(value: Any) -> None:
    assert inputs_digest({"x": value}) == inputs_digest({"x": value}, lambda _: None)


class Colour(enum.IntEnum):
    RED = 1


@dataclasses.dataclass
class Point:
    x: int
    inner: Any = None


@dataclasses.dataclass
class OtherPoint:
    x: int
    inner: Any = None


class Row(msgspec.Struct):
    x: int
    inner: Any = None


def test_values_of_different_types_are_told_apart() -> None:
    alike: list[Any] = [
        1, True, 1.0, "1", b"1", Decimal(1), Colour.RED, [1], (1,), {1}, frozenset({1}), {1: None},
        Point(1), OtherPoint(1), Row(1), {"x": 1, "inner": None}, range(1), Path("1"), 2**70, hex(2**70),
        datetime(1, 1, 1), datetime(1, 1, 1, tzinfo=UTC), "\ud800",
    ]  # fmt: skip
    digests = [inputs_digest({"x": value}) for value in alike]
    assert None not in digests
    assert len(set(digests)) == len(alike)


def test_pydantic_models_are_digested_by_their_fields() -> None:
    import pydantic

    class Model(pydantic.BaseModel):
        x: int

    assert inputs_digest({"m": Model(x=1)}) == inputs_digest({"m": Model(x=1)}) != inputs_digest({"m": Model(x=2)})


def test_what_has_no_canonical_form_has_no_digest() -> None:
    loop: list[Any] = []
    loop.append(loop)
    deep: Any = 1
    for _ in range(DEPTH + 1):
        deep = [deep]
    for value in (object(), [object()], {"k": object()}, Point, len, loop, deep, Point(1, object())):
        assert inputs_digest({"x": value}) is None


def test_what_is_too_large_has_no_digest() -> None:
    for value in ("x" * (LIMIT + 1), b"x" * (LIMIT + 1), [0] * (LIMIT + 1), ["x" * LIMIT, "x"], [[]] * PARTS):
        assert inputs_digest({"x": value}) is None
    assert inputs_digest({"x": [0.5] * 50_000}) is not None
    assert inputs_digest({"x": [2**70] * 3}) is not None


def test_an_input_from_another_run_is_digested_as_that_run() -> None:
    sources: dict[int, bytes] = {}
    value = {"rows": [1, 2]}
    sources[id(value)] = b"run 1"

    def origin(item: Any) -> bytes | None:
        return sources.get(id(item))

    before = inputs_digest({"x": [value]}, origin)
    value["rows"].append(3)
    assert inputs_digest({"x": [value]}, origin) == before != inputs_digest({"x": [value]})
    sources[id(value)] = b"run 2"
    assert inputs_digest({"x": [value]}, origin) != before
    assert inputs_digest({"x": "text"}, lambda _: b"run") == inputs_digest({"x": object()}, lambda _: b"run")


@pytest.mark.parametrize("seed", ["1", "2"])
def test_digests_are_the_same_in_other_processes(seed: str) -> None:
    program = (
        "from callsheet._rules.digest import inputs_digest as d;"
        "print(d({'x': {'a', 'b', 'c'}, 'y': {'k': frozenset({'p', 'q'})}, 'z': [1.5, None]}).hex())"
    )
    source = str(Path(inspect.getfile(guards)).parents[2])
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={"PYTHONHASHSEED": seed, "PYTHONPATH": source},
        capture_output=True,
        text=True,
        check=True,
    )
    here = inputs_digest({"x": {"a", "b", "c"}, "y": {"k": frozenset({"p", "q"})}, "z": [1.5, None]})
    assert here is not None
    assert done.stdout.strip() == here.hex()


def test_ids_of_runs_are_parents() -> None:
    run = uuid4()
    assert Branches(run.bytes).identify(ROOT, "a") == task_identity(run.bytes, ROOT, "a", 0)
