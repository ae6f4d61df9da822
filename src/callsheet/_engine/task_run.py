"""Task runs."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import TYPE_CHECKING, Any, ClassVar
from uuid import UUID

import msgspec

from callsheet._clock import from_micros
from callsheet._dual import whose_body_decides
from callsheet._engine import bodies
from callsheet._engine.leaving import Final, final_of_value
from callsheet._engine.names import format_run_name
from callsheet._engine.recording import Calls, Remembered, digest_of_inputs, idempotency_token, record_outcome
from callsheet._engine.run import Run
from callsheet._engine.upstream import find_inputs, resolve_upstream
from callsheet._ids import key_of_id
from callsheet._kernel.messages import Amend, Register
from callsheet._kernel.scopes import DEADLINE
from callsheet._kernel.signals import Once
from callsheet._model.kinds import Durability, Kind, StateType
from callsheet._model.records import Definition
from callsheet._model.runs import Constant, Parameter, TaskRun, TaskRunPolicy, TaskRunResult
from callsheet._model.states import StateDetails
from callsheet._model.values import describe, represent
from callsheet.context import TaskRunContext, current_transaction
from callsheet.logging.loggers import TASK_RUNS, UNKNOWN, task_fields
from callsheet.logging.prints import patch_print

if TYPE_CHECKING:
    from callsheet._engine.core import Beset, Core
    from callsheet._engine.flow_run import FlowRunActor
    from callsheet._kernel.messages import Cell
    from callsheet._kernel.ports import Port
    from callsheet._model.records import Guard

_S = StateType
# Names of their own: looking a member up in its enumeration costs as much as calling a function (3.11).
_COMPLETED, _FAILED = StateType.COMPLETED, StateType.FAILED
_PLAIN: frozenset[type] = frozenset({type(None), int, str, float, bool, bytes, dict})
LAZY: object = object()
_OFF, _TASK = Durability.OFF, Kind.TASK
_transaction_here = current_transaction.get
_NOTHING = Final(_COMPLETED, "Completed")
_pack = msgspec.msgpack.Encoder().encode


def describe_task(task: Any) -> tuple[Definition, bytes]:
    """Give what the history knows of a task, and what each of its runs carries; made once a task."""
    described = task._described
    if described is None:
        module = getattr(task, "__module__", None) or "__main__"
        qualname = getattr(task, "__qualname__", task.name)
        key = task.task_key
        extra: dict[str, Any] = {"task_key": key, "parameters": list(task._binder.names)}
        if task.version is not None:
            extra["version"] = task.version
        if task.retries:
            extra["policy"] = [task.retries, task.retry_delay_seconds, task.retry_jitter_factor]
        definition = Definition(Kind.TASK, f"{module}.{qualname}", task.name, key.rpartition("-")[2])
        described = task._described = (definition, _pack(extra))
    return described


def identity_of_call(
    core: Core, task: Any, parent: FlowRunActor | TaskRunActor | None, parameters: dict[str, Any]
) -> bytes | None:
    """Name a call of a task, under which its outcome goes into the run journal; `None` where none is kept."""
    if parent is None or core.durability is _OFF or parent.cell.flow_actor() is None:
        return None
    if task.journal_key is not None:
        return parent.calls.named(task.journal_key)
    return parent.calls.identify(describe_task(task)[0].key, parameters)


def dynamic_key_of(cell: Cell) -> str:
    """Tell apart the runs of a task in a flow run."""
    return key_of_id(cell.id)


class TaskRunActor(Run):
    """A task run as an actor."""

    is_flow: ClassVar[bool] = False
    kind: ClassVar[Kind] = Kind.TASK
    log_name: ClassVar[str] = TASK_RUNS
    noun: ClassVar[str] = "Task"

    __slots__ = ("_calls", "around", "extra", "identity", "is_cached", "transaction")

    def __init__(
        self,
        core: Core,
        task: Any,
        parameters: dict[str, Any],
        wait_for: Any,
        parent: FlowRunActor | TaskRunActor | None,
        home: Any,
        tags: frozenset[str],
        identity: bytes | None = None,
    ) -> None:
        described, self.extra = describe_task(task)
        Run.__init__(self, core, task, parameters, wait_for, parent, home, described, tags)
        self.identity = identity or identity_of_call(core, task, parent, parameters)
        self._calls: Calls | None = None
        self.is_cached = False
        self.around: Any = (
            None  # the transaction that is rolled back if a failed attempt is not followed by another one
        )
        self.transaction: Any = None  # the body's, while that runs; LAZY where it has none unless it asks
        flow = self.cell.flow
        self.known = None if flow is None else flow.actor.known
        # As `default_task_run_name`, without what is not shown.
        self.name = task.name if flow is None else f"{task.name}-{self.cell.id.int >> 20 & 0xFFF:03x}"

    @property
    def dynamic_key(self) -> str:
        """Tell the runs of one task apart; random, derived from the run's id."""
        cell = self.cell
        return f"{self.definition.task_key}-{cell.id.hex}" if cell.flow is None else dynamic_key_of(cell)

    @property
    def calls(self) -> Calls:
        """Name the calls of this run's body."""
        if self._calls is None:
            self._calls = Calls(self.identity or self.cell.id.bytes)
        return self._calls

    def begin_calls(self) -> None:
        if self._calls is not None:
            self._calls.begin()

    def registration(self, *, start: bool, guards: tuple[Guard, ...]) -> Register:
        self.find_inputs()
        cell = self.cell
        parent = cell.parent
        if parent is not None and parent.kind is _TASK:
            self.inputs = (*self.inputs, ("__parents__", (parent.id,)))
        return Register(
            cell=cell,
            name=self.name,
            tags=tuple(self.tags),
            inputs=self.inputs,
            extra=self.extra,
            start=start and not self.upstream and self.wait_for is None and self.definition.task_run_name is None,
            guards=guards,
        )

    def find_inputs(self) -> None:
        """Find out what the parameters come from."""
        self.upstream, self.inputs = find_inputs(self.parameters, self.wait_for, self.known)
        if self.identity is not None:
            self.digest = digest_of_inputs(self, self.known)

    def depend_on(self, dependencies: dict[str, set[Any]]) -> None:
        """Record further inputs."""
        inputs = tuple(
            (name, tuple(item.id for item in items if isinstance(item, TaskRunResult)))
            for name, items in dependencies.items()
        )
        self.inputs += inputs
        self.core.ask(Amend(cell=self.cell, inputs=inputs))

    async def prepare(self, port: Port) -> None:
        if self.upstream or self.wait_for is not None:
            self.parameters = await resolve_upstream(self, port)
            self.upstream = None
        template = self.definition.task_run_name
        if template is not None:
            self.rename(format_run_name(template, self.name, self.parameters, what="task_run_name"))

    async def body(self, port: Port) -> Any:
        replay = self.core.replay
        if replay is not None and not replay.may_run(self):
            await port.wait(Once(), None, self.scope)
        if self._transacts():
            from callsheet._engine import keeping

            self.kept, self.undone = None, False
            return await keeping.body(self, port)
        self.transaction = LAZY
        try:
            value = bodies.used_up(await self.call_body(port))
            if self.transaction is not LAZY:
                await self._settle(port, value, None)
            return value
        except BaseException as error:
            if self.transaction is not None and self.transaction is not LAZY:
                await self._settle(port, None, error)
            raise
        finally:
            self.transaction = None

    def _transacts(self) -> bool:
        """Tell whether the body runs in a transaction, whether it asks for one or not."""
        task = self.definition
        return bool(self.persists or task.on_commit_hooks or task.on_rollback_hooks or _transaction_here() is not None)

    async def open_between_steps(self, port: Port) -> None:
        if not self._transacts():
            self.transaction = LAZY
            return
        from callsheet._engine import keeping

        self.kept, self.undone = None, False
        key = await keeping.cache_key(self, port, policy=False) if self.persists else None
        with keeping.unseen():
            await keeping.open_transaction(self, port, key)

    async def close_between_steps(self, port: Port, value: Any, error: BaseException | None) -> None:
        try:
            if self.transaction is not None and self.transaction is not LAZY:
                from callsheet._engine import keeping

                with keeping.unseen():
                    await self._settle(port, value, error)
        finally:
            self.transaction = None

    async def _settle(self, port: Port, value: Any, error: BaseException | None) -> None:
        """Leave the transaction of this body, where it has one."""
        from callsheet._engine import keeping

        transaction, self.transaction = self.transaction, None
        if error is not None:
            await keeping.give_up(self, port, transaction, error)
        else:
            await keeping.settle(self, port, transaction, self.conclude(value))

    def own_transaction(self) -> Any:
        if self.transaction is LAZY:
            from callsheet._engine import keeping

            self.transaction = None  # while it is made, whose parent is not itself
            self.transaction = keeping.lazily(self)
        return self.transaction

    def call_body(self, port: Port) -> Awaitable[Any]:
        """Call the task's function once; awaited, it gives what that returned, which may be a generator."""
        return self._call_printing(port) if self.log_prints else self._call(port)

    async def _call_printing(self, port: Port) -> Any:
        with patch_print():
            return bodies.used_up(await self._call(port))

    def _call(self, port: Any) -> Awaitable[Any]:
        beset = self.core.beset
        return self._begin_body(port) if beset is None else self._call_beset(port, beset)

    def _begin_body(self, port: Any) -> Awaitable[Any]:
        args, kwargs = self.definition._binder.call_arguments(self.parameters)
        self.begin_calls()
        task = self.definition
        if task.isasync:
            return port.call_async(task.fn, args, kwargs, self.scope, task.timeout_seconds)
        return bodies.call_sync(self, port, task.fn, args, kwargs)

    async def _call_beset(self, port: Any, beset: Beset) -> Any:
        beset(self, before=True)
        value = bodies.used_up(await self._begin_body(port))
        beset(self, before=False)
        return value

    def conclude(self, value: Any) -> Final:
        if self.is_cached:
            return Final(_COMPLETED, "Cached", None, value)
        if value is None:
            return _NOTHING
        if type(value) in _PLAIN:
            if self.known is not None:
                self.known.remember(value, self.cell.id)
            return Final(_COMPLETED, "Completed", None, value)
        if self.known is not None:
            self.known.remember(value, self.cell.id)
        return final_of_value(self, value)

    def is_promised(self, final: Final) -> bool:
        return self.core.acknowledges_outcomes and final.type is _COMPLETED

    def hooks_for(self, type: StateType) -> list[Callable[..., Any]]:
        if type is _COMPLETED:
            return self.definition.on_completion_hooks
        return self.definition.on_failure_hooks if type is _FAILED or type is _S.CRASHED else []

    def failure_message(self, error: BaseException) -> str:
        return f"Task run encountered an exception {describe(error)}"

    def proposal(self, final: Final, port: Port) -> Remembered | Awaitable[Remembered]:
        if self.persists or self.kept is not None or self.around is not None:
            return self._proposal_of_kept(final, port)
        return record_outcome(self, Remembered(), final, port)

    async def _proposal_of_kept(self, final: Final, port: Port) -> Remembered:
        if self.around is not None:
            around, self.around = self.around, None
            await around.do("rollback", port)
        outcome = record_outcome(self, await self.keep(final, port), final, port)
        return outcome if isinstance(outcome, Remembered) else await outcome

    def retry_condition(self, port: Port, final: Final) -> Awaitable[bool] | None:
        condition = self.definition.retry_condition_fn
        return None if condition is None else self._is_retriable(condition, port, final)

    async def _is_retriable(self, condition: Callable[..., Any], port: Port, final: Final) -> bool:
        # The condition is shown the failure as the state that it will be if there is no retry.
        state = self.state_of(final)
        if self.scope.reason == DEADLINE:
            self.forget_deadline()
        ask = whose_body_decides(condition)
        try:
            return bool(await port.call(ask, self.definition, self.record, state, scope=self.scope))
        except Exception:
            self.logger().error("The retry condition failed; the task run is not tried again.", exc_info=True)
            return False

    def log_fields(self) -> dict[str, Any]:
        flow, name = self.flow_actor, self.definition.name
        if flow is None:
            return task_fields(self.cell.id, self.name, name, None, UNKNOWN, UNKNOWN, self.core.log_sink)
        return task_fields(
            self.cell.id, self.name, name, flow.cell.id, flow.name, flow.definition.name, self.core.log_sink
        )

    def log_end(self, final: Final) -> None:
        if final.type is _FAILED and isinstance(final.data, BaseException):
            self.logger().error("Task run failed with exception: %s", represent(final.data), exc_info=final.data)
        elif final.type in (_S.CRASHED, _FAILED):
            self.logger().error("Finished in state %s(%r)", final.name, final.message)

    # ------------------------------------------------------------------------------ what users see

    def details(self) -> StateDetails:
        flow = self.cell.flow
        return StateDetails(task_run_id=self.cell.id, flow_run_id=None if flow is None else flow.id)

    def make_record(self) -> TaskRun:
        cell, task = self.cell, self.definition
        flow = cell.flow
        created = from_micros(self.created or self.core.clock.micros())
        return TaskRun(
            id=cell.id,
            name=self.name,
            flow_run_id=None if flow is None else flow.id,
            task_key=task.task_key,
            dynamic_key=self.dynamic_key,
            task_version=task.version,
            empirical_policy=TaskRunPolicy(
                retries=task.retries,
                retry_delay=task.retry_delay_seconds,
                retry_jitter_factor=task.retry_jitter_factor,
            ),
            tags=sorted(self.tags),
            task_inputs=task_inputs_of(task._binder.names, self.inputs),
            flow_run_run_count=0 if flow is None else flow.attempt,
            expected_start_time=created,
            created=created,
            updated=created,
        )

    def make_context(self) -> TaskRunContext:
        return TaskRunContext(run=self)

    def context_field(self, name: str) -> Any:
        match name:
            case "task":
                return self.definition
            case "task_run":
                return self.record
            case "idempotency_token":
                return idempotency_token(self)
            case _:
                return super().context_field(name)


def task_inputs_of(
    names: Iterable[str], inputs: Iterable[tuple[str, tuple[UUID, ...]]]
) -> dict[str, list[TaskRunResult | Parameter | Constant]]:
    """Give the runs behind each parameter; every parameter is there."""
    found: dict[str, list[Any]] = {name: [] for name in names}
    for name, sources in inputs:
        known = found.setdefault(name, [])
        known += [made for source in sources if (made := TaskRunResult(id=source)) not in known]
    return found
