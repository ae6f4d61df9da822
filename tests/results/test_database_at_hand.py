"""Small results in a database are read on the loop itself; whatever could make it wait is not."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest

from callsheet.filesystems import DatabaseStorage
from callsheet.results import ResultStore

pytestmark = pytest.mark.anyio


@pytest.fixture
def storage(tmp_path: Path) -> Any:
    made = DatabaseStorage(tmp_path / "kept")
    yield made
    made.close()


@pytest.fixture
def threads_of_reads(storage: DatabaseStorage, monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Note for each read that may block whether it happens on the test's own thread."""
    here, seen, get = threading.get_ident(), list[bool](), storage.get

    def noting(key: str) -> bytes:
        seen.append(threading.get_ident() == here)
        return get(key)

    monkeypatch.setattr(storage, "get", noting)
    return seen


async def test_a_small_result_needs_no_thread(storage: DatabaseStorage, threads_of_reads: list[bool]) -> None:
    store = ResultStore(result_storage=storage, cache_result_in_memory=False)
    await store.awrite({"n": 1}, key="small")
    assert (await store.aread("small")).result == {"n": 1}
    assert threads_of_reads == []


async def test_a_large_result_is_read_on_a_thread(storage: DatabaseStorage, threads_of_reads: list[bool]) -> None:
    store = ResultStore(result_storage=storage, cache_result_in_memory=False)
    await store.awrite(b"x" * 100_000, key="large")
    assert len((await store.aread("large")).result) == 100_000
    assert threads_of_reads == [False]


async def test_what_is_not_there_is_said_at_once(storage: DatabaseStorage, threads_of_reads: list[bool]) -> None:
    store = ResultStore(result_storage=storage)
    await store.awrite(1, key="another")
    with pytest.raises(ValueError, match="missing"):
        await store.aread("missing")
    assert threads_of_reads == []


async def test_a_file_that_another_program_holds_is_waited_for_on_a_thread(
    storage: DatabaseStorage, threads_of_reads: list[bool]
) -> None:
    store = ResultStore(result_storage=storage, cache_result_in_memory=False)
    await store.awrite(1, key="key")
    glance = storage._values.glance

    def held(key: str) -> Any:
        (connection, _), *_ = storage._values._idle
        connection.close()  # any error of SQLite will do
        return glance(key)

    storage._values.glance = held  # type: ignore[method-assign]
    assert (await store.aread("key")).result == 1
    assert threads_of_reads == [False]
