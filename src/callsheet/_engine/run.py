"""A run as an actor: one life for flow runs and task runs, from registration to the final state.

The life is written once, as coroutines that await only their port (see `_kernel.ports`). What flows and tasks do
differently is in the methods that their classes override; bodies are called in `bodies`, inputs are resolved in
`upstream`.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple
from uuid import UUID

from callsheet._clock import from_micros
from callsheet._engine.hooks import run_hooks, sheltered
from callsheet._engine.state_values import crashed_state
from callsheet._engine.upstream import NotReady
from callsheet._ids import new_id, state_id
from callsheet._kernel.messages import Amend, Answer, CancelTree, Cell, Leave, Propose, Register
from callsheet._kernel.scopes import CANCEL, DEADLINE, PARENT, Interrupted, RunScope
from callsheet._kernel.signals import Once
from callsheet._model.kinds import TERMINAL_STATES, Kind, StateType
from callsheet._model.records import Definition
from callsheet._model.states import State, StateDetails
from callsheet._rules.retry import retry_delay
from callsheet._rules.verdicts import ACCEPT, Abort, Reject, Wait
from callsheet.context import current_run

if TYPE_CHECKING:
    from callsheet._engine.core import Core
    from callsheet._kernel.host import Host
    from callsheet._kernel.ports import Port

_S = StateType


class Final(NamedTuple):
    """How an attempt ended. `reraise` is set where the caller's surroundings must hear of it."""

    type: StateType
    name: str
    message: str | None = None
    data: Any = None
    made: State[Any] | None = None  # the state that the body returned, which stays the same object
    reraise: BaseException | None = None
    retriable: bool = True


class Run:
    """One run. Made by a call or a `submit`, lives in the coroutine `live`, and is kept by its future."""

    is_flow: ClassVar[bool]
    kind: ClassVar[Kind]
    noun: ClassVar[str]

    __slots__ = (
        "__weakref__", "_context", "_record", "_state", "at", "cell", "core", "created", "definition",
        "detached", "ended", "final", "first_started", "home", "inputs", "known", "name", "parameters",
        "places", "scope", "seq", "spent", "started", "state_name", "tags", "task", "type", "unsaved",
        "upstream", "wait_for",
    )  # fmt: skip

    def __init__(
        self,
        core: Core,
        definition: Any,
        parameters: dict[str, Any],
        wait_for: Iterable[Any] | None,
        parent: Run | None,
        home: Host | None,
        described: Definition,
        tags: frozenset[str],
        run_id: UUID | None = None,
    ) -> None:
        self.core = core
        self.definition = definition
        self.parameters = parameters
        self.wait_for = wait_for
        self.home = home  # the loop on which async children run; None: the process's runtime thread
        self.tags = tags
        self.scope = RunScope()
        self.cell = Cell(run_id or new_id(), self.kind, described, None if parent is None else parent.cell, self)
        self.name = ""
        self.detached = False  # nobody awaits its life: it was submitted
        self.task: object = None  # the event loop's, which keeps itself alive only weakly
        self.unsaved = 0  # the position in the journal that its future waits for
        self.upstream: dict[str, list[Any]] | None = None
        self.ended: Once | None = None
        self.final: Final | None = None
        self.places: Any = None  # of a bounded runner, while this run occupies one
        self.type: StateType = _S.PENDING
        self.state_name = "Pending"
        self.seq = self.at = self.created = self.started = self.first_started = self.spent = 0
        self._record: Any = None
        self._context: Any = None
        self._state: State[Any] | None = None

    # --------------------------------------------------------------------- what kinds do differently

    @property
    def flow_actor(self) -> Any:
        """Give the innermost flow run: this one, or the one around it."""
        cell = self.cell.flow
        return None if cell is None else cell.actor

    def registration(self) -> dict[str, Any]:
        """Give what is written down with the run's creation, beyond what every run has."""
        raise NotImplementedError

    async def prepare(self, port: Port) -> None:
        """Resolve inputs and names, so that the body can be called."""
        raise NotImplementedError

    async def body(self, port: Port) -> Any:
        """Call the body once and give what it returned."""
        raise NotImplementedError

    def conclude(self, value: Any) -> Final:
        """Turn what the body returned into a state."""
        raise NotImplementedError

    def hooks_for(self, type: StateType) -> list[Callable[..., Any]]:
        """Give the hooks of a state."""
        raise NotImplementedError

    def details(self) -> StateDetails:
        """Give the details that every state of this run has."""
        raise NotImplementedError

    def make_record(self) -> Any:
        """Make the object that users see (`FlowRun`, `TaskRun`)."""
        raise NotImplementedError

    def make_context(self) -> Any:
        """Make the context that users see."""
        raise NotImplementedError

    def context_field(self, name: str) -> Any:
        """Give a field of the context that was not set by hand."""
        raise NotImplementedError

    async def proposal(self, final: Final, port: Port) -> dict[str, Any]:
        """Give what goes with the final proposal, beyond the state."""
        return {}

    def logger(self) -> Any:
        """Give the run's logger."""
        raise NotImplementedError

    async def settle_children(self, port: Port, *, cancel: bool) -> None:
        """End what the body left running."""

    def begin_calls(self) -> None:
        """Note that a body begins here, whose calls are counted from the start."""

    def release(self) -> None:
        """Let go of what only a living run needs."""
        self.parameters = {}
        self.wait_for = self.upstream = self._context = None

    # ------------------------------------------------------------------------------------- the life

    def register(self, *, start: bool) -> None:
        """Come into being: from here on the run is in the call sheet and in history.

        With `start` it also enters Running where nothing is to be waited for first: one message less.
        """
        cell = self.cell
        self.core.admit(cell.parent)
        registration = self.registration()
        answer = self.core.ask(
            Register(
                cell=cell,
                name=self.name,
                type=_S.PENDING,
                state_name="Pending",
                start=start and self.is_ready(),
                **registration,
            )
        )
        self.seq = answer.seq
        self.at = self.created = answer.at
        if cell.type is _S.RUNNING:
            self.type, self.state_name = _S.RUNNING, "Running"
            self.started = self.first_started = answer.at

    def is_ready(self) -> bool:
        """Tell whether the body can be called as soon as the run exists."""
        return False

    async def live(self, port: Port) -> None:
        """Live from the first state to the last. Raises only what must be heard outside: cancellation, Ctrl-C."""
        token = current_run.set(self)
        try:
            final = await self._life(port)
        finally:
            current_run.reset(token)
            if self.unsaved and self.final is not None:
                # Nobody awaits this coroutine: it need not stay until the journal's thread has written.
                self.core.journal.notify(self.unsaved, self.finish)
            else:
                self.finish()
            del self
        if final.reraise is not None:
            try:
                raise final.reraise
            finally:
                del final
        del final

    async def _life(self, port: Port) -> Final:
        final = await self.begin(port)
        while final is None:
            value, error = None, None
            try:
                value = await self.body(port)
            except BaseException as raised:  # noqa: BLE001 - every way to leave becomes a state
                error = only_theirs(raised)
            final = await self.judge_attempt(port, value, error)
            del value, error
        try:
            return await self.end(port, final)
        finally:
            del self, final  # the frame of a body that failed leads back here, and the run holds the error

    async def begin(self, port: Port) -> Final | None:
        """Do what comes before the body; give the run's end where it does not get so far."""
        try:
            await port.checkpoint()
            if self.type is not _S.RUNNING:
                await self.prepare(port)
                await self._start(port, "Running")
        except BaseException as error:  # noqa: BLE001 - every way to leave before the body becomes a state
            return self._before_body(only_theirs(error))
        if self.is_flow:
            await self._call_hooks(port)
        return None

    async def judge_attempt(self, port: Port, value: Any, error: BaseException | None) -> Final | None:
        """Give how the run ends after an attempt, or `None` where another one begins."""
        final = await self._failed(port, error) if error is not None else self.conclude(value)
        if final.type is _S.FAILED and final.reraise is None and self.cell.attempt <= self.definition.retries:
            return await self._try_again(port, final)
        return final

    async def _start(self, port: Port, name: str) -> None:
        while True:
            answer = self._propose(_S.RUNNING, name)
            verdict = answer.verdict
            if verdict is ACCEPT:
                return
            if isinstance(verdict, Wait):
                until = verdict.until or 0.0
                await port.wait(Once(), max(0.0, until - answer.at / 1e6), self.scope)
            elif isinstance(verdict, Abort):
                raise Interrupted
            elif isinstance(verdict, Reject) and verdict.type is not _S.RUNNING:
                self.scope.cancel(CANCEL)
                raise Interrupted
            else:
                return

    def _propose(self, type: StateType, name: str, **rest: Any) -> Any:
        answer = self.core.ask(Propose(cell=self.cell, type=type, name=name, **rest))
        verdict = answer.verdict
        if verdict.accepted:
            self._entered(type, name, answer)
        elif isinstance(verdict, Reject):
            self._entered(verdict.type, verdict.name, answer)
        return answer

    def _entered(self, type: StateType, name: str, answer: Any) -> None:
        at = answer.at
        if self.type is _S.RUNNING:
            self.spent += at - self.at
        if type is _S.RUNNING:
            self.started = at
            if not self.first_started:
                self.first_started = at
        self.type, self.state_name, self.at, self.seq = type, name, at, answer.seq
        self._state = None
        if self._record is not None:
            self._record.run_count = self.cell.attempt
            self._record.set_state(self.state)

    async def _try_again(self, port: Port, final: Final) -> Final | None:
        """Propose the failure of an attempt; give the run's end, or `None` where another attempt begins."""
        definition, attempt = self.definition, self.cell.attempt
        delay = retry_delay(
            definition.retry_delay_seconds,
            attempt,
            getattr(definition, "retry_jitter_factor", None),
            random.random(),  # noqa: S311 - spreads load, hides nothing
        )
        if not await self._is_retriable(port, final):
            return final._replace(retriable=False)
        answer = self._propose(
            final.type, final.name, message=final.message, retries=definition.retries, retry_delay=delay
        )
        verdict = answer.verdict
        if not isinstance(verdict, Reject) or verdict.type not in (_S.SCHEDULED, _S.RUNNING):
            return final
        self.logger().info("Attempt %s failed (%s); trying again.", attempt, final.message)
        self.renew()
        if verdict.type is _S.RUNNING:
            return None
        try:
            await port.wait(Once(), max(0.0, (verdict.scheduled_at or 0.0) - answer.at / 1e6), self.scope)
            await self._start(port, "Retrying")
        except BaseException as error:  # noqa: BLE001 - every way to leave becomes a state
            return self._before_body(only_theirs(error))
        return None

    def renew(self) -> None:
        """Make ready for another attempt."""
        if self.scope.reason == DEADLINE:
            self.scope = RunScope()
        self._context = None

    async def _is_retriable(self, port: Port, final: Final) -> bool:
        return True

    # --------------------------------------------------------------------------------- ways to leave

    def _before_body(self, error: BaseException) -> Final:
        if isinstance(error, NotReady):
            return Final(_S.PENDING, "NotReady", str(error))
        return self.final_of(error)

    async def _failed(self, port: Port, error: BaseException) -> Final:
        await self.settle_children(port, cancel=True)
        return self.final_of(error)

    def final_of(self, error: BaseException) -> Final:
        """Turn what was raised into a state, and say whether it must be raised on."""
        reason = self.scope.reason
        if reason == DEADLINE and not isinstance(error, (KeyboardInterrupt, SystemExit)):
            return self._timed_out()
        if isinstance(error, Interrupted):
            if reason is not None:
                return Final(_S.CANCELLED, "Cancelled", "The run was cancelled.", None, None, _if_outer(self, error))
            return Final(_S.CANCELLED, "Cancelled", "The run around this one has ended.", reraise=error)
        if isinstance(error, Exception):
            if not self.definition.isasync:
                error = _as_raised(error)
            return Final(_S.FAILED, "Failed", self.failure_message(error), error)
        if reason in (CANCEL, PARENT):
            return Final(_S.CANCELLED, "Cancelled", "The run was cancelled.", error, None, error)
        return Final(_S.CRASHED, "Crashed", crashed_state(error).message, error, None, error)

    def failure_message(self, error: BaseException) -> str:
        """Say what a body raised."""
        raise NotImplementedError

    def _timed_out(self) -> Final:
        seconds = self.definition.timeout_seconds
        error = TimeoutError(f"{self.noun} run timed out after {seconds} second(s)")
        return Final(_S.FAILED, "TimedOut", f"{self.noun} run exceeded timeout of {seconds} second(s)", error)

    # ---------------------------------------------------------------------------------------- the end

    async def end(self, port: Port, final: Final) -> Final:
        """Enter the final state, call hooks, and wait for the acknowledgement that is due."""
        position = 0
        if self.cell.ended:
            pass  # its last failure was final already, or the orchestrator ended it
        elif self.cell.overruled is not None:
            position, final = self.overruled(final)
        else:
            position, final = await self._propose_final(final, port)
        self.final = final
        if self._record is not None:
            self._record.set_state(self.state)
        self.log_end(final)
        await self._call_hooks(port)
        if position and final.reraise is None:
            recorded = self.seq > 0 and final.type is _S.COMPLETED and not self.is_flow
            if self.core.must_acknowledge(self.kind, is_root=self.cell.parent is None, recorded=recorded):
                if self.detached:
                    self.unsaved = position
                else:
                    await self.core.acknowledge(position, port)
        return final

    def overruled(self, final: Final) -> tuple[int, Final]:
        """Take over the state in which somebody else has ended this run, and leave."""
        order = self.cell.overruled
        assert order is not None
        self._entered(order.type, order.name, Answer(ACCEPT, self.cell.seq, order.at, 0))
        self.core.ask(Leave(self.cell))
        return 0, Final(order.type, order.name, order.message, order.data, None, final.reraise)

    async def _propose_final(self, final: Final, port: Port) -> tuple[int, Final]:
        made = final.made
        rest: dict[str, Any] = await self.proposal(final, port)
        if made is not None:
            rest["state_id"] = made.id
        answer = self._propose(final.type, final.name, message=final.message, retriable=False, **rest)
        verdict = answer.verdict
        if isinstance(verdict, Reject):
            final = Final(verdict.type, verdict.name, verdict.message, final.data, None, final.reraise)
        if final.type not in TERMINAL_STATES:
            self.core.ask(Leave(self.cell))
        self._state = None
        return answer.position, final

    async def _call_hooks(self, port: Port) -> None:
        hooks = self.hooks_for(self.type)
        if hooks:
            if self.final is not None and self.final.reraise is not None:
                # Where cancellation is delivered again at every await, an async hook could do nothing.
                hooks = [sheltered(hook, self.core.cancel_grace) for hook in hooks]
            await run_hooks(hooks, (self.definition, self.record, self.state), logger=self.logger(), call=port.call)

    def finish(self) -> None:
        """Let everybody know who waits."""
        self.release()
        if self.final is None:  # something of ours failed on the way: nobody may wait for ever
            self.final = Final(_S.CRASHED, "Crashed", "The engine could not end this run.")
        if not self.cell.ended:
            self.core.ask(Leave(self.cell))
        self.task = None
        self.cell.actor = None  # it would keep the two alive for the garbage collector
        ended = self.ended
        if ended is not None:
            ended.set()

    def log_end(self, final: Final) -> None:
        """Tell the run's log how it ended, where that is worth a line."""

    # ----------------------------------------------------------------------------------- what it knows

    def when_ended(self) -> Once:
        """Give the condition that is set when the run has ended. It is made with the run's future."""
        if self.ended is None:
            self.ended = Once()
            if self.final is not None:
                self.ended.set()
        return self.ended

    @property
    def state(self) -> State[Any]:
        """Give the current state, as users see it."""
        if self._state is None:
            self._state = self._make_state()
        return self._state

    def _make_state(self) -> State[Any]:
        final = self.final
        if final is not None and final.name == self.state_name:
            return self.state_of(final)
        return self.state_of(Final(self.type, self.state_name))

    def state_of(self, final: Final) -> State[Any]:
        """Give the state that users see of an outcome, or of a step on the way to one."""
        details = self.details()
        made = final.made
        if made is not None:
            made.state_details.flow_run_id = details.flow_run_id
            made.state_details.task_run_id = details.task_run_id
            return made
        if final.type is _S.SCHEDULED and self.cell.due is not None:
            details.scheduled_time = from_micros(self.cell.due)
        return State(
            type=final.type,
            name=final.name,
            timestamp=from_micros(self.at or self.core.clock.micros()),
            message=final.message,
            state_details=details,
            data=final.data,
            id=state_id(self.cell.id, self.seq),
        )

    @property
    def record(self) -> Any:
        """Give the object that users see, made when it is first asked for."""
        if self._record is None:
            record = self._record = self.make_record()
            record.run_count = self.cell.attempt
            if self.first_started:
                record.start_time = from_micros(self.first_started)
            record.total_run_time = timedelta(microseconds=self.spent)
            record.set_state(self.state)
        return self._record

    @property
    def context(self) -> Any:
        """Give the context that users see, made when it is first asked for."""
        if self._context is None:
            self._context = self.make_context()
        return self._context

    @property
    def start_time(self) -> datetime:
        """Give when the current attempt's body was started."""
        return from_micros(self.started or self.at)

    def rename(self, name: str) -> None:
        """Take a final name."""
        self.name = name
        if self._record is not None:
            self._record.name = name
        self.core.ask(Amend(cell=self.cell, name=name))

    def cancel_children(self, reason: str = PARENT) -> None:
        """Ask everything below to leave."""
        if self.cell.children:
            self.core.ask(CancelTree(self.cell, reason, whole=False))


def only_theirs(error: BaseException) -> BaseException:
    """Take the engine's own frames off the beginning of a traceback.

    Users see where their code failed. And the frames hold the run, which holds the error: with them every failed
    run would be a cycle for the garbage collector.
    """
    trace = error.__traceback__
    while trace is not None and trace.tb_frame.f_globals.get("__name__", "").startswith(_OURS):
        try:
            trace.tb_frame.clear()  # the user's frame leads back to it all the same
        except RuntimeError:
            pass  # it is still executing
        trace = trace.tb_next
    error.__traceback__ = trace
    return error


_OURS = ("callsheet._engine.", "callsheet._kernel.")


def _if_outer(run: Run, error: BaseException) -> BaseException | None:
    """Say whether an interruption concerns runs further out as well."""
    parent = run.cell.parent
    return error if parent is not None and parent.actor is not None and parent.actor.scope.reason is not None else None


def _as_raised(error: Exception) -> Exception:
    """Give a sync body's `StopIteration` back: on its way through our coroutines Python has replaced it."""
    cause = error.__cause__
    if type(cause) is StopIteration and error.args == ("coroutine raised StopIteration",):
        return cause
    return error
