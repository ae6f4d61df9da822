"""Going on with the one run that somebody wants: where the engine that it lived in is gone, or where it has ended."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

from callsheet._engine.again import scheduled
from callsheet._engine.deaths import Deaths
from callsheet._engine.hooks_apart import call_hooks
from callsheet._engine.reviving import bring_to_life
from callsheet._engine.upstream import find_inputs
from callsheet._model.kinds import StateType

if TYPE_CHECKING:
    from uuid import UUID

    from callsheet._engine.core import Core
    from callsheet._engine.flow_run import FlowRunActor
    from callsheet._kernel.host import Host
    from callsheet._model.records import RunRecord


class Heir:
    """Waits for a run to be had, for one engine. What it does blocks: in async code it is called apart.

    Args:
        core: The engine that takes it over.
        flow: The flow that it is a run of.
        parameters: Its parameters, for where the history does not have them.
        home: The loop on which it goes on where the flow is async.
    """

    def __init__(self, core: Core, flow: Any, parameters: dict[str, Any], home: Host | None) -> None:
        self._core = core
        self._flow = flow
        self._parameters = None if find_inputs(parameters, None, None)[0] else parameters
        self._home = home
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
        if record.owner == self._core.engine_id:
            return self._brought_to_life_again(record.id)
        is_left = record.owner is None or self._deaths.is_left(record.owner)
        return self._taken(record.id) if self._core.accepting and is_left else None

    def again(self, record: RunRecord) -> FlowRunActor | None:
        """Begin a run once more that has ended, without what had completed.

        Returns:
            The run, which has been started; `None` where somebody else was quicker.

        Raises:
            EngineClosed: The engine takes no new runs.
            RunNotRepeatable: There is a rule against it.
            StoreError: The history cannot be read or written.
        """
        core = self._core
        core.admit(None)
        entry = scheduled(record, core.clock.micros(), retry=True)
        return None if core.commit_guarded(entry) is not None else self._taken(record.id)

    def _taken(self, run_id: UUID) -> FlowRunActor | None:
        core = self._core
        core.ownership.vouch()
        with core.ownership.arrivals.one():
            found = core.store.engines.take((run_id,), at=core.clock.micros())
            if found and found[0].type is StateType.PENDING:
                return self._brought_to_life(run_id)
        for taken in found:
            call_hooks(core, self._flow, taken.run_id, taken.type)
        return None

    def _brought_to_life(self, run_id: UUID) -> FlowRunActor:
        return bring_to_life(self._core, run_id, self._flow, parameters=self._parameters, home=self._home)

    def _brought_to_life_again(self, run_id: UUID) -> FlowRunActor | None:
        """Try once more with a run that this engine has taken up, if that failed."""
        arrivals = self._core.ownership.arrivals
        if arrivals.stuck.pop(run_id, None) is None:
            return None
        with arrivals.one():
            return self._brought_to_life(run_id)
