"""What is current: the run whose body is executing, the tags, and the engine.

One context variable holds the innermost run; the context objects that programs ask for are views of it.
They may also be entered by hand, which tests of users do.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar, Token
from datetime import datetime
from typing import TYPE_CHECKING, Any, ClassVar, Self

from callsheet._clock import utc_now
from callsheet.exceptions import MissingContextError

if TYPE_CHECKING:
    from callsheet._engine.run import Run
    from callsheet._model.records import LogWritten

__all__ = [
    "AsyncClientContext",
    "ContextModel",
    "EngineContext",
    "FlowRunContext",
    "SyncClientContext",
    "TagsContext",
    "TaskRunContext",
    "current_tags",
    "get_run_context",
    "hydrated_context",
    "serialize_context",
    "tags",
]

current_run: ContextVar[Run | None] = ContextVar("callsheet_run", default=None)
# The innermost transaction whose block runs in this very context; see `Transaction.get_active`.
current_transaction: ContextVar[Any] = ContextVar("callsheet_transaction", default=None)
_tags: ContextVar[frozenset[str]] = ContextVar("callsheet_tags", default=frozenset())


class ContextModel:
    """A context that can be entered once. `get()` gives the active one of its class, or `None`."""

    __var__: ClassVar[ContextVar[Any]]

    def __init__(self, **fields: Any) -> None:
        self._token: Token[Any] | None = None
        for name, value in fields.items():
            setattr(self, name, value)

    def __enter__(self) -> Self:
        if self._token is not None:
            raise RuntimeError("Context already entered. Context enter calls cannot be nested.")
        self._token = self.__var__.set(self)
        return self

    def __exit__(self, *_: object) -> None:
        if self._token is None:
            raise RuntimeError("Asymmetric use of context. Context exit called without an enter.")
        self.__var__.reset(self._token)
        self._token = None

    @classmethod
    def get(cls) -> Self | None:
        """Give the active context of this class, or `None`."""
        return cls.__var__.get(None)

    @classmethod
    def model_construct(cls, **fields: Any) -> Self:
        """Make a context from just the fields that are given."""
        return cls(**fields)

    def copy(self, *, update: Mapping[str, Any] | None = None) -> Self:
        """Give a copy that has not been entered.

        Args:
            update: Fields to replace, by name.
        """
        made = type(self).__new__(type(self))
        made.__dict__.update({**self.__dict__, **(update or {}), "_token": None})
        return made

    model_copy = copy


class _RunContext(ContextModel):
    start_time: datetime
    parameters: dict[str, Any]
    log_prints: bool
    persist_result: bool
    client: Any = None
    result_store: Any

    def __init__(self, *, run: Run | None = None, **fields: Any) -> None:
        super().__init__(**fields)
        if run is None and "start_time" not in fields:
            self.start_time = utc_now()
        self._run = run
        self._around: Run | None = None  # entered by hand: inside this run

    def __enter__(self) -> Self:
        self._around = current_run.get()
        return super().__enter__()

    def __getattr__(self, name: str) -> Any:
        # Asked only for what was not set by hand: the live run knows it.
        run = self.__dict__.get("_run")
        if run is None and name == "result_store":
            return None
        if run is None or name.startswith("__"):
            raise AttributeError(f"{type(self).__name__!r} has no {name!r}")
        return run.context_field(name)


def _flow_of(run: Run | None) -> Any:
    return None if run is None else run.flow_actor


class FlowRunContext(_RunContext):
    """The flow run whose body, or whose task's body, is executing.

    Attributes:
        flow: The flow.
        flow_run: The run, with its current state.
        parameters: The validated parameters.
        task_runner: The task runner of this run.
        start_time: When the body was started (UTC).
        log_prints: Whether `print` goes to the run's logger.
        persist_result: Whether the run keeps its result.
        result_store: Where it does.

    Example:
        >>> from callsheet import flow
        >>> @flow
        ... def where() -> str:
        ...     return FlowRunContext.get().flow.name
        >>> where()
        'where'
    """

    __var__: ClassVar[ContextVar[Any]] = ContextVar("callsheet_flow_run_context", default=None)
    flow: Any
    flow_run: Any
    task_runner: Any

    @classmethod
    def get(cls) -> Self | None:
        """Give the context of the innermost flow run, or `None` outside."""
        entered, run = cls.__var__.get(), current_run.get()
        flow = _flow_of(run)
        if entered is not None and (flow is None or flow is _flow_of(entered._around)):
            return entered
        return None if flow is None else flow.context  # a run that began inside what was entered by hand


class TaskRunContext(_RunContext):
    """The task run whose body is executing.

    Attributes:
        task: The task.
        task_run: The run, with its current state and attempt.
        parameters: The resolved parameters.
        start_time: When this attempt's body was started (UTC).
        log_prints: Whether `print` goes to the run's logger.
        persist_result: Whether the run keeps its result.
        result_store: Where it does.
        idempotency_token: The same in every attempt of this call, also after a crash, and in no other call. `None`
            outside of flow runs, and where nothing is kept.

    Example:
        >>> from callsheet import task
        >>> @task
        ... def attempt() -> int:
        ...     return TaskRunContext.get().task_run.run_count
        >>> attempt()
        1
    """

    __var__: ClassVar[ContextVar[Any]] = ContextVar("callsheet_task_run_context", default=None)
    task: Any
    task_run: Any
    idempotency_token: str | None

    @classmethod
    def get(cls) -> Self | None:
        """Give the context of the task run whose body is executing, or `None`."""
        entered, run = cls.__var__.get(), current_run.get()
        if entered is not None and run is entered._around:
            return entered
        return run.context if run is not None and not run.is_flow else None  # type: ignore[return-value]


class TagsContext(ContextModel):
    """The tags that runs made now are given.

    Attributes:
        current_tags: The union of all `tags` blocks around.
    """

    __var__: ClassVar[ContextVar[Any]] = ContextVar("callsheet_tags_context", default=None)
    current_tags: set[str]

    def __init__(self, current_tags: set[str] | None = None) -> None:
        super().__init__(current_tags=set(current_tags or ()))
        self._outer: Token[frozenset[str]] | None = None

    def __enter__(self) -> Self:
        super().__enter__()
        self._outer = _tags.set(frozenset(self.current_tags))
        return self

    def __exit__(self, *args: object) -> None:
        super().__exit__(*args)
        outer, self._outer = self._outer, None
        if outer is not None:
            _tags.reset(outer)

    @classmethod
    def get(cls) -> Self:
        """Give the current tags, which may be none."""
        entered = cls.__var__.get()
        return cls() if entered is None else entered


class EngineContext(ContextModel):
    """The explicit engine that runs started here use.

    Attributes:
        engine: The engine of the innermost `async with Engine(...)`.
    """

    __var__: ClassVar[ContextVar[Any]] = ContextVar("callsheet_engine_context", default=None)
    engine: Any


class AsyncClientContext(ContextModel):
    """A client that nested `get_client()` calls share."""

    __var__: ClassVar[ContextVar[Any]] = ContextVar("callsheet_async_client_context", default=None)
    client: Any
    httpx_settings: Any
    _httpx_settings: Any = None


class SyncClientContext(ContextModel):
    """A client that nested `get_client(sync_client=True)` calls share."""

    __var__: ClassVar[ContextVar[Any]] = ContextVar("callsheet_sync_client_context", default=None)
    client: Any
    httpx_settings: Any


@contextmanager
def tags(*new_tags: str) -> Generator[set[str], None, None]:
    """Add tags to the flow and task runs that are made inside the block.

    Args:
        new_tags: Tags, united with those of the blocks around.

    Yields:
        The tags that are current inside the block.

    Raises:
        TypeError: A tag is no text.

    Example:
        >>> with tags("a"):
        ...     with tags("b") as current:
        ...         sorted(current)
        ['a', 'b']
    """
    for tag in new_tags:
        if not isinstance(tag, str):  # pyright: ignore[reportUnnecessaryIsInstance] - as users may pass anything
            raise TypeError(f"Tags are strings; got {tag!r}.")
    current = _tags.get().union(new_tags)
    with TagsContext(current_tags=set(current)):
        yield set(current)


def current_tags() -> frozenset[str]:
    """Give the tags of all `tags` blocks around."""
    return _tags.get()


def get_run_context() -> FlowRunContext | TaskRunContext:
    """Give the context of the innermost run.

    Raises:
        MissingContextError: No run is active here.
    """
    context = TaskRunContext.get() or FlowRunContext.get()
    if context is None:
        raise MissingContextError("No run context available. You are not in a flow or task run context.")
    return context


def current_log_sink() -> Callable[[LogWritten], None] | None:
    """Give where the current run's log records are kept, or `None` where they are not."""
    run = current_run.get()
    return None if run is None else run.core.log_sink


def _description(context: _RunContext, definition: str, run: str) -> dict[str, Any]:
    names = (definition, run, "parameters", "log_prints", "persist_result", "start_time")
    found = {name: getattr(context, name) for name in names if hasattr(context, name)}
    if run in found:
        found[run] = found[run].model_copy()  # as it is now: the run goes on
    return found


def serialize_context() -> dict[str, Any]:
    """Describe the current contexts, for `hydrated_context` in another place.

    Returns:
        The descriptions, by ``flow_run_context``, ``task_run_context`` and ``tags_context``. They hold the flow and the
        task themselves, which cloudpickle can pickle.

    Example:
        >>> from callsheet import tags
        >>> with tags("nightly"):
        ...     serialize_context()["tags_context"]
        {'current_tags': ['nightly']}
    """
    flow_context, task_context = FlowRunContext.get(), TaskRunContext.get()
    described: dict[str, Any] = {"tags_context": {"current_tags": sorted(_tags.get())}}
    described["flow_run_context"] = {} if flow_context is None else _description(flow_context, "flow", "flow_run")
    described["task_run_context"] = {} if task_context is None else _description(task_context, "task", "task_run")
    return described


@contextmanager
def hydrated_context(serialized_context: Mapping[str, Any] | None = None) -> Generator[None, None, None]:
    """Enter the contexts that `serialize_context` described.

    Args:
        serialized_context: What it gave; `None` or an empty mapping enters nothing.

    Yields:
        Nothing.

    Example:
        >>> with hydrated_context({"tags_context": {"current_tags": ["nightly"]}}):
        ...     sorted(TagsContext.get().current_tags)
        ['nightly']
    """
    with ExitStack() as stack:
        described = serialized_context or {}
        if described.get("flow_run_context"):
            stack.enter_context(FlowRunContext(**described["flow_run_context"]))
        if described.get("task_run_context"):
            stack.enter_context(TaskRunContext(**described["task_run_context"]))
        if described.get("tags_context"):
            stack.enter_context(TagsContext(current_tags=set(described["tags_context"]["current_tags"])))
        yield
