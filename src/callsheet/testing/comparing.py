"""Comparing what a flow's code does with what is recorded of a run, call by call."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from typing import Any, Final
from uuid import UUID

import msgspec

from callsheet._clock import from_micros
from callsheet._engine.flow_run import FlowRunActor
from callsheet._engine.leaving import Final as Ended
from callsheet._engine.memory import Memory, attempt_of_step
from callsheet._engine.reviving import adopt
from callsheet._engine.signalling import SIGNAL, SIGNAL_UNTIL
from callsheet._kernel.messages import CancelTree
from callsheet._kernel.ports import step
from callsheet._kernel.scopes import CANCEL, Interrupted
from callsheet._model.kinds import Kind, StateType
from callsheet._model.records import OutcomeRecord, ResultBlob, RunRecord
from callsheet._results.journalled import recall
from callsheet._results.ways import blocking
from callsheet.exceptions import CallsheetError, RecordingError
from callsheet.testing.differences import ReplayDiffers, called, end, numbered, recorded_at, shown
from callsheet.testing.equality import are_equal, same_text
from callsheet.testing.recorded import Attempt, Call, Recorded
from callsheet.testing.recordings import Recording
from callsheet.testing.stubs import is_overridden

_S: Final = StateType
_BEFORE: Final = 3  # calls that are shown before the first difference
_ORDERED: Final = 6  # letters: longer keys are those of pauses that somebody ordered from outside
_IGNORED: Final = ("patch:", SIGNAL_UNTIL)  # steps that a body may make or leave out


class Comparison:
    """Goes along with the replay of one recording: see `callsheet._engine.core.Replay`.

    The first difference is noted, and the run is told to leave: what its body does with that is of no account.

    Args:
        recording: The recording.
    """

    def __init__(self, recording: Recording) -> None:
        self._recording = recording
        self._recorded = Recorded(recording)
        self._attempts: dict[UUID, list[Attempt]] = {}  # of flow runs: the one that is under way, and those to come
        self._live: dict[UUID, FlowRunActor] = {}
        self.failure: Exception | None = None

    # ------------------------------------------------------------------------------------- flow runs

    def begin(self, run: FlowRunActor, record: RunRecord) -> None:
        """Make a new flow run the recorded one."""
        attempts = self._attempts[record.id] = self._recorded.attempts(record.id)
        adopt(run, msgspec.structs.replace(record, state=None, attempt=attempts[0].number - 1), None)
        run.past = None  # it does not go on: it begins
        run.persists = False
        run.cell.passed = self._recorded.passed(record.id)
        if run.tracking is not None and record.parent_task_run_id is not None:
            run.tracking.id = record.parent_task_run_id
        self._live[record.id] = run
        self._remember(run, attempts[0])

    def _remember(self, run: FlowRunActor, attempt: Attempt) -> None:
        attempt.memory.watch = self
        run.core.memories[run.cell.id] = attempt.memory

    def tries_again(self, run: FlowRunActor) -> None:
        """Compare a failed attempt, and go on with the next one."""
        with self._noting():
            self._compare_attempt(run)

    def _compare_attempt(self, run: FlowRunActor) -> None:
        attempt = self._now(run)
        if attempt is None:
            return
        how = f"attempt {attempt.number} fails, and is followed by another"
        self._compare_calls(run, attempt, how, completed=False)
        attempts = self._attempts[run.cell.id]
        if len(attempts) > 1:
            del attempts[0]
            self._remember(run, attempts[0])
        elif attempt.is_whole:
            self._differs(run, attempt, recorded=end(attempt), now=how)

    def ends(self, run: FlowRunActor, final: Ended) -> None:
        """Compare how a flow run ends."""
        with self._noting():
            self._compare_end(run, final)

    @contextmanager
    def _noting(self) -> Generator[None, None, None]:
        """Tell of an error of what compares: the engine calls it where no error is expected."""
        try:
            yield
        except Exception as error:
            self.failure = self.failure or error

    def _compare_end(self, run: FlowRunActor, final: Ended) -> None:
        attempt = self._now(run)
        self._live.pop(run.cell.id, None)
        if attempt is None or (final.type is _S.CANCELLED and run.cell.parent is not None):
            return  # with the run around it, of which another branch has failed
        now = f"the end: {final.name}" + (f": {final.message}" if final.message else "")
        if final.type in (_S.COMPLETED, _S.FAILED):
            self._compare_calls(run, attempt, now, completed=final.type is _S.COMPLETED)
        if not attempt.is_whole or self.failure is not None:
            return
        last = attempt.end
        same = last is not None and (last.type, last.name) == (final.type, final.name)
        if last is None or not same or not same_text(last.message, final.message):
            self._differs(run, attempt, recorded=end(attempt), now=now)
        else:
            self._compare_result(run, attempt, final.data)

    def _compare_result(self, run: FlowRunActor, attempt: Attempt, value: Any) -> None:
        if run.cell.id == self._recording.run_id:
            known, blob = self._recording.has_result, self._recording.result
        else:
            outcome = self._recorded.outcomes.get(run.cell.id)
            known, blob = outcome is not None and outcome.recorded, None if outcome is None else outcome.result
        if not known:
            return
        try:
            recorded = _read(run, blob)
        except CallsheetError as error:
            self._differs(run, attempt, recorded=f"a result that cannot be read any more: {error}", now=shown(value))
            return
        if not are_equal(recorded, value):
            self._differs(run, attempt, recorded=f"the result: {shown(recorded)}", now=f"the result: {shown(value)}")

    def waits_for_ever(self, root: FlowRunActor) -> None:
        """Judge a replay in which nothing happens any more: the recording is at its end, or something never comes."""
        for run in [*(one for one in self._live.values() if one is not root), root]:
            attempt = self._now(run)
            if attempt is None:
                continue
            waits = ", ".join(f"the run of {name!r}, whose outcome is not recorded" for name in attempt.waits)
            paused = "a resumption that is not recorded" if run.type is _S.PAUSED else "something that does not come"
            now = f"it waits for {waits or paused}"
            self._compare_calls(run, attempt, now, completed=True)
            if attempt.is_whole:
                self._differs(run, attempt, recorded=end(attempt), now=now)
        self._live.clear()

    def _now(self, run: FlowRunActor) -> Attempt | None:
        """Give the recorded attempt that a flow run is at, while there is something to be compared."""
        if self.failure is not None or run.cell.id not in self._live:
            return None
        return self._attempts[run.cell.id][0]

    # ------------------------------------------------------------------------------------------ calls

    def admits(self, run: Any, memory: Memory, identity: bytes) -> bool:
        """Compare a call that is made with the one that is recorded.

        Raises:
            Interrupted: It differs.
        """
        parent, definition = run.cell.flow.actor, run.definition
        attempt = self._now(parent)
        if run.cell.parent.kind is Kind.TASK:
            return True  # the body of a stub makes it
        run.persists = False
        if attempt is None:
            raise Interrupted
        call = attempt.calls.get(identity)
        if call is None:
            self._unknown(run, parent, attempt)
            return True
        self._compare_place(run, parent, attempt, identity)
        self._compare_inputs(run, parent, attempt, identity, call)
        del attempt.calls[identity]
        if definition.isgenerator:
            self._refuse(f"{definition.name!r} is a generator, and what it yielded is not on record")
        elif isinstance(run, FlowRunActor):
            memory.take(identity)
            memory.unfinished(identity)
            if not is_overridden(definition):
                self.begin(run, call.record)
        else:
            self._compare_outcome(run, parent, attempt, memory.look(identity))
        self._leave_on_failure()
        return True

    def _unknown(self, run: Any, parent: FlowRunActor, attempt: Attempt) -> None:
        """Judge a call that is not recorded, or not by its identity."""
        key, name = run.cell.definition.key, run.definition.name
        if attempt.open.get(key):
            attempt.open[key].pop()
        elif self._is_wrong(parent, attempt):
            self._differs(parent, attempt, now=called(run), index=self._next(attempt))
        self._leave_on_failure()
        attempt.waits.append(name)

    def _compare_place(self, run: Any, parent: FlowRunActor, attempt: Attempt, identity: bytes) -> None:
        found = attempt.orders.get(identity)
        if found is not None and found[1].come(found[0], strictly=True) is not None:
            self._differs(parent, attempt, now=called(run), index=attempt.offset(found[1]) + found[1].first)
            self._leave_on_failure()

    def _compare_inputs(self, run: Any, parent: FlowRunActor, attempt: Attempt, identity: bytes, call: Call) -> None:
        then = None if call.outcome is None else call.outcome.inputs_digest
        if then is None or run.digest is None or then == run.digest:
            return
        index = attempt.place(identity)
        name = call.record.definition.name
        self._differs(
            parent,
            attempt,
            recorded=f"{numbered(index)}{name}, with other inputs (digest {then.hex()[:8]})",
            now=f"{numbered(index)}{called(run)} (digest {run.digest.hex()[:8]})",
            index=index,
        )
        self._leave_on_failure()

    def _compare_outcome(self, run: Any, parent: FlowRunActor, attempt: Attempt, found: Any) -> None:
        """See whether what a task gave can be given again. A stub takes its place where there is nothing."""
        name = run.definition.name
        if found is None:
            if not is_overridden(run.definition):
                self._refuse(f"what the task {name!r} gave is not on record (mostly, it could not be serialized)")
            return
        try:
            _read(parent, found.outcome.result)
        except CallsheetError as error:
            self._differs(parent, attempt, recorded=f"{name}, whose result cannot be read any more", now=str(error))

    def may_run(self, run: Any) -> bool:
        """Tell whether the body of a task is called: that of a stub, and what that calls."""
        return is_overridden(run.definition) or (run.cell.parent is not None and run.cell.parent.kind is Kind.TASK)

    def begins_beside(self, definition: Any) -> None:
        """Refuse a run that is none of the recorded one.

        Raises:
            RecordingError: It is no stub.
        """
        if not is_overridden(definition):
            self._refuse(
                f"it begins a run of {definition.name!r} that is not inside of it, such as one under a run key"
            )
            raise RecordingError("This run does not belong to the recording that is replayed.")

    # ------------------------------------------------------------------------------------------ steps

    def new_step(self, run: FlowRunActor, key: str) -> None:
        """Judge a step that is not recorded.

        Raises:
            Interrupted: It differs.
        """
        attempt = self._now(run)
        if attempt is not None and not key.startswith(_IGNORED) and self._is_wrong(run, attempt):
            self._differs(run, attempt, now=_kind(key), index=self._next(attempt))
        self._leave_on_failure()

    def pauses(self, run: FlowRunActor, key: str) -> None:
        """Judge a pause.

        Raises:
            Interrupted: It is not recorded.
        """
        attempt = self._now(run)
        if attempt is not None:
            known = key in attempt.pauses or key in (run.cell.passed or ())
            attempt.pauses.discard(key)
            if not known and self._is_wrong(run, attempt):
                self._differs(run, attempt, now=f"a pause (key {key!r})", index=self._next(attempt))
        self._leave_on_failure()

    # ------------------------------------------------------------------------------------ differences

    def _is_wrong(self, run: FlowRunActor, attempt: Attempt) -> bool:
        """Tell whether something that is not recorded cannot have come after the end of the recording."""
        if attempt.is_whole:
            return True
        return run.calls.is_own_branch() and (attempt.next() is not None or attempt.next_open() is not None)

    def _compare_calls(self, run: FlowRunActor, attempt: Attempt, now: str, *, completed: bool) -> None:
        """Look for what is recorded and has not come. In a body that fails, branches may not get so far."""
        if attempt.next() is not None:
            self._differs(run, attempt, now=now, index=self._next(attempt))
        elif completed and attempt.calls:
            call = next(iter(attempt.calls.values()))
            self._differs(run, attempt, recorded=f"{call.record.definition.name}, in a branch of the body", now=now)
        elif attempt.is_whole:
            left = [one for one in attempt.memory.steps_left() if attempt_of_step(one) == attempt.number]
            own = [one for one in left if completed or one.identity in attempt.steps]
            steps = [said for one in own if (said := _step(run, one, attempt.steps.get(one.identity))) is not None]
            steps += [
                f"a pause (key {key!r})" for key in sorted(attempt.pauses) if key.isdecimal() and len(key) < _ORDERED
            ]
            if steps:
                self._differs(run, attempt, recorded=steps[0], now=now)

    def _next(self, attempt: Attempt) -> int:
        """Give the number of the next call of the body."""
        found = attempt.next()
        return len(attempt.names) if found is None else found[0]

    def _differs(
        self, run: FlowRunActor, attempt: Attempt, *, now: str, recorded: str | None = None, index: int | None = None
    ) -> None:
        names = attempt.names
        until = len(names) if index is None else index
        if recorded is None and index is not None:
            recorded = recorded_at(attempt, index)
            now = now if now.startswith(("the end", "it waits", "attempt")) else f"{numbered(index)}{now}"
        before = [f"{numbered(at)}{names[at]}" for at in range(max(0, until - _BEFORE), until)]
        self._stop(ReplayDiffers(run, attempt, recorded=recorded or end(attempt), now=now, index=index, before=before))

    def _refuse(self, why: str) -> None:
        self._stop(
            RecordingError(
                f"The recording cannot be replayed: {why}. Put a stub in its place: `with override(…, returns=…):`."
            )
        )

    def _stop(self, failure: CallsheetError) -> None:
        """Note the first difference, and have the run leave."""
        if self.failure is None:
            self.failure = failure
            root = self._live.get(self._recording.run_id)
            if root is not None:
                root.core.orchestrator.mailbox.tell(CancelTree(root.cell, CANCEL))

    def _leave_on_failure(self) -> None:
        if self.failure is not None:
            raise Interrupted


def _read(run: FlowRunActor, blob: ResultBlob | None) -> Any:
    """Give what is recorded.

    Raises:
        CallsheetError: It cannot be read.
    """
    return step(recall(blocking(), blob, None, run_id=run.cell.id, run="a recorded run")).result


def _step(run: FlowRunActor, outcome: OutcomeRecord, key: str | None) -> str | None:
    """Say what a recorded step was, if it may not be left out."""
    value = _read(run, outcome.result)
    if isinstance(value, bool) or (key is not None and key.startswith(_IGNORED)):  # the first is of `patched`
        return None
    if isinstance(value, int):
        return f"a sleep until {from_micros(value)}"
    return "a wait for a signal" if key is None else _kind(key)


def _kind(key: str) -> str:
    """Say what a step of this key is."""
    return f"a wait for the signal {key.removeprefix(SIGNAL)!r}" if key.startswith(SIGNAL) else f"a {key}"
