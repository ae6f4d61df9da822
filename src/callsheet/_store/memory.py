"""History in memory: the same answers as a file, for `durability="off"` and for tests."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from uuid import UUID

import msgspec

from callsheet._clock import SYSTEM_CLOCK, Clock, micros
from callsheet._ids import state_id as derived_state_id
from callsheet._model.engines import RunDue, Taken
from callsheet._model.kinds import TERMINAL_STATES, StateType
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
    gives_up_owner,
    is_usual,
    usual_states,
)
from callsheet._store import guards, mishaps
from callsheet._store.letters import Letters
from callsheet._store.memory_engines import MemoryEngines
from callsheet._store.memory_reader import MemoryReader
from callsheet._store.protocol import Reader, SnapshotReader
from callsheet._store.topics import check_topics


class _Run:
    """What is known of one run: its creation, and what became of it."""

    __slots__ = ("created", "due", "fence", "inputs", "name", "owner", "parameters", "recoveries", "since")

    def __init__(self, created: RunCreated) -> None:
        self.created = created
        self.name = created.name
        self.parameters = created.parameters
        self.owner = created.owner
        self.due = created.due_at
        self.fence = self.recoveries = self.since = 0  # the state with which the owner took it up
        self.inputs: dict[str, set[UUID]] = {}
        self.resolve(created.inputs, None)

    def amend(self, entry: RunRenamed | RunDue) -> None:
        if isinstance(entry, RunDue):
            self.due = entry.due_at
        else:
            self.name = entry.name

    def resolve(self, inputs: Iterable[tuple[str, Iterable[UUID]]], parameters: bytes | None) -> None:
        for parameter, sources in inputs:
            self.inputs.setdefault(parameter, set()).update(sources)
        if parameters is not None:
            self.parameters = parameters


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
        self._runs: dict[UUID, _Run] = {}
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

    def append(self, entries: Sequence[Entry], *, sync: bool = False) -> int | None:  # noqa: ARG002
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
        self._runs.setdefault(entry.id, _Run(entry))
        for state in usual_states(entry):
            self._states.setdefault(entry.id, {}).setdefault(state.seq, state)
        for guard in entry.guards:
            if isinstance(guard, KeyFree):
                self._keys[guard.definition, guard.key] = guard

    def _apply(self, entry: Entry) -> None:
        match entry:
            case StateEntered():
                self._states.setdefault(entry.run_id, {}).setdefault(entry.seq, entry)
            case RunCreated():
                self._create(entry)
            case OutcomeRecorded():
                self._outcomes.setdefault(entry.flow_run_id, {})[entry.run_id] = entry
            case LogWritten():
                scope = entry.flow_run_id or entry.task_run_id
                self._logs.setdefault((entry.at, entry.n, b"" if scope is None else scope.bytes), _log(entry))
            case RunRenamed() | RunDue():
                if run := self._runs.get(entry.run_id):
                    run.amend(entry)
            case InputsResolved():
                if run := self._runs.get(entry.run_id):
                    run.resolve(entry.inputs, entry.parameters)
            case InputStored():
                self._inputs.setdefault(entry.run_id, {})[entry.key] = _input(entry)
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
            return [self._record(self._runs[run_id]) for run_id in sorted(self._runs)]

    def states(self, run_id: UUID) -> tuple[StateRecord, ...]:
        """Give the states of a run, oldest first."""
        with self.changed:
            self._settle()
            states = self._states.get(run_id, {})
            return tuple(_state(states[seq]) for seq in sorted(states))

    def logs(self) -> list[tuple[tuple[int, int, bytes], LogRecord]]:
        """Give every log record with its place, in order of writing."""
        with self.changed:
            self._settle()
            return sorted(self._logs.items(), key=lambda item: item[0])

    def outcomes(self, flow_run_id: UUID) -> tuple[OutcomeRecord, ...]:
        """Give every outcome in a flow run, in the order of their runs."""
        with self.changed:
            self._settle()
            return tuple(_outcome(entry) for _, entry in sorted(self._outcomes.get(flow_run_id, {}).items()))

    def _record(self, run: _Run) -> RunRecord:
        created = run.created
        states = self._states.get(created.id, {})
        newest = states[max(states)] if states else None
        return RunRecord(
            id=created.id,
            kind=created.kind,
            definition=created.definition,
            name=run.name,
            created=created.created,
            parent_id=created.parent_id,
            flow_run_id=created.flow_run_id,
            parent_task_run_id=created.parent_task_run_id,
            root_id=created.root_id,
            due_at=run.due,
            started=_first_start(states),
            ended=newest.at if newest is not None and newest.type in TERMINAL_STATES else None,
            attempt=0 if newest is None else newest.attempt,
            fence=run.fence,
            owner=None if _was_given_up(run, states) else run.owner,
            recoveries=run.recoveries,
            state=None if newest is None else _state(newest),
            tags=tuple(sorted(set(created.tags))),
            inputs=tuple((name, tuple(sorted(run.inputs[name]))) for name in sorted(run.inputs)),
            parameters=run.parameters,
            extra=created.extra,
        )


def _was_given_up(run: _Run, states: Mapping[int, StateEntered]) -> bool:
    return any(gives_up_owner(one.type, one.name) for seq, one in states.items() if seq > run.since)


def _first_start(states: Mapping[int, StateEntered]) -> int | None:
    first = states.get(2)
    if first is not None and is_usual(first):
        return first.at
    return min((one.at for one in states.values() if one.type is StateType.RUNNING), default=None)


def _state(state: StateEntered) -> StateRecord:
    return StateRecord(
        run_id=state.run_id,
        seq=state.seq,
        id=state.state_id or derived_state_id(state.run_id, state.seq),
        type=state.type,
        name=state.name,
        at=state.at,
        message=state.message,
        details=state.details,
    )


def _input(entry: InputStored) -> InputRecord:
    return InputRecord(
        run_id=entry.run_id, key=entry.key, id=entry.id, at=entry.at, value=entry.value, sender=entry.sender
    )


def _log(log: LogWritten) -> LogRecord:
    return LogRecord(
        flow_run_id=log.flow_run_id,
        task_run_id=log.task_run_id,
        at=log.at,
        level=log.level,
        logger=log.logger,
        message=log.message,
        n=log.n,
    )


def _outcome(outcome: OutcomeRecorded) -> OutcomeRecord:
    return OutcomeRecord(**msgspec.structs.asdict(outcome))
