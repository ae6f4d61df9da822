"""What flows and tasks have in common as objects: the wrapped function, binding to instances, pickling."""

from __future__ import annotations

import functools
import importlib
import inspect
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, ParamSpec, TypeVar, cast

from callsheet._engine.binding import Binder
from callsheet._engine.options import Kind, check_function, check_parameters
from callsheet.utilities.functions import callable_name, local_names, qualified_name, source_digest

if TYPE_CHECKING:
    from typing import Self

P = ParamSpec("P")
R_co = TypeVar("R_co", covariant=True)
Hook = TypeVar("Hook", bound=Callable[..., Any])

VISUALIZATION = "callsheet.utilities.visualization"


class Definition(Generic[P, R_co]):
    """A function wrapped as a flow or task.

    Attributes:
        fn: The function.
        name: The name of the definition.
        description: What it does.
        version: Its version.
        isasync: Whether the function is a coroutine function or an asynchronous generator.
        isgenerator: Whether it is a generator, asynchronous or not.
    """

    fn: Callable[P, R_co]
    name: str
    description: str | None
    version: str | None
    isasync: bool
    isgenerator: bool
    retries: int
    timeout_seconds: float | None
    persist_result: bool | None
    log_prints: bool | None
    cache_result_in_memory: bool
    on_completion_hooks: list[Any]
    on_failure_hooks: list[Any]

    _binder: Binder
    _bound: tuple[Any, ...]  # the instance or class that the function is bound to, if it is
    _names: dict[str, Any]  # what only the scope of the definition knew
    _source_digest: str | None
    _described: Any = None  # what the history knows of it, once that was asked for

    def _wrap(self, fn: Callable[P, R_co], kind: Kind) -> None:
        """Take over the function and everything that tools read from functions."""
        check_function(fn, kind)
        functools.update_wrapper(cast("Any", self), fn)
        if not hasattr(fn, "__name__"):
            self.__name__ = callable_name(fn)
            self.__qualname__ = qualified_name(fn)
        self.fn = fn
        self._bound, self._names = (), {}
        self._read(fn)
        call = type(fn).__call__ if _is_object(fn) else fn
        generator = inspect.isasyncgenfunction(call)
        # Objects can be marked as coroutine functions themselves; mocks of such are.
        self.isasync = generator or inspect.iscoroutinefunction(call) or inspect.iscoroutinefunction(fn)
        self.isgenerator = generator or inspect.isgeneratorfunction(call)
        if isinstance(fn, Definition):  # a flow made of a task is called like the task
            self.isasync, self.isgenerator = fn.isasync, fn.isgenerator
        if self.isasync and not self.isgenerator and sys.version_info >= (3, 12):
            inspect.markcoroutinefunction(self)

    def _read(self, fn: Callable[..., Any]) -> None:
        """Read what calls need to know of a function."""
        binder = Binder(fn)
        check_parameters(binder.names)
        self._binder = binder
        self._names = {**self._names, **local_names(fn)}  # what an earlier scope knew, its function may still need
        self._source_digest = None

    def __setattr__(self, name: str, value: Any) -> None:
        """Set an attribute. With another function, which tests put in, calls are bound and cached by that one."""
        if name == "fn" and "_binder" in self.__dict__:
            _ = getattr(self, "task_key", None)  # stays what it was, and may not have been asked for yet
            self._read(value)
            self._described = None
            self._restore()
        object.__setattr__(self, name, value)

    @property
    def _is_coroutine(self) -> object:
        """The mark by which `asyncio.iscoroutinefunction` knows objects that are called like coroutine functions."""
        if not self.isasync or self.isgenerator:
            return None
        from asyncio import coroutines

        return getattr(coroutines, "_is_coroutine", None)

    @property
    def ismethod(self) -> bool:
        """Whether this is bound to an instance or class."""
        return bool(self._bound)

    def __get__(self, instance: object, owner: object = None) -> Self:
        """Give a copy that is bound to the instance; through the class, the definition itself."""
        return self if instance is None else self._bind_to(instance)

    def _bind_to(self, instance: object) -> Self:
        bound = self.__copy__()
        bound.__dict__["_bound"] = (instance,)
        return bound

    def __copy__(self) -> Self:
        copied = object.__new__(type(self))
        copied.__dict__.update(self.__dict__)
        return copied

    def _digest(self) -> str:
        """Digest the function's source; once, and not before somebody asks."""
        if self._source_digest is None:
            self._source_digest = source_digest(self.fn)
        return self._source_digest

    def __canonical__(self) -> tuple[Any, ...]:
        """Give what tells this from others where it is an input itself (see `utilities.canonical`)."""
        return self.__module__, self.__qualname__, self.name, self._digest(), self._bound

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name!r}>"

    # -------------------------------------------------------------------------------------------- hooks

    def on_completion(self, fn: Hook) -> Hook:
        """Add a hook for completed runs; usable as a decorator.

        Args:
            fn: Called with the definition, the run and its state; may be async. What it raises is logged.

        Returns:
            The hook.

        Example:
            >>> from callsheet import flow
            >>> @flow
            ... def answer() -> int:
            ...     return 42
            >>> @answer.on_completion
            ... def tell(flow, flow_run, state):
            ...     print(flow.name, state.name)
            >>> answer()
            answer Completed
            42
        """
        self.on_completion_hooks.append(fn)
        return fn

    def on_failure(self, fn: Hook) -> Hook:
        """Add a hook for failed runs, as `on_completion` does for completed ones.

        Returns:
            The hook.
        """
        self.on_failure_hooks.append(fn)
        return fn

    # ----------------------------------------------------------------------------------------- pickling

    def __reduce__(self) -> str | tuple[Any, ...]:
        """Pickle by name what can be imported by name, as functions are; everything else by value."""
        # What is in `__main__` here is not in the `__main__` of the process that unpickles.
        module = None if self.__module__ == "__main__" else sys.modules.get(self.__module__)
        found = _look_up(module, self.__qualname__)
        if found is self:
            return self.__qualname__
        state = {name: value for name, value in self.__dict__.items() if name not in _REBUILT}
        if isinstance(found, Definition) and found.fn is self.fn:
            # The function's name leads to the definition around it: pickle refuses it, so say where it is.
            state["fn"] = _FunctionOf(self.__module__, self.__qualname__)
        return _blank, (type(self),), state

    def __setstate__(self, state: dict[str, Any]) -> None:
        fn = state["fn"]
        if isinstance(fn, _FunctionOf):
            fn = cast("Definition[Any, Any]", _look_up(importlib.import_module(fn.module), fn.qualname)).fn
        self.__dict__.update(state)
        self.fn = self.__wrapped__ = fn
        self._binder = Binder(fn)
        self._restore()
        if self.isasync and not self.isgenerator and sys.version_info >= (3, 12):
            inspect.markcoroutinefunction(self)

    def _restore(self) -> None:
        """Set what is rebuilt when it is needed."""


def _is_object(fn: object) -> bool:
    """Tell an instance of a class with `__call__` from functions, methods and partial functions."""
    return not inspect.isroutine(fn) and not isinstance(fn, functools.partial)


_REBUILT = frozenset({"_binder", "__wrapped__", "_validators", "_schemas", "_is_coroutine_mark"})


class _FunctionOf(NamedTuple):
    """Stands in a pickle for the function of the definition with this name."""

    module: str
    qualname: str


def _blank(kind: type[Definition[Any, Any]]) -> Definition[Any, Any]:
    return object.__new__(kind)


def _look_up(module: object, qualname: str) -> object:
    """Give what a qualified name leads to, or `None`."""
    found = module
    for part in qualname.split("."):
        found = getattr(found, part, None)
    return found


def is_tracked() -> bool:
    """Tell whether `Flow.visualize` is looking on; free of charge while that module is not even imported."""
    module = sys.modules.get(VISUALIZATION)
    return module is not None and module.get_task_viz_tracker() is not None


def refuse_when_tracked(what: str) -> None:
    """Refuse a call that `Flow.visualize` cannot draw.

    Raises:
        VisualizationUnsupportedError: It is looking on.
    """
    if is_tracked():
        from callsheet.utilities.visualization import VisualizationUnsupportedError

        raise VisualizationUnsupportedError(f"`{what}` is not currently supported by `flow.visualize()`")


def track(definition: Definition[Any, Any], parameters: dict[str, Any]) -> Any:
    """Leave a node of a call for `Flow.visualize`, and give what the call gives there."""
    from callsheet.utilities.visualization import track_viz_task

    value = getattr(definition, "viz_return_value", None)
    return track_viz_task(definition.isasync, definition.name, parameters, value)
