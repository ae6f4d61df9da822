"""Lives that were cut off, for tests: a history is copied while a run is under way, and the run goes on in the copy.

For the copy, the engine that ran it is simply gone.
"""

from __future__ import annotations

import shutil
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from uuid import UUID

import msgspec
import pytest

from callsheet._engine.ambient import ambient_core, open_core
from callsheet._engine.core import Core
from callsheet._engine.reviving import revive
from callsheet._kernel.ports import step
from callsheet._model.kinds import Kind
from callsheet._model.records import RunFilter, RunRecord
from callsheet.settings import get_current_settings

PATIENCE = 50.0  # seconds; only ever waited for by a test that fails


class Lives:
    """Cuts runs off, and takes them up in other engines."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._count = 0
        self.core: Core | None = None  # of the latest life

    @property
    def path(self) -> Path:
        """The file of the latest copy."""
        return self._folder / f"life-{self._count}.db"

    def cut(self, core: Core | None = None) -> Path:
        """Copy the history as it is now."""
        core = core or self.core or ambient_core()
        core.journal.flush()
        self._count += 1
        with closing(sqlite3.connect(core.store.location)) as source, closing(sqlite3.connect(self.path)) as copy:
            source.backup(copy)
        results = Path(f"{core.store.location}-results")
        if results.exists():
            shutil.copytree(results, f"{self.path}-results")
        return self.path

    def open(self) -> Core:
        """Open an engine on the latest copy."""
        self.close()
        settings = msgspec.structs.replace(get_current_settings(), database=str(self.path))
        self.core = open_core(settings)
        return self.core

    def go_on(self, flow: Any, **options: Any) -> Any:
        """Take the flow run up in the latest copy, and give its actor when it has ended."""
        core = self.open()
        (root,) = [run for run in self.runs(kind=Kind.FLOW) if run.parent_id is None]
        return self.wait(revive(core, root.id, flow, **options))

    def wait(self, run: Any) -> Any:
        """Wait for the end of a run."""
        ended = threading.Event()
        run.when_ended().subscribe(ended.set)
        assert ended.wait(PATIENCE)
        return run

    def runs(self, **where: Any) -> list[RunRecord]:
        """Give the runs of the latest life, in order of creation."""
        return self._read(lambda reader: reader.read_runs(RunFilter(**where), limit=1000)).items

    def states(self, run_id: UUID) -> list[str]:
        """Name every state that a run has entered."""
        return [state.name for state in self._read(lambda reader: reader.read_states(run_id))]

    def _read(self, read: Any) -> Any:
        assert self.core is not None
        self.core.journal.flush()
        reader = self.core.store.blocking_reader()
        try:
            return step(read(reader))
        finally:
            step(reader.aclose())

    def close(self) -> None:
        """Close the engine of the latest life."""
        core, self.core = self.core, None
        if core is not None:
            core.close()


@pytest.fixture
def lives(tmp_path: Path) -> Iterator[Lives]:
    """Give somebody who cuts runs off."""
    made = Lives(tmp_path)
    yield made
    made.close()


class Doings:
    """What bodies did, and where the first life is cut off."""

    def __init__(self, lives: Lives) -> None:
        self._lives = lives
        self.done: list[Any] = []
        self.was_cut = False

    def cut(self, core: Any = None) -> None:
        """Cut the first life off here; what is done in it from now on does not count."""
        if not self.was_cut:
            self._lives.cut(core)
            self.was_cut = True
            self._counted, self.done = self.done, _Deaf()

    def again(self, flow: Any, **options: Any) -> Any:
        """Take the run up; `done` begins anew."""
        assert self.was_cut
        self.done = []
        return self._lives.go_on(flow, **options)


class _Deaf(list[Any]):
    def append(self, _: Any) -> None:
        pass


@pytest.fixture
def doings(lives: Lives) -> Doings:
    """Give a place where bodies say what they do."""
    made = Doings(lives)
    return made
