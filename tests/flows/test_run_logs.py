"""Logs of runs: what `get_run_logger` and `print` say in a run, who hears it, and what history keeps."""

from __future__ import annotations

import builtins
import logging
import threading
from pathlib import Path
from typing import Any

import anyio
import pytest

from callsheet import flow, get_run_logger, task
from callsheet._engine.ambient import ambient_core
from callsheet._model.kinds import Kind
from callsheet._model.records import LogFilter
from callsheet.context import FlowRunContext, TaskRunContext
from callsheet.exceptions import MissingContextError, ParameterTypeError
from callsheet.logging import disable_run_logger, get_logger
from callsheet.settings import temporary_settings
from past import runs
from store_helpers import run_now


def logs(**where: Any) -> list[Any]:
    """Give the log records in history, in order."""
    core = ambient_core()
    core.journal.flush()
    reader = core.store.blocking_reader()
    try:
        return list(run_now(reader.read_logs(LogFilter(**where), limit=1000)).items)
    finally:
        run_now(reader.aclose())


@pytest.fixture
def heard(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.INFO, "callsheet")
    return caplog


def lines(heard: pytest.LogCaptureFixture, name: str) -> list[str]:
    return [record.getMessage() for record in heard.records if record.name == f"callsheet.{name}"]


@task
def speak(text: str = "task") -> None:
    get_run_logger().info(text)


@task
async def aspeak(text: str = "atask") -> None:
    get_run_logger().info(text)


# ---------------------------------------------------------------------------------------------- loggers


@pytest.mark.anyio
async def test_records_carry_the_run(heard: pytest.LogCaptureFixture) -> None:
    @flow(flow_run_name="the-run")
    async def outer() -> Any:
        get_run_logger(shop="north").warning("flow")
        speak.with_options(task_run_name="the-task")()
        await aspeak()
        speak.submit("submitted").wait()
        context = FlowRunContext.get()
        assert context is not None
        return context.flow_run.id

    flow_run_id = await outer()
    flow_records = [r for r in heard.records if r.name == "callsheet.flow_runs"]
    task_records = [r for r in heard.records if r.name == "callsheet.task_runs"]
    (flow_record,) = [vars(record) for record in flow_records]
    assert (flow_record["flow_run_id"], flow_record["flow_run_name"], flow_record["flow_name"]) == (
        str(flow_run_id),
        "the-run",
        "outer",
    )
    assert flow_record["shop"] == "north"
    found = [vars(record) for record in task_records]
    assert [record["msg"] for record in found] == ["task", "atask", "submitted"]
    assert {(record["flow_run_id"], record["flow_name"]) for record in found} == {(str(flow_run_id), "outer")}
    assert found[0]["task_run_name"] == "the-task"
    assert [record["task_name"] for record in found] == ["speak", "aspeak", "speak"]
    assert len({record["task_run_id"] for record in found}) == 3


def test_a_task_outside_of_flows(heard: pytest.LogCaptureFixture) -> None:
    speak()
    (record,) = heard.records
    assert record.__dict__["flow_run_id"] is None
    (kept,) = logs()
    assert (kept.flow_run_id, str(kept.task_run_id)) == (None, record.__dict__["task_run_id"])


def test_outside_of_runs_and_after_them_there_is_no_run_logger() -> None:
    @flow
    def run() -> None:
        get_run_logger()

    run()
    with pytest.raises(MissingContextError, match="no active flow or task run context"):
        get_run_logger()


def test_an_explicit_context_inside_a_task(heard: pytest.LogCaptureFixture) -> None:
    @task
    def work(context: Any) -> None:
        get_run_logger(context).info("inside")

    @flow
    def outer() -> None:
        get_run_logger(FlowRunContext.get()).info("flow's")
        work(FlowRunContext.get())
        with pytest.raises(TypeError, match="Received unexpected type 'str' for context"):
            get_run_logger("no")

    outer()
    assert (lines(heard, "flow_runs"), lines(heard, "task_runs")) == (["flow's"], ["inside"])


def test_disabled_run_loggers_are_silent_in_runs_too(heard: pytest.LogCaptureFixture) -> None:
    @flow
    def outer() -> None:
        get_run_logger().info("flow")
        speak()

    with disable_run_logger():
        outer()
    assert heard.records == []
    assert logs() == []


# --------------------------------------------------------------------------------------- failures


@pytest.mark.anyio
async def test_failures_are_logged_once_with_their_traceback(heard: pytest.LogCaptureFixture) -> None:
    @task
    async def fails() -> None:
        raise ValueError("spilled milk")

    @flow
    async def outer() -> None:
        await fails()

    with pytest.raises(ValueError, match="spilled milk"):
        await outer()
    errors = [record for record in heard.records if record.levelno == logging.ERROR]
    assert [record.name for record in errors] == ["callsheet.task_runs", "callsheet.flow_runs"]
    for record in errors:
        assert record.exc_info is not None
        assert "spilled milk" in record.getMessage()
        told = logging.Formatter().formatException(record.exc_info).splitlines()
        assert __file__ in told[1], "it begins in the user's code"
        assert 'raise ValueError("spilled milk")' in told[-2]


def test_retries_are_told(heard: pytest.LogCaptureFixture) -> None:
    @task(retries=1)
    def fails() -> None:
        raise ValueError("milk")

    fails(return_state=True)
    told = lines(heard, "task_runs")
    assert len(told) == 2
    assert "trying again" in told[0]
    assert "milk" in told[0]


@task(retries=1)
async def forgets() -> None:
    context = TaskRunContext.get()
    assert context is not None
    if context.task_run.run_count == 1:
        raise ValueError("keys")


@flow(name="morning")
async def leaves_home() -> None:
    await forgets()


AGAIN = "Attempt 1 failed (Task run encountered an exception ValueError: keys); trying again."


@pytest.mark.anyio
async def test_the_line_of_a_retry_is_a_record_like_any_other(heard: pytest.LogCaptureFixture) -> None:
    state = await leaves_home(return_state=True)
    (record,) = [record for record in heard.records if record.name == "callsheet.task_runs"]
    (kept,) = [one for one in logs() if one.logger == "callsheet.task_runs"]
    assert record.getMessage() == kept.message == AGAIN
    assert (record.levelno, record.exc_info, record.stack_info) == (logging.INFO, None, None)
    assert (record.flow_name, record.task_name) == ("morning", "forgets")
    assert record.flow_run_id == str(state.state_details.flow_run_id) == str(kept.flow_run_id)
    assert record.task_run_id == str(kept.task_run_id)
    assert record.task_run_name.startswith("forgets-")
    path, line = Path(record.pathname), record.lineno
    assert record.msg in path.read_text().splitlines()[line - 1]
    assert f"def {record.funcName}(" in path.read_text()


@pytest.mark.anyio
async def test_the_line_of_a_retry_is_made_as_the_program_wants(heard: pytest.LogCaptureFixture) -> None:
    def factory(*args: Any, **kwargs: Any) -> logging.LogRecord:
        record = before(*args, **kwargs)
        record.made_by = "the program"
        return record

    def muted(record: logging.LogRecord) -> bool:
        return not record.getMessage().startswith("Attempt")

    logger, before = logging.getLogger("callsheet.task_runs"), logging.getLogRecordFactory()
    logging.setLogRecordFactory(factory)
    try:
        await leaves_home()
        logger.addFilter(muted)
        await leaves_home()
    finally:
        logging.setLogRecordFactory(before)
        logger.removeFilter(muted)
    (record,) = [record for record in heard.records if record.name == logger.name]
    assert record.made_by == "the program"


@pytest.mark.anyio
async def test_a_logger_of_the_programs_class_says_the_line_itself(
    heard: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Louder(logging.Logger):
        def handle(self, record: logging.LogRecord) -> None:
            record.msg += "!"
            super().handle(record)

    monkeypatch.setattr(logging.getLogger("callsheet.task_runs"), "__class__", Louder)
    await leaves_home()
    assert lines(heard, "task_runs") == [f"{AGAIN}!"]
    assert Path(heard.records[-1].pathname).parent.name == "_engine"


@pytest.mark.anyio
async def test_nobody_hears_the_line_of_a_retry(heard: pytest.LogCaptureFixture) -> None:
    with disable_run_logger():
        await leaves_home()
    heard.set_level(logging.WARNING, "callsheet")
    await leaves_home()
    assert not heard.records
    assert not logs()


# ------------------------------------------------------------------------------------------- history


@pytest.mark.anyio
async def test_history_keeps_what_runs_say_in_order(heard: pytest.LogCaptureFixture) -> None:
    @flow
    async def inner() -> None:
        get_run_logger().info("inner")

    @flow
    async def outer() -> None:
        get_run_logger().info("one %s", 1)
        speak("two")
        await aspeak("three")
        await inner()
        get_run_logger().error("four")

    await outer()
    kept = logs()
    assert [record.message for record in kept] == ["one 1", "two", "three", "inner", "four"]
    assert [record.level for record in kept] == [20, 20, 20, 20, 40]
    by_name = {run.definition.name: run.id for run in runs() if run.name != "inner"}  # which tracks the subflow
    assert [record.task_run_id for record in kept] == [None, by_name["speak"], by_name["aspeak"], None, None]
    assert {record.flow_run_id for record in logs(flow_run_ids=(by_name["outer"],))} == {by_name["outer"]}
    assert [record.message for record in logs(flow_run_ids=(by_name["inner"],))] == ["inner"]
    assert [record.message for record in logs(task_run_ids=(by_name["aspeak"],))] == ["three"]


def test_a_logger_that_is_used_on_a_plain_thread_writes_into_its_runs_history(heard: pytest.LogCaptureFixture) -> None:
    @flow
    def outer() -> None:
        logger = get_run_logger()
        thread = threading.Thread(target=lambda: logger.info("from a thread"))
        thread.start()
        thread.join()

    outer()
    (kept,) = logs()
    (run,) = runs()
    assert (kept.message, kept.flow_run_id) == ("from a thread", run.id)


def test_history_leaves_out_other_loggers_and_lower_levels(heard: pytest.LogCaptureFixture) -> None:
    @flow
    def outer() -> None:
        get_logger("mine").info("not a run's")
        get_run_logger().debug("too fine")
        get_run_logger().info("kept")

    outer()
    assert [record.message for record in logs()] == ["kept"]


def test_history_can_leave_logs_out(heard: pytest.LogCaptureFixture) -> None:
    with temporary_settings({"CALLSHEET_LOGGING_TO_DATABASE": False, "CALLSHEET_DATABASE": ":memory:"}):
        speak()
        assert logs() == []
    assert lines(heard, "task_runs") == ["task"]


# -------------------------------------------------------------------------------------------- prints


@task
def prints(text: str = "task") -> None:
    print(text)


@task
async def aprints(text: str = "atask") -> None:
    await anyio.sleep(0)
    print(text)


@flow
def inherits() -> None:
    print("subflow")
    prints()


@pytest.mark.anyio
async def test_prints_become_the_runs_logs_and_are_inherited(
    heard: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    @flow(log_prints=True)
    async def outer() -> None:
        print("flow", 1, sep="-")
        prints()
        await aprints()
        prints.submit("submitted").wait()
        inherits()

    original = builtins.print
    await outer()
    assert builtins.print is original
    assert lines(heard, "flow_runs") == ["flow-1", "subflow"]
    assert lines(heard, "task_runs") == ["task", "atask", "submitted", "task"]
    assert capsys.readouterr().out == ""
    assert [record.message for record in logs()] == ["flow-1", "task", "atask", "submitted", "subflow", "task"]


@pytest.mark.anyio
async def test_an_explicit_false_beats_a_parent(
    heard: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    @flow(log_prints=True)
    async def outer() -> None:
        prints.with_options(log_prints=False)("printed")
        await aprints.with_options(log_prints=False)("aprinted")
        inherits.with_options(log_prints=False)()
        print("logged")

    await outer()
    assert capsys.readouterr().out.split() == ["printed", "aprinted", "subflow", "task"]
    assert lines(heard, "flow_runs") == ["logged"]


@pytest.mark.anyio
async def test_an_explicit_true_below_a_run_that_prints(
    heard: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    @flow
    async def outer() -> None:
        print("before")
        prints.with_options(log_prints=True)("logged")
        await aprints.with_options(log_prints=True)("alogged")
        print("after")

    await outer()
    assert capsys.readouterr().out.split() == ["before", "after"]
    assert lines(heard, "task_runs") == ["logged", "alogged"]


@pytest.mark.parametrize(("setting", "printed"), [(True, ""), (False, "task\n")])
def test_the_setting_decides_where_nobody_says_anything(
    setting: bool, printed: str, heard: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    with temporary_settings({"CALLSHEET_LOGGING_LOG_PRINTS": setting, "CALLSHEET_DATABASE": ":memory:"}):
        prints()
    assert capsys.readouterr().out == printed


def test_the_setting_counts_for_runs_of_an_engine_that_was_open_before(capsys: pytest.CaptureFixture[str]) -> None:
    prints()
    with temporary_settings({"CALLSHEET_LOGGING_LOG_PRINTS": True}):
        prints()
        task(prints.fn)()  # by itself
    prints()
    assert capsys.readouterr().out == "task\ntask\n"


@pytest.mark.anyio
async def test_only_the_body_is_patched(heard: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]) -> None:
    """While a run that logs its prints waits, the code around it prints."""
    inside, may_end = anyio.Event(), anyio.Event()

    @flow(log_prints=True)
    async def waits() -> None:
        print("logged")
        inside.set()
        await may_end.wait()
        print("logged too")

    async with anyio.create_task_group() as group:
        group.start_soon(waits)
        await inside.wait()
        print("printed")
        await aprints("printed too")
        may_end.set()
    assert capsys.readouterr().out == "printed\nprinted too\n"
    assert lines(heard, "flow_runs") == ["logged", "logged too"]


def test_prints_are_restored_after_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    original = builtins.print

    @task(log_prints=True)
    def fails() -> None:
        raise ValueError

    fails(return_state=True)
    assert builtins.print is original
    assert TaskRunContext.get() is None
    print("as ever")
    assert capsys.readouterr().out == "as ever\n"


@pytest.mark.anyio
async def test_generators_log_what_they_print(
    heard: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    @flow(log_prints=True)
    def count() -> Any:
        for i in range(2):
            print("step", i)
            yield i

    @task(log_prints=True)
    async def acount() -> Any:
        for i in range(2):
            print("astep", i)
            yield i

    for i in count():
        print("caller", i)
    async for i in acount():
        print("acaller", i)
    assert capsys.readouterr().out == "caller 0\ncaller 1\nacaller 0\nacaller 1\n"
    assert lines(heard, "flow_runs") == ["step 0", "step 1"]
    assert lines(heard, "task_runs") == ["astep 0", "astep 1"]


# ------------------------------------------------------------------------------- handlers that raise


class Broken(logging.Handler):
    """What programs write: a handler without a thought of errors."""

    def emit(self, record: logging.LogRecord) -> None:
        raise OSError("the log server is gone")


@pytest.fixture(params=["callsheet", ""])
def broken(request: pytest.FixtureRequest) -> Any:
    logger = logging.getLogger(request.param)
    handler = Broken()
    logger.addHandler(handler)
    yield handler
    logger.removeHandler(handler)


def test_handlers_that_raise_change_nothing_of_what_becomes_of_runs(broken: Broken, capfd: Any) -> None:
    error, tried, called = ValueError("theirs"), [], []

    @task(retries=1)
    def fails() -> None:
        tried.append(1)
        raise error

    @flow(on_failure=[lambda *_: called.append("failure")], retries=1)
    def around() -> None:
        fails()

    with pytest.raises(ValueError, match="theirs") as caught:
        around()
    assert caught.value is error
    assert (len(tried), called) == (4, ["failure"])
    assert "the log server is gone" in capfd.readouterr().err
    assert [run.state.name for run in runs(kind=Kind.FLOW) if run.state] == ["Failed"]


def test_a_handler_that_raises_is_heard_by_the_body_that_logs(broken: Broken) -> None:
    @flow
    def speaks() -> None:
        get_run_logger().info("hello")

    with pytest.raises(OSError, match="the log server is gone"):
        speaks()


def test_parameters_that_do_not_fit_are_told_although_a_handler_raises(broken: Broken) -> None:
    @flow
    def strict(x: int) -> None: ...

    with pytest.raises(ParameterTypeError):
        strict("one")  # type: ignore[arg-type]
