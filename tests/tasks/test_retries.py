"""Tasks that are tried again: how often, after which delays, under which condition, and what everybody sees meanwhile."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import anyio
import pytest

from callsheet import State, Task, flow, task
from callsheet.context import TaskRunContext
from callsheet.tasks import exponential_backoff
from harness import ever_longer
from past import states_of


class Refusing:
    """Fails so many times, then answers; notes what each attempt saw."""

    def __init__(self, times: int) -> None:
        self.left = times
        self.seen: list[tuple[int, str]] = []
        self.started: list[Any] = []

    def __call__(self) -> str:
        context = TaskRunContext.get()
        assert context is not None
        run = context.task_run
        self.seen.append((run.run_count, run.state_name))
        self.started.append(context.start_time)
        assert run.state.name == run.state_name
        assert run.state.type == run.state_type
        assert run.state_id == run.state.id
        assert run.state.state_details.task_run_id == run.id
        self.left -= 1
        if self.left >= 0:
            raise ConnectionError(f"line is busy, {self.left} left")
        return "hello"


def called(refusing: Refusing, colour: str, **options: Any) -> Task[[], Any]:
    """Make a task of either colour."""
    if colour == "sync":

        @task(**options)
        def dial() -> str:
            return refusing()

        return dial

    @task(**options)
    async def adial() -> str:
        await anyio.sleep(0)
        return refusing()

    return adial


def run_in_flow(definition: Task[[], Any], run_on: Callable[..., Any], way: str = "call") -> State[Any]:
    """Run a task in a flow of its colour and give its final state."""

    def start() -> Any:
        if way == "submit":
            return definition.submit(return_state=True)
        return definition(return_state=True)

    if not definition.isasync:

        @flow
        def around() -> Any:
            found.append(start())

        found: list[State[Any]] = []
        around()
        return found[0]

    @flow
    async def aaround() -> Any:
        state = start()
        found.append(state if way == "submit" else await state)

    found = []
    run_on(aaround)
    return found[0]


COLOURS = pytest.mark.parametrize("colour", ["sync", "async"])


# ----------------------------------------------------------------------------------------- how often


@COLOURS
@pytest.mark.parametrize("way", ["call", "submit"])
def test_a_task_is_tried_until_it_answers(colour: str, way: str, run_on: Callable[..., Any]) -> None:
    refusing = Refusing(2)
    state = run_in_flow(called(refusing, colour, retries=3), run_on, way)
    assert state.is_completed()
    assert state.result(raise_on_failure=False) == "hello"
    assert refusing.seen == [(1, "Running"), (2, "Retrying"), (3, "Retrying")]
    assert refusing.started == sorted(set(refusing.started))
    assert states_of(state) == ["Pending", "Running", "Retrying", "Retrying", "Completed"]


@COLOURS
def test_a_task_that_never_answers_is_called_once_more_than_it_has_retries(
    colour: str, run_on: Callable[..., Any]
) -> None:
    refusing = Refusing(99)
    state = run_in_flow(called(refusing, colour, retries=2), run_on)
    assert state.is_failed()
    assert len(refusing.seen) == 3
    assert state.message == "Task run encountered an exception ConnectionError: line is busy, 96 left"
    assert states_of(state) == ["Pending", "Running", "Retrying", "Retrying", "Failed"]


def test_the_last_attempts_own_exception_is_raised() -> None:
    errors = [KeyError("first"), KeyError("second")]
    left = iter(errors)

    @task(retries=1)
    def fail() -> None:
        raise next(left)

    with pytest.raises(KeyError) as caught:
        fail()
    assert caught.value is errors[1]


def test_tasks_outside_of_flows_are_tried_again_too() -> None:
    refusing = Refusing(1)
    assert called(refusing, "sync", retries=1)() == "hello"
    assert len(refusing.seen) == 2


def test_a_failed_state_that_the_body_returns_is_a_failure_like_any_other() -> None:
    from callsheet.states import Completed, Failed

    answers = iter([Failed(message="not yet"), Completed(data=7)])

    @task(retries=2)
    def answer() -> Any:
        return next(answers)

    state = answer(return_state=True)
    assert state.is_completed()
    assert state.result() == 7


def test_the_default_number_of_retries_is_a_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CALLSHEET_TASK_DEFAULT_RETRIES", "1")
    refusing = Refusing(1)
    assert called(refusing, "sync")() == "hello"


def test_ctrl_c_is_no_failure_and_is_not_tried_again() -> None:
    calls: list[int] = []

    @task(retries=3)
    def stop() -> None:
        calls.append(1)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stop()
    assert calls == [1]


@COLOURS
def test_names_inputs_and_hooks_are_settled_once_a_run(colour: str, run_on: Callable[..., Any]) -> None:
    named: list[int] = []
    hooked: list[tuple[str, int]] = []

    def name() -> str:
        named.append(1)
        return "once"

    def hook(_: Any, run: Any, state: State[Any]) -> None:
        hooked.append((state.name, run.run_count))

    refusing = Refusing(99)
    run_in_flow(called(refusing, colour, retries=2, task_run_name=name, on_failure=[hook]), run_on)
    assert named == [1]
    assert hooked == [("Failed", 3)]
    hooked.clear()
    run_in_flow(called(Refusing(1), colour, retries=1, on_completion=[hook], on_failure=[hook]), run_on)
    assert hooked == [("Completed", 2)]


# ------------------------------------------------------------------------------------------- delays


@COLOURS
@pytest.mark.parametrize(
    "delays", [0.001, [0.001, 0.002], lambda retries: [0.001] * retries], ids=["number", "list", "callable"]
)
def test_between_attempts_with_a_delay_a_run_awaits_its_retry(
    colour: str, delays: Any, run_on: Callable[..., Any]
) -> None:
    refusing = Refusing(2)
    state = run_in_flow(called(refusing, colour, retries=2, retry_delay_seconds=delays), run_on)
    assert state.is_completed()
    assert refusing.seen == [(1, "Running"), (2, "Retrying"), (3, "Retrying")]
    assert states_of(state) == [
        "Pending", "Running", "AwaitingRetry", "Retrying", "AwaitingRetry", "Retrying", "Completed",
    ]  # fmt: skip


@COLOURS
def test_an_attempt_does_not_begin_before_its_time(colour: str, run_on: Callable[..., Any]) -> None:
    gaps: list[float] = []
    for longer in ever_longer(lambda: gaps[0] < longer, first=0.1):  # the first delay, not the second
        refusing = Refusing(2)
        run_in_flow(called(refusing, colour, retries=2, retry_delay_seconds=[0.01, longer]), run_on)
        gaps = [(b - a).total_seconds() for a, b in zip(refusing.started, refusing.started[1:], strict=False)]
        assert gaps[0] >= 0.01
        assert gaps[1] >= longer


def test_the_last_delay_of_a_short_list_repeats() -> None:
    refusing = Refusing(3)
    state = called(refusing, "sync", retries=3, retry_delay_seconds=[0, 0.001])(return_state=True)
    assert states_of(state) == [
        "Pending", "Running", "Retrying", "AwaitingRetry", "Retrying", "AwaitingRetry", "Retrying", "Completed",
    ]  # fmt: skip


def test_jitter_only_makes_delays_longer() -> None:
    refusing = Refusing(3)
    dial = called(refusing, "sync", retries=3, retry_delay_seconds=0.01, retry_jitter_factor=1)
    assert dial() == "hello"
    gaps = [(b - a).total_seconds() for a, b in zip(refusing.started, refusing.started[1:], strict=False)]
    assert min(gaps) >= 0.01


def test_exponential_backoff_doubles() -> None:
    assert called(Refusing(0), "sync", retries=4, retry_delay_seconds=exponential_backoff(10)).retry_delay_seconds == [
        10, 20, 40, 80,
    ]  # fmt: skip


@pytest.mark.anyio
async def test_a_run_that_awaits_its_retry_holds_nobody_up() -> None:
    attempts: list[int] = []

    @task(retries=1)
    async def slow() -> bool:
        attempts.append(1)
        if len(attempts) == 1:
            first_failed.set()
            raise ValueError("again")
        return second_done.is_set()

    @task
    async def quick() -> None:
        await first_failed.wait()
        second_done.set()

    @flow
    async def both(delay: float) -> bool:
        waiting = slow.with_options(retry_delay_seconds=delay).submit()
        await quick()
        return await waiting

    found = False
    for seconds in ever_longer(lambda: found):
        first_failed, second_done = anyio.Event(), anyio.Event()
        attempts.clear()
        found = await both(seconds)
    assert found is True


@pytest.mark.anyio
async def test_cancelling_ends_the_delay_at_once() -> None:
    failed = anyio.Event()

    @task(retries=1, retry_delay_seconds=50)
    async def hopeless() -> None:
        failed.set()
        raise ValueError("no")

    @flow
    async def around() -> None:
        hopeless.submit()
        await failed.wait()
        raise RuntimeError("enough")

    with anyio.fail_after(5), pytest.raises(RuntimeError, match="enough"):
        await around()


# ---------------------------------------------------------------------------------------- conditions


@COLOURS
@pytest.mark.parametrize("condition_colour", ["sync", "async"])
def test_a_condition_decides_over_each_retry(colour: str, condition_colour: str, run_on: Callable[..., Any]) -> None:
    asked: list[tuple[Any, str, int, str]] = []

    def decide(the_task: Any, run: Any, state: State[Any]) -> bool:
        assert state.is_failed()
        asked.append((the_task, run.name, run.run_count, str(state.data)))
        return len(asked) < 2

    async def adecide(the_task: Any, run: Any, state: State[Any]) -> bool:
        await anyio.sleep(0)
        return decide(the_task, run, state)

    condition = decide if condition_colour == "sync" else adecide
    refusing = Refusing(99)
    dial = called(refusing, colour, retries=5, retry_condition_fn=condition, task_run_name="dialling")
    state = run_in_flow(dial, run_on)
    assert state.is_failed()
    assert len(refusing.seen) == 2
    assert asked == [
        (dial, "dialling", 1, "line is busy, 98 left"),
        (dial, "dialling", 2, "line is busy, 97 left"),
    ]
    assert states_of(state) == ["Pending", "Running", "Retrying", "Failed"]


def test_a_condition_reads_the_failure_by_result() -> None:
    found: list[BaseException] = []

    def only_busy(_: Any, __: Any, state: State[Any]) -> bool:
        try:
            state.result()
        except ConnectionError as error:
            found.append(error)
        return True

    assert called(Refusing(1), "sync", retries=1, retry_condition_fn=only_busy)() == "hello"
    assert len(found) == 1


@pytest.mark.anyio
async def test_an_async_condition_awaits_the_result_in_tasks_of_either_colour() -> None:
    async def only_busy(_: Any, __: Any, state: State[Any]) -> bool:
        with pytest.raises(ConnectionError):
            await state.result()
        return True

    assert await called(Refusing(1), "async", retries=1, retry_condition_fn=only_busy)() == "hello"
    assert called(Refusing(1), "sync", retries=1, retry_condition_fn=only_busy)() == "hello"


def test_a_condition_that_fails_means_no_retry(caplog: pytest.LogCaptureFixture) -> None:
    def broken(*_: Any) -> bool:
        raise ZeroDivisionError("condition")

    refusing = Refusing(99)
    with pytest.raises(ConnectionError):
        called(refusing, "sync", retries=5, retry_condition_fn=broken)()
    assert len(refusing.seen) == 1
    assert any("retry condition" in record.message for record in caplog.records)


def test_a_condition_is_not_asked_when_nothing_is_left() -> None:
    asked: list[int] = []
    refusing = Refusing(99)
    with pytest.raises(ConnectionError):
        called(refusing, "sync", retries=1, retry_condition_fn=lambda *_: asked.append(1) or True)()
    assert asked == [1]
