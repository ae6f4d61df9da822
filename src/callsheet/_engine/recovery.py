"""The standing loop of an engine that takes up runs: those of dead engines, and those that nobody has.

It has one thread, which does nothing but look, find the dead, and take: bodies and hooks run elsewhere. Each step is
atomic for all processes, so that any number of such engines may look at one history.
"""

from __future__ import annotations

import heapq
import logging
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

from callsheet._clock import machine
from callsheet._engine.deaths import Deaths
from callsheet._engine.flow_facts import describe_flow
from callsheet._engine.hooks_apart import call_hooks
from callsheet._engine.known_flows import imported
from callsheet._engine.reviving import bring_to_life
from callsheet._kernel.spawning import threads
from callsheet._kernel.threads import start_thread
from callsheet._model.kinds import Kind, StateType
from callsheet.exceptions import EngineClosed, LostOwnership, StoreError

if TYPE_CHECKING:
    from callsheet._engine.core import Core
    from callsheet._model.engines import WaitingRun

_LOG: Final = logging.getLogger("callsheet.engine")
_LONGEST: Final = 0.5  # seconds between looks whether a process of this machine has ended
_PAGE: Final = 100
_UNKNOWN: Final = 1  # leases for those who know the flow of a dead engine's run to come
_OTHER_CODE: Final = 3  # leases for those who know it with the code that the run was started with
_CLOSING: Final = 5.0  # seconds for a look that is under way

Page = Callable[[UUID | None], tuple["WaitingRun", ...]]


class Recovery:
    """Takes up runs for one engine, from `start` to `stop`.

    Args:
        core: The engine. It takes up runs of `core.flows`, and ends those that no living engine knows.
    """

    def __init__(self, core: Core) -> None:
        self._core = core
        self._engines = core.store.engines
        self._deaths = Deaths(core)
        self._seen_dead: dict[UUID, float] = {}
        self._news = threads.flag()
        self._ended = threads.flag()
        self._stopping = False
        self._looked = 0  # microseconds; what was due then has been seen
        # Where nobody comes from outside, what is to be taken up is told of.
        self._rest = min(core.lease / 4, _LONGEST) if core.store.is_shared else None

    def start(self) -> None:
        """Begin, on a thread of its own."""
        self._core.nudge = self._news.set
        self._core.journal.watch(self._news.set)
        start_thread(self._run, "callsheet-recovery")

    def stop(self) -> None:
        """End, after what is being taken just now."""
        self._stopping = True
        self._core.journal.unwatch(self._news.set)
        self._news.set()
        self._ended.wait(_CLOSING)

    def _run(self) -> None:
        try:
            while not (self._stopping or self._core.lost):
                self._news.clear()
                try:
                    self._look()
                except (LostOwnership, EngineClosed):
                    return
                except StoreError as error:
                    _LOG.warning("Runs of other engines cannot be looked for just now: %s", error)
                except Exception:  # the next look may fare better
                    _LOG.exception("Looking for runs of other engines failed")
                self._news.wait(self._patience())
        finally:
            self._ended.set()

    def _patience(self) -> float | None:
        """Give the seconds until the next look, unless there is news before."""
        dues = self._core.dues
        while dues and dues[0] <= self._looked:
            heapq.heappop(dues)
        if not dues:
            return self._rest
        seconds = max(0.0, (dues[0] - self._core.clock.micros()) / 1e6)
        return seconds if self._rest is None else min(seconds, self._rest)

    def _look(self) -> None:
        """Find the dead, and take what there is to take."""
        listed = self._engines.read()
        known: set[str] = set()
        for engine in listed:
            if not engine.lost and self._deaths.is_dead(engine) and self._engines.fence(engine.id, engine.beat):
                _LOG.warning("The engine of process %s on %r is gone.", engine.pid, engine.host)
            elif not engine.lost:
                known.update(engine.flows)
        self._try_again()
        now = self._looked = self._core.clock.micros()
        for run in _every(lambda after: self._engines.left(_PAGE, after)):
            self._consider(run, known)
        for run in _every(lambda after: self._engines.unowned(now, _PAGE, after)):
            self._consider(run, known)
        if any(engine.lost for engine in listed):
            self._engines.sweep()

    def _has_waited(self, run: WaitingRun, flow: Any) -> bool:
        """Tell whether there was time for somebody to come who knows the run of a dead engine, or knows it better."""
        if run.owner is None:
            return True
        leases = _UNKNOWN if flow is None else 0 if describe_flow(flow)[0].code == run.code else _OTHER_CODE
        now = machine.monotonic()
        return now - self._seen_dead.setdefault(run.owner, now) >= leases * self._core.lease

    # ------------------------------------------------------------------------------------------- taking

    def _consider(self, run: WaitingRun, known: set[str]) -> None:
        """Take a run up if it is ours, or end it if it is nobody's."""
        if self._stopping or not self._core.accepting:
            return
        flow = self._core.flows.get(run.key) if run.kind is Kind.FLOW else None
        if flow is None and run.kind is Kind.FLOW and (run.owner is None or run.key in known):
            return  # another engine's, or nobody's yet
        if not self._has_waited(run, flow):
            return
        self._core.ownership.vouch()
        with self._core.ownership.arrivals.one():
            taken = self._engines.take(run.id, at=self._core.clock.micros(), known=flow is not None)
            if taken is not None:
                _LOG.info("The run %s was taken up as %s: %s", run.id, taken.name, taken.message)
                if taken.type is StateType.PENDING:
                    self._revive(run.id, flow)
        if taken is not None and taken.type is not StateType.PENDING and run.kind is Kind.FLOW:
            call_hooks(self._core, flow or imported(run.key), taken.run_id, taken.type)

    def _try_again(self) -> None:
        """Bring runs to life that were taken up when the history could not be read."""
        arrivals = self._core.ownership.arrivals
        for run_id in list(arrivals.stuck):
            flow = arrivals.stuck.pop(run_id, None)
            if flow is not None:
                with arrivals.one():
                    self._revive(run_id, flow)

    def _revive(self, run_id: UUID, flow: Any) -> None:
        try:
            bring_to_life(self._core, run_id, flow)
        except (LostOwnership, EngineClosed):
            raise
        except StoreError as error:
            _LOG.warning("The run %s was taken up and cannot be started just now: %s", run_id, error)
        except Exception:
            _LOG.exception("The run %s was taken up and could not be started", run_id)


def _every(page: Page) -> Iterator[WaitingRun]:
    found = page(None)
    while found:
        yield from found
        found = page(found[-1].id) if len(found) == _PAGE else ()


def fence(core: Core, engine_id: UUID) -> bool:
    """Take an engine for dead at once, whatever it says: its runs wait to be taken up, and it writes nothing any more.

    Blocks for a commit. For those who have waited a lease for an answer of it.

    Returns:
        Whether this call did it; else somebody else did, or it is not listed.

    Raises:
        StoreError: The history cannot be written.
    """
    done = core.store.engines.fence(engine_id)
    core.nudge()
    return done
