"""Flows: functions whose runs are recorded, retried, timed and cancelled as a whole."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Awaitable, Callable, Iterable
from typing import TYPE_CHECKING, Any, Concatenate, Literal, ParamSpec, Self, TypeVar, cast, overload

from callsheet._engine.flow_calls import FlowCalls
from callsheet._engine.names import check_run_name
from callsheet._engine.options import (
    check_characters,
    check_delay,
    check_function,
    check_hooks,
    check_name,
    check_on_change,
    check_retries,
    check_timeout,
    keep_falsy,
    keep_none,
    keep_unset,
)
from callsheet._engine.parameters import check_signature
from callsheet._later import later, serve
from callsheet._unset import NotSet
from callsheet.utilities.functions import callable_name, module_or_file

if TYPE_CHECKING:
    from callsheet.client.schemas.objects import FlowRun
    from callsheet.states import State
    from callsheet.task_runners import TaskRunner

__all__ = ["Flow", "flow", "serve"]

R_co = TypeVar("R_co", covariant=True)
P = ParamSpec("P")
Q = ParamSpec("Q")
FlowHook = Callable[["Flow[..., Any]", "FlowRun", "State[Any]"], "Awaitable[None] | None"]
Hook = TypeVar("Hook", bound=Callable[..., Any])
RunName = Callable[[], str] | str
Unset = type[NotSet]
OnChange = Literal["rerun", "fail", "ignore"]
_HOOKS = ("on_completion", "on_failure", "on_cancellation", "on_crashed", "on_running")


class Flow(FlowCalls[P, R_co]):
    """A function wrapped as a flow. Use the `flow` decorator to make one.

    Calling it runs it: with asynchronous functions the call gives a coroutine, with others the result.

    Args:
        fn: The function.
        name: Name of the flow. Default: the function's, with hyphens for underscores.
        version: Version. Default: a digest of the file that the function is in.
        flow_run_name: Template over the parameters, or a callable, that names runs.
        retries: How often a failed run is tried again. Default: the setting.
        retry_delay_seconds: Seconds before each retry. Default: the setting.
        task_runner: Where submitted tasks run: an instance or a class. Default: a `ThreadPoolTaskRunner`.
        description: What the flow does. Default: the function's docstring.
        timeout_seconds: Seconds after which a run fails. Default: none.
        validate_parameters: Whether parameters are checked against, and converted to, their annotations.
        persist_result: Whether results of runs are kept in storage; tasks and subflows that do not say do as their
            flow. Default: as the parent run, then the setting; `True` where a storage or serializer is given.
        result_storage: Where: a folder, a URL or a storage object. Default: as the parent run, then the setting.
        result_serializer: How: a serializer or its type. Default: as the parent run, then the setting.
        cache_result_in_memory: Whether records stay in memory too, where the run's tasks find them sooner.
        log_prints: Whether `print` goes to the run's logger. Default: as the parent run, then the setting.
        on_completion: Hooks that run when a run completed; each is called with flow, flow run and state.
        on_failure: Hooks that run when a run failed.
        on_cancellation: Hooks that run when a run is cancelled.
        on_crashed: Hooks that run when a run crashed.
        on_running: Hooks that run when a run begins.
        on_change: What a run does that is taken up again where its calls are not those that it has recorded (the code
            has changed, or the parameters): ``"rerun"`` from there, ``"fail"`` with a `FlowChanged`, or ``"ignore"``.

    Raises:
        TypeError: An argument is of a wrong type.
        ValueError: A number is out of range, or the signature cannot be validated.
        InvalidNameError: The name has a forbidden character.
        ReservedArgumentError: A parameter is called `return_state` or `wait_for`.

    Example:
        >>> def add(x: int, y: int = 2) -> int:
        ...     return x + y
        >>> Flow(add, retries=1).name
        'add'
    """

    on_completion_hooks: list[FlowHook]
    on_failure_hooks: list[FlowHook]
    on_cancellation_hooks: list[FlowHook]
    on_crashed_hooks: list[FlowHook]
    on_running_hooks: list[FlowHook]

    def __init__(
        self,
        fn: Callable[P, R_co],
        name: str | None = None,
        version: str | None = None,
        flow_run_name: RunName | None = None,
        retries: int | None = None,
        retry_delay_seconds: float | None = None,
        task_runner: type[TaskRunner[Any]] | TaskRunner[Any] | None = None,
        description: str | None = None,
        timeout_seconds: float | None = None,
        validate_parameters: bool = True,
        persist_result: bool | None = None,
        result_storage: Any = None,
        result_serializer: Any = None,
        cache_result_in_memory: bool = True,
        log_prints: bool | None = None,
        on_completion: Iterable[FlowHook] | None = None,
        on_failure: Iterable[FlowHook] | None = None,
        on_cancellation: Iterable[FlowHook] | None = None,
        on_crashed: Iterable[FlowHook] | None = None,
        on_running: Iterable[FlowHook] | None = None,
        *,
        on_change: OnChange = "rerun",
    ) -> None:
        check_name(name, "flow")
        self._set_hooks((on_completion, on_failure, on_cancellation, on_crashed, on_running))
        check_function(fn, "flow")
        check_run_name(flow_run_name, "flow_run_name")
        self._wrap(fn, "flow")
        self._set_names(name, description, version, flow_run_name)
        self.timeout_seconds = check_timeout(timeout_seconds)
        self._set_retries(retries, retry_delay_seconds)
        self.task_runner = _task_runner(task_runner)
        self.log_prints, self.on_change = log_prints, check_on_change(on_change)
        self._set_results(persist_result, result_storage, result_serializer, cache_result_in_memory)
        self.should_validate_parameters = validate_parameters
        if validate_parameters:
            check_signature(self._binder.signature)
        self._restore()

    def _set_hooks(self, given: tuple[Iterable[FlowHook] | None, ...]) -> None:
        for option, hooks in zip(_HOOKS, given, strict=True):
            setattr(self, f"{option}_hooks", check_hooks(hooks, option, "flow"))

    def _set_names(
        self, name: str | None, description: str | None, version: str | None, run_name: RunName | None
    ) -> None:
        fn = self.fn
        self.flow_run_name = run_name
        self.name = name or callable_name(fn).replace("_", "-").replace("<lambda>", "unknown-lambda")
        check_characters(self.name)
        self.description = description or inspect.getdoc(fn)
        self.version = version or _version_of(fn)
        self._entrypoint = f"{module_or_file(fn)}:{callable_name(fn)}"
        self._storage: Any = None

    def _set_results(self, persist: bool | None, storage: Any, serializer: Any, in_memory: bool) -> None:
        self.persist_result = True if persist is None and (storage, serializer) != (None, None) else persist
        self.result_storage = storage
        self.result_serializer = serializer
        self.cache_result_in_memory = in_memory

    def _set_retries(self, retries: int | None, delay: float | None) -> None:
        from callsheet.settings import refresh_settings

        settings = refresh_settings()
        self.retries = check_retries(keep_none(retries, settings.flow_default_retries))
        self.retry_delay_seconds = check_delay(keep_none(delay, settings.flow_default_retry_delay_seconds))

    if TYPE_CHECKING:

        @overload
        def __get__(self, instance: None, owner: Any = None) -> Self: ...
        @overload
        def __get__(self: Flow[Concatenate[Any, Q], R_co], instance: object, owner: Any = None) -> Flow[Q, R_co]: ...
        def __get__(self, instance: object, owner: Any = None) -> Any: ...

    # ---------------------------------------------------------------------------------------------- hooks

    def on_cancellation(self, fn: Hook) -> Hook:
        """Add a hook for cancelled runs; usable as a decorator.

        Returns:
            The hook.
        """
        self.on_cancellation_hooks.append(fn)
        return fn

    def on_crashed(self, fn: Hook) -> Hook:
        """Add a hook for crashed runs; usable as a decorator.

        Returns:
            The hook.
        """
        self.on_crashed_hooks.append(fn)
        return fn

    def on_running(self, fn: Hook) -> Hook:
        """Add a hook for runs that begin; usable as a decorator.

        Returns:
            The hook.
        """
        self.on_running_hooks.append(fn)
        return fn

    # -------------------------------------------------------------------------------------------- options

    def with_options(
        self,
        *,
        name: str | None = None,
        version: str | None = None,
        retries: int | None = None,
        retry_delay_seconds: float | None = None,
        description: str | None = None,
        flow_run_name: RunName | None = None,
        task_runner: type[TaskRunner[Any]] | TaskRunner[Any] | None = None,
        timeout_seconds: float | None = None,
        validate_parameters: bool | None = None,
        persist_result: bool | Unset | None = NotSet,
        result_storage: Any = NotSet,
        result_serializer: Any = NotSet,
        cache_result_in_memory: bool | None = None,
        log_prints: bool | Unset | None = NotSet,
        on_completion: Iterable[FlowHook] | None = None,
        on_failure: Iterable[FlowHook] | None = None,
        on_cancellation: Iterable[FlowHook] | None = None,
        on_crashed: Iterable[FlowHook] | None = None,
        on_running: Iterable[FlowHook] | None = None,
        on_change: OnChange | None = None,
    ) -> Flow[P, R_co]:
        """Make a flow of the same function with other options.

        For each option see `Flow`. `None`, empty texts and empty lists keep the current value; `0` and `False` count
        for numbers and truth values. `persist_result`, `result_storage`, `result_serializer` and `log_prints` keep it
        only if they are left out.

        Returns:
            A new flow.

        Example:
            >>> @flow(name="My flow")
            ... def my_flow() -> int:
            ...     return 1
            >>> my_flow.with_options(name="My new flow").name
            'My new flow'
        """
        given = dict(locals())
        del given["self"]
        options = {name: keep(given[name], getattr(self, attribute)) for name, (keep, attribute) in _OPTIONS.items()}
        made: Flow[P, R_co] = Flow(self.fn, **options)
        made._storage = self._storage
        made._entrypoint = self._entrypoint
        made._names = self._names
        made._bound = self._bound
        return made


_KEEP_NONE = (
    "retries", "retry_delay_seconds", "timeout_seconds", "validate_parameters", "cache_result_in_memory", "on_change",
)  # fmt: skip
_KEEP_UNSET = ("persist_result", "result_storage", "result_serializer", "log_prints")
_KEEP_FALSY = ("name", "version", "description", "flow_run_name", "task_runner", *_HOOKS)
_OPTIONS: dict[str, tuple[Callable[[Any, Any], Any], str]] = {
    name: (keep, "should_validate_parameters" if name == "validate_parameters" else name)
    for keep, names in ((keep_none, _KEEP_NONE), (keep_unset, _KEEP_UNSET), (keep_falsy, _KEEP_FALSY))
    for name in names
} | {name: (keep_falsy, f"{name}_hooks") for name in _HOOKS}


def _version_of(fn: Callable[..., Any]) -> str | None:
    from callsheet.utilities.hashing import file_hash

    try:
        file = inspect.getsourcefile(cast("Any", fn))
        return file_hash(file) if file else None
    except (TypeError, OSError):
        return None


def _task_runner(given: Any) -> TaskRunner[Any]:
    from callsheet.task_runners import TaskRunner, ThreadPoolTaskRunner

    runner: Any = ThreadPoolTaskRunner if given is None else given
    if isinstance(runner, type):
        runner = runner()
    if not isinstance(runner, TaskRunner):
        raise TypeError(
            "Expected a task runner or a class of task runners for 'task_runner'; "
            f"got {type(given).__name__} instead. Please use e.g. 'task_runner=ThreadPoolTaskRunner(max_workers=4)'."
        )
    return cast("TaskRunner[Any]", runner)


@overload
def flow(__fn: Callable[P, R_co], /) -> Flow[P, R_co]: ...
@overload
def flow(
    *,
    name: str | None = None,
    version: str | None = None,
    flow_run_name: RunName | None = None,
    retries: int | None = None,
    retry_delay_seconds: float | None = None,
    task_runner: type[TaskRunner[Any]] | TaskRunner[Any] | None = None,
    description: str | None = None,
    timeout_seconds: float | None = None,
    validate_parameters: bool = True,
    persist_result: bool | None = None,
    result_storage: Any = None,
    result_serializer: Any = None,
    cache_result_in_memory: bool = True,
    log_prints: bool | None = None,
    on_completion: Iterable[FlowHook] | None = None,
    on_failure: Iterable[FlowHook] | None = None,
    on_cancellation: Iterable[FlowHook] | None = None,
    on_crashed: Iterable[FlowHook] | None = None,
    on_running: Iterable[FlowHook] | None = None,
    on_change: OnChange = "rerun",
) -> Callable[[Callable[P, R_co]], Flow[P, R_co]]: ...
def flow(
    __fn: Callable[..., Any] | None = None,  # noqa: PYI063 - programs that compare signatures look for this name
    *,
    name: str | None = None,
    version: str | None = None,
    flow_run_name: RunName | None = None,
    retries: int | None = None,
    retry_delay_seconds: float | None = None,
    task_runner: type[TaskRunner[Any]] | TaskRunner[Any] | None = None,
    description: str | None = None,
    timeout_seconds: float | None = None,
    validate_parameters: bool = True,
    persist_result: bool | None = None,
    result_storage: Any = None,
    result_serializer: Any = None,
    cache_result_in_memory: bool = True,
    log_prints: bool | None = None,
    on_completion: Iterable[FlowHook] | None = None,
    on_failure: Iterable[FlowHook] | None = None,
    on_cancellation: Iterable[FlowHook] | None = None,
    on_crashed: Iterable[FlowHook] | None = None,
    on_running: Iterable[FlowHook] | None = None,
    on_change: OnChange = "rerun",
) -> Any:
    """Make a function a flow; with or without options in parentheses. For each option see `Flow`.

    Returns:
        The flow, or a decorator that makes it.

    Raises:
        TypeError: Applied to a class method or static method; those decorators belong on top of this one.

    Example:
        >>> @flow(version="first", description="This flow is empty!")
        ... def my_flow() -> None: ...
        >>> my_flow.name
        'my-flow'
    """
    options = dict(locals())
    fn = options.pop("__fn")
    return functools.partial(flow, **options) if fn is None else Flow(fn, **options)


cast("Any", flow).from_source = Flow.from_source

if not TYPE_CHECKING:
    __getattr__ = later(
        __name__,
        "load_flow_from_entrypoint",
        "load_flow_arguments_from_entrypoint",
        "safe_load_flow_from_entrypoint",
        "load_flow_from_flow_run",
    )
