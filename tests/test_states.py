"""States, what follows from them, the dual rule, and the runs that carry them."""

from __future__ import annotations

import copy
import inspect
import pickle
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any
from uuid import UUID, uuid4

import anyio
import anyio.to_thread
import pydantic
import pytest

from callsheet import states
from callsheet._engine.dual import dual
from callsheet._engine.state_values import crashed_state
from callsheet._model.kept import NOT_RECORDED
from callsheet.annotations import quote
from callsheet.client.schemas import objects
from callsheet.client.schemas.objects import (
    Constant,
    Flow,
    FlowRun,
    FlowRunInput,
    FlowRunPolicy,
    Log,
    Parameter,
    TaskRun,
    TaskRunPolicy,
    TaskRunResult,
)
from callsheet.context import FlowRunContext, TaskRunContext
from callsheet.exceptions import (
    BlockingWaitError,
    CancelledRun,
    CrashedRun,
    FailedRun,
    MissingResult,
    PausedRun,
    TerminationSignal,
    UnfinishedRun,
)
from callsheet.states import (
    TERMINAL_STATES,
    AwaitingConcurrencySlot,
    AwaitingRetry,
    Cancelled,
    Cancelling,
    Completed,
    Crashed,
    Failed,
    Late,
    Paused,
    Pending,
    Retrying,
    Running,
    Scheduled,
    State,
    StateDetails,
    StateGroup,
    StateType,
    Suspended,
    exception_to_crashed_state,
    exception_to_failed_state,
    get_state_exception,
    get_state_result,
    is_state,
    is_state_iterable,
    raise_state_exception,
    return_value_to_state,
)

MOMENT = datetime(2024, 5, 1, 12, tzinfo=UTC)


def ran(state: State[Any]) -> State[Any]:
    """Make a state look like one that came from a run."""
    state.state_details.task_run_id = uuid4()
    return state


# ------------------------------------------------------------------------------------------- making


def test_fields_and_defaults() -> None:
    state: State[int] = State(type=StateType.RUNNING)
    assert (state.name, state.message, state.data) == ("Running", None, None)
    assert state.timestamp == state.created == state.updated
    assert state.timestamp.tzinfo is UTC
    assert isinstance(state.id, UUID)
    assert state.state_details == StateDetails()


def test_type_may_be_its_string() -> None:
    assert State(type="CANCELLING").type is StateType.CANCELLING  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="'NOPE' is not a valid StateType"):
        State(type="NOPE")  # type: ignore[arg-type]


def test_only_keywords() -> None:
    with pytest.raises(TypeError):
        State("COMPLETED")  # type: ignore[call-arg]


@pytest.mark.parametrize("details", [{"pause_key": "x"}, StateDetails(pause_key="x")])
def test_details_may_be_a_mapping(details: Any) -> None:
    assert State(type=StateType.PAUSED, state_details=details).state_details == StateDetails(pause_key="x")
    assert State(type=StateType.PAUSED, state_details=None).state_details == StateDetails()  # type: ignore[arg-type]


def test_details_of_another_type_are_refused() -> None:
    with pytest.raises(TypeError, match="got int instead"):
        State(type=StateType.PAUSED, state_details=1)  # type: ignore[arg-type]


def test_states_are_mutable() -> None:
    state = Completed()
    state.name, state.message, state.data = "Mine", "m", 3
    state.state_details.pause_key = "k"
    assert repr(state) == "Mine(message='m', type=COMPLETED, result=3)"
    assert Completed().state_details.pause_key is None


def test_scheduled_has_a_time() -> None:
    assert State(type=StateType.SCHEDULED).state_details.scheduled_time is not None
    assert Scheduled(scheduled_time=MOMENT).state_details.scheduled_time == MOMENT
    assert Scheduled(state_details={"scheduled_time": MOMENT}).state_details.scheduled_time == MOMENT
    details = StateDetails(pause_key="k")
    assert Scheduled(scheduled_time=MOMENT, state_details=details).state_details.pause_key == "k"
    assert details.scheduled_time is None
    with pytest.raises(ValueError, match="scheduled time was given twice"):
        Scheduled(scheduled_time=MOMENT, state_details={"scheduled_time": MOMENT})


def test_unpersisted_data_is_dropped() -> None:
    assert Completed(data={"type": "unpersisted", "artifact_type": "x"}).data is None
    assert Completed(data={"type": "other"}).data == {"type": "other"}


@pytest.mark.parametrize(
    ("make", "kind", "name"),
    [
        (Scheduled, "SCHEDULED", "Scheduled"),
        (Completed, "COMPLETED", "Completed"),
        (Running, "RUNNING", "Running"),
        (Failed, "FAILED", "Failed"),
        (Crashed, "CRASHED", "Crashed"),
        (Cancelling, "CANCELLING", "Cancelling"),
        (Cancelled, "CANCELLED", "Cancelled"),
        (Pending, "PENDING", "Pending"),
        (Paused, "PAUSED", "Paused"),
        (Suspended, "PAUSED", "Suspended"),
        (AwaitingRetry, "SCHEDULED", "AwaitingRetry"),
        (AwaitingConcurrencySlot, "SCHEDULED", "AwaitingConcurrencySlot"),
        (Retrying, "RUNNING", "Retrying"),
        (Late, "SCHEDULED", "Late"),
    ],
)
def test_constructors(make: Any, kind: str, name: str) -> None:
    state = make(message="m")
    assert (state.type.value, state.name, state.message) == (kind, name, "m")
    assert make(name="Mine").name == "Mine"
    questions = {q for q in dir(state) if q.startswith("is_") and q != "is_final" and getattr(state, q)()}
    assert questions == {f"is_{kind.lower()}"}
    assert state.is_final() is (state.type in TERMINAL_STATES)

    class Own(State[Any]):
        pass

    assert type(make(Own)) is Own


def test_pauses() -> None:
    state = Paused(timeout_seconds=60, pause_key="k")
    assert state.state_details.pause_key == "k"
    assert not state.state_details.pause_reschedule
    left = (state.state_details.pause_timeout or MOMENT) - state.timestamp
    assert abs(left - timedelta(seconds=60)) < timedelta(seconds=5)
    assert Paused().state_details.pause_timeout is None
    suspended = Suspended(pause_expiration_time=MOMENT)
    assert suspended.state_details.pause_timeout == MOMENT
    assert suspended.state_details.pause_reschedule
    assert Paused(state_details={"pause_reschedule": True}).state_details.pause_reschedule
    with pytest.raises(ValueError, match="not both"):
        Paused(timeout_seconds=1, pause_expiration_time=MOMENT)
    with pytest.raises(ValueError, match="given twice"):
        Paused(timeout_seconds=1, state_details={"pause_timeout": MOMENT})


def test_a_state_that_lost_its_name_is_named_by_its_type() -> None:
    state = State(type="COMPLETED", name="Cached")
    assert state.default_name_from_type() is state
    assert state.name == "Cached"
    state.name = None  # type: ignore[assignment] # states are changed by programs
    assert state.default_name_from_type().name == "Completed"


# ------------------------------------------------------------------------- showing, comparing, copying


def test_repr_and_str() -> None:
    assert repr(Completed()) == "Completed(message=None, type=COMPLETED, result=None)"
    assert repr(Completed(message="m", data="x")) == "Completed(message='m', type=COMPLETED, result='x')"
    assert str(Completed(message="m", data=1)) == "Completed('m')"
    assert str(Completed()) == "Completed()"
    assert str(Completed(message="x", name="Cached")) == "Cached('x', type=COMPLETED)"
    assert str(State(type=StateType.COMPLETED, name="completed")) == "completed()"


def test_equality_ignores_what_copies_reset_but_not_the_timestamp() -> None:
    one = Completed(data=1, timestamp=MOMENT)
    assert one == Completed(data=1, timestamp=MOMENT)
    assert not (one != Completed(data=1, timestamp=MOMENT))
    assert hash(one) == hash(Completed(data=2, timestamp=MOMENT))
    assert one != Completed(data=2, timestamp=MOMENT)
    assert one != Completed(data=1)
    assert one != Completed(data=1, timestamp=MOMENT, message="m")
    assert one != Completed(data=1, timestamp=MOMENT, name="Cached")
    assert one != ran(Completed(data=1, timestamp=MOMENT))
    assert one != "Completed"
    assert not (one == "Completed")
    assert not (one == Completed(data=2, timestamp=MOMENT))
    nan = float("nan")
    assert Completed(data=nan, timestamp=MOMENT) == Completed(data=nan, timestamp=MOMENT)
    assert len({one, Completed(data=1, timestamp=MOMENT)}) == 1


def test_model_copy_keeps_the_id_and_renews_the_time() -> None:
    state = ran(Completed(data=[1], timestamp=MOMENT))
    same = state.model_copy()
    assert (same.id, same.created, same.data) == (state.id, state.created, state.data)
    assert same.data is state.data
    assert same.timestamp > MOMENT
    assert same != state
    same.state_details.pause_key = "k"
    assert state.state_details.pause_key is None
    changed = state.model_copy(update={"timestamp": MOMENT, "name": "Cached"}, deep=True)
    assert (changed.timestamp, changed.name) == (MOMENT, "Cached")
    assert changed.data == state.data
    assert changed.data is not state.data
    with pytest.raises(TypeError):
        state.model_copy(update={"nope": 1})


def test_fresh_copy_has_a_new_id_and_new_times() -> None:
    state = Completed(data=1, timestamp=MOMENT)
    fresh = state.fresh_copy(message="m")
    assert fresh.id != state.id
    assert MOMENT < fresh.timestamp == fresh.created == fresh.updated
    assert (fresh.data, fresh.message) == (1, "m")
    assert fresh != state


def test_to_state_create_drops_local_data() -> None:
    state = Failed(message="m", data=ValueError(), name="TimedOut")
    made = state.to_state_create()
    assert (made.type, made.name, made.message, made.data) == (StateType.FAILED, "TimedOut", "m", None)
    assert made.state_details == state.state_details
    assert made.state_details is not state.state_details


def test_states_survive_pickling_and_copying() -> None:
    state = ran(Completed(data={"a": 1}))
    assert pickle.loads(pickle.dumps(state)) == state
    assert copy.deepcopy(state) == state
    back = Completed(data=NOT_RECORDED)
    assert pickle.loads(pickle.dumps(back)).data is copy.deepcopy(back).data is NOT_RECORDED
    assert repr(NOT_RECORDED) == "<not recorded>"


def test_a_pickled_state_gives_its_result_in_a_fresh_process() -> None:
    program = "import pickle, sys; print(pickle.loads(bytes.fromhex(sys.argv[1])).result())"
    argument = pickle.dumps(Completed(data=42)).hex()
    done = subprocess.run([sys.executable, "-c", program, argument], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "42"


def test_results_are_found_even_if_only_the_model_was_imported() -> None:
    program = "from callsheet._model.states import State; print(State(type='COMPLETED', data=42).result())"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "42"


# ------------------------------------------------------------------------------------------- results


@pytest.mark.parametrize("value", [None, 0, "", [], {}, Completed])
def test_a_completed_state_gives_its_value(value: Any) -> None:
    assert Completed(data=value).result() is value
    assert get_state_result(Completed(data=value)) is value


def test_a_value_that_was_not_kept_is_missing() -> None:
    with pytest.raises(MissingResult):
        Completed(data=NOT_RECORDED).result()
    with pytest.raises(MissingResult):
        Completed(data=NOT_RECORDED).result(raise_on_failure=False)


@pytest.mark.parametrize("make", [Pending, Running, Scheduled, Cancelling])
@pytest.mark.parametrize("raise_on_failure", [True, False])
def test_an_unfinished_run_has_no_result(make: Any, raise_on_failure: bool) -> None:
    with pytest.raises(UnfinishedRun, match="result is not available"):
        make().result(raise_on_failure=raise_on_failure)


def test_a_paused_run_has_no_result() -> None:
    state = Paused()
    with pytest.raises(PausedRun, match="result is not available") as caught:
        state.result(raise_on_failure=False)
    assert caught.value.state is state


def test_a_failed_state_raises_the_same_object() -> None:
    error = ValueError("xyz")
    with pytest.raises(ValueError, match="xyz") as caught:
        Failed(data=error).result()
    assert caught.value is error
    assert Failed(data=error).result(raise_on_failure=False) is error
    assert get_state_exception(Crashed(data=error)) is error


@pytest.mark.parametrize(("make", "error"), [(Failed, FailedRun), (Crashed, CrashedRun), (Cancelled, CancelledRun)])
def test_texts_become_exceptions_of_the_kind(make: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match=r"^text$"):
        raise_state_exception(make(data="text"))
    with pytest.raises(error, match=r"^message$"):
        raise_state_exception(make(message="message"))
    with pytest.raises(error, match=r"^message$"):
        make(message="message", data=NOT_RECORDED).result()
    with pytest.raises(error, match="The run"):
        make().result()
    assert isinstance(make().result(raise_on_failure=False), error)
    assert make(data="text").result(raise_on_failure=False) == "text"


def test_nested_states_give_their_exception() -> None:
    error = ValueError("inner")
    assert get_state_exception(Failed(data=Failed(data=error))) is error
    assert get_state_exception(Failed(data=[Completed(), Crashed(data=error), Failed(data="later")])) is error
    with pytest.raises(ValueError, match="Expected failed or crashed state got Completed"):
        raise_state_exception(Failed(data=Completed()))
    with pytest.raises(ValueError, match="Failed state result was an iterable of states but none were failed"):
        raise_state_exception(Failed(data=[Completed()]))
    with pytest.raises(TypeError, match="int cannot be resolved into an exception"):
        raise_state_exception(Failed(data=2))


def test_states_that_did_not_fail_raise_nothing() -> None:
    assert raise_state_exception(Completed()) is None
    assert raise_state_exception(Running()) is None
    with pytest.raises(ValueError, match="Expected failed or crashed state got Running"):
        get_state_exception(Running())


def test_fetch_is_deprecated() -> None:
    with pytest.warns(DeprecationWarning, match="fetch"):
        assert Completed(data=1).result(fetch=False) == 1
    with pytest.warns(DeprecationWarning, match="fetch"):
        assert get_state_result(Completed(data=1), fetch=False) == 1


# ---------------------------------------------------------------------------------------- dual rule


@pytest.mark.anyio
async def test_async_code_gets_a_coroutine() -> None:
    state = Completed(data=1)
    coroutine: Any = state.result()
    assert inspect.iscoroutine(coroutine)
    assert await coroutine == 1
    assert await state.aresult() == 1
    assert await get_state_result(state) == 1
    assert state.result.__self__ is state  # type: ignore[attr-defined]
    with pytest.raises(FailedRun):
        await raise_state_exception(Failed())
    assert get_state_exception(Failed(data="x"), _sync=True).args == ("x",)
    assert await anyio.to_thread.run_sync(state.result) == 1


def entered(flow_is_async: bool | None, task_is_async: bool | None) -> Iterator[Any]:
    if flow_is_async is not None:
        yield FlowRunContext(flow=SimpleNamespace(isasync=flow_is_async))
    if task_is_async is not None:
        yield TaskRunContext(task=SimpleNamespace(isasync=task_is_async))


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("flow_is_async", "task_is_async", "coroutine"),
    [
        (False, None, False),
        (True, None, True),
        (True, False, False),
        (False, True, True),
        (None, False, False),
        (None, None, True),
    ],
)
async def test_the_run_decides_before_the_loop(
    flow_is_async: bool | None, task_is_async: bool | None, coroutine: bool
) -> None:
    from contextlib import ExitStack

    with ExitStack() as stack:
        for context in entered(flow_is_async, task_is_async):
            stack.enter_context(context)
        answer: Any = Completed(data=1).result()
        assert inspect.iscoroutine(answer) is coroutine
        assert (await answer if coroutine else answer) == 1


def test_an_async_run_gets_a_coroutine_without_a_loop() -> None:
    with FlowRunContext(flow=SimpleNamespace(isasync=True)):
        answer: Any = Completed(data=1).result()
    assert inspect.iscoroutine(answer)
    assert anyio.run(lambda: answer) == 1


def test_a_context_that_knows_no_definition_does_not_decide() -> None:
    with FlowRunContext(flow_run=None), TaskRunContext(task_run=None):
        assert Completed(data=1).result() == 1


def test_sync_decides_and_inside_another_dual_call_the_coroutine_is_returned() -> None:
    async def aouter(sync: bool | None) -> Any:
        return Completed(data=1).result() if sync is None else get_state_result(Completed(data=1), _sync=sync)

    outer: Any = dual(aouter)
    inner = outer(None)
    assert inspect.iscoroutine(inner)
    assert anyio.run(lambda: inner) == 1
    assert outer(True) == 1
    chosen = outer(False)
    assert anyio.run(lambda: chosen) == 1
    assert Completed(data=1).result() == 1  # the mark is gone
    assert (outer.__name__, outer.__qualname__.rpartition(".")[2]) == ("outer", "outer")


def test_the_mark_is_gone_after_an_error() -> None:
    with pytest.raises(FailedRun):
        Failed().result()
    assert Completed(data=1).result() == 1


def test_a_dual_call_that_would_wait_says_so() -> None:
    async def await_() -> None:
        await anyio.sleep(0)

    async def asuspends() -> None:
        class Suspends:
            def __await__(self) -> Iterator[None]:
                yield

        await Suspends()

    with pytest.raises(BlockingWaitError):
        dual(asuspends)()
    with pytest.raises(anyio.NoEventLoopError):
        dual(await_)()


def test_a_dual_call_that_may_wait_is_run_where_waiting_is_possible(monkeypatch: pytest.MonkeyPatch) -> None:
    async def asleeps(value: int) -> int:
        await anyio.sleep(0)
        return value

    module = SimpleNamespace(run_blocking=lambda coroutine: anyio.run(lambda: coroutine))
    monkeypatch.setitem(sys.modules, "callsheet._engine.invoke", module)  # type: ignore[arg-type]
    assert dual(asleeps, waits=True)(3) == 3


# ------------------------------------------------------------------------------- groups and outcomes


def test_what_is_a_state_and_what_is_an_iterable_of_states() -> None:
    assert is_state(Completed())
    assert not is_state(State)
    for good in ([Completed()], (Failed(), Failed()), {Completed()}):
        assert is_state_iterable(good)
    for bad in ([], (), set(), [Completed(), 1], {"a": Completed()}, Completed(), iter([Completed()]), "x", None):
        assert not is_state_iterable(bad)


def test_groups_count() -> None:
    group = StateGroup([Failed(), Crashed(), Running(), Paused()])
    assert (group.total_count, group.fail_count, group.final_count, group.not_final_count) == (4, 2, 2, 2)
    assert (group.paused_count, group.cancelled_count) == (1, 0)
    assert group.any_failed()
    assert group.any_paused()
    assert not (group.any_cancelled() or group.all_completed() or group.all_final())
    assert group.counts_message().startswith("total=4, not_final=2, 'FAILED'=1")
    assert StateGroup(iter([Completed()])).all_completed()
    assert StateGroup([Cancelled()]).any_cancelled()
    assert StateGroup([Cancelled()]).counts_message() == "total=1, 'CANCELLED'=1"


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("made", "kind", "message"),
    [
        ((Completed, Completed), "COMPLETED", "All states completed."),
        ((Completed, Cancelled, Paused), "CANCELLED", "1/3 states cancelled."),
        ((Failed, Paused, Running), "PAUSED", "1/3 states paused."),
        ((Failed, Crashed, Completed), "FAILED", "2/3 states failed."),
        ((Failed, Running, Pending), "FAILED", "1/3 states failed."),
        ((Completed, Running, Pending), "FAILED", "2/3 states are not final."),
    ],
)
@pytest.mark.parametrize("collect", [list, tuple, set])
async def test_states_decide_together(made: tuple[Any, ...], kind: str, message: str, collect: Any) -> None:
    value = collect([ran(make()) for make in made])
    state = await return_value_to_state(value)
    assert (state.type.value, state.message) == (kind, message)
    assert state.data is value


@pytest.mark.anyio
async def test_what_a_body_returns_becomes_a_state() -> None:
    for mine in (Pending(), Failed(data="x"), Cancelled(), Paused(), Completed(data=1)):
        assert await return_value_to_state(mine) is mine
    theirs = ran(Completed(data=1))
    outcome = await return_value_to_state(theirs)
    assert (outcome.message, outcome.data) == ("All states completed.", theirs)
    assert (await return_value_to_state(ran(Failed(data="x")))).is_failed()
    for plain in ((None, Failed()), (Failed(), 1), {"a": Failed()}, [], None, quote(Failed()), 3):
        state = await return_value_to_state(plain)
        assert state.is_completed()
        assert state.data is plain
    assert (await return_value_to_state(x for x in (1, 2))).data == [1, 2]


@pytest.mark.anyio
async def test_exceptions_become_failed_states() -> None:
    error = ValueError("xyz")
    state = await exception_to_failed_state(error, message="Task run encountered an exception")
    assert (state.message, state.data) == ("Task run encountered an exception ValueError: xyz", error)
    state = await exception_to_failed_state(error, message="Flow run encountered an exception: ", name="TimedOut")
    assert (state.message, state.name) == ("Flow run encountered an exception: ValueError: xyz", "TimedOut")
    try:
        raise error
    except ValueError:
        assert (await exception_to_failed_state()).data is error
    with pytest.raises(ValueError, match="No exception"):
        await exception_to_failed_state()


@pytest.mark.anyio
async def test_an_exception_without_a_text_is_described() -> None:
    class Unkind(Exception):
        def __str__(self) -> str:
            raise RuntimeError

    assert (await exception_to_failed_state(Unkind())).message == "Unkind: <no text: its __str__ failed>"


@pytest.mark.anyio
async def test_what_comes_from_outside_becomes_a_crash() -> None:
    cases = [
        (KeyboardInterrupt(), "Execution was aborted by a keyboard interrupt."),
        (SystemExit(3), "Execution was aborted by an exit of Python (code 3)."),
        (TerminationSignal(15), "Execution was aborted by a termination signal."),
        (ValueError("x"), "Execution was ended by an unexpected exception: ValueError: x"),
    ]
    for error, message in cases:
        state = await exception_to_crashed_state(error)
        assert (state.type, state.message, state.data) == (StateType.CRASHED, message, error)
    with anyio.CancelScope() as scope:
        scope.cancel()
        try:
            await anyio.lowlevel.checkpoint()
        except anyio.get_cancelled_exc_class() as error:
            state = crashed_state(error)
            in_thread = error
            raise
    cancelled = "Execution was cancelled by the runtime environment."
    assert state.message == cancelled
    with anyio.CancelScope(shield=True):
        assert (await anyio.to_thread.run_sync(crashed_state, in_thread)).message == cancelled


def test_a_cancellation_is_known_without_a_loop() -> None:
    import asyncio

    assert crashed_state(asyncio.CancelledError()).message == "Execution was cancelled by the runtime environment."


# ---------------------------------------------------------------------------------------------- runs


def at(seconds: float) -> datetime:
    return MOMENT + timedelta(seconds=seconds)


def test_a_run_follows_its_states() -> None:
    run = TaskRun(task_key="t")
    pending, running = Pending(timestamp=at(0)), Running(timestamp=at(1))
    run.set_state(pending)
    assert (run.state, run.state_id, run.state_type, run.state_name) == (pending, pending.id, pending.type, "Pending")
    assert run.start_time is None
    run.set_state(running)
    assert run.start_time == at(1)
    run.set_state(AwaitingRetry(scheduled_time=at(9), timestamp=at(3)))
    assert (run.next_scheduled_start_time, run.total_run_time) == (at(9), timedelta(seconds=2))
    run.set_state(Retrying(timestamp=at(9)))
    assert (run.start_time, run.next_scheduled_start_time, run.end_time) == (at(1), None, None)
    run.set_state(Completed(timestamp=at(10)))
    assert (run.end_time, run.total_run_time) == (at(10), timedelta(seconds=3))
    assert run.estimated_run_time == timedelta(seconds=3)
    run.set_state(Scheduled(timestamp=at(11)))
    assert run.end_time is None


def test_a_crash_before_running_has_no_end() -> None:
    run = FlowRun()
    run.set_state(Pending())
    run.set_state(Crashed())
    assert run.end_time is None
    assert run.total_run_time == timedelta(0)


def test_times_are_estimated_while_they_pass() -> None:
    run = TaskRun(task_key="t", expected_start_time=MOMENT)
    assert run.estimated_run_time == timedelta(0)
    assert run.estimated_start_time_delta > timedelta(days=1)
    run.set_state(Running(timestamp=at(5)))
    assert run.estimated_start_time_delta == timedelta(seconds=5)
    assert run.estimated_run_time > timedelta(days=1)
    assert TaskRun(task_key="t").estimated_start_time_delta == timedelta(0)
    never = TaskRun(task_key="t", expected_start_time=MOMENT, end_time=at(1))
    assert never.estimated_start_time_delta == timedelta(0)


def test_runs_do_not_share_what_can_be_changed() -> None:
    one, other = TaskRun(task_key="a"), TaskRun(task_key="a")
    one.tags.append("x")
    one.task_inputs["p"] = [TaskRunResult(id=uuid4()), Parameter(name="p"), Constant(type="int")]
    one.empirical_policy.retries = 3
    assert (other.tags, other.task_inputs, other.empirical_policy) == ([], {}, TaskRunPolicy())
    flow_run = FlowRun(parameters={"x": 1})
    flow_run.empirical_policy.pause_keys.add("k")
    assert FlowRun().empirical_policy == FlowRunPolicy()


def test_runs_are_made_of_what_is_given() -> None:
    run = TaskRun.model_construct(id="any", tags=["x"])
    assert (run.id, run.tags, run.task_key, run.state) == ("any", ["x"], None, None)
    assert objects.Flow.model_construct(id=1).name is None
    with pytest.raises(TypeError, match="nope"):
        FlowRun.model_construct(nope=1)


def test_runs_that_a_program_makes_have_names() -> None:
    assert FlowRun().name
    assert TaskRun(task_key="t").name


def test_runs_are_copied() -> None:
    run = FlowRun(name="a", tags=["x"])
    shallow, deep = run.model_copy(update={"name": "b"}), run.model_copy(deep=True)
    assert (shallow.name, shallow.id, shallow.tags is run.tags) == ("b", run.id, True)
    assert deep == run
    assert deep.tags is not run.tags


def test_inputs_say_what_they_are() -> None:
    run_id = uuid4()
    assert TaskRunResult(id=run_id) == TaskRunResult(id=run_id)
    assert len({TaskRunResult(id=run_id), Parameter(name="a"), Constant(type="a")}) == 3
    kinds = [TaskRunResult(id=run_id).input_type, Parameter(name="a").input_type, Constant(type="a").input_type]
    assert kinds == ["task_run", "parameter", "constant"]


def test_the_other_objects_can_be_made() -> None:
    assert Flow(name="f").model_copy().name == "f"
    assert Log(name="n", level=20, message="m", timestamp=MOMENT).task_run_id is None
    assert FlowRunInput(flow_run_id=uuid4(), key="k", value="1").sender is None


def test_public_names_exist() -> None:
    from callsheet.client import schemas

    for module in (states, objects, schemas):
        for name in module.__all__:
            assert getattr(module, name) is not None
    assert schemas.State is objects.State is states.State


# ------------------------------------------------------------------------------------- in models


def test_models_of_programs_have_states_and_runs_as_fields() -> None:
    class Report(pydantic.BaseModel):
        state: State[int]
        states: list[State[Any]] = []
        run: objects.FlowRun | None = None
        task_run: objects.TaskRun | None = None

    state = states.Completed(data=1)
    report = Report(state=state, states=[state], run=objects.FlowRun(flow_id=uuid4(), name="quiet-otter"))
    assert report.state is state
    assert report.states == [state]
    assert report.model_copy(deep=True) == report
    with pytest.raises(pydantic.ValidationError, match="instance of State"):
        Report(state="Completed")
