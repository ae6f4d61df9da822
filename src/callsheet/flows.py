"""Flows: functions whose runs are recorded, retried, timed and cancelled as a whole."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from typing import TYPE_CHECKING, Any, Concatenate, Literal, NoReturn, ParamSpec, Self, TypeVar, cast, overload

from callsheet._engine.definitions import Definition, is_tracked, refuse_when_tracked, track
from callsheet._engine.dual import dual
from callsheet._engine.later import not_yet
from callsheet._engine.names import check_run_name
from callsheet._engine.options import (
    check_characters,
    check_delay,
    check_flow_name,
    check_function,
    check_hooks,
    check_retries,
    check_timeout,
    keep_falsy,
    keep_none,
    keep_unset,
)
from callsheet._engine.parameters import check_signature, serialize_parameters
from callsheet.settings import refresh_settings
from callsheet.utilities.annotations import NotSet
from callsheet.utilities.functions import callable_name, module_or_file
from callsheet.utilities.hashing import file_hash

if TYPE_CHECKING:
    from callsheet._engine.parameters import Validator
    from callsheet.client.schemas.objects import FlowRun
    from callsheet.futures import TaskFuture
    from callsheet.states import State
    from callsheet.task_runners import TaskRunner
    from callsheet.utilities.schema import ParameterSchema

__all__ = ["Flow", "flow"]

T = TypeVar("T")
R = TypeVar("R")
P = ParamSpec("P")
Q = ParamSpec("Q")
FlowHook = Callable[["Flow[..., Any]", "FlowRun", "State[Any]"], "Awaitable[None] | None"]
Hook = TypeVar("Hook", bound=Callable[..., Any])
RunName = Callable[[], str] | str
Unset = type[NotSet]
_HOOKS = ("on_completion", "on_failure", "on_cancellation", "on_crashed", "on_running")


class Flow(Definition[P, R]):
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
        persist_result: Whether results are persisted (running such a flow is not implemented yet).
        result_storage: Where (not implemented yet).
        result_serializer: How (not implemented yet).
        cache_result_in_memory: Whether the final state holds on to the result.
        log_prints: Whether `print` goes to the run's logger. Default: as the parent run, then the setting.
        on_completion: Hooks that run when a run completed; each is called with flow, flow run and state.
        on_failure: Hooks that run when a run failed.
        on_cancellation: Hooks that run when a run is cancelled.
        on_crashed: Hooks that run when a run crashed.
        on_running: Hooks that run when a run begins.

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
        fn: Callable[P, R],
        name: str | None = None,
        version: str | None = None,
        flow_run_name: RunName | None = None,
        retries: int | None = None,
        retry_delay_seconds: float | None = None,
        task_runner: type[TaskRunner] | TaskRunner | None = None,
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
    ) -> None:
        check_flow_name(name)
        hooks = (on_completion, on_failure, on_cancellation, on_crashed, on_running)
        checked = [check_hooks(given, option, "flow") for given, option in zip(hooks, _HOOKS, strict=True)]
        check_function(fn, "flow")
        check_run_name(flow_run_name, "flow_run_name")
        self._wrap(fn, "flow")
        self.name = name or callable_name(fn).replace("_", "-").replace("<lambda>", "unknown-lambda")
        check_characters(self.name)
        self.description = description or inspect.getdoc(fn)
        self.version = version or _version_of(fn)
        self.flow_run_name = flow_run_name
        self.timeout_seconds = check_timeout(timeout_seconds)
        self._set_retries(retries, retry_delay_seconds)
        self.task_runner = _task_runner(task_runner)
        self.should_validate_parameters = validate_parameters
        if persist_result is None and not (result_storage is None and result_serializer is None):
            persist_result = True
        self.persist_result = persist_result
        self.result_storage = result_storage
        self.result_serializer = result_serializer
        self.cache_result_in_memory = cache_result_in_memory
        self.log_prints = log_prints
        for option, own in zip(_HOOKS, checked, strict=True):
            setattr(self, f"{option}_hooks", own)
        self._storage: Any = None
        self._entrypoint = f"{module_or_file(fn)}:{callable_name(fn)}"
        self._restore()
        if validate_parameters:
            check_signature(self._binder.signature)
        self._note_unsupported()

    def _set_retries(self, retries: int | None, delay: float | None) -> None:
        settings = refresh_settings()
        self.retries = check_retries(keep_none(retries, settings.flow_default_retries))
        self.retry_delay_seconds = check_delay(keep_none(delay, settings.flow_default_retry_delay_seconds))

    def _restore(self) -> None:
        self._validator: Validator | None = None
        self._schema: ParameterSchema | None = None

    # -------------------------------------------------------------------------------------------- running

    @overload
    def __call__(
        self: Flow[..., Coroutine[Any, Any, T]],
        *args: Any,
        return_state: Literal[True],
        wait_for: Iterable[Any] | None = None,
        **kwargs: Any,
    ) -> Coroutine[Any, Any, State[T]]: ...
    @overload
    def __call__(
        self: Flow[..., T],
        *args: Any,
        return_state: Literal[True],
        wait_for: Iterable[Any] | None = None,
        **kwargs: Any,
    ) -> State[T]: ...
    @overload
    def __call__(
        self, *args: Any, wait_for: Iterable[Any] | None, return_state: Literal[False] = False, **kwargs: Any
    ) -> R: ...
    @overload
    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R: ...
    def __call__(
        self, *args: Any, return_state: bool = False, wait_for: Iterable[Any] | None = None, **kwargs: Any
    ) -> Any:
        """Run the flow.

        Args:
            *args: Arguments of the function; futures and states among them are resolved first.
            return_state: Give the final state instead of the result, and raise nothing that the run raises.
            wait_for: Futures to wait for before the run starts.
            **kwargs: Keyword arguments of the function.

        Returns:
            The result, or the final state; for asynchronous functions a coroutine that gives it.

        Raises:
            ParameterBindError: The arguments do not fit the signature; no run exists then.
            ParameterTypeError: A value does not fit its annotation; the run failed.
            Exception: What the function raised, the same object.

        Example:
            >>> @flow
            ... def hello(name: str) -> str:
            ...     return f"hello {name}"
            >>> hello("marvin")
            'hello marvin'
        """
        parameters = self._binder.bind(self._bound + args, kwargs)
        if is_tracked():
            return track(self, parameters)
        from callsheet._engine import invoke

        return invoke.call_flow(self, parameters, wait_for=wait_for, return_state=return_state)

    @overload
    def submit(
        self: Flow[..., Coroutine[Any, Any, T]],
        *args: Any,
        return_state: Literal[True],
        wait_for: Iterable[Any] | None = None,
        **kwargs: Any,
    ) -> State[T]: ...
    @overload
    def submit(
        self: Flow[..., T],
        *args: Any,
        return_state: Literal[True],
        wait_for: Iterable[Any] | None = None,
        **kwargs: Any,
    ) -> State[T]: ...
    @overload
    def submit(self: Flow[P, Coroutine[Any, Any, T]], *args: P.args, **kwargs: P.kwargs) -> TaskFuture[T]: ...
    @overload
    def submit(self: Flow[P, T], *args: P.args, **kwargs: P.kwargs) -> TaskFuture[T]: ...
    @overload
    def submit(
        self: Flow[..., Coroutine[Any, Any, T]],
        *args: Any,
        return_state: Literal[False] = False,
        wait_for: Iterable[Any] | None = None,
        **kwargs: Any,
    ) -> TaskFuture[T]: ...
    @overload
    def submit(
        self: Flow[..., T],
        *args: Any,
        return_state: Literal[False] = False,
        wait_for: Iterable[Any] | None = None,
        **kwargs: Any,
    ) -> TaskFuture[T]: ...
    def submit(
        self, *args: Any, return_state: bool = False, wait_for: Iterable[Any] | None = None, **kwargs: Any
    ) -> Any:
        """Start the flow as a child of the current run, and go on.

        Args:
            *args: Arguments of the function; futures and states among them are resolved first.
            return_state: Wait, and give the final state.
            wait_for: Futures to wait for before the run starts.
            **kwargs: Keyword arguments of the function.

        Returns:
            A future, or the final state.

        Raises:
            ParameterBindError: The arguments do not fit the signature; no run exists then.
            RuntimeError: No flow run is active.

        Example:
            >>> @flow
            ... def part(n: int) -> int:
            ...     return n * 2
            >>> @flow
            ... def whole() -> int:
            ...     return part.submit(21).result()
            >>> whole()
            42
        """
        parameters = self._binder.bind(self._bound + args, kwargs)
        refuse_when_tracked("flow.submit()")
        from callsheet._engine import invoke

        return invoke.submit_flow(self, parameters, wait_for=wait_for, return_state=return_state)

    if TYPE_CHECKING:

        @overload
        def __get__(self, instance: None, owner: Any = None) -> Self: ...
        @overload
        def __get__(self: Flow[Concatenate[Any, Q], R], instance: object, owner: Any = None) -> Flow[Q, R]: ...
        def __get__(self, instance: object, owner: Any = None) -> Any: ...

    # ----------------------------------------------------------------------------------------- parameters

    @property
    def parameters(self) -> ParameterSchema:
        """The schema of the parameters; made when it is first asked for."""
        if self._schema is None:
            from callsheet.utilities.schema import parameter_schema

            self._schema = parameter_schema(self.fn, skip_first=self.ismethod, names=self._names)
        return self._schema

    def validate_parameters(self, parameters: dict[str, Any]) -> dict[str, Any]:
        """Check parameters against the function's annotations, and convert them.

        Args:
            parameters: Values by name.

        Returns:
            A new dict of what was passed, converted, and of defaults that a factory makes.

        Raises:
            ParameterTypeError: A value does not fit.
            SignatureMismatchError: There is no parameter of a name.

        Example:
            >>> @flow
            ... def double(x: int) -> int:
            ...     return 2 * x
            >>> double.validate_parameters({"x": "5"})
            {'x': 5}
        """
        if self._validator is None:
            from callsheet._engine.parameters import Validator

            self._validator = Validator(self.name, self._binder, self._names, len(self._bound))
        return self._validator.validate(parameters)

    def serialize_parameters(self, parameters: dict[str, Any]) -> dict[str, Any]:
        """Turn parameters into what JSON can carry, numbers and truth values as they are.

        Args:
            parameters: Values by name.

        Returns:
            Converted values by name, without the instance of a method. A future, a state, or a value that has no
            such form becomes ``<TypeName>``.

        Example:
            >>> @flow
            ... def sink(x: object) -> None: ...
            >>> sink.serialize_parameters({"x": {1, 2}}), sink.serialize_parameters({"x": print})
            ({'x': [1, 2]}, {'x': '<builtin_function_or_method>'})
        """
        skipped = self._binder.names[0] if self._bound else None
        return serialize_parameters(self.name, parameters, skipped)

    # ---------------------------------------------------------------------------------------------- hooks

    def on_completion(self, fn: Hook) -> Hook:
        """Add a hook for completed runs; usable as a decorator."""
        self.on_completion_hooks.append(fn)
        return fn

    def on_failure(self, fn: Hook) -> Hook:
        """Add a hook for failed runs; usable as a decorator."""
        self.on_failure_hooks.append(fn)
        return fn

    def on_cancellation(self, fn: Hook) -> Hook:
        """Add a hook for cancelled runs; usable as a decorator."""
        self.on_cancellation_hooks.append(fn)
        return fn

    def on_crashed(self, fn: Hook) -> Hook:
        """Add a hook for crashed runs; usable as a decorator."""
        self.on_crashed_hooks.append(fn)
        return fn

    def on_running(self, fn: Hook) -> Hook:
        """Add a hook for runs that begin; usable as a decorator."""
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
        task_runner: type[TaskRunner] | TaskRunner | None = None,
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
    ) -> Flow[P, R]:
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
        made: Flow[P, R] = Flow(self.fn, **options)
        made._storage = self._storage
        made._entrypoint = self._entrypoint
        made._names = self._names
        made._bound = self._bound
        return made

    # ------------------------------------------------------------------------------------- later releases

    async def avisualize(self, *args: Any, **kwargs: Any) -> None:
        """Draw the flow's graph; see `visualize`."""
        parameters = self._binder.bind(self._bound + args, kwargs)
        from callsheet._engine.visualize import visualize_flow

        await visualize_flow(self, parameters)

    visualize = dual(avisualize)

    @classmethod
    def from_source(cls, source: Any, entrypoint: str) -> NoReturn:
        """Load a flow from elsewhere. Not implemented yet."""
        not_yet("Flow.from_source")

    def to_deployment(self, name: str, **options: Any) -> NoReturn:
        """Make a deployment of the flow. Not implemented yet."""
        not_yet("Flow.to_deployment")

    def deploy(self, name: str, **options: Any) -> NoReturn:
        """Deploy the flow to a work pool. Not implemented yet."""
        not_yet("Flow.deploy")

    def serve(self, name: str | None = None, **options: Any) -> NoReturn:
        """Deploy the flow and watch for its runs. Not implemented yet."""
        not_yet("Flow.serve")


_KEEP_NONE = ("retries", "retry_delay_seconds", "timeout_seconds", "validate_parameters", "cache_result_in_memory")
_KEEP_UNSET = ("persist_result", "result_storage", "result_serializer", "log_prints")
_KEEP_FALSY = ("name", "version", "description", "flow_run_name", "task_runner", *_HOOKS)
_OPTIONS: dict[str, tuple[Callable[[Any, Any], Any], str]] = {
    name: (keep, "should_validate_parameters" if name == "validate_parameters" else name)
    for keep, names in ((keep_none, _KEEP_NONE), (keep_unset, _KEEP_UNSET), (keep_falsy, _KEEP_FALSY))
    for name in names
} | {name: (keep_falsy, f"{name}_hooks") for name in _HOOKS}


def _version_of(fn: Callable[..., Any]) -> str | None:
    try:
        file = inspect.getsourcefile(cast("Any", fn))
        return file_hash(file) if file else None
    except (TypeError, OSError):
        return None


def _task_runner(given: Any) -> TaskRunner:
    from callsheet.task_runners import TaskRunner, ThreadPoolTaskRunner

    runner = (given or ThreadPoolTaskRunner)() if given is None or isinstance(given, type) else given
    if not isinstance(runner, TaskRunner):
        raise TypeError(
            "Expected a task runner or a class of task runners for 'task_runner'; "
            f"got {type(runner).__name__} instead. Please use e.g. 'task_runner=ThreadPoolTaskRunner(max_workers=4)'."
        )
    return cast("TaskRunner", runner)


@overload
def flow(__fn: Callable[P, R], /) -> Flow[P, R]: ...
@overload
def flow(
    *,
    name: str | None = None,
    version: str | None = None,
    flow_run_name: RunName | None = None,
    retries: int | None = None,
    retry_delay_seconds: float | None = None,
    task_runner: type[TaskRunner] | TaskRunner | None = None,
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
) -> Callable[[Callable[P, R]], Flow[P, R]]: ...
def flow(
    __fn: Callable[..., Any] | None = None,
    *,
    name: str | None = None,
    version: str | None = None,
    flow_run_name: RunName | None = None,
    retries: int | None = None,
    retry_delay_seconds: float | None = None,
    task_runner: type[TaskRunner] | TaskRunner | None = None,
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
