"""Calls in a flow run that was taken up again: what ended in an earlier life is put in the place of a new run.

A replayed run is an actor that has ended already, of the run that there is in the history: the same id, name, state and
outcome. It is never registered, enters no state, calls no body and no hooks; futures, `return_state` and `wait_for` see
nothing unusual. Only `invoke` calls this module, and only where the engine has a memory at all.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, TypeVar

from callsheet._engine.flow_facts import identity_of_subflow
from callsheet._engine.flow_run import FlowRunActor
from callsheet._engine.reviving import adopt
from callsheet._engine.task_run import TaskRunActor, identity_of_call
from callsheet._kernel.ports import step
from callsheet.exceptions import CallsheetError
from callsheet.logging.loggers import engine_log

if TYPE_CHECKING:
    from callsheet._engine.core import Core
    from callsheet._engine.memory import Memory, Remembered
    from callsheet._kernel.host import Host
    from callsheet._model.records import OutcomeRecord, RunRecord

A = TypeVar("A", FlowRunActor, TaskRunActor)
AnyRun = FlowRunActor | TaskRunActor
_LOG: Final = engine_log("callsheet.engine")


def run_of_call(
    cls: type[A],
    core: Core,
    definition: Any,
    parameters: dict[str, Any],
    wait_for: Any,
    parent: AnyRun,
    home: Host | None,
    tags: frozenset[str],
    *,
    identity: bytes | None = None,
    start: bool = False,
) -> A:
    """Give the run of a call that is made in a run: the one of an earlier life, or a new one, which is registered.

    Args:
        cls: What it is a run of.
        core: The machinery.
        definition: What is called.
        parameters: With what.
        wait_for: What it waits for.
        parent: The run whose body calls.
        home: The loop on which its async children run.
        tags: Its tags, if it is a new one.
        identity: Of the call, where that is known already (of an element of a `map`).
        start: Whether a new run is to enter Running at once.

    Returns:
        The run. One that has ended has its `final` set.
    """
    flow = parent.flow_actor
    memory = None if flow is None else core.memories.get(flow.cell.id)
    if memory is None:
        run = cls(core, definition, parameters, wait_for, parent, home, tags, identity)
        run.register(start=start)
        return run
    if identity is None:
        name = identity_of_subflow if cls is FlowRunActor else identity_of_call
        identity = name(core, definition, parent, parameters)
    run = cls(core, definition, parameters, wait_for, parent, home, tags, identity)
    if identity is not None and not _from_memory(run, memory, identity):
        start = False
    if run.final is None:
        run.register(start=start)
    return run


def _from_memory(run: AnyRun, memory: Memory, identity: bytes) -> bool:
    """Make a run what it was in an earlier life; tell whether it is new after all."""
    if memory.watch is not None:
        run.find_inputs()
        if not memory.watch.admits(run, memory, identity):
            memory.forget_runs()
            memory.watch = None
    remembered = memory.take(identity)
    if remembered is not None and not run.definition.isgenerator:
        try:
            _end_as(run, remembered)
        except CallsheetError as error:
            _LOG.warning("What %s gave was recorded and cannot be used, it runs again: %s", run.definition.name, error)
        else:
            return False
    if isinstance(run, FlowRunActor):
        unfinished = memory.unfinished(identity)
        if unfinished is None or run.definition.isgenerator:
            return True
        adopt(run, unfinished.record, unfinished.tracker)
        return False
    tried = memory.tried(identity)
    if tried is None:
        return True
    run.cell.attempt, run.cell.due = tried.failed, tried.due
    return False


def _end_as(run: AnyRun, remembered: Remembered) -> None:
    """Give a run the outcome that it had.

    Raises:
        CallsheetError: The outcome cannot be had back.
    """
    record = remembered.record
    value, kept = _outcome(run, remembered.outcome)
    if isinstance(run, FlowRunActor):
        _end_tracking(run, record)
    elif run.known is not None:
        run.known.remember(value, record.id)
    run.end_as(record, value, kept)


def _end_tracking(run: FlowRunActor, record: RunRecord) -> None:
    if run.tracking is not None and record.parent_task_run_id is not None:
        run.tracking.id, run.tracking.ended = record.parent_task_run_id, True


def _outcome(run: AnyRun, outcome: OutcomeRecord) -> tuple[Any, Any]:
    """Give the value or exception, and the record that has it where it was persisted.

    A sync frame of a driven task waits for files and storages without holding up its loop.

    Raises:
        CallsheetError: The outcome cannot be had back.
    """
    from callsheet._results.journalled import recall
    from callsheet._results.ways import blocking
    from callsheet._results.wires import METADATA

    blob, name = outcome.result, f"the run {run.definition.name!r}"
    if blob is None:
        return None, None
    record = step(recall(blocking(), blob, run.core.blobs, run_id=outcome.run_id, run=name))
    return record.result, record if blob.codec == METADATA else None
