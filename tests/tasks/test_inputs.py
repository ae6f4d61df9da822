"""Which runs a run's inputs came from: by futures and states, by identity, by the task around."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from callsheet import flow, task
from past import inputs_of, runs


@task
def give(x: Any) -> Any:
    return x


def in_flow(body: Callable[[], Any]) -> Any:
    """Run a function as a flow, and give what it returned."""
    found: list[Any] = []

    @flow
    def around() -> None:
        found.append(body())

    around()
    return found[0]


@task
def take(a: Any, *rest: Any, b: Any = None, **more: Any) -> Any:
    from callsheet.context import TaskRunContext

    context = TaskRunContext.get()
    assert context is not None
    return context.task_run


def test_every_parameter_is_a_key_and_futures_are_inputs() -> None:
    def body() -> None:
        one, two = give.submit(1), give(2.5, return_state=True)
        run = take.submit([one], one, two, b=two, c=one).result()
        found = {name: [item.id for item in items] for name, items in run.task_inputs.items()}
        first, second = one.task_run_id, two.state_details.task_run_id
        assert found == {"a": [first], "rest": [first, second], "b": [second], "more": [first]}
        assert inputs_of(run.id) == {name: sorted(ids) for name, ids in found.items()}

    in_flow(body)


def test_results_are_traced_by_identity() -> None:
    big, text = object(), "some text"

    def body() -> None:
        source = give.submit(big)
        value = source.result()
        again = give(text)
        run = take(value, 1, True, b=[again], c=None)
        found = {name: [item.id for item in items] for name, items in run.task_inputs.items()}
        assert found["a"] == [source.task_run_id]
        assert found["rest"] == []
        assert len(found["b"]) == 1
        assert found["more"] == []

    in_flow(body)


@pytest.mark.parametrize("value", [True, False, None, ..., NotImplemented, 0, -5, 256], ids=repr)
def test_values_that_everybody_shares_are_not_traced(value: Any) -> None:
    def body() -> Any:
        return take(give(value))

    assert in_flow(body).task_inputs["a"] == []


def test_a_new_object_made_of_a_result_is_not_traced() -> None:
    assert in_flow(lambda: take(give([1, 2, 3]) + [4])).task_inputs["a"] == []


@pytest.mark.parametrize("error", [TypeError("unsized"), RuntimeError("a query")])
def test_the_length_of_what_is_no_collection_is_not_asked_for(error: Exception) -> None:
    class Array:  # one without dimensions has no length; that of a table may take an hour
        def __len__(self) -> int:
            raise error

    def body() -> Any:
        give([1])  # from now on inputs are traced
        return take(give(Array())).task_inputs["a"]

    assert len(in_flow(body)) == 1


def test_members_of_a_returned_tuple_are_traced() -> None:
    def body() -> Any:
        left, _ = give((object(), object()))
        return take(left)

    assert len(in_flow(body).task_inputs["a"]) == 1


def test_a_task_inside_of_a_task_names_its_parent_and_no_other() -> None:
    found: dict[str, Any] = {}

    @task
    def innermost() -> Any:
        found["innermost"] = take(1)

    @task
    def inner() -> None:
        found["inner"] = take(1)
        innermost()

    @flow
    def between() -> None:
        found["between"] = take(1)

    @task
    def outer() -> None:
        inner()
        between()

    in_flow(outer)
    parents = {name: [item.id for item in run.task_inputs.get("__parents__", [])] for name, run in found.items()}
    by_name = {record.definition.name: record.id for record in runs()}
    assert parents == {"inner": [by_name["inner"]], "innermost": [by_name["innermost"]], "between": []}


def test_a_subflows_tracking_run_has_its_inputs() -> None:
    @flow
    def inner(x: int) -> None: ...

    def body() -> None:
        source = give.submit(1)
        state = inner(source, return_state=True)
        assert inputs_of(state.state_details.task_run_id) == {"x": [source.task_run_id]}

    in_flow(body)


def test_a_future_is_its_own_run_whatever_else_gave_the_same_object() -> None:
    def body() -> None:
        one, two = give.submit("the same"), give.submit("the same")
        run = take.submit(one, b=two, wait_for=[one, two]).result()
        assert inputs_of(run.id) == {
            "a": [one.task_run_id],
            "b": [two.task_run_id],
            "wait_for": sorted([one.task_run_id, two.task_run_id]),
        }

    in_flow(body)
