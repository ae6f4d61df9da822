"""Reading a whole history, to have it judged."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Final, cast
from uuid import UUID

from callsheet._engine.places import ThreadPlace, current_core
from callsheet._kernel.ports import step
from callsheet._model.kinds import Kind
from callsheet._model.records import RunFilter, RunRecord
from callsheet._store import proofs
from callsheet._store.protocol import Reader, Store
from callsheet._store.sqlite import SqliteStore
from callsheet.testing.findings import Finding
from callsheet.testing.judging import History, judged, missing

__all__ = ["check_history"]

_AT_ONCE: Final = 2_000
_LOOKS: Final = 20  # at the redo log, in which a living engine has something every now and then


def check_history(
    database: str | Path | None = None,
    *,
    acknowledged: Mapping[UUID, str] | None = None,
    forced: Collection[UUID] = (),
) -> list[Finding]:
    """Tell what is wrong with a history: every promise that it breaks, and where.

    It asks nothing of the rules by which the engine works, only what is on record: whether runs end once and go
    through legal transitions only, whether all states are there, whether attempts stay within their bounds, whether
    children end before their flow runs, whether nothing that completed ran again, and more (see `Promise`). A
    history may be checked while engines use it; what they have not committed is not in it. The call blocks.

    Args:
        database: File of the history. Default: the history that is current here, also one in memory.
        acknowledged: What callers were told, kept outside of the history: ids of runs, and the type of the state
            in which each had ended, such as ``COMPLETED``.
        forced: Ids of runs that somebody made enter states against the rules (``force=True``). Their transitions
            are not judged.

    Returns:
        What was found, run by run; nothing where all is well.

    Raises:
        FileNotFoundError: There is no such file.
        StoreError: The history cannot be read; the message says why.

    Example:
        >>> from callsheet import flow, task
        >>> from callsheet.testing import harness
        >>> @task
        ... def double(x: int) -> int:
        ...     return 2 * x
        >>> @flow
        ... def total(upto: int) -> int:
        ...     return sum(double.map(range(upto)).result())
        >>> with harness() as database:
        ...     state = total(3, return_state=True)
        ...     run_id = state.state_details.flow_run_id
        ...     check_history(database, acknowledged={run_id: "COMPLETED"})
        []
    """
    if database is None:
        place = ThreadPlace(current_core())
        step(place.catch_up())
        history = _read(place.core.store)
    else:
        if not Path(database).expanduser().is_file():
            raise FileNotFoundError(f"There is no history in '{database}'.")
        store = SqliteStore(database)
        store.open()
        try:
            history = _read(store)
        finally:
            store.close()
    history.forced = frozenset(forced)
    return [*judged(history), *missing(history, acknowledged or {})]


def _read(store: Store) -> History:
    unsettled = True
    for _ in range(_LOOKS):
        store.adopt()
        unsettled = store.adoptable()
        if not unsettled:
            break
    reader = store.blocking_reader()
    try:
        history = History(unsettled=unsettled)
        # Before and after, so that an engine that comes or goes meanwhile is among them.
        before = _alive(store)
        with reader.snapshot():
            _read_runs(reader, history)
        after = _alive(store)
        history.engines = None if before is None or after is None else before | after
        return history
    finally:
        step(reader.aclose())


def _alive(store: Store) -> frozenset[UUID] | None:
    """Give the engines that may own runs: listed, not found dead, and not certainly gone."""
    if not store.is_shared:
        return None
    folder = proofs.folder_beside(Path(store.location))
    return frozenset(
        engine.id
        for engine in store.engines.read()
        if not engine.lost and not proofs.is_gone(folder, engine.machine, engine.file)
    )


def _read_runs(reader: Reader, history: History) -> None:
    cursor: bytes | None = None
    while True:
        page = step(reader.read_runs(RunFilter(), limit=_AT_ONCE, cursor=cursor))
        runs = cast("tuple[RunRecord, ...]", page.items)
        history.runs.update((run.id, run) for run in runs)
        history.states.update(step(reader.read_states_of([run.id for run in runs])))
        for run in runs:
            if run.kind is Kind.FLOW:
                history.outcomes[run.id] = step(reader.read_outcomes(run.id, every=True))
        cursor = page.cursor
        if cursor is None:
            return
