"""Keyed flows that are called and submitted inside of flow runs: runs of their own, beside the one that calls them."""

from __future__ import annotations

import threading
from typing import Any

import anyio
import pytest

from callsheet import flow, run_key, task, transactions
from callsheet._engine.ambient import ambient_core
from callsheet.exceptions import BlockingWaitError, RunKeyConflict, RunKeyError
from past import runs


@pytest.fixture
def bodies() -> list[Any]:
    return []


@pytest.fixture
def double(bodies: list[Any]) -> Any:
    @flow
    def double(x: int) -> int:
        bodies.append(x)
        return 2 * x

    return double


@pytest.fixture
def adouble(bodies: list[Any]) -> Any:
    @flow
    async def adouble(x: int) -> int:
        bodies.append(x)
        await anyio.sleep(0)
        return 2 * x

    return adouble


def test_called_in_a_sync_flow(double: Any, bodies: list[Any]) -> None:
    @flow
    def outer() -> list[int]:
        found = []
        for _ in range(3):
            with run_key("k"):
                found.append(double(1))
        return found

    assert outer() == outer() == [2, 2, 2]
    assert bodies == [1]
    (keyed,) = runs(definition_names=("double",))
    assert (keyed.parent_id, keyed.root_id) in ((None, None), (None, keyed.id))


def test_called_in_async_flows(double: Any, adouble: Any, bodies: list[Any], run_on: Any) -> None:
    @flow
    async def outer() -> list[int]:
        with run_key("k"):
            one = await adouble(1)
        with run_key("k"):
            other = double(2)
        return [one, other]

    assert [run_on(outer), run_on(outer)] == [[2, 4], [2, 4]]
    assert bodies == [1, 2]


def test_called_in_a_task(double: Any, bodies: list[Any]) -> None:
    @task
    def inner() -> int:
        with run_key("k"):
            return double(4)

    @flow
    def outer() -> list[int]:
        return [inner(), *(future.result() for future in [inner.submit(), inner.submit()])]

    assert outer() == [8, 8, 8]
    assert bodies == [4]


def test_submitted(double: Any, adouble: Any, bodies: list[Any], run_on: Any) -> None:
    @flow
    async def outer() -> list[Any]:
        futures = []
        for called in (adouble, adouble, double, double):
            with run_key("k"):
                futures.append(called.submit(5))
        assert futures[0].task_run_id == futures[1].task_run_id != futures[2].task_run_id
        with run_key("k"):
            state = double.submit(5, return_state=True)
        return [*[await future for future in futures], state.data]

    assert run_on(outer) == [10] * 5
    assert bodies == [5, 5]
    assert run_on(outer) == [10] * 5
    assert bodies == [5, 5]


def test_submitted_in_a_sync_flow(double: Any, bodies: list[Any]) -> None:
    called = []

    @flow
    def outer() -> int:
        with run_key("k"):
            future = double.submit(6)
        future.add_done_callback(called.append)
        future.wait()
        assert future.state.name == "Completed"
        return future.result()

    assert [outer(), outer()] == [12, 12]
    assert bodies == [6]
    assert len(called) == 2


def test_a_failure_comes_through_the_future() -> None:
    @flow
    def fail() -> None:
        raise KeyError("no")

    @flow
    def outer() -> None:
        with run_key("k"):
            future = fail.submit()
        future.result()

    for _ in range(2):
        with pytest.raises(KeyError, match="no"):
            outer()


def test_a_conflict_is_told_at_the_submit(double: Any) -> None:
    @flow
    def outer() -> None:
        with run_key("k"):
            double(1)
        with run_key("k"), pytest.raises(RunKeyConflict):
            double.submit(2)

    outer()


def test_a_submit_at_home_in_no_flow(double: Any) -> None:
    with run_key("k"), pytest.raises(RuntimeError, match="from inside a flow run"):
        double.submit(1)


def test_what_came_from_a_run_counts_as_that_run(double: Any, bodies: list[Any]) -> None:
    @task
    def three() -> int:
        return 3

    @flow
    def outer() -> list[int]:
        source = three.submit()
        found = []
        for _ in range(2):
            with run_key("k"):
                found.append(double(source))
        return found

    assert outer() == [6, 6]
    assert bodies == [3]
    with pytest.raises(RunKeyConflict):
        outer()


# ------------------------------------------------------------------------------------- forbidden circles


def test_inside_its_own_run() -> None:
    @flow
    def again(depth: int) -> int:
        if depth:
            with run_key("k"):
                return again(depth)
        return 0

    with pytest.raises(RunKeyError, match="wait for itself"), run_key("k"):
        again(1)


def test_in_a_task_of_its_own_run() -> None:
    @task
    def inner() -> int:
        with run_key("k"):
            return again()

    @flow
    def again() -> int:
        return inner()

    with pytest.raises(RunKeyError, match="wait for itself"), run_key("k"):
        again()


def test_two_runs_that_wait_for_each_other() -> None:
    @flow
    def first() -> int:
        with run_key("k"):
            return second()

    @flow
    def second() -> int:
        with run_key("k"):
            return first()

    with pytest.raises(BlockingWaitError, match="neither could ever end"), run_key("k"):
        first()


# -------------------------------------------------------------------------------------- a life of its own


@pytest.mark.anyio
async def test_it_outlives_the_run_that_called_it() -> None:
    begun, go = anyio.Event(), anyio.Event()
    bodies: list[int] = []

    @flow
    async def slow() -> int:
        bodies.append(1)
        begun.set()
        await go.wait()
        return 7

    @flow
    async def outer() -> None:
        with run_key("k"):
            await slow()

    with anyio.CancelScope() as scope:
        async with anyio.create_task_group() as group:
            group.start_soon(outer)
            await begun.wait()
            scope.cancel()
    go.set()
    with run_key("k"):
        assert await slow() == 7
    assert bodies == [1]


def test_a_place_is_lent_while_a_task_waits() -> None:
    from callsheet.task_runners import ThreadPoolTaskRunner

    @task
    def one() -> int:
        return 1

    @flow(task_runner=ThreadPoolTaskRunner(max_workers=1))
    def narrow() -> int:
        return one.submit().result()

    @task
    def inner() -> int:
        with run_key("k"):
            return narrow()

    @flow(task_runner=ThreadPoolTaskRunner(max_workers=1))
    def outer() -> list[int]:
        return [future.result() for future in [inner.submit(), inner.submit()]]

    assert outer() == [1, 1]


def test_it_is_outside_of_the_transaction_around_its_caller() -> None:
    @task
    def look() -> bool:
        return transactions.get_transaction().get_parent() is None

    @flow
    def inner() -> bool:
        return look()

    @flow
    def outer() -> bool:
        with transactions.transaction(), run_key("k"):
            return inner()

    assert outer()


def test_a_draining_engine_still_starts_it(double: Any) -> None:
    @flow
    def outer() -> int:
        ambient_core().accepting = False
        try:
            with run_key("k"):
                return double(1)
        finally:
            ambient_core().accepting = True

    assert outer() == 2


def test_who_attaches_from_outside_hears_of_the_end(double: Any) -> None:
    begun, go = threading.Event(), threading.Event()

    @flow
    def slow() -> int:
        begun.set()
        assert go.wait(30)
        return 1

    @flow
    def outer() -> int:
        with run_key("k"):
            future = slow.submit()
        assert begun.wait(30)
        go.set()
        return future.result()

    found: list[int] = []

    def attach() -> None:
        assert begun.wait(30)
        with run_key("k"):
            found.append(slow())

    thread = threading.Thread(target=attach)
    thread.start()
    assert outer() == 1
    thread.join(30)
    assert found == [1]
