"""Calls under run keys in one process."""

from __future__ import annotations

import contextvars
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import anyio
import pytest

from callsheet import Engine, flow, resume_flow_run, run_key, suspend_flow_run, task
from callsheet._engine.ambient import ambient_core
from callsheet._model.kinds import Kind
from callsheet.exceptions import (
    CancelledRun,
    EngineClosed,
    FailedRun,
    MissingResult,
    ParameterBindError,
    Pause,
    PausedRun,
    RunKeyConflict,
    RunKeyError,
    UnfinishedRun,
)
from callsheet.settings import CALLSHEET_DURABILITY, refresh_settings, temporary_settings
from callsheet.states import Cancelled, Completed, Crashed, Scheduled
from callsheet.testing import check_history
from past import runs, states_of
from reading import ask


@pytest.fixture
def engine() -> None:
    """Open the ambient engine, so that no caller has to wait for that."""
    ambient_core()


def keyed(called: Any, *args: Any, key: str = "k", **options: Any) -> Any:
    with run_key(key, **options):
        return called(*args)


def counted() -> tuple[Any, list[int]]:
    bodies: list[int] = []

    @flow
    def double(x: int) -> list[int]:
        bodies.append(x)
        return [2 * x]

    return double, bodies


def test_a_later_call_gets_the_recorded_result() -> None:
    double, bodies = counted()
    assert [keyed(double, 3), keyed(double, 3), keyed(double, 3, key="other")] == [[6], [6], [6]]
    assert bodies == [3, 3]
    assert len(runs(names=None)) == 2


def test_on_every_loop(run_on: Any) -> None:
    bodies: list[int] = []

    @flow
    async def double(x: int) -> int:
        bodies.append(x)
        await anyio.sleep(0)
        return 2 * x

    async def main() -> int:
        with run_key("k"):
            return await double(3)

    assert [run_on(main), run_on(main)] == [6, 6]
    assert bodies == [3]


@pytest.mark.anyio
async def test_many_callers_at_once_share_one_body(engine: None) -> None:
    begun, go = anyio.Event(), anyio.Event()
    results: list[object] = []

    @flow
    async def make() -> object:
        assert not begun.is_set()
        begun.set()
        await go.wait()
        return {"made": "once"}

    async def caller() -> None:
        with run_key("k"):
            results.append(await make())

    async with anyio.create_task_group() as group:
        for _ in range(50):
            group.start_soon(caller)
        await begun.wait()
        await anyio.wait_all_tasks_blocked()
        go.set()
    assert len(results) == 50
    assert all(one is results[0] for one in results)


@pytest.mark.anyio
async def test_many_keys_at_once() -> None:
    @flow
    async def double(x: int) -> int:
        await anyio.sleep(0)
        return 2 * x

    results: list[int] = []

    async def caller(x: int) -> None:
        with run_key(f"k{x}"):
            results.append(await double(x))

    async with anyio.create_task_group() as group:
        for x in range(50):
            group.start_soon(caller, x)
    assert sorted(results) == [2 * x for x in range(50)]


@pytest.mark.anyio
async def test_callers_at_once_get_the_same_exception(engine: None) -> None:
    begun, go = anyio.Event(), anyio.Event()
    raised: list[BaseException] = []

    @flow
    async def fail() -> None:
        begun.set()
        await go.wait()
        raise ValueError("no")

    async def caller() -> None:
        try:
            with run_key("k"):
                await fail()
        except ValueError as error:
            raised.append(error)

    async with anyio.create_task_group() as group:
        for _ in range(5):
            group.start_soon(caller)
        await begun.wait()
        await anyio.wait_all_tasks_blocked()
        go.set()
    assert len(raised) == 5
    assert all(one is raised[0] for one in raised)


def test_threads_share_one_body() -> None:
    begun, go = threading.Event(), threading.Event()
    bodies: list[int] = []

    @flow
    def slow() -> list[int]:
        bodies.append(1)
        begun.set()
        assert go.wait(30)
        return bodies

    with ThreadPoolExecutor(8) as pool:
        calls = [pool.submit(keyed, slow) for _ in range(8)]
        assert begun.wait(30)
        go.set()
        assert [call.result() for call in calls] == [[1]] * 8


def test_a_thread_with_a_copy_of_the_context() -> None:
    double, bodies = counted()
    with run_key("k"), ThreadPoolExecutor(1) as pool:
        assert pool.submit(contextvars.copy_context().run, double, 3).result() == [6]
    assert keyed(double, 3) == [6]
    assert bodies == [3]


@pytest.mark.anyio
async def test_the_block_may_be_left_before_the_call_is_awaited() -> None:
    bodies: list[int] = []

    @flow
    async def once() -> int:
        bodies.append(1)
        return 1

    for _ in range(2):
        with run_key("k"):
            call = once()
        assert await call == 1
    assert bodies == [1]


def test_a_block_in_which_nothing_is_called_is_said(caplog: pytest.LogCaptureFixture) -> None:
    double, bodies = counted()
    with run_key("k"), ThreadPoolExecutor(1) as pool:
        pool.submit(double, 3).result()
    assert bodies == [3]
    assert "No flow was called in the block of the run key 'k'" in caplog.text
    assert keyed(double, 3) == [6]
    assert bodies == [3, 3]


# ------------------------------------------------------------------------------------------- parameters


def test_other_parameters_are_a_conflict() -> None:
    double, bodies = counted()
    keyed(double, 3)
    with pytest.raises(RunKeyConflict, match="with other parameters"):
        keyed(double, 4)
    assert bodies == [3]


@pytest.mark.anyio
async def test_a_conflict_is_told_while_the_run_is_under_way() -> None:
    begun, go = anyio.Event(), anyio.Event()

    @flow
    async def wait(x: int) -> int:
        begun.set()
        await go.wait()
        return x

    async def other() -> None:
        await begun.wait()
        with pytest.raises(RunKeyConflict), run_key("k"):
            await wait(2)
        go.set()

    async with anyio.create_task_group() as group:
        group.start_soon(other)
        with run_key("k"):
            assert await wait(1) == 1


def test_equal_parameters_however_they_are_given() -> None:
    calls: list[Any] = []

    @flow
    def total(x: int, y: int = 2, tags: Any = ()) -> int:
        calls.append(1)
        return x + y

    assert keyed(total, 1) == 3
    with run_key("k"):
        assert total(x=1, y=2, tags=()) == 3
    assert calls == [1]


@pytest.mark.parametrize(
    "value", [object(), {"a": object()}, "x" * 2_000_000, {1, 2, 3}], ids=["object", "in", "long", "set"]
)
def test_values_of_any_kind(value: Any) -> None:
    calls: list[Any] = []

    @flow
    def take(x: Any) -> int:
        calls.append(1)
        return 1

    assert [keyed(take, value), keyed(take, value)] == [1, 1]
    assert calls == [1]
    with pytest.raises(RunKeyConflict):
        keyed(take, "other")


def test_methods_leave_their_instance_out() -> None:
    class Shop:
        @flow
        def sell(self, x: int) -> int:
            return x

    assert [keyed(Shop().sell, 1), keyed(Shop().sell, 1)] == [1, 1]


def test_arguments_that_do_not_fit_take_no_key() -> None:
    double, bodies = counted()
    with run_key("k"):
        with pytest.raises(ParameterBindError):
            double(1, 2)
        assert double(3) == [6]
    assert bodies == [3]


# ------------------------------------------------------------------------------------------- the block


def test_a_second_flow_in_the_block_is_an_error() -> None:
    double, bodies = counted()
    with run_key("k"):
        double(1)
        with pytest.raises(RunKeyError, match="before"):
            double(1)
        with run_key("own"):
            double(1)
    assert bodies == [1, 1]


def test_what_the_flow_calls_itself_is_as_always() -> None:
    double, bodies = counted()

    @task
    def add(x: int) -> int:
        return x + 1

    @flow
    def outer() -> list[Any]:
        return [double(1), double(1), add(1), double.submit(2).result()]

    expected = [[2], [2], 2, [4]]
    assert [keyed(outer), keyed(outer)] == [expected, expected]
    assert bodies == [1, 1, 2]


def test_tasks_have_no_keys() -> None:
    calls: list[int] = []

    @task
    def count() -> int:
        calls.append(1)
        return len(calls)

    double, _ = counted()
    with run_key("k"):
        assert [count(), count()] == [1, 2]
        double(1)


@pytest.mark.parametrize(
    "options", [{"key": ""}, {"on_failed": "again"}, {"expiration": timedelta(0)}], ids=["key", "failed", "expiration"]
)
def test_a_block_that_makes_no_sense(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="run key"):
        keyed(lambda: None, **{"key": "k", **options})


def test_generators_have_no_keys() -> None:
    @flow
    def count() -> Any:
        yield 1

    with pytest.raises(RunKeyError, match="generator"), run_key("k"):
        count()


def test_without_a_history_there_are_no_keys() -> None:
    double, bodies = counted()
    with temporary_settings({CALLSHEET_DURABILITY: "off"}), pytest.raises(RunKeyError, match="durability"):
        keyed(double, 1)
    assert bodies == []


# ------------------------------------------------------------------------------------------- how it ended


def test_a_failure_is_raised_again() -> None:
    calls: list[int] = []

    @flow
    def fail() -> None:
        calls.append(1)
        raise KeyError(len(calls))

    for _ in range(2):
        with pytest.raises(KeyError, match="1"):
            keyed(fail)
    with pytest.raises(KeyError, match="2"):
        keyed(fail, on_failed="retry")
    with pytest.raises(KeyError, match="2"):
        keyed(fail)
    assert calls == [1, 1]


def test_a_retry_is_for_what_failed_only() -> None:
    double, bodies = counted()
    keyed(double, 3)
    assert keyed(double, 3, on_failed="retry") == [6]
    with pytest.raises(RunKeyConflict):
        keyed(double, 4, on_failed="retry")
    assert bodies == [3]


def test_a_cancelled_run_is_raised_again() -> None:
    states: list[Any] = [Cancelled(message="not today"), Completed(data=1)]

    @flow
    def end() -> Any:
        return states.pop(0)

    for _ in range(2):
        with pytest.raises(CancelledRun, match="not today"):
            keyed(end)
    assert keyed(end, on_failed="retry") == 1


def test_a_body_that_says_it_crashed_is_not_run_again() -> None:
    states = [Crashed(message="boom")]

    @flow
    def end() -> Any:
        return states.pop()

    for _ in range(2):
        assert keyed(lambda: end(return_state=True)).name == "Crashed"


@pytest.mark.anyio
async def test_when_the_caller_that_runs_it_is_cancelled_another_one_goes_on(engine: None) -> None:
    begun = [anyio.Event(), anyio.Event()]
    go = anyio.Event()
    bodies: list[int] = []

    @flow
    async def wait() -> int:
        bodies.append(1)
        begun[len(bodies) - 1].set()
        await go.wait()
        return len(bodies)

    scope = anyio.CancelScope()

    async def first() -> None:
        with scope, run_key("k"):
            await wait()

    async def second() -> None:
        with run_key("k"):
            assert await wait() == 2

    async with anyio.create_task_group() as group:
        group.start_soon(first)
        await begun[0].wait()
        group.start_soon(second)
        await anyio.wait_all_tasks_blocked()
        scope.cancel()
        await begun[1].wait()
        go.set()
    with run_key("k"):
        assert await wait() == 2
    assert bodies == [1, 1]


@pytest.mark.anyio
async def test_what_goes_on_runs_nothing_again_that_had_finished() -> None:
    notes: list[str] = []
    scope = anyio.CancelScope()

    @task
    async def step(name: str) -> str:
        notes.append(name)
        return name

    @flow
    async def steps() -> list[str]:
        done = [await step("first")]
        scope.cancel()
        await anyio.lowlevel.checkpoint()
        return [*done, await step("second")]

    with scope, run_key("k"):
        await steps()
    with run_key("k"):
        state = await steps(return_state=True)
    assert (state.data, notes) == (["first", "second"], ["first", "second"])
    assert states_of(state) == ["Pending", "Running", "Crashed", "AwaitingRetry", "Pending", "Running", "Completed"]


def test_a_retry_runs_nothing_again_that_had_completed() -> None:
    notes: list[str] = []

    @task
    def step(name: str) -> str:
        notes.append(name)
        if notes == ["first", "second"]:
            raise ValueError("no")
        return name

    @flow
    def steps() -> list[str]:
        return [step("first"), step("second")]

    with pytest.raises(ValueError, match="no"):
        keyed(steps)
    assert keyed(steps, on_failed="retry") == keyed(steps) == ["first", "second"]
    assert notes == ["first", "second", "second"]
    assert len(runs(definition_names=("steps",), is_root=True, kind=Kind.FLOW)) == 1


@pytest.mark.anyio
async def test_a_caller_that_only_waits_may_leave(engine: None) -> None:
    begun, go, leaving = anyio.Event(), anyio.Event(), anyio.CancelScope()

    @flow
    async def wait() -> int:
        begun.set()
        await go.wait()
        return 1

    async with anyio.create_task_group() as group:

        async def attached() -> None:
            await begun.wait()
            with leaving, run_key("k"):
                await wait()
            go.set()

        async def leave() -> None:
            await begun.wait()
            await anyio.wait_all_tasks_blocked()
            leaving.cancel()

        group.start_soon(attached)
        group.start_soon(leave)
        with run_key("k"):
            assert await wait() == 1


def test_a_state_instead_of_the_result() -> None:
    double, bodies = counted()
    first = keyed(lambda: double(3, return_state=True))
    again = keyed(lambda: double(3, return_state=True))
    assert (again.type, again.data, again.id) == (first.type, [6], first.id)
    assert states_of(again) == ["Pending", "Running", "Completed"]
    assert bodies == [3]


def test_a_large_result_is_kept_in_a_file() -> None:
    @flow
    def large() -> bytes:
        return bytes(range(256)) * 1000

    assert keyed(large) == keyed(large) == bytes(range(256)) * 1000


def test_a_persisted_result_is_loaded_from_its_storage() -> None:
    calls: list[int] = []

    @flow(persist_result=True)
    def kept() -> dict[str, int]:
        calls.append(1)
        return {"a": 1}

    assert [keyed(kept), keyed(kept)] == [{"a": 1}, {"a": 1}]
    assert calls == [1]


def test_a_result_that_cannot_be_kept_is_said_to_be_missing(caplog: pytest.LogCaptureFixture) -> None:
    calls: list[int] = []

    @flow
    def lock() -> Any:
        calls.append(1)
        return threading.Lock()

    keyed(lock)
    assert "cannot be kept for later calls" in caplog.text
    with pytest.raises(MissingResult):
        keyed(lock)
    assert calls == [1]


def test_an_exception_that_does_not_come_back() -> None:
    class OddError(Exception):
        def __init__(self, one: int, two: int) -> None:
            super().__init__(f"odd {one} {two}")

    @flow
    def fail() -> None:
        raise OddError(1, 2)

    with pytest.raises(OddError):
        keyed(fail)
    with pytest.raises(FailedRun, match="odd 1 2"):
        keyed(fail)


def test_an_end_that_is_none() -> None:
    @flow
    def end() -> Any:
        return Scheduled()

    for _ in range(2):
        with pytest.raises(UnfinishedRun):
            keyed(end)


def test_a_key_that_expires_is_free_after_the_end() -> None:
    double, bodies = counted()
    soon = timedelta(microseconds=1)
    assert [keyed(double, 3, expiration=soon), keyed(double, 4, expiration=timedelta(days=1))] == [[6], [8]]
    with pytest.raises(RunKeyConflict):
        keyed(double, 5)
    assert bodies == [3, 4]


@pytest.mark.anyio
async def test_a_key_does_not_expire_before_the_end(engine: None) -> None:
    go = anyio.Event()
    bodies: list[int] = []

    @flow
    async def wait() -> int:
        bodies.append(1)
        await go.wait()
        return 1

    async def caller() -> None:
        with run_key("k", expiration=timedelta(microseconds=1)):
            await wait()

    async with anyio.create_task_group() as group:
        group.start_soon(caller)
        group.start_soon(caller)
        await anyio.wait_all_tasks_blocked()
        go.set()
    assert bodies == [1]


@pytest.mark.anyio
async def test_a_key_is_in_the_history() -> None:
    @flow
    async def end() -> None: ...

    with run_key("order-17"):
        state = await end(return_state=True)
    run = await ask("read_flow_run", state.state_details.flow_run_id)
    assert run.idempotency_key == "order-17"


def test_the_history_of_keyed_runs_is_in_order() -> None:
    double, _ = counted()

    @flow
    def end(state: str) -> Any:
        return Scheduled() if state == "SCHEDULED" else Cancelled()

    keyed(double, 3)
    for state in ("SCHEDULED", "CANCELLED"):
        with pytest.raises((UnfinishedRun, CancelledRun)):
            keyed(end, state, key=state)
    assert check_history() == []


@pytest.mark.anyio
async def test_in_memory_and_in_an_engine_of_its_own() -> None:
    bodies: list[int] = []

    @flow
    async def once() -> int:
        bodies.append(1)
        return 5

    async with Engine(database=":memory:", durability="off"):
        for _ in range(2):
            with run_key("k"):
                assert await once() == 5
        assert bodies == [1]
    async with Engine(database=":memory:") as engine:
        engine.core.accepting = False
        with pytest.raises(EngineClosed), run_key("k"):
            await once()
    assert bodies == [1]


@pytest.mark.anyio
async def test_what_an_engine_ends_at_its_own_end_is_no_answer() -> None:
    begun, go = anyio.Event(), anyio.Event()
    bodies: list[int] = []
    database = refresh_settings().database

    @flow
    async def wait() -> int:
        bodies.append(1)
        begun.set()
        await go.wait()
        return len(bodies)

    async def first() -> None:
        with pytest.raises(CancelledRun), run_key("k"):
            await wait()

    async with anyio.create_task_group() as group:
        async with Engine(database=database, drain_seconds=0):
            group.start_soon(first)
            await begun.wait()
    go.set()
    async with Engine(database=database):
        with run_key("k"):
            assert await wait() == 2


@pytest.mark.anyio
async def test_a_suspended_run_is_at_rest_until_it_is_resumed() -> None:
    bodies: list[int] = []

    @flow
    async def approve() -> str:
        bodies.append(1)
        await suspend_flow_run(timeout=600)
        return "approved"

    async with Engine(database=refresh_settings().database, flows=[approve]):
        with pytest.raises(Pause), run_key("k"):
            await approve()
        for options in ({}, {"on_failed": "retry"}, {"expiration": timedelta(microseconds=1)}):
            with pytest.raises(PausedRun), run_key("k", **options):
                await approve()
        with run_key("k"):
            state = await approve(return_state=True)
        await resume_flow_run(state.state_details.flow_run_id)
        with run_key("k"):
            assert await approve() == "approved"
    assert bodies == [1, 1]
