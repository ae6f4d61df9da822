"""Tasks: the units of work inside flows, each call of which is recorded, retried and timed for itself."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Awaitable, Callable, Iterable
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, Self, TypeVar, cast, overload

from callsheet._engine.caching import Kept, check_caching, decide_persistence
from callsheet._engine.names import check_run_name
from callsheet._engine.options import (
    Delays,
    check_callable,
    check_function,
    check_hooks,
    check_jitter,
    check_name,
    check_retries,
    check_tags,
    check_timeout,
    exponential_backoff,
    keep_falsy,
    keep_none,
    keep_unset,
    resolve_delays,
)
from callsheet._engine.task_calls import TaskCalls
from callsheet._unset import NotSet
from callsheet.utilities.functions import callable_name

if TYPE_CHECKING:
    from datetime import timedelta

    from callsheet.cache_policies import CachePolicy
    from callsheet.client.schemas.objects import TaskRun
    from callsheet.context import TaskRunContext
    from callsheet.states import State

__all__ = ["Task", "exponential_backoff", "task", "task_input_hash"]

R_co = TypeVar("R_co", covariant=True)
P = ParamSpec("P")
Q = ParamSpec("Q")
Hook = TypeVar("Hook", bound=Callable[..., Any])
TaskHook = Callable[["Task[..., Any]", "TaskRun", "State[Any]"], "Awaitable[None] | None"]
RetryCondition = Callable[["Task[..., Any]", "TaskRun", "State[Any]"], "Awaitable[bool] | bool"]
RunName = Callable[[], str] | Callable[[dict[str, Any]], str] | str
DelaysOption = float | Iterable[float] | Callable[[int], list[float]]
CacheKeyFn = Callable[["TaskRunContext", dict[str, Any]], str | None]
Unset = type[NotSet]
_HOOKS = ("on_completion", "on_failure", "on_rollback", "on_commit")


class Task(TaskCalls[P, R_co]):
    """A function wrapped as a task. Use the `task` decorator to make one.

    Calling it runs it: with asynchronous functions the call gives a coroutine, with others the result. Arguments are
    bound but never validated or copied.

    Args:
        fn: The function.
        name: Name of the task. Default: the function's.
        description: What the task does. Default: the function's docstring.
        tags: Tags of every run, besides those of the surroundings.
        version: Version.
        cache_policy: What decides that a recorded result is used instead of a run; implies `persist_result`. Default,
            where results are persisted: equal inputs, source and flow run. `None` or `NONE`: nothing is shared.
        cache_key_fn: The same, as a function of context and parameters that gives a key; goes before `cache_policy`.
        cache_expiration: How long recorded results can be used so. Default: without end.
        task_run_name: Template over the parameters, or a callable, that names runs.
        retries: How often a failed run is tried again. Default: the setting.
        retry_delay_seconds: Seconds before each retry; one number, at most fifty, or a callable that gives them for
            the number of retries. Default: the setting.
        retry_jitter_factor: By which factor a delay may be longer at random.
        persist_result: Whether results of runs are kept in storage. Default: as the run around it, then the setting.
        result_storage: Where: a folder, a URL or a storage object. Default: as the run around it, then the setting.
        result_serializer: How: a serializer or its type. Default: as the run around it, then the setting.
        result_storage_key: Under which key: a template over `parameters`, `flow_run` and `task_run`, such as
            ``{flow_run.name}/{parameters[day]}``. Runs with one key share one result. Default: made by the policy.
        cache_result_in_memory: Whether records stay in memory too, where later runs find them sooner.
        timeout_seconds: Seconds after which a run fails. Default: none.
        log_prints: Whether `print` goes to the run's logger. `None`: as the flow.
        refresh_cache: Whether recorded results are ignored and replaced. Default: the setting.
        on_completion: Hooks that run when a run completed; each is called with task, task run and state.
        on_failure: Hooks that run when a run failed for the last time.
        on_rollback: Hooks that run when what a completed run did is rolled back; called with its transaction.
        on_commit: Hooks that run when a run's transaction is committed; called with the transaction.
        retry_condition_fn: Called with task, task run and failed state; no retry unless it says so.
        viz_return_value: What calls give while the flow is drawn.
        journal_key: Names a call in a flow run, once: the run journal knows it by that, wherever it is made.

    Raises:
        TypeError: An argument is of a wrong type.
        ValueError: A number is out of range, or there are too many delays.
        ReservedArgumentError: A parameter is called `return_state` or `wait_for`.

    Example:
        >>> def add(x: int, y: int) -> int:
        ...     return x + y
        >>> Task(add, tags=["math"]).tags
        {'math'}
    """

    on_completion_hooks: list[TaskHook]
    on_failure_hooks: list[TaskHook]
    on_rollback_hooks: list[Callable[[Any], Any]]
    on_commit_hooks: list[Callable[[Any], Any]]

    def __init__(
        self,
        fn: Callable[P, R_co],
        name: str | None = None,
        description: str | None = None,
        tags: Iterable[str] | None = None,
        version: str | None = None,
        cache_policy: CachePolicy | Unset | None = NotSet,
        cache_key_fn: CacheKeyFn | None = None,
        cache_expiration: timedelta | None = None,
        task_run_name: RunName | None = None,
        retries: int | None = None,
        retry_delay_seconds: DelaysOption | None = None,
        retry_jitter_factor: float | None = None,
        persist_result: bool | None = None,
        result_storage: Any = None,
        result_serializer: Any = None,
        result_storage_key: str | None = None,
        cache_result_in_memory: bool = True,
        timeout_seconds: float | None = None,
        log_prints: bool | None = False,
        refresh_cache: bool | None = None,
        on_completion: Iterable[TaskHook] | None = None,
        on_failure: Iterable[TaskHook] | None = None,
        on_rollback: Iterable[Callable[[Any], Any]] | None = None,
        on_commit: Iterable[Callable[[Any], Any]] | None = None,
        retry_condition_fn: RetryCondition | None = None,
        viz_return_value: Any = None,
        *,
        journal_key: str | None = None,
    ) -> None:
        self._set_hooks((on_completion, on_failure, on_rollback, on_commit))
        check_function(fn, "task")
        check_run_name(task_run_name, "task_run_name")
        self._wrap(fn, "task")
        self._set_names(name, description, tags, version, task_run_name)
        self._set_limits(timeout_seconds, retries, retry_delay_seconds, retry_jitter_factor, retry_condition_fn)
        self._set_results(result_storage, result_serializer, result_storage_key, cache_result_in_memory)
        self._set_caching(cache_policy, persist_result, cache_key_fn, cache_expiration, refresh_cache)
        self.log_prints, self.viz_return_value, self.journal_key = log_prints, viz_return_value, journal_key

    def _set_hooks(self, given: tuple[Iterable[Any] | None, ...]) -> None:
        for option, hooks in zip(_HOOKS, given, strict=True):
            setattr(self, f"{option}_hooks", check_hooks(hooks, option, "task"))

    def _set_names(self, name: Any, description: Any, tags: Any, version: str | None, run_name: RunName | None) -> None:
        check_name(name, "task")
        self.name = name or callable_name(self.fn)
        self.description = description or inspect.getdoc(self.fn)
        self.tags = check_tags(tags)
        self.version, self.task_run_name = version, run_name

    def _set_limits(self, timeout: Any, retries: Any, delays: Any, jitter: Any, condition: Any) -> None:
        from callsheet.settings import refresh_settings

        settings = refresh_settings()
        self.retries = check_retries(keep_none(retries, settings.task_default_retries))
        self.retry_delay_seconds: Delays = resolve_delays(
            keep_none(delays, settings.task_default_retry_delay_seconds), self.retries
        )
        self.retry_jitter_factor: float | None = check_jitter(jitter)
        check_callable(condition, "retry_condition_fn")
        self.retry_condition_fn: RetryCondition | None = condition
        self.timeout_seconds = check_timeout(timeout)

    def _set_results(self, storage: Any, serializer: Any, key: str | None, in_memory: bool) -> None:
        self.result_storage, self.result_serializer = storage, serializer
        self.result_storage_key, self.cache_result_in_memory = key, in_memory

    def _set_caching(
        self, policy: Any, persist: bool | None, key_fn: CacheKeyFn | None, expires: timedelta | None, refresh: Any
    ) -> None:
        check_callable(key_fn, "cache_key_fn")
        check_caching(policy, expires, self.result_storage_key)
        self.cache_key_fn, self.cache_expiration = key_fn, expires
        self.refresh_cache: bool | None = refresh
        self._given_policy, self.cache_policy, self.persist_result = decide_persistence(self, policy, persist)

    @functools.cached_property
    def task_key(self) -> str:
        """What tells this task from others: its qualified name and a digest of its source."""
        fn = cast("Any", self.fn)
        if not hasattr(fn, "__qualname__"):
            return type(fn).__qualname__
        return f"{fn.__qualname__}-{self._digest()[:8] or 'unknown'}"

    if TYPE_CHECKING:

        @overload
        def __get__(self, instance: None, owner: Any = None) -> Self: ...
        @overload
        def __get__(self: Task[Concatenate[Any, Q], R_co], instance: object, owner: Any = None) -> Task[Q, R_co]: ...
        def __get__(self, instance: object, owner: Any = None) -> Any: ...

    # ---------------------------------------------------------------------------------------------- hooks

    def on_commit(self, fn: Hook) -> Hook:
        """Add a hook for the commit of the run's transaction; usable as a decorator.

        Returns:
            The hook.
        """
        self.on_commit_hooks.append(fn)
        return fn

    def on_rollback(self, fn: Hook) -> Hook:
        """Add a hook for the rollback of the run's transaction; usable as a decorator.

        Returns:
            The hook.
        """
        self.on_rollback_hooks.append(fn)
        return fn

    # -------------------------------------------------------------------------------------------- options

    def with_options(
        self,
        *,
        name: str | None = None,
        description: str | None = None,
        tags: Iterable[str] | None = None,
        cache_policy: CachePolicy | Unset | None = NotSet,
        cache_key_fn: CacheKeyFn | None = None,
        task_run_name: RunName | Unset | None = NotSet,
        cache_expiration: timedelta | None = None,
        retries: int | Unset | None = NotSet,
        retry_delay_seconds: DelaysOption | Unset | None = NotSet,
        retry_jitter_factor: float | Unset | None = NotSet,
        persist_result: bool | Unset | None = NotSet,
        result_storage: Any = NotSet,
        result_serializer: Any = NotSet,
        result_storage_key: str | Unset | None = NotSet,
        cache_result_in_memory: bool | None = None,
        timeout_seconds: float | None = None,
        log_prints: bool | Unset | None = NotSet,
        refresh_cache: bool | Unset | None = NotSet,
        on_completion: Iterable[TaskHook] | None = None,
        on_failure: Iterable[TaskHook] | None = None,
        on_rollback: Iterable[Callable[[Any], Any]] | None = None,
        on_commit: Iterable[Callable[[Any], Any]] | None = None,
        retry_condition_fn: RetryCondition | None = None,
        viz_return_value: Any = None,
        journal_key: str | None = None,
    ) -> Task[P, R_co]:
        """Make a task of the same function with other options.

        For each option see `Task`. An option that is left out keeps its value. `None` and everything empty keep it too
        for names, descriptions, tags, hooks, `cache_key_fn`, `cache_expiration`, `retry_condition_fn`, `journal_key` and
        `viz_return_value`; only `None` does for `timeout_seconds` and `cache_result_in_memory`.

        Returns:
            A new task.

        Example:
            >>> @task(name="My task", retries=1)
            ... def my_task() -> int:
            ...     return 1
            >>> other = my_task.with_options(retries=5)
            >>> other.name, other.retries
            ('My task', 5)
        """
        given = dict(locals())
        del given["self"]
        options = {name: keep(given[name], getattr(self, attribute)) for name, (keep, attribute) in _OPTIONS.items()}
        # What was decided about caching is decided anew, but warned of only when the policy itself is touched.
        options["cache_policy"] = Kept(self._given_policy) if cache_policy is NotSet else cache_policy
        made: Task[P, R_co] = Task(self.fn, version=self.version, **options)
        made._names = self._names
        made._bound = self._bound
        return made


_KEEP_FALSY = (
    "name", "description", "tags", "cache_key_fn", "cache_expiration", "retry_condition_fn", "viz_return_value",
    "journal_key",
)  # fmt: skip
_KEEP_NONE = ("timeout_seconds", "cache_result_in_memory")
_KEEP_UNSET = (
    "task_run_name", "retries", "retry_delay_seconds", "retry_jitter_factor", "persist_result", "result_storage",
    "result_serializer", "result_storage_key", "log_prints", "refresh_cache",
)  # fmt: skip
_OPTIONS: dict[str, tuple[Callable[[Any, Any], Any], str]] = {
    name: (keep, name)
    for keep, names in ((keep_falsy, _KEEP_FALSY), (keep_none, _KEEP_NONE), (keep_unset, _KEEP_UNSET))
    for name in names
} | {name: (keep_falsy, f"{name}_hooks") for name in _HOOKS}


@overload
def task(__fn: Callable[P, R_co], /) -> Task[P, R_co]: ...
@overload
def task(
    *,
    name: str | None = None,
    description: str | None = None,
    tags: Iterable[str] | None = None,
    version: str | None = None,
    cache_policy: CachePolicy | Unset | None = NotSet,
    cache_key_fn: CacheKeyFn | None = None,
    cache_expiration: timedelta | None = None,
    task_run_name: RunName | None = None,
    retries: int | None = None,
    retry_delay_seconds: DelaysOption | None = None,
    retry_jitter_factor: float | None = None,
    persist_result: bool | None = None,
    result_storage: Any = None,
    result_storage_key: str | None = None,
    result_serializer: Any = None,
    cache_result_in_memory: bool = True,
    timeout_seconds: float | None = None,
    log_prints: bool | None = None,
    refresh_cache: bool | None = None,
    on_completion: Iterable[TaskHook] | None = None,
    on_failure: Iterable[TaskHook] | None = None,
    on_rollback: Iterable[Callable[[Any], Any]] | None = None,
    on_commit: Iterable[Callable[[Any], Any]] | None = None,
    retry_condition_fn: RetryCondition | None = None,
    viz_return_value: Any = None,
    journal_key: str | None = None,
) -> Callable[[Callable[P, R_co]], Task[P, R_co]]: ...
def task(
    __fn: Callable[..., Any] | None = None,  # noqa: PYI063 - programs that compare signatures look for this name
    *,
    name: str | None = None,
    description: str | None = None,
    tags: Iterable[str] | None = None,
    version: str | None = None,
    cache_policy: CachePolicy | Unset | None = NotSet,
    cache_key_fn: CacheKeyFn | None = None,
    cache_expiration: timedelta | None = None,
    task_run_name: RunName | None = None,
    retries: int | None = None,
    retry_delay_seconds: DelaysOption | None = None,
    retry_jitter_factor: float | None = None,
    persist_result: bool | None = None,
    result_storage: Any = None,
    result_storage_key: str | None = None,
    result_serializer: Any = None,
    cache_result_in_memory: bool = True,
    timeout_seconds: float | None = None,
    log_prints: bool | None = None,
    refresh_cache: bool | None = None,
    on_completion: Iterable[TaskHook] | None = None,
    on_failure: Iterable[TaskHook] | None = None,
    on_rollback: Iterable[Callable[[Any], Any]] | None = None,
    on_commit: Iterable[Callable[[Any], Any]] | None = None,
    retry_condition_fn: RetryCondition | None = None,
    viz_return_value: Any = None,
    journal_key: str | None = None,
) -> Any:
    """Make a function a task; with or without options in parentheses. For each option see `Task`.

    Returns:
        The task, or a decorator that makes it.

    Raises:
        TypeError: Applied to a class method or static method; those decorators belong on top of this one.

    Example:
        >>> @task(tags={"a"}, description="This task is empty!")
        ... def my_task() -> None: ...
        >>> my_task.name
        'my_task'
    """
    options = dict(locals())
    fn = options.pop("__fn")
    return functools.partial(task, **options) if fn is None else Task(fn, **options)


def task_input_hash(context: TaskRunContext, arguments: dict[str, Any]) -> str | None:
    """Make a cache key of a task's source and inputs, for use as `cache_key_fn`.

    Args:
        context: The context of the task run.
        arguments: The task's parameters.

    Returns:
        The key; `None`, which switches caching off, if an input has no digest.

    Example:
        >>> from callsheet.context import TaskRunContext
        >>> @task
        ... def key_of(x: int) -> str | None:
        ...     return task_input_hash(TaskRunContext.get(), {"x": x})
        >>> key_of(4) == key_of(4), key_of(4) == key_of(5)
        (True, False)
    """
    from callsheet.utilities.hashing import hash_objects

    return hash_objects(context.task.task_key, context.task._digest(), arguments)
