"""Futures at the level `results`: what they give is on disk first, and a loop commits that itself."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path
from time import monotonic
from typing import Any

import anyio
import pytest

from callsheet import Engine, flow, task
from callsheet._engine.core import Core
from callsheet._kernel import journal as journal_module
from callsheet._kernel import limits
from callsheet._kernel.journal import Journal
from callsheet._model.records import Entry, OutcomeRecorded
from callsheet._store.sqlite import SqliteStore
from callsheet.client.orchestration import get_client
from callsheet.settings import Durability

LINKS = 40


@task
async def add_one(x: int) -> int:
    return x + 1


@flow
async def chain(links: int) -> int:
    """Let each task take the future of the one before."""
    last = add_one.submit(0)
    for _ in range(links - 1):
        last = add_one.submit(last)
    return last.result()


@pytest.fixture
def appended_by(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Give the threads that made outcomes durable in the redo log, one for each outcome."""
    threads: list[int] = []
    append = SqliteStore.append

    def noting(self: SqliteStore, entries: Sequence[Entry]) -> int | None:
        number = append(self, entries)
        if number is not None:
            threads.extend(threading.get_ident() for one in entries if isinstance(one, OutcomeRecorded))
        return number

    monkeypatch.setattr(SqliteStore, "append", noting)
    return threads


@pytest.mark.anyio
async def test_links_of_a_chain_are_committed_by_their_loop(tmp_path: Path, appended_by: list[int]) -> None:
    async with Engine(database=tmp_path / "h.db", durability=Durability.RESULTS):
        assert await chain(LINKS) == LINKS
    assert appended_by.count(threading.get_ident()) > LINKS / 2  # the rest while the journal's thread was at it


@pytest.mark.anyio
async def test_a_future_is_not_done_before_its_outcome_is_committed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither the loop nor the thread may commit: nothing is to be had until one of them may."""
    held = threading.Event()
    take = Journal._take
    monkeypatch.setattr(Journal, "_take", lambda self: list[Any]() if held.is_set() else take(self))
    seen: list[bool] = []

    @flow
    async def waits() -> None:
        await add_one(0)
        held.set()
        future = add_one.submit(1)
        with anyio.move_on_after(0.1) as scope:
            await future
        seen.append(scope.cancelled_caught)
        held.clear()
        assert await future == 2

    async with Engine(database=tmp_path / "h.db", durability=Durability.RESULTS):
        await waits()
    assert seen == [True]


@pytest.mark.anyio
async def test_the_journals_thread_commits_where_a_loop_does_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, appended_by: list[int]
) -> None:
    monkeypatch.setattr(Core, "_commit_step", lambda self, host: self._steps.pop(host))  # the loop has ended
    async with Engine(database=tmp_path / "h.db", durability=Durability.RESULTS):
        assert await chain(3) == 3
    assert threading.get_ident() not in appended_by


@pytest.mark.anyio
async def test_who_ends_alone_is_in_the_tables_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nothing more comes, nobody waits until it is time: a reader of the file sees it."""
    monkeypatch.setattr(journal_module, "SETTLE_AFTER", 3600.0)
    async with Engine(database=tmp_path / "h.db", durability=Durability.RESULTS) as engine:
        await chain(3)
        journal = engine.core.journal
        with anyio.fail_after(30):
            while journal.shown < journal.accepted:
                await anyio.sleep(0.005)
        async with get_client() as client:
            assert len(await client.read_task_runs()) == 3


@pytest.fixture
def settlements(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Give how many entries of the redo log each transaction has written to the tables."""
    sizes: list[int] = []
    try_commit = SqliteStore.try_commit

    def noting(self: SqliteStore, entries: Sequence[Entry], **rest: Any) -> Any:
        if rest.get("settled"):
            sizes.append(len(entries))
        return try_commit(self, entries, **rest)

    monkeypatch.setattr(SqliteStore, "try_commit", noting)
    return sizes


@flow
async def one_by_one(size: int) -> None:
    for number in range(size):
        await add_one(number)


@pytest.mark.anyio
async def test_the_tables_are_written_seldom_while_a_caller_commits(tmp_path: Path, settlements: list[int]) -> None:
    """A bell that was rung while the thread was busy is no silence: settling all the time, it is in the caller's way."""
    async with Engine(database=tmp_path / "h.db", durability=Durability.RESULTS):
        await one_by_one(100)
        settlements.clear()
        begun = monotonic()
        await one_by_one(1_500)
        seconds = monotonic() - begun
    silences, slices = seconds / limits.GATHER, sum(settlements) / limits.SETTLED_AT_ONCE
    assert len(settlements) < silences + 2 * slices + 5, settlements
