"""What the run journal remembers of a flow run whose earlier life was cut off, by the identities of its calls.

A flow run that is taken up again (see `reviving`) calls its body from the beginning. Each call that the body makes has
the identity that it had before (see `_rules.identity`), and asks here first:

* `take`: the call ended in an earlier life. It gives the run that there was, with its outcome; nothing is executed.
* `unfinished`: the call is a subflow that has not ended. The same run goes on, with a memory of its own.
* `tried`: the call is a task that was under way. A new run is made, and begins with the attempts that have failed.
* `step`: the call is no run but a step of the body (see `steps`).

Each is told once: what was taken is forgotten. A flow run without a memory, which is nearly every one, pays for none of
this: `Core.memories` is empty then, and that is all that a call looks at.

What counts is what ended in the attempt that was cut off: a retry of the flow, or of a task around the call, runs
everything again (ADR 0008). Results that could not be recorded, and runs whose transaction was rolled back, are not
remembered: they run again.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol
from uuid import UUID

from callsheet._engine import decode
from callsheet._engine.history import records_of
from callsheet._engine.past import CUT_OFF, Past, Tried, begun, bodies_begun, fork_of, tried_of
from callsheet._model.kinds import TERMINAL_STATES, Kind, StateType
from callsheet._model.records import OutcomeRecord, RunFilter, RunRecord, StateRecord
from callsheet._rules.guards import ROLLED_BACK

if TYPE_CHECKING:
    from callsheet._store.protocol import Reader

_PAGE: Final = 1000
_COMPLETED: Final = (StateType.COMPLETED,)
_STEP: Final = 12  # bytes of a step's identity in the id of its row; the rest is the attempt of the flow run

Runs = Mapping[UUID, RunRecord]
MakeWatch = Callable[[Sequence["Remembered"], Iterable[str], Mapping[UUID, Sequence[int]]], "Compares"]


class Compares(Protocol):
    """Compares the calls of one flow run with what is remembered of it."""

    def admits(self, run: Any, memory: Memory, identity: bytes) -> bool:
        """Tell whether what is remembered still counts for a call."""
        ...


class Remembered(NamedTuple):
    """A call that ended in an earlier life."""

    outcome: OutcomeRecord
    record: RunRecord


class Unfinished(NamedTuple):
    """A subflow's run that has not ended, and the task run that tracks it."""

    record: RunRecord
    tracker: RunRecord | None


class Memory:
    """What is remembered of one flow run."""

    __slots__ = ("_ended", "_steps", "_tried", "_unfinished", "is_whole", "watch")

    def __init__(
        self,
        past: Past,
        outcomes: Sequence[OutcomeRecord],
        runs: Runs,
        states: Mapping[UUID, Sequence[StateRecord]],
    ) -> None:
        """Sort out what counts. Pure.

        Args:
            past: Of the flow run.
            outcomes: Of everything inside it.
            runs: Everything inside it.
            states: Of the task runs in it that have no outcome.
        """
        self._ended: dict[bytes, Remembered] = {}
        self._unfinished: dict[bytes, Unfinished] = {}
        self._tried: dict[bytes, Tried] = {}
        self._steps: dict[bytes, OutcomeRecord] = {}
        self.watch: Compares | None = None  # where its calls are compared with what is remembered
        self.is_whole = False  # whether the run had come to its end: code that is not remembered came later
        attempts = {run_id: begun(known) for run_id, known in states.items()}
        attempts[past.run_id] = past.since
        takes_steps = past.reuse is not None and past.reuse.before != 0
        for outcome in outcomes:
            record = runs.get(outcome.run_id)
            if record is not None:
                if _is_earlier(record, past):
                    self._keep(outcome, record, _COMPLETED)
                elif _counts(record, runs, attempts):
                    self._keep(outcome, record, CUT_OFF)
            elif (
                outcome.run_id != past.run_id
                and is_step(outcome)
                and (takes_steps or attempt_of_step(outcome) == past.attempts + 1)
            ):
                self._steps[outcome.identity] = outcome
        for record in runs.values():
            if _counts(record, runs, attempts):
                self._note(record, runs, states.get(record.id, ()))

    def _keep(self, outcome: OutcomeRecord, record: RunRecord, statuses: Container[StateType]) -> None:
        if _is_of_use(outcome, record, statuses):
            self._ended[outcome.identity] = Remembered(outcome, record)

    def borrow(self, outcomes: Sequence[OutcomeRecord], runs: Runs, before: int) -> None:
        """Remember as well what had completed in another flow run, in calls before a moment. What is known stays."""
        for outcome in outcomes:
            record = runs.get(outcome.run_id)
            if record is None:
                if is_step(outcome):
                    self._steps.setdefault(outcome.identity, outcome)
            elif record.created < before and _is_of_use(outcome, record, _COMPLETED):
                self._ended.setdefault(outcome.identity, Remembered(outcome, record))

    def _note(self, record: RunRecord, runs: Runs, states: Sequence[StateRecord]) -> None:
        """Take note of a run that has not ended, or of a task run that has crashed."""
        state = record.state
        if record.kind is Kind.FLOW:
            identity = decode.extra_of(record).get("identity")
            if identity is not None and (state is None or state.type not in TERMINAL_STATES):
                tracking = record.parent_task_run_id
                self._unfinished[identity] = Unfinished(record, None if tracking is None else runs.get(tracking))
        elif (found := tried_of(states)) is not None:
            self._tried[found[0]] = found[1]

    @property
    def is_empty(self) -> bool:
        """Tell whether nothing is left to be told."""
        return not (self._ended or self._unfinished or self._tried or self._steps)

    def look(self, identity: bytes) -> Remembered | None:
        """Give the run of a call that has ended, which may be taken later."""
        return self._ended.get(identity)

    def left(self) -> list[Remembered]:
        """Give the calls that have ended and were not taken, the oldest first."""
        return sorted(self._ended.values(), key=lambda one: one.record.id)

    def keys_open(self, runs: Runs) -> list[str]:
        """Give the keys of those of some runs that are not taken over."""
        kept = {one.record.id for one in self._ended.values()}
        return [run.definition.key for run in runs.values() if run.id not in kept]

    def forget_runs(self) -> None:
        """Remember no run any more: what follows is new."""
        self._ended.clear()
        self._unfinished.clear()
        self._tried.clear()

    def take(self, identity: bytes) -> Remembered | None:
        """Give the run of a call that has ended."""
        return self._ended.pop(identity, None)

    def unfinished(self, identity: bytes) -> Unfinished | None:
        """Give the subflow's run of a call, where that has not ended."""
        return self._unfinished.pop(identity, None)

    def tried(self, identity: bytes) -> Tried | None:
        """Give what is known of the attempts of a task that was under way."""
        return self._tried.pop(identity, None)

    def step(self, identity: bytes) -> OutcomeRecord | None:
        """Give what a step of the body has recorded."""
        return self._steps.pop(identity, None)

    def steps_left(self) -> list[OutcomeRecord]:
        """Give the steps that were not asked for."""
        return list(self._steps.values())


def _is_of_use(outcome: OutcomeRecord, record: RunRecord, statuses: Container[StateType]) -> bool:
    state = record.state
    return (
        outcome.recorded
        and outcome.status in statuses
        and state is not None
        and state.type is outcome.status
        and state.name != ROLLED_BACK
    )


def _is_earlier(record: RunRecord, past: Past) -> bool:
    """Tell whether a run was made in an attempt before the one that somebody has asked for, and is to be taken over."""
    reuse = past.reuse
    return reuse is not None and record.created < past.since and (reuse.before is None or record.created < reuse.before)


def _counts(record: RunRecord, runs: Runs, attempts: Mapping[UUID, int]) -> bool:
    """Tell whether a run was made in the last attempts of all the runs around it."""
    around = record.parent_id
    while around is not None:
        if record.created < attempts.get(around, 0):
            return False
        parent = runs.get(around)
        around = None if parent is None else parent.parent_id
    return True


class Wanted(NamedTuple):
    """A flow run whose memory is to be read.

    Attributes:
        past: What the run's states say.
        watch: Makes what compares the run's calls with what is remembered: of that, of the keys of calls that are not,
            and of when bodies were called, by flow run.
    """

    past: Past
    watch: MakeWatch | None = None


async def read_memories(reader: Reader, wanted: Sequence[Wanted]) -> list[Memory] | None:
    """Read what is remembered of flow runs, and of those that they were forked from.

    Returns:
        The memory of each; `None` where that is too much to be read for several runs at once.

    Raises:
        StoreError: The history cannot be read.
    """
    found = await _read(reader, [one.past.run_id for one in wanted])
    if found is None:
        return None
    open_ = [
        run.id
        for outcomes, runs in found.values()
        for ended in ({outcome.run_id for outcome in outcomes},)
        for run in runs.values()
        if run.kind is Kind.TASK and run.id not in ended
    ]
    states: dict[UUID, Sequence[StateRecord]] = {}
    for at in range(0, len(open_), _PAGE):
        states.update(await reader.read_states_of(open_[at : at + _PAGE]))
    return [await _memory(reader, one, *found[one.past.run_id], states) for one in wanted]


async def _memory(
    reader: Reader,
    wanted: Wanted,
    outcomes: Sequence[OutcomeRecord],
    runs: dict[UUID, RunRecord],
    states: Mapping[UUID, Sequence[StateRecord]],
) -> Memory:
    past, watch = wanted
    memory = Memory(past, outcomes, runs, {run_id: states[run_id] for run_id in runs if run_id in states})
    known, begun_at = dict(runs), {past.run_id: past.begun}
    fork = past.fork
    while fork is not None:
        borrowed = await _read(reader, [fork.source_id]) or {}
        memory.borrow(*borrowed[fork.source_id], fork.before)
        known |= borrowed[fork.source_id][1]
        if watch is not None:
            begun_at[fork.source_id] = bodies_begun(await reader.read_states(fork.source_id))
        sources = records_of((await reader.read_runs(RunFilter(ids=(fork.source_id,)), limit=1)).items)
        fork = fork_of(sources[0]) if sources else None
    if watch is not None:
        memory.watch = watch(memory.left(), memory.keys_open(known), begun_at)
    return memory


async def _read(
    reader: Reader, run_ids: Sequence[UUID]
) -> dict[UUID, tuple[Sequence[OutcomeRecord], dict[UUID, RunRecord]]] | None:
    """Read what is in flow runs, outcomes and runs: all of one, of several a page."""
    within: dict[UUID | None, dict[UUID, RunRecord]] = {run_id: {} for run_id in run_ids}
    where, cursor = RunFilter(flow_run_ids=tuple(run_ids)), None
    while True:
        page = await reader.read_runs(where, limit=_PAGE, cursor=cursor)
        for record in records_of(page.items):
            within[record.flow_run_id][record.id] = record
        cursor = page.cursor
        if cursor is None:
            break
        if len(run_ids) > 1:
            return None
    outcomes = await reader.read_outcomes_of(run_ids)
    return {run_id: (outcomes.get(run_id, ()), within[run_id]) for run_id in run_ids}


# ------------------------------------------------------------------------------------------------ steps


def row_of_step(identity: bytes, attempt: int) -> UUID:
    """Give the id under which a step is recorded: no run's, but made of its identity and the flow run's attempt."""
    return UUID(bytes=identity[:_STEP] + attempt.to_bytes(16 - _STEP, "big"))


def is_step(outcome: OutcomeRecord) -> bool:
    """Tell whether an entry of the journal is a step of a body, and no run."""
    return outcome.run_id.bytes[:_STEP] == outcome.identity[:_STEP]


def attempt_of_step(outcome: OutcomeRecord) -> int:
    """Give the attempt of the flow run in which a step was made."""
    return int.from_bytes(outcome.run_id.bytes[_STEP:], "big")
