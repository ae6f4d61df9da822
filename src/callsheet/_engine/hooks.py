"""Hooks: functions of the user that are called when a run enters a state."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from inspect import isawaitable
from typing import Any, Final, Protocol

from anyio import fail_after

from callsheet._dual import whose_body_decides
from callsheet._model.kinds import StateType
from callsheet.settings import refresh_settings
from callsheet.utilities.functions import hook_name

_HOOKS: Final = {
    StateType.COMPLETED: "on_completion_hooks",
    StateType.FAILED: "on_failure_hooks",
    StateType.RUNNING: "on_running_hooks",
    StateType.CRASHED: "on_crashed_hooks",
    StateType.CANCELLING: "on_cancellation_hooks",
    StateType.CANCELLED: "on_cancellation_hooks",
}
_OPTIONAL: Final = frozenset({StateType.CRASHED, StateType.CANCELLING, StateType.CANCELLED})


def hooks_of(flow: Any, type: StateType) -> list[Callable[..., Any]]:
    """Give the hooks that a flow has for a type of state."""
    name = _HOOKS.get(type)
    if name is None or (type in _OPTIONAL and not refresh_settings().enable_cancellation_and_crashed_hooks):
        return []
    return getattr(flow, name)


class HookLogger(Protocol):
    """What is needed of a logger here: a logger or an adapter of one."""

    def info(self, msg: object, /, *args: object) -> None:
        """Write a line at INFO."""
        ...

    def exception(self, msg: object, /, *args: object) -> None:
        """Write a line at ERROR with the exception that is being handled."""
        ...


async def run_hooks(
    hooks: Iterable[Callable[..., Any]],
    args: tuple[Any, ...],
    *,
    logger: HookLogger,
    call: Callable[..., Awaitable[object]],
) -> None:
    """Call every hook in order. An error in one is logged and the others run.

    Args:
        hooks: The hooks of the state that was entered, in the order in which they were registered.
        args: What each is called with; the last one is the state.
        logger: The run's logger.
        call: Calls a hook and awaits what it gives where that is needed: ``await call(hook, *args)``.

    Cancellation and the signals of the engine are no errors of a hook: they pass through and end the row.
    """
    for hook in tuple(hooks):  # a hook may register another one, for the next time
        name = hook_name(hook)
        logger.info("Running hook %r in response to entering state %r", name, args[-1].name)
        try:
            await call(whose_body_decides(hook), *args)
        except Exception:
            logger.exception("An error was encountered while running hook %r", name)
        else:
            logger.info("Hook %r finished running successfully", name)


def show_before(error: BaseException, own: object) -> None:
    """Have the traceback of what a hook raised show the run's own error first, which it is raised instead of."""
    if not isinstance(own, BaseException) or error.__context__ is not None:
        return
    before: BaseException | None = own
    while before is not None:
        if before is error:  # a hook may raise the run's own error, or what had led to it
            return
        before = before.__cause__ or before.__context__
    error.__context__ = own


def sheltered(hook: Callable[..., Any], seconds: float) -> Callable[..., Any]:
    """Give a hook that may await although everything around it is cancelled already, for so many seconds."""

    async def within(value: Any) -> Any:
        with fail_after(seconds, shield=True):
            return await value

    def call(*args: Any) -> Any:
        value = hook(*args)
        return within(value) if isawaitable(value) else value

    call.__name__ = hook_name(hook)
    return call
