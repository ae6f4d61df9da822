"""From entries to rows, outside of any lock: one pass, and what one batch says of one run becomes one row."""

from __future__ import annotations

import hashlib
from collections.abc import Container, Sequence
from typing import Any
from uuid import UUID

from callsheet._model.engines import RunDue
from callsheet._model.records import (
    Definition,
    Entry,
    InputDropped,
    InputsResolved,
    InputStored,
    KeyFree,
    LetterAnswered,
    LetterDropped,
    LetterSent,
    LogWritten,
    OutcomeRecorded,
    ResultBlob,
    RunCreated,
    RunRenamed,
    StateEntered,
    gives_up_owner,
    is_usual,
)
from callsheet._store.codes import CODES, COMPLETED, PENDING, RUNNING, TYPES, USUAL_NAMES
from callsheet._store.queries import LEEWAY
from callsheet._store.statements import NOTHING

# A run's row begins with its id and what changes; what it is made with follows (see Table RUN in statements.py).
SEQ, TYPE, STATE_NAME, STARTED, ATTEMPT, USUAL, COMPLETED_AT, NAME, OWNER = 1, 2, 3, 5, 6, 7, 8, 15, 19
STATE = slice(SEQ, STARTED)
MOVING = slice(SEQ, COMPLETED_AT + 1)
MOVED = slice(COMPLETED_AT + 1)
NO_SEQ = -1
# What `usual` is made of: states that have no row of their own.
ENTERED_PENDING, ENTERED_RUNNING = 1, 2
_NONE: frozenset[int] = frozenset()
_NOT_ENTERED = (NO_SEQ, NOTHING, NOTHING, NOTHING, NOTHING, 0, 0, NOTHING)
_NO_BLOB = (NOTHING, NOTHING, None, NOTHING, None)


class Batch:
    """The rows of one transaction, flat lists of parameters by table."""

    __slots__ = (
        "around",
        "created",
        "definition",
        "definitions",
        "due",
        "guarded",
        "handed",
        "inputs",
        "keys",
        "letters",
        "logs",
        "moved",
        "outcomes",
        "owned",
        "parameters",
        "renamed",
        "skewed",
        "states",
        "tags",
    )

    def __init__(self) -> None:
        self.definitions: dict[int, Definition] = {}
        self.created: dict[int, list[Any]] = {}
        self.moved: dict[int, list[Any]] = {}
        self.renamed: dict[int, str] = {}
        self.due: dict[bytes, int | None] = {}
        self.states: list[Any] = []
        self.outcomes: list[Any] = []
        self.tags: list[Any] = []
        self.inputs: list[Any] = []
        self.parameters: list[Any] = []
        self.logs: list[Any] = []
        self.keys: list[Any] = []
        self.owned: list[list[Any]] = []  # rows of root runs that engines own
        self.handed: dict[tuple[bytes, str], list[Any] | None] = {}  # what runs were handed; `None`: gone
        self.letters: list[LetterSent | LetterAnswered | LetterDropped] = []
        self.skewed = False
        self.guarded = False  # some entry has guards: they are to be judged, and what they refuse is not to be written
        self.definition: tuple[Definition | None, int] = (None, 0)  # the latest, and its id
        self.around: tuple[UUID | None, bytes | None] = (None, None)  # the latest flow run, and its bytes


def definition_id(definition: Definition) -> int:
    """Give a definition's id: 63 bits of a digest, so that no process has to ask for it."""
    text = "\0".join((str(int(definition.kind)), definition.key, definition.name, definition.code))
    return int.from_bytes(hashlib.blake2b(text.encode("utf-8", "backslashreplace"), digest_size=8).digest()) >> 1


class Encoder:
    """Turns entries into rows. Remembers the ids of definitions it has seen."""

    def __init__(self) -> None:
        self._ids: dict[Definition, int] = {}

    def encode(self, entries: Sequence[Entry], skip: Container[int] = _NONE) -> Batch:
        """Give the rows of a batch, without the entries at the positions in `skip`."""
        batch = Batch()
        states, created, moved = batch.states, batch.created, batch.moved
        if skip:
            entries = [entry for index, entry in enumerate(entries) if index not in skip]
        for entry in entries:
            if type(entry) is StateEntered:  # by class: `isinstance` costs three times as much where it does not hold
                run = entry.run_id.int
                row = created.get(run) or moved.get(run)
                if not is_usual(entry):
                    if row is None:
                        row = moved[run] = [run.to_bytes(16), *_NOT_ENTERED]
                    _enter(row, entry, states)
                elif row is None:
                    moved[run] = _usual_row(run, entry)
                else:
                    _enter_usual(row, entry)
                if entry.guards:
                    batch.guarded = True
            elif type(entry) is RunCreated:
                self._create(entry, batch)
            elif type(entry) is OutcomeRecorded:
                _record(entry, batch)
            else:
                _rest(entry, batch)
        for row in batch.owned:
            if row[SEQ] != NO_SEQ and _is_nobodys(row):
                row[OWNER] = None
        return batch

    def _create(self, entry: RunCreated, batch: Batch) -> None:
        definition = entry.definition
        latest, number = batch.definition
        if definition is not latest:
            known = self._ids.get(definition)
            number = self._ids[definition] = definition_id(definition) if known is None else known
            batch.definition = definition, number
            batch.definitions[number] = definition
        run = entry.id.int
        created = batch.created
        if entry.guards:
            batch.guarded = True
        if run in created:
            return
        at = entry.created
        row = created[run] = _created_row(entry, run, at, number, batch)
        if not -LEEWAY < (run >> 80) - at // 1000 < LEEWAY:  # id and time come from different clocks
            batch.skewed = True
        if batch.moved and (earlier := batch.moved.pop(run, None)) is not None:  # its states came first
            _lay_over(row, earlier)
        if batch.renamed and run in batch.renamed:
            row[NAME] = batch.renamed[run]
        if entry.owner is not None:
            row[OWNER] = entry.owner.bytes
            batch.owned.append(row)
        if entry.tags or entry.inputs or entry.parameters is not None or entry.guards:
            _attach(entry, row[0], batch)


def _created_row(entry: RunCreated, run: int, at: int, definition: int, batch: Batch) -> list[Any]:
    entered, parent, flow, root = entry.entered, entry.parent_id, entry.flow_run_id, entry.root_id
    latest, around = batch.around
    if flow is not latest:
        around = None if flow is None else flow.int.to_bytes(16)
        batch.around = flow, around
    code, started, usual = PENDING, NOTHING, ENTERED_PENDING
    if entered > 1:
        code, started, usual = RUNNING, at, ENTERED_PENDING | ENTERED_RUNNING
    row = [
        run.to_bytes(16),
        entered,
        code,
        NOTHING,
        at,
        started,
        entered - 1,
        usual,
        NOTHING,
        +entry.kind,  # a plain number
        definition,
        around if parent is flow else None if parent is None else parent.int.to_bytes(16),
        around,
        around if root is flow else None if root is None else root.int.to_bytes(16),
        None if entry.parent_task_run_id is None else entry.parent_task_run_id.bytes,
        entry.name,
        at,
        NOTHING if entry.due_at is None else entry.due_at,
        entry.extra,
        None,
    ]
    if not entered:
        row[MOVING] = _NOT_ENTERED
    return row


def _is_nobodys(row: list[Any]) -> bool:
    """Tell whether a run has left its owner by the end of the batch."""
    code: int = row[TYPE]
    return gives_up_owner(TYPES[code], row[STATE_NAME])


def _lay_over(row: list[Any], earlier: list[Any]) -> None:
    """Have a run that is created be what its later states, which came first, have made of it."""
    if earlier[SEQ] >= row[SEQ]:
        row[STATE], row[ATTEMPT] = earlier[STATE], earlier[ATTEMPT]
    if not row[USUAL] & ENTERED_RUNNING:
        row[STARTED] = earlier[STARTED]
    row[USUAL] |= earlier[USUAL]
    row[COMPLETED_AT] = earlier[COMPLETED_AT]


def _usual_row(run: int, entry: StateEntered) -> list[Any]:
    at = entry.at
    if entry.seq == 3:
        return [run.to_bytes(16), 3, COMPLETED, NOTHING, at, NOTHING, entry.attempt, 0, at]
    return [run.to_bytes(16), 2, RUNNING, NOTHING, at, at, 1, ENTERED_RUNNING, NOTHING]


def _enter_usual(row: list[Any], entry: StateEntered) -> None:
    seq, at, code = entry.seq, entry.at, COMPLETED
    if seq == 3:
        row[COMPLETED_AT] = at
    else:
        code = RUNNING
        row[USUAL] |= ENTERED_RUNNING
        row[STARTED] = at
    if seq > row[SEQ]:
        row[STATE] = seq, code, NOTHING, at
        row[ATTEMPT] = entry.attempt


def _enter(row: list[Any], entry: StateEntered, states: list[Any]) -> None:
    seq, at = entry.seq, entry.at
    code = CODES[entry.type]
    shown = None if entry.name == USUAL_NAMES[entry.type] else entry.name
    if seq > row[SEQ]:
        row[STATE] = seq, code, NOTHING if shown is None else shown, at
        row[ATTEMPT] = entry.attempt
    if code == RUNNING and not row[USUAL] & ENTERED_RUNNING and (row[STARTED] is NOTHING or at < row[STARTED]):
        row[STARTED] = at
    states += (
        row[0],
        seq,
        code,
        shown,
        at,
        None if entry.state_id is None else entry.state_id.int.to_bytes(16),
        entry.message,
        entry.details,
    )


def _record(entry: OutcomeRecorded, batch: Batch) -> None:
    blob, flow = entry.result, entry.flow_run_id
    latest, around = batch.around
    if flow is not latest:
        around = flow.int.to_bytes(16)
        batch.around = flow, around
    batch.outcomes += (
        around,
        entry.run_id.int.to_bytes(16),
        entry.identity,
        CODES[entry.status],
        +entry.recorded,  # as a number: SQLite has no truth values, and looking for an adapter costs
        entry.inputs_digest,
        *(_NO_BLOB if blob is None else _blob(blob)),
    )


def _blob(blob: ResultBlob) -> tuple[Any, ...]:
    return blob.codec, blob.size, blob.digest, NOTHING if blob.uri is None else blob.uri, blob.inline


def _attach(entry: RunCreated, run: bytes, batch: Batch) -> None:
    for tag in sorted(
        entry.tags
    ):  # as their index is: with 100,000 in any order, nearly every row has its page read anew
        batch.tags += (run, tag)
    _add_inputs(run, entry.inputs, entry.parameters, batch)
    for guard in entry.guards:
        if isinstance(guard, KeyFree):
            batch.keys += (guard.definition, guard.key, guard.run_id.bytes, guard.expires)


def _add_inputs(
    run: bytes, inputs: Sequence[tuple[str, Sequence[Any]]], parameters: bytes | None, batch: Batch
) -> None:
    for parameter, sources in inputs:
        if not sources:
            batch.inputs += (run, parameter, b"")
        for source in sources:
            batch.inputs += (run, parameter, source.int.to_bytes(16))
    if parameters is not None:
        batch.parameters += (run, parameters)


def _rest(entry: Entry, batch: Batch) -> None:
    match entry:
        case LogWritten():
            task, flow = entry.task_run_id, entry.flow_run_id
            scope = flow or task
            batch.logs += (
                b"" if scope is None else scope.bytes,
                entry.at,
                entry.n,
                None if task is None else task.bytes,
                entry.level,
                entry.logger,
                entry.message,
            )
        case RunRenamed():
            row = batch.created.get(entry.run_id.int)
            if row is not None:
                row[NAME] = entry.name
            batch.renamed[entry.run_id.int] = entry.name
        case RunDue():
            batch.due[entry.run_id.bytes] = entry.due_at
        case InputsResolved():
            _add_inputs(entry.run_id.bytes, entry.inputs, entry.parameters, batch)
        case InputStored():
            run = entry.run_id.bytes
            batch.guarded = batch.guarded or bool(entry.guards)
            batch.handed[run, entry.key] = [run, entry.key, entry.id.bytes, entry.at, entry.value, entry.sender]
        case InputDropped():
            batch.handed[entry.run_id.bytes, entry.key] = None
        case LetterSent() | LetterAnswered() | LetterDropped():
            if isinstance(entry, LetterSent) and entry.guards:
                batch.guarded = True
            batch.letters.append(entry)
        case _:
            raise TypeError(f"not an entry: {entry!r}")
