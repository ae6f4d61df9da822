"""Small files of a quick folder are read on the loop itself; whatever could make it wait is not (ADR 0013)."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Any

import pytest

from callsheet._results import files, paces
from callsheet.filesystems import LocalFileSystem
from callsheet.results import ResultStore

pytestmark = pytest.mark.anyio


@pytest.fixture
def local(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take every folder for one on a disk of this machine, and each reading for quick, however busy it is."""
    monkeypatch.setattr(paces, "is_surely_local", lambda folder: True)
    monkeypatch.setattr(paces, "QUICK", 60.0)


@pytest.fixture
def storage(tmp_path: Path) -> LocalFileSystem:
    return LocalFileSystem(tmp_path / "kept")


@pytest.fixture
def reads_on_threads(storage: LocalFileSystem, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Note the keys that are read on another thread than the test's."""
    here, seen, get = threading.get_ident(), list[str](), LocalFileSystem.get

    def noting(self: LocalFileSystem, key: str) -> bytes:
        assert threading.get_ident() != here
        seen.append(Path(key).name)
        return get(self, key)

    monkeypatch.setattr(LocalFileSystem, "get", noting)
    return seen


async def warm(storage: LocalFileSystem) -> ResultStore:
    """Give a store whose folder has shown that it is quick."""
    store = ResultStore(result_storage=storage, cache_result_in_memory=False)
    await store.awrite([1], key="small")
    for _ in range(3):
        await store.aread("small")
    return store


async def test_reading_begins_on_threads_and_comes_to_the_loop(
    local: None, storage: LocalFileSystem, reads_on_threads: list[str]
) -> None:
    store = await warm(storage)
    assert reads_on_threads == ["small"] * 3
    assert (await store.aread("small")).result == [1]
    assert await store.aexists("small")
    with pytest.raises(ValueError, match="does not exist"):
        await store.aread("missing")
    assert reads_on_threads == ["small"] * 3


async def test_what_is_large_is_read_on_a_thread(
    local: None, storage: LocalFileSystem, reads_on_threads: list[str]
) -> None:
    store = await warm(storage)
    await store.awrite(b"x" * 100_000, key="large")
    assert len((await store.aread("large")).result) == 100_000
    assert reads_on_threads[3:] == ["large"]


@pytest.mark.skipif(not hasattr(os, "RWF_NOWAIT"), reason="this system cannot say whether a disk is needed")
async def test_what_a_disk_is_needed_for_is_read_on_a_thread(
    local: None, storage: LocalFileSystem, reads_on_threads: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    store = await warm(storage)

    def not_in_memory(descriptor: int, buffers: Any, offset: int, flags: int) -> int:
        assert flags == os.RWF_NOWAIT
        raise BlockingIOError

    monkeypatch.setattr(files.os, "preadv", not_in_memory)
    assert (await store.aread("small")).result == [1]
    monkeypatch.setattr(files.os, "preadv", lambda *_: 1)  # only a part is in memory
    assert (await store.aread("small")).result == [1]
    assert reads_on_threads[3:] == ["small"] * 2


async def test_a_folder_that_has_become_slow_is_left_to_threads_for_a_while(
    local: None, storage: LocalFileSystem, reads_on_threads: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    store = await warm(storage)
    monkeypatch.setattr(paces, "QUICK", -1.0)
    await store.aread("small")  # on the loop, for the last time
    assert len(reads_on_threads) == 3
    await store.aread("small")
    assert len(reads_on_threads) == 4
    monkeypatch.setattr(paces, "QUICK", 60.0)
    for _ in range(20):
        await store.aread("small")
    assert len(reads_on_threads) == 4 + 16


async def test_while_one_reading_hangs_others_are_not_tried_on_the_loop(
    local: None, storage: LocalFileSystem, reads_on_threads: list[str]
) -> None:
    store = await warm(storage)
    with paces.pace_of(storage.basepath).measured(Path(storage.basepath)):
        await store.aread("small")
    assert reads_on_threads[3:] == ["small"]


async def test_network_folders_are_never_read_on_the_loop(
    storage: LocalFileSystem, reads_on_threads: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(paces, "QUICK", 60.0)
    monkeypatch.setattr(paces, "is_surely_local", lambda folder: False)
    store = await warm(storage)
    for _ in range(5):
        await store.aread("small")
    assert len(reads_on_threads) == 8


async def test_what_a_subclass_reads_is_not_passed_by(local: None, tmp_path: Path) -> None:
    class Reversed(LocalFileSystem):
        def get(self, key: str) -> bytes:
            return super().get(key)[::-1]

        def put(self, key: str, parts: Any) -> None:
            super().put(key, [b"".join(parts)[::-1]])

    store = await warm(Reversed(tmp_path))
    assert (await store.aread("small")).result == [1]
