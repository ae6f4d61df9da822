"""From entries to rows, outside of any lock: one pass, and what one batch says of one run becomes one row."""

from __future__ import annotations

import hashlib
from collections.abc import Container, Sequence
from typing import Any

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
    RunCreated,
    RunRenamed,
    StateEntered,
    gives_up_owner,
    is_usual,
)
from callsheet._store.codes import CODES, PENDING, RUNNING, TYPES, USUAL_NAMES
from callsheet._store.queries import is_skewed

# Where the changing part of a run's row stands (see Table RUN in statements.py).
NAME, SEQ, STARTED, ATTEMPT, USUAL, COMPLETED, OWNER = 7, 10, 14, 15, 16, 17, 19
MOVING = slice(SEQ, COMPLETED + 1)
NO_SEQ = -1
# What `usual` is made of: states that have no row of their own.
ENTERED_PENDING, ENTERED_RUNNING = 1, 2
_NOTHING: frozenset[int] = frozenset()


class Batch:
    """The rows of one transaction, flat lists of parameters by table."""

    __slots__ = (
        "created",
        "definitions",
        "due",
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


def definition_id(definition: Definition) -> int:
    """Give a definition's id: 63 bits of a digest, so that no process has to ask for it."""
    text = "\0".join((str(int(definition.kind)), definition.key, definition.name, definition.code))
    return int.from_bytes(hashlib.blake2b(text.encode("utf-8", "backslashreplace"), digest_size=8).digest()) >> 1


class Encoder:
    """Turns entries into rows. Remembers the ids of definitions it has seen."""

    def __init__(self) -> None:
        self._latest: tuple[Definition | None, int] = (None, 0)  # as a pair: two threads may encode at once
        self._ids: dict[Definition, int] = {}

    def encode(self, entries: Sequence[Entry], skip: Container[int] = _NOTHING) -> Batch:
        """Give the rows of a batch, without the entries at the positions in `skip`."""
        batch = Batch()
        states, created, moved = batch.states, batch.created, batch.moved
        for index, entry in enumerate(entries):
            if skip and index in skip:
                continue
            if isinstance(entry, StateEntered):
                run = entry.run_id.int
                row = created.get(run)
                if row is None:
                    row = moved.get(run)
                    if row is None:
                        row = moved[run] = _unknown_run(run)
                _enter(row, entry, states)
            elif isinstance(entry, RunCreated):
                self._create(entry, batch)
            elif isinstance(entry, OutcomeRecorded):
                _record(entry, batch)
            else:
                _rest(entry, batch)
        for row in batch.owned:
            if row[SEQ] != NO_SEQ and _is_nobodys(row):
                row[OWNER] = None
        return batch

    def _create(self, entry: RunCreated, batch: Batch) -> None:
        definition = entry.definition
        latest, number = self._latest
        if definition is not latest:
            known = self._ids.get(definition)
            number = self._ids[definition] = definition_id(definition) if known is None else known
            self._latest = definition, number
        batch.definitions[number] = definition
        run = entry.id.int
        if run in batch.created:
            return
        row = batch.created[run] = _created_row(entry, number)
        if row[OWNER] is not None:
            batch.owned.append(row)
        if is_skewed(run, entry.created):
            batch.skewed = True
        if (earlier := batch.moved.pop(run, None)) is not None:  # its states came first
            row[MOVING] = earlier[MOVING]
        if entry.entered:
            _enter_at_once(row, entry)
        if batch.renamed and run in batch.renamed:
            row[NAME] = batch.renamed[run]
        if entry.tags or entry.inputs or entry.parameters is not None or entry.guards:
            _attach(entry, row[0], batch)


def _unknown_run(run: int) -> list[Any]:
    row: list[Any] = [None] * 20
    row[0] = run.to_bytes(16)
    row[SEQ] = NO_SEQ
    row[ATTEMPT] = row[USUAL] = 0
    return row


def _created_row(entry: RunCreated, definition: int) -> list[Any]:
    parent, flow, root, tracking = entry.parent_id, entry.flow_run_id, entry.root_id, entry.parent_task_run_id
    around = None if flow is None else flow.int.to_bytes(16)
    return [
        entry.id.int.to_bytes(16),
        int(entry.kind),
        definition,
        around if parent is flow else None if parent is None else parent.int.to_bytes(16),
        around,
        around if root is flow else None if root is None else root.int.to_bytes(16),
        None if tracking is None else tracking.int.to_bytes(16),
        entry.name,
        entry.created,
        entry.due_at,
        NO_SEQ,
        None,
        None,
        None,
        None,
        0,
        0,
        None,
        entry.extra,
        None if entry.owner is None else entry.owner.int.to_bytes(16),
    ]


def _is_nobodys(row: list[Any]) -> bool:
    """Tell whether a run has left its owner by the end of the batch."""
    code: int = row[SEQ + 1]
    return gives_up_owner(TYPES[code], row[SEQ + 2])


def _enter_at_once(row: list[Any], entry: RunCreated) -> None:
    at = entry.created
    running = entry.entered > 1
    if entry.entered > row[SEQ]:
        row[SEQ:STARTED] = entry.entered, RUNNING if running else PENDING, None, at
        row[ATTEMPT] = entry.entered - 1
    if running:
        row[STARTED] = at
    row[USUAL] |= ENTERED_PENDING | ENTERED_RUNNING if running else ENTERED_PENDING


def _enter(row: list[Any], entry: StateEntered, states: list[Any]) -> None:
    kind, name, seq, at = entry.type, entry.name, entry.seq, entry.at
    code = CODES[kind]
    shown = None if name == USUAL_NAMES[kind] else name
    if seq > row[SEQ]:
        row[SEQ:STARTED] = seq, code, shown, at
        row[ATTEMPT] = entry.attempt
    if is_usual(entry):
        if code == RUNNING:
            row[USUAL] |= ENTERED_RUNNING
            row[STARTED] = at
        else:
            row[COMPLETED] = at
        return
    if code == RUNNING and not row[USUAL] & ENTERED_RUNNING and (row[STARTED] is None or at < row[STARTED]):
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
    blob = entry.result
    batch.outcomes += (
        entry.flow_run_id.int.to_bytes(16),
        entry.run_id.int.to_bytes(16),
        entry.identity,
        CODES[entry.status],
        int(entry.recorded),  # SQLite has no truth values, and looking for an adapter costs
        entry.inputs_digest,
        *((None,) * 5 if blob is None else (blob.codec, blob.size, blob.digest, blob.uri, blob.inline)),
    )


def _attach(entry: RunCreated, run: bytes, batch: Batch) -> None:
    for tag in entry.tags:
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
            batch.handed[run, entry.key] = [run, entry.key, entry.id.bytes, entry.at, entry.value, entry.sender]
        case InputDropped():
            batch.handed[entry.run_id.bytes, entry.key] = None
        case LetterSent() | LetterAnswered() | LetterDropped():
            batch.letters.append(entry)
        case _:
            raise TypeError(f"not an entry: {entry!r}")
