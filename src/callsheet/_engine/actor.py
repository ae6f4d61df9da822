"""What a run is, as opposed to how it lives: its cell, its states, and the objects that users see of it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, ClassVar, cast

from callsheet._clock import from_micros
from callsheet._engine import decode
from callsheet._engine.leaving import Final
from callsheet._engine.recording import Remembered, details_of_result
from callsheet._engine.upstream import as_collection
from callsheet._ids import new_id, state_id
from callsheet._kernel.messages import Amend, Answer, CancelTree, Cell, Leave, Propose, Register
from callsheet._kernel.scopes import PARENT, RunScope
from callsheet._kernel.signals import Once
from callsheet._model.kinds import Kind, StateType
from callsheet._model.records import Definition, Guard, ResultBlob
from callsheet._model.states import State, StateDetails
from callsheet._results.wires import METADATA
from callsheet._rules.verdicts import ACCEPT, Reject
from callsheet.logging.loggers import engine_log
from callsheet.settings import get_current_settings

if TYPE_CHECKING:
    from callsheet._engine.core import Core
    from callsheet._kernel.host import Host
    from callsheet._kernel.ports import Port
    from callsheet._model.records import RunRecord, StateRecord
    from callsheet.logging.loggers import EngineAdapter

_S = StateType
# Names of their own: looking a member up in its enumeration costs as much as calling a function (3.11).
_PENDING, _RUNNING = StateType.PENDING, StateType.RUNNING


class Actor:
    """One run: what is known of it. `Run` adds the life."""

    identity: bytes | None  # of the call that made it, inside a flow run
    is_flow: ClassVar[bool]
    kind: ClassVar[Kind]
    log_name: ClassVar[str]
    noun: ClassVar[str]
    keyed: Any  # of a flow run: its run key
    _context: Any
    _record: Any
    _result_store: Any

    __slots__ = (
        "__weakref__", "_context", "_record", "_result_store", "_state", "_stores", "at", "cell", "core",
        "created", "definition", "detached", "digest", "ended", "final", "first_started", "home", "inputs", "kept", "known",
        "log_prints", "name", "parameters", "persists", "places", "scope", "seq", "spent", "started", "state_name",
        "tags", "task", "type", "undone", "unsaved", "upstream", "wait_for",
    )  # fmt: skip

    def __init__(
        self,
        core: Core,
        definition: Any,
        parameters: dict[str, Any],
        wait_for: Iterable[Any] | None,
        parent: Actor | None,
        home: Host | None,
        described: Definition,
        tags: frozenset[str],
    ) -> None:
        self.core, self.definition, self.parameters = core, definition, parameters
        self.wait_for = None if wait_for is None else as_collection(wait_for)
        self.home = home  # the loop on which async children run; None: the process's runtime thread
        self.tags, self.scope = tags, RunScope()
        self.cell = Cell(new_id(), described.kind, described, None if parent is None else parent.cell, self)
        self.name = ""
        self.detached = self.undone = False  # submitted, so nobody awaits its life; rolled back
        self.task: object = None  # the event loop's, which keeps itself alive only weakly
        self.upstream: dict[str, list[Any]] | None = None
        self.ended: Once | None = None
        self.final: Final | None = None
        self.places: Any = None  # of a bounded runner, while this run occupies one
        self.type: StateType = _PENDING
        self.state_name = "Pending"
        self.seq = self.at = self.created = self.started = self.first_started = self.spent = 0
        self.digest: bytes | None = None  # of the inputs, where the run journal keeps the outcome
        self.unsaved = 0  # the position in the journal that its future waits for
        persists, log_prints = definition.persist_result, definition.log_prints
        if parent is None:
            settings = get_current_settings()
            self.persists: bool = settings.results_persist_by_default if persists is None else persists
            self.log_prints: bool = settings.logging_log_prints if log_prints is None else log_prints
        else:
            self.persists = parent.persists if persists is None else persists
            self.log_prints = parent.log_prints if log_prints is None else log_prints
        self.kept: Any = None  # the record of its result
        self._stores: dict[int, tuple[Any, Any]] | None = None
        self._state: State[Any] | None = None
        self._record = self._context = self._result_store = None

    # --------------------------------------------------------------------- what kinds do differently

    @property
    def flow_actor(self) -> Any:
        """Give the innermost flow run: this one, or the one around it."""
        cell = self.cell.flow
        return None if cell is None else cell.actor

    def registration(self, *, start: bool, guards: tuple[Guard, ...]) -> Register:
        """Find out what is written down with the run's creation; `start` and `guards` as in `register`."""
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
        match name:
            case "parameters":
                return self.parameters
            case "start_time":
                return self.start_time
            case "log_prints":
                return self.log_prints
            case "persist_result":
                return self.persists
            case "result_store":
                return self.result_store
            case _:
                raise AttributeError(f"A {self.noun.lower()} run context has no {name!r}")

    def proposal(self, final: Final, port: Port) -> Remembered | Awaitable[Remembered]:
        """Give what goes with the final proposal, beyond the state, or what is to be awaited for it."""
        raise NotImplementedError

    async def keep(self, final: Final, port: Port) -> Remembered:
        """Keep the result where that is asked for, and give what the final proposal says of it."""
        if self.persists and final.reraise is None:
            from callsheet._engine.keeping import keep

            await keep(self, port, final)
        if self.kept is None:
            return Remembered()
        metadata = self.kept.metadata.dump_bytes()
        return Remembered(
            details=details_of_result(metadata), result=ResultBlob(METADATA, len(metadata), inline=metadata)
        )

    def is_promised(self, final: Final) -> bool:
        """Tell whether this end is to be on disk before the run's caller goes on (durability.md section 2)."""
        raise NotImplementedError

    def concluded(self, final: Final) -> None:
        """Take note of how the run has ended, whoever decided that."""

    def log_fields(self) -> dict[str, Any]:
        """Give what every record of this run's logger carries."""
        raise NotImplementedError

    def logger(self) -> EngineAdapter:
        """Give the logger for what the engine has to say of the run."""
        return engine_log(self.log_name, self.log_fields())

    def settle_children(self, port: Port, *, cancel: bool) -> Awaitable[None] | None:
        """End what the body left running. What a task leaves behind, the flow run around it waits for."""
        del port
        if cancel:
            self.cancel_children()

    def check_time(self) -> None:
        """Leave here if this run must: its body makes a call.

        Raises:
            Interrupted: It must.
        """
        self.scope.check()

    def begin_calls(self) -> None:
        """Note that a body begins here, whose calls are counted from the start."""

    def release(self) -> None:
        """Let go of what only a living run needs."""
        self.parameters = {}
        self.wait_for = self.upstream = self._context = self._result_store = self._stores = None

    # ------------------------------------------------------------------------------------ its states

    def register(self, *, start: bool, caller: Cell | None = None, guards: tuple[Guard, ...] = ()) -> int:
        """Come into being: from here on the run is in the call sheet and in history.

        With `start` it also enters Running where nothing is to be waited for first: one message less. A root run that
        is called inside another run (`caller`) may still start while the engine is draining.

        Returns:
            The position in the journal.
        """
        cell = self.cell
        self.core.admit(cell.parent or caller)
        registration = self.registration(start=start, guards=guards)
        try:
            ask = self.core.ask
            answer = ask(registration)
        except BaseException:  # the journal takes nothing any more
            self.core.ask(Leave(cell))
            raise
        self.seq = answer.seq
        self.at = self.created = answer.at
        if cell.type is _RUNNING:
            self.type, self.state_name = _RUNNING, "Running"
            self.started = self.first_started = answer.at
        return answer.position

    def propose(self, proposal: Propose) -> Answer:
        """Propose a state to the orchestrator, and take over what it decides."""
        ask = self.core.ask
        answer = ask(proposal)
        verdict = answer.verdict
        if verdict is ACCEPT or verdict.accepted:
            self.entered(proposal.type, proposal.name, answer)
        elif isinstance(verdict, Reject):
            self.entered(verdict.type, verdict.name, answer)
        return answer

    def entered(self, type: StateType, name: str, answer: Answer) -> None:
        """Take over a state that the orchestrator has entered."""
        at = answer.at
        if self.type is _RUNNING:
            self.spent += at - self.at
        if type is _RUNNING:
            self.started = at
            if not self.first_started:
                self.first_started = at
        self.type, self.state_name, self.at, self.seq = type, name, at, answer.seq
        self._state = None
        if self._record is not None:
            self._record.run_count = self.cell.attempt
            self._record.set_state(self.state)

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
            if self.kept is not None:
                made.data = self.kept
            return made
        if final.type is _S.SCHEDULED and self.cell.due is not None:
            details.scheduled_time = from_micros(self.cell.due)
        return State(
            type=final.type,
            name=final.name,
            timestamp=from_micros(self.at or self.core.clock.micros()),
            message=final.message,
            state_details=details,
            data=final.data if self.kept is None else self.kept,
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
    def result_store(self) -> Any:
        """Give where this run keeps its result, made when it is first asked for."""
        if self._result_store is None:
            from callsheet._engine.keeping import store_of

            self._result_store = store_of(self)
        return self._result_store

    @property
    def stores(self) -> dict[int, tuple[Any, Any]]:
        """Give the stores of the tasks that this run has called, by the task's address."""
        if self._stores is None:
            self._stores = {}
        return self._stores

    async def open_between_steps(self, port: Port) -> None:
        """Open the transaction of an attempt of a generator, which is active in its steps and not between them."""

    async def close_between_steps(self, port: Port, value: Any, error: BaseException | None) -> None:
        """Commit or roll back that transaction."""

    def own_transaction(self) -> Any:
        """Give the transaction that this run's body is in, or `None`: flows have none of their own."""
        return None

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

    def end_as(self, record: RunRecord, value: Any, kept: Any) -> None:
        """Be a run that ended in an earlier life of the flow run around it, instead of being registered.

        Args:
            record: Of that run.
            value: Its outcome.
            kept: The record that has it, where it was kept.
        """
        state, cell = cast("StateRecord", record.state), self.cell
        cell.id, cell.attempt, cell.actor = record.id, record.attempt, None
        cell.type, cell.name, cell.seq, cell.ended = state.type, state.name, state.seq, True
        self.name, self.tags, self.inputs, self.kept = record.name, frozenset(record.tags), record.inputs, kept
        self.type, self.state_name, self.seq, self.at = state.type, state.name, state.seq, state.at
        self.created = record.created
        self.started = self.first_started = record.started or record.created
        self.spent = max(0, state.at - self.started)
        self.final = Final(state.type, state.name, state.message, value)
        self._state = decode.state(state, self.details())
        self._state.data = value if kept is None else kept
        self.release()

    def cancel_children(self, reason: str = PARENT) -> None:
        """Ask everything below to leave."""
        if self.cell.children:
            self.core.ask(CancelTree(self.cell, reason, whole=False))
