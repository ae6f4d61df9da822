"""Reading a memory store: the same questions and the same meaning as in SQL."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from operator import itemgetter
from typing import TYPE_CHECKING, Any, TypeVar
from uuid import UUID

from callsheet._model.kinds import Kind, RunOrder
from callsheet._model.letters import Letter
from callsheet._model.records import (
    Definition,
    InputRecord,
    LogFilter,
    OutcomeRecord,
    Page,
    RunFilter,
    RunRecord,
    StateRecord,
    newest_of_each,
)
from callsheet._store import matching, mishaps, ordering
from callsheet._store.queries import log_cursor, split_log_cursor

if TYPE_CHECKING:
    from callsheet._store.memory import MemoryStore

T = TypeVar("T")


class MemoryReader:
    """Reads a memory store. Its coroutines never suspend."""

    def __init__(self, store: MemoryStore) -> None:
        self._store: MemoryStore | None = store

    def _open(self) -> MemoryStore:
        if self._store is None:
            raise mishaps.closed("memory")
        return self._store

    @contextmanager
    def snapshot(self) -> Generator[None]:
        """Have everything that is read in the block be from one moment."""
        with self._open().changed:
            yield

    def _matching(self, where: RunFilter) -> list[RunRecord]:
        return matching.select(self._open().records(), where)

    async def read_runs(
        self,
        where: RunFilter,
        *,
        limit: int = 200,
        cursor: bytes | None = None,
        newest_first: bool = False,
        offset: int = 0,
        order: RunOrder = RunOrder.CREATED,
    ) -> Page:
        """Give a page of `RunRecord`, at most `limit`, in order of id or another order."""
        runs = sorted(((ordering.place(run, order), run) for run in self._matching(where)), key=itemgetter(0))
        after = None if cursor is None else ordering.place_after(cursor, order)
        return _page(runs, limit, after, newest_first, offset, lambda _, run: ordering.cursor_after(run, order))

    async def count_runs(self, where: RunFilter) -> int:
        """Count the runs that match."""
        return len(self._matching(where))

    async def count_states(self, where: RunFilter) -> dict[tuple[Kind, str], int]:
        """Count matching runs by kind and state name."""
        counts: dict[tuple[Kind, str], int] = {}
        for run in self._matching(where):
            if run.state is not None:
                counts[run.kind, run.state.name] = counts.get((run.kind, run.state.name), 0) + 1
        return counts

    async def read_states(self, run_id: UUID) -> tuple[StateRecord, ...]:
        """Give every state of a run, oldest first."""
        return self._open().states(run_id)

    async def read_states_of(self, run_ids: Sequence[UUID]) -> dict[UUID, tuple[StateRecord, ...]]:
        """Give every state of several runs, oldest first."""
        store = self._open()
        return {run_id: states for run_id in run_ids if (states := store.states(run_id))}

    async def read_definitions(
        self, kind: Kind, where: RunFilter | None = None
    ) -> tuple[tuple[Definition, int | None], ...]:
        """Give definitions by name, each with the creation of its first run; only those with matching runs."""
        runs = self._open().records()
        first = {run.definition: run.created for run in reversed(runs)}
        chosen = first if where is None else {run.definition for run in matching.select(runs, where)}
        known = sorted((one for one in chosen if one.kind is kind), key=lambda one: (one.name, one.key, one.code))
        return tuple((one, first[one]) for one in known)

    async def read_logs(
        self,
        where: LogFilter,
        *,
        limit: int = 200,
        cursor: bytes | None = None,
        newest_first: bool = False,
        offset: int = 0,
    ) -> Page:
        """Give a page of `LogRecord`, in order of writing."""
        logs = [(place, log) for place, log in self._open().logs() if matching.log_matches(log, where)]
        after = None if cursor is None else split_log_cursor(cursor)
        return _page(logs, limit, after, newest_first, offset, lambda place, _: log_cursor(*place))

    async def read_outcomes(
        self, flow_run_id: UUID, *, run_id: UUID | None = None, every: bool = False
    ) -> tuple[OutcomeRecord, ...]:
        """Give what the run journal recorded inside a flow run, or of one run in it: the newest of each identity, or all."""
        found = self._open().outcomes(flow_run_id)
        if run_id is not None:
            found = tuple(one for one in found if one.run_id == run_id)
        return found if every else newest_of_each(found)

    async def read_outcomes_of(self, flow_run_ids: Sequence[UUID]) -> dict[UUID, tuple[OutcomeRecord, ...]]:
        """Give the newest outcome of each identity in several flow runs."""
        store = self._open()
        return {one: newest_of_each(found) for one in flow_run_ids if (found := store.outcomes(one))}

    async def read_inputs(
        self, run_id: UUID, *, key: str | None = None, prefix: str = "", limit: int | None = None
    ) -> tuple[InputRecord, ...]:
        """Give what a flow run was handed, oldest first."""
        found = [
            record
            for record in self._open().inputs(run_id)
            if (key is None or record.key == key) and record.key.startswith(prefix)
        ]
        return tuple(sorted(found, key=lambda record: (record.at, record.id))[:limit])

    async def read_letters(self, tokens: Sequence[UUID]) -> tuple[Letter, ...]:
        """Give the letters of these tokens that are there."""
        return self._open().letters(tokens)

    async def aclose(self) -> None:
        """Refuse further reads."""
        self._store = None


def _page(
    found: Sequence[tuple[Any, T]],
    limit: int,
    after: Any,
    newest_first: bool,
    offset: int,
    cursor: Callable[[Any, T], bytes],
) -> Page:
    ordered = list(reversed(found)) if newest_first else list(found)
    if after is not None:
        ordered = [item for item in ordered if (item[0] < after if newest_first else item[0] > after)]
    ordered = ordered[offset:]
    taken = ordered[:limit]
    return Page(tuple(item[1] for item in taken), cursor(*taken[-1]) if len(ordered) > limit and taken else None)
