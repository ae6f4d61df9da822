"""What bodies raise, what callers hear of it, and what the run's state says."""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import Any

import anyio
import pytest

from callsheet import State, flow, task
from callsheet.exceptions import CrashedRun, FailedRun, UnfinishedRun
from callsheet.states import raise_state_exception


class Custom(Exception):
    """An error that takes other arguments than its text."""

    def __init__(self, code: int, *, hint: str) -> None:
        super().__init__(f"code {code}")
        self.hint = hint


# ---------------------------------------------------------------------------------- failures


@pytest.mark.parametrize("kind", [flow, task], ids=["flow", "task"])
@pytest.mark.parametrize("colour", ["sync", "async"])
def test_a_caller_gets_the_very_object_that_was_raised(kind: Any, colour: str, run_on: Callable[..., Any]) -> None:
    error = Custom(5, hint="look there")
    if colour == "sync":

        @kind
        def body() -> None:
            raise error

        call = body
    else:

        @kind
        async def abody() -> None:
            raise error

        def call(**options: Any) -> Any:
            async def main() -> Any:
                return await abody(**options)

            return run_on(main)

    with pytest.raises(Custom) as caught:
        call()
    assert caught.value is error
    state = call(return_state=True)
    assert state.is_failed()
    assert state.data is error
    assert state.result(raise_on_failure=False) is error
    with pytest.raises(Custom) as caught:
        state.result()
    assert caught.value is error


def test_messages_name_the_exception() -> None:
    @task
    def fails() -> None:
        raise ValueError("xyz")

    @flow
    def outer() -> None:
        fails()

    assert fails(return_state=True).message == "Task run encountered an exception ValueError: xyz"
    assert outer(return_state=True).message == "Flow run encountered an exception: ValueError: xyz"


def test_an_exception_whose_text_cannot_be_made_is_reported_all_the_same() -> None:
    class Mute(Exception):
        def __str__(self) -> str:
            raise RuntimeError("no text")

    @flow
    def outer() -> None:
        raise Mute

    state = outer(return_state=True)
    assert state.is_failed()
    assert "Mute" in str(state.message)


def test_the_chain_of_exceptions_is_kept() -> None:
    @task
    def fails() -> None:
        try:
            raise KeyError("first")
        except KeyError as error:
            raise ValueError("second") from error

    @flow
    def outer() -> None:
        fails()

    with pytest.raises(ValueError, match="second") as caught:
        outer()
    assert isinstance(caught.value.__cause__, KeyError)
    names = [entry.name for entry in caught.traceback]
    assert "fails" in names
    assert "outer" in names


def test_a_flow_may_catch_what_its_task_raised() -> None:
    @task
    def fails() -> None:
        raise ValueError("no")

    @flow
    def outer() -> str:
        try:
            fails()
        except ValueError:
            return "went on"
        raise AssertionError

    assert outer() == "went on"


@pytest.mark.anyio
async def test_future_and_direct_call_raise_the_same_object() -> None:
    error = ValueError("no")

    @task
    async def fails() -> None:
        raise error

    @flow
    async def outer() -> list[BaseException]:
        found: list[BaseException] = []
        future = fails.submit()
        for way in (lambda: future, lambda: fails()):
            try:
                await way()
            except ValueError as caught:
                found.append(caught)
        try:
            future.result()
        except ValueError as caught:
            found.append(caught)
        found.append(future.result(raise_on_failure=False))
        return found

    assert await outer() == [error] * 4


@pytest.mark.anyio
async def test_groups_that_users_raise_stay_groups() -> None:
    group = ExceptionGroup("mine", [ValueError("one")])

    @task
    async def fails() -> None:
        raise group

    @flow
    async def outer() -> None:
        await fails()

    with pytest.raises(ExceptionGroup) as caught:
        await outer()
    assert caught.value is group


@pytest.mark.anyio
async def test_a_task_groups_own_group_is_what_the_flow_raises() -> None:
    @task
    async def fails(text: str) -> None:
        raise ValueError(text)

    @flow
    async def outer() -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(fails, "one")

    state = await outer(return_state=True)
    assert state.is_failed()
    assert isinstance(state.data, ExceptionGroup)
    assert [type(error) for error in state.data.exceptions] == [ValueError]


def test_stop_iteration_and_friends_are_plain_failures() -> None:
    for error in (StopIteration("s"), StopAsyncIteration("a"), TimeoutError("t"), AssertionError("x")):

        @task
        def fails(error: Exception = error) -> None:
            raise error

        @flow
        def outer(error: Any = error) -> None:
            raise error

        for definition in (fails, outer):
            state = definition(return_state=True)
            assert (state.name, state.data) == ("Failed", error)
            with pytest.raises(type(error)):
                definition()


def test_failures_leave_no_cyclic_garbage() -> None:
    @task
    def fails() -> None:
        raise ValueError("no")

    @flow
    def outer() -> None:
        fails(return_state=True)

    outer()
    gc.collect()
    gc.disable()
    try:
        outer()
        with pytest.raises(ValueError, match="no"):
            fails()
        gc.set_debug(gc.DEBUG_SAVEALL)
        gc.collect()
        left = [each for each in gc.garbage if isinstance(each, BaseException)]
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()
    assert left == []


# ----------------------------------------------------------------------------- Ctrl-C and exits


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("where", ["flow", "task", "submitted"])
def test_interrupts_in_sync_bodies_are_raised_and_crash_every_run_around(error: type, where: str) -> None:
    ends: list[tuple[str, str, str | None]] = []

    def note(flow: Any, flow_run: Any, state: State[Any]) -> None:
        ends.append((flow.name, state.name, state.message))

    @task
    def interrupted() -> None:
        raise error

    @flow(on_crashed=[note])
    def inner() -> None:
        if where == "flow":
            raise error
        if where == "task":
            interrupted()
        interrupted.submit().result()

    @flow(on_crashed=[note])
    def outer() -> None:
        inner()

    with pytest.raises(error):
        outer()
    assert [end[:2] for end in ends] == [("inner", "Crashed"), ("outer", "Crashed")]
    assert all(str(message).startswith("Execution was aborted") for _, _, message in ends)


@pytest.mark.parametrize("where", ["flow", "task"])
def test_interrupts_in_async_bodies_are_raised_too(where: str, run_on: Callable[..., Any]) -> None:
    ends: list[tuple[str, str]] = []

    def note(flow: Any, flow_run: Any, state: State[Any]) -> None:
        ends.append((flow.name, str(state.message)))

    @task
    async def interrupted() -> None:
        raise SystemExit(3)

    @flow(on_crashed=[note])
    async def outer() -> None:
        if where == "flow":
            raise SystemExit(3)
        await interrupted()

    with pytest.raises(SystemExit) as caught:
        run_on(outer)
    assert caught.value.code == 3
    assert len(ends) == 1
    assert ends[0][1].startswith("Execution was aborted")


def test_an_interrupted_task_is_crashed() -> None:
    @task
    def interrupted() -> None:
        raise KeyboardInterrupt

    kept: list[Any] = []

    @flow
    def outer() -> None:
        future = interrupted.submit()
        future.wait()
        kept.append(future.state)

    outer()
    assert kept[0].is_crashed()
    assert kept[0].message.startswith("Execution was aborted")
    with pytest.raises(KeyboardInterrupt):
        kept[0].result()


# ------------------------------------------------------------------------------------- helpers


def test_results_of_runs_that_have_not_ended_are_refused() -> None:
    seen: list[State[Any]] = []

    @task
    def unready(x: Any) -> None:
        raise AssertionError

    @task
    def fails() -> None:
        raise ValueError("no")

    @flow
    def outer() -> None:
        failed = fails.submit()
        failed.wait()
        seen.append(unready(failed, return_state=True))
        with pytest.raises(UnfinishedRun):
            unready(failed)

    outer()
    (state,) = seen
    assert state.name == "NotReady"
    for raise_on_failure in (True, False):
        with pytest.raises(UnfinishedRun):
            state.result(raise_on_failure=raise_on_failure)


def test_raise_state_exception_raises_the_first_failure_of_many() -> None:
    first = ValueError("first")

    @task
    def fails(error: Exception) -> None:
        raise error

    @task
    def fine() -> None:
        pass

    @flow
    def outer() -> Any:
        return [fine.submit(), fails.submit(first), fails.submit(KeyError("second"))]

    state = outer(return_state=True)
    with pytest.raises(ValueError, match="first") as caught:
        raise_state_exception(state)
    assert caught.value is first
    assert issubclass(CrashedRun, Exception)
    assert issubclass(FailedRun, Exception)


# --------------------------------------------------------------------------------------- times


@pytest.mark.parametrize("kind", ["flow", "task"])
@pytest.mark.parametrize("outcome", ["completes", "fails"])
def test_times_of_a_run_follow_from_its_states(kind: str, outcome: str) -> None:
    records: list[Any] = []
    running: list[State[Any]] = []

    def note(definition: Any, run: Any, state: State[Any]) -> None:
        (running if state.name == "Running" else records).append(state if state.name == "Running" else run)

    hooks: dict[str, Any] = {"on_completion": [note], "on_failure": [note]}
    if kind == "flow":
        hooks["on_running"] = [note]

    def body() -> None:
        if outcome == "fails":
            raise ValueError("no")

    definition: Any = (flow if kind == "flow" else task)(**hooks)(body)
    state = definition(return_state=True)
    (record,) = records
    assert record.end_time == state.timestamp
    assert record.start_time <= record.end_time
    assert record.state_id == state.id
    if kind == "flow":
        assert record.start_time == running[0].timestamp
        assert record.total_run_time == state.timestamp - running[0].timestamp
    else:
        assert record.total_run_time == record.end_time - record.start_time
