"""Lines of the console, beside structlog's."""

from __future__ import annotations

import enum
import logging
import subprocess
import sys
import time

import pytest
import structlog
from hypothesis import example, given
from hypothesis import strategies as st

from callsheet.logging import console
from callsheet.logging.console import ConsoleFormatter

FORMATTERS = {colors: ConsoleFormatter(colors=colors) for colors in (False, True)}
STRUCTLOGS = {colors: console._structlogs(colors=colors) for colors in (False, True)}


class Till(enum.StrEnum):
    FIRST = "first"
    SPACED = "the first"


class Loud(str):
    __slots__ = ()

    def __repr__(self):
        return "LOUD"


class Spaced:
    def __repr__(self):
        return "ends in spaces   "


names = st.one_of(
    st.sampled_from([
        "flow_run_id", "flow_run_name", "flow_name", "task_run_id", "task_run_name", "task_name", "flow_run", "task_run",
        "shop", "event", "level", "timestamp", "logger", "logger_name", "stack", "exception", "_record", "_logger", "_name",
        "_from_structlog", "positional_args", "message", "asctime", "Shop", "ä", "",
    ]),
    st.text(max_size=8).filter(lambda name: name not in console._STANDARD),
)  # fmt: skip
values = st.one_of(
    st.text(max_size=40),
    st.text(alphabet=" \t\r\n\"'=ab", max_size=6),
    st.sampled_from(["<unknown>", Till.FIRST, Till.SPACED, Loud("x"), Loud("x y"), Spaced(), None, b"x ", (1, "a b")]),
    st.integers(),
    st.floats(),
    st.dictionaries(st.text(max_size=3), st.integers(), max_size=2),
)
texts = st.one_of(
    st.text(max_size=60), st.sampled_from(["", "short", "two\nlines", "x" * 30, "y" * 31, "ends in spaces   "])
)
messages = st.one_of(
    st.tuples(texts.map(lambda text: text.replace("%", "%%")), st.just(())),
    st.tuples(st.sampled_from(["%s and %r", "%s=%s   "]), st.tuples(values, values)),
    st.tuples(st.sampled_from(["%(a)s"]), st.fixed_dictionaries({"a": values}).map(lambda one: (one,))),
    st.tuples(st.one_of(st.none(), st.integers(), st.dictionaries(texts, values, max_size=2)), st.just(())),
)
levels = st.one_of(st.sampled_from([0, 10, 20, 30, 40, 50]), st.integers(-5, 60))
level_names = st.one_of(
    st.none(), st.sampled_from(["WARN", "exception", "NOTSET", "Level 15", "a level of many letters", "ß"])
)


def failure():
    try:
        raise ValueError("in\nlines")
    except ValueError:
        return sys.exc_info()


odd = st.sampled_from([{}, {}, {}, {"exc_info": failure()}, {"exc_info": (None, None, None)}, {"exc_text": "kept"},
                       {"stack_info": "Stack:\n  here"}])  # fmt: skip


@given(
    name=texts,
    level=levels,
    level_name=level_names,
    message=messages,
    extra=st.dictionaries(names, values, max_size=6),
    odd=odd,
    created=st.floats(-2, 4e9),
)
@example(name="", level=20, level_name=None, message=("m", ()), extra={}, odd={}, created=-0.25)
def test_a_line_is_the_one_that_structlog_would_give(name, level, level_name, message, extra, odd, created):
    record = logging.LogRecord(name, level, "file.py", 7, *message, None)
    record.created, record.msecs = created, created % 1 * 1000
    if level_name is not None:
        record.levelname = level_name
    record.__dict__.update(odd)
    record.__dict__.update(extra)
    before = dict(record.__dict__)
    for colors in (False, True):
        assert given_by(FORMATTERS[colors], record) == given_by(STRUCTLOGS[colors], record)
        assert record.__dict__ == before


def given_by(formatter, record):
    try:
        return formatter.format(record)
    except Exception as error:  # what a handler reports
        return type(error)


def line(record):
    lines = {colors: FORMATTERS[colors].format(record) for colors in (False, True)}
    assert lines == {colors: STRUCTLOGS[colors].format(record) for colors in (False, True)}
    return lines[False]


def plain(**fields):
    return logging.makeLogRecord({"msg": "hello", "levelname": "INFO", "levelno": 20, **fields})


def test_names_that_are_no_texts_are_left_to_structlog():
    record = plain()
    record.__dict__[1] = "one"
    assert given_by(FORMATTERS[False], record) is given_by(STRUCTLOGS[False], record) is TypeError


def test_a_record_of_which_something_is_missing_is_left_to_structlog():
    record = plain(shop="north")
    del record.processName, record.stack_info
    record.stack_info = None
    assert line(record).endswith("shop=north")


def test_events_of_structlog_are_rendered_by_structlog():
    record = plain(
        msg={"event": "sold", "apples": 3, "level": "info"}, _logger=logging.getLogger("callsheet.x"), _name="info"
    )
    assert line(record).endswith("apples=3")


def test_a_factory_of_the_programs_own_is_asked_as_before():
    class Record(logging.LogRecord):
        def getMessage(self):
            return "mine"

    def factory(*args, **kwargs):
        made = logging.LogRecord(*args, **kwargs)
        made.added = "by the program"
        return made

    early, before = plain(), logging.getLogRecordFactory()
    try:
        logging.setLogRecordFactory(factory)
        assert "added='by the program'" in line(early)
        logging.setLogRecordFactory(Record)
        assert line(early) == "mine"
    finally:
        logging.setLogRecordFactory(before)


def test_each_second_has_its_own_clock():
    for created in (0.0, 0.999, 1.0, 1e9, 1e9 + 0.5, 1e9 + 1, 0.0):
        clock = time.strftime("%H:%M:%S", time.localtime(created))
        assert line(plain(created=created, msecs=created % 1 * 1000)).startswith(f"{clock}.")


def test_many_shapes_are_not_kept_for_ever():
    formatter = ConsoleFormatter(colors=False)
    for number in range(1000):
        assert formatter.format(plain(**{f"field_{number}": number})).endswith(f"field_{number}={number}")
    assert len(formatter._shapes) <= console._SHAPES


@pytest.mark.parametrize("statement", ["logging.getLogger('callsheet').exception('bad')", "1"])
def test_structlog_is_imported_only_for_what_needs_it(statement):
    source = (
        "import logging, sys\nfrom callsheet.logging import get_logger\n"
        "get_logger('shop').warning('sold %d', 3, extra={'shop': 'north'})\n"
        f"try: 1 / 0\nexcept ZeroDivisionError: {statement}\nprint('structlog' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, timeout=60, check=True)
    assert done.stderr.splitlines()[0].split(maxsplit=1)[1] == "[warning  ] sold 3                         shop=north"
    assert done.stdout.split() == [str(statement != "1")]
    assert not structlog.is_configured()
