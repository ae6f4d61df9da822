"""Transactions over result stores: what is written, who waits for whom, and two processes with one key."""

from __future__ import annotations

import subprocess
import threading
from typing import Any

import anyio
import pytest

import warm
from callsheet.exceptions import ConfigurationError
from callsheet.filesystems import LocalFileSystem, MemoryStorage, NullFileSystem
from callsheet.locking.database import DatabaseLockManager
from callsheet.locking.filesystem import FileSystemLockManager
from callsheet.locking.memory import MemoryLocks
from callsheet.results import ResultRecord, ResultStore
from callsheet.transactions import IsolationLevel, get_transaction, transaction

SERIALIZABLE = IsolationLevel.SERIALIZABLE
FAR = 30.0


@pytest.fixture(params=["memory", "files", "database"])
def store(request, tmp_path) -> ResultStore:
    if request.param == "memory":
        return ResultStore(result_storage=MemoryStorage(), lock_manager=MemoryLocks())
    locks = (
        FileSystemLockManager(tmp_path / "locks")
        if request.param == "files"
        else DatabaseLockManager(tmp_path / "history.db")
    )
    return ResultStore(result_storage=LocalFileSystem(basepath=tmp_path / "results"), lock_manager=locks)


def test_the_commit_writes_a_record(store):
    with transaction(key="k", store=store) as txn:
        txn.stage({"foo": "bar"})
        assert not store.exists("k")
    assert txn.read().result == {"foo": "bar"}
    assert store.read("k").result == {"foo": "bar"}


@pytest.mark.anyio
async def test_the_awaited_form_writes_the_same(store):
    async with transaction(key="k", store=store, isolation_level=SERIALIZABLE) as txn:
        assert store.is_locked("k")
        txn.stage({"foo": "bar"})
    record = await txn.aread()
    assert isinstance(record, ResultRecord)
    assert record.result == {"foo": "bar"}
    assert not store.is_locked("k")
    async with transaction(key="k", store=store) as again:
        assert again.is_committed()


def test_a_staged_record_is_written_as_it_is(store):
    record = store.create_result_record(7, key="k")
    with transaction(key="k", store=store) as txn:
        txn.stage(record)
    assert store.read("k") == record


def test_a_result_that_cannot_be_serialized_rolls_back_and_the_code_goes_on(store, caplog):
    with caplog.at_level("WARNING", "callsheet.transactions"), transaction(key="k", store=store) as txn:
        txn.stage(threading.Lock())
    assert txn.is_rolled_back()
    assert "Encountered an error while serializing result for transaction 'k'" in caplog.text
    assert not store.exists("k")


def test_a_reader_waits_for_the_writer(store):
    opened, go_on = threading.Event(), threading.Event()

    def write() -> None:
        with transaction(key="k", store=store, isolation_level=SERIALIZABLE) as txn:
            opened.set()
            go_on.wait(FAR)
            txn.stage({"foo": "bar"})

    thread = threading.Thread(target=write)
    thread.start()
    opened.wait(FAR)
    threading.Timer(0.05, go_on.set).start()
    with transaction(key="k", store=store) as txn:
        assert txn.read().result == {"foo": "bar"}
    thread.join()


def test_the_first_of_two_writers_wins(store):
    opened = threading.Event()

    def first() -> None:
        with transaction(key="k", store=store, isolation_level=SERIALIZABLE) as txn:
            opened.set()
            txn.stage("first")

    thread = threading.Thread(target=first)
    thread.start()
    opened.wait(FAR)
    with transaction(key="k", store=store, isolation_level=SERIALIZABLE) as txn:
        assert txn.is_committed()
        txn.stage("second")
    thread.join()
    assert store.read("k").result == "first"


@pytest.mark.anyio
async def test_one_of_many_tasks_computes(store):
    computed: list[int] = []

    async def work(number: int) -> None:
        async with transaction(key="k", store=store, isolation_level=SERIALIZABLE) as txn:
            if not txn.is_committed():
                computed.append(number)
                await anyio.sleep(0.01)
                txn.stage(number)

    async with anyio.create_task_group() as group:
        for number in range(5):
            group.start_soon(work, number)
    assert len(computed) == 1
    assert store.read("k").result == computed[0]
    assert get_transaction() is None


@pytest.mark.anyio
async def test_who_is_cancelled_while_it_waits_holds_nothing(store):
    async def wait() -> None:
        async with transaction(key="k", store=store, isolation_level=SERIALIZABLE):
            pytest.fail("entered")

    store.acquire_lock("k", holder="other")
    async with anyio.create_task_group() as group:
        group.start_soon(wait)
        await anyio.sleep(0.02)
        group.cancel_scope.cancel()
    assert get_transaction() is None
    store.release_lock("k", holder="other")
    assert await store.await_for_lock("k", FAR)


def test_a_child_may_commit_in_another_thread_than_it_was_entered(store):
    """As a task that was submitted: it stages in a thread of the pool, and the flow's thread commits."""
    from contextvars import copy_context

    with transaction() as parent:

        def work() -> None:
            with transaction(key="k", store=store, isolation_level=SERIALIZABLE) as child:
                child.stage(1)

        thread = threading.Thread(target=copy_context().run, args=(work,))
        thread.start()
        thread.join()
        assert store.is_locked("k")
        assert len(parent.children) == 1
    assert parent.is_committed()
    assert not store.is_locked("k")
    assert store.read("k").result == 1


def test_a_lock_that_was_taken_over_meanwhile_means_that_nothing_is_written(tmp_path, caplog):
    locks = FileSystemLockManager(tmp_path / "locks")
    store = ResultStore(result_storage=LocalFileSystem(basepath=tmp_path / "results"), lock_manager=locks)
    calls: list[str] = []
    with caplog.at_level("WARNING", "callsheet"):
        with transaction(key="k", store=store, isolation_level=SERIALIZABLE) as txn:
            (tmp_path / "locks" / "k.lock").unlink()
            store.acquire_lock("k", holder="other")
            txn.stage("late", on_rollback_hooks=[lambda txn: calls.append("undone")])
        assert txn.is_rolled_back()
    assert calls == ["undone"]
    assert "was taken over by another holder: nothing was written" in caplog.text
    assert "was lost meanwhile" in caplog.text
    assert not store.exists("k")
    assert store.is_lock_holder("k", holder="other")
    store.release_lock("k", holder="other")


def test_serializable_needs_a_lock_manager():
    with (
        pytest.raises(ConfigurationError, match="not supported by provided configuration"),
        transaction(key="k", store=ResultStore(result_storage=MemoryStorage()), isolation_level=SERIALIZABLE),
    ):
        pytest.fail("entered")


def test_a_key_alone_means_the_current_result_store():
    with transaction(key="k") as txn:
        assert isinstance(txn.store, ResultStore)
        txn.stage(1)
    assert txn.store.read("k").result == 1


def test_a_store_that_keeps_no_metadata_keeps_it_with_the_results():
    store = ResultStore(result_storage=MemoryStorage(), metadata_storage=NullFileSystem())
    with transaction(key="k", store=store) as txn:
        assert txn.store.metadata_storage is None
        txn.stage(1)
    assert txn.read().result == 1
    kept = ResultStore(result_storage=MemoryStorage(), metadata_storage=MemoryStorage())
    with transaction(key="k", store=kept) as txn:
        assert txn.store is kept


PROGRAM = """
import sys
from callsheet.filesystems import LocalFileSystem
from callsheet.locking.filesystem import FileSystemLockManager
from callsheet.locking.database import DatabaseLockManager
from callsheet.results import ResultStore
from callsheet.transactions import IsolationLevel, transaction

kind, folder, name = sys.argv[1:]
locks = FileSystemLockManager(folder + "/locks") if kind == "files" else DatabaseLockManager(folder + "/history.db")
store = ResultStore(result_storage=LocalFileSystem(basepath=folder + "/results"), lock_manager=locks)
print("ready", flush=True)
sys.stdin.readline()
for number in range(10):
    with transaction(key=f"k{number}", store=store, isolation_level=IsolationLevel.SERIALIZABLE) as txn:
        if txn.is_committed():
            print(f"found {txn.read().result}")
        else:
            txn.stage(f"{name} {number}")
            print(f"made {name} {number}")
"""


@pytest.mark.parametrize("kind", ["files", "database"])
def test_of_two_processes_one_computes_and_the_other_finds_it(kind, tmp_path):
    started: list[Any] = []
    for name in ("a", "b"):
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        started.append(warm.start(PROGRAM, kind, tmp_path, name, strict=True, **pipes))
    for process in started:
        assert process.stdout.readline() == "ready\n"
    lines: list[str] = []
    for process in started:
        process.stdin.write("go\n")
        process.stdin.flush()
    for process in started:
        lines += process.communicate(timeout=50)[0].splitlines()
        assert process.returncode == 0
    made = sorted(line.removeprefix("made ") for line in lines if line.startswith("made"))
    found = sorted(line.removeprefix("found ") for line in lines if line.startswith("found"))
    assert len(made) == 10
    assert made == found
