"""Generator tasks and flows: streams of values, the state of their runs meanwhile, and every way to end."""

from __future__ import annotations

import gc
import time
from collections.abc import Generator
from typing import Any

import pytest

from callsheet import Task, flow, get_client, task
from callsheet.context import FlowRunContext, TaskRunContext
from harness import ever_longer
from past import inputs_of, runs, states_of

BOTH = pytest.mark.parametrize("decorate", [task, flow], ids=["task", "flow"])


def current_run() -> Any:
    context = TaskRunContext.get()
    if context is not None:
        return context.task_run
    flow_context = FlowRunContext.get()
    return None if flow_context is None else flow_context.flow_run


# --------------------------------------------------------------------------------------------- sync


@BOTH
def test_a_generator_streams_and_runs_meanwhile(decorate: Any) -> None:
    seen: list[Any] = []

    @decorate
    def count(n: int) -> Generator[int, None, str]:
        seen.append(current_run())
        for i in range(n):
            assert current_run() is seen[0]
            yield i
        return "over"

    stream = count(3)
    assert seen == []
    assert next(stream) == 0
    assert current_run() is None
    assert seen[0].state_name == "Running"
    assert list(stream) == [1, 2]
    assert states_of(seen[0].id) == ["Pending", "Running", "Completed"]


@BOTH
def test_what_a_generator_returns_is_what_yield_from_gives(decorate: Any) -> None:
    @decorate
    def count() -> Generator[int, None, str]:
        yield 1
        return "over"

    def outer() -> Generator[int, None, None]:
        found.append((yield from count()))

    found: list[Any] = []
    assert list(outer()) == [1]
    assert found == ["over"]


@BOTH
def test_values_go_in_and_exceptions_too(decorate: Any) -> None:
    @decorate
    def echo() -> Generator[Any, Any, None]:
        given = yield "ready"
        while True:
            try:
                given = yield given
            except KeyError as error:
                given = f"caught {error}"

    stream = echo()
    assert next(stream) == "ready"
    assert stream.send(1) == 1
    assert stream.throw(KeyError("k")) == "caught 'k'"
    assert stream.send(2) == 2
    stream.close()


@BOTH
@pytest.mark.parametrize("how", ["closed", "dropped"])
def test_one_that_is_left_early_is_read_as_crashed(decorate: Any, how: str) -> None:
    ids: list[Any] = []

    @decorate
    def count() -> Generator[int, None, None]:
        ids.append(current_run().id)
        yield 1
        yield 2

    stream = count()
    assert next(stream) == 1
    if how == "closed":
        stream.close()
    else:
        del stream
        gc.collect()
    with get_client(sync_client=True) as client:
        state = (client.read_task_run if isinstance(count, Task) else client.read_flow_run)(ids[0]).state
    assert (state.is_crashed(), state.message) == (True, "The run was abandoned before it ended.")


@BOTH
def test_an_exception_on_the_way_fails_the_run(decorate: Any) -> None:
    ids: list[Any] = []
    error = ValueError("midway")

    @decorate
    def breaks() -> Generator[int, None, None]:
        ids.append(current_run().id)
        yield 1
        raise error

    stream = breaks()
    assert next(stream) == 1
    with pytest.raises(ValueError, match="midway") as caught:
        next(stream)
    assert caught.value is error
    assert states_of(ids[0]) == ["Pending", "Running", "Failed"]
    assert list(stream) == []


@BOTH
def test_another_attempt_begins_from_the_start(decorate: Any) -> None:
    ids: list[Any] = []

    @decorate(retries=2)
    def shaky() -> Generator[int, None, str]:
        ids.append(current_run().id)
        for i in range(3):
            if i == len(ids):
                raise ValueError("again")
            yield i
        return "over"

    def outer() -> Generator[int, None, None]:
        found.append((yield from shaky()))

    found: list[Any] = []
    assert list(outer()) == [0, 0, 1, 0, 1, 2]
    assert found == ["over"]
    assert states_of(ids[0]) == ["Pending", "Running", "Retrying", "Retrying", "Completed"]
    assert len(set(ids)) == 1


@BOTH
def test_a_state_cannot_be_streamed(decorate: Any) -> None:
    @decorate
    def count() -> Generator[int, None, None]:
        yield 1

    stream = count(return_state=True)
    kind = "task" if decorate is task else "flow"
    with pytest.raises(ValueError, match=f"The return_type for a generator {kind} must be 'result'"):
        next(stream)


@BOTH
def test_a_generator_has_a_deadline(decorate: Any) -> None:
    ids: list[Any] = []

    @decorate
    def slow() -> Generator[int, None, None]:
        ids.append(current_run().id)
        yield 1
        time.sleep(20)
        yield 2

    found: list[int] = []
    for seconds in ever_longer(lambda: found):
        ids.clear()
        stream = slow.with_options(timeout_seconds=seconds)()
        with pytest.raises(TimeoutError, match=rf"timed out after {seconds} second\(s\)"):
            while True:
                found.append(next(stream))
        assert {states_of(run_id)[-1] for run_id in ids} <= {"TimedOut"}
    assert found == [1]
    assert len(ids) == 1


@BOTH
@pytest.mark.parametrize("how", ["close", "drop"])
def test_an_abandoned_generator_ends_crashed(decorate: Any, how: str) -> None:
    ids: list[Any] = []
    closed: list[int] = []

    @decorate
    def count() -> Generator[int, None, None]:
        ids.append(current_run().id)
        try:
            yield 1
            yield 2
        finally:
            closed.append(1)

    stream = count()
    assert next(stream) == 1
    if how == "close":
        stream.close()
    del stream
    gc.collect()
    assert closed == [1]

    @task
    def other() -> None: ...

    other()  # what a finalizer has left is seen to by the next message
    assert states_of(ids[0]) == ["Pending", "Running", "Crashed"]


def test_a_generator_that_is_never_begun_is_no_run() -> None:
    @task
    def count() -> Generator[int, None, None]:
        yield 1

    count()
    assert runs() == []


def test_tasks_are_called_and_submitted_in_a_generator_flow() -> None:
    @task
    def double(x: int) -> int:
        return 2 * x

    @flow
    def doubles(n: int) -> Generator[int, None, None]:
        for i in range(n):
            yield double(i)
            yield double.submit(i).result()

    assert list(doubles(3)) == [0, 0, 2, 2, 4, 4]
    (flow_run,) = runs(definition_names=("doubles",))
    assert len(runs(flow_run_ids=(flow_run.id,))) == 6


def test_generator_tasks_in_flows_are_inputs_of_what_takes_their_values() -> None:
    @task
    def make() -> Generator[Any, None, None]:
        inner()
        yield object()

    @task
    def inner() -> None: ...

    @task
    def take(_: Any) -> Any:
        context = TaskRunContext.get()
        assert context is not None
        return context.task_run.id

    @flow
    def around() -> Any:
        return [take(value) for value in make()]

    (taken,) = around()
    (maker,) = runs(definition_names=("make",))
    (child,) = runs(definition_names=("inner",))
    assert inputs_of(taken) == {"_": [maker.id]}
    assert inputs_of(child.id) == {"__parents__": [maker.id]}


def test_parameters_of_generator_flows_are_validated() -> None:
    @flow
    def count(n: int) -> Generator[int, None, None]:
        yield from range(n)

    assert list(count("2")) == [0, 1]


@pytest.mark.parametrize("wrap", [task, flow], ids=["task", "flow"])
def test_a_generator_that_a_plain_function_returns_is_used_up(wrap: Any) -> None:
    @wrap
    def make() -> Any:
        return (i for i in range(3))

    assert make() == [0, 1, 2]


def test_generators_are_not_submitted() -> None:
    @task
    def count() -> Generator[int, None, None]:
        yield 1

    @flow
    def around() -> None:
        with pytest.raises(NotImplementedError, match="generator"):
            count.submit()

    around()


def test_hooks_and_prints_of_generators(caplog: pytest.LogCaptureFixture) -> None:
    hooked: list[str] = []

    @task(log_prints=True, on_completion=[lambda _, __, state: hooked.append(state.name)])
    def count() -> Generator[int, None, None]:
        print("one")
        yield 1

    caplog.set_level("INFO")
    assert list(count()) == [1]
    assert hooked == ["Completed"]
    assert any(record.getMessage() == "one" for record in caplog.records)
