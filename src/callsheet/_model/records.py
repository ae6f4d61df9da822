"""What goes into a store (entries, guards) and what comes back out of it (outcomes, records, pages).

Entries are facts in the order in which the orchestrator accepted them. A store applies a batch of them
in one transaction; applying the same batch twice changes nothing. Times are microseconds since the epoch.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from uuid import UUID

import msgspec

from callsheet._model.engines import RunDue
from callsheet._model.kinds import SUSPENDED, TERMINAL_STATES, Kind, StateType

_RUNNING, _COMPLETED = StateType.RUNNING, StateType.COMPLETED

# ------------------------------------------------------------------------------------------ guards


class SeqIs(msgspec.Struct, frozen=True, tag_field="guard"):
    """Holds while the run's newest state has this sequence number (nobody else moved it)."""

    run_id: UUID
    seq: int


class FenceIs(msgspec.Struct, frozen=True, tag_field="guard"):
    """Holds while the run's fencing token is this one (its ownership was not taken over)."""

    run_id: UUID
    fence: int


class KeyFree(msgspec.Struct, frozen=True, tag_field="guard"):
    """Holds while no other run has this key; applying the entry claims it for `run_id`.

    A run has its key until it is gone from the history or, where its key expires, until it has ended and that moment
    is past. `instead` names a run that is to lose the key.
    """

    definition: str
    key: str
    run_id: UUID
    expires: int | None = None  # when the claim that is made here expires
    at: int = 0  # now
    instead: UUID | None = None


class InputFree(msgspec.Struct, frozen=True, tag_field="guard"):
    """Holds while nothing is stored for the run under this key, or what is stored there is this very input."""

    run_id: UUID
    key: str
    id: UUID


Guard = SeqIs | FenceIs | KeyFree | InputFree

# ----------------------------------------------------------------------------------------- entries


class Definition(msgspec.Struct, frozen=True):
    """The flow or task that a run is a run of. `key` is importable, `code` a digest of the source."""

    kind: Kind
    key: str
    name: str
    code: str = ""


class RunCreated(msgspec.Struct, frozen=True, array_like=True, gc=False, tag_field="entry"):
    """A run exists from now on. `inputs` maps a parameter's name to the runs whose results went into it.

    `entered` says how many of the usual first states it entered as it came into being: Pending, then Running.
    """

    id: UUID
    kind: Kind
    definition: Definition
    name: str
    created: int
    parent_id: UUID | None = None  # the run whose body made this one: flow run or task run
    flow_run_id: UUID | None = None  # the innermost flow run around it
    parent_task_run_id: UUID | None = None  # of a subflow: its tracking task run
    root_id: UUID | None = None
    due_at: int | None = None
    tags: tuple[str, ...] = ()
    inputs: tuple[tuple[str, tuple[UUID, ...]], ...] = ()
    parameters: bytes | None = None  # JSON object, as `Flow.serialize_parameters` gives it
    extra: bytes | None = None  # msgpack map of what is never filtered: dynamic key, policy, versions …
    guards: tuple[Guard, ...] = ()
    entered: int = 0
    owner: UUID | None = None  # of a root run: the engine that it lives in


class StateEntered(msgspec.Struct, frozen=True, kw_only=True, array_like=True, gc=False, tag_field="entry"):
    """A run entered a state. The current state of a run is the one with the highest `seq`."""

    run_id: UUID
    seq: int
    type: StateType
    name: str
    at: int
    state_id: UUID | None = None  # None: `_ids.state_id(run_id, seq)`, which readers fill in
    message: str | None = None
    details: bytes | None = None  # msgpack map of the state details that are set
    attempt: int = 0  # how often the body was started so far
    guards: tuple[Guard, ...] = ()


def usual_states(created: RunCreated) -> tuple[StateEntered, ...]:
    """Spell out the states that a run entered as it came into being."""
    return tuple(
        StateEntered(
            run_id=created.id, seq=seq, type=type, name=type.value.capitalize(), at=created.created, attempt=seq - 1
        )
        for seq, type in enumerate((StateType.PENDING, StateType.RUNNING)[: created.entered], 1)
    )


def gives_up_owner(type: StateType, name: str | None) -> bool:
    """Tell whether a root run in this state belongs to no engine: it has ended, or waits to be taken up by any."""
    return type in TERMINAL_STATES or (type is StateType.PAUSED and name == SUSPENDED)


def is_usual(state: StateEntered) -> bool:
    """Tell whether a state is one of those that most runs go through and of which nothing but the time is to be kept.

    These are the first start of a body and its completion. Stores keep them with the run.
    """
    if state.seq == 3:
        usual = state.type is _COMPLETED and state.name == "Completed"
    else:
        usual = state.seq == 2 and state.type is _RUNNING and state.name == "Running" and state.attempt == 1
    return usual and state.message is None and state.details is None and state.state_id is None


class RunRenamed(msgspec.Struct, frozen=True, array_like=True, gc=False, tag_field="entry"):
    """A run got its final name (templates are formatted when its parameters are resolved)."""

    run_id: UUID
    name: str


class InputsResolved(msgspec.Struct, frozen=True, array_like=True, gc=False, tag_field="entry"):
    """Inputs or parameters that were known only when the run began; united with those of its creation."""

    run_id: UUID
    inputs: tuple[tuple[str, tuple[UUID, ...]], ...] = ()
    parameters: bytes | None = None


class ResultBlob(msgspec.Struct, frozen=True, gc=False):
    """A serialized result, inline (at most 64 KiB) or as the address of an immutable file.

    `codec` says what is there: the whole record, or only its metadata, which say in which storage it is.
    """

    codec: str
    size: int
    inline: bytes | None = None
    uri: str | None = None
    digest: bytes | None = None


class OutcomeRecorded(msgspec.Struct, frozen=True, kw_only=True, array_like=True, gc=False, tag_field="entry"):
    """The run journal's memory: inside this flow run the task of this identity ended so.

    `status` is the final state's type, `recorded` is false where result or exception refused to be serialized.
    """

    flow_run_id: UUID
    identity: bytes  # 16 bytes
    run_id: UUID
    status: StateType
    recorded: bool = True
    inputs_digest: bytes | None = None
    result: ResultBlob | None = None


class LogWritten(msgspec.Struct, frozen=True, kw_only=True, array_like=True, gc=False, tag_field="entry"):
    """A run wrote a log record. `n` tells apart what one process logged in one microsecond; leave it to its default."""

    flow_run_id: UUID | None
    task_run_id: UUID | None
    at: int
    level: int
    logger: str
    message: str
    n: int = msgspec.field(default_factory=itertools.count().__next__)


class InputStored(msgspec.Struct, frozen=True, kw_only=True, array_like=True, gc=False, tag_field="entry"):
    """Somebody handed a flow run a value (JSON), under a key; what the key held before is replaced."""

    run_id: UUID
    key: str
    id: UUID
    at: int
    value: str
    sender: str | None = None
    guards: tuple[Guard, ...] = ()


class InputDropped(msgspec.Struct, frozen=True, array_like=True, gc=False, tag_field="entry"):
    """What a flow run was handed under a key is gone."""

    run_id: UUID
    key: str


class LetterSent(msgspec.Struct, frozen=True, kw_only=True, array_like=True, tag_field="entry"):
    """Somebody wants something of the engine that owns a run. By the token the sender finds the answer."""

    token: UUID
    to_engine: UUID
    to_run: UUID
    name: str
    body: bytes
    at: int
    guards: tuple[Guard, ...] = ()


class LetterAnswered(msgspec.Struct, frozen=True, array_like=True, tag_field="entry"):
    """The engine has done what a letter wanted, and says so; nobody waits for an answer of `None`."""

    token: UUID
    at: int
    answer: bytes | None = None


class LetterDropped(msgspec.Struct, frozen=True, array_like=True, tag_field="entry"):
    """The sender has read the answer, or waits no longer for one."""

    token: UUID


Entry = (
    RunCreated | StateEntered | RunRenamed | InputsResolved | OutcomeRecorded | LogWritten | InputStored | InputDropped
    | LetterSent | LetterAnswered | LetterDropped | RunDue
)  # fmt: skip


class Refusal(msgspec.Struct, frozen=True):
    """Why one entry was not applied; the rest of its batch was."""

    index: int  # position in the batch
    guard: Guard
    current: object = None  # the value that the guard found instead


# ----------------------------------------------------------------------------------------- records


class StateRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A stored state."""

    run_id: UUID
    seq: int
    id: UUID
    type: StateType
    name: str
    at: int
    message: str | None = None
    details: bytes | None = None


class RunRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A stored run with its newest state. Tags and inputs are filled for the whole page at once."""

    id: UUID
    kind: Kind
    definition: Definition
    name: str
    created: int
    parent_id: UUID | None
    flow_run_id: UUID | None
    parent_task_run_id: UUID | None
    root_id: UUID | None
    due_at: int | None
    started: int | None
    ended: int | None
    attempt: int
    state: StateRecord | None
    fence: int = 0
    owner: UUID | None = None  # the engine of a root run that has neither ended nor been suspended
    recoveries: int = 0  # how often another engine went on with it after its own had died
    tags: tuple[str, ...] = ()  # in alphabetical order
    inputs: tuple[tuple[str, tuple[UUID, ...]], ...] = ()  # by parameter, then by run
    parameters: bytes | None = None
    extra: bytes | None = None


class LogRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A stored log record of a run."""

    flow_run_id: UUID | None
    task_run_id: UUID | None
    at: int
    level: int
    logger: str
    message: str
    n: int = 0


class OutcomeRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A stored entry of the run journal."""

    flow_run_id: UUID
    identity: bytes
    run_id: UUID
    status: StateType
    recorded: bool
    inputs_digest: bytes | None
    result: ResultBlob | None


def newest_of_each(outcomes: Iterable[OutcomeRecord]) -> tuple[OutcomeRecord, ...]:
    """Give the newest outcome of each identity. They are in the order of their runs, before and after."""
    newest: dict[bytes, OutcomeRecord] = {}
    for outcome in outcomes:
        newest.pop(outcome.identity, None)
        newest[outcome.identity] = outcome
    return tuple(newest.values())


class InputRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A stored value that a flow run was handed."""

    run_id: UUID
    key: str
    id: UUID
    at: int
    value: str
    sender: str | None = None


class RunFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Which runs to read. A field left at `None` does not filter; tuples match any of their members.

    Times are inclusive on both sides. A run has ended while its newest state is a terminal one. A run was
    expected to start at its `due_at` or, without one, when it was created.
    """

    kind: Kind | None = None
    ids: tuple[UUID, ...] | None = None
    names: tuple[str, ...] | None = None
    name_like: str | None = None  # substring, case ignored
    definition_names: tuple[str, ...] | None = None
    state_types: tuple[StateType, ...] | None = None
    state_names: tuple[str, ...] | None = None
    tags_all: tuple[str, ...] | None = None
    tags_any: tuple[str, ...] | None = None
    parent_ids: tuple[UUID, ...] | None = None
    flow_run_ids: tuple[UUID, ...] | None = None
    parent_task_run_ids: tuple[UUID, ...] | None = None
    root_ids: tuple[UUID, ...] | None = None
    is_root: bool | None = None
    not_ids: tuple[UUID, ...] | None = None
    not_state_types: tuple[StateType, ...] | None = None
    not_state_names: tuple[str, ...] | None = None
    is_tagged: bool | None = None
    has_started: bool | None = None
    has_ended: bool | None = None
    is_in_flow_run: bool | None = None
    tracks_subflow: bool | None = None  # another run has it as its `parent_task_run_id`
    flow_run: RunFilter | None = None  # which the innermost flow run around it must match
    any_task_run: RunFilter | None = None  # which at least one run in this flow run must match
    created_after: int | None = None
    created_before: int | None = None
    started_after: int | None = None
    started_before: int | None = None
    ended_after: int | None = None
    ended_before: int | None = None
    expected_after: int | None = None
    expected_before: int | None = None


class LogFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Which log records to read, in the order of writing."""

    flow_run_ids: tuple[UUID, ...] | None = None
    task_run_ids: tuple[UUID, ...] | None = None
    level_at_least: int | None = None
    level_at_most: int | None = None
    after: int | None = None
    before: int | None = None


class Page(msgspec.Struct, frozen=True):
    """One page of records. `cursor` continues after it; `None` says that this was the last."""

    items: tuple[object, ...]
    cursor: bytes | None = None
