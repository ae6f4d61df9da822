"""What every store must do: the same tests over memory and SQLite, read back without a loop and on each event loop."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Coroutine, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar
from uuid import UUID

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from callsheet._ids import new_id
from callsheet._model.kinds import Kind, StateType
from callsheet._model.letters import Letter
from callsheet._model.records import (
    Definition,
    Entry,
    FenceIs,
    InputDropped,
    InputFree,
    InputRecord,
    InputsResolved,
    InputStored,
    KeyFree,
    LetterAnswered,
    LetterDropped,
    LetterSent,
    LogFilter,
    LogRecord,
    OutcomeRecorded,
    Refusal,
    ResultBlob,
    RunCreated,
    RunFilter,
    RunRecord,
    RunRenamed,
    SeqIs,
    StateEntered,
)
from callsheet._store.memory import MemoryStore
from callsheet._store.protocol import Store
from callsheet._store.sqlite import SqliteStore
from callsheet.exceptions import StoreClosed
from store_helpers import FLOW, TASK, Refusing, at, finished, logged, moved, readers_are_closed, run_now, started

__all__ = ["readers_are_closed"]  # a fixture that every test here uses

T = TypeVar("T")


@pytest.fixture(params=["memory", "sqlite"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    made: Store = MemoryStore() if request.param == "memory" else SqliteStore(tmp_path / "history.db")
    made.open()
    yield made
    made.close()


@pytest.fixture
def ask(store: Store) -> Iterator[Callable[[Coroutine[Any, Any, T]], T]]:
    """Step a coroutine of the blocking reader to its end."""
    yield run_now


def runs(store: Store, where: RunFilter | None = None, **options: Any) -> list[RunRecord]:
    reader = store.blocking_reader()
    try:
        return list(run_now(reader.read_runs(where or RunFilter(), **options)).items)
    finally:
        run_now(reader.aclose())


def names(store: Store, **where: Any) -> list[str]:
    return [run.name for run in runs(store, RunFilter(**where))]


# ------------------------------------------------------------------------------------------- one run


def test_a_finished_run_is_read_back_as_it_was_written(store: Store) -> None:
    flow, task = new_id(), new_id()
    store.commit(
        [
            RunCreated(
                id=flow,
                kind=Kind.FLOW,
                definition=FLOW,
                name="blue-otter",
                created=at(0),
                root_id=flow,
                parameters=b'{"x":1}',
            ),
            RunCreated(
                id=task,
                kind=Kind.TASK,
                definition=TASK,
                name="work-0",
                created=at(1),
                parent_id=flow,
                flow_run_id=flow,
                root_id=flow,
                due_at=at(9),
                tags=("b", "a"),
                inputs=(("x", (flow,)), ("plain", ())),
                extra=b"extra",
            ),
            *finished(task, 2),
        ]
    )
    first, second = runs(store)
    assert (first.id, first.definition, first.name, first.parameters) == (flow, FLOW, "blue-otter", b'{"x":1}')
    assert (first.state, first.started, first.ended, first.attempt) == (None, None, None, 0)
    assert (first.root_id, first.parent_id) == (flow, None)
    assert (second.id, second.kind, second.definition, second.due_at) == (task, Kind.TASK, TASK, at(9))
    assert (second.parent_id, second.flow_run_id, second.root_id, second.parent_task_run_id) == (flow, flow, flow, None)
    assert (second.created, second.started, second.ended, second.attempt) == (at(1), at(3), at(4), 1)
    assert second.tags == ("a", "b")
    assert second.inputs == (("plain", ()), ("x", (flow,)))
    assert second.extra == b"extra"
    assert second.state is not None
    assert (second.state.type, second.state.name, second.state.seq, second.state.at) == (
        StateType.COMPLETED,
        "Completed",
        3,
        at(4),
    )


OWNER = new_id()


@pytest.mark.parametrize("batches", ["one", "several"])
@pytest.mark.parametrize(
    ("type", "name", "owner"),
    [
        (StateType.RUNNING, "Retrying", OWNER),
        (StateType.SCHEDULED, "AwaitingRetry", OWNER),
        (StateType.PAUSED, "Paused", OWNER),
        (StateType.PAUSED, "Suspended", None),
        (StateType.CANCELLING, "Cancelling", OWNER),
        (StateType.COMPLETED, "Completed", None),
        (StateType.FAILED, "Failed", None),
        (StateType.CANCELLED, "Cancelled", None),
        (StateType.CRASHED, "Crashed", None),
    ],
)
def test_a_run_has_an_owner_until_it_has_ended_or_waits_to_be_taken_up(
    store: Store, type: StateType, name: str, owner: UUID | None, batches: str
) -> None:
    run = new_id()
    entries = [started(run, kind=Kind.FLOW, owner=OWNER, entered=2), moved(run, 3, type, 1, name=name)]
    for batch in [entries] if batches == "one" else [entries[:1], entries[1:], entries[:1]]:
        store.commit(batch)
    (found,) = runs(store)
    assert (found.owner, found.recoveries, found.fence) == (owner, 0, 0)


def test_a_run_without_an_owner_has_none(store: Store) -> None:
    store.commit([started(new_id(), entered=2)])
    assert runs(store)[0].owner is None


def test_states_are_read_in_order_with_everything(store: Store) -> None:
    run = new_id()
    ids = [new_id(), new_id()]
    store.commit(
        [
            started(run),
            StateEntered(
                run_id=run,
                seq=1,
                type=StateType.SCHEDULED,
                name="AwaitingRetry",
                at=at(1),
                state_id=ids[0],
                message="later",
                details=b"d",
            ),
            StateEntered(
                run_id=run, seq=2, type=StateType.RUNNING, name="Retrying", at=at(2), state_id=ids[1], attempt=2
            ),
        ]
    )
    first, second = run_now(store.blocking_reader().read_states(run))
    assert (first.run_id, first.seq, first.id, first.type, first.name) == (
        run,
        1,
        ids[0],
        StateType.SCHEDULED,
        "AwaitingRetry",
    )
    assert (first.at, first.message, first.details) == (at(1), "later", b"d")
    assert (second.seq, second.name, second.message, second.details) == (2, "Retrying", None, None)
    assert run_now(store.blocking_reader().read_states(new_id())) == ()


def test_a_run_that_leaves_a_terminal_state_has_not_ended(store: Store) -> None:
    run = new_id()
    store.commit([started(run), *finished(run, 0)])
    assert runs(store)[0].ended == at(2)
    store.commit([moved(run, 4, StateType.RUNNING, 9, attempt=2)])
    (found,) = runs(store)
    assert (found.ended, found.started, found.attempt) == (None, at(1), 2)


def test_every_state_type_and_name_survives(store: Store) -> None:
    run = new_id()
    entries: list[Entry] = [started(run)]
    wanted = [(kind, name) for kind in StateType for name in (kind.value.capitalize(), "Other", "", "Übrig")]
    entries += [
        StateEntered(run_id=run, seq=seq, type=kind, name=name, at=at(seq), state_id=new_id())
        for seq, (kind, name) in enumerate(wanted)
    ]
    store.commit(entries)
    assert [(state.type, state.name) for state in run_now(store.blocking_reader().read_states(run))] == wanted


# ------------------------------------------------------------------------------- batches, again, apart


def test_the_same_batch_again_changes_nothing(store: Store) -> None:
    flow, task = new_id(), new_id()
    batch: list[Entry] = [
        started(flow, kind=Kind.FLOW),
        started(task, flow=flow, tags=("t",), inputs=(("x", (flow,)),)),
        *finished(task, 0),
        RunRenamed(task, "final"),
        InputsResolved(task, (("y", (flow,)),), b"{}"),
        OutcomeRecorded(
            flow_run_id=flow,
            identity=b"i" * 16,
            run_id=task,
            status=StateType.COMPLETED,
            result=ResultBlob("json", 1, b"1"),
        ),
        logged(flow, task, 1, "m"),
    ]
    store.commit(batch)
    before = everything(store, flow, task)
    store.commit(batch)
    store.commit(batch + [])
    assert everything(store, flow, task) == before
    assert before[0][1].name == "final"


def everything(store: Store, *ids: UUID) -> list[Any]:
    reader = store.blocking_reader()
    return [
        runs(store),
        [run_now(reader.read_states(one)) for one in ids],
        [run_now(reader.read_outcomes(one)) for one in ids],
        run_now(reader.read_logs(LogFilter())),
    ]


def test_a_batch_that_grew_is_taken_up_where_it_was(store: Store) -> None:
    run = new_id()
    creation, pending, running, completed = started(run), *finished(run, 0)
    store.commit([creation, pending])
    store.commit([creation, pending, running, RunRenamed(run, "renamed"), completed])
    (found,) = runs(store)
    assert (found.name, found.state and found.state.name, found.started) == ("renamed", "Completed", at(1))


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_states_may_come_in_any_order(store: Store, order: Sequence[int]) -> None:
    run = new_id()
    states = finished(run, 0)
    store.commit([started(run)])
    for index in order:
        store.commit([states[index]])
    (found,) = runs(store)
    assert (found.state and found.state.seq, found.started, found.ended, found.attempt) == (3, at(1), at(2), 1)
    assert [state.seq for state in run_now(store.blocking_reader().read_states(run))] == [1, 2, 3]


def test_states_may_come_before_their_run_in_one_batch(store: Store) -> None:
    run = new_id()
    store.commit([*finished(run, 0), RunRenamed(run, "early"), started(run)])
    (found,) = runs(store)
    assert (found.state and found.state.seq, found.started, found.attempt) == (3, at(1), 1)


def test_states_of_a_run_that_nobody_created_make_no_run(store: Store) -> None:
    store.commit([moved(new_id(), 1, StateType.RUNNING, 0), RunRenamed(new_id(), "ghost")])
    assert runs(store) == []


@pytest.mark.parametrize("size", [0, 1, 7, 8, 9, 100, 127, 128, 129, 1200])
def test_batches_of_any_size(store: Store, size: int) -> None:
    ids = [new_id() for _ in range(size)]
    store.commit([entry for one in ids for entry in (started(one), moved(one, 1, StateType.PENDING, 0))])
    store.commit([moved(one, 2, StateType.RUNNING, 1) for one in ids])
    reader = store.blocking_reader()
    assert run_now(reader.count_runs(RunFilter())) == size
    assert run_now(reader.count_states(RunFilter())) == ({(Kind.TASK, "Running"): size} if size else {})


def test_renames_inputs_and_parameters_that_come_later(store: Store) -> None:
    run, first, second = (new_id() for _ in range(3))
    store.commit([started(run, inputs=(("x", (second,)),), parameters=b"{}")])
    store.commit([RunRenamed(run, "final"), InputsResolved(run, (("x", (first, second)), ("y", ())), b'{"x":2}')])
    (found,) = runs(store)
    assert (found.name, found.parameters) == ("final", b'{"x":2}')
    assert found.inputs == (("x", tuple(sorted((first, second)))), ("y", ()))


def test_text_that_no_database_can_hold_does_not_lose_the_batch(store: Store) -> None:
    run = new_id()
    store.commit([started(run), logged(None, run, 0, "file \udcff.txt"), moved(run, 1, StateType.RUNNING, 0)])
    assert runs(store)[0].state is not None
    (log,) = run_now(store.blocking_reader().read_logs(LogFilter())).items
    assert isinstance(log, LogRecord)
    assert log.message.startswith("file ")


def read_the_same(
    tmp_path: Path, history: Sequence[Entry], cuts: list[int], chance: random.Random, ids: Sequence[UUID]
) -> list[Any]:
    """Commit a history in pieces, some of them twice, to both kinds of stores, and give what both tell of it."""
    stores: list[Store] = [MemoryStore(), SqliteStore(tmp_path / f"{new_id()}.db")]
    for store in stores:
        store.open()
        last = 0
        for cut in [*sorted(cuts), len(history)]:
            store.commit(history[last:cut])
            if chance.random() < 0.3:
                store.commit(history[last:cut])
            last = max(last, cut)
    memory, sqlite = (everything(store, *ids) for store in stores)
    assert memory == sqlite
    for store in stores:
        store.close()
    return memory


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**32), cuts=st.lists(st.integers(0, 40), max_size=5))
def test_any_partition_of_a_history_gives_the_same_records(tmp_path: Path, seed: int, cuts: list[int]) -> None:
    chance = random.Random(seed)
    ids = [new_id() for _ in range(4)]
    history: list[Entry] = [started(one, kind=chance.choice(list(Kind))) for one in ids]
    for seq in range(1, 9):
        one = chance.choice(ids)
        history.append(moved(one, seq, chance.choice(list(StateType)), seq, attempt=seq))
    read_the_same(tmp_path, history, cuts, chance, ids)


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**32), cuts=st.lists(st.integers(0, 40), max_size=5), shuffled=st.booleans())
def test_usual_lives_read_the_same_whatever_they_are_kept_as(
    tmp_path: Path, seed: int, cuts: list[int], shuffled: bool
) -> None:
    """Most runs go Pending, Running, Completed; stores may keep these states without a row for each."""
    chance = random.Random(seed)
    ids = [new_id() for _ in range(5)]
    history: list[Entry] = []
    for one in ids:
        entered = chance.randrange(3)
        history.append(started(one, created=chance.randrange(9), entered=entered))
        for seq, kind in list(enumerate((StateType.PENDING, StateType.RUNNING, StateType.COMPLETED), 1))[entered:]:
            plain = chance.random() < 0.7
            state = moved(one, seq, kind, chance.randrange(9), name=None if plain else "Other", attempt=int(seq > 1))
            history.append(msgspec.structs.replace(state, state_id=None) if chance.random() < 0.9 else state)
        if chance.random() < 0.3:
            history.append(moved(one, 4, StateType.RUNNING, chance.randrange(9), attempt=2))
    if shuffled:  # each run's creation first, as the commit order has it
        history.sort(key=lambda entry: (not isinstance(entry, RunCreated), chance.random()))
    records = read_the_same(tmp_path, history, cuts, chance, ids)
    assert len(records[1][0]) >= 3


# ------------------------------------------------------------------------------------------- guards


def test_a_guard_that_does_not_hold_refuses_only_its_own_entry(store: Store) -> None:
    one, other = new_id(), new_id()
    store.commit([started(one), started(other), moved(one, 1, StateType.RUNNING, 0)])
    guard = SeqIs(one, 0)
    refused = store.commit(
        [
            moved(other, 1, StateType.RUNNING, 0),
            moved(one, 2, StateType.PAUSED, 1, guards=(guard,)),
            moved(other, 2, StateType.COMPLETED, 1),
        ]
    )
    assert refused == [Refusal(1, guard, 1)]
    assert [run.state and run.state.name for run in runs(store)] == ["Running", "Completed"]


def test_a_guard_sees_what_came_before_it_in_its_batch(store: Store) -> None:
    run = new_id()
    refused = store.commit(
        [
            started(run),
            moved(run, 1, StateType.PENDING, 0, guards=(SeqIs(run, -1),)),
            moved(run, 2, StateType.RUNNING, 1, guards=(SeqIs(run, 1), FenceIs(run, 0))),
            moved(run, 3, StateType.COMPLETED, 2, guards=(SeqIs(run, 1),)),
        ]
    )
    assert refused == [Refusal(3, SeqIs(run, 1), 2)]
    assert runs(store)[0].state and runs(store)[0].state.seq == 2  # type: ignore[union-attr]


def test_guards_on_a_run_that_does_not_exist(store: Store) -> None:
    run = new_id()
    refused = store.commit(
        [
            moved(run, 1, StateType.RUNNING, 0, guards=(SeqIs(run, 0),)),
            moved(run, 2, StateType.RUNNING, 0, guards=(FenceIs(run, 3),)),
        ]
    )
    assert refused == [Refusal(0, SeqIs(run, 0), None), Refusal(1, FenceIs(run, 3), None)]
    assert run_now(store.blocking_reader().read_states(run)) == ()


def test_a_guarded_batch_again_is_not_refused(store: Store) -> None:
    run = new_id()
    key = KeyFree("flow", "k", run)
    batch = [
        started(run, guards=(key,)),
        moved(run, 1, StateType.PENDING, 0),
        moved(run, 2, StateType.RUNNING, 1, guards=(SeqIs(run, 1),)),
    ]
    assert store.commit(batch) == []
    assert store.commit(batch) == []


def test_a_key_belongs_to_the_first_who_takes_it(store: Store) -> None:
    one, other, third = new_id(), new_id(), new_id()
    assert store.commit([started(one, guards=(KeyFree("flow", "k", one),))]) == []
    refused = store.commit(
        [
            started(other, guards=(KeyFree("flow", "k", other),)),
            started(third, guards=(KeyFree("flow", "other", third),)),
        ]
    )
    assert refused == [Refusal(0, KeyFree("flow", "k", other), one)]
    assert {run.id for run in runs(store)} == {one, third}


def test_a_key_taken_twice_in_one_batch(store: Store) -> None:
    one, other = new_id(), new_id()
    refused = store.commit([started(run, guards=(KeyFree("flow", "k", run),)) for run in (one, other)])
    assert refused == [Refusal(1, KeyFree("flow", "k", other), one)]


@pytest.mark.parametrize("index", range(5))
def test_any_entry_can_be_refused_by_a_fake(store: Store, index: int) -> None:
    run = new_id()
    batch = [started(run), *finished(run, 0), RunRenamed(run, "x")]
    refusing = Refusing(store, lambda entry: entry is batch[index])
    (refusal,) = refusing.commit(batch)
    assert refusal.index == index
    assert refusing.try_commit(batch) == [refusal]
    states = run_now(refusing.blocking_reader().read_states(run))
    assert len(states) == (2 if 1 <= index <= 3 else 3)


# ------------------------------------------------------------------------------------------- reading


@pytest.fixture
def tree(store: Store) -> dict[str, UUID]:
    """Two flows with tasks, a subflow with its tracking task, and a task outside of flows."""
    ids = {name: new_id() for name in ("f1", "t1", "t2", "track", "sub", "t3", "f2", "alone", "inner")}
    store.commit(
        [
            started(ids["f1"], kind=Kind.FLOW, name="f1", root=ids["f1"], created=0),
            started(ids["t1"], flow=ids["f1"], root=ids["f1"], name="T1_%", tags=("a", "b"), created=10),
            *finished(ids["t1"], 10),
            started(ids["t2"], flow=ids["f1"], root=ids["f1"], name="t2", tags=("b",), created=20),
            moved(ids["t2"], 1, StateType.FAILED, 20, name="TimedOut"),
            started(ids["track"], flow=ids["f1"], root=ids["f1"], name="track", created=30),
            RunCreated(
                id=ids["sub"],
                kind=Kind.FLOW,
                definition=Definition(Kind.FLOW, "m.sub", "sub"),
                name="sub",
                created=at(31),
                parent_id=ids["f1"],
                flow_run_id=ids["f1"],
                parent_task_run_id=ids["track"],
                root_id=ids["f1"],
            ),
            started(ids["t3"], flow=ids["sub"], root=ids["f1"], name="t3", created=40),
            moved(ids["t3"], 1, StateType.RUNNING, 40),
            started(ids["f2"], kind=Kind.FLOW, root=ids["f2"], name="f2", tags=("a",), created=50),
            moved(ids["f2"], 1, StateType.CRASHED, 60),
            started(ids["alone"], name="alone", created=70),
            RunCreated(
                id=ids["inner"],
                kind=Kind.TASK,
                definition=TASK,
                name="inner",
                created=at(80),
                parent_id=ids["alone"],
                root_id=ids["alone"],
            ),
        ]
    )
    return ids


FILTERS: list[tuple[dict[str, Any], list[str]]] = [
    ({}, ["f1", "T1_%", "t2", "track", "sub", "t3", "f2", "alone", "inner"]),
    ({"kind": Kind.FLOW}, ["f1", "sub", "f2"]),
    ({"kind": Kind.TASK, "state_types": (StateType.COMPLETED,)}, ["T1_%"]),
    ({"state_types": (StateType.COMPLETED, StateType.FAILED)}, ["T1_%", "t2"]),
    ({"state_types": (StateType.FAILED, StateType.RUNNING)}, ["t2", "t3"]),
    ({"kind": Kind.FLOW, "state_types": (StateType.CRASHED,)}, ["f2"]),
    ({"state_names": ("TimedOut", "Completed")}, ["T1_%", "t2"]),
    ({"state_names": ("Failed",)}, []),
    ({"state_types": ()}, []),
    ({"names": ("t2", "f2", "nobody")}, ["t2", "f2"]),
    ({"name_like": "T"}, ["T1_%", "t2", "track", "t3"]),
    ({"name_like": "1_%"}, ["T1_%"]),
    ({"definition_names": ("sub",)}, ["sub"]),
    ({"definition_names": ("work", "sub"), "kind": Kind.TASK, "tags_any": ("a", "b")}, ["T1_%", "t2"]),
    ({"tags_all": ("a", "b")}, ["T1_%"]),
    ({"tags_all": ()}, ["f1", "T1_%", "t2", "track", "sub", "t3", "f2", "alone", "inner"]),
    ({"tags_any": ("a", "zzz")}, ["T1_%", "f2"]),
    ({"tags_any": ()}, []),
    ({"is_root": True}, ["f1", "f2", "alone"]),
    ({"is_root": False, "kind": Kind.FLOW}, ["sub"]),
    ({"created_after": at(20), "created_before": at(31)}, ["t2", "track", "sub"]),
    ({"created_after": at(70)}, ["alone", "inner"]),
    ({"started_after": at(11), "started_before": at(11)}, ["T1_%"]),
    ({"started_before": at(40)}, ["T1_%", "t3"]),
    ({"ended_after": at(12), "ended_before": at(59)}, ["T1_%", "t2"]),
    ({"ended_after": at(20)}, ["t2", "f2"]),
]


@pytest.mark.parametrize(("where", "wanted"), FILTERS, ids=[str(list(where)) for where, _ in FILTERS])
@pytest.mark.usefixtures("tree")
def test_filters(store: Store, where: dict[str, Any], wanted: list[str]) -> None:
    assert names(store, **where) == wanted
    reader = store.blocking_reader()
    assert run_now(reader.count_runs(RunFilter(**where))) == len(wanted)
    found = runs(store, RunFilter(**where))
    counts: dict[tuple[Kind, str], int] = {}
    for run in found:
        if run.state:
            counts[run.kind, run.state.name] = counts.get((run.kind, run.state.name), 0) + 1
    assert run_now(reader.count_states(RunFilter(**where))) == counts


def test_a_second_creation_in_one_batch_is_judged_too(store: Store) -> None:
    run = new_id()
    guard = SeqIs(run, 7)
    assert store.commit([started(run), started(run, guards=(guard,))]) == [Refusal(1, guard, -1)]


def test_filters_by_ids(store: Store, tree: dict[str, UUID]) -> None:
    assert names(store, ids=(tree["t3"], tree["f1"], new_id())) == ["f1", "t3"]
    assert names(store, ids=()) == []
    assert names(store, flow_run_ids=(tree["f1"],)) == ["T1_%", "t2", "track", "sub"]
    assert names(store, flow_run_ids=(tree["sub"], tree["f2"])) == ["t3"]
    assert names(store, parent_ids=(tree["alone"],)) == ["inner"]
    assert names(store, parent_ids=(tree["f1"],), kind=Kind.FLOW) == ["sub"]
    assert names(store, parent_task_run_ids=(tree["track"],)) == ["sub"]
    assert names(store, root_ids=(tree["f1"],)) == ["f1", "T1_%", "t2", "track", "sub", "t3"]


@pytest.mark.parametrize("newest_first", [False, True])
@pytest.mark.parametrize("limit", [1, 2, 4, 9, 100])
@pytest.mark.usefixtures("tree")
def test_pages_of_runs_join_up(store: Store, limit: int, newest_first: bool) -> None:
    reader = store.blocking_reader()
    everyone = [run.name for run in runs(store, newest_first=newest_first)]
    assert everyone == (list(reversed(FILTERS[0][1])) if newest_first else FILTERS[0][1])
    found: list[str] = []
    cursor = None
    while True:
        page = run_now(reader.read_runs(RunFilter(), limit=limit, cursor=cursor, newest_first=newest_first))
        assert len(page.items) <= limit
        found += [run.name for run in page.items]
        cursor = page.cursor
        if cursor is None:
            break
    assert found == everyone
    assert [run.name for run in runs(store, offset=7, newest_first=newest_first)] == everyone[7:]
    assert runs(store, offset=100) == []


@pytest.mark.parametrize("newest_first", [False, True])
@pytest.mark.parametrize("limit", [1, 3, 100])
def test_logs(store: Store, limit: int, newest_first: bool) -> None:
    flow, task, alone = new_id(), new_id(), new_id()
    moments = [5, 1, 1, 3, 2]
    owners = [(flow, None), (flow, task), (flow, task), (None, alone), (None, None)]
    written = [
        logged(*owner, moment, f"m{n}", 10 * n) for n, (owner, moment) in enumerate(zip(owners, moments, strict=True))
    ]
    store.commit(written)
    reader = store.blocking_reader()

    def found(**where: Any) -> list[str]:
        messages: list[str] = []
        cursor = None
        while True:
            page = run_now(reader.read_logs(LogFilter(**where), limit=limit, cursor=cursor, newest_first=newest_first))
            messages += [log.message for log in page.items]
            cursor = page.cursor
            if cursor is None:
                return messages[::-1] if newest_first else messages

    assert found() == ["m1", "m2", "m4", "m3", "m0"]
    assert found(flow_run_ids=(flow,)) == ["m1", "m2", "m0"]
    assert found(flow_run_ids=(alone,)) == []
    assert found(task_run_ids=(task, alone)) == ["m1", "m2", "m3"]
    assert found(level_at_least=20) == ["m2", "m4", "m3"]
    assert found(after=at(2), before=at(3)) == ["m4", "m3"]
    everything_ = run_now(reader.read_logs(LogFilter(), offset=3)).items
    assert everything_[0] == LogRecord(
        flow_run_id=None, task_run_id=alone, at=at(3), level=30, logger="log", message="m3", n=written[3].n
    )


def test_outcomes_are_those_of_one_flow_run_and_the_newest_counts(store: Store) -> None:
    flow, other = new_id(), new_id()
    tasks = [new_id() for _ in range(4)]
    blob = ResultBlob("json", 3, b"[1]", None, b"d" * 16)
    file = ResultBlob("pickle", 1 << 20, None, "file:///r", b"e" * 16)

    def outcome(index: int, identity: bytes, **options: Any) -> OutcomeRecorded:
        return OutcomeRecorded(
            flow_run_id=flow, identity=identity * 16, run_id=tasks[index], status=StateType.COMPLETED, **options
        )

    store.commit(
        [
            outcome(0, b"a", result=blob, inputs_digest=b"x"),
            outcome(1, b"b", recorded=False),
            outcome(2, b"c", result=file),
        ]
    )
    store.commit([OutcomeRecorded(flow_run_id=other, identity=b"a" * 16, run_id=new_id(), status=StateType.FAILED)])
    store.commit([outcome(3, b"a")])
    first, second, third = run_now(store.blocking_reader().read_outcomes(flow))
    assert (first.run_id, first.recorded, first.result) == (tasks[1], False, None)
    assert (second.run_id, second.result) == (tasks[2], file)
    assert (third.run_id, third.identity, third.flow_run_id) == (tasks[3], b"a" * 16, flow)
    every = run_now(store.blocking_reader().read_outcomes(flow, every=True))
    assert [one.run_id for one in every] == tasks[:4]
    assert run_now(store.blocking_reader().read_outcomes(new_id())) == ()
    several = run_now(store.blocking_reader().read_outcomes_of([other, new_id(), flow]))
    assert several[flow] == (first, second, third)
    assert [one.status for one in several.pop(other)] == [StateType.FAILED]
    assert list(several) == [flow]


def test_an_outcome_of_the_same_run_again_replaces(store: Store) -> None:
    flow, run = new_id(), new_id()
    for status in (StateType.FAILED, StateType.COMPLETED):
        store.commit(
            [
                OutcomeRecorded(
                    flow_run_id=flow, identity=b"a" * 16, run_id=run, status=status, result=ResultBlob("json", 1, b"1")
                )
            ]
        )
    (found,) = run_now(store.blocking_reader().read_outcomes(flow))
    assert (found.status, found.result) == (StateType.COMPLETED, ResultBlob("json", 1, b"1"))


@pytest.mark.anyio
async def test_the_reader_of_each_event_loop(store: Store) -> None:
    run = new_id()
    store.commit([started(run, tags=("t",)), *finished(run, 0)])
    reader = store.reader()
    try:
        page = await reader.read_runs(RunFilter(tags_all=("t",)))
        assert [one.id for one in page.items] == [run]
        assert await reader.count_runs(RunFilter()) == 1
        assert await reader.count_states(RunFilter()) == {(Kind.TASK, "Completed"): 1}
        assert len(await reader.read_states(run)) == 3
        assert (await reader.read_logs(LogFilter())).items == ()
        assert await reader.read_outcomes(run) == ()
    finally:
        await reader.aclose()
    await reader.aclose()
    with pytest.raises(StoreClosed):
        await reader.count_runs(RunFilter())


# --------------------------------------------------------------------------------------------- life


def test_a_store_opens_and_closes_more_than_once(store: Store) -> None:
    run = new_id()
    store.open()
    store.commit([started(run)])
    store.close()
    store.close()
    with pytest.raises(StoreClosed, match="closed"):
        store.commit([moved(run, 1, StateType.RUNNING, 0)])
    store.open()
    store.commit([moved(run, 1, StateType.RUNNING, 0)], sync=True)
    assert runs(store)[0].state is not None
    store.tend()
    assert store.commit((), sync=True) == []


def test_only_what_is_announced_can_be_waited_for(store: Store) -> None:
    with pytest.raises(NotImplementedError, match="mailbox"):
        store.wait(["history", "mailbox"], 0.0, stopped=lambda: False)
    assert store.wait(["history"], 0.0, stopped=lambda: False) == ()
    assert abs(store.now() - at(0)) < 10**15
    assert store.location


def test_a_closed_reader_says_so(store: Store) -> None:
    reader = store.blocking_reader()
    run_now(reader.aclose())
    with pytest.raises(StoreClosed):
        run_now(reader.count_runs(RunFilter()))


# ---------------------------------------------------------------------------------------- what runs are handed


def handed(run: UUID, key: str, step: int, value: str = "1", guards: tuple[Any, ...] = ()) -> InputStored:
    return InputStored(run_id=run, key=key, id=new_id(), at=at(step), value=value, sender="me", guards=guards)


def test_inputs_are_read_by_key_and_prefix_oldest_first(store: Store, ask: Callable[..., Any]) -> None:
    run, other = new_id(), new_id()
    entries = [handed(run, "b-1", 2), handed(run, "a", 1), handed(run, "b-2", 3), handed(other, "b-1", 0, "x")]
    store.commit(entries)
    store.commit(entries)  # again: nothing changes
    reader = store.blocking_reader()
    assert [one.key for one in ask(reader.read_inputs(run))] == ["a", "b-1", "b-2"]
    assert [one.key for one in ask(reader.read_inputs(run, prefix="b-", limit=1))] == ["b-1"]
    assert ask(reader.read_inputs(run, prefix="%")) == ()
    (found,) = ask(reader.read_inputs(other, key="b-1"))
    assert found == InputRecord(run_id=other, key="b-1", id=entries[3].id, at=at(0), value="x", sender="me")


def test_an_input_is_replaced_dropped_and_refused_where_one_is(store: Store, ask: Callable[..., Any]) -> None:
    run = new_id()
    first, second = handed(run, "k", 1, "1"), handed(run, "k", 2, "2")
    store.commit([first, second])
    reader = store.blocking_reader()
    assert [one.value for one in ask(reader.read_inputs(run))] == ["2"]
    third = handed(run, "k", 3, "3")
    guarded = msgspec.structs.replace(third, guards=(InputFree(run, "k", third.id),))
    assert store.commit([guarded]) == [Refusal(0, guarded.guards[0], second.id)]
    assert store.commit([InputDropped(run, "k"), guarded]) == []
    assert store.commit([guarded]) == []  # a batch that is committed again is not refused for what it did itself
    assert [one.value for one in ask(reader.read_inputs(run))] == ["3"]
    store.commit([InputDropped(run, "k"), InputDropped(run, "never there")])
    assert ask(reader.read_inputs(run)) == ()


def test_inputs_are_never_left_in_the_redo_log(store: Store) -> None:
    assert store.append([handed(new_id(), "k", 1)]) is None


# ---------------------------------------------------------------------------------------------- letters


def letter(engine: UUID, run: UUID, body: bytes = b"", guards: tuple[Any, ...] = ()) -> LetterSent:
    return LetterSent(token=new_id(), to_engine=engine, to_run=run, name="order", body=body, at=at(1), guards=guards)


def test_letters_arrive_in_order_and_are_answered_once(store: Store, ask: Callable[..., Any]) -> None:
    engine, run = new_id(), new_id()
    sent = [letter(engine, run, body) for body in (b"1", b"2", b"3")]
    store.commit([*sent, letter(new_id(), run)])
    store.commit(sent)  # again: nothing changes
    found = store.letters_to(engine)
    assert [one.body for one in found] == [b"1", b"2", b"3"]
    assert found[0] == Letter(
        number=found[0].number, token=sent[0].token, to_engine=engine, to_run=run, name="order", body=b"1", at=at(1)
    )
    assert [one.body for one in store.letters_to(engine, found[1].number)] == [b"3"]
    store.commit([LetterAnswered(sent[0].token, at(2), b"yes"), LetterAnswered(sent[1].token, at(2))])
    store.commit([LetterAnswered(sent[0].token, at(3), b"no")])
    assert [one.body for one in store.letters_to(engine)] == [b"3"]
    reader = store.blocking_reader()
    (answered,) = ask(reader.read_letters([sent[0].token, sent[1].token]))
    assert (answered.answered, answered.answer) == (at(2), b"yes")
    store.commit([LetterDropped(one.token) for one in sent])
    assert ask(reader.read_letters([one.token for one in sent])) == ()
    assert store.letters_to(engine) == ()


def test_a_letter_about_what_did_not_happen_is_not_sent(store: Store) -> None:
    engine, run = new_id(), new_id()
    guard = SeqIs(run, 7)
    assert store.commit([letter(engine, run, guards=(guard,))]) == [Refusal(0, guard, None)]
    assert store.letters_to(engine) == ()


def test_letters_are_never_left_in_the_redo_log(store: Store) -> None:
    for entry in (letter(new_id(), new_id()), LetterAnswered(new_id(), at(1), b""), LetterDropped(new_id())):
        assert store.append([entry]) is None
