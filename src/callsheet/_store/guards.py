"""Do the guards of a batch hold? Pure: what the store knows goes in, refusals come out, in the order of entries."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Protocol, assert_never, cast
from uuid import UUID

from callsheet._ids import state_id as derived_state_id
from callsheet._model.records import (
    Entry,
    FenceIs,
    Guard,
    InputDropped,
    InputFree,
    InputStored,
    KeyFree,
    LetterSent,
    Refusal,
    RunCreated,
    SeqIs,
    StateEntered,
)


class Known(Protocol):
    """What guards ask of a store, inside the transaction."""

    def seq_and_fence(self, run_id: UUID) -> tuple[int, int] | None:
        """Give the newest sequence number (-1 without a state) and the fence of a run that exists."""
        ...

    def holder(self, definition: str, key: str, at: int) -> UUID | None:
        """Give the run that has a key at this time: one that exists, and whose key has not expired after its end."""
        ...

    def state_id(self, run_id: UUID, seq: int) -> UUID | None:
        """Give the id of a stored state."""
        ...

    def input_id(self, run_id: UUID, key: str) -> UUID | None:
        """Give the id of what a run was handed under a key."""
        ...


def guarded(entries: Sequence[Entry]) -> bool:
    """Tell whether any entry of a batch has guards (most batches have none)."""
    # By class first: `isinstance` with several costs three times as much, at every entry.
    some = cast("Sequence[StateEntered]", entries)
    return any(entry.__class__ in _GUARDED and entry.guards for entry in some)


_GUARDED: Final[frozenset[type]] = frozenset({StateEntered, RunCreated, InputStored, LetterSent})


def refusals(entries: Sequence[Entry], known: Known) -> list[Refusal]:
    """Give the entries whose guards do not hold, judged one after the other as if each were committed alone."""
    view = _View(known)
    refused: list[Refusal] = []
    for index, entry in enumerate(entries):
        match entry:
            case RunCreated():
                applied = entry.guards and known.seq_and_fence(entry.id) is not None
                if not applied and (refusal := _first_refusal(index, entry.guards, view)):
                    refused.append(refusal)
                    continue
                view.created(entry)
            case StateEntered():
                # A batch that is committed again is not refused for what it did itself.
                own = entry.state_id or derived_state_id(entry.run_id, entry.seq)
                applied = entry.guards and known.state_id(entry.run_id, entry.seq) == own
                if not applied and (refusal := _first_refusal(index, entry.guards, view)):
                    refused.append(refusal)
                    continue
                view.entered(entry)
            case InputStored():
                if refusal := _first_refusal(index, entry.guards, view):
                    refused.append(refusal)
                    continue
                view.stored(entry.run_id, entry.key, entry.id)
            case LetterSent():
                if refusal := _first_refusal(index, entry.guards, view):
                    refused.append(refusal)
            case InputDropped():
                view.stored(entry.run_id, entry.key, None)
            case _:
                pass
    return refused


class _View:
    """What is stored, with the entries of this batch that were let through laid over it."""

    def __init__(self, known: Known) -> None:
        self._known = known
        self._seqs: dict[UUID, int] = {}
        self._keys: dict[tuple[str, str], UUID] = {}
        self._made: set[UUID] = set()
        self._inputs: dict[tuple[UUID, str], UUID | None] = {}

    def created(self, entry: RunCreated) -> None:
        self._made.add(entry.id)
        if entry.entered:
            self._seqs[entry.id] = max(entry.entered, self._seqs.get(entry.id, entry.entered))
        for guard in entry.guards:
            if isinstance(guard, KeyFree):
                self._keys[guard.definition, guard.key] = guard.run_id

    def entered(self, entry: StateEntered) -> None:
        self._seqs[entry.run_id] = max(entry.seq, self._seqs.get(entry.run_id, entry.seq))

    def stored(self, run_id: UUID, key: str, id: UUID | None) -> None:
        self._inputs[run_id, key] = id

    def input_id(self, run_id: UUID, key: str) -> UUID | None:
        if (run_id, key) in self._inputs:
            return self._inputs[run_id, key]
        return self._known.input_id(run_id, key)

    def seq(self, run_id: UUID) -> int | None:
        stored = self._known.seq_and_fence(run_id)
        if stored is None and run_id not in self._made:
            return None
        return max(-1 if stored is None else stored[0], self._seqs.get(run_id, -1))

    def fence(self, run_id: UUID) -> int | None:
        stored = self._known.seq_and_fence(run_id)
        if stored is not None:
            return stored[1]
        return 0 if run_id in self._made else None

    def holder(self, guard: KeyFree) -> UUID | None:
        here = self._keys.get((guard.definition, guard.key))
        return here if here is not None else self._known.holder(guard.definition, guard.key, guard.at)


def _first_refusal(index: int, guards: tuple[Guard, ...], view: _View) -> Refusal | None:
    for guard in guards:
        match guard:
            case SeqIs():
                current: object = view.seq(guard.run_id)
                holds = current == guard.seq
            case FenceIs():
                current = view.fence(guard.run_id)
                holds = current == guard.fence
            case KeyFree():
                current = view.holder(guard)
                holds = current in (None, guard.run_id, guard.instead)
            case InputFree():
                current = view.input_id(guard.run_id, guard.key)
                holds = current is None or current == guard.id
            case _:
                assert_never(guard)
        if not holds:
            return Refusal(index, guard, current)
    return None
