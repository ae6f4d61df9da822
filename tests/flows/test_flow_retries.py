"""Flows that are tried again: their bodies, their tasks and their subflows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import anyio
import pytest

from callsheet import State, flow, task
from callsheet._model.kinds import Kind
from callsheet.context import FlowRunContext
from harness import ever_longer
from past import runs, states_of

COLOURS = pytest.mark.parametrize("colour", ["sync", "async"])


def of_colour(colour: str, fn: Callable[[], Any], **options: Any) -> Any:
    """Make a flow of either colour."""
    if colour == "sync":
        return flow(**options)(fn)

    async def afn() -> Any:
        await anyio.sleep(0)
        return fn()

    return flow(**options)(afn)


def ended(definition: Any, run_on: Callable[..., Any]) -> State[Any]:
    """Run a flow to its end and give its state."""
    if not definition.isasync:
        return definition(return_state=True)

    async def main() -> State[Any]:
        return await definition(return_state=True)

    return run_on(main)


@COLOURS
def test_a_flow_is_tried_until_it_succeeds(colour: str, run_on: Callable[..., Any]) -> None:
    seen: list[tuple[int, str]] = []
    started: list[Any] = []

    def body() -> str:
        context = FlowRunContext.get()
        assert context is not None
        run = context.flow_run
        seen.append((run.run_count, run.state_name))
        started.append(context.start_time)
        assert run.state.name == run.state_name
        if len(seen) < 3:
            raise ValueError("again")
        return "done"

    state = ended(of_colour(colour, body, retries=2), run_on)
    assert state.is_completed()
    assert state.data == "done"
    assert seen == [(1, "Running"), (2, "Retrying"), (3, "Retrying")]
    assert started == sorted(set(started))
    assert states_of(state) == ["Pending", "Running", "Retrying", "Retrying", "Completed"]


@COLOURS
def test_between_attempts_with_a_delay_a_flow_awaits_its_retry(colour: str, run_on: Callable[..., Any]) -> None:
    calls: list[int] = []

    def body() -> None:
        calls.append(1)
        raise ValueError(f"attempt {len(calls)}")

    state = ended(of_colour(colour, body, retries=1, retry_delay_seconds=0.01), run_on)
    assert state.is_failed()
    assert state.message == "Flow run encountered an exception: ValueError: attempt 2"
    assert states_of(state) == ["Pending", "Running", "AwaitingRetry", "Retrying", "Failed"]


@COLOURS
def test_hooks_run_once_and_the_name_is_made_once(colour: str, run_on: Callable[..., Any]) -> None:
    hooked: list[str] = []
    named: list[int] = []

    def name() -> str:
        named.append(1)
        return "once"

    def body() -> None:
        raise ValueError("no")

    definition = of_colour(
        colour,
        body,
        retries=2,
        flow_run_name=name,
        on_failure=[lambda _, run, state: hooked.append(f"{run.name} {state.name}")],
        on_running=[lambda *_: hooked.append("running")],
    )
    ended(definition, run_on)
    assert named == [1]
    assert [entry for entry in hooked if entry != "running"] == ["once Failed"]


def test_the_default_number_of_retries_is_a_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CALLSHEET_FLOW_DEFAULT_RETRIES", "1")
    calls: list[int] = []

    @flow
    def fails() -> None:
        calls.append(1)
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        fails()
    assert calls == [1, 1]


def test_a_failed_return_value_is_a_failure_too() -> None:
    from callsheet.states import Failed

    answers = iter([Failed(message="no"), "yes"])

    @flow(retries=1)
    def answer() -> Any:
        return next(answers)

    assert answer() == "yes"


def test_failed_futures_in_the_return_value_are_a_failure_too() -> None:
    calls: list[int] = []

    @task
    def shaky() -> int:
        calls.append(1)
        if len(calls) == 1:
            raise ValueError("first")
        return 7

    @flow(retries=1)
    def around() -> Any:
        return shaky.submit()

    state = around()
    assert state.result() == 7


@COLOURS
def test_tasks_are_run_again_with_all_of_their_retries(colour: str, run_on: Callable[..., Any]) -> None:
    calls: list[int] = []

    @task(retries=2)
    def shaky() -> None:
        calls.append(1)
        raise ValueError("no")

    state = ended(of_colour(colour, lambda: shaky(), retries=1), run_on)
    assert state.is_failed()
    assert len(calls) == 6
    task_runs = runs(flow_run_ids=(state.state_details.flow_run_id,))
    assert [states_of(run.id) for run in task_runs] == [["Pending", "Running", "Retrying", "Retrying", "Failed"]] * 2


def test_completed_tasks_run_again_unless_their_results_are_kept() -> None:
    calls: list[int] = []
    attempts: list[int] = []

    @task
    def work() -> None:
        calls.append(1)

    @flow(retries=1)
    def around() -> str:
        attempts.append(1)
        work()
        work.submit()
        if len(attempts) == 1:
            raise ValueError("again")
        return "done"

    assert around() == "done"
    assert len(calls) == 4


def test_subflows_are_run_again_with_their_own_retries() -> None:
    calls: list[int] = []

    @flow(retries=1)
    def inner() -> None:
        calls.append(1)
        raise ValueError("no")

    @flow(retries=1)
    def outer() -> None:
        inner()

    state = outer(return_state=True)
    assert state.is_failed()
    assert len(calls) == 4
    assert [run.attempt for run in runs(kind=Kind.FLOW, definition_names=("inner",))] == [2, 2]


@pytest.mark.anyio
async def test_what_an_attempt_left_running_has_ended_before_the_next() -> None:
    living: list[int] = []
    attempts: list[int] = []

    @task
    async def child() -> None:
        living.append(1)
        try:
            await anyio.sleep_forever()
        finally:
            living.pop()

    @flow(retries=1)
    async def around() -> str:
        attempts.append(1)
        assert living == []
        if len(attempts) == 1:
            kept = child.submit()
            while not living:
                await anyio.sleep(0)
            raise ValueError(kept)
        return "done"

    assert await around() == "done"


@pytest.mark.anyio
async def test_each_attempt_has_all_of_the_time() -> None:
    attempts: list[int] = []

    @flow(retries=1)
    async def around() -> str:
        attempts.append(1)
        if len(attempts) == 1:
            await anyio.sleep_forever()
        await anyio.sleep(0)
        return "done"

    for seconds in ever_longer(lambda: state.is_completed()):
        attempts.clear()
        state = await around.with_options(timeout_seconds=seconds)(return_state=True)
    assert await state.result() == "done"
    assert states_of(state) == ["Pending", "Running", "Retrying", "Completed"]


def test_each_attempt_of_a_sync_flow_has_all_of_the_time() -> None:
    import time

    attempts: list[int] = []

    @flow(retries=1)
    def around() -> str:
        attempts.append(1)
        if len(attempts) == 1:
            time.sleep(20)
        return "done"

    for seconds in ever_longer(lambda: state.is_completed()):
        attempts.clear()
        state = around.with_options(timeout_seconds=seconds)(return_state=True)
    assert state.result() == "done"


def test_ctrl_c_ends_a_flow_whatever_retries_it_has() -> None:
    calls: list[int] = []

    @flow(retries=3)
    def stop() -> None:
        calls.append(1)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stop()
    assert calls == [1]
