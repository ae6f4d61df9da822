"""Record stores: reading, writing, locks, and files that are damaged."""

from __future__ import annotations

import logging
import os
import threading
from typing import Any

import anyio
import pytest

from callsheet._model.transactions import IsolationLevel
from callsheet._results import files
from callsheet.exceptions import SerializationError, StorageFull, StorageTimeout
from callsheet.filesystems import MemoryStorage
from callsheet.locking.filesystem import FileSystemLockManager
from callsheet.locking.memory import MemoryLocks
from callsheet.records.base import RecordStore, TransactionRecord
from callsheet.records.filesystem import FileSystemRecordStore
from callsheet.records.memory import MemoryRecordStore
from callsheet.records.result_store import ResultRecordStore
from callsheet.results import ResultStore
from callsheet.settings import temporary_settings

FAR = 30.0


@pytest.fixture(params=["memory", "files"])
def store(request, tmp_path) -> RecordStore:
    return MemoryRecordStore() if request.param == "memory" else FileSystemRecordStore(tmp_path / "records")


def test_what_is_written_is_read(store):
    assert store.read("k") is None
    assert not store.exists("k")
    store.write("k", {"a": [1]})
    assert store.exists("k")
    assert store.read("k") == TransactionRecord(key="k", result={"a": [1]})
    store.write("k", None)
    assert store.read("k") == TransactionRecord(key="k", result=None)


def test_it_supports_both_levels(store):
    assert all(store.supports_isolation_level(level) for level in IsolationLevel)


def test_a_key_that_somebody_else_has_locked_is_not_written(store):
    assert store.acquire_lock("k", holder="holder1")
    message = "Cannot write to transaction with key k because it is locked by another holder."
    with pytest.raises(ValueError, match=message.replace(".", r"\.")):
        store.write("k", 1, holder="holder2")
    store.write("k", 1, holder="holder1")
    store.release_lock("k", holder="holder1")
    store.write("k", 2, holder="holder2")
    assert store.read("k").result == 2


def test_a_reader_waits_for_the_lock(store):
    seen: list[Any] = []
    with store.lock("k"):
        assert store.is_locked("k")
        assert store.is_lock_holder("k")
        thread = threading.Thread(target=lambda: seen.append(store.read("k").result))
        thread.start()
        store.write("k", "written")
        assert store.read("k").result == "written"  # by who holds it
    thread.join()
    assert seen == ["written"]
    assert not store.is_locked("k")


def test_a_block_with_a_lock_says_when_it_cannot_have_it(store):
    assert store.acquire_lock("k", holder="a")
    with pytest.raises(TimeoutError, match=r"The lock of 'k' was not free within 0\.01 s"), store.lock("k", "b", 0.01):
        pytest.fail("entered")
    assert not store.wait_for_lock("k", timeout=0.01)
    store.release_lock("k", holder="a")
    with store.lock("k", "b", hold_timeout=0.01):
        assert store.wait_for_lock("k", timeout=FAR)
    assert not store.is_locked("k")


def test_the_default_holder_is_the_code_that_runs_here(store):
    assert store.acquire_lock("k")
    assert store.is_lock_holder("k", store.generate_default_holder())
    other: list[bool] = []
    thread = threading.Thread(target=lambda: other.append(store.is_lock_holder("k")))
    thread.start()
    thread.join()
    assert other == [False]
    store.release_lock("k")


@pytest.mark.anyio
async def test_the_awaited_locks(store):
    assert await store.aacquire_lock("k")
    async with anyio.create_task_group() as group:
        group.start_soon(store.await_for_lock, "k", FAR)
        store.release_lock("k")
    assert await store.aacquire_lock("k", hold_timeout=0.01)
    assert await store.await_for_lock("k", FAR)


def test_a_store_of_ones_own_needs_no_locks():
    class Own(RecordStore):
        def read(self, key, holder=None): ...
        def write(self, key, result, holder=None): ...
        def exists(self, key): ...

    assert Own().supports_isolation_level(IsolationLevel.READ_COMMITTED)
    assert not Own().supports_isolation_level(IsolationLevel.SERIALIZABLE)
    with pytest.raises(NotImplementedError, match="Own has no locks"):
        Own().is_locked("k")
    Own().wait_to_read("k", None)
    Own().check_write("k", None)


# --------------------------------------------------------------------------------------------- files


def test_records_in_files_outlive_the_store(tmp_path):
    FileSystemRecordStore(tmp_path).write("some/where", (1, 2))
    assert FileSystemRecordStore(str(tmp_path)).read("some/where").result == (1, 2)
    assert (tmp_path / "some" / "where").is_file()


def test_the_locks_of_files_are_beside_them(tmp_path):
    store = FileSystemRecordStore(tmp_path)
    assert store.lock_manager == FileSystemLockManager(tmp_path)
    with store.lock("k"):
        assert (tmp_path / "k.lock").is_file()


@pytest.mark.parametrize("content", [b"", b"something else", b"callsheet record 1\n\x80\x04torn"])
def test_a_damaged_record_is_a_clear_error(tmp_path, content):
    (tmp_path / "k").write_bytes(content)
    with pytest.raises(SerializationError, match=r"is not a record of callsheet|cannot be read"):
        FileSystemRecordStore(tmp_path).read("k")


def test_what_cannot_be_pickled_is_a_clear_error_and_keeps_the_older_record(tmp_path):
    store = FileSystemRecordStore(tmp_path)
    store.write("k", "old")
    with pytest.raises(SerializationError, match="lock cannot be turned into a pickle"):
        store.write("k", threading.Lock())
    assert store.read("k").result == "old"
    store.write("k", lambda: 7)  # what only cloudpickle can
    assert store.read("k").result() == 7


def test_a_write_that_fails_leaves_nothing_and_keeps_the_older_record(tmp_path, monkeypatch):
    store = FileSystemRecordStore(tmp_path)
    store.write("k", "old")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageFull, match="no room left"):
        store.write("k", "new")
    assert store.read("k").result == "old"
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_file()) == ["k"]


# -------------------------------------------------------------------------------------- a result store


def test_a_disk_that_does_not_answer_is_not_waited_for(tmp_path, monkeypatch):
    store = FileSystemRecordStore(tmp_path)
    store.write("k", "older")
    answers, fsync = threading.Event(), os.fsync

    def hang(descriptor: int) -> None:
        answers.wait(FAR)
        fsync(descriptor)

    with monkeypatch.context() as patch, temporary_settings({"results_storage_timeout_seconds": 0.1}):
        patch.setattr(files.os, "fsync", hang)
        with pytest.raises(StorageTimeout, match=rf"'k' in FileSystemRecordStore\(.*{tmp_path}"):
            store.write("k", "newer")
        answers.set()
    assert store.read("k").result == "older"
    store.write("k", "newest")
    assert store.read("k").result == "newest"


def test_a_record_that_cannot_be_read_in_time_counts_as_missing(tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("callsheet"), "propagate", True)
    store = FileSystemRecordStore(tmp_path)
    store.write("k", 1)
    (file,) = (path for path in tmp_path.iterdir() if path.is_file())
    file.unlink()
    os.mkfifo(file)  # reading it waits for somebody who writes
    with temporary_settings({"results_storage_timeout_seconds": 0.1}):
        with pytest.raises(StorageTimeout):
            store.read("k")
        assert not store.exists("k")
    assert "counts as missing" in caplog.text
    os.close(os.open(file, os.O_RDWR | os.O_NONBLOCK))  # lets go of both threads
    file.unlink()


def test_a_result_store_as_a_record_store():
    results = ResultStore(result_storage=MemoryStorage(), lock_manager=MemoryLocks())
    store = ResultRecordStore(results)
    assert store.read("k") is None
    store.write("k", 5)
    assert store.read("k").result.result == 5
    assert store.supports_isolation_level(IsolationLevel.SERIALIZABLE)
    record = results.create_result_record(7, key="other")
    store.write("other", record)
    assert results.read("other").result == 7
