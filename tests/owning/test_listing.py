"""An engine is listed before it owns anything: a run of one that is not listed is anybody's."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import pytest

from callsheet import flow
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


def running(store: SqliteStore) -> list[Any]:
    return store.look(lambda connection: connection.execute("SELECT id FROM run WHERE state_type = 2").fetchall())
