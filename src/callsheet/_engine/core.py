"""The machinery that runs share: store, journal, orchestrator and threads, under one life."""

from __future__ import annotations

import os
import threading
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol
from uuid import UUID
from weakref import WeakSet

from callsheet._clock import Clock, current_clock, virtual_clock
from callsheet._engine.letters import Inbox
from callsheet._engine.ownership import Ownership, interrupt, lost
from callsheet._ids import new_id
from callsheet._kernel.host import Host
from callsheet._kernel.journal import Journal
from callsheet._kernel.messages import CLOSED, CancelTree, Cell, Orphan
from callsheet._kernel.orchestrator import Orchestrator
from callsheet._kernel.ports import Port
from callsheet._kernel.scopes import TERMINATE
from callsheet._kernel.signals import Once
from callsheet._kernel.threads import WorkerThreads
from callsheet._model.kinds import Durability
from callsheet._model.records import RunCreated
from callsheet.exceptions import EngineClosed, StoreError, VirtualTimeError
from callsheet.settings import held_here

if TYPE_CHECKING:
    from callsheet._engine.memory import Memory
    from callsheet._kernel.loop_parts import Event
    from callsheet._model.records import Entry, LogWritten, Refusal
    from callsheet._store.protocol import Store
    from callsheet.settings import Settings

_THREAD_SECONDS = 0.5  # for bodies whose runs are over; their threads are daemons
_OTHER_TIME: Final = (
    "This engine and this code live in different times: one in virtual time, the other not, or in that of another test. Open "
    "the engine in the virtual test itself, or use the fixture `engine`."
)


class Beset(Protocol):
    """Has something happen before or after the body of a task run; what it raises the body has raised."""

    def __call__(self, run: Any, *, before: bool) -> None: ...


class Replay(Protocol):
    """Goes through a recorded run once more: no body of a task and no hook is called, and calls are compared."""

    def may_run(self, run: Any) -> bool:
        """Tell whether the body of a task run is called. Else it lasts until its flow run leaves."""
        ...

    def begins_beside(self, definition: Any) -> None:
        """Hear of a run that is none of the recorded one, and refuse it."""
        ...

    def new_step(self, run: Any, key: str) -> None:
        """Hear of a step of a flow run's body that is not on record."""
        ...

    def pauses(self, run: Any, key: str) -> None:
        """Hear that the body of a flow run pauses."""
        ...

    def tries_again(self, run: Any) -> None:
        """Hear that an attempt of a flow run has failed and another one begins."""
        ...

    def ends(self, run: Any, final: Any) -> None:
        """Hear how a flow run ends."""
        ...


class Core:
    """Everything that runs of one engine share. Usable from any loop and thread of its process."""

    def __init__(self, store: Store, settings: Settings, *, clock: Clock | None = None) -> None:
        durability = settings.durability
        store.open()
        self.engine_id = new_id()  # which its root runs belong to, and orders for them are addressed to
        self.store = store
        self._settings = settings
        self.durability = durability
        self.clock = clock = current_clock() if clock is None else clock
        self.journal = Journal(store, durability)
        self.journal.on_refused(self._refused)
        self.journal.on_lost(self._lose)
        self.journal.start()
        self.orchestrator = Orchestrator(self.journal, clock, self.engine_id)
        self.ask = self.orchestrator.mailbox.ask
        self.home: Host | None = None  # the loop of an explicit engine
        self._log_sink: Callable[[LogWritten], None] | None = None if durability is Durability.OFF else self._keep_log
        self.beset: Beset | None = None  # what a simulation does to task bodies
        self.replay: Replay | None = None  # where recorded runs are gone through once more, and nothing else
        self.accepting = True
        self.lease = settings.lease_seconds
        self.blobs = None if store.location == "memory" else Path(store.location + "-results")
        # Abandoned: its runs belong to the process that forked this one, or, where it is lost, to other engines.
        self.closed = self.abandoned = self.lost = False
        self.ownership = Ownership(self, settings.lease_seconds)
        self.flows: dict[str, Any] = {}  # that it takes up runs of, by entrypoint
        self.memories: dict[UUID, Memory] = {}  # of flow runs that were cut off and are alive again
        self._inbox = Inbox(self)
        self.dues: list[int] = []  # when runs that were suspended here are to be looked at, as a heap
        self.nudge: Callable[[], None] = _nothing  # tells whoever takes up runs that there may be one
        self._workers: WorkerThreads | None = None
        self._steps: dict[Host, list[Event]] = {}  # who waits for the commit at the end of a loop's step
        self._lock = threading.Lock()
        self._refusals: dict[int | UUID, Refusal] = {}  # by the run that was not created, or by the entry's address
        self.keyed: dict[tuple[str, str], Any] = {}  # by flow and run key: who is at it in this process
        self.expecting: tuple[Callable[[], None], ...] = ()  # who waits for values that flow runs are handed
        # Which endings are on disk before their caller goes on: durability.md section 2.
        self.acknowledges_all = durability is Durability.STRICT
        self.acknowledges_outcomes = self.acknowledges_all or durability is Durability.RESULTS
        _cores.add(self)

    # ------------------------------------------------------------------------------------ settings

    @property
    def settings(self) -> Settings:
        """Give what holds here: the temporary settings of the call, else what the engine was opened with."""
        held = held_here.get()
        return self._settings if held is None else held.settings

    @property
    def log_sink(self) -> Callable[[LogWritten], None] | None:
        """Give where log records are kept, if they are."""
        return self._log_sink if self.settings.logging_to_database else None

    @property
    def cancel_grace(self) -> float:
        """Give how long a run that ends early waits for what it has cancelled, in seconds."""
        return self.settings.cancel_grace_seconds

    # ------------------------------------------------------------------------------------- running

    @property
    def usable(self) -> bool:
        """Tell whether runs can be started: not closed, not inherited by a fork, and not taken for dead."""
        return not (self.closed or self.abandoned)

    @property
    def workers(self) -> WorkerThreads:
        """Give the threads on which sync bodies run, starting with none."""
        if self._workers is None:
            with self._lock:
                if self._workers is None:
                    self._workers = WorkerThreads()
        return self._workers

    def admit(self, parent: Cell | None) -> None:
        """Refuse a run that may not start.

        Raises:
            EngineClosed: The engine is draining or closed; runs that were started before may still start children.
            LostOwnership: Others have taken this engine for dead.
            VirtualTimeError: It lives in another time than its caller.
            StoreError: History cannot be written any more and nothing further fits into memory.
        """
        if self.lost:
            raise lost(self)
        if self.closed or (parent is None and not self.accepting):
            raise EngineClosed("This engine is shutting down and takes no new runs. Start the run in an open engine.")
        if self.journal.full:
            raise self.journal.degraded or StoreError("The history cannot be written fast enough: too much is waiting.")
        if parent is None:
            here = virtual_clock()
            if here is not self.clock and (here is not None or self.clock.is_virtual):
                raise VirtualTimeError(_OTHER_TIME)
            self.ownership.vouch()

    def acknowledge(self, cell: Cell, position: int, port: Port) -> Awaitable[object] | None:
        """Give what is to be awaited until everything up to a position of the journal is committed, if anything is.

        Who waits commits where it is: one page in the redo log costs less than a hop to the journal's thread and
        back. Where other runs are alive, those that end in one step of the loop share a commit at its end. Where
        somebody else is committing, everybody waits together for the thread's next batch.
        """
        journal = self.journal
        if journal.committed >= position:
            return None
        host = port.host
        if host is not None and self._has_company(cell):
            return self._commit_of_step(host)
        if journal.flush_here(position):
            return None
        done = Once()
        journal.notify(position, done.set)
        return port.wait(done)

    def _has_company(self, cell: Cell) -> bool:
        """Tell whether runs beside an ended one are alive that may end at the same time."""
        parent = cell.parent
        if parent is None:
            return bool(self.orchestrator.roots)
        return bool(parent.children) or len(self.orchestrator.roots) > 1

    def when_committed(self, position: int, port: Port, call: Callable[[], None]) -> None:
        """Call `call()`, in whichever thread commits, once everything up to a position of the journal is committed.

        Nobody awaits it, so at ``strict`` no loop is held up by the disk. Else it is committed as `acknowledge` does; the
        journal's thread does so, too, a little later, where a loop ends before that.
        """
        host, journal = port.host, self.journal
        on_the_spot = not self.acknowledges_all
        journal.notify(position, call, hurry=not on_the_spot)
        if on_the_spot and host is not None:
            self._waiting_in_step(host)
        elif on_the_spot:
            journal.flush_here(position)

    def _waiting_in_step(self, host: Host) -> list[Event]:
        """Have a commit at the end of this step of a loop, and give the list of those who are to be woken by it."""
        waiting = self._steps.get(host)
        if waiting is None:
            waiting = self._steps[host] = []
            host.after_step(partial(self._commit_step, host))
        return waiting

    def _commit_of_step(self, host: Host) -> Awaitable[object]:
        """Give what is to be awaited until what was accepted in this step of a loop is committed."""
        event = host.new_event()
        self._waiting_in_step(host).append(event)
        return event.wait()

    def _commit_step(self, host: Host) -> None:
        waiting = self._steps.pop(host)
        position = self.journal.accepted
        if self.journal.flush_here(position):
            _wake(waiting)
        elif waiting:
            self.journal.notify(position, lambda: host.post(partial(_wake, waiting)))

    def forget(self) -> None:
        """Leave store and threads to the process from which this one was forked; bodies may still return here."""
        self.abandoned = True
        self._log_sink = None
        self._lock = threading.Lock()
        self.ownership.disown()
        self.orchestrator.forget()

    def _lose(self) -> None:
        """Hear that others have taken this engine for dead."""
        with self._lock:
            self.lost = self.abandoned = True
        self.accepting = False
        self._log_sink = None
        interrupt(self)

    def _keep_log(self, record: LogWritten) -> None:
        self.journal.put(record)

    # ---------------------------------------------------------------- transitions by somebody else

    def commit_guarded(self, *entries: Entry) -> Refusal | None:
        """Commit entries whose guards only the store can judge, and give why one was refused (blocking).

        Raises:
            LostOwnership: Others have taken this engine for dead.
            StoreError: The store cannot be written.
        """
        self.journal.put(*entries)
        self.journal.flush()
        if self.lost:
            raise lost(self)
        refused = [self._refusals.pop(id(entry), None) for entry in entries]
        return next((refusal for refusal in refused if refusal is not None), None)

    def expect(self, ring: Callable[[], None], *, expected: bool) -> None:
        """Have `ring` called, or not any more, when a flow run may have been handed a value."""
        with self._lock:
            others = tuple(one for one in self.expecting if one != ring)
            self.expecting = (*others, ring) if expected else others
        if expected:
            self.journal.watch(ring)
        else:
            self.journal.unwatch(ring)

    def refusal_of(self, run_id: UUID) -> Refusal | None:
        """Give why the store refused a run that was registered with guards, once that is committed."""
        return self._refusals.pop(run_id, None)

    def _refused(self, entry: Entry, refusal: Refusal) -> None:
        self._refusals[entry.id if isinstance(entry, RunCreated) else id(entry)] = refusal

    # --------------------------------------------------------------------------------------- ending

    def cancel_everything(self) -> list[Cell]:
        """Ask every live root run to leave, children first, and give those runs."""
        roots = list(self.orchestrator.roots)
        for root in roots:
            self.orchestrator.mailbox.tell(CancelTree(root, TERMINATE))
        return roots

    def close(self, timeout: float = 10.0) -> None:
        """Write everything down and let go of threads and files (seconds at most). Closing twice is fine.

        Raises:
            StoreError: Something could not be saved; the message tells exactly what.
        """
        with self._lock:
            if self.closed:
                return
            self.closed = True
        self.accepting = False
        for cell in self.orchestrator.alive():  # a thread's body cannot be made to leave
            self.ask(Orphan(cell, CLOSED))
        unsaved = self.journal.close(timeout)
        self.ownership.leave()
        self.orchestrator.mailbox.close()
        if self._workers is not None:
            self._workers.close(min(timeout, _THREAD_SECONDS))
        self.store.close()
        if unsaved:
            raise unsaved.as_error()


def _nothing() -> None:
    pass


def _wake(waiting: list[Event]) -> None:
    for event in waiting:
        event.set()


_cores: WeakSet[Core] = WeakSet()


def cores() -> list[Core]:
    """Give every core of this process."""
    return list(_cores)


def _after_fork() -> None:
    for core in cores():
        core.forget()


os.register_at_fork(after_in_child=_after_fork)
