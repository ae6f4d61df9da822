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

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final, NamedTuple
from uuid import UUID

from callsheet._engine import decode
from callsheet._engine.history import records_of
from callsheet._engine.past import Past, Replay, Tried, begun, tried_of
from callsheet._model.kinds import TERMINAL_STATES, Kind
from callsheet._model.records import OutcomeRecord, RunFilter, RunRecord, StateRecord
from callsheet._rules.guards import ROLLED_BACK

if TYPE_CHECKING:
    from callsheet._store.protocol import Reader

_PAGE: Final = 1000
_STEP: Final = 12  # bytes of a step's identity in the id of its row; the rest is the attempt of the flow run

Runs = Mapping[UUID, RunRecord]


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

    __slots__ = ("_ended", "_steps", "_tried", "_unfinished")

    def __init__(
        self,
        past: Past,
        outcomes: Sequence[OutcomeRecord],
        runs: Runs,
        states: Mapping[UUID, Sequence[StateRecord]],
        replay: Replay,
    ) -> None:
        """Sort out what counts. Pure.

        Args:
            past: Of the flow run.
            outcomes: Of everything inside it.
            runs: Everything inside it.
            states: Of the task runs in it that have no outcome.
            replay: What is taken over.
        """
        self._ended: dict[bytes, Remembered] = {}
        self._unfinished: dict[bytes, Unfinished] = {}
        self._tried: dict[bytes, Tried] = {}
        self._steps: dict[bytes, OutcomeRecord] = {}
        attempts = {} if replay.every_attempt else {run_id: begun(known) for run_id, known in states.items()}
        if not replay.every_attempt:
            attempts[past.run_id] = past.since
        for outcome in outcomes:
            record = runs.get(outcome.run_id)
            if record is not None:
                if _is_of_use(outcome, record, replay) and _counts(record, runs, attempts):
                    self._ended[outcome.identity] = Remembered(outcome, record)
            elif (
                outcome.run_id != past.run_id
                and _is_step(outcome)
                and (replay.every_attempt or _attempt_of(outcome) == past.attempts + 1)
            ):
                self._steps[outcome.identity] = outcome
        for record in runs.values():
            if _counts(record, runs, attempts):
                self._note(record, runs, () if replay.every_attempt else states.get(record.id, ()))

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


def _is_of_use(outcome: OutcomeRecord, record: RunRecord, replay: Replay) -> bool:
    state = record.state
    return (
        outcome.recorded
        and outcome.status in replay.outcomes
        and state is not None
        and state.type is outcome.status
        and state.name != ROLLED_BACK
    )


def _counts(record: RunRecord, runs: Runs, attempts: Mapping[UUID, int]) -> bool:
    """Tell whether a run was made in the last attempts of all the runs around it."""
    around = record.parent_id
    while around is not None:
        if record.created < attempts.get(around, 0):
            return False
        parent = runs.get(around)
        around = None if parent is None else parent.parent_id
    return True


async def read_memory(reader: Reader, past: Past, replay: Replay) -> Memory:
    """Read what is remembered of a flow run.

    Raises:
        StoreError: The history cannot be read.
    """
    outcomes = await reader.read_outcomes(past.run_id)
    runs: dict[UUID, RunRecord] = {}
    where, cursor = RunFilter(flow_run_ids=(past.run_id,)), None
    while True:
        page = await reader.read_runs(where, limit=_PAGE, cursor=cursor)
        runs.update((record.id, record) for record in records_of(page.items))
        cursor = page.cursor
        if cursor is None:
            break
    ended = {outcome.run_id for outcome in outcomes}
    open_ = [run.id for run in runs.values() if run.kind is Kind.TASK and run.id not in ended]
    states: dict[UUID, Sequence[StateRecord]] = {}
    for at in range(0, len(open_), _PAGE):
        states.update(await reader.read_states_of(open_[at : at + _PAGE]))
    return Memory(past, outcomes, runs, states, replay)


# ------------------------------------------------------------------------------------------------ steps


def row_of_step(identity: bytes, attempt: int) -> UUID:
    """Give the id under which a step is recorded: no run's, but made of its identity and the flow run's attempt."""
    return UUID(bytes=identity[:_STEP] + attempt.to_bytes(16 - _STEP, "big"))


def _is_step(outcome: OutcomeRecord) -> bool:
    return outcome.run_id.bytes[:_STEP] == outcome.identity[:_STEP]


def _attempt_of(outcome: OutcomeRecord) -> int:
    return int.from_bytes(outcome.run_id.bytes[_STEP:], "big")
