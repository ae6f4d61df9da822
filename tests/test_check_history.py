"""The history checker: whole histories have nothing wrong with them, and every kind of violation is found."""

from __future__ import annotations

import shutil
import sqlite3
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from callsheet import Engine, flow, get_client, pause_flow_run, task
from callsheet._ids import new_id
from callsheet._model.kinds import StateType
from callsheet._model.records import RunFilter
from callsheet._store.memory import MemoryStore
from callsheet._store.sqlite import SqliteStore
from callsheet.states import Cancelled
from callsheet.testing import Promise, check_history, harness
from callsheet.transactions import transaction
from pausing_helpers import Resumer, resumer  # noqa: F401
from store_helpers import moved, run_now, started
from test_redo import a_run

SCHEDULED, PENDING, RUNNING, COMPLETED, FAILED, CANCELLED, CRASHED, PAUSED, CANCELLING = range(9)


# --------------------------------------------------------------------------------- clean histories

failures: dict[str, int] = {}


def fails_at_first(name: str, times: int) -> None:
    failures[name] = failures.get(name, 0) + 1
    if failures[name] <= times:
        raise ValueError(name)


@task
def double(x: int) -> int:
    return 2 * x


@task(retries=2, retry_delay_seconds=0.001)
def shaky(name: str) -> None:
    fails_at_first(name, 2)


@task
def broken() -> None:
    raise ValueError("broken")


@flow
def inner(x: int) -> int:
    return double(x)


@flow(retries=1, retry_delay_seconds=0.001)
def outer(name: str) -> int:
    values = double.map(range(3)).result()
    fails_at_first(name, 1)
    shaky(f"{name} shaky")
    broken(return_state=True)
    return inner(double.submit(values[2])) + inner.submit(1).result()


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A history with retries of tasks and of a flow, with children that failed, mapped ones and subflows."""
    path = tmp_path_factory.mktemp("recorded") / "h.db"
    with harness(path):
        assert outer(uuid4().hex) == 18
    return path


@pytest.fixture
def copy(recorded: Path, tmp_path: Path) -> Path:
    return Path(shutil.copy(recorded, tmp_path / "copy.db"))


def test_a_history_with_retries_and_subflows_is_clean(recorded: Path) -> None:
    assert check_history(recorded) == []
    assert check_history(str(recorded)) == []


def test_pauses_are_clean(resumer: Resumer) -> None:  # noqa: F811
    @flow
    def asks() -> None:
        double(1)
        pause_flow_run(timeout=60)
        pause_flow_run(timeout=60)
        double(2)

    @flow
    def gives_up() -> None:
        pause_flow_run(timeout=0.001)

    resumer.answers(None, None)
    asks()
    assert gives_up(return_state=True).is_failed()
    assert check_history() == []


def test_rolled_back_and_cancelled_runs_are_clean(tmp_path: Path) -> None:
    @task
    def undone() -> str:
        return "a"

    @undone.on_rollback
    def undo(txn: Any) -> None: ...

    @flow
    def half_done() -> None:
        with transaction():
            undone()
            broken()

    @flow
    def is_cancelled() -> None:
        double(1)
        with get_client(sync_client=True) as client:
            from callsheet.runtime import flow_run

            client.set_flow_run_state(flow_run.id, Cancelled())
        double(2)

    with harness(tmp_path / "h.db") as path:
        assert half_done(return_state=True).is_failed()
        assert is_cancelled(return_state=True).is_cancelled()
        assert check_history(path) == []


@pytest.mark.anyio
async def test_the_current_history_is_checked_where_none_is_named() -> None:
    @task
    async def works() -> None: ...

    @flow
    async def whole() -> None:
        await works()

    async with Engine(database=":memory:"):
        state = await whole(return_state=True)
        run_id = state.state_details.flow_run_id
        assert check_history(acknowledged={run_id: "COMPLETED"}) == []
        (found,) = check_history(acknowledged={run_id: "FAILED"})
        assert (found.promise, found.run_id) == (Promise.ACKNOWLEDGED, run_id)


@pytest.mark.parametrize("kind", ["sqlite", "memory"])
def test_what_is_written_while_it_reads_is_not_half_seen(kind: str, tmp_path: Path) -> None:
    store: Any = SqliteStore(tmp_path / "history.db") if kind == "sqlite" else MemoryStore()
    store.open()
    run = new_id()
    store.commit([started(run), moved(run, 1, StateType.PENDING, 0)])
    reader = store.blocking_reader()
    writer = threading.Thread(target=store.commit, args=[[moved(run, 2, StateType.RUNNING, 1)]])
    with reader.snapshot():
        (record,) = run_now(reader.read_runs(RunFilter())).items
        writer.start()
        writer.join(0.2)
        assert [state.seq for state in run_now(reader.read_states(run))] == [record.state.seq] == [1]
    writer.join()
    assert len(run_now(reader.read_states(run))) == 2
    run_now(reader.aclose())
    store.close()


def test_a_history_that_does_not_exist_is_not_made(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="There is no history"):
        check_history(tmp_path / "none.db")
    assert not (tmp_path / "none.db").exists()


Plan = tuple[str, Any]
_leaves = st.sampled_from([("call", 0), ("call", 1), ("submit", 0), ("map", 3), ("fail", 0), ("shaky", 1)])
plans = st.lists(
    st.recursive(_leaves, lambda inside: st.tuples(st.just("flow"), st.lists(inside, max_size=3)), max_leaves=6),
    max_size=6,
)


@task(retries=1)
def step(what: str, count: int, name: str) -> int:
    if what == "fail":
        raise ValueError(what)
    if what == "shaky":
        fails_at_first(name, count)
    return count


@flow(retries=1)
def planned(plan: list[Any], fails: bool, name: str) -> None:
    waiting = []
    for number, (what, more) in enumerate(plan):
        named = f"{name}-{number}"
        if what == "flow":
            planned(more, False, named, return_state=True)
        elif what == "submit":
            waiting.append(step.submit(what, more, named))
        elif what == "map":
            waiting += step.map(what, range(more), named)
        else:
            step(what, more, named, return_state=True)
    if fails:
        fails_at_first(name, 1)


@given(plan=plans, fails=st.booleans())
@settings(max_examples=40, suppress_health_check=[HealthCheck.too_slow])
def test_random_flows_are_clean(plan: list[Any], fails: bool) -> None:
    with harness(":memory:"):
        planned(plan, fails, uuid4().hex, return_state=True)
        assert check_history() == []


# ------------------------------------------------------------------------------------------ planted

Plant = Callable[[sqlite3.Connection], UUID | None]
PLANTS: list[Any] = []


def plant(promise: Promise, **more: Any) -> Callable[[Plant], Plant]:
    """Note what a function breaks, in a copy of the history; it gives the run that the finding is to name."""

    def noted(function: Plant) -> Plant:
        PLANTS.append(pytest.param(function, promise, more, id=function.__name__))
        return function

    return noted


def a_task(db: sqlite3.Connection, name: str = "double", state: int = COMPLETED, *, of: str = "outer") -> bytes:
    """Give the id of the newest task run of this name in a flow run of this name."""
    (found,) = db.execute(
        "SELECT run.id FROM run JOIN definition d ON d.id = run.definition_id JOIN run f ON f.id = run.flow_run_id"
        " JOIN definition fd ON fd.id = f.definition_id WHERE d.name = ? AND run.kind = 1 AND run.state_type = ?"
        " AND fd.name = ? ORDER BY run.id DESC LIMIT 1",
        (name, state, of),
    ).fetchone()
    return found


def a_flow(db: sqlite3.Connection, name: str = "outer") -> bytes:
    (found,) = db.execute(
        "SELECT run.id FROM run JOIN definition d ON d.id = run.definition_id WHERE d.name = ? AND run.kind = 0",
        (name,),
    ).fetchone()
    return found


def enter(db: sqlite3.Connection, run: bytes, kind: int, *, name: str | None = None, skip: int = 0) -> None:
    """Append a state to a run, at the time of its newest one."""
    seq, at = db.execute("SELECT seq, state_at FROM run WHERE id = ?", (run,)).fetchone()
    seq += 1 + skip
    db.execute("INSERT INTO state (run_id, seq, type, name, at) VALUES (?, ?, ?, ?, ?)", (run, seq, kind, name, at))
    db.execute("UPDATE run SET seq = ?, state_type = ?, state_name = ? WHERE id = ?", (seq, kind, name, run))


def states(db: sqlite3.Connection, run: bytes, *kinds: int | tuple[int, str]) -> None:
    """Replace all states of a run, which have the time of its creation."""
    db.execute("DELETE FROM state WHERE run_id = ?", (run,))
    db.execute("UPDATE run SET usual = 0, completed = NULL, seq = 0, state_at = created WHERE id = ?", (run,))
    db.execute("DELETE FROM outcome WHERE run_id = ?", (run,))
    for kind in kinds:
        enter(
            db, run, *((kind,) if isinstance(kind, int) else kind[:1]), name=None if isinstance(kind, int) else kind[1]
        )


def named(run: bytes) -> UUID:
    return UUID(bytes=run)


@plant(Promise.ENDS_ONCE)
def a_second_end(db: sqlite3.Connection) -> UUID:
    run = a_task(db, "broken", FAILED)
    enter(db, run, COMPLETED)
    db.execute("DELETE FROM outcome WHERE run_id = ?", (run,))
    return named(run)


@plant(Promise.ENDS_ONCE)
def a_start_after_the_end(db: sqlite3.Connection) -> UUID:
    run = a_flow(db, "outer")
    enter(db, run, PENDING)
    enter(db, run, COMPLETED)
    return named(run)


@plant(Promise.ENDS_ONCE)
def a_rollback_of_a_flow(db: sqlite3.Connection) -> UUID:
    run = a_flow(db, "outer")
    enter(db, run, COMPLETED, name="RolledBack")
    return named(run)


@plant(Promise.ENDS_ONCE)
def a_second_rollback(db: sqlite3.Connection) -> UUID:
    run = a_task(db)
    enter(db, run, COMPLETED, name="RolledBack")
    enter(db, run, COMPLETED, name="RolledBack")
    return named(run)


@plant(Promise.TRANSITIONS)
def a_beginning_in_the_middle(db: sqlite3.Connection) -> UUID:
    run = a_task(db)
    states(db, run, RUNNING, COMPLETED)
    return named(run)


@plant(Promise.TRANSITIONS)
def a_cancelled_run_that_completes(db: sqlite3.Connection) -> UUID:
    run = a_task(db)
    states(db, run, PENDING, RUNNING, CANCELLING, COMPLETED)
    return named(run)


@plant(Promise.TRANSITIONS)
def a_retry_that_does_not_say_so(db: sqlite3.Connection) -> UUID:
    run = a_task(db, "shaky")
    states(db, run, PENDING, RUNNING, (SCHEDULED, "AwaitingRetry"), RUNNING, COMPLETED)
    return named(run)


@plant(Promise.TRANSITIONS)
def a_body_that_is_started_twice(db: sqlite3.Connection) -> UUID:
    run = a_task(db, "shaky")
    states(db, run, PENDING, RUNNING, RUNNING, COMPLETED)
    return named(run)


@plant(Promise.TRANSITIONS)
def a_rollback_of_what_never_completed(db: sqlite3.Connection) -> UUID:
    run = a_task(db)
    states(db, run, PENDING, (COMPLETED, "RolledBack"))
    return named(run)


@plant(Promise.WHOLE)
def a_state_that_is_missing(db: sqlite3.Connection) -> UUID:
    run = a_task(db, "shaky")
    db.execute("DELETE FROM state WHERE run_id = ? AND seq = 3", (run,))
    return named(run)


@plant(Promise.WHOLE)
def the_first_state_that_is_missing(db: sqlite3.Connection) -> UUID:
    run = a_flow(db)
    db.execute("UPDATE run SET usual = usual & 2 WHERE id = ?", (run,))
    db.execute("DELETE FROM state WHERE run_id = ? AND seq = 1", (run,))
    return named(run)


@plant(Promise.WHOLE)
def two_numbers_skipped_after_a_pause(db: sqlite3.Connection) -> UUID:
    run = a_task(db)
    states(db, run, PENDING, RUNNING, PAUSED)
    enter(db, run, FAILED, skip=2)
    return named(run)


@plant(Promise.WHOLE)
def a_run_that_tells_of_an_older_state(db: sqlite3.Connection) -> UUID:
    run = a_task(db, "shaky")
    db.execute("UPDATE run SET state_name = 'Cached' WHERE id = ?", (run,))
    return named(run)


@plant(Promise.WHOLE)
def a_run_without_states(db: sqlite3.Connection) -> UUID:
    run = new_id()
    db.execute(
        "INSERT INTO run (id, kind, definition_id, name, created, seq, attempt) SELECT ?, 1, definition_id, 'x', created,"
        " -1, 0 FROM run LIMIT 1",
        (run.bytes,),
    )
    return run


@plant(Promise.TIMES)
def a_state_from_before_the_run(db: sqlite3.Connection) -> UUID:
    run = a_task(db, "shaky")
    db.execute("UPDATE state SET at = 1 WHERE run_id = ? AND seq = 3", (run,))
    return named(run)


@plant(Promise.ATTEMPTS)
def an_attempt_too_many(db: sqlite3.Connection) -> UUID:
    run = a_task(db, "shaky")
    states(db, run, PENDING, RUNNING, *[(RUNNING, "Retrying")] * 3, COMPLETED)
    return named(run)


@plant(Promise.CHILDREN_FIRST)
def a_child_that_ends_late(db: sqlite3.Connection) -> UUID:
    run = a_task(db)
    db.execute("UPDATE run SET completed = completed + 10000000, state_at = state_at + 10000000 WHERE id = ?", (run,))
    return named(run)


@plant(Promise.CHILDREN_FIRST)
def a_child_that_is_left_running(db: sqlite3.Connection) -> UUID:
    run = a_task(db)
    states(db, run, PENDING, RUNNING)
    return named(run)


@plant(Promise.FINISHED_ONCE)
def a_task_that_completes_twice(db: sqlite3.Connection) -> UUID:
    # In the subflow, which was not retried.
    run = a_task(db, of="inner")
    again = new_id()
    columns = [row[1] for row in db.execute("PRAGMA table_info(run)")]
    for table, column in (("run", "id"), ("outcome", "run_id")):
        columns = [row[1] for row in db.execute(f"PRAGMA table_info({table})")]
        listed = ",".join(columns)
        chosen = ",".join("?" if one == column else one for one in columns)
        db.execute(
            f"INSERT INTO {table} ({listed}) SELECT {chosen} FROM {table} WHERE {column} = ?", (again.bytes, run)
        )
    return again


@plant(Promise.OUTCOMES)
def an_outcome_of_another_kind(db: sqlite3.Connection) -> UUID:
    run = a_task(db)
    db.execute("UPDATE outcome SET status = ? WHERE run_id = ?", (FAILED, run))
    return named(run)


@plant(Promise.OUTCOMES)
def an_outcome_of_a_run_that_has_not_ended(db: sqlite3.Connection) -> UUID:
    run = a_task(db)
    states(db, run, PENDING, RUNNING, CANCELLED)
    db.execute(
        "INSERT INTO outcome (flow_run_id, run_id, identity, status, recorded) SELECT flow_run_id, id, x'00', 3, 1"
        " FROM run WHERE id = ?",
        (run,),
    )
    return named(run)


@plant(Promise.OUTCOMES)
def an_outcome_of_nobody(db: sqlite3.Connection) -> UUID:
    nobody = new_id()
    db.execute("INSERT INTO outcome (flow_run_id, run_id, identity, status, recorded) VALUES (?, ?, x'00', 3, 1)",
               (a_flow(db), nobody.bytes))  # fmt: skip
    return nobody


@plant(Promise.OUTCOMES)
def an_outcome_in_another_flow_run(db: sqlite3.Connection) -> UUID:
    run = a_task(db)
    db.execute("UPDATE outcome SET flow_run_id = ? WHERE run_id = ?", (a_flow(db, "inner"), run))
    return named(run)


def reopen(db: sqlite3.Connection, run: bytes, owner: UUID | None) -> UUID:
    """Take the last state of a run away, so that it has not ended, and give it to an engine."""
    db.execute("DELETE FROM state WHERE run_id = ? AND seq = (SELECT seq FROM run WHERE id = ?)", (run, run))
    db.execute(
        "UPDATE run SET owner = ?, (seq, state_type, state_name, state_at) ="
        " (SELECT seq, type, name, at FROM state WHERE run_id = run.id ORDER BY seq DESC LIMIT 1) WHERE id = ?",
        (None if owner is None else owner.bytes, run),
    )
    return named(run)


@plant(Promise.OWNED_BY_THE_LIVING)
def a_run_of_an_engine_that_nobody_knows(db: sqlite3.Connection) -> UUID:
    return reopen(db, a_flow(db), new_id())


@plant(Promise.OWNED_BY_THE_LIVING)
def a_run_of_an_engine_that_was_found_dead(db: sqlite3.Connection) -> UUID:
    engine = new_id()
    db.execute("INSERT INTO engine VALUES (?, 1, 1, '', '', 1, '', 1, 1, '[]')", (engine.bytes,))
    return reopen(db, a_flow(db), engine)


@plant(Promise.OWNED_BY_THE_LIVING)
def a_run_of_nobody(db: sqlite3.Connection) -> UUID:
    return reopen(db, a_flow(db), None)


@plant(Promise.OWNED_BY_THE_LIVING)
def a_run_that_has_ended_and_still_belongs_to_an_engine(db: sqlite3.Connection) -> UUID:
    run = a_flow(db)
    db.execute("UPDATE run SET owner = ? WHERE id = ?", (new_id().bytes, run))
    return named(run)


def test_a_run_of_an_engine_that_may_be_alive_is_clean(copy: Path) -> None:
    with closing(sqlite3.connect(copy)) as db, db:
        engine = new_id()
        db.execute("INSERT INTO engine VALUES (?, 1, 1, '', '', 1, '', 1, 0, '[]')", (engine.bytes,))
        reopen(db, a_flow(db), engine)
    assert check_history(copy) == []


def test_what_is_suspended_or_due_may_belong_to_nobody(copy: Path) -> None:
    with closing(sqlite3.connect(copy)) as db, db:
        run = a_flow(db)
        reopen(db, run, None)
        enter(db, run, PAUSED, name="Suspended")
    assert check_history(copy) == []
    with closing(sqlite3.connect(copy)) as db, db:
        enter(db, run, SCHEDULED, name="Resuming")
    assert check_history(copy) == []


def test_a_step_of_a_body_is_no_run(copy: Path) -> None:
    step_id, attempt = bytes(range(12)), bytes(3) + b"\1"
    with closing(sqlite3.connect(copy)) as db, db:
        db.execute(
            "INSERT INTO outcome (flow_run_id, run_id, identity, status, recorded) VALUES (?, ?, ?, 3, 1)",
            (a_flow(db), step_id + attempt, step_id + b"more"),
        )
    assert check_history(copy) == []


@plant(Promise.REFERENCES)
def an_input_from_nowhere(db: sqlite3.Connection) -> UUID:
    run = a_task(db)
    db.execute("INSERT INTO input VALUES (?, 'x', ?)", (run, new_id().bytes))
    return named(run)


@plant(Promise.REFERENCES)
def a_flow_run_that_is_gone(db: sqlite3.Connection) -> UUID:
    run = a_task(db)
    db.execute("UPDATE run SET parent_id = ? WHERE id = ?", (new_id().bytes, run))
    return named(run)


@pytest.mark.parametrize(("breaks", "promise", "more"), PLANTS)
def test_what_is_planted_is_found(breaks: Plant, promise: Promise, more: dict[str, Any], copy: Path) -> None:
    with closing(sqlite3.connect(copy)) as db, db:
        run_id = breaks(db)
    found = check_history(copy, **more)
    assert (promise, run_id) in {(one.promise, one.run_id) for one in found}, [str(one) for one in found]
    assert {one.promise for one in found} == {promise}, "nothing else is blamed"
    assert all(str(run_id) in str(one) for one in found if one.run_id == run_id)


def test_what_was_acknowledged_and_is_not_there_is_missing(recorded: Path) -> None:
    with closing(sqlite3.connect(recorded)) as db:
        done, failed = named(a_task(db)), named(a_task(db, "broken", FAILED))
    gone = new_id()
    told = {done: "COMPLETED", failed: "failed"}
    assert check_history(recorded, acknowledged=told) == []
    found = check_history(recorded, acknowledged={**told, done: "FAILED", gone: "COMPLETED"})
    assert [(one.promise, one.run_id) for one in found] == [(Promise.ACKNOWLEDGED, done), (Promise.ACKNOWLEDGED, gone)]


def test_what_was_forced_is_not_judged(copy: Path) -> None:
    with closing(sqlite3.connect(copy)) as db, db:
        run_id = a_start_after_the_end(db)
    assert check_history(copy)
    assert check_history(copy, forced=[run_id]) == []


def test_what_cannot_be_settled_is_found(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = SqliteStore(copy)
    store.open()
    assert store.append(a_run())
    store.close()
    assert check_history(copy) == [], "whoever opens settles what is there"
    store.open()
    assert store.append(a_run())
    store.close()
    monkeypatch.setattr(SqliteStore, "_adopt_all", lambda self: None)
    monkeypatch.setattr(SqliteStore, "adopt", lambda self: None)
    (found,) = check_history(copy)
    assert found.promise is Promise.SETTLED


def test_a_number_may_be_missing_after_a_pause(copy: Path) -> None:
    with closing(sqlite3.connect(copy)) as db, db:
        run = a_task(db)
        states(db, run, PENDING, RUNNING, PAUSED)
        enter(db, run, FAILED, skip=1)
    assert check_history(copy) == []
