"""What parameters do to runs: coercion that everybody sees, bad values that are failed runs, and binding."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pydantic
import pytest

from callsheet import allow_failure, flow, get_client, task
from callsheet.context import FlowRunContext
from callsheet.exceptions import ParameterBindError, ParameterTypeError, ReservedArgumentError

INVALID = "Flow run received invalid parameters"


class Order(pydantic.BaseModel):
    item: str
    count: int = 1


# -------------------------------------------------------------------------------------------- coercion


def test_body_hooks_names_and_context_see_the_coerced_values() -> None:
    seen: dict[str, Any] = {}

    def note(flow: Any, flow_run: Any, state: Any) -> None:
        seen["hook"] = flow_run.parameters
        seen["name"] = flow_run.name

    @flow(flow_run_name="{order.item}-{n}", on_completion=[note])
    def ship(n: int, order: Order, extra: Order = {"item": "bow"}) -> int:  # type: ignore[assignment]
        context = FlowRunContext.get()
        assert context is not None
        seen["context"] = context.parameters
        seen["body"] = {"n": n, "order": order, "extra": extra}
        return n + order.count

    assert ship("2", {"item": "tea", "count": "3"}) == 5  # type: ignore[arg-type]
    expected = {"n": 2, "order": Order(item="tea", count=3), "extra": Order(item="bow")}
    assert seen == {"hook": expected, "context": expected, "body": expected, "name": "tea-2"}


@pytest.mark.anyio
async def test_async_flows_coerce_alike() -> None:
    @flow
    async def ship(orders: list[Order], *more: int, **named: float) -> list[Any]:
        return [orders[0].count, more, named]

    assert await ship([{"item": "tea"}], "1", 2, weight="1.5") == [1, (1, 2), {"weight": 1.5}]  # type: ignore


def test_without_validation_values_pass_as_they_are() -> None:
    @flow(validate_parameters=False)
    def as_is(n: int) -> Any:
        return n

    assert as_is("two") == "two"  # type: ignore[arg-type]


def test_values_that_nothing_can_serialize_are_fine() -> None:
    lock = threading.Lock()

    class Plain:
        pass

    @flow
    def takes(lock: Any, plain: Plain, kind: type[Exception], call: Callable[[], int], keys: list[str]) -> bool:
        return lock is the_lock and plain is the_plain and kind is KeyError and call() == 1 and keys == ["k"]

    the_lock, the_plain = lock, Plain()
    assert takes(lock, the_plain, KeyError, lambda: 1, keys=["k"]) is True


def test_an_instance_of_another_class_is_an_invalid_value() -> None:
    class Plain:
        pass

    @flow
    def takes(plain: Plain) -> None:
        raise AssertionError

    assert takes("no", return_state=True).is_failed()  # type: ignore[call-overload]


# ------------------------------------------------------------------------------------------ bad values


@pytest.mark.parametrize("colour", ["sync", "async"])
def test_bad_values_are_a_failed_run_with_hooks(colour: str, run_on: Callable[..., Any]) -> None:
    calls: list[tuple[str, str, Any]] = []

    def note(flow: Any, flow_run: Any, state: Any) -> None:
        calls.append((flow.name, state.name, flow_run.parameters))

    options: dict[str, Any] = {"on_failure": [note], "on_running": [note], "on_completion": [note]}
    if colour == "sync":

        @flow(**options)
        def strict(n: int) -> None:
            raise AssertionError

        state = strict("many", return_state=True)  # type: ignore[call-overload]
    else:

        @flow(**options)
        async def astrict(n: int) -> None:
            raise AssertionError

        async def main() -> Any:
            return await astrict("many", return_state=True)  # type: ignore[call-overload]

        state = run_on(main)
    assert state.is_failed()
    assert state.state_details.flow_run_id is not None
    assert "invalid parameters" in state.message
    assert [call[1:] for call in calls] == [("Failed", {"n": "many"})]
    with pytest.raises(ParameterTypeError, match=INVALID):
        state.result()


def test_bad_values_are_raised_to_a_direct_caller() -> None:
    @flow
    def strict(n: int, m: int) -> None:
        raise AssertionError

    with pytest.raises(ParameterTypeError, match=INVALID) as caught:
        strict("many", "more")  # type: ignore[arg-type]
    text = str(caught.value)
    assert "n: " in text
    assert "m: " in text
    assert caught.value.__cause__ is None


def test_bad_values_are_not_tried_again() -> None:
    attempts: list[str] = []

    def note(flow: Any, flow_run: Any, state: Any) -> None:
        attempts.append(state.name)

    @flow(retries=3, on_failure=[note])
    def strict(n: int) -> None:
        raise AssertionError

    assert strict("many", return_state=True).is_failed()  # type: ignore[call-overload]
    assert attempts == ["Failed"]


@pytest.mark.anyio
async def test_a_subflow_fails_as_itself() -> None:
    @flow
    async def strict(n: int) -> None:
        raise AssertionError

    @flow
    async def goes_on() -> str:
        state = await strict("many", return_state=True)  # type: ignore[call-overload]
        assert state.is_failed()
        return "went on"

    @flow
    async def raises() -> None:
        await strict("many")  # type: ignore[arg-type]

    @flow
    async def returns() -> Any:
        return await strict("many", return_state=True)  # type: ignore[call-overload]

    assert await goes_on() == "went on"
    with pytest.raises(ParameterTypeError, match=INVALID):
        await raises()
    state = await returns(return_state=True)
    assert state.is_failed()
    assert state.message == "1/1 states failed."
    with pytest.raises(ParameterTypeError, match=INVALID):
        await state.result()


# -------------------------------------------------------------------------------------------- binding


@flow
def binds(x: int, y: int = 2, *rest: int, z: int = 3, **named: int) -> tuple[Any, ...]:
    return x, y, rest, z, named


@flow
async def abinds(x: int) -> None:
    raise AssertionError


@task
def tbinds(x: int) -> None:
    raise AssertionError


def test_every_kind_of_parameter_arrives() -> None:
    assert binds(1) == (1, 2, (), 3, {})
    assert binds(1, 5, 6, 7, z=8, w=9) == (1, 5, (6, 7), 8, {"w": 9})
    assert task(binds.fn)(1, 5, 6, w=7) == (1, 5, (6,), 3, {"w": 7})


@pytest.mark.parametrize("definition", [binds, abinds, tbinds], ids=["flow", "async flow", "task"])
def test_what_cannot_be_bound_is_raised_at_the_call_and_no_run(definition: Any) -> None:
    made: list[Any] = []
    definition = definition.with_options(on_failure=[lambda *args: made.append(args)])
    with pytest.raises(ParameterBindError, match="missing a required argument: 'x'"):
        definition()
    with pytest.raises(ParameterBindError, match="multiple values for argument 'x'"):
        definition(1, x=1)
    assert issubclass(ParameterBindError, TypeError)
    assert made == []


def test_the_message_names_the_function_and_its_signature() -> None:
    @task
    def f(x):  # type: ignore[no-untyped-def]
        raise AssertionError

    with pytest.raises(ParameterBindError) as caught:
        f()
    assert str(caught.value).splitlines() == [
        "Error binding parameters for function 'f': missing a required argument: 'x'.",
        "Function 'f' has signature 'x' but received args: () and kwargs: [].",
    ]


@pytest.mark.parametrize("name", ["return_state", "wait_for"])
@pytest.mark.parametrize("decorator", [flow, task])
def test_names_of_the_call_itself_are_reserved(decorator: Any, name: str) -> None:
    space: dict[str, Any] = {}
    exec(f"def f({name}): pass", space)
    with pytest.raises(ReservedArgumentError, match=f"'{name}' is a reserved argument name"):
        decorator(space["f"])


@pytest.mark.anyio
async def test_submit_map_and_variable_arguments() -> None:
    @task
    def collect(first: int, *rest: int, **named: int) -> Any:
        return first, rest, named

    @flow
    async def outer() -> list[Any]:
        return [
            collect.submit(1, 2, 3, a=4).result(),
            collect.map([1, 2], a=[3, 4]).result(),
            collect(1, 2, b=3),
        ]

    assert await outer() == [(1, (2, 3), {"a": 4}), [(1, (), {"a": 3}), (2, (), {"a": 4})], (1, (2,), {"b": 3})]


# ------------------------------------------------------------------------------------- tasks' arguments


def test_tasks_arguments_are_the_callers_objects_and_not_validated() -> None:
    given: list[Any] = ["x"]

    @dataclass
    class Box:
        inside: list[Any]

    box = Box(given)

    @task
    def change(values: int, box: Box) -> bool:
        values.append("y")  # type: ignore[attr-defined]
        return values is given and box.inside is given

    @flow
    def outer() -> list[Any]:
        return [change(given, box), change.submit(given, box).result()]

    assert outer() == [True, True]
    assert given == ["x", "y", "y"]


def test_futures_and_states_as_arguments_become_values() -> None:
    @task
    def one() -> int:
        return 1

    @task
    def fails() -> None:
        raise ValueError("no")

    @task
    def see(*values: Any) -> Any:
        return values

    @flow
    def outer() -> Any:
        future, failed = one.submit(), fails.submit()
        failed.wait()
        return see(future, one(return_state=True), [future, {"k": future}], allow_failure(failed))

    first, second, nested, failure = outer()
    assert (first, second, nested) == (1, 1, [1, {"k": 1}])
    assert isinstance(failure, ValueError)


def test_a_file_name_that_is_no_text_is_a_parameter_like_any_other():
    name = "caf\udce9"  # as os.listdir gives what is not UTF-8

    @flow
    def open_file(path: str, more: dict[str, Any], count: int) -> str:
        return path

    state = open_file(name, {"also": [name, "caf\u00e9"]}, 3, return_state=True)
    assert state.result() == name
    with get_client(sync_client=True) as client:
        back = client.read_flow_run(state.state_details.flow_run_id).parameters
    assert back == {"path": "caf\\udce9", "more": {"also": ["caf\\udce9", "caf\u00e9"]}, "count": 3}
