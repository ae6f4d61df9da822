"""Identities of calls, by property."""

from __future__ import annotations

from random import Random
from uuid import uuid4

from hypothesis import given
from hypothesis import strategies as st

from callsheet._rules.identity import ROOT, Branches, calls_of_body, element, keyed_identity, task_identity


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


def test_ids_of_runs_are_parents() -> None:
    run = uuid4()
    assert Branches(run.bytes).identify(ROOT, "a") == task_identity(run.bytes, ROOT, "a", 0)


def test_identities_are_those_of_earlier_releases() -> None:
    branches = Branches(b"run")
    ids = [
        task_identity(b"run", "branch", "load", 2),
        keyed_identity(b"run", "load"),
        element(b"call", 1),
        branches.identify(ROOT, "load"),
        branches.identify(ROOT, "load"),
        branches.anchor("load", b"inputs"),
        branches.anchor("load", b"inputs"),
        branches.anchor("load", b"inputs"),
        branches.anchor("load", None),
    ]
    assert [one.hex() for one in ids] == [
        "27b8cb657b950931d7379e45ac66c670",
        "f098602d90a96fe9f2c74fac09dd44e5",
        "b00b70894d85c0dfd5037fde1e2dce7f",
        "73aab60b36d5ed3955c1e40ad3099a25",
        "c66e561c759340323b41991e7420d9cb",
        "787882ee6b22985a150602b5df32bb27",
        "bd6fc7bdc2b60f50a4824a744d09e2bb",
        "7efca75764eb8124621fa8a0d8e8c155",
        "2d4dad5dda6fd6ee1eac5c03f833ee7b",
    ], "histories on disk would no longer find their calls"


# ------------------------------------------------------------------------------ the calls of a body

RUN = b"run"
body_calls = st.lists(
    st.tuples(st.sampled_from([ROOT, ROOT, b"x"]), st.sampled_from("ab"), st.none() | st.integers(1, 7)), max_size=12
)


@given(body_calls, st.randoms())
def test_calls_of_a_body_are_told_from_those_in_its_branches(
    calls: list[tuple[bytes, str, int | None]], random: Random
) -> None:
    branches = Branches(RUN)
    known: list[tuple[str, bytes]] = []
    wanted: dict[bytes, bytes] = {}
    for branch, key, elements in calls:
        call = branches.identify(branch, key)
        ids = [call] if elements is None else [element(call, index) for index in range(elements)]
        known += [(key, one) for one in ids]
        wanted |= dict.fromkeys(ids, call) if branch == ROOT else {}
    random.shuffle(known)
    assert calls_of_body(RUN, known) == wanted


def test_calls_of_a_body_are_found_after_some_of_which_nothing_is_known() -> None:
    calls = [task_identity(RUN, ROOT, "a", ordinal) for ordinal in range(6)]
    assert calls_of_body(RUN, [("a", calls[4])]) == {calls[4]: calls[4]}
    assert calls_of_body(RUN, [("a", calls[1]), ("a", calls[5])]) == {one: one for one in (calls[1], calls[5])}
    late = element(calls[4], 3)
    assert calls_of_body(RUN, [("a", late)]) == {late: calls[4]}
    some = [element(calls[0], index) for index in (3, 5)]
    assert calls_of_body(RUN, [("a", one) for one in some]) == dict.fromkeys(some, calls[0])
