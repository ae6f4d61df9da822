"""Hooks of transactions: one after the other, and the first that fails ends the row (unlike hooks of runs)."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Iterable
from inspect import isawaitable
from typing import TYPE_CHECKING, Any

from callsheet._dual import whose_body_decides
from callsheet.settings import get_current_settings
from callsheet.utilities.functions import hook_name

if TYPE_CHECKING:
    from callsheet._kernel.ports import Port


async def run_hooks(
    kind: str, hooks: Iterable[Callable[..., Any]], transaction: Any, port: Port, *, sheltered: bool
) -> None:
    """Call hooks in order with their transaction, and say so in its log.

    Args:
        kind: ``commit`` or ``rollback``, for the log.
        hooks: The hooks. Those with a false `log_on_run` are not spoken of.
        transaction: What each is called with.
        port: Where it lives; what a hook gives is awaited there.
        sheltered: Whether hooks may await although what is around them is cancelled.

    Raises:
        Exception: What a hook raised; it is logged, and those after it are not called.
    """
    logger = transaction.logger
    for hook in tuple(hooks):
        name, is_logged = hook_name(hook), getattr(hook, "log_on_run", True)
        if is_logged:
            logger.info("Running %s hook %r", kind, name)
        try:
            await port.call(whose_body_decides(_sheltered(hook) if sheltered else hook), transaction)
        except Exception:
            if is_logged:
                logger.exception("An error was encountered while running %s hook %r", kind, name)
            raise
        if is_logged:
            logger.info("%s hook %r finished running successfully", kind.capitalize(), name)


def _sheltered(hook: Callable[..., Any]) -> Callable[..., Any]:
    def call(transaction: Any) -> Any:
        value = hook(transaction)
        return _to_the_end(value) if isawaitable(value) else value

    return call


async def _to_the_end(value: Awaitable[object]) -> object:
    """Await what undoes work, whatever is cancelled around it; not for ever if that is why it is undone.

    Raises:
        TimeoutError: It took longer than `CALLSHEET_CANCEL_GRACE_SECONDS` after a cancellation.
    """
    from anyio import CancelScope, current_effective_deadline, current_time

    seconds = get_current_settings().cancel_grace_seconds
    is_cancelled = current_effective_deadline() == -math.inf
    with CancelScope(shield=True, deadline=current_time() + seconds if is_cancelled else math.inf):
        return await value
    raise TimeoutError(f"Not finished {seconds:g} s after everything around it was cancelled.")
