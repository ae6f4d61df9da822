"""History in memory: the same answers as a file, for `durability="off"` and for tests."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from operator import attrgetter
from uuid import UUID

from callsheet._clock import SYSTEM_CLOCK, Clock, micros
from callsheet._ids import state_id as derived_state_id
from callsheet._model.engines import RunDue, Taken
from callsheet._model.kinds import TERMINAL_STATES
from callsheet._model.letters import Letter
from callsheet._model.records import (
    Entry,
    InputDropped,
    InputRecord,
    InputsResolved,
    InputStored,
    KeyFree,
    LetterAnswered,
    LetterDropped,
    LetterSent,
    LogRecord,
    LogWritten,
    OutcomeRecord,
    OutcomeRecorded,
    Refusal,
    RunCreated,
    RunRecord,
    RunRenamed,
    StateEntered,
    StateRecord,
    usual_states,
)
from callsheet._store import guards, mishaps
from callsheet._store.letters import Letters
from callsheet._store.memory_engines import MemoryEngines
from callsheet._store.memory_reader import MemoryReader
from callsheet._store.memory_records import KnownRun, input_of, log_of, outcome_of, record_of, state_of
from callsheet._store.protocol import Reader, SnapshotReader
from callsheet._store.topics import check_topics

_number = attrgetter("int")  # ids in order, without a call for each comparison


class MemoryStore:
    """History in memory, gone with the process. Commits only note entries; reading puts them together.

    Args:
        clock: where `now()` comes from.

    Example:
        >>> store = MemoryStore()
        >>> store.commit([])
        []
        >>> store.location
        'memory'
    """

    is_shared = False

    def __init__(self, *, clock: Clock = SYSTEM_CLOCK) -> None:
        self._clock = clock
        self.changed = threading.Condition(threading.RLock())
        self._commits = 0
        self._pending: list[Entry] = []
        self._runs: dict[UUID, KnownRun] = {}
        self._records: dict[UUID, RunRecord] = {}  # of runs that have been put together, and have not changed since
        self._states: dict[UUID, dict[int, StateEntered]] = {}
        self._outcomes: dict[UUID, dict[UUID, OutcomeRecorded]] = {}
        self._keys: dict[tuple[str, str], KeyFree] = {}
        self._logs: dict[tuple[int, int, bytes], LogRecord] = {}
        self._inputs: dict[UUID, dict[str, InputRecord]] = {}
        self._letters = Letters()
        self._closed = False
        self.engines = MemoryEngines(self)

    @property
    def location(self) -> str:
        """The word ``memory``."""
        return "memory"

    def open(self) -> None:
        """Nothing to do; after `close` it can be used again, with what it held."""
        self._closed = False

    def close(self) -> None:
        """Refuse further use until it is opened again."""
        self._closed = True

    def forget_after_fork(self) -> None:
        """Take a new lock: the parent's may have been held."""
        self.changed = threading.Condition(threading.RLock())

    # --------------------------------------------------------------------------------------- write

    def commit(self, entries: Sequence[Entry], *, sync: bool = False) -> list[Refusal]:  # noqa: ARG002 - no disk
        """Apply entries in order, except those whose guards do not hold. `sync` has nothing to sync."""
        if self._closed:
            raise mishaps.closed(self.location)
        with self.changed:
            self.engines.check()
            refused: list[Refusal] = []
            if guards.guarded(entries):
                self._settle()
                refused = guards.refusals(entries, self)
                skip = {refusal.index for refusal in refused}
                self._pending += [entry for index, entry in enumerate(entries) if index not in skip]
            else:
                self._pending += entries
            self._commits += 1
            self.changed.notify_all()
            return refused

    def append(self, entries: Sequence[Entry]) -> int | None:  # noqa: ARG002
        """Nothing is cheaper here than a commit."""
        return None

    def adoptable(self) -> bool:
        """Nobody else writes here."""
        return False

    def adopt(self) -> None:
        """Nobody else writes here."""

    def prepare(self, entries: Sequence[Entry]) -> None:
        """Nothing can be done beforehand."""

    def try_commit(
        self,
        entries: Sequence[Entry],
        *,
        sync: bool = False,
        settled: int = 0,  # noqa: ARG002
    ) -> list[Refusal] | None:
        """Do the same: memory is never held by another process."""
        return self.commit(entries, sync=sync)

    def note(self, entry: Entry) -> None:
        """Apply one entry without guards; the quickest way in, for any thread."""
        self._pending.append(entry)

    def seq_and_fence(self, run_id: UUID) -> tuple[int, int] | None:
        """Give the newest sequence number and the fence of a run (asked by guards)."""
        run = self._runs.get(run_id)
        return None if run is None else (max(self._states.get(run_id, ()), default=-1), run.fence)

    def holder(self, definition: str, key: str, at: int) -> UUID | None:
        """Give the run that has a key at this time (asked by guards)."""
        claim = self._keys.get((definition, key))
        if claim is None:
            return None
        states = self._states.get(claim.run_id, {})
        if claim.expires is not None and claim.expires <= at and states and states[max(states)].type in TERMINAL_STATES:
            return None
        return claim.run_id

    def state_id(self, run_id: UUID, seq: int) -> UUID | None:
        """Give the id of a state (asked by guards)."""
        state = self._states.get(run_id, {}).get(seq)
        return None if state is None else state.state_id or derived_state_id(run_id, seq)

    def input_id(self, run_id: UUID, key: str) -> UUID | None:
        """Give the id of what a run was handed under a key (asked by guards)."""
        found = self._inputs.get(run_id, {}).get(key)
        return None if found is None else found.id

    def hand_over(self, taken: Taken, owner: UUID | None) -> None:
        """Note whose a run is that was taken up."""
        with self.changed:
            self._settle()
            run = self._runs[taken.run_id]
            self._records.pop(taken.run_id, None)
            run.owner, run.since = owner, taken.seq
            run.fence, run.recoveries = taken.fence, taken.recoveries

    def inputs(self, run_id: UUID) -> list[InputRecord]:
        """Give what a flow run was handed."""
        with self.changed:
            self._settle()
            return list(self._inputs.get(run_id, {}).values())

    def _settle(self) -> None:
        pending = self._pending
        count = len(pending)
        for entry in pending[:count]:
            self._apply(entry)
        del pending[:count]  # the same list: `note` may append to it meanwhile

    def _create(self, entry: RunCreated) -> None:
        self._runs.setdefault(entry.id, KnownRun(entry))
        self._records.pop(entry.id, None)
        for state in usual_states(entry):
            self._states.setdefault(entry.id, {}).setdefault(state.seq, state)
        for guard in entry.guards:
            if isinstance(guard, KeyFree):
                self._keys[guard.definition, guard.key] = guard

    def _apply(self, entry: Entry) -> None:
        match entry:
            case StateEntered():
                self._states.setdefault(entry.run_id, {}).setdefault(entry.seq, entry)
                self._records.pop(entry.run_id, None)
            case RunCreated():
                self._create(entry)
            case OutcomeRecorded():
                self._outcomes.setdefault(entry.flow_run_id, {})[entry.run_id] = entry
            case LogWritten():
                scope = entry.flow_run_id or entry.task_run_id
                self._logs.setdefault((entry.at, entry.n, b"" if scope is None else scope.bytes), log_of(entry))
            case RunRenamed() | RunDue():
                if run := self._runs.get(entry.run_id):
                    run.amend(entry)
                    self._records.pop(entry.run_id, None)
            case InputsResolved():
                if run := self._runs.get(entry.run_id):
                    run.resolve(entry.inputs, entry.parameters)
                    self._records.pop(entry.run_id, None)
            case InputStored():
                self._inputs.setdefault(entry.run_id, {})[entry.key] = input_of(entry)
            case InputDropped():
                self._inputs.get(entry.run_id, {}).pop(entry.key, None)
            case LetterSent() | LetterAnswered() | LetterDropped():
                self._letters.note(entry)

    # ------------------------------------------------------------------------------------- other

    def tend(self) -> None:
        """Nothing grows that could be made smaller."""

    def letters_to(self, engine_id: UUID, after: int = 0) -> tuple[Letter, ...]:
        """Give the unanswered letters to an engine whose numbers are higher, in order of arrival."""
        with self.changed:
            self._settle()
            return self._letters.arrived(engine_id, after)

    def letters(self, tokens: Sequence[UUID]) -> tuple[Letter, ...]:
        """Give the letters of these tokens that are there."""
        with self.changed:
            self._settle()
            return self._letters.by_token(tokens)

    def changed_outside(self) -> bool:
        """Tell that nothing changed: no other process can commit here."""
        return False

    def wait(self, topics: Sequence[str], deadline: float, *, stopped: Callable[[], bool]) -> Sequence[str]:
        """Wait in the calling thread until something may have changed. The one topic so far is ``history``.

        Raises:
            NotImplementedError: for another topic, naming it.
        """
        check_topics(topics)
        with self.changed:
            before = self._commits
            while not stopped() and (left := deadline - time.monotonic()) > 0:
                self.changed.wait(min(0.1, left))
                if self._commits != before:
                    return tuple(topics)
        return ()

    def now(self) -> int:
        """Give the store's time, in microseconds since the epoch."""
        return micros(self._clock.now())

    def reader(self) -> Reader:
        """Give a reader; memory is read at once, whatever event loop runs."""
        return MemoryReader(self)

    def blocking_reader(self) -> SnapshotReader:
        """Give a reader whose coroutines never suspend."""
        return MemoryReader(self)

    # --------------------------------------------------------------------------- what readers take

    def records(self) -> list[RunRecord]:
        """Give every run, in order of id."""
        with self.changed:
            self._settle()
            return [self._records.get(run_id) or self._record(run_id) for run_id in sorted(self._runs, key=_number)]

    def _record(self, run_id: UUID) -> RunRecord:
        self._records[run_id] = record = record_of(self._runs[run_id], self._states.get(run_id, {}))
        return record

    def states(self, run_id: UUID) -> tuple[StateRecord, ...]:
        """Give the states of a run, oldest first."""
        with self.changed:
            self._settle()
            states = self._states.get(run_id, {})
            return tuple(state_of(states[seq]) for seq in sorted(states))

    def logs(self) -> list[tuple[tuple[int, int, bytes], LogRecord]]:
        """Give every log record with its place, in order of writing."""
        with self.changed:
            self._settle()
            return sorted(self._logs.items(), key=lambda item: item[0])

    def outcomes(self, flow_run_id: UUID) -> tuple[OutcomeRecord, ...]:
        """Give every outcome in a flow run, in the order of their runs."""
        with self.changed:
            self._settle()
            return tuple(outcome_of(entry) for _, entry in sorted(self._outcomes.get(flow_run_id, {}).items()))
