"""From what a body returns to the final state of its run, and back to the caller."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from callsheet import State, flow, task
from callsheet.annotations import quote
from callsheet.exceptions import CancelledRun, CrashedRun, FailedRun, PausedRun, UnfinishedRun
from callsheet.states import Cancelled, Cancelling, Completed, Crashed, Failed, Paused, Pending, Running


@task
def one() -> int:
    return 1


@task
def fails() -> None:
    raise ValueError("no")


@task
def cancels() -> Any:
    return Cancelled(message="enough")


@task
def pauses() -> Any:
    return Paused()


@task
def unready(x: Any) -> None:
    raise AssertionError


def run_of(body: Any) -> State[Any]:
    """Give the final state of a flow with this body."""
    return flow(body)(return_state=True)


# -------------------------------------------------------------------------------- states made by users


@pytest.mark.parametrize("kind", [flow, task], ids=["flow", "task"])
@pytest.mark.parametrize(
    ("make", "name"),
    [
        (Completed, "Completed"),
        (Failed, "Failed"),
        (Crashed, "Crashed"),
        (Cancelled, "Cancelled"),
        (Paused, "Paused"),
        (Running, "Running"),
        (Pending, "Pending"),
        (Cancelling, "Cancelling"),
    ],
)
def test_a_state_made_by_the_user_is_the_outcome(kind: Any, make: Any, name: str) -> None:
    made = make(message="chosen", data="data")

    @kind
    def body() -> Any:
        return made

    state = body(return_state=True)
    assert state is made
    assert (state.name, state.message, state.data) == (name, "chosen", "data")
    details = state.state_details
    assert (details.flow_run_id if kind is flow else details.task_run_id) is not None


def test_a_state_with_a_name_of_its_own_keeps_it() -> None:
    @flow
    def body() -> Any:
        return Completed(name="Skipped", message="nothing new", data=5)

    state = body(return_state=True)
    assert (state.name, state.type.name, body()) == ("Skipped", "COMPLETED", 5)


@pytest.mark.parametrize("kind", [flow, task], ids=["flow", "task"])
@pytest.mark.parametrize(
    ("make", "error"),
    [
        (lambda: Failed(message="bad"), FailedRun),
        (lambda: Crashed(message="bad"), CrashedRun),
        (lambda: Cancelled(message="bad"), CancelledRun),
        (lambda: Failed(data=KeyError("k")), KeyError),
        (lambda: Paused(), PausedRun),
        (lambda: Running(), UnfinishedRun),
        (lambda: Pending(), UnfinishedRun),
        (lambda: Cancelling(), UnfinishedRun),
    ],
)
def test_what_a_call_raises_for_a_returned_state(kind: Any, make: Any, error: type[Exception]) -> None:
    @kind
    def body() -> Any:
        return make()

    with pytest.raises(error):
        body()


def test_a_paused_call_says_that_there_is_no_result() -> None:
    with pytest.raises(PausedRun, match="result is not available"):
        flow(lambda: Paused())()
    with pytest.raises(CancelledRun, match="enough"):
        cancels()


@pytest.mark.anyio
async def test_async_flows_follow_the_same_rules() -> None:
    made = Failed(message="chosen")

    @flow
    async def returns_made() -> Any:
        return made

    @flow
    async def returns_futures() -> Any:
        return [one.submit(), fails.submit()]

    assert await returns_made(return_state=True) is made
    with pytest.raises(FailedRun, match="chosen"):
        await returns_made()
    state = await returns_futures(return_state=True)
    assert (state.name, state.message) == ("Failed", "1/2 states failed.")
    with pytest.raises(ValueError, match="no"):
        await returns_futures()


# ---------------------------------------------------------------------------------- states of runs


def test_a_completed_runs_state_is_data() -> None:
    def body() -> Any:
        return one(return_state=True)

    state = run_of(body)
    assert (state.name, state.message) == ("Completed", "All states completed.")
    inner = state.result()
    assert isinstance(inner, State)
    assert inner.result() == 1
    assert inner.state_details.task_run_id != state.state_details.task_run_id


def test_one_future_becomes_its_state() -> None:
    @flow
    def body() -> Any:
        return one.submit()

    value = body()
    assert isinstance(value, State)
    assert value.result() == 1
    assert body(return_state=True).message == "All states completed."


@pytest.mark.parametrize("kind", [list, tuple, set])
def test_collections_of_futures_become_collections_of_states(kind: type) -> None:
    @flow
    def body() -> Any:
        return kind([one.submit(), one.submit()])

    value = body()
    assert type(value) is kind
    assert [state.result() for state in value] == [1, 1]


def test_what_map_returns_becomes_a_list_of_states() -> None:
    @task
    def plus(x: int) -> int:
        return x + 1

    @flow
    def body() -> Any:
        return plus.map([1, 2])

    assert [state.result() for state in body()] == [2, 3]


@pytest.mark.parametrize(
    ("members", "name", "message"),
    [
        ([one, one], "Completed", "All states completed."),
        ([one, fails, fails], "Failed", "2/3 states failed."),
        ([one, cancels, fails], "Cancelled", "1/3 states cancelled."),
        ([cancels, pauses], "Cancelled", "1/2 states cancelled."),
        ([one, pauses, fails], "Paused", "1/3 states paused."),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
@pytest.mark.parametrize("way", ["states", "futures"])
def test_states_decide_together(members: list[Any], name: str, message: str, way: str) -> None:
    def body() -> Any:
        if way == "futures":
            return [member.submit() for member in members]
        return [member(return_state=True) for member in members]

    state = run_of(body)
    assert (state.name, state.message) == (name, message)
    assert len(state.data) == len(members)


def test_a_crashed_run_counts_as_failed() -> None:
    @task
    def crashes() -> Any:
        return Crashed(message="gone")

    state = run_of(lambda: [one(return_state=True), crashes(return_state=True)])
    assert (state.name, state.message) == ("Failed", "1/2 states failed.")
    with pytest.raises(CrashedRun, match="gone"):
        state.result()


def test_a_run_that_could_not_start_is_not_final() -> None:
    def body() -> Any:
        failed = fails.submit()
        failed.wait()
        return [one.submit(), unready.submit(failed)]

    state = run_of(body)
    assert (state.name, state.message) == ("Failed", "1/2 states are not final.")
    assert [each.name for each in state.data] == ["Completed", "NotReady"]


def test_a_single_failed_future_fails_the_flow_with_its_exception() -> None:
    @flow
    def body() -> Any:
        return fails.submit()

    with pytest.raises(ValueError, match="no"):
        body()
    assert body(return_state=True).message == "1/1 states failed."


@pytest.mark.parametrize(
    "shape",
    [
        lambda state: (state, ...),
        lambda state: (None, state),
        lambda state: [state, 1],
        lambda state: {"a": state},
        lambda state: [[state]],
        lambda state: [state, [state]],
    ],
)
@pytest.mark.parametrize("way", ["state", "future"])
def test_states_among_other_values_are_plain_data(shape: Any, way: str) -> None:
    def body() -> Any:
        return shape(fails(return_state=True) if way == "state" else fails.submit())

    state = run_of(body)
    assert state.is_completed()
    assert state.message is None


@pytest.mark.parametrize("empty", [[], (), set(), {}, None, 0, ""])
def test_empty_values_are_values(empty: Any) -> None:
    state = run_of(lambda: empty)
    assert state.is_completed()
    assert state.result() is empty


def test_no_return_is_a_completed_run_whatever_failed() -> None:
    @flow
    def body() -> None:
        fails(return_state=True)
        fails.submit().wait()
        fails.submit()

    state = body(return_state=True)
    assert state.is_completed()
    assert state.result() is None


def test_a_subflows_state_counts_too() -> None:
    @flow
    def child() -> None:
        raise KeyError("child")

    def body() -> Any:
        return child(return_state=True), one(return_state=True)

    state = run_of(body)
    assert state.message == "1/2 states failed."
    with pytest.raises(KeyError, match="child"):
        state.result()


# ------------------------------------------------------------------------------------ other values


def test_quoted_values_come_back_quoted() -> None:
    @flow
    def state() -> Any:
        return quote(fails(return_state=True))

    @flow
    def future() -> Any:
        return quote(one.submit())

    returned = state(return_state=True)
    assert returned.is_completed()
    assert isinstance(state(), quote)
    assert state().unquote().is_failed()
    assert isinstance(future(), quote)
    assert future().unquote().result() == 1


def test_the_same_object_comes_back() -> None:
    value = {"deep": [object()]}
    assert flow(lambda: value)() is value
    assert task(lambda: value)() is value
    assert run_of(lambda: value).result() is value


def test_exceptions_may_be_returned() -> None:
    error = ValueError("a value")
    assert flow(lambda: error)() is error
    assert task(lambda: error)() is error


@pytest.mark.parametrize("kind", [flow, task], ids=["flow", "task"])
def test_a_generator_that_is_returned_is_used_up(kind: Any) -> None:
    consumed: list[int] = []

    def numbers() -> Iterator[int]:
        for number in range(3):
            consumed.append(number)
            yield number

    @kind
    def body() -> Any:
        return numbers()

    assert body() == [0, 1, 2]
    assert consumed == [0, 1, 2]


def test_a_generator_that_fails_while_it_is_used_up_fails_its_run() -> None:
    def numbers() -> Iterator[int]:
        yield 1
        raise ValueError("second")

    for kind in (flow, task):
        state = kind(lambda: numbers())(return_state=True)
        assert state.is_failed()
        with pytest.raises(ValueError, match="second"):
            state.result()


@pytest.mark.anyio
async def test_a_generator_of_an_async_body_is_used_up_too() -> None:
    @flow
    async def aflow() -> Any:
        return (n for n in range(3))

    @task
    async def atask() -> Any:
        return (n for n in range(3))

    assert await aflow() == [0, 1, 2]
    assert await atask() == [0, 1, 2]


def test_a_generator_may_submit_tasks() -> None:
    @flow
    def body() -> Any:
        return (one.submit() for _ in range(2))

    assert [state.result() for state in body()] == [1, 1]
