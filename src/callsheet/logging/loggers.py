"""Loggers that know which run they speak for."""

from __future__ import annotations

import logging
import sys
import traceback
from collections.abc import Callable, Generator, Mapping, MutableMapping
from contextlib import contextmanager, suppress
from types import ModuleType
from typing import TYPE_CHECKING, Any

from callsheet.exceptions import MissingContextError
from callsheet.logging.handlers import ROOT, LogEavesdropper, RunId, Sink, current_sink, logger_named
from callsheet.logging.prints import patch_print, print_as_log
from callsheet.logging.setup import ensure

__all__ = [
    "LogAdapter",
    "LogEavesdropper",
    "disable_logger",
    "disable_run_logger",
    "flow_run_logger",
    "get_logger",
    "get_run_logger",
    "patch_print",
    "print_as_log",
    "task_run_logger",
]

if TYPE_CHECKING:
    _Adapter = logging.LoggerAdapter[logging.Logger]
else:
    _Adapter = logging.LoggerAdapter

FLOW_RUNS = f"{ROOT}.flow_runs"
TASK_RUNS = f"{ROOT}.task_runs"
UNKNOWN = "<unknown>"


class LogAdapter(_Adapter):
    """A logger with fields that every record carries; a call's own `extra` comes on top.

    Example:
        >>> with LogEavesdropper("callsheet.example", level=logging.INFO) as heard:
        ...     LogAdapter(get_logger("example"), {"shop": 7}).info("open")
        >>> heard.text()
        '[INFO]: open'
    """

    def __init__(self, logger: logging.Logger, extra: Mapping[str, Any] | None = None) -> None:
        super().__init__(logger, dict(extra or {}))

    @property
    def fields(self) -> dict[str, Any]:
        """What every record carries."""
        return dict(self.extra or {})

    def process(self, msg: Any, kwargs: MutableMapping[str, Any]) -> tuple[Any, MutableMapping[str, Any]]:
        """Add the fields to a record that is about to be made.

        Args:
            msg: The message.
            kwargs: Keywords of the logging call; fields in its ``extra`` win.

        Returns:
            The message and the keywords.
        """
        kwargs["extra"] = {**(self.extra or {}), **(kwargs.get("extra") or {})}
        return msg, kwargs

    def getChild(  # noqa: N802 - the standard library's name
        self, suffix: str, extra: Mapping[str, Any] | None = None
    ) -> LogAdapter:
        """Give an adapter of a child logger, with the same fields and more.

        Args:
            suffix: The child's name below this logger's.
            extra: Further fields.
        """
        return LogAdapter(self.logger.getChild(suffix), {**self.fields, **(extra or {})})


class EngineAdapter(LogAdapter):
    """A logger for what the engine says: a handler that raises an error ends neither the run nor the engine.

    Handlers, filters and formatters are the program's. One that raises where the program's own code logs is heard
    there, as ever; what the engine says is said beside what it does.
    """

    def log(self, level: int, msg: Any, *args: Any, **kwargs: Any) -> None:
        """Hand a record on; what is raised meanwhile is told on standard error.

        Args:
            level: The record's level.
            msg: The message.
            *args: What it is filled in with.
            **kwargs: As for `logging.Logger.log`.
        """
        kwargs["stacklevel"] = kwargs.get("stacklevel", 1) + 1
        try:
            ensure()  # it may be the first line of all
            super().log(level, msg, *args, **kwargs)
        except Exception:
            _tell_of_broken_handler()


def _tell_of_broken_handler() -> None:
    """Tell what the logging of the program raised, where the standard library would."""
    if not logging.raiseExceptions or sys.stderr is None:  # pyright: ignore[reportUnnecessaryComparison]
        return
    with suppress(Exception):  # the stream may be closed
        traceback.print_exc(file=sys.stderr)


def get_logger(name: str | None = None) -> logging.Logger:
    """Give a logger below ``callsheet``.

    Args:
        name: Its name, with or without the prefix ``callsheet.``; `None` for the logger ``callsheet`` itself.

    Returns:
        The logger.

    Example:
        >>> get_logger("shop").name, get_logger("callsheet.shop").name, get_logger().name
        ('callsheet.shop', 'callsheet.shop', 'callsheet')
    """
    ensure()
    if not name or name == ROOT:
        return logging.getLogger(ROOT)
    return logging.getLogger(name if name.startswith(f"{ROOT}.") else f"{ROOT}.{name}")


def get_run_logger(context: Any = None, **kwargs: Any) -> LogAdapter | logging.Logger:
    """Give the logger of the current task run or flow run.

    Its name is ``callsheet.task_runs`` or ``callsheet.flow_runs``. Its records carry `flow_run_id`, `flow_run_name`
    and `flow_name`, in a task also `task_run_id`, `task_run_name` and `task_name`, and are kept in the history.

    Args:
        context: A flow-run or task-run context to use in place of the current one of its kind.
        **kwargs: More fields for every record.

    Returns:
        The logger. Outside of runs, while `disable_run_logger` holds: a logger that says nothing.

    Raises:
        MissingContextError: No run is active here.
        TypeError: `context` is something else.

    Example:
        >>> from callsheet import flow
        >>> @flow
        ... def greet() -> str:
        ...     logger = get_run_logger(shop="north")
        ...     logger.info("hello")
        ...     return logger.name
        >>> greet()
        'callsheet.flow_runs'
    """
    flow_context, task_context = _contexts(context)
    if task_context is not None:
        return task_run_logger(
            task_context.task_run,
            getattr(task_context, "task", None),
            flow_run=getattr(flow_context, "flow_run", None),
            flow=getattr(flow_context, "flow", None),
            **kwargs,
        )
    if flow_context is not None:
        return flow_run_logger(flow_context.flow_run, getattr(flow_context, "flow", None), **kwargs)
    if logging.getLogger(FLOW_RUNS).disabled and logging.getLogger(TASK_RUNS).disabled:
        silent = logging.getLogger("null")
        silent.disabled = True
        return silent
    raise MissingContextError("There is no active flow or task run context.")


def flow_run_logger(flow_run: Any, flow: Any = None, **kwargs: Any) -> LogAdapter:
    """Give the logger of a flow run.

    Args:
        flow_run: The flow run.
        flow: Its flow; without it `flow_name` is ``<unknown>``.
        **kwargs: More fields for every record.

    Returns:
        The logger, named ``callsheet.flow_runs``.
    """
    fields = flow_fields(flow_run.id, flow_run.name, getattr(flow, "name", UNKNOWN), current_sink())
    return run_logger(FLOW_RUNS, {**fields, **kwargs})


def task_run_logger(
    task_run: Any, task: Any = None, flow_run: Any = None, flow: Any = None, **kwargs: Any
) -> LogAdapter:
    """Give the logger of a task run.

    Args:
        task_run: The task run.
        task: Its task; without it `task_name` is ``<unknown>``.
        flow_run: The flow run that it belongs to; without it only the id is known, if there is one.
        flow: The flow of that run.
        **kwargs: More fields for every record.

    Returns:
        The logger, named ``callsheet.task_runs``.
    """
    fields = task_fields(
        task_run.id,
        task_run.name,
        getattr(task, "name", UNKNOWN),
        task_run.flow_run_id if flow_run is None else flow_run.id,
        getattr(flow_run, "name", UNKNOWN),
        getattr(flow, "name", UNKNOWN),
        current_sink(),
    )
    return run_logger(TASK_RUNS, {**fields, **kwargs})


@contextmanager
def disable_logger(name: str) -> Generator[None, None, None]:
    """Silence a logger inside a block.

    Args:
        name: The logger's full name.

    Yields:
        Nothing.

    Example:
        >>> with disable_logger("callsheet.shop"):
        ...     get_logger("shop").disabled
        True
    """
    logger = logging.getLogger(name)
    before = logger.disabled
    logger.disabled = True
    try:
        yield
    finally:
        logger.disabled = before


@contextmanager
def disable_run_logger() -> Generator[None, None, None]:
    """Silence the loggers of runs inside a block; `get_run_logger` then works outside of runs too.

    For unit tests that call a task's or a flow's plain function.

    Yields:
        Nothing.

    Example:
        >>> with disable_run_logger():
        ...     get_run_logger().name
        'null'
    """
    with disable_logger(FLOW_RUNS), disable_logger(TASK_RUNS):
        yield


def _contexts(given: Any) -> tuple[Any, Any]:
    """Give the flow-run and the task-run context that hold, the given one in place of the current one of its kind."""
    # Contexts stand above logging. Where their module was never imported, no run can be active.
    module: ModuleType | None = sys.modules.get("callsheet.context")
    if module is not None:
        flow_context, task_context = module.FlowRunContext.get(), module.TaskRunContext.get()
        if given is None:
            return flow_context, task_context
        if isinstance(given, module.FlowRunContext):
            return given, task_context
        if isinstance(given, module.TaskRunContext):
            return flow_context, given
    elif given is None:
        return None, None
    raise TypeError(
        f"Received unexpected type {type(given).__name__!r} for context. "
        "Expected one of 'None', 'FlowRunContext', or 'TaskRunContext'."
    )


# ------------------------------------------------------------------------------------------ for the engine


def flow_fields(run_id: object, name: str, flow_name: str, sink: Sink | None) -> dict[str, Any]:
    """Give what every record of a flow run carries."""
    return {"flow_run_id": RunId.of(run_id, sink), "flow_run_name": name, "flow_name": flow_name}


def task_fields(
    run_id: object,
    name: str,
    task_name: str,
    flow_run_id: object,
    flow_run_name: str,
    flow_name: str,
    sink: Sink | None,
) -> dict[str, Any]:
    """Give what every record of a task run carries."""
    return {
        "task_run_id": RunId.of(run_id, sink),
        "flow_run_id": None if flow_run_id is None else RunId.of(flow_run_id, sink),
        "task_run_name": name,
        "task_name": task_name,
        "flow_run_name": flow_run_name,
        "flow_name": flow_name,
    }


def run_logger(name: str, fields: Mapping[str, Any]) -> LogAdapter:
    """Give a logger of runs whose records carry these fields."""
    ensure()
    return LogAdapter(logger_named(name), fields)


def engine_log(name: str, fields: Mapping[str, Any] | None = None) -> EngineAdapter:
    """Give a logger for what the engine says, with the fields that its records carry where it is about a run."""
    return EngineAdapter(logger_named(name), fields)


def say(name: str, fields: Callable[[], dict[str, Any]], message: str, *args: object) -> None:
    """Log at INFO what the engine has to say of a run often: as the run's logger does, in less time.

    Nothing is made where nobody listens. Where the line comes from is known without walking up the stack.

    Args:
        name: The logger's name.
        fields: Gives what the record carries.
        message: The message.
        *args: What it is filled in with.
    """
    ensure()
    logger = logger_named(name)
    if not logger.isEnabledFor(logging.INFO):
        return
    if type(logger) is not logging.Logger:  # the program's class may do it in a way of its own
        EngineAdapter(logger, fields()).info(message, *args, stacklevel=2)
        return
    caller = sys._getframe(1)  # pyright: ignore[reportPrivateUsage]
    code = caller.f_code
    try:
        record = logger.makeRecord(
            name, logging.INFO, code.co_filename, caller.f_lineno, message, args, None, code.co_name
        )
        record.__dict__.update(fields())  # as `extra` does, which first compares each with the names that a record has
        logger.handle(record)
    except Exception:  # as `EngineAdapter.log`
        _tell_of_broken_handler()
