"""Recordings of flow runs: all that the history knows of one, in a value and a file of its own."""

from __future__ import annotations

import os
from collections.abc import Generator, Iterable, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, Self
from uuid import UUID

import msgspec

from callsheet._engine.history import records_of, the_run
from callsheet._engine.past import fork_of
from callsheet._engine.places import ThreadPlace, current_core
from callsheet._engine.recording import RESULT, to_row
from callsheet._kernel.ports import step
from callsheet._model.kept import NOT_RECORDED, Kept
from callsheet._model.kinds import Kind
from callsheet._model.records import (
    InputRecord,
    OutcomeRecord,
    ResultBlob,
    RunFilter,
    RunRecord,
    StateRecord,
)
from callsheet._model.states import State
from callsheet._results.journalled import recall
from callsheet._results.ways import blocking
from callsheet._results.wires import METADATA, RECORD
from callsheet._rules.guards import ROLLED_BACK
from callsheet._store.protocol import Reader
from callsheet._store.sqlite import SqliteStore
from callsheet._version import __version__
from callsheet.exceptions import CallsheetError, ConfigurationError, ObjectNotFound, RecordingError, SerializationError

__all__ = ["Recording", "record"]

_VERSION: Final = 1
_PAGE: Final = 1000
_unpack = msgspec.msgpack.Decoder(dict[str, Any]).decode


class Recording(msgspec.Struct, frozen=True, kw_only=True):
    """A recorded flow run: its parameters, its states, what it was handed, and its run journal.

    The results in it are in the form in which they were kept: mostly pickles, encrypted where results are. Load
    recordings only from where you would take code.

    Attributes:
        version: Of the form of recordings.
        callsheet: The version of the package that made it.
        run_id: Id of the flow run.
        runs: It and all runs in it, and what it was forked from, in order of creation.
        states: Of flow runs.
        outcomes: What the run journals have of calls and steps.
        inputs: What flow runs were handed: answers to pauses, signals.
        result: What the run itself gave, where that is known.
        has_result: Whether it is.
    """

    version: int = _VERSION
    callsheet: str = __version__
    run_id: UUID
    runs: tuple[RunRecord, ...]
    states: tuple[StateRecord, ...]
    outcomes: tuple[OutcomeRecord, ...]
    inputs: tuple[InputRecord, ...] = ()
    result: ResultBlob | None = None
    has_result: bool = False

    @property
    def run(self) -> RunRecord:
        """The flow run itself."""
        return next(one for one in self.runs if one.id == self.run_id)

    def __repr__(self) -> str:
        """Show what it is a recording of."""
        run, state = self.run, self.run.state
        calls = sum(one.parent_id is not None for one in self.runs)
        name = "" if state is None else f", {state.name}"
        return f"<Recording of {run.definition.name!r} ({run.name}): {calls} runs in it{name}>"

    def save(self, path: str | Path) -> None:
        """Write it to a file, as JSON. Folders are made, and what is there is replaced.

        Args:
            path: Of the file.

        Raises:
            OSError: It cannot be written.
        """
        target = Path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        part = target.with_name(f"{target.name}.part-{os.getpid()}")
        part.write_bytes(msgspec.json.format(msgspec.json.encode(self), indent=1) + b"\n")
        part.replace(target)

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read a file that `save` wrote.

        Args:
            path: Of the file.

        Returns:
            The recording.

        Raises:
            RecordingError: It is no recording, or was made by a version whose form is not known here.
            OSError: It cannot be read.
        """
        content = Path(path).read_bytes()
        try:
            version = msgspec.json.decode(content, type=_Version)
            if version.version == _VERSION:
                return msgspec.json.decode(content, type=cls)
        except msgspec.MsgspecError as error:
            raise RecordingError(f"'{path}' is no recording of a flow run: {error}.") from error
        raise RecordingError(
            f"'{path}' is a recording of version {version.version}, made by callsheet {version.callsheet}; this one "
            f"({__version__}) reads version {_VERSION}. Record the run, or one like it, anew."
        )


class _Version(msgspec.Struct):
    version: int
    callsheet: str = "?"


def record(run: UUID | str | State[Any], database: str | Path | None = None) -> Recording:
    """Take a flow run out of a history, in whatever state it is, to `replay` it later. The call blocks.

    A result that is kept in a storage is read and becomes part of the recording. Of a root flow's own result the history
    knows nothing, unless it is persisted or the run has a run key: give the run's state, which has it.

    Args:
        run: Its id, or the state that it gave.
        database: File of the history. Default: the history that is current here, also one in memory.

    Returns:
        The recording. `save` writes it to a file.

    Raises:
        ObjectNotFound: There is no such flow run.
        FileNotFoundError: There is no such file.
        StoreError: The history cannot be read; the message says why.

    Example:
        >>> from callsheet import flow, task
        >>> from callsheet.testing import MemoryEngine, replay
        >>> @task
        ... def double(x: int) -> int:
        ...     print("doubling")
        ...     return 2 * x
        >>> @flow
        ... def total() -> int:
        ...     return double(1) + double(2)
        >>> with MemoryEngine():
        ...     recording = record(total(return_state=True))
        doubling
        doubling
        >>> replay(recording, total).result
        6
    """
    state = run if isinstance(run, State) else None
    details = None if state is None else state.state_details
    run_id = UUID(str(run)) if details is None else details.flow_run_id
    if run_id is None:
        raise ObjectNotFound(help_message="This is not the state of a flow run.")
    with _reading(database) as (reader, folder):
        reading = _Reading(reader, folder)
        recording = reading.whole(run_id)
        known, result = reading.result_of(recording.run) if state is None else _result_in(state)
    return msgspec.structs.replace(recording, has_result=known, result=result)


@contextmanager
def _reading(database: str | Path | None) -> Generator[tuple[Reader, Path | None], None, None]:
    """Give a reader of a history, and the folder with its results."""
    if database is None:
        place = ThreadPlace(current_core())
        try:
            step(place.catch_up())
            yield place.reader, place.core.blobs
        finally:
            step(place.reader.aclose())
        return
    if not Path(database).expanduser().is_file():
        raise FileNotFoundError(f"There is no history in '{database}'.")
    store = SqliteStore(database)
    store.open()
    reader = store.blocking_reader()
    try:
        store.adopt()
        yield reader, Path(store.location + "-results")
    finally:
        step(reader.aclose())
        store.close()


def _result_in(state: State[Any]) -> tuple[bool, ResultBlob | None]:
    if not state.is_completed() and not state.is_failed():
        return False, None
    data = state.data.result if isinstance(state.data, Kept) else state.data
    try:
        return (False, None) if data is NOT_RECORDED else (True, to_row(data))
    except (SerializationError, ConfigurationError):  # the latter: no key to encrypt with
        return False, None


class _Reading:
    """Reads what belongs to one flow run."""

    def __init__(self, reader: Reader, folder: Path | None) -> None:
        self._reader = reader
        self._folder = folder

    def whole(self, run_id: UUID) -> Recording:
        """Give a recording, without the result of the run itself.

        Raises:
            ObjectNotFound: There is no such flow run.
        """
        found = step(the_run(self._reader, Kind.FLOW, run_id))
        runs = self._tree(found)
        fork = fork_of(found)
        while fork is not None:
            source = step(the_run(self._reader, Kind.FLOW, fork.source_id))
            runs = [*self._tree(source), *runs]
            fork = fork_of(source)
        flows = [one.id for one in runs if one.kind is Kind.FLOW]
        states = step(self._reader.read_states_of(flows))
        outcomes = (one for flow in flows for one in step(self._reader.read_outcomes(flow, every=True)))
        return Recording(
            run_id=run_id,
            runs=tuple(self._as_ended(runs)),
            states=tuple(state for flow in flows for state in states.get(flow, ())),
            outcomes=tuple(map(self._portable, outcomes)),
            inputs=tuple(one for flow in flows for one in step(self._reader.read_inputs(flow))),
        )

    def _tree(self, root: RunRecord) -> list[RunRecord]:
        """Give a flow run and all that is in it, in order of creation."""
        kept, cursor = {root.id: root}, None
        where = RunFilter(root_ids=(root.root_id or root.id,))
        while True:
            page = step(self._reader.read_runs(where, limit=_PAGE, cursor=cursor))
            kept.update((one.id, one) for one in records_of(page.items) if one.parent_id in kept)
            cursor = page.cursor
            if cursor is None:
                return list(kept.values())

    def _as_ended(self, runs: Sequence[RunRecord]) -> Iterable[RunRecord]:
        """Give runs as they ended: what was rolled back later had completed. Who ran them is nobody's business."""
        undone = [one.id for one in runs if one.state is not None and one.state.name == ROLLED_BACK]
        before = step(self._reader.read_states_of(undone)) if undone else {}
        for one in runs:
            state = before[one.id][-2] if one.id in before else one.state
            yield msgspec.structs.replace(one, state=state, owner=None, fence=0)

    def _portable(self, outcome: OutcomeRecord) -> OutcomeRecord:
        """Give an entry of the journal whose result is in it; of one that cannot be read no result is recorded."""
        blob = outcome.result
        if blob is None or (blob.codec == RECORD and blob.inline is not None):
            return outcome
        try:
            return msgspec.structs.replace(outcome, result=self._inline(blob, outcome.run_id))
        except CallsheetError:
            return msgspec.structs.replace(outcome, result=None, recorded=False)

    def _inline(self, blob: ResultBlob, run_id: UUID) -> ResultBlob:
        """Give a result that is kept elsewhere.

        Raises:
            CallsheetError: It cannot be had.
        """
        kept = step(recall(blocking(), blob, self._folder, run_id=run_id, run=str(run_id)))
        content = kept.serialize()
        return ResultBlob(RECORD, len(content), inline=content)

    def result_of(self, run: RunRecord) -> tuple[bool, ResultBlob | None]:
        """Give what a flow run itself gave, and whether that is known."""
        journal = run.flow_run_id or run.id
        for outcome in step(self._reader.read_outcomes(journal, run_id=run.id)):
            portable = self._portable(outcome)
            return portable.recorded, portable.result
        details = None if run.state is None else run.state.details
        metadata = None if details is None else _unpack(details).get(RESULT)
        if metadata is None:
            return False, None
        try:
            return True, self._inline(ResultBlob(METADATA, len(metadata), inline=metadata), run.id)
        except CallsheetError:
            return False, None
