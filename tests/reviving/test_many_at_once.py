"""Many flow runs of a dead engine are taken up: in few transactions and reads, each as if it were alone."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import anyio
import pytest

from callsheet import Engine, flow, task
from callsheet._engine import memory, recovery
from callsheet._engine.ambient import ambient_core
from callsheet._model.kinds import Kind
from callsheet._store.sqlite import SqliteStore
from callsheet.exceptions import StoreUnavailable
from reviving_helpers import PATIENCE, Lives, lives

__all__ = ["lives"]

pytestmark = pytest.mark.anyio
done: Counter[tuple[str, int]] = Counter()
lives_of_flows: Counter[int] = Counter()
gate: anyio.Event
reached: Callable[[], None]


@task
async def piece(name: str, number: int) -> int:
    done[name, number] += 1
    return number


@task
async def rest(number: int) -> int:
    """Is under way when the process dies."""
    done["rest", number] += 1
    reached()
    await gate.wait()
    return number


@flow
async def inner(number: int) -> int:
    return await piece("inner", number) + await rest(number)


@flow
async def pieces(number: int) -> list[int]:
    lives_of_flows[number] += 1
    values = [await piece(name, number) for name in ("first", "second")]
    return [*values, await rest(number), await piece("last", number)]


@flow
async def around(number: int) -> list[int]:
    lives_of_flows[number] += 1
    return [await piece("first", number), await inner(number)]


async def interrupted(lives: Lives, definition: Any, count: int) -> Path:
    """Give a history in which so many runs of a flow were cut off in the middle."""
    global gate, reached
    done.clear()
    lives_of_flows.clear()
    gate, all_reached, waiting = anyio.Event(), anyio.Event(), 0

    def another() -> None:
        nonlocal waiting
        waiting += 1
        if waiting == count:
            all_reached.set()

    reached = another
    async with anyio.create_task_group() as tasks:
        for number in range(count):
            tasks.start_soon(definition, number)
        with anyio.fail_after(PATIENCE):
            await all_reached.wait()
        path = await anyio.to_thread.run_sync(lives.cut, ambient_core())
        gate.set()
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("UPDATE engine SET lost = 1")
    return path


async def until_all_have_ended(path: Path, count: int) -> None:
    with anyio.fail_after(PATIENCE), closing(sqlite3.connect(path, isolation_level=None)) as connection:
        while connection.execute("SELECT count(*) FROM run WHERE kind = 0 AND state_type = 3").fetchone()[0] < count:
            await anyio.sleep(0.01)


async def take_up(lives: Lives, path: Path, *flows: Any, count: int) -> None:
    done.clear()
    lives_of_flows.clear()
    async with Engine(database=path, flows=flows):
        await until_all_have_ended(path, count)
    lives.open()


async def test_each_goes_on_where_it_was(lives: Lives, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recovery, "_PAGE", 10)  # several times over
    path = await interrupted(lives, pieces, 25)
    await take_up(lives, path, pieces, count=25)
    numbers = range(25)
    assert lives_of_flows == dict.fromkeys(numbers, 1)
    assert done == {(name, number): 1 for name in ("rest", "last") for number in numbers}
    for run in lives.runs(kind=Kind.FLOW):
        assert (run.recoveries, run.fence, run.attempt) == (1, 1, 1)
        assert lives.states(run.id) == ["Pending", "Running", "Pending", "Running", "Completed"]
    ends = Counter(run.state.name for run in lives.runs(kind=Kind.TASK) if run.state is not None)
    assert ends == {"Completed": 25 * 4, "Crashed": 25}


async def test_subflows_go_on_as_well(lives: Lives) -> None:
    path = await interrupted(lives, around, 12)
    await take_up(lives, path, around, count=24)
    assert done == {("rest", number): 1 for number in range(12)}
    assert lives_of_flows == dict.fromkeys(range(12), 1)
    assert len(lives.runs(kind=Kind.FLOW)) == 24


async def test_what_is_too_much_for_one_read_is_read_in_pieces(lives: Lives, monkeypatch: pytest.MonkeyPatch) -> None:
    path = await interrupted(lives, pieces, 9)
    monkeypatch.setattr(memory, "_PAGE", 7)  # runs in it have three each
    await take_up(lives, path, pieces, count=9)
    assert done == {(name, number): 1 for name in ("rest", "last") for number in range(9)}


async def test_it_takes_few_transactions_and_reads(lives: Lives, monkeypatch: pytest.MonkeyPatch) -> None:
    path = await interrupted(lives, pieces, 40)
    taken: list[int] = []
    readers: list[Any] = []
    transact, blocking_reader, reader = SqliteStore.transact, SqliteStore.blocking_reader, SqliteStore.reader

    def counted(self: Any, work: Any, patience: float | None = None) -> Any:
        found = transact(self, work, patience)
        if isinstance(found, tuple):
            taken.append(len(found))
        return found

    def noted(make: Any) -> Any:
        def note(self: Any) -> Any:
            readers.append(make)
            return make(self)

        return note

    monkeypatch.setattr(SqliteStore, "transact", counted)
    monkeypatch.setattr(SqliteStore, "blocking_reader", noted(blocking_reader))
    monkeypatch.setattr(SqliteStore, "reader", noted(reader))
    await take_up(lives, path, pieces, count=40)
    assert taken == [40]
    assert len(readers) == 1


async def test_what_takes_its_process_along_is_taken_alone(lives: Lives, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else those that are taken with it would crash with it, in the end."""
    path = await interrupted(lives, pieces, 6)
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("UPDATE run SET recoveries = 2 WHERE kind = 0 AND id IN (SELECT min(id) FROM run)")
    together: list[int] = []
    original = recovery.revive_all

    def noted(core: Any, flows: Any, backlog: Any) -> None:
        together.append(len(flows))
        original(core, flows, backlog)

    monkeypatch.setattr(recovery, "revive_all", noted)
    await take_up(lives, path, pieces, count=6)
    assert together == [5, 1]
    assert sorted(run.recoveries for run in lives.runs(kind=Kind.FLOW)) == [1] * 5 + [3]


async def test_what_cannot_be_read_just_now_goes_on_later(lives: Lives, monkeypatch: pytest.MonkeyPatch) -> None:
    path = await interrupted(lives, pieces, 5)
    original, failed = recovery.revive_all, []

    def fails_at_first(core: Any, flows: Any, backlog: Any) -> None:
        if not failed:
            failed.append(len(flows))
            raise StoreUnavailable("The disk is gone.")
        original(core, flows, backlog)

    monkeypatch.setattr(recovery, "revive_all", fails_at_first)
    await take_up(lives, path, pieces, count=5)
    assert failed == [5]
    assert {run.recoveries for run in lives.runs(kind=Kind.FLOW)} == {1}


async def test_not_more_is_read_than_runs_get_to(lives: Lives, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recovery, "_PAGE", 4)
    path = await interrupted(lives, pieces, 30)
    left, most = 0, 0
    add = recovery._Backlog.add

    def counted(self: Any) -> Any:
        nonlocal left, most
        left += 1
        most = max(most, left)
        remove = add(self)

        def removed() -> None:
            nonlocal left
            left -= 1
            remove()

        return removed

    monkeypatch.setattr(recovery._Backlog, "add", counted)
    monkeypatch.setattr(recovery, "_PATIENCE", PATIENCE)
    await take_up(lives, path, pieces, count=30)
    assert left == 0
    assert 0 < most < 8
