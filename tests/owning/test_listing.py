"""An engine is listed before it owns anything: a run of one that is not listed is anybody's."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import anyio
import pytest

from callsheet import Engine, flow
from callsheet._engine import ownership
from callsheet._store.sqlite import SqliteStore


def test_of_two_first_runs_neither_is_before_the_engine_is_listed(
    callsheet_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    listing, may_end = threading.Event(), threading.Event()

    class SlowProof(ownership.Proof):
        def __init__(self, *args: Any) -> None:
            listing.set()
            time.sleep(0.3)
            super().__init__(*args)

    @flow
    def waiting() -> None:
        may_end.wait(20)

    monkeypatch.setattr(ownership, "Proof", SlowProof)
    first, second = (threading.Thread(target=waiting) for _ in range(2))
    first.start()
    assert listing.wait(20)
    second.start()
    store = SqliteStore(callsheet_home / "callsheet.db")
    store.open()
    try:
        deadline = time.monotonic() + 20
        while len(running(store)) < 2 and time.monotonic() < deadline:
            assert store.engines.left(10) == ()
    finally:
        may_end.set()
        first.join()
        second.join()
        store.close()


def test_one_that_takes_runs_up_is_listed_also_where_others_were_writing_when_it_opened(
    callsheet_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It could not say else who is dead: whoever gives no signs of life takes nobody for dead."""
    is_held = iter([True])
    commit = SqliteStore.try_commit

    def busy(store: SqliteStore, *args: Any, **more: Any) -> Any:
        return None if next(is_held, False) else commit(store, *args, **more)

    @flow
    async def idle() -> None: ...

    async def main() -> None:
        async with Engine(flows=[idle]):
            with anyio.fail_after(20):
                while not store.engines.read():
                    await anyio.sleep(0.01)

    store = SqliteStore(callsheet_home / "callsheet.db")
    store.open()
    monkeypatch.setattr(SqliteStore, "try_commit", busy)
    try:
        anyio.run(main)
    finally:
        store.close()


def running(store: SqliteStore) -> list[Any]:
    return store.look(lambda connection: connection.execute("SELECT id FROM run WHERE state_type = 2").fetchall())
