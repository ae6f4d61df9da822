"""Pausing and resuming flow runs of this process."""

from __future__ import annotations

import threading
from datetime import timedelta
from typing import Any

import anyio
import msgspec
import pytest
from pydantic import BaseModel, field_validator

from callsheet import Engine, flow, get_client, pause_flow_run, resume_flow_run, runtime, task
from callsheet._clock import utc_now
from callsheet._engine import resuming
from callsheet._engine.ambient import ambient_core
from callsheet._engine.history import the_run
from callsheet._engine.pausing import keyset
from callsheet._engine.places import ThreadPlace
from callsheet._kernel.ports import step
from callsheet._model.kinds import Kind, StateType
from callsheet._model.states import StateDetails
from callsheet.exceptions import FlowPauseTimeout, FlowRunWaitTimeout, NotPausedError, ObjectNotFound
from callsheet.flow_runs import apause_flow_run, aresume_flow_run, wait_for_flow_run
from callsheet.input import RunInput, keyset_from_paused_state
from callsheet.states import Cancelled
from past import runs, states_of
from pausing_helpers import PATIENCE, Resumer, resumer

__all__ = ["resumer"]


class Order(RunInput):
    name: str
    amount: int = 1


class Even(BaseModel):
    n: int

    @field_validator("n")
    @classmethod
    def even(cls, n: int) -> int:
        if n % 2:
            raise ValueError("odd numbers are not wanted")
        return n


# ---------------------------------------------------------------------------------------- both colours


@pytest.mark.parametrize(
    ("wanted", "given", "got"),
    [
        (None, None, None),
        (int, {"value": 3}, 3),
        (list[str], {"value": ["a"]}, ["a"]),
        (Order, {"name": "paper"}, ("paper", 1)),
        (Even, {"n": 2}, ("n", 2)),
    ],
)
def test_a_sync_flow_gets_what_it_waits_for(resumer: Resumer, wanted: Any, given: Any, got: Any) -> None:
    @flow
    def asks() -> Any:
        return pause_flow_run(wait_for_input=wanted, timeout=PATIENCE)

    resumer.answers(given)
    state = asks(return_state=True)
    assert _plain(state.data) == got
    assert states_of(state) == ["Pending", "Running", "Paused", "Running", "Completed"]
    assert runs(ids=(state.state_details.flow_run_id,))[0].attempt == 1


def _plain(value: Any) -> Any:
    if isinstance(value, Order):
        return value.name, value.amount
    return ("n", value.n) if isinstance(value, Even) else value


def test_an_async_flow_on_every_loop(resumer: Resumer, run_on: Any) -> None:
    @flow
    async def asks() -> tuple[int, None]:
        first = await pause_flow_run(wait_for_input=int, timeout=PATIENCE)
        await apause_flow_run(timeout=None)
        return first, None

    resumer.answers({"value": 4}, None)
    assert run_on(asks) == (4, None)


def test_a_sync_flow_in_async_code_lets_the_loop_go_on(resumer: Resumer, run_on: Any) -> None:
    @flow
    def inner() -> int:
        return pause_flow_run(wait_for_input=int, timeout=PATIENCE)

    @flow
    async def outer() -> int:
        async with anyio.create_task_group() as group:
            group.start_soon(answer)
            return inner()

    async def answer() -> None:
        run_id = await anyio.to_thread.run_sync(resumer.next_pause)
        await aresume_flow_run(run_id, {"value": 5})

    assert run_on(outer) == 5


def test_a_subflow_pauses_alone(resumer: Resumer) -> None:
    @flow
    def inner() -> str:
        pause_flow_run(timeout=PATIENCE)
        return "resumed"

    @flow
    def outer() -> tuple[str, bool]:
        future = inner.submit()
        run_id = resumer.next_pause()
        alone = quick()
        resume_flow_run(run_id)
        return future.result(), alone

    @task
    def quick() -> bool:
        return True

    assert outer() == ("resumed", True)


def test_memory_is_enough(resumer: Resumer, run_on: Any) -> None:
    @flow
    async def asks() -> int:
        return await pause_flow_run(wait_for_input=int, timeout=PATIENCE)

    async def main() -> int:
        async with Engine(database=":memory:"):
            resumer.answers({"value": 6})
            return await asks()

    assert run_on(main) == 6


# ----------------------------------------------------------------------------------------------- keys


def test_the_same_key_never_pauses_twice(resumer: Resumer) -> None:
    @flow
    def asks() -> list[int]:
        return [pause_flow_run(wait_for_input=int, timeout=PATIENCE, key="once") for _ in range(3)]

    resumer.answers({"value": 7})
    state = asks(return_state=True)
    assert state.data == [7, 7, 7]
    assert states_of(state).count("Paused") == 1


def test_a_retried_body_is_not_asked_again(resumer: Resumer) -> None:
    tries: list[int] = []

    @flow(retries=1)
    def asks() -> int:
        tries.append(pause_flow_run(wait_for_input=int, timeout=PATIENCE))
        if len(tries) == 1:
            raise ValueError("once more")
        return sum(tries)

    resumer.answers({"value": 2})
    assert asks() == 4


def test_branches_pause_one_after_the_other(resumer: Resumer, run_on: Any) -> None:
    found: dict[str, int] = {}

    @flow
    async def asks() -> dict[str, int]:
        async def branch(key: str) -> None:
            found[key] = await apause_flow_run(wait_for_input=int, timeout=PATIENCE, key=key)

        async with anyio.create_task_group() as group:
            for key in ("a", "b", "a"):
                group.start_soon(branch, key)
        return found

    resumer.answers({"value": 1}, {"value": 2})
    assert sorted(run_on(asks).values()) == [1, 2]


def test_what_is_on_record_of_a_pause(resumer: Resumer) -> None:
    seen: list[Any] = []

    def look() -> None:
        run_id = resumer.next_pause()
        with get_client(sync_client=True) as client:
            run = client.read_flow_run(run_id)
            details = run.state.state_details
            seen.append((run.state.is_paused(), run.state_name, details.pause_key, details.pause_timeout is not None))
            seen.append(details.run_input_keyset == keyset_from_paused_state(run.state))
            seen.append(client.read_flow_run_input(run_id, "paused-1-description"))
            seen.append('"amount"' in client.read_flow_run_input(run_id, "paused-1-schema"))
            result = client.resume_flow_run(run_id, {"name": "x"})
            seen.append((result.status.value, result.state.is_running()))
            seen.append(client.resume_flow_run(run_id).status.value)

    @flow
    def asks() -> tuple[int, Any, str]:
        order = pause_flow_run(wait_for_input=Order.with_initial_data(description="Which?", amount=3))
        return order.amount, order.metadata, runtime.flow_run.id

    resumer.does(look)
    amount, metadata, run_id = asks()
    assert amount == 3
    assert (metadata.key, metadata.sender, str(metadata.receiver)) == ("paused-1-response", None, run_id)
    resumer.join()
    assert seen == [(True, "Paused", "1", True), True, '"Which?"', True, ("ACCEPT", True), "ABORT"]


# --------------------------------------------------------------------------------------------- refusals


def test_what_does_not_fit_is_refused_and_the_run_stays_paused(resumer: Resumer) -> None:
    refused: list[str] = []

    @flow
    def asks() -> int:
        return pause_flow_run(wait_for_input=Even, timeout=PATIENCE).n

    def answer() -> None:
        run_id = resumer.next_pause()
        for given in (None, {"n": "x"}, {"n": 3}, {"n": 2, "m": 1.5j}):
            with pytest.raises(RuntimeError, match="Cannot resume this run: Run input validation error") as caught:
                resume_flow_run(run_id, run_input=given)
            refused.append(str(caught.value))
        resume_flow_run(run_id, run_input={"n": 8})

    resumer.does(answer)
    state = asks(return_state=True)
    assert state.data == 8
    assert "'n' is a required property" in refused[0]
    assert "'n': 'x' is not of type integer" in refused[1]
    assert "odd numbers are not wanted" in refused[2]
    assert states_of(state) == ["Pending", "Running", "Paused", "Running", "Completed"]


def test_input_for_a_run_that_wants_none_is_refused(resumer: Resumer) -> None:
    @flow
    def waits() -> None:
        pause_flow_run(timeout=PATIENCE)

    def answer() -> None:
        run_id = resumer.next_pause()
        with pytest.raises(RuntimeError, match="does not wait for input"):
            resume_flow_run(run_id, run_input={"value": 1})
        resume_flow_run(run_id, run_input={})

    resumer.does(answer)
    waits()


def test_nobody_resumes_it_in_time(resumer: Resumer) -> None:
    @flow(retries=2)
    def waits() -> None:
        pause_flow_run(timeout=0.01)

    state = waits(return_state=True)
    assert isinstance(state.data, FlowPauseTimeout)
    assert states_of(state) == ["Pending", "Running", "Paused", "Failed"]
    with pytest.raises(NotPausedError, match="Cannot resume a run that isn't paused!"):
        resume_flow_run(state.state_details.flow_run_id)


def test_a_body_may_clean_up_after_a_pause_that_timed_out(resumer: Resumer) -> None:
    @task
    def tidy() -> str:
        return "tidied"

    @flow
    def waits() -> tuple[str, None]:
        late: list[str] = []
        try:
            pause_flow_run(timeout=0.01)
        except FlowPauseTimeout:
            late.append(tidy())
            with pytest.raises(FlowPauseTimeout, match=r"Flow run can no longer be resumed\."):
                resume_flow_run(resumer.next_pause())
        resumer.answers(None)
        return late[0], pause_flow_run(timeout=PATIENCE)

    state = waits(return_state=True)
    assert state.data == ("tidied", None)
    assert states_of(state) == ["Pending", "Running", "Paused", "Paused", "Running", "Completed"]


def test_where_no_flow_run_can_pause() -> None:
    @task
    def in_task() -> None:
        pause_flow_run()

    @flow
    def around() -> None:
        in_task()

    with pytest.raises(RuntimeError, match="Cannot pause task runs"):
        around()
    with pytest.raises(RuntimeError, match="Flow runs can only be paused from within a flow run"):
        pause_flow_run()
    with pytest.raises(ObjectNotFound):
        resume_flow_run("0198c0de-0000-7000-8000-000000000000")


def test_without_a_history_there_is_no_pause(run_on: Any, tmp_path: Any) -> None:
    @flow
    async def waits() -> None:
        await pause_flow_run()

    async def main() -> None:
        async with Engine(database=tmp_path / "off.db", durability="off"):
            await waits()

    with pytest.raises(RuntimeError, match="durability 'off'"):
        run_on(main)


def test_a_run_that_only_says_that_it_is_paused_is_not_resumed() -> None:
    from callsheet.states import Paused

    @flow
    def says() -> Any:
        return Paused()

    state = says(return_state=True)
    with pytest.raises(RuntimeError, match="No body waits"):
        resume_flow_run(state.state_details.flow_run_id)


# --------------------------------------------------------------------------------------------- the gate


def test_tasks_wait_at_the_gate(resumer: Resumer, run_on: Any) -> None:
    order: list[str] = []

    @task
    async def work() -> None:
        order.append("work")

    @flow
    async def inner() -> None:
        await work()

    @flow
    async def outer() -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(branch, work)
            group.start_soon(branch, inner)
            await pause_flow_run(timeout=PATIENCE)

    async def branch(what: Any) -> None:
        await anyio.to_thread.run_sync(began.wait, PATIENCE)
        await what()

    began = threading.Event()

    def answer() -> None:
        run_id = resumer.next_pause()
        began.set()
        for _ in range(2):
            resumer.held_back.get(timeout=PATIENCE)
        order.append("resumed")
        resume_flow_run(run_id)

    resumer.does(answer)
    run_on(outer)
    assert order == ["resumed", "work", "work"]


def test_a_submitted_task_of_a_thread_waits_too(resumer: Resumer) -> None:
    order: list[str] = []

    @task
    def work(run_id: Any) -> None:
        order.append("work")

    @flow
    def asks() -> None:
        first = gate_keeper.submit()
        pause_flow_run(timeout=PATIENCE)
        first.wait()

    @task
    def gate_keeper() -> None:
        running.wait(PATIENCE)
        work(None)

    running = threading.Event()

    def answer() -> None:
        run_id = resumer.next_pause()
        running.set()
        resumer.held_back.get(timeout=PATIENCE)
        order.append("resumed")
        resume_flow_run(run_id)

    resumer.does(answer)
    asks()
    assert order == ["resumed", "work"]


def test_a_paused_run_can_be_cancelled(resumer: Resumer, run_on: Any) -> None:
    @flow
    async def waits() -> None:
        await pause_flow_run(timeout=PATIENCE)

    def cancel() -> None:
        run_id = resumer.next_pause()
        with get_client(sync_client=True) as client:
            client.set_flow_run_state(run_id, Cancelled())

    async def main() -> Any:
        return await waits(return_state=True)

    resumer.does(cancel)
    state = run_on(main)
    assert state.is_cancelled()
    assert states_of(state) == ["Pending", "Running", "Paused", "Cancelled"]


@pytest.mark.parametrize("colour", ["sync", "async"])
def test_a_flow_has_its_own_time_limit(colour: str, run_on: Any) -> None:
    @flow(timeout_seconds=0.05)
    def waits() -> None:
        pause_flow_run(timeout=PATIENCE)

    @flow(timeout_seconds=0.05)
    async def awaits() -> None:
        await pause_flow_run(timeout=PATIENCE)

    async def main() -> Any:
        return await awaits(return_state=True)

    state = waits(return_state=True) if colour == "sync" else run_on(main)
    assert state.name == "TimedOut"
    assert states_of(state)[-1] == "TimedOut"


# ------------------------------------------------------------------------------------------ the end of a run


def test_waiting_for_a_flow_run(resumer: Resumer, run_on: Any) -> None:
    @flow
    async def waits() -> str:
        await pause_flow_run(timeout=PATIENCE)
        return "done"

    async def main() -> list[str]:
        names: list[str] = []

        async def watch() -> None:
            run_id = await anyio.to_thread.run_sync(resumer.next_pause)
            with pytest.raises(FlowRunWaitTimeout, match="exceeded watch timeout of 0"):
                await wait_for_flow_run(run_id, timeout=0)
            await aresume_flow_run(run_id)
            names.append((await wait_for_flow_run(run_id, timeout=PATIENCE, poll_interval=1000)).state_name)

        async with anyio.create_task_group() as group:
            group.start_soon(watch)
            await waits()
        return names

    assert run_on(main) == ["Completed"]


@pytest.mark.parametrize("seconds", [-1.0, 0.05])
def test_a_pause_until_a_point_in_time(seconds: float) -> None:
    @flow
    def naps() -> Any:
        pause_flow_run(until=utc_now() + timedelta(seconds=seconds))
        return pause_flow_run(until=utc_now(), wait_for_input=Order.with_initial_data(name="paper")).name

    state = naps(return_state=True)
    assert state.data == "paper"
    assert states_of(state) == ["Pending", "Running", "Paused", "Running", "Paused", "Running", "Completed"]


def test_who_needs_input_cannot_go_on_by_itself() -> None:
    @flow
    def asks() -> int:
        return pause_flow_run(until=utc_now(), wait_for_input=int)

    with pytest.raises(FlowPauseTimeout):
        asks()


def test_an_answer_is_not_kept_without_its_resumption() -> None:
    """Else it would be taken for the answer to the next question, and who answers that would be told of a refusal."""

    @flow
    def census() -> int:
        return 1

    run_id = census(return_state=True).state_details.flow_run_id
    place = ThreadPlace(ambient_core())
    step(place.catch_up())
    record = step(the_run(place.reader, Kind.FLOW, run_id))
    assert record.state is not None
    late = msgspec.structs.replace(record, state=msgspec.structs.replace(record.state, seq=1, type=StateType.PAUSED))
    asked = StateDetails(pause_key="1", run_input_keyset=keyset("paused-1"))
    now = place.core.clock.micros()
    assert step(resuming._commit(place, late, asked, now, '{"value": 3}', anew=False)) is None
    assert step(place.reader.read_inputs(run_id)) == ()
    step(place.reader.aclose())
