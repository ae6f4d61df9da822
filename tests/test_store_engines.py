"""Owners of runs as every store keeps them: listed, renewed, fenced, and what is taken from them."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from callsheet._ids import new_id
from callsheet._model.engines import EngineRecord, Taken
from callsheet._model.kinds import Kind, StateType
from callsheet._model.records import Entry, RunFilter, RunRecord
from callsheet._rules.taking import MOST_RECOVERIES
from callsheet._store.memory import MemoryStore
from callsheet._store.protocol import Store
from callsheet._store.sqlite import SqliteStore
from callsheet.exceptions import LostOwnership
from store_helpers import at, moved, readers_are_closed, run_now, started

__all__ = ["readers_are_closed"]  # a fixture that every test here uses

S = StateType
NOW = at(1000)


@pytest.fixture(params=["memory", "sqlite"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    made: Store = MemoryStore() if request.param == "memory" else SqliteStore(tmp_path / "history.db")
    made.open()
    yield made
    made.close()


def engine(**more: Any) -> EngineRecord:
    return EngineRecord(id=new_id(), lease=0.5, **more)


def become(store: Store, me: EngineRecord) -> EngineRecord:
    """Let the store be that of an engine from now on."""
    store.engines.forget()
    store.engines.enter(me)
    return me


def commit_as(store: Store, me: EngineRecord, *entries: Entry) -> None:
    become(store, me)
    store.commit(entries)


def flow(owner: EngineRecord | None = None, **more: Any) -> Any:
    run = new_id()
    return started(run, kind=Kind.FLOW, root=run, owner=None if owner is None else owner.id, **{"entered": 2, **more})


def alone(owner: EngineRecord) -> Any:
    """A task run outside of flows."""
    run = new_id()
    return started(run, kind=Kind.TASK, root=run, owner=owner.id, entered=2)


def below(parent: Any, kind: Kind = Kind.TASK, **more: Any) -> Any:
    return started(new_id(), kind=kind, flow=parent.id, root=parent.root_id, **{"entered": 2, **more})


def records(store: Store) -> dict[UUID, RunRecord]:
    reader = store.blocking_reader()
    return {run.id: run for run in run_now(reader.read_runs(RunFilter())).items}  # type: ignore[attr-defined]


def dead(store: Store, *entries: Entry, owner: EngineRecord) -> EngineRecord:
    """Commit what an engine did, and find it dead; give another one."""
    commit_as(store, owner, *entries)
    me = become(store, engine())
    store.commit(())
    assert store.engines.fence(owner.id)
    return me


def take(store: Store, run_id: UUID, **more: Any) -> Taken | None:
    """Take one run up."""
    found = store.engines.take((run_id,), **more)
    assert len(found) <= 1
    return found[0] if found else None


# -------------------------------------------------------------------------------------------- being listed


def test_an_engine_is_listed_with_its_next_commit_and_renewed_when_that_is_due(store: Store) -> None:
    me = engine(machine="m", file="f", pid=7, host="h", started=3, flows=("a", "b"))
    store.engines.enter(me)
    assert store.engines.read() == ()
    assert store.engines.is_entered  # though nobody sees it yet
    store.commit([flow(me)])
    (row,) = store.engines.read()
    assert row == EngineRecord(
        **{**{name: getattr(me, name) for name in me.__struct_fields__}, "beat": 1, "owns": True}
    )
    assert store.engines.is_entered
    store.commit([flow(me)])
    assert store.engines.read()[0].beat == 1
    store.engines.touch()
    store.commit([flow(me)])
    assert store.engines.read()[0].beat == 2
    assert store.engines.renew()
    assert store.engines.read()[0].beat == 3


def test_an_engine_that_leaves_is_not_listed_any_more(store: Store) -> None:
    me, run = engine(), flow()
    commit_as(store, me, run)
    store.engines.leave()
    assert store.engines.read() == ()
    store.commit([moved(run.id, 3, S.COMPLETED, 1)])  # and may still write what belongs to no engine


def test_an_engine_that_leaves_runs_behind_stays_listed(store: Store) -> None:
    me = engine()
    commit_as(store, me, flow(me))
    store.engines.leave()
    assert [row.id for row in store.engines.read()] == [me.id]


def test_an_engine_that_was_never_listed_leaves_nothing(store: Store) -> None:
    store.engines.enter(engine())
    store.engines.leave()
    store.commit([flow()])
    assert store.engines.read() == ()


# ------------------------------------------------------------------------------------------------- fencing


def test_a_fenced_engine_writes_nothing(store: Store) -> None:
    owner, run = engine(), flow()
    commit_as(store, owner, run)
    assert store.engines.fence(owner.id)
    for write in (
        lambda: store.commit([moved(run.id, 3, S.COMPLETED, 1)]),
        lambda: store.try_commit([moved(run.id, 3, S.COMPLETED, 1)]),
        lambda: store.append([moved(run.id, 3, S.COMPLETED, 1)]) or store.try_commit(()),
        store.engines.renew,
        lambda: take(store, run.id, at=NOW),
        lambda: store.engines.fence(new_id()),
    ):
        with pytest.raises(LostOwnership, match="CALLSHEET_LEASE_SECONDS"):
            write()
    assert records(store)[run.id].state.type is S.RUNNING  # type: ignore[union-attr]


def test_a_fenced_engine_writes_nothing_after_its_row_is_gone(store: Store) -> None:
    owner = engine()
    commit_as(store, owner, flow())
    assert store.engines.fence(owner.id)
    me = become(store, engine())
    store.engines.sweep()
    store.commit(())
    assert [row.id for row in store.engines.read()] == [me.id]


def test_a_sign_of_life_refutes(store: Store) -> None:
    owner = engine()
    commit_as(store, owner, flow(owner))
    assert store.engines.renew()
    assert not store.engines.fence(owner.id, beat=1)
    store.commit([flow(owner)])
    assert store.engines.fence(owner.id, beat=2)


def test_one_fences(store: Store) -> None:
    owner = engine()
    commit_as(store, owner, flow(owner))
    become(store, engine())
    assert [store.engines.fence(owner.id) for _ in range(3)] == [True, False, False]
    assert not store.engines.fence(new_id())


def test_rows_of_the_dead_stay_while_they_own_runs(store: Store) -> None:
    owner, run = engine(), flow()
    owned = flow(owner)
    me = dead(store, run, owned, owner=owner)
    store.engines.sweep()
    assert {row.id for row in store.engines.read()} == {me.id, owner.id}
    assert take(store, owned.id, at=NOW) is not None
    store.engines.sweep()
    assert {row.id for row in store.engines.read()} == {me.id}


# -------------------------------------------------------------------------------------------- what is waiting


def test_runs_of_the_dead_and_those_that_are_due_wait(store: Store) -> None:
    alive, gone, absent = engine(), engine(), engine()
    left = [flow(gone), flow(absent)]
    due, later = flow(entered=0, due_at=NOW - 1), flow(entered=0, due_at=NOW + 1)
    now, suspended, running = flow(entered=0), flow(), flow()
    commit_as(store, gone, left[0])
    commit_as(
        store, alive, flow(alive), left[1], below(left[0]), due, later, now, suspended, running,
        *(moved(run.id, 1, S.SCHEDULED, 1) for run in (due, later, now)),
        moved(suspended.id, 3, S.PAUSED, 1, name="Suspended"),
    )  # fmt: skip
    assert store.engines.fence(gone.id)
    found = store.engines.left(10)
    assert [(run.id, run.owner) for run in found] == sorted((run.id, run.owner) for run in left)
    unowned = store.engines.unowned(NOW, 10)
    assert [(run.id, run.owner) for run in unowned] == sorted((run.id, None) for run in (due, now))
    assert {(run.kind, run.key) for run in (*found, *unowned)} == {(Kind.FLOW, "module.main")}
    assert later.id in {run.id for run in store.engines.unowned(NOW + 1, 10)}


def test_there_is_a_way_past_what_nobody_here_takes(store: Store) -> None:
    owner = engine()
    runs = sorted((flow(entered=0) for _ in range(3)), key=lambda run: run.id)
    left = sorted((flow(owner) for _ in range(3)), key=lambda run: run.id)
    dead(store, *runs, *left, *(moved(run.id, 1, S.SCHEDULED, 1) for run in runs), owner=owner)
    assert [run.id for run in store.engines.unowned(NOW, 2)] == [runs[0].id, runs[1].id]
    assert [run.id for run in store.engines.unowned(NOW, 2, runs[1].id)] == [runs[2].id]
    assert [run.id for run in store.engines.left(2)] == [left[0].id, left[1].id]
    assert [run.id for run in store.engines.left(2, left[1].id)] == [left[2].id]


# --------------------------------------------------------------------------------------------------- taking


@pytest.mark.parametrize("owned", [True, False], ids=["of the dead", "unowned"])
def test_a_run_is_taken_up_once(store: Store, owned: bool) -> None:
    owner = engine()
    run = flow(owner) if owned else flow(entered=0)
    me = dead(store, run, *([] if owned else [moved(run.id, 1, S.SCHEDULED, 1)]), owner=owner)
    seq = 3 if owned else 2
    taken = take(store, run.id, at=NOW)
    message = "The engine that ran it is gone; another one goes on with it." if owned else "An engine has taken it up."
    assert taken == Taken(
        run_id=run.id, seq=seq, type=S.PENDING, name="Pending", at=NOW, fence=1, recoveries=int(owned), message=message
    )
    found = records(store)[run.id]
    assert (found.owner, found.fence, found.recoveries) == (me.id, 1, int(owned))
    assert found.state is not None
    assert (found.state.seq, found.state.type, found.state.message) == (seq, S.PENDING, message)
    assert take(store, run.id, at=NOW) is None
    become(store, engine())
    assert take(store, run.id, at=NOW) is None
    assert (*store.engines.left(10), *store.engines.unowned(NOW, 10)) == ()


def test_what_was_left_running_is_ended_first(store: Store) -> None:
    owner = engine()
    root = flow(owner)
    task, done, tracker = below(root), below(root), below(root)
    sub = started(
        new_id(), kind=Kind.FLOW, flow=root.id, root=root.id, entered=2, parent_task_run_id=tracker.id, created=1
    )
    inner = below(sub)
    nested = started(new_id(), flow=root.id, root=root.id, entered=2, created=2)
    dead(store, root, task, done, tracker, sub, inner, nested, moved(done.id, 3, S.COMPLETED, 3), owner=owner)
    assert take(store, root.id, at=NOW) is not None
    found = records(store)
    ended = {run.id for run in found.values() if run.state is not None and run.state.type is S.CRASHED}
    assert ended == {task.id, inner.id, nested.id}
    assert found[sub.id].state.type is found[tracker.id].state.type is S.RUNNING  # type: ignore[union-attr]
    assert found[done.id].state.at == at(3)  # type: ignore[union-attr]
    assert found[task.id].state.message == "The engine that ran it is gone."  # type: ignore[union-attr]
    assert {found[one].state.seq for one in ended} == {3}  # type: ignore[union-attr]


def test_what_nobody_knows_ends_with_everything_below(store: Store) -> None:
    owner = engine()
    root = flow(owner)
    tracker = below(root)
    sub = started(new_id(), kind=Kind.FLOW, flow=root.id, root=root.id, entered=2, parent_task_run_id=tracker.id)
    dead(store, root, tracker, sub, below(sub), owner=owner)
    taken = take(store, root.id, at=NOW, known=False)
    assert taken is not None
    assert (taken.type, taken.message) == (S.CRASHED, "The engine that ran it is gone, and no other knows its flow.")
    assert {run.state.type for run in records(store).values()} == {S.CRASHED}  # type: ignore[union-attr]
    assert records(store)[root.id].owner is None
    assert take(store, root.id, at=NOW, known=False) is None


def test_a_task_outside_of_flows_is_not_run_again(store: Store) -> None:
    owner = engine()
    root = started(new_id(), owner=owner.id, entered=2)
    child = started(new_id(), root=root.id, entered=2)
    dead(store, root, child, owner=owner)
    taken = take(store, root.id, at=NOW)
    assert taken is not None
    assert taken.type is S.CRASHED
    assert {run.state.type for run in records(store).values()} == {S.CRASHED}  # type: ignore[union-attr]


def test_a_cancellation_on_record_is_carried_out(store: Store) -> None:
    owner = engine()
    root = flow(owner)
    dead(store, root, below(root), moved(root.id, 3, S.CANCELLING, 1), owner=owner)
    taken = take(store, root.id, at=NOW)
    assert taken is not None
    assert (taken.type, taken.recoveries) == (S.CANCELLED, 0)


def test_what_takes_its_engine_along_is_not_taken_up_for_ever(store: Store) -> None:
    owner = engine()
    root = flow(owner)
    owner = dead(store, root, owner=owner)
    types = []
    for _ in range(MOST_RECOVERIES + 1):
        taken = take(store, root.id, at=NOW)
        assert taken is not None
        types.append(taken.type)
        owner = dead(store, owner=owner)
    assert types == [S.PENDING] * MOST_RECOVERIES + [S.CRASHED]
    assert records(store)[root.id].recoveries == MOST_RECOVERIES


@pytest.mark.parametrize("type", [S.COMPLETED, S.FAILED, S.CANCELLED, S.CRASHED])
def test_what_has_ended_is_not_to_be_had(store: Store, type: StateType) -> None:
    owner = engine()
    root = flow(owner)
    dead(store, root, moved(root.id, 3, type, 1), owner=owner)
    assert take(store, root.id, at=NOW) is None
    assert take(store, root.id, at=NOW, known=False) is None
    assert records(store)[root.id].state.type is type  # type: ignore[union-attr]


def test_what_lives_or_is_not_due_or_does_not_exist_is_not_to_be_had(store: Store) -> None:
    owner = engine()
    alive, unowned, later = flow(owner), flow(), flow(entered=0, due_at=NOW + 1)
    commit_as(store, owner, alive, unowned, later, moved(later.id, 1, S.SCHEDULED, 1))
    become(store, engine())
    for run in (alive.id, unowned.id, later.id, new_id()):
        assert take(store, run, at=NOW) is None


def test_a_run_without_a_state_is_taken_up(store: Store) -> None:
    owner = engine()
    root = flow(owner, entered=0)
    dead(store, root, owner=owner)
    taken = take(store, root.id, at=NOW)
    assert taken is not None
    assert (taken.seq, taken.type) == (1, S.PENDING)


def test_who_is_not_listed_takes_nothing(store: Store) -> None:
    with pytest.raises(RuntimeError, match="listed"):
        take(store, new_id(), at=NOW)


# ------------------------------------------------------------------------------------------------ in files


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "history.db"


@pytest.fixture
def two(path: Path) -> Iterator[tuple[SqliteStore, SqliteStore]]:
    stores = SqliteStore(path), SqliteStore(path)
    for store in stores:
        store.open()
        store.engines.enter(engine())
    yield stores
    for store in stores:
        store.close()


def test_what_the_dead_made_durable_counts(two: tuple[SqliteStore, SqliteStore]) -> None:
    """It may be in the redo log only; it is in the tables before anybody looks what there is to take."""
    first, second = two
    me = first.engines._me
    assert me is not None
    done, left = flow(me), flow(me)
    assert first.append([done]) is None  # its row goes first
    first.commit([done, left])
    assert first.append([moved(done.id, 3, S.COMPLETED, 1), moved(left.id, 3, S.FAILED, 1)]) is not None
    assert second.engines.fence(me.id)
    assert second.engines.left(10) == ()  # nobody's by now: it has failed
    late = [moved(left.id, 4, S.RUNNING, 1)]
    assert first.append(late) is None, "the log is closed"
    with pytest.raises(LostOwnership):
        first.commit(late)
    states = {run.id: run.state for run in records(second).values()}
    assert states[done.id].type is S.COMPLETED  # type: ignore[union-attr]
    assert states[left.id].type is S.FAILED  # type: ignore[union-attr]


def test_two_takers_and_one_dead_owner(path: Path) -> None:
    """Each run has one winner, whoever was first."""
    takers = [SqliteStore(path) for _ in range(4)]
    owner = engine()
    for taker in takers:
        taker.open()
    runs = [flow(owner) for _ in range(50)]
    commit_as(takers[0], owner, *runs)
    for taker in takers:
        become(taker, engine())
        taker.commit(())
    won: list[tuple[int, Taken]] = []
    fenced: list[int] = []
    gate = threading.Barrier(len(takers))

    def work(number: int) -> None:
        gate.wait()
        if takers[number].engines.fence(owner.id, beat=1):
            fenced.append(number)
        for run in runs:
            if taken := take(takers[number], run.id, at=NOW):
                won.append((number, taken))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(len(takers))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(fenced) == 1
    assert sorted(taken.run_id for _, taken in won) == sorted(run.id for run in runs)
    owners = {run.id: run.owner for run in records(takers[0]).values()}
    assert all(owners[taken.run_id] == takers[number].engines._me.id for number, taken in won)  # type: ignore[union-attr]
    for taker in takers:
        taker.close()


def test_many_are_taken_each_by_itself(store: Store) -> None:
    """One batch with everything in it that may become of a run."""
    owner, other = engine(), engine()
    going, ended, often, ordered = flow(owner), flow(owner), flow(owner), flow(owner)
    nested = below(going, Kind.FLOW)
    deep, left, gone, lone, living = below(nested), below(going), below(often), alone(owner), flow(other)
    commit_as(store, other, living)
    me = dead(
        store, going, ended, often, ordered, nested, deep, left, gone, lone,
        moved(ended.id, 3, S.COMPLETED, 1), moved(ordered.id, 3, S.CANCELLING, 1), owner=owner,
    )  # fmt: skip
    for _ in range(MOST_RECOVERIES):
        assert take(store, often.id, at=NOW) is not None
        mine = me
        me = become(store, engine())
        store.commit(())
        assert store.engines.fence(mine.id)
    runs = [one.id for one in (going, ended, often, ordered, lone, living)]
    taken = store.engines.take([*runs, new_id()], at=NOW)
    assert {one.run_id: one.name for one in taken} == {
        going.id: "Pending",
        often.id: "Crashed",
        ordered.id: "Cancelled",
        lone.id: "Crashed",
    }
    found = records(store)
    assert [found[run].owner for run in runs] == [me.id, None, None, None, None, other.id]
    assert [found[run].recoveries for run in runs] == [1, 0, MOST_RECOVERIES, 0, 0, 0]
    state = {run.id: run.state.name for run in found.values() if run.state is not None}
    assert (state[nested.id], state[deep.id], state[left.id], state[gone.id]) == ("Running", *["Crashed"] * 3)
    assert store.engines.take(runs, at=NOW) == ()


def test_several_that_take_the_same_runs_get_each_once(two: tuple[SqliteStore, SqliteStore], path: Path) -> None:
    runs = [flow(engine()) for _ in range(60)]
    two[0].commit(runs)
    ids = [run.id for run in runs]
    won: list[list[UUID]] = [[], []]
    gate = threading.Barrier(2)

    def work(number: int) -> None:
        become(two[number], engine())
        gate.wait()
        for start in range(0, 60, 10):
            some = ids[start : start + 30]
            won[number] += (taken.run_id for taken in two[number].engines.take(some, at=NOW))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(won[0] + won[1]) == sorted(ids)


def test_a_held_database_is_no_reason_to_wait_for_a_renewal(two: tuple[SqliteStore, SqliteStore], path: Path) -> None:
    store = two[0]
    store.commit(())
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    assert not store.engines.renew()
    other.execute("ROLLBACK")
    other.close()
    assert store.engines.renew()
    assert store.engines.read()[0].beat == 2


def test_owners_are_found_by_an_index(two: tuple[SqliteStore, SqliteStore], path: Path) -> None:
    from callsheet._store import engines

    connection = sqlite3.connect(path)
    for sql in (engines._LEFT, engines._UNOWNED, engines._TO_WAKE, engines._ALL):
        count = sql.count("?")
        plan = [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {sql}", (b"",) * count).fetchall()]
        assert not [step for step in plan if step.startswith("SCAN run")], plan
    connection.close()
