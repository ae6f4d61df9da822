"""Runs that depend on runs: waiting for them, taking their results, and what becomes of failures on the way."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable
from typing import Any

import anyio
import pytest

from callsheet import State, allow_failure, flow, task, unmapped
from callsheet.annotations import quote
from callsheet.exceptions import UnfinishedRun
from callsheet.states import Cancelled, Completed
from past import inputs_of, states_of


@task
def give(x: Any) -> Any:
    return x


@task
async def agive(x: Any) -> Any:
    await anyio.sleep(0)
    return x


@task
def fail(*_: Any) -> Any:
    raise ValueError("upstream")


@dataclasses.dataclass
class Pair:
    left: Any
    right: Any


def in_flow(body: Callable[[], Any]) -> Any:
    """Run a function as a flow, and give what it returned."""
    found: list[Any] = []

    @flow
    def around() -> None:
        found.append(body())

    around()
    return found[0]


# ---------------------------------------------------------------------------------------- results


@pytest.mark.parametrize("give", [give, agive], ids=["sync", "async"])
def test_futures_in_arguments_are_results_wherever_they_lie(give: Any) -> None:
    def body() -> Any:
        a, b = give.submit("a"), give.submit("b")
        nested = {"list": [a, (b, {"deep": a})], a.result(): Pair(a, [b])}
        return give.submit(nested).result()

    assert in_flow(body) == {"list": ["a", ("b", {"deep": "a"})], "a": Pair("a", ["b"])}


def test_states_in_arguments_are_results() -> None:
    assert in_flow(lambda: give([give(1, return_state=True), Completed(data=2)])) == [1, 2]


def test_a_direct_call_takes_futures_too() -> None:
    assert in_flow(lambda: give(give.submit(3))) == 3


@pytest.mark.anyio
async def test_awaited_tasks_take_futures_too() -> None:
    @flow
    async def around() -> Any:
        return await agive([agive.submit(1), give.submit(2)])

    assert await around() == [1, 2]


def test_what_holds_no_run_is_handed_over_as_it_is() -> None:
    given = {"x": [1, 2], "lock": threading.Lock()}
    assert in_flow(lambda: give.submit(given).result()) is given


def test_quoted_values_are_not_looked_into() -> None:
    def body() -> Any:
        future = give.submit(1)
        inside = give(quote([future]))
        return inside[0] is future, give(quote(future)) is future

    assert in_flow(body) == (True, True)


def test_unmapped_is_taken_off() -> None:
    assert in_flow(lambda: give(unmapped([1]))) == [1]


def test_futures_that_a_list_gets_after_the_submit_are_resolved_too() -> None:
    go = threading.Event()

    @task
    def gate() -> str:
        go.wait(5)
        return "open"

    def body() -> Any:
        first = gate.submit()
        items: list[Any] = [first]
        later = give.submit(items)
        items.append(give.submit("more"))
        go.set()
        return later.result()

    assert in_flow(body) == ["open", "more"]


# ---------------------------------------------------------------------------------------- wait_for


@pytest.mark.parametrize("kind", ["future", "list", "nested", "state"])
def test_a_run_waits_for_what_it_is_told_to(kind: str) -> None:
    order: list[str] = []
    go = threading.Event()

    @task
    def first() -> None:
        go.wait(5)
        order.append("first")

    @task
    def second() -> None:
        order.append("second")

    def body() -> None:
        future = first.submit()
        if kind == "state":
            go.set()
            future.wait()
        upstream: Any = {"future": future, "list": [future], "nested": [[future], {"x": future}]}.get(
            kind, [future.state]
        )
        later = second.submit(wait_for=upstream)
        go.set()
        later.wait()
        assert inputs_of(later.task_run_id) == {"wait_for": [future.task_run_id]}

    in_flow(body)
    assert order == ["first", "second"]


@pytest.mark.parametrize("way", ["submit", "map"])
def test_any_iterable_can_be_waited_for(way: str) -> None:
    def body() -> None:
        upstream = [give.submit(1), give.submit(2)]
        once = (future for future in upstream)
        runs = [give.submit(1, wait_for=once)] if way == "submit" else give.map([1, 2], wait_for=once)
        for run in runs:
            run.wait()
            assert inputs_of(run.task_run_id)["wait_for"] == [future.task_run_id for future in upstream]

    in_flow(body)


def test_a_run_that_waits_for_itself_is_told_so() -> None:
    go = threading.Event()

    @task
    def gate() -> None:
        go.wait(5)

    def body() -> State[Any]:
        upstream: list[Any] = [gate.submit()]
        future = give.submit(1, wait_for=upstream)
        upstream.append(future)
        go.set()
        future.wait()
        return future.state

    state = in_flow(body)
    assert state.is_failed()
    with pytest.raises(ValueError, match="deadlock"):
        state.result()


# ------------------------------------------------------------------------------------- not ready


@pytest.mark.parametrize(
    "upstream",
    [
        lambda: fail.submit(),
        lambda: [1, fail.submit()],
        lambda: {"k": (fail.submit(),)},
        lambda: Pair(1, fail.submit()),
        lambda: fail(return_state=True),
        lambda: Cancelled(message="by hand"),
    ],
    ids=["future", "list", "dict", "dataclass", "state", "cancelled"],
)
@pytest.mark.parametrize("way", ["argument", "wait_for"])
def test_a_run_whose_upstream_failed_never_runs(upstream: Callable[[], Any], way: str) -> None:
    ran: list[int] = []

    @task
    def after(x: Any) -> None:
        ran.append(1)

    def body() -> State[Any]:
        if way == "argument":
            return after.submit(upstream(), return_state=True)
        return after.submit(1, wait_for=[upstream()], return_state=True)

    state = in_flow(body)
    assert (state.type.value, state.name) == ("PENDING", "NotReady")
    assert "did not reach a 'COMPLETED' state" in state.message
    assert ran == []
    assert states_of(state) == ["Pending", "NotReady"]
    with pytest.raises(UnfinishedRun):
        state.result()
    with pytest.raises(UnfinishedRun):
        state.result(raise_on_failure=False)


def test_a_direct_call_raises_that_the_run_is_unfinished() -> None:
    def body() -> None:
        with pytest.raises(UnfinishedRun):
            give(fail.submit())

    in_flow(body)


def test_what_depends_on_a_run_that_is_not_ready_is_not_ready_either() -> None:
    def body() -> list[str]:
        second = give.submit(fail.submit())
        third = give.submit(second)
        third.wait()
        return [second.state.name, third.state.name]

    assert in_flow(body) == ["NotReady", "NotReady"]


def test_hooks_and_retries_are_not_for_runs_that_are_not_ready() -> None:
    called: list[int] = []

    @task(retries=3, on_failure=[lambda *_: called.append(1)], on_completion=[lambda *_: called.append(2)])
    def after(_: Any) -> None: ...

    state = in_flow(lambda: after.submit(fail.submit(), return_state=True))
    assert state.name == "NotReady"
    assert called == []


def test_a_flow_that_returns_one_is_failed_as_not_final() -> None:
    @flow
    def around() -> Any:
        return give.submit(fail.submit())

    state = around(return_state=True)
    assert state.is_failed()
    assert state.message == "1/1 states are not final."


@pytest.mark.anyio
async def test_subflows_wait_and_fail_alike() -> None:
    ran: list[str] = []

    @flow
    async def inner(name: str) -> str:
        ran.append(name)
        return name

    @flow
    async def outer() -> list[str]:
        good = await inner("good", wait_for=[agive.submit(1)], return_state=True)
        bad = await inner("bad", wait_for=[fail.submit()], return_state=True)
        worse = await inner(fail.submit(), return_state=True)
        return [good.name, bad.name, worse.name]

    assert await outer() == ["Completed", "NotReady", "NotReady"]
    assert ran == ["good"]


# --------------------------------------------------------------------------------- allowed failures


def test_an_allowed_failure_arrives_as_the_exception() -> None:
    def body() -> None:
        failed = fail.submit()
        for given, found in [
            (allow_failure(failed), lambda x: x),
            (allow_failure(failed.state if failed.wait() is None else None), lambda x: x),
            (allow_failure([failed, give.submit(1)]), lambda x: x[0] if x[1] == 1 else None),
            ({"k": allow_failure(failed)}, lambda x: x["k"]),
            ([allow_failure(failed)], lambda x: x[0]),
        ]:
            error = found(give.submit(given).result())
            assert isinstance(error, ValueError), given
            assert str(error) == "upstream"

    in_flow(body)


def test_an_allowed_failure_that_did_not_fail_is_its_value() -> None:
    assert in_flow(lambda: give(allow_failure(give.submit(1)))) == 1
    assert in_flow(lambda: give(allow_failure(7))) == 7


def test_a_failure_that_is_waited_for_may_be_allowed_too() -> None:
    assert in_flow(lambda: give.submit(1, wait_for=[allow_failure(fail.submit())]).result()) == 1
    assert in_flow(lambda: give.submit(1, wait_for=allow_failure(fail.submit())).result()) == 1


def test_only_what_is_wrapped_is_allowed_to_fail() -> None:
    state = in_flow(lambda: give.submit([allow_failure(fail.submit()), fail.submit()], return_state=True))
    assert state.name == "NotReady"
