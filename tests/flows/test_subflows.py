"""Flows in flows: runs of their own, linked to the one around."""

from __future__ import annotations

from typing import Any

import anyio
import pydantic
import pytest

from callsheet import State, allow_failure, flow, runtime, tags, task
from callsheet.context import FlowRunContext, TaskRunContext
from callsheet.exceptions import ParameterTypeError, UnfinishedRun


@task
def one() -> int:
    return 1


@task
def fails() -> None:
    raise ValueError("no")


@flow
def child(x: int = 1) -> int:
    return x + 1


@flow
async def achild(x: int = 1) -> int:
    await anyio.sleep(0)
    return x + 1


class Order(pydantic.BaseModel):
    count: int


def flow_run() -> Any:
    context = FlowRunContext.get()
    assert context is not None
    return context.flow_run


# --------------------------------------------------------------------------------------- links


def test_a_subflow_is_a_run_of_its_own_with_a_tracking_task_run() -> None:
    seen: dict[str, Any] = {}

    @flow
    def inner() -> None:
        seen["inner"] = flow_run()
        seen["runtime"] = (runtime.flow_run.parent_flow_run_id, runtime.flow_run.root_flow_run_id)
        assert TaskRunContext.get() is None

    @flow
    def outer() -> State[Any]:
        seen["outer"] = flow_run()
        seen["outer runtime"] = (runtime.flow_run.parent_flow_run_id, runtime.flow_run.root_flow_run_id)
        return inner(return_state=True)

    outer_state = outer(return_state=True)
    state = outer_state.result()
    details = state.state_details
    assert details.flow_run_id == seen["inner"].id != seen["outer"].id
    assert details.task_run_id == seen["inner"].parent_task_run_id
    assert details.task_run_id not in (None, details.flow_run_id)
    assert seen["outer"].parent_task_run_id is None
    assert outer_state.state_details.task_run_id is None
    outer_id = str(seen["outer"].id)
    assert seen["runtime"] == (outer_id, outer_id)
    assert seen["outer runtime"] == (None, outer_id)


def test_tasks_belong_to_the_innermost_flow_run() -> None:
    owners: list[Any] = []

    @task
    def owned() -> None:
        context = TaskRunContext.get()
        assert context is not None
        owners.append(context.task_run.flow_run_id)

    @flow
    def inner() -> Any:
        owned()
        owned.submit().wait()
        return flow_run().id

    @flow
    def outer() -> Any:
        owned()
        return inner(), flow_run().id

    inner_id, outer_id = outer()
    assert owners == [outer_id, inner_id, inner_id]


def test_the_context_around_is_back_after_a_subflow() -> None:
    @flow
    def raises() -> None:
        raise ValueError("no")

    @flow
    def outer() -> None:
        before = flow_run().id
        child()
        assert flow_run().id == before
        with pytest.raises(ValueError, match="no"):
            raises()
        assert flow_run().id == before

    outer()
    assert FlowRunContext.get() is None


def test_tags_go_down_into_subflows() -> None:
    seen: list[Any] = []

    @flow
    def inner() -> None:
        seen.append(sorted(flow_run().tags))

    @flow
    def outer() -> None:
        with tags("b"):
            inner()
        inner()

    with tags("a"):
        outer()
    assert seen == [["a", "b"], ["a"]]


@pytest.mark.anyio
async def test_a_flow_called_in_a_task_is_a_subflow_too() -> None:
    seen: list[Any] = []

    @flow
    async def inner() -> int:
        seen.append((flow_run().parent_task_run_id, TaskRunContext.get(), runtime.flow_run.parent_flow_run_id))
        return await achild(1)

    @task
    async def calls() -> int:
        return await inner()

    @flow
    async def outer() -> Any:
        seen.append(str(flow_run().id))
        return [await calls(), await calls.submit(), await calls()]

    assert await outer() == [2, 2, 2]
    outer_id, *inner_runs = seen
    assert len(inner_runs) == 3
    for parent_task_run_id, task_context, parent_flow_run_id in inner_runs:
        assert parent_task_run_id is not None
        assert task_context is None
        assert parent_flow_run_id == outer_id


# ------------------------------------------------------------------------------------ outcomes


def test_a_failed_subflow_fails_its_parent_only_by_the_raise_or_the_return() -> None:
    @flow
    def inner() -> None:
        raise ValueError("inner")

    @flow
    def ignores() -> str:
        inner(return_state=True)
        return "fine"

    @flow
    def raises() -> None:
        inner()

    @flow
    def returns() -> Any:
        return inner(return_state=True)

    assert ignores() == "fine"
    assert raises(return_state=True).message == "Flow run encountered an exception: ValueError: inner"
    assert returns(return_state=True).message == "1/1 states failed."
    for definition in (raises, returns):
        with pytest.raises(ValueError, match="inner"):
            definition()


@pytest.mark.parametrize("ending", ["completes", "fails"])
def test_hooks_of_a_subflow_run_before_those_of_its_parent(ending: str) -> None:
    calls: list[str] = []

    def note(flow: Any, run: Any, state: State[Any]) -> None:
        calls.append(f"{flow.name} {state.name}")

    hooks: Any = {"on_running": [note], "on_completion": [note], "on_failure": [note]}

    @flow(**hooks)
    def inner() -> None:
        if ending == "fails":
            raise ValueError("no")

    @flow(**hooks)
    def outer() -> None:
        inner()

    outer(return_state=True)
    end = "Completed" if ending == "completes" else "Failed"
    assert calls == ["outer Running", "inner Running", f"inner {end}", f"outer {end}"]


# ----------------------------------------------------------------------------------- parameters


@pytest.mark.anyio
@pytest.mark.parametrize("colour", ["sync", "async"])
async def test_futures_and_states_are_resolved_before_they_are_validated(colour: str) -> None:
    @task
    async def make() -> dict[str, Any]:
        return {"count": "3"}

    def inner(order: Order, orders: list[Order], n: int) -> list[int]:
        return [order.count, orders[0].count, n]

    async def ainner(order: Order, orders: list[Order], n: int) -> list[int]:
        return inner(order, orders, n)

    @flow
    async def outer() -> Any:
        future, number = make.submit(), one(return_state=True)
        if colour == "sync":
            return flow(inner)(future, [future], number)  # type: ignore[arg-type,list-item]
        return await flow(ainner)(future, [future], number)  # type: ignore[arg-type,list-item]

    assert await outer() == [3, 3, 1]


def test_a_resolved_parameter_that_is_invalid_fails_the_subflow() -> None:
    @task
    def word() -> str:
        return "word"

    @flow
    def outer() -> State[Any]:
        return child(word.submit(), return_state=True)  # type: ignore[call-overload,no-any-return]

    state = outer(return_state=True)
    assert state.message == "1/1 states failed."
    with pytest.raises(ParameterTypeError):
        state.result()


@pytest.mark.parametrize("way", ["parameter", "wait_for"])
def test_a_subflow_whose_input_failed_does_not_start(way: str) -> None:
    ran: list[int] = []

    @flow
    def inner(x: Any = None) -> None:
        ran.append(1)

    @flow
    def outer() -> State[Any]:
        failed = fails.submit()
        failed.wait()
        with pytest.raises(UnfinishedRun):
            inner(failed)
        if way == "parameter":
            return inner(failed, return_state=True)  # type: ignore[no-any-return]
        return inner(wait_for=[failed], return_state=True)  # type: ignore[no-any-return]

    state = outer(return_state=True)
    assert state.message == "1/1 states are not final."
    inner_state = state.data
    assert (inner_state.name, inner_state.type.name) == ("NotReady", "PENDING")
    assert ran == []
    with pytest.raises(UnfinishedRun):
        inner_state.result()
    with pytest.raises(ValueError, match="Expected failed or crashed state got NotReady"):
        state.result()


def test_failures_may_be_allowed() -> None:
    @flow
    def inner(x: Any) -> Any:
        return repr(x)

    @flow
    def outer() -> Any:
        return inner(allow_failure(fails.submit()))

    assert outer() == repr(ValueError("no"))


def test_wait_for_holds_a_subflow_back() -> None:
    order: list[str] = []

    @task
    def first() -> None:
        order.append("first")

    @flow
    def second() -> None:
        order.append("second")

    @flow
    def outer() -> None:
        second(wait_for=[first.submit()])

    outer()
    assert order == ["first", "second"]
