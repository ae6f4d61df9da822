"""What flow runs are handed, send each other, and answer."""

from __future__ import annotations

from typing import Any

import anyio
import pytest
from pydantic import BaseModel, ValidationError

from callsheet import flow, get_client, task
from callsheet.exceptions import ObjectAlreadyExists, ObjectNotFound
from callsheet.input import (
    AutomaticRunInput,
    RunInput,
    create_flow_run_input,
    create_flow_run_input_from_model,
    delete_flow_run_input,
    filter_flow_run_input,
    keyset_from_base_key,
    keyset_from_paused_state,
    read_flow_run_input,
    receive_input,
    run_input_subclass_from_type,
    send_input,
)
from callsheet.runtime import flow_run
from callsheet.states import Paused, Running

MOMENT = 0.01  # a time-out that is to pass
PATIENCE = 50.0


class Order(RunInput):
    name: str
    amount: int = 1


class Plain(BaseModel):
    n: int


# ------------------------------------------------------------------------------------------- by key


def test_what_is_created_is_read_filtered_and_deleted() -> None:
    @flow
    def all_of_it() -> list[Any]:
        create_flow_run_input("a-1", {"n": 1})
        create_flow_run_input_from_model("a-2", Plain(n=2), sender="me")
        create_flow_run_input("b", [1, None])
        found = filter_flow_run_input("a-", limit=5)
        said: list[Any] = [(one.key, one.value, one.sender) for one in found]
        said.append(read_flow_run_input("b"))
        said.append([one.key for one in filter_flow_run_input("a-", exclude_keys={"a-1"})])
        with pytest.raises(ObjectAlreadyExists, match="'b'"):
            create_flow_run_input("b", 1)
        delete_flow_run_input("b")
        delete_flow_run_input("never there")
        said.append(read_flow_run_input("b"))
        create_flow_run_input("b", 2)
        return [*said, read_flow_run_input("b"), flow_run.id]

    with pytest.raises(ValueError, match="never there"):
        all_of_it()

    @flow
    def rest() -> tuple[Any, ...]:
        create_flow_run_input("a-1", {"n": 1})
        create_flow_run_input_from_model("a-2", Plain(n=2), sender="me")
        first, second = filter_flow_run_input("a-", limit=5)
        delete_flow_run_input("a-2")
        delete_flow_run_input("a-3")
        assert [one.decoded_value for one in (first, second)] == [{"n": 1}, {"n": 2}]
        return first.value, first.sender, second.value, second.sender, read_flow_run_input("a-2"), flow_run.id

    *said, run_id = rest()
    assert said == ['{"n":1}', f"callsheet.flow-run.{run_id}", '{"n":2}', "me", None]
    assert read_flow_run_input("a-1", run_id) == {"n": 1}
    with get_client(sync_client=True) as client:
        client.create_flow_run_input(run_id, "c", "3")
        assert client.read_flow_run_input(run_id, "c") == "3"
        assert [one.key for one in client.filter_flow_run_input(run_id, "", limit=9)] == ["a-1", "c"]
        client.delete_flow_run_input(run_id, "c")
        assert client.read_flow_run_input(run_id, "c") is None


def test_in_tasks_and_in_async_code(run_on: Any) -> None:
    @task
    async def note() -> None:
        await create_flow_run_input("noted", True)

    @flow
    async def around() -> Any:
        await note()
        return await read_flow_run_input("noted")

    assert run_on(around) is True


def test_a_flow_run_must_be_known() -> None:
    with pytest.raises(RuntimeError, match="Must either provide a flow run ID or be within a flow run"):
        read_flow_run_input("x")
    with pytest.raises(ObjectNotFound):
        create_flow_run_input("x", 1, flow_run_id="0198c0de-0000-7000-8000-000000000000")
    with pytest.raises(ValueError, match="only letters"):
        create_flow_run_input("a b", 1, flow_run_id="0198c0de-0000-7000-8000-000000000000")


# -------------------------------------------------------------------------------------------- types


def test_types_become_inputs() -> None:
    assert run_input_subclass_from_type(Order) is Order
    made = run_input_subclass_from_type(Plain)
    assert issubclass(made, RunInput)
    assert issubclass(made, Plain)
    number = run_input_subclass_from_type(int)
    assert issubclass(number, AutomaticRunInput)
    assert number(value="3").value == 3
    assert run_input_subclass_from_type(dict[str, int])(value={"a": 1}).value == {"a": 1}
    with pytest.raises(TypeError, match="not a type that a run can wait for"):
        run_input_subclass_from_type(object())
    with pytest.raises(ValidationError):
        Order(name="x", more=1)
    with pytest.raises(ValueError, match="Order has no field more; its fields are: name, amount"):
        Order.with_initial_data(more=1)


def test_keys_of_a_question() -> None:
    assert keyset_from_base_key("x") == {"description": "x-description", "response": "x-response", "schema": "x-schema"}
    assert keyset_from_paused_state(Paused(pause_key="7"))["schema"] == "paused-7-schema"
    with pytest.raises(RuntimeError, match="unsupported"):
        keyset_from_paused_state(Running())
    assert Order.keyset_from_type()["schema"] == "order-schema"


def test_a_question_is_saved_and_its_answer_loaded() -> None:
    @flow
    def asks() -> tuple[Any, ...]:
        keys = keyset_from_base_key("q")
        Order.with_initial_data(description="Which?", amount=4).save(keys)
        create_flow_run_input(keys["response"], {"name": "x"})
        made = Order.with_initial_data(amount=4).load(keys)
        create_flow_run_input("n-response", {"value": 5})
        number = run_input_subclass_from_type(int).load(keyset_from_base_key("n"))
        return read_flow_run_input(keys["description"]), made.name, made.amount, made.metadata.key, number

    assert asks() == ("Which?", "x", 4, "q-response", 5)


# ------------------------------------------------------------------------------------------ between runs


def test_runs_send_and_answer(run_on: Any) -> None:
    @flow
    async def adder(wanted: int) -> None:
        handler = receive_input(int, timeout=PATIENCE, poll_interval=1000, with_metadata=True)
        for _ in range(wanted):
            given = await handler.next()
            await given.respond(given.value + 1)

    @flow
    async def asker() -> list[int]:
        future = adder.submit(2)
        adder_id = future.state.state_details.flow_run_id
        answers = receive_input(int, timeout=PATIENCE, poll_interval=1000)
        got: list[int] = []
        await send_input(10, adder_id)
        async for answer in answers:
            got.append(answer)
            if len(got) == 2:
                break
            await send_input(answer, adder_id)
        await future
        return got

    assert run_on(asker) == [11, 12]


def test_typed_inputs_with_prefix_and_exclusion() -> None:
    @flow
    def to_myself() -> list[Any]:
        me = flow_run.id
        Order(name="a").send_to(me)
        Order(name="b", amount=2).send_to(me, sender="someone", key_prefix="mine")
        send_input(Plain(n=3), me)
        first = Order.receive(timeout=PATIENCE).next()
        (second,) = list(Order.receive(timeout=MOMENT, key_prefix="mine"))
        (plain,) = list(receive_input(Plain, timeout=MOMENT))
        assert list(Order.receive(timeout=MOMENT, exclude_keys={first.metadata.key})) == []
        with pytest.raises(TimeoutError, match="No input arrived"):
            for _ in receive_input(str, timeout=0, raise_timeout_error=True):
                pytest.fail("nothing was sent")
        with pytest.raises(RuntimeError, match="only flow runs can be answered"):
            second.respond("no")
        with pytest.raises(RuntimeError, match="without a sender"):
            Order(name="made here").respond("no")
        return [first.name, second.amount, plain.n]

    assert to_myself() == ["a", 2, 3]


def test_an_async_iteration_ends_at_its_time_out(run_on: Any) -> None:
    @flow
    async def waits() -> int:
        count = 0
        async for _ in receive_input(int, timeout=0):
            count += 1
        with pytest.raises(TimeoutError):
            async for _ in receive_input(int, timeout=0, raise_timeout_error=True):
                count += 1
        with anyio.move_on_after(MOMENT):
            await receive_input(int, timeout=None).next()
        return count

    assert run_on(waits) == 0
