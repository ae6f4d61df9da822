"""What happened, in the order in which it was committed: a history in memory that remembers its order."""

from __future__ import annotations

from collections import defaultdict
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec

from callsheet._clock import from_micros
from callsheet._engine.engine import Engine
from callsheet._model.kinds import Kind, StateType
from callsheet._model.records import Entry, RunCreated, RunRenamed, StateEntered, usual_states
from callsheet._store.memory import MemoryStore

__all__ = ["Happened"]


class Happened(msgspec.Struct, frozen=True, kw_only=True):
    """A run entered a state.

    Attributes:
        elapsed: When, in seconds since the beginning; in virtual time exact to the microsecond.
        run: Name of the task and a number that counts its runs, such as ``fetch-0``; the name of the run, where it was
            given one; name of the flow, from its second run on with a number.
        state: Name of the state, such as ``AwaitingRetry``.
        type: Its type.
        message: What it says, if anything.
        timestamp: When, as the time of day in UTC.
        kind: ``flow`` or ``task``.
        definition: Name of the flow or task.
        run_id: Id of the run.

    Example:
        >>> from uuid import UUID
        >>> when = datetime(2030, 1, 1)
        >>> print(
        ...     Happened(
        ...         elapsed=3600.0,
        ...         run="fetch-0",
        ...         state="Retrying",
        ...         type=StateType.RUNNING,
        ...         timestamp=when,
        ...         kind="task",
        ...         run_id=UUID(int=1),
        ...     )
        ... )
        3600.0 s  fetch-0  Retrying
    """

    elapsed: float
    run: str
    state: str
    type: StateType
    timestamp: datetime
    kind: str
    run_id: UUID
    definition: str = ""
    message: str | None = None

    def __str__(self) -> str:
        said = f": {self.message}" if self.message else ""
        return f"{self.elapsed} s  {self.run}  {self.state}{said}"


class OrderedStore(MemoryStore):
    """A history in memory that remembers in which order runs entered their states."""

    def __init__(self) -> None:
        super().__init__()
        self._entered: list[StateEntered] = []
        self._names: dict[UUID, tuple[Kind, str, str]] = {}
        self._numbers: defaultdict[tuple[Kind, str], int] = defaultdict(int)

    def _apply(self, entry: Entry) -> None:
        super()._apply(entry)
        match entry:
            case RunCreated():
                self._names.setdefault(entry.id, (entry.kind, self._numbered(entry), entry.definition.name))
                self._entered += usual_states(entry)
            case RunRenamed():
                kind, _, definition = self._names[entry.run_id]
                self._names[entry.run_id] = (kind, entry.name, definition)
            case StateEntered():
                self._entered.append(entry)
            case _:
                pass

    def _numbered(self, created: RunCreated) -> str:
        name = created.definition.name
        number = self._numbers[created.kind, name]
        self._numbers[created.kind, name] = number + 1
        return name if created.kind is Kind.FLOW and number == 0 else f"{name}-{number}"

    def happened(self, since: int) -> list[Happened]:
        """Give everything that is committed, and when it was, counted from a moment (microseconds)."""
        with self.changed:
            self._settle()
            return [self._said(entry, since) for entry in self._entered]

    def _said(self, entry: StateEntered, since: int) -> Happened:
        kind, name, definition = self._names[entry.run_id]
        return Happened(
            elapsed=(entry.at - since) / 1e6,
            run=name,
            state=entry.name,
            type=entry.type,
            message=entry.message,
            timestamp=from_micros(entry.at),
            kind=kind.name.lower(),
            run_id=entry.run_id,
            definition=definition,
        )

    def reborn(self) -> OrderedStore:
        """Give what another process would find here: all that is committed, and no engine of its own."""
        after = OrderedStore()
        for name, value in vars(self).items():
            if name not in ("engines", "_closed"):
                setattr(after, name, value)
        after.engines.inherit(self.engines)
        return after


class StoredEngine(Engine):
    """An engine on a store that somebody else keeps."""

    def __init__(self, store: Any, **options: Any) -> None:
        super().__init__(":memory:", **options)
        self.store = store

    def _opened(self, settings: Any) -> Any:
        from callsheet._engine import ambient

        return ambient.open_core(settings, self.store)
