# pyright: strict, reportUnnecessaryTypeIgnoreComment=true
"""What type checkers see of flows, tasks, futures and states. This file is checked, never run.

A line with an ignore comment is a mistake that must be found: both checkers complain if there is nothing to ignore.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Coroutine, Generator
from typing import Any, assert_type

from callsheet import Flow, State, Task, allow_failure, flow, tags, task, unmapped
from callsheet.futures import TaskFuture, TaskFutureList, as_completed
from callsheet.states import Completed
from callsheet.task_runners import ThreadPoolTaskRunner

# ------------------------------------------------------------------------------------------- definitions


@task
def plain(x: int, y: str = "a") -> float:
    return float(x)


@task(retries=2, retry_delay_seconds=[1, 2], tags={"a"}, timeout_seconds=1)
async def waiting(x: int) -> str:
    return str(x)


@task
def counting(upto: int) -> Generator[int, None, str]:
    yield from range(upto)
    return "done"


@flow
def sync_flow(x: int) -> str:
    return str(x)


@flow(name="named", retries=1, task_runner=ThreadPoolTaskRunner(max_workers=2), log_prints=True)
async def async_flow(x: int, y: str = "a") -> list[int]:
    return [x]


@flow
async def streaming(upto: int) -> AsyncGenerator[int, None]:
    for i in range(upto):
        yield i


def definitions_keep_parameters_and_results() -> None:
    takes_float: Task[[int, str], float]
    takes_float = plain
    assert_type(sync_flow.fn(1), str)
    assert_type(plain.with_options(name="b")(1), float)
    assert_type(sync_flow.with_options(retries=3)(1), str)
    takes_list: Flow[[int, str], Coroutine[Any, Any, list[int]]]
    takes_list = async_flow
    print(takes_float, takes_list)


# ------------------------------------------------------------------------------------------------- calls


def calls_of_sync_functions() -> None:
    assert_type(plain(1), float)
    assert_type(plain(1, y="b"), float)
    assert_type(plain(1, return_state=True), State[float])
    assert_type(sync_flow(1), str)
    assert_type(sync_flow(1, return_state=True), State[str])
    assert_type(counting(3), Generator[int, None, str])
    plain("no")  # type: ignore[call-overload]
    plain(1, z=2)  # type: ignore[call-overload]
    sync_flow()  # type: ignore[call-overload]


async def calls_of_async_functions() -> None:
    assert_type(await waiting(1), str)
    assert_type(await waiting(1, return_state=True), State[str])
    assert_type(await async_flow(1, "b"), list[int])
    assert_type(await async_flow(1, return_state=True), State[list[int]])
    async for i in streaming(3):
        assert_type(i, int)
    await waiting("no")  # type: ignore[call-overload]
    await async_flow()  # type: ignore[call-overload]


# --------------------------------------------------------------------------------------- submit and map


def submitted_runs_give_futures() -> None:
    first = plain.submit(1)
    assert_type(first, TaskFuture[float])
    assert_type(first.result(), float)
    assert_type(waiting.submit(1), TaskFuture[str])
    assert_type(waiting.submit(1).result(timeout=1), str)
    assert_type(plain.submit(1, return_state=True), State[float])
    assert_type(waiting.submit(1, return_state=True), State[str])
    # A future may stand in the place of a value, and may be waited for.
    assert_type(plain.submit(plain.submit(1), wait_for=[first]), TaskFuture[float])
    assert_type(plain.submit(allow_failure(first)), TaskFuture[float])
    assert_type(sync_flow.submit(1), TaskFuture[str])
    assert_type(async_flow.submit(1), TaskFuture[list[int]])


async def futures_can_be_awaited() -> None:
    assert_type(await plain.submit(1), float)
    assert_type(await waiting.submit(1), str)
    assert_type(await waiting.map([1, 2]), list[str])


def mapped_runs_give_lists() -> None:
    futures = waiting.map(range(3))
    assert_type(futures, TaskFutureList[str])
    assert_type(futures[0], TaskFuture[str])
    assert_type(futures.result(), list[str])
    assert_type(plain.map([1, 2], unmapped("a")), TaskFutureList[float])
    assert_type(plain.map([1, 2], return_state=True), list[State[float]])
    for future in as_completed(futures):
        assert_type(future, TaskFuture[str])


# --------------------------------------------------------------------------------------- states, methods


def states_know_their_result() -> None:
    state: State[int] = Completed(data=1)
    assert_type(state.is_completed(), bool)
    assert_type(state.name, str)


class Shop:
    @task
    def price(self, item: str) -> int:
        return len(item)

    @flow
    async def quote(self, item: str) -> int:
        return self.price(item)


async def methods_are_bound() -> None:
    shop = Shop()
    assert_type(shop.price("apple"), int)
    assert_type(shop.price.submit("apple"), TaskFuture[int])
    assert_type(await shop.quote("apple"), int)
    shop.price(1)  # type: ignore[call-overload]


def tags_yield_a_set() -> None:
    with tags("a", "b") as current:
        assert_type(current, set[str])
