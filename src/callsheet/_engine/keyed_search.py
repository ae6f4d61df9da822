"""The search for the run of a key: start it, attach to it, or read what it has come to."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeVar, cast

import msgspec

from callsheet._engine import decode, dispatch
from callsheet._engine.flow_facts import describe_flow
from callsheet._engine.flow_run import FlowRunActor
from callsheet._engine.heirs import Heir
from callsheet._engine.history import records_of
from callsheet._engine.keyed import INTERRUPTED, Holder, Keyed, digest_of, keyed_by
from callsheet._engine.places import ThreadPlace
from callsheet._engine.run_inputs import Bell
from callsheet._engine.waiting import wait_for_input, wait_in_life
from callsheet._kernel.host import current_host
from callsheet._kernel.messages import Leave, Orphan
from callsheet._kernel.ports import apart, step
from callsheet._kernel.signals import Once
from callsheet._model.kinds import SUSPENDED, TERMINAL_STATES, Kind, StateType
from callsheet._model.records import KeyFree, OutcomeRecord, RunFilter, RunRecord, gives_up_owner
from callsheet._results.journalled import recall
from callsheet._results.ways import along
from callsheet._rules.taking import MOST_RECOVERIES
from callsheet.context import current_tags, current_transaction
from callsheet.exceptions import MissingResult, RunKeyError, SerializationError, StorageError, StoreUnavailable

if TYPE_CHECKING:
    from uuid import UUID

    from callsheet._engine.core import Core
    from callsheet._engine.run import Run
    from callsheet._kernel.ports import Port
    from callsheet._model.records import StateRecord
    from callsheet._model.states import State
    from callsheet.run_keys import KeyBlock

T = TypeVar("T")
_S = StateType
_LOOK: Final = 0.25  # seconds between looks whether the process that has a run is gone
_UNANSWERED: Final = "The history in '{}' did not answer."
_NOT_BEGUN: Final = "The call that was to run it ended before the body began."


class Search:
    """One call under a run key.

    Args:
        core: The engine that the call uses.
        block: The block of `run_key` that the call is in.
        flow: What is called.
        parameters: With which parameters.
        wait_for: What the run is to wait for, where this call starts it.
        parent: The run that makes the call. The run with the key is no child of it, and is started beside it; without
            one, a run that this call starts is handed to the caller.

    Raises:
        RunKeyError: The history is not kept.
    """

    def __init__(
        self, core: Core, block: KeyBlock, flow: Any, parameters: dict[str, Any], wait_for: Any, parent: Run | None
    ) -> None:
        if not core.journal.keeps:
            raise RunKeyError(
                "At durability 'off' nothing is kept by which a run could be found again under its key. Use another "
                "durability, or the database ':memory:'."
            )
        self.core = core
        self._block = block
        self._flow = flow
        self._parameters = parameters
        self._wait_for = wait_for
        self._caller = None if parent is None else parent.cell
        self._home = current_host() or (None if parent is None else parent.home)
        self._heir = Heir(core, flow, parameters, self._home)
        self._waiting = parent  # the run that waits here, if one does
        self._where = (describe_flow(flow)[0].key, block.key)
        self._digest = digest_of(flow, parameters)
        self._led: Holder | None = None  # what this call looks after
        self._attached = False  # a run that ends from here on is this call's own, however it ends

    async def find(self, port: Port) -> FlowRunActor | State[Any]:
        """Give the run that has the key, or its state, once it has ended; or one that the caller has to live.

        Raises:
            RunKeyConflict: It has other parameters.
            RunKeyError: It waits for this very call.
            EngineClosed: The engine was closed meanwhile.
            MissingResult: It has completed, and its result cannot be had.
            StoreError: The history cannot be read or written.
            Interrupted: The run that makes the call must leave.
        """
        while True:
            holder = await self.begin(port)
            run = holder.run
            if run is not None and holder is self._led and not run.detached:
                return run
            outcome = await self.follow(holder, port)
            if outcome is not None:
                return outcome

    async def settle(self, holder: Holder, port: Port) -> FlowRunActor | State[Any]:
        """Give the same for a call that has begun, in a thread of its own: the run that made it goes on."""
        self._waiting = None
        return await self.follow(holder, port) or await self.find(port)

    # ------------------------------------------------------------------------------------ beginning

    async def begin(self, port: Port) -> Holder:
        """Find out which run has the key, and start one where none has it."""
        mine = Holder(self.core, self._where)
        holder = self.core.keyed.setdefault(self._where, mine)
        if holder is mine:
            self._led = mine
            try:
                await self._lead(mine, port)
            except BaseException:
                mine.leave()
                raise
        else:
            self._led = None
            await self._wait(holder.is_known, port)
            if holder.keyed is not None:
                self._check(holder.run_id, holder.keyed)
        return holder

    async def _lead(self, holder: Holder, port: Port) -> None:
        instead: UUID | None = None
        while True:
            run_id = await self._register(holder, instead, port)
            if run_id is None:
                return
            found = await self._apart(port, partial(_look, self.core, run_id))
            keyed = None if found is None else keyed_by(found.record)
            if found is None or keyed is None or found.has_expired(keyed, self.core.clock.micros()):
                instead = run_id  # the store agrees by now
                continue
            self._check(run_id, keyed)
            if found.was_interrupted or (self._may_retry and found.has_failed and found.type in TERMINAL_STATES):
                run = await self._apart(port, partial(self._heir.again, found.record))
                if run is None:
                    continue  # somebody else was quicker
                holder.lives(run, keyed)
                return
            if found.has_failed and self._may_retry:  # its body left it in a state that is not final
                instead = run_id
                continue
            if found.has_ended:
                holder.state = await self._recorded(found, port)
            holder.knows(run_id, keyed)
            if found.has_ended:
                holder.leave()
            return

    @property
    def _may_retry(self) -> bool:
        return self._block.on_failed == "retry" and not self._attached

    def _check(self, run_id: UUID | None, keyed: Keyed) -> None:
        keyed.check(self._digest)
        if self._caller is not None and self._caller.root_id == run_id:
            raise RunKeyError(f"The run with the run key {keyed.key!r} would wait for itself: it makes this very call.")

    async def _register(self, holder: Holder, instead: UUID | None, port: Port) -> UUID | None:
        """Register a run with the key; give the run that has it, if one does."""
        core, expiration = self.core, self._block.expiration
        now = core.clock.micros()
        expires = None if expiration is None else now + int(expiration.total_seconds() * 1e6)
        run = FlowRunActor(core, self._flow, self._parameters, self._wait_for, None, self._home, current_tags())
        run.keyed = Keyed(self._block.key, self._digest, expires)
        free = KeyFree(*self._where, run.cell.id, expires, now, instead)
        position = run.register(start=False, caller=self._caller, guards=(free,))
        journal = core.journal
        try:
            if (committed := core.acknowledge(run.cell, position, port)) is not None:
                await committed
        except BaseException:
            journal.notify(position, partial(_drop, run))
            raise
        if journal.committed < position:
            _drop(run)
            raise journal.failure or journal.degraded or StoreUnavailable(_UNANSWERED.format(core.store.location))
        refusal = core.refusal_of(run.cell.id)
        if refusal is None:
            holder.lives(run, run.keyed)
            if self._caller is not None:
                _start(run)
            return None
        _unmake(run)
        return cast("UUID", refusal.current)

    # ------------------------------------------------------------------------------------ following

    async def follow(self, holder: Holder, port: Port) -> FlowRunActor | State[Any] | None:
        """Wait until the run has ended; `None`: whoever ran it or looked after it has left, and somebody must look again.

        Raises:
            BlockingWaitError: It waits for the run that makes this call.
        """
        self._attached = self._attached or not holder.is_over.is_set
        if holder.run is None and holder is self._led and not holder.is_over.is_set:
            try:
                await self._watch(holder, port)
            finally:
                if holder.run is None:
                    holder.leave()
        run = holder.run
        if run is not None and self._waiting is not None:
            await wait_for_input(run, self._waiting, port)
        await self._wait(holder.is_over, port)
        return holder.outcome

    async def _watch(self, holder: Holder, port: Port) -> None:
        """Wait until a run elsewhere has ended, or take it over where its engine is gone."""
        core, bell, run_id = self.core, Bell(), cast("UUID", holder.run_id)
        with self._heir.waiting():
            core.journal.watch(bell.ring)
            try:
                while core.usable:
                    bell.renew()
                    found = await self._apart(port, partial(_look, core, run_id))
                    if found is None or found.was_interrupted:
                        return
                    if found.has_ended:
                        holder.state = await self._recorded(found, port)
                        return
                    run = self._living(run_id) or await self._apart(port, partial(self._heir.take, found.record))
                    if run is not None:
                        holder.lives(run, cast("Keyed", holder.keyed))
                        return
                    await self._wait(bell.once, port, min(core.lease / 4, _LOOK))
            finally:
                core.journal.unwatch(bell.ring)

    def _living(self, run_id: UUID) -> FlowRunActor | None:
        """Give a run that has been taken up in this engine, by whomever."""
        return next((cell.actor for cell in list(self.core.orchestrator.roots) if cell.id == run_id), None)

    async def _recorded(self, found: _Found, port: Port) -> State[Any]:
        """Give the state in which a run has ended, with what is recorded of its outcome."""
        record, outcome = found
        state: State[Any] = decode.state(cast("StateRecord", record.state), decode.state_details(record))
        if outcome is None or not outcome.recorded or outcome.status is not state.type:
            return state
        about = f"the flow run {record.name!r}"
        try:
            kept = await recall(along(port), outcome.result, self.core.blobs, run_id=record.id, run=about)
        except (MissingResult, StorageError, SerializationError):
            if state.type is _S.COMPLETED:
                raise
            return state  # an exception that does not come back: the state's message tells of it
        return msgspec.structs.replace(state, data=kept.result)

    # -------------------------------------------------------------------------------------- waiting

    async def _wait(self, once: Once, port: Port, timeout: float | None = None) -> None:
        """Wait as the run that makes the call, if one does: it may have to leave, and lends its place meanwhile."""
        if once.is_set:
            return
        if self._waiting is None:
            await port.wait(once, timeout)
        else:
            await wait_in_life(once, self._waiting, port, timeout)

    async def _apart(self, port: Port, work: Callable[[], T]) -> T:
        """Do something that blocks, on a thread where a loop would wait for it."""
        return work() if port.host is None else await apart(work, port, self.core.workers.run)


class _Found(NamedTuple):
    """A run in the history, and what is recorded of its outcome."""

    record: RunRecord
    outcome: OutcomeRecord | None

    @property
    def type(self) -> StateType | None:
        return None if self.record.state is None else self.record.state.type

    @property
    def has_ended(self) -> bool:
        """Tell whether it runs nowhere and waits for nobody but those outside. A body may end in a state that is not final."""
        state = self.record.state
        if state is None:
            return False
        return gives_up_owner(state.type, state.name) or (
            self.outcome is not None and self.outcome.status is state.type
        )

    @property
    def has_failed(self) -> bool:
        """Tell whether it has ended in another way than it should."""
        state = self.record.state
        return self.has_ended and state is not None and state.type is not _S.COMPLETED and state.name != SUSPENDED

    @property
    def was_interrupted(self) -> bool:
        """Tell whether something from outside has ended it: what its body says of itself is recorded."""
        state = self.record.state
        if state is None or (self.outcome is not None and self.outcome.status is state.type):
            return False
        return state.details == INTERRUPTED or (state.type is _S.CRASHED and self.record.recoveries < MOST_RECOVERIES)

    def has_expired(self, keyed: Keyed, now: int) -> bool:
        return self.type in TERMINAL_STATES and keyed.expires is not None and keyed.expires <= now


def _look(core: Core, run_id: UUID) -> _Found | None:
    """Give a run of the history; blocks until all that is known of it can be read."""
    place = ThreadPlace(core)
    reader = place.reader
    try:
        step(place.catch_up())
        page = step(reader.read_runs(RunFilter(kind=Kind.FLOW, ids=(run_id,)), limit=1))
        outcomes = step(reader.read_outcomes(run_id, run_id=run_id))
    finally:
        step(reader.aclose())
    return _Found(records_of(page.items)[0], outcomes[0] if outcomes else None) if page.items else None


def _start(run: FlowRunActor) -> None:
    """Start a run beside the one that calls it, and outside of that one's transaction."""
    token = current_transaction.set(None)
    try:
        dispatch.start(run, None)
    finally:
        current_transaction.reset(token)


def _drop(run: FlowRunActor) -> None:
    """End a run whose registration nobody waits for any more."""
    if run.core.refusal_of(run.cell.id) is not None:
        _unmake(run)
    else:
        abandon(run)


def abandon(run: FlowRunActor) -> None:
    """End a registered run that nobody will live."""
    run.core.ask(Orphan(run.cell, _NOT_BEGUN))
    run.finish()


def _unmake(run: FlowRunActor) -> None:
    """Forget a run that the store has refused: no trace of it is anywhere else."""
    run.core.ask(Leave(run.cell))
    run.cell.actor = None
