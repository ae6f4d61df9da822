"""What a record looks like on the console: as structlog renders it.

Structlog itself takes a tenth of a second to import and six times as long for a line as writing down what it would
give. So it is asked only where a record has more than a message and plain fields: an exception, a stack, structlog's
own event dictionary, or a name that structlog has a place of its own for. What is written here is checked against it
in the tests, on random records.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, MutableMapping
from functools import lru_cache
from typing import Any, NamedTuple

_STANDARD = frozenset(logging.LogRecord("name", 0, "pathname", 0, "msg", (), None).__dict__)
# Names that structlog puts elsewhere, or understands in another way.
_SPECIAL = frozenset(
    [
        "", "_from_structlog", "_logger", "_name", "_record", "event", "exception", "level", "logger", "logger_name",
        "stack", "timestamp",
    ]
)  # fmt: skip
_SHOWN_AS = {"flow_run_name": "flow_run", "task_run_name": "task_run"}
_NOT_SHOWN = frozenset({"flow_run_id", "task_run_id", "flow_name", "task_name"})
_UNKNOWN = "<unknown>"
_TO_BE_QUOTED = frozenset(" \t=\r\n\"'")

_RESET, _BRIGHT, _DIM = "\033[0m", "\033[1m", "\033[2m"
_RED, _GREEN, _YELLOW, _MAGENTA, _CYAN, _RED_BACK = (f"\033[{n}m" for n in (31, 32, 33, 35, 36, 41))
_LEVELS = {
    "critical": _RED,
    "error": _RED,
    "warning": _YELLOW,
    "info": _GREEN,
    "debug": _GREEN,
    "notset": _RED_BACK,
}
_LEVEL_WIDTH, _EVENT_WIDTH = 9, 30
_SHAPES = 256


class _Field(NamedTuple):
    name: str  # on the record
    before: str  # what is written before its value
    may_be_unknown: bool


class ConsoleFormatter(logging.Formatter):
    """Renders records for a terminal (`colors`) or a file.

    Example:
        >>> record = logging.LogRecord("shop", logging.INFO, "shop.py", 1, "sold %d", (3,), None)
        >>> ConsoleFormatter(colors=False).format(record)[12:]
        ' [info     ] sold 3'
    """

    def __init__(self, *, colors: bool) -> None:
        super().__init__()
        self._colors = colors
        self._rest: logging.Formatter | None = None  # structlog's, when it is first needed
        self._dim, self._bright, self._end = (_DIM, _BRIGHT, _RESET) if colors else ("", "", "")
        # By the names that a record has: the same few for all records of a program.
        self._shapes: dict[tuple[Any, ...], tuple[_Field, ...] | None] = {}
        self._second = (float("nan"), "")
        self._level = lru_cache(maxsize=64)(self._level_of)

    def format(self, record: logging.LogRecord) -> str:
        """Render a record as a line, without its end; with a traceback it is several."""
        fields = self._plain_fields(record)
        if fields is None:
            return self._by_structlog(record)
        end, values = self._end, record.__dict__
        clock = f"{self._dim}{self._clock(record.created)}.{int(record.msecs):03d}{end}"
        event = f"{self._bright}{str(record.getMessage()).ljust(_EVENT_WIDTH)}{end}"
        line = [f"{clock} {self._level(record.levelname)} {event}"]
        for name, before, may_be_unknown in fields:
            value = values[name]
            if not (may_be_unknown and value == _UNKNOWN):
                line += (before, _shown(value), end)
        return "".join(line).rstrip(" ")

    def _plain_fields(self, record: logging.LogRecord) -> tuple[_Field, ...] | None:
        """Give the fields of a record in the order in which they are shown; `None` where structlog has to do it."""
        if record.exc_info or record.stack_info or record.__class__ is not logging.LogRecord:
            return None
        if logging.getLogRecordFactory() is not logging.LogRecord:
            return None  # structlog makes a record of its own, to which the program's factory may add something
        names = tuple(record.__dict__)
        try:
            return self._shapes[names]
        except KeyError:
            if len(self._shapes) >= _SHAPES:
                self._shapes = {}
            found = self._shapes[names] = self._fields_of(names)
            return found

    def _fields_of(self, names: tuple[Any, ...]) -> tuple[_Field, ...] | None:
        key, value = (_CYAN, _MAGENTA) if self._colors else ("", "")
        found: dict[str, _Field] = {}
        for name in names:
            if name in _STANDARD or name in _NOT_SHOWN:
                continue
            if type(name) is not str or name in _SPECIAL:
                return None
            shown = _SHOWN_AS.get(name, name)
            if shown in found:
                return None
            found[shown] = _Field(name, f" {key}{shown}{self._end}={value}", name in _SHOWN_AS)
        return tuple(found[shown] for shown in sorted(found)) if _STANDARD.issubset(names) else None

    def _clock(self, created: float) -> str:
        second, text = self._second
        if second != created // 1:
            second, text = self._second = (created // 1, time.strftime("%H:%M:%S", time.localtime(created)))
        return text

    def _level_of(self, levelname: str) -> str:
        name = levelname.lower()
        name = {"warn": "warning", "exception": "error"}.get(name, name)
        style = f"{_LEVELS[name]}{_BRIGHT}" if self._colors and name in _LEVELS else ""
        return f"[{style}{name.ljust(_LEVEL_WIDTH)}{self._end}]"

    def _by_structlog(self, record: logging.LogRecord) -> str:
        if self._rest is None:
            self._rest = _structlogs(colors=self._colors)
        return self._rest.format(record)


def _shown(value: object) -> str:
    if isinstance(value, str) and _TO_BE_QUOTED.isdisjoint(value):
        return value
    return repr(value)


def _structlogs(*, colors: bool) -> logging.Formatter:
    from structlog import dev, stdlib  # a tenth of a second: only who needs it pays for it

    # Rich tracebacks print every local variable of the user, passwords too.
    renderer = dev.ConsoleRenderer(colors=colors, exception_formatter=dev.plain_traceback)
    return stdlib.ProcessorFormatter(
        foreign_pre_chain=[stdlib.add_log_level, stdlib.ExtraAdder(), _arrange],
        processors=[stdlib.ProcessorFormatter.remove_processors_meta, renderer],
    )


def _arrange(_: Any, __: str, event: MutableMapping[str, Any]) -> Mapping[str, Any]:
    """Put the time first and name the runs; their ids and definitions are for machines."""
    record: logging.LogRecord = event["_record"]
    clock = time.strftime("%H:%M:%S", time.localtime(record.created))
    arranged: dict[str, Any] = {"timestamp": f"{clock}.{int(record.msecs):03d}"}
    for name, value in event.items():
        if name not in _NOT_SHOWN and not (name in _SHOWN_AS and value == _UNKNOWN):
            arranged[_SHOWN_AS.get(name, name)] = value
    return arranged
