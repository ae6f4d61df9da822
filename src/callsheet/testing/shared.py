"""One history in memory that several simulated processes share, each through a store of its own."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Final
from uuid import UUID

from callsheet._clock import machine
from callsheet._kernel.outside import LOOK_OUTSIDE
from callsheet._model.engines import EngineRecord, Taken
from callsheet._model.kinds import TERMINAL_STATES
from callsheet._model.letters import Letter
from callsheet._model.records import Entry, Refusal, RunRecord, StateEntered
from callsheet._store.memory import MemoryStore
from callsheet._store.memory_engines import MemoryEngines
from callsheet.exceptions import LostOwnership, StoreUnavailable
from callsheet.testing.faults import FaultKind, Plan
from callsheet.testing.stage_clock import current_clock

_K: Final = FaultKind


class DiskFault(StoreUnavailable):
    """Raised for a commit, as one of the faults of a simulation."""


class ProcessDied(LostOwnership):
    """Raised for whatever a process still asks of its history after it has died in a simulation."""

    def __init__(self) -> None:
        super().__init__("The simulated process has died.")


class SharedHistory(MemoryStore):
    """What all processes of a simulation have in common.

    Args:
        seed: What it follows from when they hear of each other's commits.
    """

    is_shared = True

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.chance = random.Random(f"news of {seed}")
        self.rows: dict[UUID, EngineRecord] = {}
        self.engines = MemoryEngines(self, self.rows)
        self.commits = 0
        self.listeners: list[Callable[[], None]] = []
        self.known: list[RunRecord] | None = None  # every run, since the last commit
        self._stores: list[SharedStore] = []

    def share(self, store: SharedStore) -> None:
        """Have one more process use it."""
        self._stores = [one for one in self._stores if not one.is_dead]
        self._stores.append(store)

    def has_changed(self, by: SharedStore) -> None:
        """Note a commit of one process, and tell those who wait for one."""
        self.commits += 1
        self.known = None
        for store in self._stores:
            if store is not by:
                store.expect_news()
        for listener in tuple(self.listeners):
            listener()

    def newest(self, run_id: UUID) -> StateEntered | None:
        """Give the newest state of a run, if there is any."""
        self._settle()
        states = self._states.get(run_id)
        return states[max(states)] if states else None

    def has_ended(self, run_id: UUID) -> bool:
        """Tell whether a run has ended."""
        state = self.newest(run_id)
        return state is not None and state.type in TERMINAL_STATES


class _Engines(MemoryEngines):
    """The engines of a shared history as one process sees them."""

    _store: SharedStore  # pyright: ignore[reportIncompatibleVariableOverride]

    def check(self) -> None:
        if self._store.is_dead:
            raise ProcessDied
        super().check()

    def leave(self) -> None:
        if not self._store.is_dead:  # a dead process takes nothing back
            super().leave()

    def on_news(self, callback: Callable[[], None]) -> bool:
        self._store.news = callback
        return True


class SharedStore(MemoryStore):
    """The store of one process.

    Args:
        history: What it shares with the others.
        plan: What goes wrong.
        crash: Ends its process, and tells whether it did.
    """

    is_shared = True

    def __init__(self, history: SharedHistory, plan: Plan, crash: Callable[[], bool]) -> None:
        super().__init__()
        self._history = history
        self._plan = plan
        self._crash = crash
        self._pending, self._runs, self._states = history._pending, history._runs, history._states
        self._records, self._outcomes = history._records, history._outcomes
        self._keys, self._logs = history._keys, history._logs
        self._inputs, self._letters = history._inputs, history._letters
        self.engines = _Engines(self, history.rows)
        self.is_dead = False
        self._own = self._seen = 0  # commits: its own, and those of others that it has seen
        self._late_until = 0.0
        self.slow_until = 0.0  # when its last slow commit is over
        self.news: Callable[[], None] | None = None
        self._is_expecting = False
        history.share(self)

    # --------------------------------------------------------------------------------------- write

    def commit(self, entries: Sequence[Entry], *, sync: bool = False) -> list[Refusal]:
        """Commit, as one step."""
        if self.is_dead:
            raise ProcessDied
        refusals = super().commit(entries, sync=sync)
        self._own += 1
        self._history.has_changed(self)
        return refusals

    def try_commit(self, entries: Sequence[Entry], *, sync: bool = False, settled: int = 0) -> list[Refusal] | None:  # noqa: ARG002
        """Commit, unless something goes wrong: what the engine writes by way of its journal."""
        plan = self._plan
        number = plan.count("commit")
        if (slow := plan.take(_K.SLOW_COMMIT, number)) is not None:
            self.slow_until = machine.monotonic() + slow.seconds
            machine.sleep(slow.seconds)
        if plan.take(_K.CRASH_BEFORE_COMMIT, number):
            self._crash()
        if plan.take(_K.FAILED_COMMIT, number):
            raise DiskFault("The simulated disk refused a commit.")
        refusals = self.commit(entries, sync=sync)
        if plan.take(_K.CRASH_AFTER_COMMIT, number) and self._crash():
            raise ProcessDied
        if plan.take(_K.UNSURE_COMMIT, number):
            raise DiskFault("The simulated disk did not say whether it carried out a commit.")
        return refusals

    def hand_over(self, taken: Taken, owner: UUID | None) -> None:
        """Note whose a run is that was taken up."""
        super().hand_over(taken, owner)
        self._history.known = None

    # ---------------------------------------------------------------------------------------- news

    def records(self) -> list[RunRecord]:
        """Give every run. It is asked often, and put together once a commit."""
        if self._history.known is None:
            self._history.known = super().records()
        return self._history.known

    def expect_news(self, seconds: float | None = None) -> None:
        """Have the process told of what others have committed: as soon as one that looks every 0.1 s would see it."""
        if not self._is_expecting and self.news is not None:
            self._is_expecting = True
            seconds = self._history.chance.uniform(0.0, LOOK_OUTSIDE) if seconds is None else seconds
            current_clock().call_later(seconds, self._tell)

    def _tell(self) -> None:
        self._is_expecting = False
        if self.news is not None and not self.is_dead:
            self.news()

    def changed_outside(self) -> bool:
        """Tell whether another process has committed since the last call, or that nothing has changed, for a while."""
        outside = self._history.commits - self._own
        if outside == self._seen:
            return False
        late_for = self._late_until - machine.monotonic()
        if late_for > 0:
            self.expect_news(late_for)
            return False
        late = self._plan.take(_K.LATE_NEWS, self._plan.count("news"))
        if late is not None:
            self._late_until = machine.monotonic() + late.seconds
            self.expect_news(late.seconds)
            return False
        self._seen = outside
        return True

    def letters_to(self, engine_id: UUID, after: int = 0) -> tuple[Letter, ...]:
        """Give the letters to an engine, some of them again."""
        if self.is_dead:
            raise ProcessDied
        found = super().letters_to(engine_id, after)
        if found and self._plan.take(_K.REPEATED_LETTERS, self._plan.count("letters")):
            return found + found
        return found
