"""What makes an engine the owner of its root runs, and what happens to them when it is not any more."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from callsheet._engine.arrivals import Arrivals
from callsheet._kernel.lease import Lease
from callsheet._kernel.messages import CancelTree
from callsheet._kernel.scopes import FENCED
from callsheet._kernel.threads import start_thread
from callsheet._model.engines import EngineRecord
from callsheet._model.kinds import Durability
from callsheet._store.proofs import Proof, folder_beside
from callsheet.exceptions import LostOwnership, StoreError
from callsheet.logging.loggers import engine_log

if TYPE_CHECKING:
    from callsheet._engine.core import Core

_LOG: Final = engine_log("callsheet.engine")


class Ownership:
    """An engine as the owner of runs. One for each core.

    Args:
        core: The engine.
        seconds: Its lease.
    """

    def __init__(self, core: Core, seconds: float) -> None:
        self._core = core
        self._seconds = seconds
        self._proof: Proof | None = None
        self._is_listed = core.durability is Durability.OFF  # nothing is owned where nothing is kept
        self._entering = threading.Lock()
        self._recovers = False
        self.watchers: set[object] = set()  # who look out for the death of others
        self.flows: tuple[str, ...] = ()
        self.arrivals = Arrivals()  # what is being taken up
        self._told: set[str] = set()  # of which flows it was said that a run is not recoverable
        self.lease: Lease | None = None

    @property
    def folder(self) -> Path | None:
        """Give where the proofs of the engines of this history are; `None` where it is in memory."""
        location = self._core.store.location
        return None if location == "memory" else folder_beside(Path(location))

    def vouch(self) -> None:
        """Make sure, before a root run begins, that others know of this engine and of a sign of life."""
        lease = self.lease if self._is_listed else self.listed()
        if lease is not None:
            lease.vouch()

    def listed(self) -> Lease | None:
        """Make sure that others know of this engine from its next transaction on, and give its lease, if it has one."""
        with self._entering:  # who comes second waits: a run of an engine that is not listed is anybody's
            if not self._is_listed:
                self._enter()
                self._is_listed = True
        return self.lease

    def take_up(self, flows: tuple[str, ...]) -> None:
        """Let others know whose runs this engine takes up; from now on it gives signs of life all the time."""
        with self._entering:
            self.flows = flows
            self._recovers = True
            self._enter()
            self._is_listed = True
        self._core.store.engines.renew()  # at once, if nobody else is writing just now

    def _enter(self) -> None:
        core, folder = self._core, self.folder
        if folder is not None and self._proof is None:
            with suppress(OSError):  # the lease decides
                self._proof = Proof(folder, core.engine_id.hex)
        proof = self._proof
        core.store.engines.enter(
            EngineRecord(
                id=core.engine_id,
                lease=self._seconds,
                machine="" if proof is None else proof.machine,
                file="" if proof is None else proof.name,
                pid=os.getpid(),
                host=socket.gethostname(),
                started=core.clock.micros(),
                flows=self.flows,
            )
        )
        if core.store.is_shared and self.lease is None:
            self.lease = core.journal.lease = Lease(
                core.store.engines, self._seconds, self._is_in_use, core.orchestrator.grant
            )

    def _is_in_use(self) -> bool:
        return self._recovers or bool(self.watchers or self._core.orchestrator.roots)

    def tell_unrecoverable(self, run: Any, names: list[str]) -> None:
        """Say once for a flow, where this engine goes on with its runs, that a root run cannot be gone on with."""
        key = run.cell.definition.key
        if key in self._core.flows and key not in self._told:
            self._told.add(key)
            _LOG.warning(
                "If its process dies, the run %r of the flow %r is not recoverable and ends as Crashed: the history has no value "
                "of its parameters %s. Pass what JSON can hold. This is said once for each flow.",
                run.name,
                run.definition.name,
                ", ".join(map(repr, names)),
            )

    def leave(self) -> None:
        """Own nothing any more. What could not be written down stays for others to take over."""
        with suppress(StoreError):
            self._core.store.engines.leave()
        self.forget()

    def forget(self) -> None:
        """Take back the proof of life."""
        proof, self._proof = self._proof, None
        if proof is not None:
            proof.close()

    def disown(self) -> None:
        """Leave everything to the process from which this one was forked: the proof is that one's."""
        self._proof = self.lease = None
        self._entering = threading.Lock()


def interrupt(core: Core) -> None:
    """End every run of an engine that others took for dead: they go on elsewhere. The engine closes when they have left."""
    core.ownership.forget()
    orchestrator = core.orchestrator
    orchestrator.keep_nothing()
    for root in list(orchestrator.roots):
        orchestrator.mailbox.tell(CancelTree(root, FENCED))
    orchestrator.when_idle().subscribe(lambda: _close_apart(core))


def _close_apart(core: Core) -> None:
    with suppress(RuntimeError):  # the interpreter is shutting down
        start_thread(core.close, "callsheet-close")


def lost(core: Core) -> LostOwnership:
    """Say why a run of such an engine has no outcome here."""
    failure = core.journal.failure
    said = str(failure) if isinstance(failure, LostOwnership) else "Another engine has taken over the runs of this one."
    return LostOwnership(said)


def flows_by_key(flows: Iterable[Any]) -> dict[str, Any]:
    """Give flows by the key under which the history knows them.

    Raises:
        TypeError: One is no flow.
    """
    found = dict[str, Any]()
    for flow in flows:
        key = getattr(flow, "_entrypoint", None)
        if key is None:
            raise TypeError(f"`flows` takes flows, not {type(flow).__name__}. Decorate the function with `@flow`.")
        found[key] = flow
    return found
