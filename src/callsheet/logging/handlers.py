"""Where log records go: to the console, into the history, or to who listens in."""

from __future__ import annotations

import logging
import os
import sys
import threading
from collections.abc import Callable
from functools import lru_cache
from types import TracebackType
from typing import Self, cast
from uuid import UUID

from msgspec import to_builtins

from callsheet._model.records import LogWritten
from callsheet.logging.console import ConsoleFormatter

ROOT = "callsheet"
Sink = Callable[[LogWritten], None]


class RunId(str):
    """A run's id as text, which also knows where that run's records are kept.

    A logger that was made in a run keeps writing into that run's history when it is used on a thread that knows
    nothing of the run.
    """

    __slots__ = ("id", "sink")
    id: UUID | None
    sink: Sink | None

    @classmethod
    def of(cls, run_id: object, sink: Sink | None) -> Self:
        """Make one of a run's id, which is usually no text yet; records of that run go to `sink`."""
        if isinstance(run_id, UUID):
            made = cls(to_builtins(run_id))  # a quarter of the price of `str`
            made.id = run_id
        else:
            made = cls(run_id)
            made.id = _as_uuid(made)
        made.sink = sink
        return made

    def __reduce__(self) -> tuple[type[str], tuple[str]]:
        return str, (str(self),)  # records travel through queues and sockets; what keeps them here does not


class HistoryHandler(logging.Handler):
    """Hands the records of runs to the history of the run that wrote them. Never blocks, never raises."""

    def __init__(self) -> None:
        super().__init__()
        self._thread = threading.local()
        self._formatter = logging.Formatter()

    def handle(self, record: logging.LogRecord) -> bool:
        """Take a record without the handler's lock: what is behind takes records from any thread at once."""
        passed = cast("bool | logging.LogRecord", self.filter(record))  # a record of its own from 3.12 on
        if passed:
            self.emit(passed if isinstance(passed, logging.LogRecord) else record)
        return bool(passed)

    def emit(self, record: logging.LogRecord) -> None:
        """Hand over a record that carries a run's id; while that is under way, what it logs itself is left out."""
        flow_run_id, task_run_id = getattr(record, "flow_run_id", None), getattr(record, "task_run_id", None)
        if (flow_run_id is None and task_run_id is None) or getattr(self._thread, "busy", False):
            return
        if not getattr(record, "send_to_api", True):  # said by whoever wrote it: for the program's own handlers only
            return
        self._thread.busy = True
        try:
            sink = _sink_of(task_run_id) or _sink_of(flow_run_id) or current_sink()
            written = None if sink is None else self._written(record, flow_run_id, task_run_id)
            if sink is not None and written is not None:
                sink(written)
        except Exception:  # a log call in a user's body is never what ends it
            pass
        finally:
            self._thread.busy = False

    def _written(self, record: logging.LogRecord, flow_run_id: object, task_run_id: object) -> LogWritten | None:
        flow_id, task_id = _uuid_of(flow_run_id), _uuid_of(task_run_id)
        if flow_id is None and task_id is None:
            return None
        return LogWritten(
            flow_run_id=flow_id,
            task_run_id=task_id,
            at=int(record.created * 1_000_000),
            level=record.levelno,
            logger=record.name,
            message=self._message(record),
        )

    def _message(self, record: logging.LogRecord) -> str:
        try:
            text = record.getMessage()
        except Exception:  # arguments that do not fit: other handlers complain, the history keeps what there is
            text = f"{record.msg} {record.args!r}"
        if record.exc_info and record.exc_info[0] is not None:
            text = f"{text}\n{self._formatter.formatException(record.exc_info)}"
        return text


class ConsoleHandler(logging.Handler):
    """Writes records to standard error, as structlog renders them, where the program has no handlers of its own.

    Whether it has is asked at each record: programs configure their logging before or after they import us.
    """

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record, unless the program's handlers do."""
        stream = sys.stderr
        if stream is None or _host_has_handlers():  # pyright: ignore[reportUnnecessaryComparison]
            return
        try:
            if self.formatter is None:
                self.formatter = ConsoleFormatter(colors=stream.isatty() and not os.environ.get("NO_COLOR"))
            stream.write(f"{self.format(record)}\n")
            stream.flush()
        except Exception as error:
            # Where the stream or the interpreter is closing there is nobody left to tell.
            if not (isinstance(error, (OSError, ImportError)) or stream.closed):
                self.handleError(record)


class LogEavesdropper(logging.Handler):
    """Listens to a logger inside a block and keeps what it said.

    Args:
        eavesdrop_on: The logger's name.
        level: The logger's level inside the block.

    Example:
        >>> with LogEavesdropper("callsheet.example", level=logging.INFO) as heard:
        ...     logging.getLogger("callsheet.example").info("hello")
        >>> heard.text()
        '[INFO]: hello'
    """

    def __init__(self, eavesdrop_on: str, level: int = logging.NOTSET) -> None:
        super().__init__(level=level)
        self.setFormatter(logging.Formatter("[%(levelname)s]: %(message)s"))  # nothing of where it ran: it may be shown
        self.eavesdrop_on = eavesdrop_on
        self._lines: list[str] = []
        self._level_before = logging.NOTSET

    def __enter__(self) -> Self:
        logger = logging.getLogger(self.eavesdrop_on)
        self._level_before = logger.level
        self._lines = []
        logger.setLevel(self.level)
        logger.addHandler(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        logger = logging.getLogger(self.eavesdrop_on)
        logger.removeHandler(self)
        logger.setLevel(self._level_before)

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a record's text."""
        self._lines.append(self.format(record))

    def text(self) -> str:
        """Give everything heard, a record a line."""
        return "\n".join(self._lines)


def logger_named(name: str) -> logging.Logger:
    """Give the logger that `logging.getLogger` gives, without its lock where it is there already."""
    found = logging.Logger.manager.loggerDict.get(name)
    return found if isinstance(found, logging.Logger) else logging.getLogger(name)


# ------------------------------------------------------------------------------------------------- history


def _sink_of(run_id: object) -> Sink | None:
    return run_id.sink if isinstance(run_id, RunId) else None


def _uuid_of(run_id: object) -> UUID | None:
    return run_id.id if isinstance(run_id, RunId) else _as_uuid(str(run_id))


def current_sink() -> Sink | None:
    """Give where the current run's records are kept, or `None` where they are not."""
    # Contexts stand above logging. Where their module was never imported, no run can be active.
    find: Callable[[], Sink | None] | None = getattr(sys.modules.get("callsheet.context"), "current_log_sink", None)
    return None if find is None else find()


@lru_cache(maxsize=1024)
def _as_uuid(text: str) -> UUID | None:
    try:
        return UUID(text)
    except ValueError:
        return None


# ------------------------------------------------------------------------------------------------- console


def _host_has_handlers() -> bool:
    if logging.root.handlers:
        return True
    for handler in logger_named(ROOT).handlers:  # noqa: SIM110 - a generator of its own for each record is dearer
        if not isinstance(handler, _OURS):
            return True
    return False


_OURS = (ConsoleHandler, HistoryHandler, LogEavesdropper)
