"""Hooks of flows and tasks as runs call them: which, when, in what order, in which context, and what they may do."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable
from functools import partial
from typing import Any

import anyio
import pytest

from callsheet import State, flow, get_client, get_run_logger, runtime, task
from callsheet.context import FlowRunContext, TaskRunContext
from callsheet.exceptions import CancelledRun, UnfinishedRun
from callsheet.settings import CALLSHEET_FLOW_DEFAULT_RETRIES, temporary_settings
from callsheet.states import Cancelled, Cancelling, Completed, Failed

Seen = list[Any]


def note(seen: Seen, label: str, awaits: bool = False) -> Callable[..., Any]:
    """A hook of either colour that says it was called, and for which state."""

    async def ahook(definition: Any, run: Any, state: State[Any]) -> None:
        await anyio.sleep(0)
        seen.append((label, state.name))

    def hook(definition: Any, run: Any, state: State[Any]) -> None:
        seen.append((label, state.name))

    return ahook if awaits else hook


def every(seen: Seen) -> dict[str, Any]:
    """One hook for each kind of state that a flow has hooks for."""
    kinds = ("on_running", "on_completion", "on_failure", "on_cancellation", "on_crashed")
    return {kind: [note(seen, kind, awaits=index % 2 == 0)] for index, kind in enumerate(kinds)}


# ---------------------------------------------------------------------------------------- which and when


@pytest.mark.parametrize(
    ("make", "called"),
    [
        (lambda: None, [("on_running", "Running"), ("on_completion", "Completed")]),
        (lambda: Failed(message="no"), [("on_running", "Running"), ("on_failure", "Failed")]),
        (lambda: Failed(name="Bad"), [("on_running", "Running"), ("on_failure", "Bad")]),
        (Cancelling, [("on_running", "Running"), ("on_cancellation", "Cancelling")]),
        (Cancelled, [("on_running", "Running"), ("on_cancellation", "Cancelled")]),
    ],
    ids=["completed", "failed", "named", "cancelling", "cancelled"],
)
@pytest.mark.anyio
async def test_each_state_calls_its_own_hooks(make: Callable[[], Any], called: Seen) -> None:
    seen: Seen = []

    @flow(**every(seen))
    def plain() -> Any:
        return make()

    @flow(**every(seen))
    async def awaited() -> Any:
        return make()

    plain(return_state=True)
    assert seen == called
    await awaited(return_state=True)
    assert seen == called * 2


def test_a_flow_that_is_cancelling_has_no_result() -> None:
    seen: Seen = []

    @flow(**every(seen))
    def leaves() -> Any:
        return Cancelling()

    with pytest.raises(UnfinishedRun):
        leaves()
    assert seen[-1] == ("on_cancellation", "Cancelling")


def test_bad_parameters_are_a_failure_that_never_ran() -> None:
    seen: Seen = []

    @flow(**every(seen))
    def picky(x: int) -> None: ...

    picky("seven", return_state=True)
    assert seen == [("on_failure", "Failed")]


def test_a_time_out_is_a_failure() -> None:
    seen: Seen = []

    @flow(timeout_seconds=0.05, **every(seen))
    async def slow() -> None:
        await anyio.sleep_forever()

    @task(timeout_seconds=0.05, on_failure=[note(seen, "task")])
    async def slow_task() -> None:
        await anyio.sleep_forever()

    asyncio.run(slow(return_state=True))
    asyncio.run(slow_task(return_state=True))
    assert seen == [("on_running", "Running"), ("on_failure", "TimedOut"), ("task", "TimedOut")]


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_what_ends_the_program_crashes_the_run(error: type[BaseException]) -> None:
    seen: Seen = []

    @flow(**every(seen))
    def stopped() -> None:
        raise error

    with pytest.raises(error):
        stopped()
    assert seen == [("on_running", "Running"), ("on_crashed", "Crashed")]


@pytest.mark.anyio
async def test_hooks_of_a_run_whose_surroundings_are_cancelled_run_to_their_end() -> None:
    seen: Seen = []

    @flow(on_crashed=[note(seen, "awaits", awaits=True), note(seen, "plain")])
    async def left() -> None:
        started.set()
        await anyio.sleep_forever()

    started = anyio.Event()
    async with anyio.create_task_group() as group:
        group.start_soon(left)
        await started.wait()
        group.cancel_scope.cancel()
    assert seen == [("awaits", "Crashed"), ("plain", "Crashed")]


@pytest.mark.parametrize("value", ["false", "0"])
def test_hooks_of_cancellation_and_crash_can_be_switched_off(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: Seen = []

    @flow(**every(seen))
    def ends(interrupted: bool) -> Any:
        if interrupted:
            raise KeyboardInterrupt
        return Cancelled()

    monkeypatch.setenv("CALLSHEET__ENABLE_CANCELLATION_AND_CRASHED_HOOKS", value)
    with pytest.raises(KeyboardInterrupt):
        ends(True)
    with pytest.raises(CancelledRun):
        ends(False)
    assert {label for label, _ in seen} == {"on_running"}
    with temporary_settings({CALLSHEET_FLOW_DEFAULT_RETRIES: 0}), pytest.raises(CancelledRun):
        monkeypatch.delenv("CALLSHEET__ENABLE_CANCELLATION_AND_CRASHED_HOOKS")
        ends(False)
    assert {label for label, _ in seen} == {"on_running", "on_cancellation"}


@pytest.mark.parametrize("submits", ["task", "async task", "subflow", "task of a task"])
def test_the_hooks_of_what_nobody_waits_for_come_before_those_of_its_flow(submits: str) -> None:
    seen: list[str] = []
    overtaken = threading.Event()

    def slow(definition: Any, run: Any, state: State[Any]) -> None:
        overtaken.wait(0.1)
        seen.append(definition.name)

    def of_flow(flow: Any, flow_run: Any, state: State[Any]) -> None:
        seen.append("outer")
        overtaken.set()

    @task(name="inner", on_completion=[slow])
    def work() -> None: ...

    @task(name="inner", on_completion=[slow])
    async def awaited() -> None: ...

    @task
    def submitting() -> None:
        work.submit()

    @flow(name="inner", on_completion=[slow])
    def sub() -> None: ...

    @flow(on_completion=[of_flow])
    def outer() -> None:
        {"task": work, "async task": awaited, "subflow": sub, "task of a task": submitting}[submits].submit()

    outer()
    assert seen == ["inner", "outer"]


def test_retries_call_the_hooks_of_the_end_once() -> None:
    seen: Seen = []

    @task(retries=2, on_failure=[note(seen, "task")], on_completion=[note(seen, "never")])
    def fails() -> None:
        raise ValueError

    @flow(retries=1, on_failure=[note(seen, "flow")])
    def outer() -> None:
        fails()

    outer(return_state=True)
    assert seen == [("task", "Failed")] * 2 + [("flow", "Failed")]


def test_a_task_that_is_not_ready_calls_no_hooks() -> None:
    seen: Seen = []

    @task
    def fails() -> None:
        raise ValueError

    @task(on_completion=[note(seen, "completion")], on_failure=[note(seen, "failure")])
    def after(x: Any) -> None: ...

    @flow
    def outer() -> str:
        state = after.submit(fails.submit(), return_state=True)
        return state.name

    assert outer() == "NotReady"
    assert seen == []


def test_hooks_of_a_subflow_come_before_those_around_it() -> None:
    seen: Seen = []

    @task(on_completion=[note(seen, "task")])
    def innermost() -> None: ...

    @flow(on_completion=[note(seen, "inner")])
    def inner() -> None:
        innermost.submit()

    @flow(on_completion=[note(seen, "outer")])
    def outer() -> None:
        inner()

    outer()
    assert [label for label, _ in seen] == ["task", "inner", "outer"]


# ----------------------------------------------------------------------------------------------- order


@pytest.mark.anyio
async def test_hooks_of_both_colours_run_in_order_of_registration_in_runs_of_both() -> None:
    seen: Seen = []
    hooks = [note(seen, "1"), note(seen, "2", awaits=True), note(seen, "3"), note(seen, "4", awaits=True)]

    @flow(on_completion=hooks)
    def plain() -> None: ...

    @flow(on_completion=hooks)
    async def awaited() -> None: ...

    @task(on_completion=hooks)
    def plain_task() -> None: ...

    @task(on_completion=hooks)
    async def awaited_task() -> None: ...

    plain(), plain_task(), await awaited(), await awaited_task()
    assert [label for label, _ in seen] == ["1", "2", "3", "4"] * 4


def test_decorators_append_and_can_be_stacked() -> None:
    seen: Seen = []

    @flow(on_completion=[note(seen, "given")])
    def one() -> None: ...

    @flow(on_failure=[])
    def two() -> None:
        raise ValueError

    @one.on_completion
    @two.on_failure
    def both(flow: Any, flow_run: Any, state: Any) -> None:
        seen.append((flow.name, state.name))

    @task
    def three() -> None: ...

    @three.on_completion
    async def last(task: Any, task_run: Any, state: Any) -> None:
        seen.append((task.name, state.name))

    one(), two(return_state=True), three()
    assert seen == [("given", "Completed"), ("one", "Completed"), ("two", "Failed"), ("three", "Completed")]
    both(one, None, one(return_state=True))  # the decorators gave the function back as it was


# ---------------------------------------------------------------------------------- what hooks may do


def test_callables_of_any_kind() -> None:
    seen: Seen = []

    class Hooks:
        def method(self, flow: Any, flow_run: Any, state: State[Any]) -> None:
            seen.append("method")

        async def __call__(self, flow: Any, flow_run: Any, state: State[Any]) -> None:
            await asyncio.sleep(0)
            seen.append("callable")

    def more(flow: Any, flow_run: Any, state: State[Any], extra: str = "default", *, key: str = "") -> None:
        seen.append(extra + key)

    @flow(on_completion=(Hooks().method, Hooks(), more, partial(more, key="!")))
    def run() -> None: ...

    run()
    assert seen == ["method", "callable", "default", "default!"]


@pytest.mark.parametrize("awaits", [False, True])
@pytest.mark.anyio
async def test_an_error_in_a_hook_is_logged_and_nothing_else(awaits: bool, caplog: pytest.LogCaptureFixture) -> None:
    seen: Seen = []

    def breaks(*args: Any) -> None:
        raise RuntimeError("spilled")

    async def abreaks(*args: Any) -> None:
        raise RuntimeError("spilled")

    hooks = [abreaks if awaits else breaks, note(seen, "after")]

    @task(on_completion=hooks)
    def work() -> int:
        return 7

    @flow(on_completion=hooks, on_running=hooks)
    async def outer() -> int:
        return work()

    assert await outer() == 7
    assert [name for _, name in seen] == ["Running", "Completed", "Completed"]
    name = "abreaks" if awaits else "breaks"
    errors = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert [record.getMessage() for record in errors] == [f"An error was encountered while running hook {name!r}"] * 3
    assert all(record.exc_info and str(record.exc_info[1]) == "spilled" for record in errors)


@pytest.mark.anyio
async def test_hooks_are_called_inside_the_context_of_the_run() -> None:
    seen: Seen = []

    def look(flow: Any, flow_run: Any, state: State[Any]) -> None:
        context = FlowRunContext.get()
        assert context is not None
        assert TaskRunContext.get() is None
        assert context.flow is flow
        assert context.flow_run == flow_run
        assert context.flow_run.state == state
        assert context.parameters == {"x": 3}
        assert runtime.flow_run.id == str(flow_run.id)
        assert runtime.flow_run.parameters == {"x": 3}
        seen.append((flow_run.state_name, flow_run.state_type, flow_run.state_id == state.id))

    async def alook(flow: Any, flow_run: Any, state: State[Any]) -> None:
        look(flow, flow_run, state)

    def look_at_task(task: Any, task_run: Any, state: State[Any]) -> None:
        context = TaskRunContext.get()
        assert context is not None
        assert context.task is task
        assert context.task_run == task_run
        assert task_run.state == state
        assert runtime.task_run.id == str(task_run.id)
        seen.append((task_run.state_name, state.result(), FlowRunContext.get() is not None))

    hooks = [look, alook]

    @task(on_completion=[look_at_task])
    def work() -> str:
        return "done"

    @flow(on_running=hooks, on_completion=hooks)
    def plain(x: int) -> None:
        work()

    @flow(on_running=hooks, on_completion=hooks)
    async def awaited(x: int) -> None:
        work.submit()

    plain(3)
    await awaited(3)
    assert (
        seen
        == [
            ("Running", "RUNNING", True),
            ("Running", "RUNNING", True),
            ("Completed", "done", True),
            ("Completed", "COMPLETED", True),
            ("Completed", "COMPLETED", True),
        ]
        * 2
    )


def test_the_result_and_the_error_are_in_the_state() -> None:
    seen: Seen = []

    def keep(definition: Any, run: Any, state: State[Any]) -> None:
        seen.append(state.result(raise_on_failure=False))

    error = ValueError("oh")

    @flow(on_completion=[keep], on_failure=[keep])
    def run(fails: bool) -> str:
        if fails:
            raise error
        return "fine"

    run(False)
    run(True, return_state=True)
    assert seen == ["fine", error]


def test_each_hook_tells_the_runs_log(caplog: pytest.LogCaptureFixture) -> None:
    def celebrate(*args: Any) -> None:
        get_run_logger().info("from inside")

    @flow(on_completion=[celebrate])
    def run() -> None: ...

    with caplog.at_level(logging.INFO, "callsheet.flow_runs"):
        run()
    lines = [record.getMessage() for record in caplog.records if record.name == "callsheet.flow_runs"]
    assert lines[-3:] == [
        "Running hook 'celebrate' in response to entering state 'Completed'",
        "from inside",
        "Hook 'celebrate' finished running successfully",
    ]


@pytest.mark.anyio
async def test_hooks_may_call_tasks_and_flows() -> None:
    seen: Seen = []

    @task
    def tidy(word: str) -> str:
        return word.strip()

    @flow
    async def report(word: str) -> str:
        return word.upper()

    async def after(flow: Any, flow_run: Any, state: State[Any]) -> None:
        seen.append(await report(tidy(" tidy ")))

    @flow(on_completion=[after], on_running=[after])
    def plain() -> None: ...

    @flow(on_completion=[after], on_running=[after])
    async def awaited() -> None: ...

    plain()
    await awaited()
    assert seen == ["TIDY"] * 4


def test_with_options_hooks_replace_or_stay() -> None:
    seen: Seen = []

    @flow(on_completion=[note(seen, "old")])
    def run() -> None: ...

    @task(on_completion=[note(seen, "old")])
    def work() -> None: ...

    for copy in (run, work):
        copy.with_options(name="other")()
        copy.with_options(on_completion=[])()
        copy.with_options(on_completion=[note(seen, "new")])()
        copy()
    assert [label for label, _ in seen] == ["old", "old", "new", "old"] * 2


# ------------------------------------------------------------------------------ async hooks of sync code


def test_async_hooks_of_sync_code_are_async_code():
    """What is dual gives coroutines to them: they cannot but await it."""
    seen: Seen = []

    async def results(definition: Any, run: Any, state: State[Any]) -> None:
        seen.append((definition.name, await state.result(raise_on_failure=False)))  # type: ignore[misc]

    @task(on_completion=[results])
    def one() -> int:
        return 1

    @task(on_failure=[results])
    def none() -> None:
        raise KeyError

    @flow(on_completion=[results])
    def both() -> int:
        none.submit(return_state=True)
        return one() + 1

    assert both() == 2
    assert seen[1:] == [("one", 1), ("both", 2)]
    assert isinstance(seen[0][1], KeyError)


def test_sync_flows_that_an_async_hook_calls_are_sync_code():
    seen: Seen = []

    @flow
    def report() -> None:
        seen.append(Completed(data=42).result())

    async def hook(definition: Any, run: Any, state: State[Any]) -> None:
        report()
        seen.append(await state.result())  # type: ignore[misc]

    @flow(on_completion=[hook])
    def answer() -> int:
        return 42

    answer()
    assert seen == [42, 42]


# ------------------------------------------------------------------------------- hooks that end the run


class Ends(BaseException):
    """What no hook is forgiven."""


@pytest.mark.parametrize("colour", ["sync", "async"])
def test_a_hook_before_the_body_that_raises_it_crashes_the_run(colour: str) -> None:
    seen: Seen = []

    def hook(*_: Any) -> None:
        raise Ends("before the body")

    def body() -> None:
        seen.append("body")

    async def abody() -> None:
        seen.append("body")

    whole = flow(abody if colour == "async" else body, on_running=[hook], on_crashed=[note(seen, "crashed")])
    with pytest.raises(Ends):
        asyncio.run(whole()) if colour == "async" else whole()  # type: ignore[arg-type,func-returns-value]
    assert seen == [("crashed", "Crashed")]
    with get_client(sync_client=True) as client:
        (run,) = client.read_flow_runs()
    assert run.state is not None
    assert "Ends: before the body" in (run.state.message or "")


def test_what_a_hook_raises_instead_of_the_runs_error_shows_that() -> None:
    error = ValueError("theirs")

    def hook(*_: Any) -> None:
        raise Ends

    @flow(on_failure=[hook])
    def fails() -> None:
        raise error

    with pytest.raises(Ends) as caught:
        fails()
    assert caught.value.__context__ is error


def test_a_hook_may_raise_the_runs_error_again() -> None:
    error = Ends()

    def hook(*_: Any) -> None:
        raise error

    @flow(on_failure=[hook])
    def fails() -> None:
        raise ValueError from error

    with pytest.raises(Ends) as caught:
        fails()
    assert caught.value.__context__ is None
