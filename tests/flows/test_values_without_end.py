"""Values that contain themselves, and values of ten thousand levels: they go through, or an error says what to do."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from pydantic import BaseModel, JsonValue

from callsheet import flow, get_client, send_signal, task
from callsheet.exceptions import NestedTooDeeply, ParameterTypeError, SerializationError
from callsheet.runtime import flow_run
from callsheet.transactions import transaction
from callsheet.utilities.collections import replace

LEVELS = 10_000


@dataclass
class Node:
    next: Any = None


class Model(BaseModel):
    next: Any = None


def cyclic_list(end: Any = 1) -> Any:
    value = [end]
    value.append(value)
    return value


def cyclic_dict(end: Any = 1) -> Any:
    value = {"a": end}
    value["itself"] = value
    return value


def cyclic_node(end: Any = 1) -> Any:
    value = Node()
    value.next = [end, value]
    return value


def cyclic_model(end: Any = 1) -> Any:
    value = Model()
    value.next = [end, value]
    return value


def deep(wrap: Callable[[Any], Any]) -> Callable[..., Any]:
    def make(end: Any = 1) -> Any:
        for _ in range(LEVELS):
            end = wrap(end)
        return end

    return make


CYCLES = [cyclic_list, cyclic_dict, cyclic_node, cyclic_model]
DEPTHS = [deep(lambda item: [item]), deep(lambda item: {"a": item}), deep(Node)]
ALL = pytest.mark.parametrize("make", [*CYCLES, *DEPTHS])


@task
def one() -> int:
    return 1


@task
def take(value: Any) -> int:
    return 2


@task(persist_result=True)
def keep(value: Any) -> Any:
    return value


@flow
def child(value: Any) -> Any:
    return value


@ALL
def test_they_pass_through_tasks_and_flows_as_they_are(make: Callable[..., Any]) -> None:
    value = make()

    @flow
    def around(given: Any) -> Any:
        assert given is value
        assert take(given) == take.submit(given, wait_for=[given]).result() == 2
        assert take.map([given, given]).result() == [2, 2]
        assert keep(given) is given
        assert child(given) is given
        return given

    assert around(value) is value
    assert asyncio.run(afterwards(value)) is value


@flow
async def afterwards(value: Any) -> Any:
    return value


@ALL
def test_what_they_were_can_be_read(make: Callable[..., Any]) -> None:
    state = child(make(), return_state=True)
    with get_client(sync_client=True) as client:
        assert client.read_flow_run(state.state_details.flow_run_id).parameters


@pytest.mark.parametrize("make", CYCLES)
def test_futures_in_cycles_are_replaced(make: Callable[..., Any]) -> None:
    @task
    def look(value: Any) -> str:
        return repr(value)

    @flow
    def around() -> str:
        return look(make(one.submit()))

    assert around() == repr(make(1))


@pytest.mark.parametrize("make", DEPTHS)
def test_futures_in_the_deep_are_refused_with_advice(make: Callable[..., Any]) -> None:
    @flow
    def gives() -> Any:
        return make(one.submit())

    @flow
    def passes() -> Any:
        return take(make(one.submit()))

    for each in (gives, passes):
        with pytest.raises(NestedTooDeeply, match=r"Ask it for its result first, with `future\.result\(\)`"):
            each()


def test_a_recursion_error_of_a_run_stays_its_own() -> None:
    error = RecursionError("theirs")

    def fail(_: object) -> None:
        raise error

    with pytest.raises(RecursionError) as caught:
        replace([1.5], (float,), fail)
    assert caught.value is error


def test_annotations_that_go_through_them_say_where() -> None:
    @flow
    def strict(value: JsonValue) -> None: ...

    with pytest.raises(ParameterTypeError, match="cyclic reference"):
        strict(cyclic_list())
    with pytest.raises(ParameterTypeError):
        strict(DEPTHS[0]())


@pytest.mark.parametrize("make", DEPTHS)
def test_an_error_that_holds_them_stays_the_bodys_own(make: Callable[..., Any]) -> None:
    error = ValueError(make())

    @task
    def fails() -> None:
        raise error

    @flow
    def around() -> None:
        fails()

    with pytest.raises(ValueError) as caught:
        around()
    assert caught.value is error
    with get_client(sync_client=True) as client:
        assert [run.state_name for run in client.read_task_runs()] == ["Failed"]
        assert any("its __repr__ failed" in log.message for log in client.read_logs())


def test_where_they_have_to_be_written_down_or_copied_is_said() -> None:
    @flow
    def sends() -> None:
        send_signal(flow_run.id, "all", cyclic_list())

    with pytest.raises(SerializationError, match="contains itself"):
        sends()
    with transaction() as txn:
        txn.set("deep", DEPTHS[0]())
        with pytest.raises(NestedTooDeeply, match="'deep'"):
            txn.get("deep")
