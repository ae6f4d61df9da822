"""Tasks with retries inside of transactions: an attempt that is tried again undoes what it did itself, and nothing else."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import pytest

from callsheet import Task, flow, task
from callsheet.cache_policies import INPUTS
from callsheet.transactions import Transaction, get_transaction, transaction

pytestmark = pytest.mark.parametrize("colour", ["sync", "async"])


def noting(seen: list[str], name: str) -> dict[str, Any]:
    """Give hooks of a task that note when they are called."""
    return {
        "on_commit": [lambda txn: seen.append(f"{name} kept")],
        "on_rollback": [lambda txn: seen.append(f"{name} undone")],
    }


def flaky(colour: str, failures: int, during: Callable[[], None] = lambda: None, **options: Any) -> Task[..., Any]:
    """Make a task that fails so often, and then gives its argument."""
    left = [failures]

    def work(x: int) -> int:
        during()
        if left[0]:
            left[0] -= 1
            raise ValueError("not yet")
        return x

    async def awork(x: int) -> int:
        return work(x)

    return task(work if colour == "sync" else awork, **options)


def around(colour: str, *tasks: Task[..., Any], submits: bool = False) -> tuple[Any, list[Transaction]]:
    """Call tasks in a transaction in a flow of that colour. Give the final state and the transaction."""
    made: list[Transaction] = []

    @flow
    def whole() -> list[Any]:
        with transaction() as txn:
            made.append(txn)
            return [called.submit(1).result() if submits else called(1) for called in tasks]

    @flow
    async def awhole() -> list[Any]:
        async with transaction() as txn:
            made.append(txn)
            return [called.submit(1).result() if submits else await called(1) for called in tasks]

    return (whole(return_state=True) if colour == "sync" else asyncio.run(awhole(return_state=True))), made


@pytest.mark.parametrize("submits", [False, True], ids=["called", "submitted"])
@pytest.mark.parametrize("delay", [0, 0.01])
def test_what_is_around_survives_an_attempt_that_is_tried_again(colour: str, submits: bool, delay: float) -> None:
    seen: list[str] = []
    first = flaky(colour, 0, **noting(seen, "first"))
    second = flaky(colour, 2, retries=2, retry_delay_seconds=delay, cache_policy=INPUTS, **noting(seen, "second"))
    state, [txn] = around(colour, first, second, submits=submits)
    assert state.is_completed()
    assert txn.is_committed()
    assert seen == ["first kept", "second kept"]
    again = second(1, return_state=True) if colour == "sync" else asyncio.run(second(1, return_state=True))
    assert again.name == "Cached"


def test_it_is_rolled_back_with_the_last_attempt(colour: str) -> None:
    seen: list[str] = []
    first = flaky(colour, 0, **noting(seen, "first"))
    seen_then: list[list[str]] = []
    last = flaky(colour, 9, during=lambda: seen_then.append(list(seen)), retries=2, **noting(seen, "last"))
    state, [txn] = around(colour, first, last)
    assert state.is_failed()
    assert txn.is_rolled_back()
    assert seen == ["first undone"]
    assert seen_then == [[], [], []]


def test_it_is_rolled_back_where_nothing_is_tried_again_after_all(colour: str) -> None:
    seen: list[str] = []
    first = flaky(colour, 0, **noting(seen, "first"))
    unwanted = flaky(colour, 9, retries=5, retry_condition_fn=lambda task, run, state: False)
    made: list[Transaction] = []

    @flow
    def whole() -> str:
        with transaction() as txn:
            made.append(txn)
            first(1)
            return unwanted(1, return_state=True).name

    @flow
    async def awhole() -> str:
        async with transaction() as txn:
            made.append(txn)
            await first(1)
            return (await unwanted(1, return_state=True)).name

    assert (whole() if colour == "sync" else asyncio.run(awhole())) == "Failed"
    assert made[0].is_rolled_back()
    assert seen == ["first undone"]


def test_what_a_failed_attempt_had_staged_itself_is_undone_each_time(colour: str) -> None:
    seen: list[str] = []

    def stage() -> None:
        own = get_transaction()
        assert own is not None
        number = len(seen)
        own.stage(None, on_rollback_hooks=[lambda txn: seen.append(f"attempt {number}")])

    state, [txn] = around(colour, flaky(colour, 2, during=stage, retries=2))
    assert state.is_completed()
    assert txn.is_committed()
    assert seen == ["attempt 0", "attempt 1"]


def test_an_attempt_that_ran_out_of_time_is_one_of_them(colour: str) -> None:
    seen: list[str] = []
    left = [1]

    async def sleep() -> int:
        await asyncio.sleep(30 if left and left.pop() else 0)
        return 1

    def stay(x: int) -> int:
        if left:
            left.pop()
            time.sleep(30)
        return x

    async def astay(x: int) -> int:
        return await sleep()

    slow = task(stay if colour == "sync" else astay, retries=1, timeout_seconds=0.1, **noting(seen, "slow"))
    state, [txn] = around(colour, flaky(colour, 0, **noting(seen, "first")), slow)
    assert state.is_completed()
    assert txn.is_committed()
    assert seen == ["first kept", "slow kept"]
