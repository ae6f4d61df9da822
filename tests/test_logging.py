from __future__ import annotations

import asyncio
import builtins
import io
import json
import logging
import logging.config
import os
import pickle
import subprocess
import sys
import threading
from contextlib import contextmanager
from types import SimpleNamespace
from uuid import UUID, uuid4

import pytest

import callsheet.logging
import warm
from callsheet.context import FlowRunContext, TagsContext, TaskRunContext, current_run
from callsheet.exceptions import MissingContextError
from callsheet.logging import (
    LogAdapter,
    LogEavesdropper,
    disable_logger,
    disable_run_logger,
    flow_run_logger,
    get_logger,
    get_run_logger,
    loggers,
    patch_print,
    print_as_log,
    setup,
    task_run_logger,
)
from callsheet.logging.handlers import ConsoleHandler, HistoryHandler, RunId

FLOW_ID, TASK_ID = UUID(int=1), UUID(int=2)
FLOW = SimpleNamespace(name="my-flow")
TASK = SimpleNamespace(name="my-task")
FLOW_RUN = SimpleNamespace(id=FLOW_ID, name="quiet-otter")
TASK_RUN = SimpleNamespace(id=TASK_ID, name="my-task-0", flow_run_id=FLOW_ID)


def flow_context(**fields):
    return FlowRunContext(**{"flow": FLOW, "flow_run": FLOW_RUN, "log_prints": False, **fields})


def task_context(**fields):
    return TaskRunContext(**{"task": TASK, "task_run": TASK_RUN, "log_prints": False, **fields})


@contextmanager
def running(sink, *, is_flow=True):
    """Be inside a run whose engine keeps log records in `sink`."""
    run = SimpleNamespace(core=SimpleNamespace(log_sink=sink), is_flow=is_flow, context=None, flow_actor=None)
    token = current_run.set(run)
    try:
        yield
    finally:
        current_run.reset(token)


@pytest.fixture
def kept():
    records = []
    with running(records.append):
        yield records


def fields(record):
    names = ("flow_run_id", "flow_run_name", "flow_name", "task_run_id", "task_run_name", "task_name")
    return {name: getattr(record, name) for name in names if hasattr(record, name)}


# ------------------------------------------------------------------------------------------------- loggers


def test_get_logger_adds_the_prefix_once():
    assert get_logger().name == get_logger("").name == get_logger("callsheet").name == "callsheet"
    assert get_logger("shop").name == get_logger("callsheet.shop").name == "callsheet.shop"
    assert get_logger("callsheets").name == "callsheet.callsheets"
    assert get_logger("shop") is logging.getLogger("callsheet.shop")


def test_outside_of_runs_there_is_no_run_logger():
    with pytest.raises(MissingContextError, match=r"^There is no active flow or task run context\.$"):
        get_run_logger()


@pytest.mark.parametrize("wrong", ["text", 1, TagsContext(), FlowRunContext])
def test_a_context_of_a_wrong_type_is_refused(wrong):
    with pytest.raises(TypeError) as caught, flow_context():
        get_run_logger(wrong)
    assert str(caught.value) == (
        f"Received unexpected type {type(wrong).__name__!r} for context. "
        "Expected one of 'None', 'FlowRunContext', or 'TaskRunContext'."
    )


def test_a_flow_runs_records_carry_its_names_and_more(caplog):
    with flow_context():
        logger = get_run_logger(shop="north")
    assert isinstance(logger, LogAdapter)
    assert isinstance(logger, logging.LoggerAdapter)
    assert logger.name == "callsheet.flow_runs"
    logger.info("hello %s", "you", extra={"till": 3, "shop": "south"})
    (record,) = caplog.records
    assert record.getMessage() == "hello you"
    assert fields(record) == {"flow_run_id": str(FLOW_ID), "flow_run_name": "quiet-otter", "flow_name": "my-flow"}
    assert (record.shop, record.till) == ("south", 3)
    assert record.funcName == "test_a_flow_runs_records_carry_its_names_and_more"


def test_a_task_runs_records_carry_the_flow_run_too(caplog):
    with flow_context(), task_context():
        get_run_logger().warning("in the task")
    (record,) = caplog.records
    assert record.name == "callsheet.task_runs"
    assert fields(record) == {
        "flow_run_id": str(FLOW_ID),
        "flow_run_name": "quiet-otter",
        "flow_name": "my-flow",
        "task_run_id": str(TASK_ID),
        "task_run_name": "my-task-0",
        "task_name": "my-task",
    }


def test_a_task_outside_of_flows(caplog):
    with task_context(task_run=SimpleNamespace(id=TASK_ID, name="alone", flow_run_id=None)):
        get_run_logger().warning("alone")
    found = fields(caplog.records[0])
    assert found["flow_run_id"] is None
    assert found["flow_run_name"] == found["flow_name"] == "<unknown>"


def test_contexts_given_replace_the_current_one_of_their_kind():
    other = flow_context(flow_run=SimpleNamespace(id=uuid4(), name="other"))
    assert get_run_logger(other).fields["flow_run_name"] == "other"
    with flow_context():
        assert get_run_logger(other).fields["flow_run_name"] == "other"
        logger = get_run_logger(task_context())
        assert (logger.name, logger.fields["flow_run_name"]) == ("callsheet.task_runs", "quiet-otter")
    with task_context():
        logger = get_run_logger(other)
        assert (logger.name, logger.fields["flow_run_name"]) == ("callsheet.task_runs", "other")


def test_contexts_without_their_definition():
    with FlowRunContext(flow_run=FLOW_RUN):
        assert get_run_logger().fields["flow_name"] == "<unknown>"
        with TaskRunContext(task_run=TASK_RUN):
            assert get_run_logger().fields["task_name"] == "<unknown>"


def test_loggers_of_runs_without_a_context():
    logger = task_run_logger(TASK_RUN, a=1)
    assert logger.fields["flow_run_id"] == str(FLOW_ID)
    assert (logger.fields["flow_run_name"], logger.fields["a"]) == ("<unknown>", 1)
    assert flow_run_logger(FLOW_RUN, FLOW, b=2).fields["b"] == 2


def test_children_keep_the_fields(caplog):
    child = flow_run_logger(FLOW_RUN).getChild("part", {"part": 1})
    child.error("from the child")
    (record,) = caplog.records
    assert (record.name, record.flow_run_id, record.part) == ("callsheet.flow_runs.part", str(FLOW_ID), 1)
    assert LogAdapter(get_logger("x")).getChild("y").fields == {}


def test_handlers_of_the_program_get_the_records():
    for name in ("callsheet.flow_runs", "callsheet.task_runs"):
        stream = io.StringIO()
        handler = logging.StreamHandler(stream)
        logging.getLogger(name).addHandler(handler)
        try:
            with flow_context():
                get_run_logger(task_context() if "task" in name else None).info("seen")
        finally:
            logging.getLogger(name).removeHandler(handler)
        assert stream.getvalue() == "seen\n"


def test_disabled_run_loggers_say_nothing(caplog):
    with disable_run_logger():
        logger = get_run_logger()
        assert logger.name == "null"
        logger.critical("nobody hears this")
        with flow_context():
            get_run_logger().critical("nor this")
    assert not caplog.records
    with pytest.raises(MissingContextError):
        get_run_logger()


def test_disable_logger_restores_what_was_before(caplog):
    with disable_logger("callsheet.shop"):
        with disable_logger("callsheet.shop"):
            pass
        get_logger("shop").critical("silent")
        with disable_logger("callsheet.flow_runs"), pytest.raises(MissingContextError):
            get_run_logger()  # only one of the two is disabled
    get_logger("shop").critical("loud")
    assert [record.message for record in caplog.records] == ["loud"]


def test_eavesdropping():
    with LogEavesdropper("callsheet.shop", level=logging.WARNING) as heard:
        get_logger("shop").info("too quiet")
        get_logger("shop").warning("one")
        get_logger("shop.till").error("two")
    get_logger("shop").warning("later")
    assert heard.text() == "[WARNING]: one\n[ERROR]: two"
    assert logging.getLogger("callsheet.shop").level == logging.NOTSET


# ------------------------------------------------------------------------------------------------- history


def test_records_of_runs_are_kept(kept):
    flow_run_logger(FLOW_RUN, FLOW).info("hello %d", 7)
    task_run_logger(TASK_RUN, TASK).warning("careful")
    first, second = kept
    assert (first.flow_run_id, first.task_run_id, first.level, first.logger, first.message) == (
        FLOW_ID,
        None,
        logging.INFO,
        "callsheet.flow_runs",
        "hello 7",
    )
    assert (second.flow_run_id, second.task_run_id, second.message) == (FLOW_ID, TASK_ID, "careful")
    assert first.at <= second.at
    assert abs(first.at / 1e6 - logging.LogRecord("", 0, "", 0, "", None, None).created) < 60


def test_any_record_with_a_runs_id_is_kept(kept):
    get_logger("shop").warning("sold", extra={"flow_run_id": FLOW_ID})
    get_logger("shop").warning("no run")
    get_logger("shop").warning("nonsense", extra={"task_run_id": "no-uuid"})
    flow_run_logger(FLOW_RUN).getChild("deep").warning("child")
    assert [(record.logger, record.message) for record in kept] == [
        ("callsheet.shop", "sold"),
        ("callsheet.flow_runs.deep", "child"),
    ]


def test_exceptions_are_kept_with_their_traceback(kept):
    try:
        1 / 0
    except ZeroDivisionError:
        flow_run_logger(FLOW_RUN).exception("failed")
    flow_run_logger(FLOW_RUN).error("nothing is being handled", exc_info=True)
    assert kept[0].message.startswith("failed\nTraceback (most recent call last):\n")
    assert kept[0].message.endswith("ZeroDivisionError: division by zero")
    assert kept[1].message == "nothing is being handled"


def test_a_logger_keeps_its_history_on_a_thread_that_knows_nothing(kept):
    logger = flow_run_logger(FLOW_RUN)
    thread = threading.Thread(target=logger.warning, args=("from afar",))
    thread.start()
    thread.join()
    assert [record.message for record in kept] == ["from afar"]


def test_filters_of_the_history_handler(kept):
    handler = HistoryHandler()
    handler.addFilter(lambda record: "secret" not in record.getMessage())
    if sys.version_info >= (3, 12):
        handler.addFilter(lambda record: logging.makeLogRecord({**record.__dict__, "msg": "replaced"}))
    for text in ("secret", "open"):
        handler.handle(logging.makeLogRecord({"msg": text, "flow_run_id": str(FLOW_ID)}))
    assert [record.message for record in kept] == ["replaced" if sys.version_info >= (3, 12) else "open"]


def test_a_record_can_say_that_it_is_not_for_the_history(kept, caplog):
    with caplog.at_level(logging.INFO):
        flow_run_logger(FLOW_RUN).info("secret", extra={"send_to_api": False})
        flow_run_logger(FLOW_RUN).info("open", extra={"send_to_api": True})
    assert [record.message for record in kept] == ["open"]
    assert [record.message for record in caplog.records] == ["secret", "open"]


def test_without_a_sink_nothing_happens():
    flow_run_logger(FLOW_RUN).warning("nowhere")
    with running(None):
        flow_run_logger(FLOW_RUN).warning("nowhere")


def test_a_sink_that_fails_or_logs_does_not_hurt(capsys):
    calls = []

    def sink(record):
        calls.append(record)
        flow_run_logger(FLOW_RUN).error("about a log record")  # must not come back here
        raise RuntimeError("history is gone")

    with running(sink):
        flow_run_logger(FLOW_RUN).warning("one")
        flow_run_logger(FLOW_RUN).warning("two")
    assert [record.message for record in calls] == ["one", "two"]
    assert "history is gone" not in capsys.readouterr().err


def test_arguments_that_do_not_fit_are_kept_as_they_are(kept):
    handler = HistoryHandler()
    record = logging.LogRecord("callsheet.flow_runs", logging.INFO, "f", 1, "%d apples", ("no",), None)
    record.flow_run_id = str(FLOW_ID)
    handler.handle(record)
    assert kept[0].message == "%d apples ('no',)"


def test_records_can_travel():
    with running(print):
        logger = flow_run_logger(FLOW_RUN)
    run_id = logger.fields["flow_run_id"]
    assert isinstance(run_id, RunId)
    copied = pickle.loads(pickle.dumps(run_id))
    assert type(copied) is str
    assert copied == run_id == str(FLOW_ID)
    assert json.dumps(run_id) == json.dumps(str(FLOW_ID))


def test_the_history_comes_back_after_the_programs_configuration(kept):
    logger = logging.getLogger("callsheet")
    before = list(logger.handlers), logger.level
    try:
        logging.config.dictConfig(
            {
                "version": 1,
                "disable_existing_loggers": False,
                "handlers": {"null": {"class": "logging.NullHandler"}},
                "loggers": {"callsheet": {"level": "ERROR", "handlers": ["null"]}},
            }
        )
        flow_run_logger(FLOW_RUN).warning("below the program's level")
        flow_run_logger(FLOW_RUN).error("kept")
        assert [type(handler) for handler in logger.handlers] == [logging.NullHandler, HistoryHandler]
    finally:
        logger.handlers[:], logger.level = before
        logger.manager._clear_cache()
    assert [record.message for record in kept] == ["kept"]


# ------------------------------------------------------------------------------------------------- print


def test_prints_become_records_of_the_run(caplog, capsys):
    with flow_context(log_prints=True), patch_print():
        print("hello", "you", sep=", ")
        print("to the error stream", file=sys.stderr)
        print("progress", end="...")
        print()
    assert [record.getMessage() for record in caplog.records] == [
        "hello, you",
        "to the error stream",
        "progress...",
        "",
    ]
    assert {(record.name, record.levelname) for record in caplog.records} == {("callsheet.flow_runs", "INFO")}
    assert caplog.records[0].filename == "test_logging.py"
    assert capsys.readouterr().out == ""


def test_prints_into_files_stay_there(tmp_path):
    with flow_context(log_prints=True), patch_print(), (tmp_path / "file").open("w") as file:
        print("kept", file=file)
    assert (tmp_path / "file").read_text() == "kept\n"


def test_print_keeps_its_errors():
    with flow_context(log_prints=True), patch_print(), pytest.raises(TypeError):
        print("x", nonsense=1)


def test_the_innermost_run_decides(caplog, capsys):
    with patch_print(), flow_context(log_prints=True):
        with task_context(log_prints=False):
            print("task is silent")
        print("flow logs")
    with patch_print(), flow_context(log_prints=False), task_context(log_prints=True):
        print("task logs")
    with patch_print(), FlowRunContext(flow_run=FLOW_RUN):
        print("nobody said")
    assert [record.getMessage() for record in caplog.records] == ["flow logs", "task logs"]
    assert capsys.readouterr().out == "task is silent\nnobody said\n"


def test_print_is_restored():
    before = builtins.print
    with patch_print():
        assert builtins.print is print_as_log
        with pytest.raises(ValueError), patch_print():
            raise ValueError
        assert builtins.print is print_as_log
    assert builtins.print is before


def test_blocks_may_overlap_in_any_way():
    before = builtins.print
    first, second = patch_print(), patch_print()
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert builtins.print is print_as_log
    second.__exit__(None, None, None)
    assert builtins.print is before


def test_runs_on_threads_and_tasks_at_once_do_not_disturb_each_other(caplog, capsys):
    barrier = threading.Barrier(3, timeout=20)

    def run(name, *, logs):
        with flow_context(log_prints=logs), patch_print():
            barrier.wait()
            print(name)
            barrier.wait()

    def plain():
        barrier.wait()
        print("plain thread")
        barrier.wait()

    threads = [
        threading.Thread(target=run, args=("logged",), kwargs={"logs": True}),
        threading.Thread(target=run, args=("printed",), kwargs={"logs": False}),
        threading.Thread(target=plain),
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [record.getMessage() for record in caplog.records] == ["logged"]
    assert sorted(capsys.readouterr().out.split("\n")) == ["", "plain thread", "printed"]


def test_tasks_of_one_loop_do_not_disturb_each_other(caplog, capsys):
    async def run(name, logs, mine, other):
        with flow_context(log_prints=logs), patch_print():
            mine.set()
            await other.wait()
            print(name)

    async def main():
        one, two = asyncio.Event(), asyncio.Event()
        await asyncio.gather(run("logged", True, one, two), run("printed", False, two, one))

    asyncio.run(main())
    assert [record.getMessage() for record in caplog.records] == ["logged"]
    assert capsys.readouterr().out == "printed\n"


def test_a_handler_that_prints_does_not_go_round_in_circles(capsys):
    class Prints(logging.Handler):
        def emit(self, record):
            print("handler:", record.getMessage())

    handler = Prints()
    logging.getLogger("callsheet").addHandler(handler)
    try:
        with flow_context(log_prints=True), patch_print():
            print("once")
    finally:
        logging.getLogger("callsheet").removeHandler(handler)
    assert capsys.readouterr().out == "handler: once\n"


def test_somebody_elses_print_keeps_its_place(capsys, caplog):
    original = builtins.print
    try:
        with flow_context(log_prints=True):
            with patch_print():
                ours = builtins.print
                wrapper = builtins.print = lambda *args, **kwargs: ours("wrapped", *args, **kwargs)
            assert builtins.print is wrapper, "it was replaced inside the block, and stays"
            with patch_print():
                assert builtins.print is wrapper
                print("logged")
        print("printed")
        builtins.print = ours  # put back by somebody who had saved it inside
        print("still printed")
        with patch_print():
            print("and here")
        assert builtins.print is original
        with flow_context(log_prints=True), patch_print():
            print("logged again")
        assert builtins.print is original
    finally:
        builtins.print = original
    assert [record.getMessage() for record in caplog.records] == ["wrapped logged", "logged again"]
    assert capsys.readouterr().out == "wrapped printed\nstill printed\nand here\n"


def test_print_as_log_without_a_patch(capsys, caplog):
    print_as_log("outside", end="!\n")
    with flow_context(log_prints=True):
        print_as_log("inside")
    assert capsys.readouterr().out == "outside!\n"
    assert caplog.messages == ["inside"]


# ------------------------------------------------------------------------------------------------- console


def script(source, **environment):
    """Run a program of its own: pytest's handlers on the root logger would silence the console."""
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "NO_COLOR": "1", **environment}
    return warm.run(source, env=env, dev=True, timeout=60)


def cold_script(source):
    """Run a program that has to import what it needs itself."""
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "NO_COLOR": "1"}
    command = [sys.executable, "-W", "error", "-X", "dev", "-c", source]
    return subprocess.run(command, env=env, capture_output=True, text=True, timeout=60, check=True)


LOGS = """
import logging, sys
from types import SimpleNamespace as N
from callsheet.logging import flow_run_logger, get_logger
logger = flow_run_logger(N(id="00000000-0000-0000-0000-000000000001", name="quiet-otter"), N(name="f"), shop="north")
"""


def test_the_console_shows_a_line_where_the_program_has_no_handlers():
    done = script(LOGS + "logger.info('hello'); logger.debug('no'); get_logger('x').warning('plain')")
    hello, plain = done.stderr.splitlines()
    assert "[info" in hello
    assert "hello" in hello
    assert "flow_run=quiet-otter" in hello
    assert "shop=north" in hello
    assert "00000000" not in hello
    assert "plain" in plain
    assert "flow_run" not in plain
    assert done.stdout == ""


def test_tracebacks_show_no_local_variables():
    done = script(LOGS + "password = 'hunter' + '2'\ntry: 1/0\nexcept Exception: logger.exception('bad')")
    assert "ZeroDivisionError: division by zero" in done.stderr
    assert "hunter2" not in done.stderr


def test_structlog_keeps_its_configuration():
    done = script(
        LOGS + "try: 1 / 0\nexcept ZeroDivisionError: logger.exception('x')\n"
        "import structlog; print(structlog.is_configured(), 'rich.traceback' in sys.modules and 'x')"
    )
    assert done.stdout.startswith("False")


@pytest.mark.parametrize("when", ["before", "after"])
def test_handlers_of_the_program_replace_ours(when):
    configure = "import logging; logging.basicConfig(level='INFO', format='HOST %(message)s')\n"
    source = configure + LOGS if when == "before" else LOGS + configure
    done = script(source + "root = logging.getLogger(); before = (root.level, list(root.handlers))\n"
                  "logger.info('hello'); assert (root.level, root.handlers) == before")  # fmt: skip
    assert done.stderr == "HOST hello\n"


def test_a_handler_on_our_logger_replaces_ours():
    done = script(
        LOGS + "logging.getLogger('callsheet').addHandler(logging.StreamHandler(sys.stdout)); logger.info('hi')"
    )
    assert (done.stdout, done.stderr) == ("hi\n", "")


def test_the_root_logger_is_never_touched():
    done = script(
        LOGS
        + "logger.info('x')\nroot = logging.getLogger()\nprint(root.handlers, root.level, logging.lastResort.level)"
    )
    assert done.stdout == "[] 30 30\n"


def test_without_any_run_in_the_process():
    done = cold_script(
        "import sys\nfrom callsheet.exceptions import MissingContextError\n"
        "from callsheet.logging import get_run_logger, patch_print\n"
        "for context, expected in ((None, MissingContextError), ('text', TypeError)):\n"
        "    try: get_run_logger(context)\n"
        "    except expected as error: print(type(error).__name__)\n"
        "with patch_print(): print('plain')\n"
        "print('callsheet.context' in sys.modules, 'pydantic' in sys.modules, 'structlog' in sys.modules)"
    )
    assert done.stdout.split() == ["MissingContextError", "TypeError", "plain", "False", "False", "False"]


def test_the_first_line_of_a_process_is_one_like_the_others():
    """Also where it is none of a run's: the parameters of the first run do not fit."""
    done = cold_script("from callsheet import flow\n@flow\ndef f(x: int): ...\nf('a', return_state=True)")
    first = done.stderr.splitlines()[0]
    assert "[error    ] Parameter validation failed for flow 'f'" in first
    done = script(
        "import asyncio\nfrom callsheet import flow\n@flow\ndef f(): ...\n"
        "async def main(): f()\nasyncio.run(main())"
    )  # fmt: skip
    assert "waits meanwhile" in done.stderr


def test_the_level_comes_from_the_settings():
    source = LOGS + "logger.debug('fine'); logger.warning('coarse')"
    assert "fine" in script(source, CALLSHEET_LOGGING_LEVEL="debug").stderr
    assert script(source, CALLSHEET_LOGGING_LEVEL="ERROR").stderr == ""
    mine = "import logging; logging.getLogger('callsheet').setLevel('ERROR')\n"
    assert script(mine + source).stderr == ""


def test_the_program_can_opt_out():
    source = (
        LOGS + "logger.info('x'); print(logging.getLogger('callsheet').level, logging.getLogger('callsheet').handlers)"
    )
    done = script(source, CALLSHEET_LOGGING_CONFIGURE="0")
    assert done.stderr == ""
    assert done.stdout.startswith("0 [<HistoryHandler")


def test_colours_only_on_a_terminal(monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    for no_color, coloured in (("", True), ("1", False)):
        monkeypatch.setenv("NO_COLOR", no_color)
        terminal = Terminal()
        monkeypatch.setattr(sys, "stderr", terminal)
        monkeypatch.setattr(logging.root, "handlers", [])
        ConsoleHandler().handle(logging.makeLogRecord({"msg": "hi", "levelname": "INFO"}))
        assert ("\x1b[" in terminal.getvalue()) is coloured
        assert "hi" in terminal.getvalue()


def test_a_closed_or_missing_error_stream_is_no_error(monkeypatch):
    record = logging.makeLogRecord({"msg": "hi", "levelname": "INFO"})
    monkeypatch.setattr(logging.root, "handlers", [])
    monkeypatch.setattr(sys, "stderr", None)
    ConsoleHandler().handle(record)
    closed = io.StringIO()
    closed.close()
    monkeypatch.setattr(sys, "stderr", closed)
    handler = ConsoleHandler()
    handler.formatter = logging.Formatter()
    handler.handle(record)


def test_messages_that_do_not_fit_are_reported_as_by_any_handler(monkeypatch):
    monkeypatch.setattr(logging.root, "handlers", [])
    for message, arguments in (("%d", ("no",)), ("%d", (1, 2)), ("%", (1,))):
        stream = io.StringIO()
        monkeypatch.setattr(sys, "stderr", stream)
        ConsoleHandler().handle(logging.makeLogRecord({"msg": message, "args": arguments, "levelname": "INFO"}))
        assert "--- Logging error ---" in stream.getvalue()


def test_a_log_call_at_exit_says_nothing_of_ours():
    done = script(
        LOGS + "import atexit, threading\n"
        "atexit.register(logger.info, 'at exit')\n"
        "class G:\n    def __del__(self): logger.info('deleted')\n"
        "g = G(); g.self = g\n"
        "logger.info('main')"
    )
    assert "Traceback" not in done.stderr
    assert "at exit" in done.stderr


# ------------------------------------------------------------------------------------------------- the module


def test_public_names():
    for name in callsheet.logging.__all__:
        assert getattr(callsheet.logging, name) is getattr(loggers, name)


def test_set_up_once():
    setup.ensure()
    setup.ensure()
    handlers = logging.getLogger("callsheet").handlers
    assert [isinstance(handler, HistoryHandler) for handler in handlers].count(True) == 1
    assert [isinstance(handler, ConsoleHandler) for handler in handlers].count(True) == 1
