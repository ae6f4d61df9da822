"""Where somebody who reads or changes the history lives: in a task of an event loop, or in a thread that it blocks."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from callsheet._engine.ambient import core_for_call
from callsheet._kernel.host import Host, current_host
from callsheet._kernel.ports import LoopPort, Port, apart, sync_port
from callsheet._kernel.signals import Once
from callsheet.context import current_run

if TYPE_CHECKING:
    from callsheet._engine.core import Core
    from callsheet._store.protocol import Reader

T = TypeVar("T")


def current_core() -> Core:
    """Give the machinery whose history is meant here: the current run's, else the one that a run would use."""
    run = current_run.get()
    if run is not None and run.core.usable:
        return run.core
    return core_for_call(current_host())


def core_of(client: Any) -> Core:
    """Give the machinery on whose history a client of either kind works.

    Raises:
        TypeError: It is no client.
        RuntimeError: It is not open.
        StoreClosed: It was closed.
    """
    session = getattr(client, "_session", None)
    if session is None:
        raise TypeError(
            f"Expected a client, as `get_client()` gives them, for 'client'; got {type(client).__name__} instead. "
            "Leave it out to mean the history of the place of the call."
        )
    return session.place.core


class LoopPlace:
    """Reading in async code. The reader suspends, and what blocks is done on a thread."""

    def __init__(self, core: Core, host: Host) -> None:
        self.core = core
        self.host: Host | None = host
        self.reader: Reader = core.store.reader()
        self._port = LoopPort(host)

    async def catch_up(self) -> None:
        """Wait until what was accepted so far, here and in other processes, can be read.

        Raises:
            StoreError: it cannot be written.
        """
        await _catch_up(self.core, self._port)
        if self.core.store.adoptable():
            await self.apart(self.core.store.adopt)

    async def apart(self, work: Callable[[], T]) -> T:
        """Do something that blocks, without blocking the loop."""
        return await apart(work, self._port, self.core.workers.run)


class ThreadPlace:
    """Reading in sync code. Its coroutines never suspend."""

    host: Host | None = None

    def __init__(self, core: Core) -> None:
        self.core = core
        self.reader: Reader = core.store.blocking_reader()

    async def catch_up(self) -> None:
        """Block until what this process has accepted so far can be read.

        Raises:
            StoreError: it cannot be written.
        """
        await _catch_up(self.core, sync_port())
        self.core.store.adopt()

    async def apart(self, work: Callable[[], T]) -> T:
        """Do something that blocks."""
        return work()


Place = LoopPlace | ThreadPlace


async def _catch_up(core: Core, port: Port) -> None:
    journal = core.journal
    core.orchestrator.mailbox.sweep()  # runs of generators that were closed or dropped have ended
    position = journal.accepted
    if journal.shown >= position:
        return
    done = Once()
    journal.notify_shown(position, done.set)
    await port.wait(done)
    if journal.shown < position:
        journal.flush()  # it was given up for now: says why
