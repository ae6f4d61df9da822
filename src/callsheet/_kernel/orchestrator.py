"""The orchestrator: the one owner of current states, which judges every transition by the one pure table.

It runs no user code and waits for nothing. What it accepts goes into the journal in the order of acceptance,
under the mailbox's lock, so that what is on disk is always a prefix of what was accepted.
"""

from __future__ import annotations

import sys
from typing import Protocol, assert_never
from uuid import UUID

import msgspec

from callsheet._clock import Clock, from_micros
from callsheet._kernel import foreign
from callsheet._kernel.mailbox import Mailbox
from callsheet._kernel.messages import (
    NOT_ALIVE,
    Amend,
    Answer,
    CancelTree,
    Cell,
    GiveUp,
    Hold,
    Leave,
    Message,
    Orphan,
    Propose,
    Register,
    Resumed,
    SetState,
    Suspend,
    TakeUp,
)
from callsheet._kernel.pauses import Pause, Pauses
from callsheet._kernel.scopes import CANCEL, Interrupted
from callsheet._kernel.signals import Once
from callsheet._kernel.tree import Tree
from callsheet._model.engines import RunDue
from callsheet._model.kinds import SUSPENDED, SUSPENDING, TERMINAL_STATES, Kind, StateType
from callsheet._model.records import (
    Entry,
    InputsResolved,
    OutcomeRecorded,
    RunCreated,
    RunRenamed,
    StateEntered,
)
from callsheet._rules.facts import Facts
from callsheet._rules.table import AGAIN, CALM, judge
from callsheet._rules.verdicts import ACCEPT, Reject, Verdict

_PENDING, _RUNNING = StateType.PENDING, StateType.RUNNING
_encode = msgspec.msgpack.Encoder().encode


class EntryQueue(Protocol):
    """Where accepted facts go (the journal)."""

    @property
    def keeps(self) -> bool: ...

    def put(self, *entries: Entry) -> int: ...


class Orchestrator:
    """Holds the call sheet: every live run, its state and its place in the tree."""

    def __init__(self, journal: EntryQueue, clock: Clock, engine_id: UUID | None = None) -> None:
        self._engine_id = engine_id  # which root runs belong to
        self._journal = journal
        self._keeps = journal.keeps
        self._alive = True
        self._clock = clock
        # By the time of day, which moves on while a machine sleeps. A clock that jumps asks for a sign of life too many.
        self.granted_until = sys.maxsize
        self.mailbox: Mailbox[Message, Answer] = Mailbox(self._handle)
        self._tree = tree = Tree()
        self.roots = tree.roots
        self.alive, self.when_idle = tree.alive, tree.when_idle  # asked by anybody
        self.pauses = Pauses()

    # ------------------------------------------------------------------ asked by actors, any thread

    def forget(self) -> None:
        """Keep nothing more and wait for nobody: the runs live in the process from which this one was forked."""
        self._keeps = self._alive = False
        self.mailbox.forget()

    def grant(self, seconds: float) -> None:
        """Let runs start for so long from now. Virtual time may jump that far at once: there nobody waits for a sign."""
        self.granted_until = sys.maxsize if self._clock.is_virtual else self._clock.micros() + int(seconds * 1e6)

    def keep_nothing(self) -> None:
        """Put nothing more on record: what is alive here belongs to another engine by now."""
        self._keeps = False

    def when_childless(self, cell: Cell) -> Once | None:
        """Give a condition that is set when the last child of a run has left; `None` where there is none."""
        self.mailbox.sweep()
        if not (cell.children and self._alive):
            return None
        once = cell.childless = Once()
        if not cell.children:  # the last one left in between
            once.set()
        return once

    # ----------------------------------------------------------------- handling, under the one lock

    def _handle(self, message: Message) -> Answer:
        match message:
            case Propose():
                return self._propose(message)
            case Register():
                return self._register(message)
            case TakeUp():
                return self._take_up(message)
            case Amend():
                return self._amend(message)
            case Leave():
                self._tree.leave(message.cell)
                return _DONE
            case CancelTree():
                self._cancel(message.cell, message.reason, whole=message.whole)
                return _DONE
            case Orphan():
                return self._crash(message.cell, message.why)
            case SetState() | Hold() | Suspend():
                return self._order(message)
            case Resumed():
                return self._resumed(message)
            case GiveUp():
                self.pauses.give_up(message.cell)
                return _DONE
            case _:
                assert_never(message)

    def _register(self, message: Register) -> Answer:
        cell: Cell = message.cell
        parent, flow = cell.parent, cell.flow
        at = self._clock.micros()
        if parent is not None and parent.overruled is not None:  # its end is on record
            raise Interrupted
        if parent is None:
            self.roots[cell] = None  # first: the journal's thread asks whether anything is alive
        elif parent.delivered is not None:  # its body had begun the call when the order came
            foreign.suspend(cell) if parent.delivered == "suspend" else self._cancel(cell, CANCEL, whole=True)
        cell.type, cell.name, cell.seq = _PENDING, "Pending", 1
        if message.start and at <= self.granted_until and self._judge(cell, _RUNNING, "Running", at, None) is ACCEPT:
            cell.type, cell.name, cell.seq = _RUNNING, "Running", 2
            cell.attempt += 1
        position = 0
        if self._keeps:
            created = RunCreated(  # more than fifteen arguments by name would be collected in a dict first
                cell.id,
                cell.kind,
                cell.definition,
                message.name,
                at,
                parent_id=None if parent is None else parent.id,
                flow_run_id=None if flow is None else flow.id,
                parent_task_run_id=message.parent_task_run_id,
                root_id=cell.root_id,
                tags=message.tags,
                inputs=message.inputs,
                parameters=message.parameters,
                extra=message.extra,
                guards=message.guards,
                entered=cell.seq,
                owner=self._engine_id if parent is None else None,
            )
            position = self._journal.put(created)
        if parent is not None:
            self._tree.attach(cell, parent)
        return Answer(ACCEPT, cell.seq, at, position)

    def _take_up(self, message: TakeUp) -> Answer:
        cell: Cell = message.cell
        self._tree.attach(cell, cell.parent)
        at = self._clock.micros()
        if message.why is None or (cell.type is _PENDING and cell.parent is None):  # the claim has put it there
            return Answer(ACCEPT, cell.seq, at, 0)
        return self._enter(cell, ACCEPT, _PENDING, "Pending", at, message.why, None)

    def _judge(self, cell: Cell, type: StateType, name: str, at: int, message: Propose | None) -> Verdict:
        waiting = self.pauses.waiting
        pause = None if message is None else message.pause
        parent = cell.parent
        if not (waiting or pause or cell.delivered) and cell.due is None:
            move = cell.kind, cell.type, type
            if move in CALM:
                return ACCEPT
            if message is not None and message.retriable and message.retries >= cell.attempt and move in AGAIN:
                suspended = parent is not None and parent.delivered
                if not suspended and not message.retry_delay:
                    return AGAIN[move]
        return judge(
            cell.kind,
            cell.type,
            type,
            Facts(
                now=at / 1e6,
                due_at=None if cell.due is None else cell.due / 1e6,
                attempts=cell.attempt,
                retries=0 if message is None else message.retries,
                retriable=message is None or message.retriable,
                retry_delay=0.0 if message is None else message.retry_delay,
                delivered=cell.delivered,
                flow_suspended=cell.kind is Kind.TASK and parent is not None and parent.delivered == "suspend",
                flow_paused=bool(waiting) and cell.kind is Kind.TASK and self.pauses.holds_back(cell),
                pause_pending=pause is not None and cell.id in waiting,
                pause_ordered=cell.pause is not None and cell.pause.ordered,
                pause_passed=pause is not None and not pause.again and pause.key in (cell.passed or ()),
            ),
            current_name=cell.name,
            proposed_name=name,
        )

    def _propose(self, message: Propose) -> Answer:
        cell: Cell = message.cell
        at = self._clock.micros()
        verdict = self._judge(cell, message.type, message.name, at, message)
        if verdict is not ACCEPT:
            if isinstance(verdict, Reject):
                return self._instead(cell, verdict, at, message.tried)
            if not verdict.accepted:
                return Answer(verdict, cell.seq, at, 0)
        outcome = None
        if message.identity is not None:
            outcome = OutcomeRecorded(
                flow_run_id=(cell.flow or cell).id,
                identity=message.identity,
                run_id=cell.id,
                status=message.type,
                recorded=message.recorded,
                inputs_digest=message.inputs_digest,
                result=message.result,
            )
        if message.handed and self._keeps:
            self._journal.put(*message.handed)
        answer = self._enter(
            cell, verdict, message.type, message.name, message.at or at, message.message, message.details,
            message.state_id, outcome,
        )  # fmt: skip
        if message.pause is not None:
            self.pauses.begin(cell, message.pause)
        return answer

    def _instead(self, cell: Cell, verdict: Reject, at: int, tried: bytes | None) -> Answer:
        details: dict[str, object] = {}
        if tried is not None:
            details |= {"identity": tried, "failed": cell.attempt}
        if verdict.scheduled_at is not None:
            cell.due = round(verdict.scheduled_at * 1e6)
            details["scheduled_time"] = from_micros(cell.due)
        said = _encode(details) if details else None
        if cell.suspension is not None and verdict.name == SUSPENDED:
            said = cell.suspension.details
        answer = self._enter(cell, verdict, verdict.type, verdict.name, at, verdict.message, said)
        if verdict.scheduled_at is not None and cell.parent is not None and cell.parent.delivered == "suspend":
            foreign.suspend(cell)  # it would wait for an attempt that may not begin
        return answer

    def _enter(
        self,
        cell: Cell,
        verdict: Verdict,
        type: StateType,
        name: str,
        at: int,
        message: str | None,
        details: bytes | None,
        state_id: UUID | None = None,
        outcome: OutcomeRecorded | None = None,
        *,
        leaves: bool = True,
    ) -> Answer:
        if cell.pause is not None:
            self.pauses.end(cell)
            cell.seq += 1  # that number belongs to a resumption, which another process may just be committing
        cell.seq = seq = cell.seq + 1
        cell.type, cell.name = type, name
        if type is _RUNNING:
            cell.attempt += 1
            cell.due = None
        position = 0
        if self._keeps:
            entered = StateEntered(
                run_id=cell.id,
                seq=seq,
                type=type,
                name=name,
                at=at,
                state_id=state_id,
                message=message,
                details=details,
                attempt=cell.attempt,
            )
            position = self._journal.put(entered) if outcome is None else self._journal.put(entered, outcome)
        if leaves and type in TERMINAL_STATES:
            self._tree.leave(cell)
        return Answer(verdict, seq, at, position)

    def _resumed(self, message: Resumed) -> Answer:
        cell: Cell | None = message.pause.cell
        if cell is not None and self.pauses.resumed(cell, message.seq, message.at, message.answer):
            cell.type, cell.name, cell.seq = _RUNNING, "Running", message.seq  # not another attempt
        return _DONE

    def _amend(self, message: Amend) -> Answer:
        if not self._keeps:
            return _DONE
        if message.name is not None:
            self._journal.put(RunRenamed(message.cell.id, message.name))
        if message.inputs or message.parameters is not None:
            self._journal.put(InputsResolved(message.cell.id, message.inputs, message.parameters))
        return _DONE

    def _cancel(self, cell: Cell, reason: str, *, whole: bool) -> None:
        """Children first: a parent that leaves must find them leaving already."""
        for child in list(cell.children or ()):
            self._cancel(child, reason, whole=True)
        if whole and not cell.ended:
            cell.delivered = cell.delivered or "cancel"
            if cell.actor.cell is cell:  # a subflow's tracker leaves with the subflow, whose children come first
                cell.actor.scope.cancel(reason)

    def _crash(self, cell: Cell, why: str) -> Answer:
        at = self._clock.micros()
        return _DONE if cell.ended else self._enter(cell, ACCEPT, StateType.CRASHED, "Crashed", at, why, None)

    # ----------------------------------------------------------------------- asked by somebody else

    def _suspend(self, order: Suspend) -> Answer:
        """Tell a flow run to leave. It is Suspended when all of it has left; until then it is Suspending."""
        cell = foreign.find(self.roots, order.run_id, Kind.FLOW)
        if cell is None:
            return NOT_ALIVE
        at = self._clock.micros()
        verdict = foreign.judged_suspension(cell, order, at)
        if verdict is not ACCEPT or cell.suspension is not None:
            return Answer(verdict, cell.seq, at, 0)
        cell.suspension = order
        foreign.suspend(cell)
        if self._keeps:  # what was due before is not any more
            self._journal.put(*order.handed, RunDue(cell.id, order.due))
        return self._enter(cell, ACCEPT, StateType.PAUSED, SUSPENDING, at, None, order.details, leaves=False)

    def _order(self, message: SetState | Hold | Suspend) -> Answer:
        match message:
            case SetState():
                return self._set_state(message)
            case Hold():
                return self._hold(message)
            case Suspend():
                return self._suspend(message)

    def _set_state(self, order: SetState) -> Answer:
        """Judge what somebody outside wants of a live run. Its owner learns of it by being told to leave."""
        cell = foreign.find(self.roots, order.run_id, order.kind)
        if cell is None:
            return NOT_ALIVE
        cell = cell.actor.cell  # of the task run that tracks a subflow: the subflow's run, which takes it along
        at = self._clock.micros()
        verdict = ACCEPT if order.force and cell.type not in TERMINAL_STATES else foreign.judged(cell, order, at)
        if isinstance(verdict, Reject):
            order = msgspec.structs.replace(order, type=verdict.type, name=verdict.name, message=verdict.message)
        elif not verdict.accepted:
            return Answer(verdict, cell.seq, at, 0)
        if order.type is not StateType.CANCELLING and order.type not in TERMINAL_STATES:
            return Answer(foreign.ONLY_ITSELF, cell.seq, at, 0)
        if order.type in TERMINAL_STATES:  # first: its actor may wake in another thread at once
            cell.overruled = msgspec.structs.replace(order, at=at)
            for one, end in foreign.ends_below(cell, at):  # a tracker has no actor of its own that would leave
                one.overruled = end
                self._enter(one, ACCEPT, end.type, end.name, at, end.message, None, leaves=one.actor.cell is not one)
        self._cancel(cell, CANCEL, whole=True)
        # It stays in the tree until its body has left, so that nobody takes it for gone who waits for that.
        return self._enter(cell, verdict, order.type, order.name, at, order.message, order.details, leaves=False)

    def _hold(self, order: Hold) -> Answer:
        """Close the gate of a flow run that runs."""
        cell = foreign.find(self.roots, order.run_id, Kind.FLOW)
        if cell is None:
            return NOT_ALIVE
        at = self._clock.micros()
        verdict = foreign.held(cell, at)
        if verdict is not ACCEPT:
            return Answer(verdict, cell.seq, at, 0)
        answer = self._enter(cell, verdict, StateType.PAUSED, "Paused", at, order.message, order.details)
        self.pauses.begin(cell, Pause(order.key, None, ordered=True))
        return answer


_DONE = Answer(ACCEPT, 0, 0, 0)
