"""An engine for one test: in memory, for sync and async code alike, and mortal."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final, Self
from uuid import UUID

import msgspec

from callsheet._clock import Clock, current_clock
from callsheet._dual import dual
from callsheet._engine import ambient
from callsheet._engine.core import Core
from callsheet._engine.ownership import flows_by_key
from callsheet._engine.recovery import Recovery
from callsheet._kernel.commits import call_all
from callsheet._kernel.host import Host, current_host
from callsheet._model.kinds import Durability
from callsheet._model.states import State
from callsheet.context import EngineContext, current_run
from callsheet.exceptions import EngineClosed, FlowRunWaitTimeout, LostOwnership
from callsheet.flow_runs import wait_for_flow_run
from callsheet.flows import Flow
from callsheet.settings import refresh_settings
from callsheet.testing.timeline import Happened, OrderedStore

__all__ = ["MemoryEngine"]

_CLOSING: Final = 5.0  # seconds for bodies that do not end


class MemoryEngine:
    """An engine in memory for one test; a context manager, in sync and in async code.

    Flows and tasks that are called while it is open use it by themselves. It can be killed and restarted in the middle of
    the test (`crash`), and tells what happened (`history`).

    Args:
        durability: As for `Engine`; what a crash leaves depends on it. ``off`` keeps nothing. Default: the setting.
        clock: Tells the time. Default: that in which it is opened: the system's, or virtual time.

    Raises:
        ValueError: There is no such durability.

    Example:
        >>> from callsheet import flow
        >>> @flow
        ... def hello(name: str) -> str:
        ...     return f"hello {name}"
        >>> with MemoryEngine() as engine:
        ...     hello("marvin")
        ...     [happened.state for happened in engine.history]
        'hello marvin'
        ['Pending', 'Running', 'Completed']
    """

    def __init__(self, *, durability: Durability | str | None = None, clock: Clock | None = None) -> None:
        self._durability = None if durability is None else Durability(durability)
        self._given_clock = clock
        self._clock: Clock = clock or current_clock()
        self._store = OrderedStore()
        self._core: Core | None = None
        self._recovery: Recovery | None = None
        self._began = 0
        self._crashing = threading.RLock()
        self._killed: list[Core] = []
        self._context = EngineContext(engine=self)

    @property
    def core(self) -> Core:
        """Give the machinery of the open engine.

        Raises:
            EngineClosed: It is not open.
        """
        if self._core is None:
            raise EngineClosed("This engine is not open. Use it as `with MemoryEngine() as engine:`.")
        return self._core

    @property
    def usable(self) -> bool:
        """Tell whether runs can be started in it."""
        return self._core is not None and self._core.usable

    @property
    def history(self) -> list[Happened]:
        """Every state that a run entered so far, in the order in which they were committed."""
        self.core.journal.flush()
        return self._store.happened(self._began)

    def __enter__(self) -> Self:
        """Open it.

        Raises:
            RuntimeError: It is open.
        """
        if self._core is not None:
            raise RuntimeError("This engine is open already.")
        self._clock = self._given_clock or current_clock()
        self._began = self._clock.micros()
        self._core = self._made({}, current_host())
        ambient.opened(self)
        self._context = EngineContext(engine=self)
        self._context.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        """Close it; what still runs is cancelled and left behind."""
        with self._crashing:
            core, self._core = self.core, None
        if self._recovery is not None:
            self._recovery.stop()
        core.cancel_everything()
        ambient.closed(self, core)
        with suppress(ValueError):  # opened in another task, whose context is gone with it
            self._context.__exit__()
        for one in (core, *self._killed):
            one.close(_CLOSING)

    def _made(self, flows: dict[str, Any], home: Host | None) -> Core:
        settings = refresh_settings()
        if self._durability is not None:
            settings = msgspec.structs.replace(settings, durability=self._durability)
        core = Core(self._store, settings, clock=self._clock)
        core.home = home
        core.flows = flows
        return core

    def _take_up(self, core: Core) -> None:
        core.ownership.take_up(tuple(core.flows))
        self._recovery = Recovery(core)
        self._recovery.start()

    async def aended(self, flow_run_id: UUID, timeout: float | None = None) -> State[Any]:
        """Wait until a flow run has ended, also one that was cut off by a crash; in sync code call `ended`.

        Args:
            flow_run_id: Its id.
            timeout: Seconds to wait at most; `None`: for ever.

        Returns:
            Its final state.

        Raises:
            FlowRunWaitTimeout: It had not ended in time.
            ObjectNotFound: There is no such flow run.
        """
        found = await wait_for_flow_run(flow_run_id, timeout=timeout)
        if found.state is None:
            raise FlowRunWaitTimeout(f"Flow run {flow_run_id} has no state.")
        return found.state

    ended = dual(aended)

    def crash(self, *flows: Flow[..., Any], at_once: bool = False) -> list[UUID]:
        """Kill the engine as a power cut would, and start it again.

        Nothing more is written: what was only in memory is lost, what was committed is there. Normally that is everything
        up to this call. With `at_once` it is what the durability promises and, by chance, a little more: the engine
        commits some milliseconds after what happens, or before somebody goes on who must be able to rely on it. Flow runs
        that were under way are cut off and taken up again: wait for them by `ended`. Whoever waits for one of
        them here gets `LostOwnership`.

        Sync flows that are taken up live on a thread. Async ones live on the event loop in which this is called; where it is
        called in sync code, on the one on which a run that was cut off lived; and where that has ended, on a thread's.

        Args:
            *flows: Flows whose runs are taken up. Default: those that were under way.
            at_once: Whether what is accepted and not yet committed is lost, too.

        Returns:
            The ids of the flow runs that were cut off, without subflows.

        Raises:
            BaseException: The call was in the body of a run, which leaves here as everything else does.
            EngineClosed: The engine is not open.
            ValueError: Nothing is kept at the durability ``off``.

        Example:
            >>> from callsheet import flow, task
            >>> paid = []
            >>> @task
            ... def pay() -> None:
            ...     paid.append(1)
            >>> @flow
            ... def order() -> str:
            ...     pay()
            ...     if len(cut_off) == 0:
            ...         cut_off.append(1)
            ...         engine.crash()
            ...     return "delivered"
            >>> cut_off = []
            >>> with MemoryEngine() as engine:
            ...     try:
            ...         order()
            ...     except LostOwnership:
            ...         state = engine.ended(engine.history[0].run_id)
            >>> state.name, len(paid)
            ('Completed', 1)
        """
        with self._crashing:
            core = self.core
            cut_off = self._crash(core, flows, at_once=at_once)
        running = current_run.get()
        if running is not None and running.core is core:
            running.scope.check()
        return cut_off

    def _crash(self, core: Core, flows: tuple[Flow[..., Any], ...], *, at_once: bool) -> list[UUID]:
        if core.durability is Durability.OFF:
            raise ValueError("At the durability 'off' nothing is kept that could outlive a crash.")
        roots = [cell for cell in core.orchestrator.roots if cell.actor is not None and cell.actor.is_flow]
        known = flows_by_key(flows or [cell.actor.definition for cell in roots])
        if self._recovery is not None:
            known = {**core.flows, **known}
            self._recovery.stop()
        cut_off = [cell.id for cell in roots]
        if not at_once:
            core.journal.flush()
        told = _kill(core)
        self._killed.append(core)
        self._store = self._store.reborn()
        self._store.engines.fence(core.engine_id)
        self._core = self._made(known, _home(core, roots))  # before anybody hears of the death and asks again
        call_all(told)
        if known:  # a run that is taken up may crash at once, too
            self._take_up(self._core)
        return cut_off


def _home(core: Core, roots: list[Any]) -> Host | None:
    """Give the loop on which async flows live that are taken up."""
    places = (current_host(), *(cell.actor.home for cell in roots), core.home)
    return next((host for host in places if host is not None and not host.closed), None)


def _kill(core: Core) -> list[Callable[[], None]]:
    """Have an engine write nothing any more, from this moment on; give the calls by which all in it leave."""
    journal: Any = core.journal
    callbacks: list[Any] = []
    with journal._writer:
        journal._lose(LostOwnership("The engine was killed by `crash()`."), callbacks)
    return callbacks
