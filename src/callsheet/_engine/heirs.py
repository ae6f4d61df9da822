"""Going on with the one run that somebody wants: where the engine that it lived in is gone, or where it has ended."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from callsheet._engine.deaths import Deaths
from callsheet._engine.past import CUT_OFF, RESUMING, Replay
from callsheet._engine.recovery import call_hooks
from callsheet._engine.reviving import revive
from callsheet._engine.upstream import find_inputs
from callsheet._ids import new_id
from callsheet._model.kinds import Kind, StateType
from callsheet._model.records import StateEntered
from callsheet._rules.facts import Facts
from callsheet._rules.table import judge
from callsheet._rules.verdicts import AcceptIf

if TYPE_CHECKING:
    from uuid import UUID

    from callsheet._engine.core import Core
    from callsheet._engine.flow_run import FlowRunActor
    from callsheet._kernel.host import Host
    from callsheet._model.records import RunRecord

_AGAIN: Final = "A call under its run key goes on with it."


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

    @contextmanager
    def waiting(self) -> Generator[None, None, None]:
        """Let the engine give signs of life meanwhile: who gives none cannot say that others do not."""
        ownership = self._core.ownership
        ownership.heirs.add(self)
        try:
            yield
        finally:
            ownership.heirs.discard(self)

    def take(self, record: RunRecord) -> FlowRunActor | None:
        """Take the run up, if nobody has it any more.

        Returns:
            The run, which has been started; `None` where it is not to be had, or has ended by being taken too often.

        Raises:
            LostOwnership: Others have taken this engine for dead.
            StoreError: The history cannot be read or written.
        """
        return self._taken(record.id, CUT_OFF) if self._core.accepting and self._is_left(record.owner) else None

    def restart(self, record: RunRecord, replay: Replay) -> FlowRunActor | None:
        """Begin a run again that has ended.

        Returns:
            The run, which has been started; `None` where somebody else was quicker.

        Raises:
            EngineClosed: The engine takes no new runs.
            LostOwnership: Others have taken this engine for dead.
            StoreError: The history cannot be read or written.
        """
        core, state = self._core, record.state
        core.admit(None)
        if state is None:
            return None
        now = core.clock.micros()
        facts = Facts(now=now / 1e6, restart=True, foreign=True, run_id=record.id, seq=state.seq)
        verdict = judge(Kind.FLOW, state.type, StateType.SCHEDULED, facts, current_name=state.name)
        if not isinstance(verdict, AcceptIf):
            return None
        entered = StateEntered(
            run_id=record.id,
            seq=state.seq + 1,
            type=StateType.SCHEDULED,
            name=RESUMING,
            at=max(now, state.at),
            state_id=new_id(),
            message=_AGAIN,
            attempt=record.attempt,
            guards=verdict.guards,
        )
        return None if core.commit_guarded(entered) is not None else self._taken(record.id, replay)

    def _taken(self, run_id: UUID, replay: Replay) -> FlowRunActor | None:
        core = self._core
        core.ownership.vouch()
        taken = core.store.engines.take(run_id, at=core.clock.micros())
        if taken is None:
            return None
        if taken.type is StateType.PENDING:
            return revive(core, run_id, self._flow, replay=replay, parameters=self._parameters, home=self._home)
        call_hooks(core, self._flow, taken)
        return None

    def _is_left(self, owner: UUID | None) -> bool:
        """Tell whether a run belongs to nobody, as far as can be seen; the store decides."""
        if owner is None or owner == self._core.engine_id:
            return owner is None
        engines = self._core.store.engines
        engine = next((one for one in engines.read() if one.id == owner), None)
        if engine is None or engine.lost:
            return True
        ownership = self._core.ownership
        ownership.vouch()
        if ownership.lease is not None and not ownership.lease.is_fresh:
            ownership.lease.renew()  # the first one; from here on the journal's thread sees to it
        return self._deaths.is_dead(engine) and engines.fence(engine.id, engine.beat)
