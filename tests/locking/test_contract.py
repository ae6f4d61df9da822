"""What every lock manager does: in memory, as files, in the database; in threads and in tasks of every event loop."""

from __future__ import annotations

import copy
import os
import pickle
import threading
import time
from typing import Any

import anyio
import pytest

from callsheet import flow, task
from callsheet.exceptions import BlockingWaitError, ConfigurationError
from callsheet.locking.database import DatabaseLockManager
from callsheet.locking.filesystem import FileSystemLockManager
from callsheet.locking.holders import generate_default_holder
from callsheet.locking.memory import MemoryLockManager, MemoryLocks
from callsheet.locking.protocol import LockManager

FAR = 30.0  # seconds that are never waited for


@pytest.fixture(params=["memory", "files", "database"])
def locks(request, tmp_path) -> Any:
    if request.param == "memory":
        return MemoryLocks()
    if request.param == "files":
        return FileSystemLockManager(tmp_path / "locks")
    return DatabaseLockManager(tmp_path / "history.db")


def test_it_is_a_lock_manager(locks):
    assert isinstance(locks, LockManager)


def test_a_lock_is_taken_and_released(locks):
    assert not locks.is_locked("k")
    assert locks.acquire_lock("k", holder="a") is True
    assert locks.is_locked("k")
    assert locks.is_lock_holder("k", holder="a")
    assert not locks.is_lock_holder("k", holder="b")
    assert not locks.is_locked("other")
    locks.release_lock("k", holder="a")
    assert not locks.is_locked("k")
    assert not locks.is_lock_holder("k", holder="a")


def test_it_is_idempotent_for_its_holder(locks):
    assert locks.acquire_lock("k", holder="a")
    assert locks.acquire_lock("k", holder="a", acquire_timeout=FAR)
    locks.release_lock("k", holder="a")
    assert not locks.is_locked("k")


def test_another_holder_waits_no_longer_than_it_wants_to(locks):
    assert locks.acquire_lock("k", holder="a")
    assert locks.acquire_lock("k", holder="b", acquire_timeout=0.02) is False
    assert locks.acquire_lock("k", holder="b", acquire_timeout=0) is False
    assert locks.is_lock_holder("k", holder="a")
    locks.release_lock("k", holder="a")
    assert locks.acquire_lock("k", holder="b", acquire_timeout=0)
    locks.release_lock("k", holder="b")


@pytest.mark.parametrize("taken", [False, True])
def test_a_release_by_somebody_else_is_an_error(locks, taken):
    if taken:
        locks.acquire_lock("k", holder="holder1")
    with pytest.raises(ValueError, match=r"^No lock held by holder2 for transaction with key k$"):
        locks.release_lock("k", holder="holder2")
    assert locks.is_locked("k") == taken
    if taken:
        locks.release_lock("k", holder="holder1")


def test_a_lock_with_a_hold_timeout_frees_itself(locks):
    assert locks.acquire_lock("k", holder="a", hold_timeout=0.05)
    assert locks.acquire_lock("k", holder="b", acquire_timeout=FAR)
    assert not locks.is_lock_holder("k", holder="a")
    with pytest.raises(ValueError, match="No lock held by a"):
        locks.release_lock("k", holder="a")
    locks.release_lock("k", holder="b")
    assert locks.acquire_lock("k", holder="a", hold_timeout=0.05)
    assert locks.wait_for_lock("k", timeout=FAR)
    assert not locks.is_locked("k")


def test_waiting_for_a_free_lock_takes_nothing(locks):
    assert locks.wait_for_lock("k") is True
    assert locks.wait_for_lock("k", timeout=0) is True
    locks.acquire_lock("k", holder="a")
    assert locks.wait_for_lock("k", timeout=0.02) is False
    locks.release_lock("k", holder="a")
    assert locks.wait_for_lock("k", timeout=0) is True


def test_a_waiter_is_woken_by_the_release(locks):
    locks.acquire_lock("k", holder="a")
    seen: list[bool] = []
    threads = [
        threading.Thread(target=lambda: seen.append(locks.wait_for_lock("k", timeout=FAR))),
        threading.Thread(target=lambda: seen.append(locks.acquire_lock("k", holder="b", acquire_timeout=FAR))),
    ]
    for thread in threads:
        thread.start()
    locks.release_lock("k", holder="a")
    threads[1].join()
    assert locks.is_lock_holder("k", holder="b")
    locks.release_lock("k", holder="b")
    threads[0].join()
    assert seen == [True, True]


def test_only_one_thread_at_a_time(locks):
    inside: list[int] = []
    most: list[int] = []

    def work(number: int) -> None:
        for _ in range(5):
            assert locks.acquire_lock("k", holder=f"holder-{number}", acquire_timeout=FAR)
            inside.append(number)
            most.append(len(inside))
            inside.remove(number)
            locks.release_lock("k", holder=f"holder-{number}")

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1] * 20
    assert not locks.is_locked("k")


@pytest.mark.anyio
async def test_tasks_wait_without_blocking_the_loop(locks):
    """The holder is a task of the same loop: if a waiter blocked it, nobody could ever release."""
    order: list[str] = []

    async def work(name: str) -> None:
        assert await locks.aacquire_lock("k", holder=name)
        order.append(f"{name} in")
        await anyio.sleep(0.001)
        order.append(f"{name} out")
        locks.release_lock("k", holder=name)

    async with anyio.create_task_group() as group:
        for number in range(4):
            group.start_soon(work, str(number))
    assert [line.split()[1] for line in order] == ["in", "out"] * 4
    assert not locks.is_locked("k")


@pytest.mark.anyio
async def test_the_awaited_forms_have_the_same_timeouts(locks):
    assert await locks.await_for_lock("k", timeout=0)
    assert await locks.aacquire_lock("k", holder="a")
    assert not await locks.aacquire_lock("k", holder="b", acquire_timeout=0.02)
    assert not await locks.await_for_lock("k", timeout=0.02)
    locks.release_lock("k", holder="a")
    assert await locks.aacquire_lock("k", holder="b", hold_timeout=0.05)
    assert await locks.await_for_lock("k", timeout=FAR)


@pytest.mark.anyio
@pytest.mark.parametrize("released_while_leaving", [False, True])
async def test_a_cancelled_waiter_holds_nothing(locks, released_while_leaving):
    locks.acquire_lock("k", holder="a")

    async def take() -> None:
        if await locks.aacquire_lock("k", "b"):  # the release may have come first
            locks.release_lock("k", "b")

    async with anyio.create_task_group() as group:
        group.start_soon(take)
        await anyio.sleep(0.01)
        if released_while_leaving:
            locks.release_lock("k", holder="a")
        group.cancel_scope.cancel()
    if not released_while_leaving:
        locks.release_lock("k", holder="a")
    assert await locks.aacquire_lock("k", holder="c", acquire_timeout=FAR)
    locks.release_lock("k", holder="c")


@pytest.mark.anyio
async def test_a_waiter_behind_one_that_leaves_gets_its_turn(locks):
    locks.acquire_lock("k", holder="a")
    got: list[bool] = []

    async def patient() -> None:
        got.append(await locks.aacquire_lock("k", holder="c", acquire_timeout=FAR))

    async with anyio.create_task_group() as outer:
        async with anyio.create_task_group() as group:
            group.start_soon(locks.aacquire_lock, "k", "b")
            await anyio.sleep(0.01)
            outer.start_soon(patient)
            await anyio.sleep(0.01)
            group.cancel_scope.cancel()
        locks.release_lock("k", holder="a")
    assert got == [True]
    locks.release_lock("k", holder="c")


@pytest.mark.anyio
async def test_sync_code_of_a_run_waits_while_its_loop_goes_on(locks):
    """A sync task in an async flow waits for a lock that another task of the same loop releases."""
    locks.acquire_lock("k", holder="outside")

    @task
    def wait_for_it() -> bool:
        return locks.acquire_lock("k", holder="inside", acquire_timeout=FAR)

    @task
    async def release() -> None:
        locks.release_lock("k", holder="outside")

    @flow
    async def both() -> bool:
        future = release.submit()
        got = wait_for_it()
        future.wait()
        return got

    assert await both() is True
    locks.release_lock("k", holder="inside")


def test_the_awaited_forms_need_a_loop(locks):
    with pytest.raises(RuntimeError, match="awaited on asyncio or trio"):
        locks.aacquire_lock("k", holder="a").send(None)


# ------------------------------------------------------------------------------------------ the memory


def test_the_manager_in_memory_is_one_for_the_process():
    first = MemoryLockManager()
    assert first.acquire_lock("only", holder="a")
    try:
        assert MemoryLockManager() is first
        assert MemoryLockManager().is_lock_holder("only", holder="a")
        assert pickle.loads(pickle.dumps(first)) is first
        assert copy.deepcopy(first) is first
    finally:
        first.release_lock("only", holder="a")
    assert MemoryLockManager() is not MemoryLocks()


def test_who_waits_longest_is_served_first():
    locks, order, threads = MemoryLocks(), [], []
    locks.acquire_lock("k", holder="a")

    def work(name: str) -> None:
        locks.acquire_lock("k", holder=name)
        order.append(name)
        locks.release_lock("k", holder=name)

    for number in range(5):
        threads.append(threading.Thread(target=work, args=(str(number),)))
        threads[-1].start()
        while len(locks._locks["k"].queue) <= number:
            time.sleep(0.001)
    locks.release_lock("k", holder="a")
    for thread in threads:
        thread.join()
    assert order == ["0", "1", "2", "3", "4"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_holds_nothing_of_its_parent(tmp_path):
    memory, files = MemoryLocks(), FileSystemLockManager(tmp_path)
    memory.acquire_lock("k", holder="a")
    files.acquire_lock("k", holder="a")
    child = os.fork()
    if child == 0:
        try:
            ok = not memory.is_locked("k") and files.is_locked("k") and not files.acquire_lock("k", "b", 0.05)
            os._exit(0 if ok else 1)
        except BaseException:
            os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert files.is_lock_holder("k", "a")
    files.release_lock("k", "a")


# ---------------------------------------------------------------------------------------------- holders


@pytest.mark.anyio
async def test_every_thread_and_task_has_a_name_of_its_own():
    names: list[str] = [generate_default_holder(), generate_default_holder()]
    assert names[0] == names[1]

    async def note() -> None:
        names.append(generate_default_holder())
        await anyio.sleep(0)
        assert names.count(generate_default_holder()) == 1

    async with anyio.create_task_group() as group:
        for _ in range(3):
            group.start_soon(note)
    for _ in range(2):
        thread = threading.Thread(target=lambda: names.append(generate_default_holder()))
        thread.start()
        thread.join()  # the second may well be given the ident of the first
    assert len(set(names)) == 6


# ----------------------------------------------------------------------------------------- files, rows


def test_the_file_of_a_lock_has_its_name(tmp_path):
    locks = FileSystemLockManager(tmp_path / "new" / "folder")
    assert not locks.lock_files_directory.exists()
    locks.acquire_lock("a.b", holder="a")
    locks.acquire_lock("some/where", holder="a")
    assert (tmp_path / "new/folder/a.b.lock").is_file()
    assert (tmp_path / "new/folder/some/where.lock").is_file()
    locks.release_lock("a.b", holder="a")
    locks.release_lock("some/where", holder="a")
    assert not list((tmp_path / "new/folder").rglob("*.lock"))


@pytest.mark.parametrize("key", ["../out", "/etc/passwd", "a//b", "x" * 300, ".hidden", "a\\b", "nul\0", "ü" * 150])
def test_no_key_leads_out_of_the_folder(tmp_path, key):
    locks = FileSystemLockManager(tmp_path / "locks")
    assert locks.acquire_lock(key, holder="a")
    assert len(list((tmp_path / "locks").rglob("key-*.lock"))) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["locks"]
    locks.release_lock(key, holder="a")


@pytest.mark.parametrize("kind", [FileSystemLockManager, DatabaseLockManager])
def test_managers_of_one_place_are_equal_and_share_their_locks(tmp_path, kind):
    first, second = kind(tmp_path / "place"), kind(str(tmp_path / "place"))
    assert first == second != kind(tmp_path / "other")
    assert hash(first) == hash(second)
    assert first != "place"
    assert str(tmp_path) in repr(first)
    first.acquire_lock("k", holder="a")
    assert second.is_lock_holder("k", holder="a")
    assert second.acquire_lock("k", holder="a")
    second.release_lock("k", holder="a")
    assert not first.is_locked("k")


def test_the_database_of_the_settings_is_the_default(callsheet_home):
    locks = DatabaseLockManager()
    assert locks.database == callsheet_home / "callsheet.db"
    with pytest.raises(ConfigurationError, match="MemoryLockManager"):
        DatabaseLockManager(":memory:")


def test_locks_live_beside_the_history(callsheet_home):
    locks = DatabaseLockManager()

    @flow
    def locked() -> bool:
        return locks.acquire_lock("k", holder="a")

    assert locked()
    locks.release_lock("k", holder="a")


@pytest.mark.parametrize("kind", [FileSystemLockManager, DatabaseLockManager])
def test_a_lease_is_some_time(tmp_path, kind):
    with pytest.raises(ValueError, match="`lease` must be more than 0 seconds"):
        kind(tmp_path / "place", lease=0)


@pytest.mark.anyio
async def test_a_blocking_call_that_would_stop_its_own_loop_says_so(locks):
    assert locks.acquire_lock("key", "a")  # nobody has it: taken at once
    assert locks.acquire_lock("key", "a")
    with pytest.raises(BlockingWaitError, match="aacquire_lock"):
        locks.acquire_lock("key", "b")
    with pytest.raises(BlockingWaitError, match="await_for_lock"):
        locks.wait_for_lock("key")
    assert not locks.acquire_lock("key", "b", acquire_timeout=0.01)  # that wait would end
    assert locks.is_lock_holder("key", "a")
    locks.release_lock("key", "a")
    assert locks.acquire_lock("key", "b")
    locks.release_lock("key", "b")


@pytest.mark.anyio
async def test_a_blocking_call_behind_one_of_its_own_loop_says_so(locks):
    taken, leave = threading.Event(), threading.Event()

    def elsewhere() -> None:
        assert locks.acquire_lock("key", "thread")
        taken.set()
        leave.wait(FAR)
        locks.release_lock("key", "thread")

    thread = threading.Thread(target=elsewhere)
    thread.start()
    taken.wait(FAR)

    async def awaiting() -> None:
        assert await locks.aacquire_lock("key", "task")
        locks.release_lock("key", "task")

    async with anyio.create_task_group() as group:
        group.start_soon(awaiting)
        await anyio.wait_all_tasks_blocked()
        with pytest.raises(BlockingWaitError, match="aacquire_lock"):
            locks.acquire_lock("key", "sync")
        leave.set()
    thread.join()
    assert locks.acquire_lock("key", "sync")
    locks.release_lock("key", "sync")


@pytest.mark.anyio
async def test_a_blocking_call_waits_for_a_thread_also_on_a_loop(locks):
    taken = threading.Event()

    def elsewhere() -> None:
        assert locks.acquire_lock("key", "thread")
        taken.set()
        locks.release_lock("key", "thread")

    thread = threading.Thread(target=elsewhere)
    thread.start()
    taken.wait(FAR)
    assert locks.acquire_lock("key", "sync")
    locks.release_lock("key", "sync")
    thread.join()
