"""What run actors say to the orchestrator: one closed union, handled by one `match`.

A cell is the orchestrator's own record of a live run; actors hold it as an opaque address.
"""

from __future__ import annotations

from typing import Any, Final, Literal
from uuid import UUID

import msgspec

from callsheet._kernel.pauses import Pause
from callsheet._model.kinds import Kind, StateType
from callsheet._model.records import Definition, Guard, InputDropped, InputStored, ResultBlob
from callsheet._rules.verdicts import ACCEPT, Verdict

_FLOW: Final = Kind.FLOW


class Cell:
    """A live run as the orchestrator sees it. Only the orchestrator writes to it."""

    __slots__ = (
        "actor",
        "attempt",
        "childless",
        "children",
        "definition",
        "delivered",
        "due",
        "ended",
        "flow",
        "id",
        "kind",
        "name",
        "overruled",
        "parent",
        "passed",
        "pause",
        "root_id",
        "seq",
        "suspension",
        "type",
    )  # fmt: skip

    def __init__(self, id: UUID, kind: Kind, definition: Definition, parent: Cell | None, actor: Any) -> None:
        self.id = id
        self.kind = kind
        self.definition = definition
        self.parent = parent
        self.root_id: UUID = id if parent is None else parent.root_id
        self.flow: Cell | None = parent if parent is None or parent.kind is _FLOW else parent.flow
        self.actor = actor  # has `.scope`, the RunScope to cancel
        self.type: StateType | None = None
        self.name: str | None = None
        self.seq = 0
        self.attempt = 0
        self.due: int | None = None  # microseconds; of the scheduled state that it is in
        self.children: dict[Cell, None] | None = None
        self.childless: Any = None
        self.delivered: Literal["suspend", "cancel"] | None = None
        self.overruled: SetState | None = None  # by which somebody else ended it; its actor has yet to leave
        self.pause: Pause | None = None  # of a flow run, from its Paused state to the next one
        self.passed: tuple[str, ...] | None = None  # the keys of pauses that it was resumed from
        self.suspension: Suspend | None = None  # by which it was told to leave
        self.ended = False

    def flow_actor(self) -> Any:
        """Give the actor of the innermost flow run: this one, or the one around it."""
        flow = self if self.kind is _FLOW else self.flow
        return None if flow is None else flow.actor


class Register(msgspec.Struct, frozen=True, tag_field="message_type", kw_only=True):
    """A run comes into being, Pending."""

    cell: Any
    name: str
    tags: tuple[str, ...] = ()
    inputs: tuple[tuple[str, tuple[UUID, ...]], ...] = ()
    parameters: bytes | None = None
    extra: bytes | None = None
    parent_task_run_id: UUID | None = None
    start: bool = False  # it wants to enter Running at once: nothing is to be waited for
    guards: tuple[Guard, ...] = ()  # on which its existence depends; it stays Pending until their commit is known


class TakeUp(msgspec.Struct, frozen=True, tag_field="message_type", kw_only=True):
    """A run whose earlier life was cut off is alive again: it is in the history, and its states go on from there.

    With `why` it enters Pending, unless it is a root run that was put into it by the engine's claim.
    """

    cell: Any
    why: str | None = None


class Propose(msgspec.Struct, frozen=True, tag_field="message_type", kw_only=True):
    """A run wants to enter a state. With `identity` the run journal remembers what it has come to."""

    cell: Any
    type: StateType
    name: str
    message: str | None = None
    details: bytes | None = None
    state_id: UUID | None = None
    at: int | None = None  # microseconds; now where left out
    retries: int = 0
    retriable: bool = True
    retry_delay: float = 0.0
    identity: bytes | None = None
    tried: bytes | None = None  # of a failed attempt: the identity, for a run that takes its place after a crash
    inputs_digest: bytes | None = None
    result: ResultBlob | None = None
    recorded: bool = True
    pause: Any = None  # the `Pause` that a flow run wants to begin
    handed: tuple[InputStored | InputDropped, ...] = ()  # what is stored for the run along with the state


class Amend(msgspec.Struct, frozen=True, tag_field="message_type", kw_only=True):
    """A run's final name, inputs or parameters are known."""

    cell: Any
    name: str | None = None
    inputs: tuple[tuple[str, tuple[UUID, ...]], ...] = ()
    parameters: bytes | None = None


class Leave(msgspec.Struct, frozen=True, tag_field="message_type"):
    """A run's actor ends while its state is not terminal (not ready, paused, scheduled by its own body)."""

    cell: Any


class CancelTree(msgspec.Struct, frozen=True, tag_field="message_type"):
    """Everything below a run, and the run itself where `whole`, is to leave."""

    cell: Any
    reason: str
    whole: bool = True


CLOSED: Final = "The engine was closed before the run ended."


class Orphan(msgspec.Struct, frozen=True, tag_field="message_type"):
    """Nobody will ever end this run: its generator was dropped, or the engine closes."""

    cell: Any
    why: str = "The run was abandoned before it ended."


class Resumed(msgspec.Struct, frozen=True, tag_field="message_type", kw_only=True):
    """It is on record that a paused flow run was resumed, by whoever and wherever."""

    pause: Any
    seq: int  # of the state
    at: int
    answer: str | None = None  # JSON


class GiveUp(msgspec.Struct, frozen=True, tag_field="message_type"):
    """A flow run's pause has timed out."""

    cell: Any


class Suspend(msgspec.Struct, frozen=True, tag_field="message_type", kw_only=True):
    """A root flow run is to leave its process: its body at its next call, what has not begun at once."""

    run_id: UUID
    key: str
    details: bytes  # of the Paused states
    handed: tuple[InputStored | InputDropped, ...] = ()  # what is stored for the run along with the first of them
    due: int | None = None  # when it is to be looked at, in microseconds since the epoch


class SetState(msgspec.Struct, frozen=True, tag_field="message_type", kw_only=True):
    """Somebody who is not a run's owner wants it to enter a state. With `force` the rules are not asked."""

    run_id: UUID
    kind: Kind
    type: StateType
    name: str
    message: str | None = None
    details: bytes | None = None
    data: Any = None  # the outcome, for those who wait for the run in this process
    at: int = 0  # filled in by the orchestrator
    force: bool = False


class Hold(msgspec.Struct, frozen=True, tag_field="message_type", kw_only=True):
    """Somebody wants a running flow run to pause: its tasks wait, and it goes on when it is resumed."""

    run_id: UUID
    key: str  # of the pause
    message: str | None = None
    details: bytes | None = None


Message = (
    Register | TakeUp | Propose | Amend | Leave | CancelTree | Orphan | SetState | Suspend | Resumed | GiveUp | Hold
)


class Answer(msgspec.Struct, frozen=True, gc=False):
    """The verdict, and what was written because of it."""

    verdict: Verdict
    seq: int
    at: int  # microseconds since the epoch
    position: int  # in the journal's commit order


NOT_ALIVE = Answer(ACCEPT, 0, 0, 0)
"""The answer (this very object) where no live run of this process has the id."""
