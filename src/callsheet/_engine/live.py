"""Live runs of this process, found by their ids."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from uuid import UUID

if TYPE_CHECKING:
    from callsheet._engine.core import Core
    from callsheet._kernel.signals import Once


def live_run(core: Core, run_id: UUID) -> Any:
    """Give the live run of a core that has this id, or `None`."""
    while True:
        try:
            cells = core.orchestrator.alive()
        except RuntimeError:  # a run began or ended meanwhile, in another thread
            continue
        # The task run that tracks a subflow has the subflow's actor, and another id.
        return next((c.actor for c in cells if c.id == run_id and c.actor is not None and c.actor.cell is c), None)


def when_ended(core: Core, run_id: UUID) -> Once | None:
    """Give the condition that is set when a live run has ended with its hooks, or `None`: none has this id."""
    run = live_run(core, run_id)
    return None if run is None else run.when_ended()
