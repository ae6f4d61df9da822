"""Steps of a flow's body: operations that are no runs, and that a body which is called again does not do again.

A durable sleep, a consumed signal: what such an operation found out, or decided, is put into the run journal under an
identity like that of a call. In a later life of the flow run the step is `known`, and `value` is what was recorded::

    step = Step(run, "sleep")
    if not step.known:
        step.record(now + seconds)  # decided once: when to wake up
    await until(step.value)

Its place among the body's calls is taken when it is made, so make it where the operation is called, before anything
is awaited. What is recorded is on disk with the next commit; `committed` waits for that. A value may be recorded again
(the later one counts), and entries that must not be separated from it go along with `record`.

A step is recorded per attempt of the flow run: another attempt does everything again, as with tasks. In the history it is
an `outcome` row whose run id is no run's, but made of the step's identity and the attempt (`memory.row_of_step`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from callsheet._engine.memory import row_of_step
from callsheet._engine.recording import to_row
from callsheet._kernel.ports import step
from callsheet._kernel.signals import Once
from callsheet._model.kinds import Durability, StateType
from callsheet._model.records import OutcomeRecord, OutcomeRecorded
from callsheet.exceptions import CallsheetError

if TYPE_CHECKING:
    from callsheet._engine.flow_run import FlowRunActor
    from callsheet._kernel.ports import Port
    from callsheet._model.records import Entry

PREFIX: Final = "step:"
"""What keys of steps begin with, where they name a call."""


class Step:
    """One step of the body of a flow run.

    Args:
        run: The flow run.
        key: What kind of operation it is.
        parameters: Its inputs, which name the branch if it is the first call in a task of the user's own.
        named: It is the same step wherever the body makes it; else its place among the calls tells it from others.

    Attributes:
        known: Whether something was recorded, in an earlier life or by `record`.
        value: What was recorded.
    """

    __slots__ = ("_identity", "_position", "_run", "known", "value")

    def __init__(
        self, run: FlowRunActor, key: str, parameters: dict[str, Any] | None = None, *, named: bool = False
    ) -> None:
        self._run = run
        self._position = 0
        self.known = False
        self.value: Any = None
        core = run.core
        self._identity: bytes | None = None
        if core.durability is Durability.OFF:
            return
        calls, key = run.calls, PREFIX + key
        identity = self._identity = calls.named(key) if named else calls.identify(key, parameters or {})
        memory = core.memories.get(run.cell.id) if core.memories else None
        outcome = None if memory is None else memory.step(identity)
        if outcome is not None:
            try:
                self.value = _value(run, outcome)
                self.known = True
            except CallsheetError as error:
                run.logger().warning("A step that was recorded (%s) cannot be read and is done again: %s", key, error)
        if core.replay is not None and not self.known:
            core.replay.new_step(run, key.removeprefix(PREFIX))

    def record(self, value: Any, *entries: Entry) -> None:
        """Put on record what the step gives, and entries along with it.

        Raises:
            SerializationError: The value cannot be serialized.
        """
        self.value, self.known = value, True
        run = self._run
        if self._identity is None:
            if entries and run.core.journal.keeps:
                run.core.journal.put(*entries)
            return
        outcome = OutcomeRecorded(
            flow_run_id=run.cell.id,
            identity=self._identity,
            run_id=row_of_step(self._identity, run.cell.attempt),
            status=StateType.COMPLETED,
            result=to_row(value),
        )
        self._position = run.core.journal.put(outcome, *entries)

    async def committed(self, port: Port) -> None:
        """Wait until what was recorded is on disk."""
        journal = self._run.core.journal
        if journal.committed < self._position and not journal.flush_here(self._position):
            done = Once()
            journal.notify(self._position, done.set)
            await port.wait(done, None, self._run.scope)


def _value(run: FlowRunActor, outcome: OutcomeRecord) -> Any:
    """Give what was recorded.

    Raises:
        CallsheetError: It cannot be read.
    """
    from callsheet._results.journalled import recall
    from callsheet._results.ways import blocking

    if outcome.result is None:
        return None
    return step(recall(blocking(), outcome.result, run.core.blobs, run_id=outcome.run_id, run="a step")).result
