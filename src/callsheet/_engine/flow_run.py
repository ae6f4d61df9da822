"""Flow runs."""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable
from operator import attrgetter
from typing import TYPE_CHECKING, Any, ClassVar

import msgspec

from callsheet._clock import from_micros, monotonic
from callsheet._engine import bodies
from callsheet._engine.flow_facts import describe_flow, extra_of, identity_of_subflow, parameters_of
from callsheet._engine.futures import TaskFuture
from callsheet._engine.hooks import hooks_of
from callsheet._engine.keyed import INTERRUPTED
from callsheet._engine.leaving import Final, Judged, final_of_value, is_heard, wait_for_cancelled
from callsheet._engine.names import format_run_name
from callsheet._engine.recording import Calls, Remembered, digest_of_inputs, record_outcome, to_blob
from callsheet._engine.run import Run
from callsheet._engine.upstream import Origins, find_inputs, follow, resolve_upstream
from callsheet._engine.waiting import wait_in_life
from callsheet._ids import flow_id, new_id, new_name
from callsheet._kernel.messages import Amend, Cell, Leave, Propose, Register
from callsheet._kernel.scopes import DEADLINE, TERMINATE, Interrupted
from callsheet._model.kinds import SUSPENDED, Kind, StateType
from callsheet._model.runs import FlowRun, FlowRunPolicy
from callsheet._model.states import StateDetails
from callsheet._model.values import describe
from callsheet.context import FlowRunContext
from callsheet.exceptions import ParameterTypeError, Pause
from callsheet.logging.loggers import FLOW_RUNS, flow_fields
from callsheet.logging.prints import patch_print
from callsheet.utilities.collections import find, replace

if TYPE_CHECKING:
    from uuid import UUID

    from callsheet._engine.core import Core
    from callsheet._engine.keyed import Keyed
    from callsheet._engine.reviving import Recalled
    from callsheet._kernel.ports import Port
    from callsheet._kernel.signals import Once
    from callsheet._model.records import Guard, RunRecord

_S = StateType
# Names of their own: looking a member up in its enumeration costs as much as calling a function (3.11).
_PENDING, _RUNNING, _COMPLETED, _FAILED = StateType.PENDING, StateType.RUNNING, StateType.COMPLETED, StateType.FAILED
_TASK = Kind.TASK
_PLAIN: frozenset[type] = frozenset({type(None), int, str, float, bool, bytes})


_SUSPENDED = "The flow run is suspended."
_NO_MORE = Final(_S.PAUSED, SUSPENDED, _SUSPENDED)


class FlowRunActor(Run):
    """A flow run as an actor."""

    is_flow: ClassVar[bool] = True
    kind: ClassVar[Kind] = Kind.FLOW
    log_name: ClassVar[str] = FLOW_RUNS
    noun: ClassVar[str] = "Flow"

    __slots__ = (
        "_by_hand", "_deadline", "calls", "extra", "hooking", "identity", "keyed", "lost_futures", "past", "pauses",
        "queries", "recalled", "runner", "signals", "tracking", "waits",
    )  # fmt: skip

    def __init__(
        self, core: Core, flow: Any, parameters: dict[str, Any], wait_for: Any, parent: Run | None, home: Any,
        tags: frozenset[str], identity: bytes | None = None,
    ) -> None:  # fmt: skip
        described, self.extra, tracker = describe_flow(flow)
        super().__init__(core, flow, parameters, wait_for, parent, home, described, tags)
        self.name = new_name()
        self.known = Origins()
        self.calls = Calls(self.cell.id.bytes)
        self.runner: Any = None
        self._by_hand: dict[str, int] = {}
        self.pauses = 0  # of this attempt, so far
        self.queries: Any = None  # the handlers of queries, by name
        self.signals: dict[UUID, object] = {}  # that this attempt has taken
        self.waits = 0  # sleeps and waits for signals that are under way in its body
        self.hooking: list[Once] = []  # ends of submitted runs that call hooks, which are on record before
        self.lost_futures: deque[str] = deque()  # names of runs whose futures were dropped too early
        self._deadline: float | None = None
        self.past: RunRecord | None = None  # of a run that was cut off, until it is known what it says
        self.recalled: Recalled | None = None  # where that was read along with other runs
        self.keyed: Keyed | None = None
        self.tracking: Cell | None = None
        self.identity = identity
        if parent is not None:
            self.identity = identity or identity_of_subflow(core, flow, parent, parameters)
            self.tracking = Cell(new_id(), Kind.TASK, tracker, parent.cell, self)

    @property
    def flow_actor(self) -> Any:
        return self

    # ------------------------------------------------------------------------------------- the life

    def begin_calls(self) -> None:
        self.calls.begin()
        self.pauses = 0
        self.queries = None
        if self.signals:
            self.signals = {}
        if self.runner is None:  # a generator's, which is not entered for each of its steps
            self._runner()

    def register(self, *, start: bool, caller: Cell | None = None, guards: tuple[Guard, ...] = ()) -> int:
        if self.past is None:
            return super().register(start=start, caller=caller, guards=guards)
        from callsheet._engine.reviving import take_up

        self.upstream = find_inputs(self.parameters, self.wait_for, None)[0]
        return take_up(self, self.past)

    def find_inputs(self) -> None:
        """Find out what the parameters come from."""
        known = None if self.cell.flow is None else self.cell.flow.actor.known
        self.upstream, self.inputs = find_inputs(self.parameters, self.wait_for, known)
        if self.identity is not None:
            self.digest = digest_of_inputs(self, known)

    def registration(self, *, start: bool, guards: tuple[Guard, ...]) -> Register:
        del start  # its parameters are to be validated first
        parent = self.cell.parent
        self.find_inputs()
        if parent is not None and parent.kind is _TASK:
            self.inputs = (*self.inputs, ("__parents__", (parent.id,)))
        if self.tracking is not None:
            self.core.ask(
                Register(
                    cell=self.tracking,
                    name=self.definition.name,
                    tags=tuple(self.tags),
                    inputs=self.inputs,
                    extra=self.extra,
                )
            )
        parameters, opaque = parameters_of(self)
        if opaque and parent is None:
            self.core.ownership.tell_unrecoverable(self, opaque)
        return Register(
            cell=self.cell,
            name=self.name,
            tags=tuple(self.tags),
            parameters=parameters,
            extra=extra_of(self, opaque),
            parent_task_run_id=None if self.tracking is None else self.tracking.id,
            guards=guards,
        )

    def judge_attempt(self, port: Port, value: Any, error: BaseException | None) -> Judged:
        if self.cell.delivered == "suspend" and not self.core.abandoned:
            return self._let_finish(port, error)
        return super().judge_attempt(port, value, error)

    async def _let_finish(self, port: Port, error: BaseException | None) -> Final:
        """Wait for the task runs that had begun when the run was suspended."""
        while (childless := self.core.orchestrator.when_childless(self.cell)) is not None:
            try:
                await port.shielded_wait(childless)
            except BaseException:  # a Ctrl-C, or a cancellation: no more waiting
                await self.settle_children(port, cancel=True)
                raise
        return _NO_MORE if error is None else self.final_of(error)

    async def prepare(self, port: Port) -> None:
        past = self.past
        if past is not None:
            from callsheet._engine.reviving import remember

            await remember(self, port)
        given = self.parameters
        if self.upstream or self.wait_for is not None:
            self.parameters = await resolve_upstream(self, port)
        flow = self.definition
        if self.persists:
            _ = self.result_store  # a storage or serializer that there is not is told of before the body has worked
        if flow.should_validate_parameters:
            self.parameters = flow.validate_parameters(self.parameters)
        if past is not None:
            return  # what is known of it is in the history
        if self.parameters is not given and any(given.get(n) is not v for n, v in self.parameters.items()):
            self.core.ask(Amend(cell=self.cell, parameters=parameters_of(self)[0]))
        if flow.flow_run_name is not None:
            self.rename(format_run_name(flow.flow_run_name, self.name, self.parameters, what="flow_run_name"))

    def check_time(self) -> None:
        if self.cell.delivered == "suspend":
            raise Pause(_SUSPENDED, state=self.state)
        # A loop on which the body has computed for long tells of the deadline only after the next turn.
        if self._deadline is not None and monotonic() > self._deadline:
            self.scope.cancel(DEADLINE)
        self.scope.check()

    async def body(self, port: Any) -> Any:
        flow = self.definition
        if self.tracking is not None and self.tracking.type is _PENDING:
            self._track(_RUNNING, "Running", None)
        args, kwargs = flow._binder.call_arguments(self.parameters)
        if flow.timeout_seconds is not None:
            self._deadline = monotonic() + flow.timeout_seconds
        with self._runner():
            self.begin_calls()
            if not self.log_prints:
                return await self._call(port, args, kwargs)
            with patch_print():
                return await self._call(port, args, kwargs)

    def _runner(self) -> Any:
        self.runner = self.definition.task_runner.duplicate()
        return self.runner

    async def _call(self, port: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        flow = self.definition
        if not flow.isasync:
            value = await bodies.call_sync(self, port, flow.fn, args, kwargs)
            return await self._complete(port, value)

        async def whole() -> Any:
            return await self._complete(port, bodies.used_up(await flow.fn(*args, **kwargs)))

        return await port.call_async(whole, (), {}, self.scope, flow.timeout_seconds)

    async def _complete(self, port: Port, value: Any) -> Any:
        """Wait for what the body left running, and put states in the place of futures that it returned."""
        await self.settle_children(port, cancel=False)
        if type(value) in _PLAIN:
            return value
        for future in find(value, (TaskFuture,)):
            await follow(future, self, port, self._deadline)
        return replace(value, (TaskFuture,), attrgetter("state"))

    def _rest(self) -> float | None:
        return None if self._deadline is None else max(0.0, self._deadline - monotonic())

    async def settle_children(self, port: Port, *, cancel: bool) -> None:
        if self.lost_futures and not cancel:
            self.logger().warning(
                "A future was garbage collected before it resolved (%s). Please call `.wait()` or `.result()` on "
                "futures to ensure they resolve.",
                ", ".join(sorted(set(self.lost_futures))),
            )
            self.lost_futures.clear()
        if cancel:
            self.cancel_children()
        while settled := self.core.orchestrator.when_childless(self.cell) or self._hooks_called():
            if cancel:
                return await wait_for_cancelled(self, settled, port)
            if not await wait_in_life(settled, self, port, self._rest()):
                self.scope.cancel(DEADLINE)
                raise Interrupted

    def _hooks_called(self) -> Once | None:
        while self.hooking and self.hooking[-1].is_set:
            self.hooking.pop()
        return self.hooking[-1] if self.hooking else None

    def conclude(self, value: Any) -> Final:
        if type(value) in _PLAIN:
            return Final(_COMPLETED, "Completed", None, value)
        return final_of_value(self, value)

    def proposal(self, final: Final, port: Port) -> Remembered | Awaitable[Remembered]:
        if final.name == SUSPENDED and self.cell.delivered == "suspend":
            order = self.cell.suspension
            return Remembered(details=None if order is None else order.details)  # None: the run around it was suspended
        if self.persists or self.keyed is not None or self.kept is not None:
            return self._proposal_of_kept(final, port)
        return record_outcome(self, Remembered(), final, port)

    async def _proposal_of_kept(self, final: Final, port: Port) -> Remembered:
        rest = await self.keep(final, port)
        if self.keyed is None or final.reraise is not None:
            outcome = record_outcome(self, rest, final, port)
            return outcome if isinstance(outcome, Remembered) else await outcome
        if self.scope.reason == TERMINATE:  # no answer to anybody: the next call under the key goes on
            return Remembered(details=INTERRUPTED)
        rest.identity = self.cell.id.bytes  # callers of other times and places want to have it
        if self.kept is None:
            rest.recorded, rest.result = await to_blob(self.core, self.cell.id, final.data, port)
            if not rest.recorded:
                self.logger().warning("What the run gave cannot be kept for later calls under its run key.")
        return rest

    def final_of(self, error: BaseException) -> Final:
        if self.cell.delivered == "suspend":
            reraise = super().final_of(error).reraise
            return msgspec.structs.replace(_NO_MORE, reraise=reraise if is_heard(reraise) else None)
        if isinstance(error, ParameterTypeError) and self.cell.attempt == 0:
            message = f"Validation of flow parameters failed with error: {describe(error)}"
            return Final(_FAILED, "Failed", message, error)
        return super().final_of(error)

    def failure_message(self, error: BaseException) -> str:
        return f"Flow run encountered an exception: {describe(error)}"

    def renew(self) -> None:
        super().renew()
        self._forget()
        if self.core.replay is not None:
            self.core.replay.tries_again(self)

    def _forget(self) -> None:
        """Drop the memory of earlier lives: another attempt runs everything again."""
        if self.core.memories:
            self.core.memories.pop(self.cell.id, None)

    def is_promised(self, final: Final) -> bool:
        del final
        return self.keyed is not None or (self.core.acknowledges_outcomes and self.cell.parent is None)

    def concluded(self, final: Final) -> None:
        if self.core.replay is not None:
            self.core.replay.ends(self, final)
        self._track(final.type, final.name, final.message)
        if final.name == SUSPENDED and self.cell.suspension is not None:  # its time may have come while it was leaving
            self.core.journal.notify_shown(self.core.journal.accepted, self.core.nudge)

    def _track(self, type: StateType, name: str, message: str | None) -> None:
        """Bring the tracking task run of a subflow along."""
        if self.tracking is None or self.tracking.ended:
            return
        if type is _S.PAUSED and name == SUSPENDED:  # it goes on with the subflow
            self.core.ask(Leave(self.tracking))
            return
        self.core.ask(Propose(cell=self.tracking, type=type, name=name, message=message, retriable=False))

    def count_by_hand(self, task_key: str) -> int:
        """Give the number of a task run that is made by hand: 0, 1, 2 … for each task."""
        number = self._by_hand.get(task_key, 0)
        self._by_hand[task_key] = number + 1
        return number

    def release(self) -> None:
        super().release()
        if (tracking := self.tracking) is not None:
            tracking.actor = None
            if not tracking.ended and self.final is not None:  # its end is not for us to record, and the engine waits
                self.core.ask(Leave(tracking))
        if self.recalled is not None and self.recalled.taken is not None:  # it never got to it
            self.recalled.taken()
        self.recalled = None
        self._forget()
        self.known = Origins()
        self.runner = self.queries = None

    # ------------------------------------------------------------------------------ what users see

    def hooks_for(self, type: StateType) -> list[Callable[..., Any]]:
        return hooks_of(self.definition, type)

    def log_fields(self) -> dict[str, Any]:
        return flow_fields(self.cell.id, self.name, self.definition.name, self.core.log_sink)

    def log_end(self, final: Final) -> None:
        if final.name == SUSPENDED:
            return
        error = final.data if isinstance(final.data, BaseException) else None
        self.logger().error("Finished in state %s(%r)", final.name, final.message, exc_info=error)

    def details(self) -> StateDetails:
        return StateDetails(flow_run_id=self.cell.id, task_run_id=None if self.tracking is None else self.tracking.id)

    def make_record(self) -> FlowRun:
        flow = self.definition
        created = from_micros(self.created or self.core.clock.micros())
        return FlowRun(
            id=self.cell.id,
            name=self.name,
            flow_id=flow_id(flow.name),
            flow_version=flow.version,
            parameters=self.parameters,
            empirical_policy=FlowRunPolicy(retries=flow.retries, retry_delay=flow.retry_delay_seconds),
            tags=sorted(self.tags),
            idempotency_key=None if self.keyed is None else self.keyed.key,
            parent_task_run_id=None if self.tracking is None else self.tracking.id,
            expected_start_time=created,
            created=created,
            updated=created,
        )

    def make_context(self) -> FlowRunContext:
        return FlowRunContext(run=self)

    def context_field(self, name: str) -> Any:
        match name:
            case "flow":
                return self.definition
            case "flow_run":
                return self.record
            case "task_runner":
                return self.runner
            case _:
                return super().context_field(name)
