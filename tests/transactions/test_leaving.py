"""How blocks are left from outside: cancelled, abandoned, interrupted."""

from __future__ import annotations

import asyncio
import gc
import math

import anyio
import pytest

from callsheet import drive, flow, task
from callsheet.records.memory import MemoryRecordStore
from callsheet.settings import temporary_settings
from callsheet.transactions import CommitMode, IsolationLevel, Transaction, get_transaction, transaction

SERIALIZABLE = IsolationLevel.SERIALIZABLE


@pytest.mark.anyio
async def test_a_cancelled_block_awaits_its_rollback_hooks_to_the_end():
    calls: list[str] = []

    async def undo(txn: Transaction) -> None:
        await anyio.sleep(0.01)
        calls.append("undone")

    with anyio.move_on_after(0.01) as scope:
        async with transaction(store=(store := MemoryRecordStore()), key="k", isolation_level=SERIALIZABLE) as txn:
            txn.stage(1, on_rollback_hooks=[undo])
            await anyio.sleep(math.inf)
    assert scope.cancelled_caught
    assert calls == ["undone"]
    assert txn.is_rolled_back()
    assert not store.is_locked("k")


@pytest.mark.anyio
async def test_a_cancelled_with_block_in_a_driven_task_does_so_too():
    calls: list[str] = []

    async def undo(txn: Transaction) -> None:
        await anyio.sleep(0.01)
        calls.append("undone")

    async def work() -> None:
        with transaction() as txn:
            txn.stage(1, on_rollback_hooks=[undo])
            await anyio.sleep(math.inf)

    with anyio.move_on_after(0.01):
        await drive(work())
    assert calls == ["undone"]


@pytest.mark.anyio
async def test_after_a_cancellation_a_hook_has_some_time_and_no_more(caplog):
    async def undo(txn: Transaction) -> None:
        await anyio.sleep(math.inf)

    with temporary_settings({"CALLSHEET_CANCEL_GRACE_SECONDS": 0.02}), anyio.move_on_after(0.01):
        async with transaction() as txn:
            txn.stage(1, on_rollback_hooks=[undo])
            await anyio.sleep(math.inf)
    assert txn.is_staged()
    assert "Not finished 0.02 s after everything around it was cancelled." in caplog.text
    assert get_transaction() is None


@pytest.mark.anyio
async def test_a_commit_that_is_cancelled_rolls_back_and_goes_on():
    calls: list[str] = []

    async def slow(txn: Transaction) -> None:
        await anyio.sleep(math.inf)

    with anyio.move_on_after(0.01) as scope:
        async with transaction(store=(store := MemoryRecordStore()), key="k", isolation_level=SERIALIZABLE) as txn:
            txn.stage(1, on_commit_hooks=[slow], on_rollback_hooks=[lambda txn: calls.append("undone")])
    assert scope.cancelled_caught
    assert (txn.is_rolled_back(), calls) == (True, ["undone"])
    assert not store.exists("k")
    assert not store.is_locked("k")
    assert get_transaction() is None


def test_a_native_cancellation_of_asyncio_rolls_back_too():
    calls: list[str] = []

    async def undo(txn: Transaction) -> None:
        await asyncio.sleep(0.01)
        calls.append("undone")

    async def work() -> None:
        async with transaction() as txn:
            txn.stage(1, on_rollback_hooks=[undo])
            await asyncio.sleep(math.inf)

    async def main() -> None:
        running = asyncio.create_task(work())
        await asyncio.sleep(0.01)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running

    asyncio.run(main())
    assert calls == ["undone"]


@pytest.mark.anyio
async def test_a_block_in_a_generator_that_is_closed_is_rolled_back():
    calls: list[str] = []

    async def numbers():
        async with transaction() as txn:
            txn.stage(1, on_rollback_hooks=[lambda txn: calls.append("undone")])
            yield 1

    stream = numbers()
    assert await anext(stream) == 1
    await stream.aclose()
    assert calls == ["undone"]


def test_a_block_that_is_left_in_another_context_is_left_all_the_same():
    calls: list[str] = []

    def numbers():
        with transaction() as txn:
            txn.stage(1, on_rollback_hooks=[lambda txn: calls.append("undone")])
            yield 1

    from contextvars import copy_context

    stream = numbers()
    copy_context().run(next, stream)
    assert get_transaction() is None
    del stream
    gc.collect()
    assert calls == ["undone"]


@pytest.mark.anyio
async def test_a_with_block_in_a_task_that_nobody_drives_runs_coroutine_hooks_elsewhere():
    """The loop waits meanwhile, as for a sync flow that is called on it."""
    calls: list[str] = []

    async def hook(txn: Transaction) -> None:
        await asyncio.sleep(0)
        calls.append("called")

    with transaction() as txn:
        txn.stage(1, on_commit_hooks=[hook])
    assert calls == ["called"]


def test_ctrl_c_in_a_flow_undoes_what_it_did():
    calls: list[str] = []

    @flow
    def interrupted() -> None:
        with transaction() as txn:
            txn.stage(1, on_rollback_hooks=[lambda txn: calls.append("undone")])
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert calls == ["undone"]
    assert get_transaction() is None


@pytest.mark.anyio
async def test_a_flow_that_runs_out_of_time_undoes_what_it_did():
    calls: list[str] = []

    async def undo(txn: Transaction) -> None:
        await anyio.sleep(0)
        calls.append("undone")

    @flow(timeout_seconds=0.05)
    async def slow() -> None:
        async with transaction() as txn:
            txn.stage(1, on_rollback_hooks=[undo])
            await anyio.sleep(math.inf)

    state = await slow(return_state=True)
    assert state.name == "TimedOut"
    assert calls == ["undone"]


def test_a_sync_task_that_runs_out_of_time_undoes_what_it_did(untraced):
    import time

    calls: list[str] = []

    @task(timeout_seconds=0.1)
    def slow() -> None:
        with transaction() as txn:
            txn.stage(1, on_rollback_hooks=[lambda txn: calls.append("undone")])
            for _ in range(3000):
                time.sleep(0.01)

    with pytest.raises(TimeoutError):
        slow()
    assert calls == ["undone"]
    assert get_transaction() is None


@pytest.mark.anyio
async def test_transactions_of_tasks_side_by_side_know_nothing_of_each_other():
    async def work(name: str) -> None:
        async with transaction(key=name, store=MemoryRecordStore(), commit_mode=CommitMode.EAGER) as txn:
            await anyio.sleep(0.001)
            assert get_transaction() is txn
            assert txn.get_parent() is outer
            txn.stage(name)

    async with transaction() as outer, anyio.create_task_group() as group:
        for name in "abc":
            group.start_soon(work, name)
    assert sorted(child.key for child in outer.children) == ["a", "b", "c"]
