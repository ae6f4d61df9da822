"""What could not be saved, in words, and how much memory waits to be saved."""

from __future__ import annotations

from uuid import UUID

import msgspec

from callsheet._model.engines import RunDue
from callsheet._model.records import (
    Entry,
    InputDropped,
    InputsResolved,
    InputStored,
    LetterAnswered,
    LetterDropped,
    LetterSent,
    LogWritten,
    OutcomeRecorded,
    RunCreated,
    RunRenamed,
    StateEntered,
)
from callsheet.exceptions import StoreError, StoreUnavailable


class Lost(msgspec.Struct, frozen=True):
    """What could not be saved, in the order in which it was accepted, and why. False when nothing was lost."""

    entries: tuple[Entry, ...] = ()
    reason: StoreError | None = None

    def __bool__(self) -> bool:
        return bool(self.entries)

    def as_error(self) -> StoreError:
        """Give an error of the reason's kind whose message tells exactly what is missing."""
        kinds: dict[str, int] = {}
        for entry in self.entries:
            what = _WORDS[entry.__class__]
            kinds[what] = kinds.get(what, 0) + 1
        missing = ", ".join(f"{count} {what}" for what, count in kinds.items())
        runs = {run for entry in self.entries if (run := _run_of(entry)) is not None}
        error = (StoreUnavailable if self.reason is None else type(self.reason))(
            f"History of {len(runs)} runs could not be saved ({missing}). {self.reason or ''}".strip()
        )
        error.add_note("Runs concerned: " + ", ".join(map(str, sorted(runs))))
        return error


_WORDS: dict[type, str] = {
    RunCreated: "creations",
    StateEntered: "states",
    RunRenamed: "names",
    RunDue: "times to be looked at",
    InputsResolved: "inputs",
    OutcomeRecorded: "outcomes",
    LogWritten: "log records",
    InputStored: "inputs of flow runs",
    InputDropped: "deletions of inputs",
    LetterSent: "orders",
    LetterAnswered: "answers to orders",
    LetterDropped: "deletions of orders",
}


def _run_of(entry: Entry) -> UUID | None:
    match entry:
        case RunCreated():
            return entry.id
        case LogWritten():
            return entry.task_run_id or entry.flow_run_id
        case LetterSent():
            return entry.to_run
        case LetterAnswered() | LetterDropped():
            return None
        case _:
            return entry.run_id


def weight(entry: Entry) -> int:
    """Give the bytes of an entry that may be large; the rest is counted by rows."""
    if type(entry) is RunCreated or type(entry) is InputsResolved:  # `isinstance` costs three times as much
        return 0 if entry.parameters is None else len(entry.parameters)
    if type(entry) is OutcomeRecorded:
        result = entry.result
        return 0 if result is None or result.inline is None else len(result.inline)
    if type(entry) is InputStored:
        return len(entry.value)
    return len(entry.message) if type(entry) is LogWritten else 0
