"""Waiting for several runs: all of them, one after the other, in lists and in nested collections."""

from __future__ import annotations

import collections
import dataclasses
import threading
from collections.abc import Callable
from typing import Any

import anyio
import pytest

from callsheet import flow, task
from callsheet.annotations import quote
from callsheet.futures import TaskFutureList, as_completed, resolve_futures_to_states, wait


@task
def give(x: Any) -> Any:
    return x


@task
async def agive(x: Any) -> Any:
    await anyio.sleep(0)
    return x


@task
def fail() -> None:
    raise ValueError("no")


def in_flow(body: Callable[[], Any]) -> Any:
    """Run a function as a flow, and give what it returned."""
    found: list[Any] = []

    @flow
    def around() -> None:
        found.append(body())

    around()
    return found[0]


class Gate:
    """A task that waits until it is let go."""

    def __init__(self) -> None:
        self.open = threading.Event()
        self.entered = threading.Event()

        @task
        def held(x: Any = None) -> Any:
            self.entered.set()
            assert self.open.wait(10)
            return x

        self.task = held


# -------------------------------------------------------------------------------------------- many


def test_wait_tells_who_is_done() -> None:
    gate = Gate()

    def body() -> None:
        quick, held = give.submit(1), gate.task.submit()
        quick.wait()
        done, not_done = wait([quick, held], timeout=0.01)
        assert done == {quick}
        assert not_done == {held}
        gate.open.set()
        both = wait([quick, held])
        assert both.done == {quick, held}
        assert both.not_done == set()

    in_flow(body)


def test_as_completed_gives_them_in_the_order_of_their_ends() -> None:
    gates = [Gate() for _ in range(4)]
    order = [2, 0, 3, 1]

    def body() -> list[int]:
        futures = [gate.task.submit(i) for i, gate in enumerate(gates)]
        found: list[int] = []
        gates[order[0]].open.set()
        for i, future in enumerate(as_completed(futures)):
            found.append(future.result())
            if i < 3:
                gates[order[i + 1]].open.set()
        return found

    assert in_flow(body) == order


def test_as_completed_counts_what_is_left() -> None:
    gate = Gate()

    def body() -> None:
        futures = [give.submit(i) for i in range(5)]
        wait(futures)
        futures.append(gate.task.submit())
        found: list[Any] = []
        with pytest.raises(TimeoutError, match=r"1 \(of 6\) futures unfinished"):
            for future in as_completed(futures, timeout=0.05):
                found.append(future)
        assert len(found) == 5
        gate.open.set()

    in_flow(body)


def test_as_completed_gives_each_once_and_nothing_of_nothing() -> None:
    def body() -> None:
        future = give.submit(1)
        assert list(as_completed([future, future])) == [future]
        assert list(as_completed([])) == []
        assert wait([]) == (set(), set())

    in_flow(body)


@pytest.mark.anyio
async def test_waiting_for_many_in_async_flows() -> None:
    first = anyio.Event()

    @task
    async def late() -> str:
        await first.wait()
        return "late"

    @task
    async def early() -> str:
        first.set()
        return "early"

    @flow
    async def around() -> list[str]:
        futures = [late.submit(), early.submit()]
        found = [future.result() for future in as_completed(futures)]
        assert wait(futures).done == set(futures)
        return found

    assert await around() == ["early", "late"]


def test_lists_of_futures() -> None:
    gate = Gate()

    def body() -> None:
        futures = give.map([1, 2, 3])
        assert isinstance(futures, TaskFutureList)
        assert isinstance(futures, list)
        futures.wait()
        assert futures.result() == [1, 2, 3]
        held = TaskFutureList([give.submit(1), gate.task.submit(2)])
        held.wait(timeout=0.01)
        with pytest.raises(TimeoutError):
            held.result(timeout=0.01)
        gate.open.set()
        assert held.result(timeout=10) == [1, 2]

    in_flow(body)


def test_failures_in_lists_of_futures() -> None:
    def body() -> None:
        futures = TaskFutureList([give.submit(1), fail.submit()])
        with pytest.raises(ValueError, match="no"):
            futures.result()
        one, error = futures.result(raise_on_failure=False)
        assert one == 1
        assert isinstance(error, ValueError)

    in_flow(body)


def test_a_timeout_error_of_a_task_is_its_own() -> None:
    own = TimeoutError("by the task")

    @task
    def impatient() -> None:
        raise own

    def body() -> None:
        with pytest.raises(TimeoutError) as caught:
            TaskFutureList([impatient.submit()]).result(timeout=10)
        assert caught.value is own
        with pytest.raises(TimeoutError) as caught:
            impatient.submit().result(timeout=10)
        assert caught.value is own

    in_flow(body)


@pytest.mark.anyio
async def test_a_list_of_futures_can_be_awaited() -> None:
    @flow
    async def around() -> list[int]:
        return await agive.map([1, 2, 3])

    assert await around() == [1, 2, 3]


# ------------------------------------------------------------------------------------- into states


@dataclasses.dataclass
class Pair:
    left: Any
    right: Any


def test_futures_become_states_wherever_they_lie() -> None:
    def body() -> None:
        a, b = give.submit(1), fail.submit()
        found = resolve_futures_to_states({"x": [a, (b,)], a: Pair(a, {b})})
        assert found == {"x": [a.state, (b.state,)], a.state: Pair(a.state, {b.state})}
        ordered = resolve_futures_to_states(collections.OrderedDict(k=a))
        assert type(ordered) is collections.OrderedDict
        assert ordered["k"] is a.state
        assert resolve_futures_to_states(a) is a.state
        plain = {"nothing": [1, 2]}
        assert resolve_futures_to_states(plain) is plain
        assert resolve_futures_to_states(quote(a)).unquote() is a

    in_flow(body)


def test_what_is_no_future_is_told():
    for waits in (wait, lambda futures: list(as_completed(futures))):
        with pytest.raises(TypeError, match="Expected futures, as `submit` and `map` give them; got int among them"):
            waits([1])
