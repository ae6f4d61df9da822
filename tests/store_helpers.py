"""Entries in few words, and a store that refuses what it is told to."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterator, Sequence
from typing import Any, TypeVar
from uuid import UUID

import pytest

from callsheet._ids import new_id
from callsheet._model.kinds import Kind, StateType
from callsheet._model.records import Definition, Entry, Guard, LogWritten, Refusal, RunCreated, SeqIs, StateEntered
from callsheet._store.protocol import Reader, Store
from callsheet._store.sqlite import SqliteStore

T = TypeVar("T")

FLOW = Definition(Kind.FLOW, "module.main", "main", "c0de")
TASK = Definition(Kind.TASK, "module.work", "work", "c0de")
EPOCH = 1_700_000_000_000_000


def at(step: int) -> int:
    """Give a moment, in microseconds since the epoch."""
    return EPOCH + step * 1_000


def run_now(coroutine: Coroutine[Any, Any, T]) -> T:
    """Step a coroutine that never suspends to its end."""
    try:
        coroutine.send(None)
    except StopIteration as stop:
        return stop.value
    raise AssertionError("a blocking reader suspended")


@pytest.fixture(autouse=True)
def readers_are_closed(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Close every blocking reader that a test took, so that it may take one in passing."""
    taken: list[Reader] = []
    original = SqliteStore.blocking_reader

    def recording(store: SqliteStore) -> Reader:
        taken.append(original(store))
        return taken[-1]

    monkeypatch.setattr(SqliteStore, "blocking_reader", recording)
    yield
    for reader in taken:
        run_now(reader.aclose())


def started(
    run: UUID,
    *,
    kind: Kind = Kind.TASK,
    flow: UUID | None = None,
    root: UUID | None = None,
    name: str = "run",
    created: int = 0,
    guards: tuple[Guard, ...] = (),
    **more: Any,
) -> RunCreated:
    """Give the creation of a run, in a flow run or alone."""
    return RunCreated(
        id=run,
        kind=kind,
        definition=FLOW if kind is Kind.FLOW else TASK,
        name=name,
        created=at(created),
        parent_id=flow,
        flow_run_id=flow,
        root_id=root,
        guards=guards,
        **more,
    )


def moved(
    run: UUID,
    seq: int,
    kind: StateType,
    step: int,
    *,
    name: str | None = None,
    attempt: int = 0,
    guards: tuple[Guard, ...] = (),
) -> StateEntered:
    """Give a transition."""
    return StateEntered(
        run_id=run,
        seq=seq,
        type=kind,
        name=name or kind.value.capitalize(),
        at=at(step),
        state_id=new_id(),
        attempt=attempt,
        guards=guards,
    )


def finished(run: UUID, step: int) -> tuple[StateEntered, StateEntered, StateEntered]:
    """Give PENDING, RUNNING and COMPLETED, one step after the other."""
    return (
        moved(run, 1, StateType.PENDING, step),
        moved(run, 2, StateType.RUNNING, step + 1, attempt=1),
        moved(run, 3, StateType.COMPLETED, step + 2, attempt=1),
    )


def logged(flow: UUID | None, task: UUID | None, step: int, message: str, level: int = 20) -> LogWritten:
    """Give a log record."""
    return LogWritten(flow_run_id=flow, task_run_id=task, at=at(step), level=level, logger="log", message=message)


class Refusing:
    """A store that refuses entries, whatever their guards say, and hands the rest to another one."""

    def __init__(self, store: Store, refuse: Callable[[Entry], bool]) -> None:
        self._store = store
        self._refuse = refuse

    def commit(self, entries: Sequence[Entry], *, sync: bool = False) -> list[Refusal]:
        """Commit what is not refused."""
        kept = [(index, entry) for index, entry in enumerate(entries) if not self._refuse(entry)]
        refused = [
            Refusal(index, SeqIs(UUID(int=0), 0), "refused")
            for index, entry in enumerate(entries)
            if self._refuse(entry)
        ]
        inner = self._store.commit([entry for _, entry in kept], sync=sync)
        refused += [Refusal(kept[one.index][0], one.guard, one.current) for one in inner]
        return sorted(refused, key=lambda one: one.index)

    def append(self, entries: Sequence[Entry]) -> int | None:
        """Refuse: what is not to be refused is committed."""
        return None

    def adoptable(self) -> bool:
        """Nobody else writes there."""
        return False

    def adopt(self) -> None:
        """Nobody else writes there."""

    def prepare(self, entries: Sequence[Entry]) -> None:
        """Nothing can be done beforehand."""

    def try_commit(self, entries: Sequence[Entry], *, sync: bool = False, settled: int = 0) -> list[Refusal] | None:
        """Commit what is not refused."""
        return self.commit(entries, sync=sync)

    def blocking_reader(self) -> Reader:
        """Give the reader of the other store."""
        return self._store.blocking_reader()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)
