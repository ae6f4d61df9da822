"""Runs that wait for each other: the last one to begin is told, and nothing hangs."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from callsheet import allow_failure, flow, task
from callsheet._engine import circles
from callsheet.exceptions import BlockingWaitError


@pytest.fixture(autouse=True)
def no_waits_are_left():
    yield
    assert not circles._waits
    assert not circles._awaited


def refused(*states: Any) -> list[str]:
    """Give the messages of those that failed for waiting in a circle."""
    errors = [state.data for state in states if state.is_failed()]
    return [str(error) for error in errors if isinstance(error, BlockingWaitError)]


def test_two_tasks_that_block_on_each_other():
    futures: dict[str, Any] = {}
    ready = threading.Event()  # both futures are known

    @task
    def one(other: str) -> Any:
        ready.wait()
        return futures[other].result(raise_on_failure=False)

    @flow
    def both() -> list[Any]:
        futures["a"] = one.submit("b")
        futures["b"] = one.submit("a")
        ready.set()
        return [future.state for future in futures.values() if future.wait() is None]

    states = both(return_state=True).data
    (message,) = refused(*states)
    assert "would wait for task run" in message
    assert sorted(state.type.value for state in states) == ["COMPLETED", "FAILED"]


@pytest.mark.anyio
async def test_async_tasks_that_block_on_each_other():
    futures: dict[str, Any] = {}

    @task
    async def one(other: str) -> Any:
        return futures[other].result()

    @flow
    async def both() -> list[Any]:
        futures["a"] = one.submit("b")
        futures["b"] = one.submit("a")
        for future in futures.values():
            future.wait()
        return [future.state for future in futures.values()]

    states = (await both(return_state=True)).data
    assert [state.is_failed() for state in states] == [True, True]  # the second hears of the first one's end
    assert refused(*states)


def test_a_child_cannot_wait_for_the_flow_run_around_it():
    box: list[Any] = []

    @task
    def child() -> Any:
        return box[0].result()

    @flow
    def inner() -> Any:
        while not box:
            pass
        return child()

    @flow
    def outer() -> Any:
        box.append(inner.submit())
        return box[0].state if box[0].wait() is None else None

    state = outer(return_state=True)
    with pytest.raises(BlockingWaitError, match="neither could ever end"):
        state.result()


def test_inputs_that_are_added_later_can_close_a_circle():
    @task
    def nothing(value: Any) -> None:
        del value

    @flow
    def both() -> Any:
        later: list[Any] = []
        first_may_look = threading.Event()

        @task
        def gate() -> None:
            first_may_look.wait()

        later.append(gate.submit())
        first = nothing.submit(later)
        second = nothing.submit(first)
        later.append(second)
        first_may_look.set()
        first.wait()
        second.wait()
        return first.state, second.state

    first, second = both(return_state=True).data
    assert refused(first)
    assert second.name == "NotReady"


def test_waits_that_end_are_no_circle():
    futures: dict[str, Any] = {}
    ready = threading.Event()

    @task
    def patient() -> Any:
        ready.wait()
        return futures["impatient"].result(raise_on_failure=False)

    @task
    def impatient() -> str:
        ready.wait()
        try:
            futures["patient"].result(timeout=0.05)
        except TimeoutError:
            return "went on"
        return "waited"

    @task
    def add(*numbers: int) -> int:
        return sum(numbers)

    @flow
    def all_of_it() -> list[Any]:
        futures["patient"] = patient.submit()
        futures["impatient"] = impatient.submit()
        ready.set()
        top = add.submit(1)
        left, right = add.submit(top), add.submit(top, 1)
        chain = left
        for _ in range(100):
            chain = add.submit(chain, 1)
        return [
            add.submit(left, right).result(),
            chain.result(),
            futures["patient"].result(),
            add.submit(allow_failure(top)).result(),
        ]

    assert all_of_it() == [3, 101, "went on", 1]
