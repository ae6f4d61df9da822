"""Cancelling task runs."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from callsheet._engine import cancelling
from callsheet._engine.dual import dual
from callsheet._model.kinds import Kind
from callsheet._model.states import State

__all__ = ["acancel_task_run", "cancel_task_run"]


async def acancel_task_run(task_run_id: UUID | str, message: str | None = None) -> State[Any]:
    """Cancel a task run and everything below it, of this process or of another one on the same history.

    When this returns, it is on record, and the task does not start any more if it had not. Its flow run goes on: whoever
    waits for the result gets `CancelledRun`. A task run that tracks a subflow stands for the subflow's run. What
    `cancel_flow_run` says of bodies and of runs that nobody runs holds here too.

    Args:
        task_run_id: Its id.
        message: Why, for the history.

    Returns:
        The state that it is in then: Cancelling or Cancelled; or how it has ended, if it had before.

    Raises:
        ObjectNotFound: There is no such task run.
        StoreError: The history cannot be written.

    Example:
        >>> import asyncio
        >>> from callsheet import flow, task
        >>> @task
        ... async def nap() -> None:
        ...     await asyncio.sleep(3600)
        >>> @flow
        ... async def evening() -> str:
        ...     future = nap.submit()
        ...     await cancel_task_run(future.task_run_id)
        ...     future.wait()
        ...     return future.state.name
        >>> asyncio.run(evening())
        'Cancelled'
    """
    return await cancelling.cancel_here(Kind.TASK, UUID(str(task_run_id)), message)


cancel_task_run = dual(acancel_task_run)
