"""Task runs that are made without running them: `Task.create_run` and `Task.create_local_run`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple, cast
from uuid import UUID

import msgspec

from callsheet._clock import micros
from callsheet._engine.decode import encode_details
from callsheet._engine.history import task_runs, the_run
from callsheet._engine.names import default_task_run_name
from callsheet._engine.places import LoopPlace, Place, core_of, current_core
from callsheet._engine.task_run import describe_task, task_inputs_of
from callsheet._engine.upstream import find_inputs
from callsheet._ids import new_id, new_token
from callsheet._kernel.host import here
from callsheet._model.kinds import Kind, StateType
from callsheet._model.records import RunCreated, RunFilter, RunRecord, StateEntered
from callsheet._model.runs import TaskRun, TaskRunPolicy, TaskRunResult
from callsheet._model.states import State, StateDetails
from callsheet._rules.facts import Facts
from callsheet._rules.table import judge
from callsheet._rules.verdicts import Abort
from callsheet.context import FlowRunContext, TaskRunContext, current_tags
from callsheet.exceptions import ObjectAlreadyExists

_pack = msgspec.msgpack.Encoder().encode
_unpack = msgspec.msgpack.Decoder(dict[str, Any]).decode


def local_run(
    task: Any,
    id: UUID | None,
    parameters: dict[str, Any] | None,
    flow_run_context: FlowRunContext | None,
    parent_task_run_context: TaskRunContext | None,
    wait_for: Iterable[Any] | None,
    extra_task_inputs: Mapping[str, Any] | None,
    deferred: bool,
) -> TaskRun:
    """Make a task run that nobody stores."""
    flow_context = flow_run_context or FlowRunContext.get()
    parent = parent_task_run_context or TaskRunContext.get()
    flow_run_id: UUID | None = None if flow_context is None else flow_context.flow_run.id
    run_id = id or new_id()
    dynamic_key = new_token() if flow_run_id is not None else f"{task.task_key}-{new_token()}"
    state: State[Any] = State(
        type=StateType.SCHEDULED if deferred else StateType.PENDING,
        state_details=StateDetails(task_run_id=run_id, flow_run_id=flow_run_id, deferred=True if deferred else None),
    )
    tags = set(current_tags()) | task.tags
    run = TaskRun(
        id=run_id,
        name=task.name if flow_run_id is None else default_task_run_name(task.name, dynamic_key),
        flow_run_id=flow_run_id,
        task_key=task.task_key,
        dynamic_key=dynamic_key,
        task_version=task.version,
        empirical_policy=TaskRunPolicy(
            retries=task.retries, retry_delay=task.retry_delay_seconds, retry_jitter_factor=task.retry_jitter_factor
        ),
        tags=sorted(tags),
        task_inputs=_inputs(parameters or {}, flow_context, parent, wait_for, extra_task_inputs),
        expected_start_time=state.timestamp,
        created=state.timestamp,
        updated=state.timestamp,
    )
    run.set_state(state)
    return run


def _inputs(
    parameters: dict[str, Any],
    flow_context: FlowRunContext | None,
    parent: TaskRunContext | None,
    wait_for: Iterable[Any] | None,
    extra: Mapping[str, Any] | None,
) -> dict[str, list[Any]]:
    live = None if flow_context is None else getattr(flow_context, "_run", None)
    _, found = find_inputs(parameters, wait_for, None if live is None else live.known)
    if parent is not None:
        found = (*found, ("__parents__", (parent.task_run.id,)))
    inputs = task_inputs_of(parameters, found)
    for name, items in (extra or {}).items():
        known = inputs.setdefault(name, [])
        known += [item for item in items if item not in known]
    return inputs


async def create_local_task_run(task: Any, *, client: Any = None, **given: Any) -> TaskRun:
    """Make a task run that nobody stores (see `Task.create_local_run`), so that a client has nothing to do."""
    if client is not None:
        core_of(client)
    return local_run(task, **given)


async def create_task_run(task: Any, *, client: Any = None, **given: Any) -> TaskRun:
    """Make a task run and store it (see `Task.create_run`).

    Raises:
        NotImplementedError: It is to be left to a task worker, with parameters.
        TypeError: What is given as `client` is none.
    """
    core = current_core() if client is None else core_of(client)
    if given["deferred"] and (given["parameters"] or given["wait_for"]):
        raise NotImplementedError("create_run(deferred=True) with parameters or `wait_for` is not implemented yet")
    run = local_run(task, **given)
    context = given["flow_run_context"] or FlowRunContext.get()
    live = None if context is None else getattr(context, "_run", None)
    if live is not None:
        run.dynamic_key = str(live.count_by_hand(task.task_key))
        run.name = f"{task.name}-{run.dynamic_key}"
    elif run.flow_run_id is None:
        run.name = task.name
    by_hand = ByHand(
        task,
        first=cast("State[Any]", run.state),
        dynamic_key=run.dynamic_key,
        flow_run_id=run.flow_run_id,
        id=run.id,
        name=run.name,
        extra_tags=tuple(run.tags),
        inputs=run.task_inputs,
    )
    place = LoopPlace(core, here())
    try:
        return await by_hand.store(place)
    finally:
        await place.reader.aclose()


class ByHand(NamedTuple):
    """A task run that is stored without being run."""

    task: Any
    first: State[Any]
    dynamic_key: str
    flow_run_id: UUID | None
    id: UUID | None
    name: str | None
    extra_tags: tuple[str, ...]
    inputs: Mapping[str, Iterable[Any]]

    async def store(self, place: Place) -> TaskRun:
        """Write it down, and read it back.

        Raises:
            ObjectNotFound: there is no such flow run.
            ObjectAlreadyExists: a run has this id.
            ValueError: a run cannot begin in this state, or an input is no `TaskRunResult`.
        """
        await place.catch_up()
        reader = place.reader
        flow_run = None if self.flow_run_id is None else await the_run(reader, Kind.FLOW, self.flow_run_id)
        if self.id is not None and (await reader.read_runs(RunFilter(ids=(self.id,)), limit=1)).items:
            raise ObjectAlreadyExists(help_message=f"A run with the id {self.id} exists already.")
        verdict = judge(Kind.TASK, None, self.first.type, Facts(now=0.0), proposed_name=self.first.name)
        if isinstance(verdict, Abort):
            raise ValueError(verdict.reason)
        created = self._created(self.id or new_id(), flow_run)
        place.core.journal.put(created, self._entered(created.id))
        await place.catch_up()
        return (await task_runs(reader, [await the_run(reader, Kind.TASK, created.id)]))[0]

    def _created(self, run_id: UUID, flow_run: RunRecord | None) -> RunCreated:
        definition, described = describe_task(self.task)
        extra = {**_unpack(described), "dynamic_key": self.dynamic_key}
        named = set(extra["parameters"])  # each is a key when the run is read, also without inputs
        inputs = [(key, _sources(key, given)) for key, given in self.inputs.items()]
        task, state = self.task, self.first
        due = state.state_details.scheduled_time if state.type is StateType.SCHEDULED else None
        return RunCreated(
            id=run_id,
            kind=Kind.TASK,
            definition=definition,
            name=self.name or (task.name if flow_run is None else f"{task.name}-{self.dynamic_key}"),
            created=micros(state.timestamp),
            parent_id=None if flow_run is None else flow_run.id,
            flow_run_id=None if flow_run is None else flow_run.id,
            root_id=run_id if flow_run is None else flow_run.root_id,
            due_at=None if due is None else micros(due),
            tags=tuple(sorted({*task.tags, *self.extra_tags})),
            inputs=tuple((key, sources) for key, sources in inputs if sources or key not in named),
            extra=_pack(extra),
        )

    def _entered(self, run_id: UUID) -> StateEntered:
        state = self.first
        return StateEntered(
            run_id=run_id,
            seq=1,
            type=state.type,
            name=state.name,
            at=micros(state.timestamp),
            state_id=state.id,
            message=state.message,
            details=encode_details(state.state_details, state.data),
        )


def _sources(name: str, given: Iterable[Any]) -> tuple[UUID, ...]:
    sources: list[UUID] = []
    for item in given:
        if not isinstance(item, TaskRunResult):
            raise ValueError(f"Input {name!r}: expected TaskRunResult, got {type(item).__name__}")
        sources.append(item.id)
    return tuple(sources)
