"""Taking over the one run that somebody waits for, where the engine that it lived in is gone."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

from callsheet._engine.deaths import Deaths
from callsheet._engine.hooks_apart import call_hooks
from callsheet._engine.reviving import revive
from callsheet._model.kinds import StateType

if TYPE_CHECKING:
    from callsheet._engine.core import Core
    from callsheet._engine.flow_run import FlowRunActor
    from callsheet._model.records import RunRecord


class Heir:
    """Waits for a run to be had, for one engine. What it does blocks: in async code it is called apart.

    Args:
        core: The engine that takes it over.
        flow: The flow that it is a run of.
    """

    def __init__(self, core: Core, flow: Any) -> None:
        self._core = core
        self._flow = flow
        self._deaths = Deaths(core)

    def waiting(self) -> AbstractContextManager[None]:
        """Let the engine give signs of life meanwhile."""
        return self._deaths.watching()

    def take(self, record: RunRecord) -> FlowRunActor | None:
        """Take the run up, if nobody has it any more.

        Returns:
            The run, which has been started; `None` where it is not to be had, or has ended by being taken too often.

        Raises:
            LostOwnership: Others have taken this engine for dead.
            StoreError: The history cannot be read or written.
        """
        core, engines = self._core, self._core.store.engines
        if not core.accepting or (record.owner is not None and not self._deaths.is_left(record.owner)):
            return None
        core.ownership.vouch()
        taken = engines.take(record.id, at=core.clock.micros())
        if taken is None:
            return None
        if taken.type is StateType.PENDING:
            return revive(core, record.id, self._flow)
        call_hooks(core, self._flow, taken.run_id, taken.type)
        return None
