"""The standing loop of an engine that takes up runs: those of dead engines, and those that nobody has.

It has one thread, which does nothing but look, find the dead, and take: bodies and hooks run elsewhere. Each step is
atomic for all processes, so that any number of such engines may look at one history.
"""

from __future__ import annotations

import heapq
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

from callsheet._clock import bare_context, machine
from callsheet._engine.deaths import Deaths
from callsheet._engine.flow_facts import describe_flow
from callsheet._engine.hooks_apart import call_hooks
from callsheet._engine.known_flows import imported
from callsheet._engine.reviving import revive_all
from callsheet._engine.run_inputs import Bell
from callsheet._kernel.ports import block
from callsheet._kernel.spawning import threads
from callsheet._kernel.threads import start_thread
from callsheet._model.kinds import Kind, StateType
from callsheet.exceptions import EngineClosed, LostOwnership, StoreError
from callsheet.logging.loggers import engine_log

if TYPE_CHECKING:
    from callsheet._engine.core import Core
    from callsheet._model.engines import Taken, WaitingRun

_LOG: Final = engine_log("callsheet.engine")
_LONGEST: Final = 0.5  # seconds between looks whether a process of this machine has ended
_PAGE: Final = 100  # runs that are taken at once
_APART: Final = 2
"""Runs that were taken over so often are taken one by one. One that takes its process along is not to count against those
that were taken with it until they crash as well."""
_PATIENCE: Final = 0.5  # seconds with a loop that is busy
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
        self._news = Bell()
        self._ended = threads.flag()
        self._stopping = False
        self._taken: dict[UUID, Any] = {}  # what is to be started, and the flows of which they are runs
        self._backlog = _Backlog()
        self._looked = 0  # microseconds; what was due then has been seen
        # Seconds of the machine. Where nobody comes from outside, what is to be taken up is told of.
        self._rest = min(core.lease / 4, _LONGEST) if core.store.is_shared else None

    def start(self) -> None:
        """Begin, on a thread of its own."""
        self._core.nudge = self._news.ring
        self._core.journal.watch(self._news.ring)
        bare_context(self._core.clock).run(start_thread, self._run, "callsheet-recovery")

    def stop(self) -> None:
        """End, after what is being taken just now."""
        self._stopping = True
        self._core.journal.unwatch(self._news.ring)
        self._news.ring()
        self._ended.wait(_CLOSING)

    def _run(self) -> None:
        try:
            while True:
                self._news.renew()
                if self._stopping or self._core.lost:  # looked at after that: whoever stops it rings afterwards
                    return
                try:
                    self._look()
                except (LostOwnership, EngineClosed):
                    return
                except StoreError as error:
                    _LOG.warning("Runs of other engines cannot be looked for just now: %s", error)
                except Exception:  # the next look may fare better
                    _LOG.exception("Looking for runs of other engines failed")
                block(self._news.once, self._until_due(), rest=self._rest)
        finally:
            self._ended.set()

    def _until_due(self) -> float | None:
        """Give the seconds until a run is due that was suspended here; `None` where none is."""
        dues = self._core.dues
        while dues and dues[0] <= self._looked:
            heapq.heappop(dues)
        return max(0.0, (dues[0] - self._core.clock.micros()) / 1e6) if dues else None

    def _look(self) -> None:
        """Find the dead, and take what there is to take."""
        arrivals = self._core.ownership.arrivals
        for run_id in list(arrivals.stuck):
            if (flow := arrivals.stuck.pop(run_id, None)) is not None:  # else somebody calls it just now
                self._taken[run_id] = flow
        if self._taken:  # it could not be read
            with arrivals.one():
                self._start()
        listed = self._engines.read()
        known: set[str] = set()
        for engine in listed:
            if not engine.lost and self._deaths.is_dead(engine) and self._engines.fence(engine.id, engine.beat):
                _LOG.warning("The engine of process %s on %r is gone.", engine.pid, engine.host)
            elif not engine.lost:
                known.update(engine.flows)
        now = self._looked = self._core.clock.micros()
        for runs in _pages(lambda after: self._engines.left(_PAGE, after)):
            self._consider(runs, known)
        for runs in _pages(lambda after: self._engines.unowned(now, _PAGE, after)):
            self._consider(runs, known)
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

    def _consider(self, runs: Sequence[WaitingRun], known: set[str]) -> None:
        """Take up those of some runs that are ours, and end those that are nobody's."""
        ours: list[WaitingRun] = []
        nobodys: list[WaitingRun] = []
        for run in runs:
            flow = self._core.flows.get(run.key) if run.kind is Kind.FLOW else None
            if flow is None and run.kind is Kind.FLOW and (run.owner is None or run.key in known):
                continue  # another engine's, or nobody's yet
            if self._has_waited(run, flow):
                (nobodys if flow is None else ours).append(run)
        self._take([run for run in ours if run.recoveries < _APART])
        for run in ours:
            if run.recoveries >= _APART:
                self._take([run])
        self._take(nobodys, known=False)

    def _take(self, runs: Sequence[WaitingRun], *, known: bool = True) -> None:
        """Take runs up in one transaction, start those that go on, and see to the end of the others."""
        core = self._core
        if not runs or self._stopping or not core.accepting:
            return
        self._backlog.wait()
        core.ownership.vouch()
        by_id = {run.id: run for run in runs}
        ended: list[Taken] = []
        try:
            with core.ownership.arrivals.one():
                for taken in self._engines.take(tuple(by_id), at=core.clock.micros(), known=known):
                    if taken.type is StateType.PENDING:
                        self._taken[taken.run_id] = core.flows[by_id[taken.run_id].key]
                    else:
                        ended.append(taken)
                self._start()
        finally:
            for taken in ended:
                self._end(by_id[taken.run_id], taken)

    def _end(self, run: WaitingRun, taken: Taken) -> None:
        _LOG.info("The run %s has ended as %s: %s", run.id, taken.name, taken.message)
        if run.kind is Kind.FLOW:
            call_hooks(self._core, self._core.flows.get(run.key) or imported(run.key), run.id, taken.type)

    def _start(self) -> None:
        """Start what was taken. Where it cannot be read just now, the next look does."""
        if not self._taken:
            return
        try:
            _LOG.info("Flow runs of nobody that are taken up: %d", len(self._taken))
            revive_all(self._core, self._taken, self._backlog)
        except (LostOwnership, EngineClosed, StoreError):
            raise
        except Exception:
            _LOG.exception("Runs were taken up and could not be started: %s", ", ".join(map(str, self._taken)))
            self._taken.clear()


class _Backlog:
    """Runs that were started with what was read for them, and have not got to it yet: not more than so many are read for.

    Nobody waits for long: a loop that is busy must not keep runs from beginning that live elsewhere.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._left = 0
        self._has_room = threads.flag()
        self._has_room.set()

    def add(self) -> Callable[[], None]:
        """Count one more; give what is called when it has got to it."""
        with self._lock:
            self._left += 1
            if self._left >= _PAGE:
                self._has_room.clear()
        return self._remove

    def _remove(self) -> None:
        with self._lock:
            self._left -= 1
            if self._left < _PAGE:
                self._has_room.set()

    def wait(self) -> None:
        """Wait until the most of them have."""
        self._has_room.wait(_PATIENCE)


def _pages(page: Page) -> Iterator[tuple[WaitingRun, ...]]:
    found = page(None)
    while found:
        yield found
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
