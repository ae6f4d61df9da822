"""The keys of the cache, as a task's options say."""

from __future__ import annotations

from contextvars import copy_context
from typing import TYPE_CHECKING, Any, Final

from callsheet._kernel.ports import apart
from callsheet._results.keys import format_storage_key
from callsheet.utilities.cache_keys import UnhashableInputs, check_key
from callsheet.utilities.canonical import OverBudget, at_most

if TYPE_CHECKING:
    from callsheet._engine.task_run import TaskRunActor
    from callsheet._kernel.ports import Port

# What a digest may look at on an event loop: some 20 ms. Larger inputs are digested on a thread.
_PARTS: Final = 10_000
_BYTES: Final = 8 << 20


async def cache_key(run: TaskRunActor, port: Port, *, policy: bool = True) -> str | None:
    """Give the key under which a run's result is looked for and kept; `None` where it is its own.

    A policy that fails makes no key: then the run is not cached, and its log says why.

    Args:
        run: The run.
        port: Where it lives.
        policy: Whether the cache policy is asked; else there is a key only where the task names it.

    Raises:
        Exception: The template of a storage key cannot be filled in.
    """
    task = run.definition
    if task.cache_policy is None:
        template = task.result_storage_key
        return None if template is None else _formatted(template)
    if not policy:
        return None
    try:
        if port.host is None:
            return _computed(run)
        try:
            with at_most(_PARTS, _BYTES):
                return _computed(run)
        except OverBudget:
            context = copy_context()
            return await apart(lambda: context.run(_computed, run), port, run.core.workers.run)
    except UnhashableInputs as error:
        run.logger().error("The run is not cached. %s", error)
    except Exception:
        run.logger().exception("The run is not cached: its cache policy failed to make a key.")
    return None


def _computed(run: TaskRunActor) -> str | None:
    flow = run.flow_actor
    key: Any = run.definition.cache_policy.compute_key(
        task_ctx=run.context,
        inputs=run.parameters,
        flow_parameters={} if flow is None else flow.parameters,
    )
    return None if key is None else check_key(key)


def _formatted(template: str) -> str:
    try:
        return format_storage_key(template)
    except Exception as error:
        error.add_note(f"'result_storage_key' is {template!r}")
        raise
