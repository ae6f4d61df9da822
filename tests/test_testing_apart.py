"""Histories that tests keep apart: what runs inside of the block, and what does not."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from uuid import UUID

import pytest

from callsheet import flow, get_client, runtime
from callsheet.exceptions import ObjectNotFound
from callsheet.settings import get_current_settings, refresh_settings
from callsheet.testing import harness


@flow
def who() -> UUID:
    return UUID(runtime.flow_run.id)


def is_known(run_id: UUID) -> bool:
    with get_client(sync_client=True) as client:
        try:
            return client.read_flow_run(run_id).id == run_id
        except ObjectNotFound:
            return False


def test_runs_on_threads_of_the_program_are_kept_apart_too() -> None:
    with harness(), ThreadPoolExecutor(2) as pool:
        runs = [who(), *pool.map(lambda _: who(), range(4))]
        assert all(map(is_known, runs))
        assert all(pool.map(is_known, runs))
    assert not any(map(is_known, runs))


def test_harnesses_inside_each_other(tmp_path: Path) -> None:
    seen: list[str] = []

    def look() -> None:
        thread = threading.Thread(target=lambda: seen.append(Path(get_current_settings().database).name))
        thread.start()
        thread.join()

    with harness(tmp_path / "outer.db"):
        with harness(tmp_path / "inner.db"):
            look()
        look()
    look()
    assert seen == ["inner.db", "outer.db", "callsheet.db"]


def test_a_harness_is_gone_after_an_error() -> None:
    before = refresh_settings().database
    with pytest.raises(ZeroDivisionError), harness():
        raise ZeroDivisionError
    assert get_current_settings().database == before
