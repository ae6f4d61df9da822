"""The redo log: durable in a file, in the tables a moment later, never in neither."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import threading
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import pytest

from callsheet import get_client
from callsheet._engine import ambient
from callsheet._ids import new_id
from callsheet._kernel import journal as journal_module
from callsheet._kernel.journal import Journal
from callsheet._kernel.ports import step
from callsheet._model.kinds import Durability, Kind, StateType
from callsheet._model.records import Definition, Entry, RunCreated, RunFilter, SeqIs, StateEntered
from callsheet._store import logfile, redo
from callsheet._store.proofs import folder_beside
from callsheet._store.rows import Encoder
from callsheet._store.sqlite import SqliteStore
from callsheet.settings import temporary_settings

TASK = Definition(Kind.TASK, "m.work", "work", "1")


def a_run(**changes: object) -> list[Entry]:
    run = new_id()
    at = time.time_ns() // 1000
    return [
        RunCreated(id=run, kind=Kind.TASK, definition=TASK, name="work-1", created=at, tags=("a",)),
        StateEntered(run_id=run, seq=1, type=StateType.PENDING, name="Pending", at=at),
        StateEntered(run_id=run, seq=2, type=StateType.COMPLETED, name="Completed", at=at, attempt=1, **changes),  # type: ignore[arg-type]
    ]


def names(path: Path) -> list[str]:
    store = SqliteStore(path)
    store.open()
    reader = store.blocking_reader()
    page = step(reader.read_runs(RunFilter()))
    step(reader.aclose())
    store.close()
    return [run.state.name for run in page.items]  # type: ignore[attr-defined]


def in_log(path: Path) -> int:
    """Count the batches that are in logs and not in the tables."""
    with closing(sqlite3.connect(path)) as connection:
        rows = connection.execute("SELECT name, settled FROM redo_log").fetchall()
    return sum(
        batch.number > settled
        for name, settled in rows
        for batch in logfile.read((folder_beside(path) / name).read_bytes())
    )


def logs(path: Path) -> list[Path]:
    """Give the files of logs."""
    return list(folder_beside(path).glob("redo-*"))


def test_what_was_appended_is_in_the_tables_after_the_commit_that_settles_it(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "h.db")
    store.open()
    first, second = a_run(), a_run()
    number = store.append(first)
    assert number is not None
    assert in_log(store.path) == 1
    assert store.try_commit([*first, *second], settled=number) == []
    assert in_log(store.path) == 0
    assert logs(store.path)
    store.close()
    assert not logs(store.path)
    assert names(tmp_path / "h.db") == ["Completed", "Completed"]


def test_what_a_killed_process_left_is_written_by_the_next_to_open(tmp_path: Path) -> None:
    path = tmp_path / "h.db"
    script = (
        "import os, sys\n"
        "sys.path.insert(0, sys.argv[2])\n"
        "from test_redo import SqliteStore, a_run\n"
        "store = SqliteStore(sys.argv[1]); store.open()\n"
        "assert all(store.append(a_run()) for _ in range(3))\n"
        "os._exit(9)\n"
    )
    done = subprocess.run([sys.executable, "-c", script, path, Path(__file__).parent], check=False)
    assert done.returncode == 9
    assert in_log(path) == 3
    assert names(path) == ["Completed"] * 3
    assert in_log(path) == 0
    assert not logs(path)


def test_a_living_process_sees_to_what_a_dead_one_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    living, dead = SqliteStore(tmp_path / "h.db"), SqliteStore(tmp_path / "h.db")
    living.open()
    dead.open()
    assert dead.append(a_run()) is not None
    dead.forget_after_fork()  # gone without a word
    living.tend()
    assert in_log(living.path) == 1, "its owner may be about to write the tables"
    monkeypatch.setattr(living, "_tend_again", 0.0)
    living.tend()
    assert in_log(living.path) == 0
    living.close()


@pytest.mark.parametrize("change", [{"name": 5}, {"parent_id": "no id"}, {"definition": None}], ids=repr)
def test_what_cannot_be_read_is_left_out_and_the_rest_is_not(
    change: dict[str, Any], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """It comes of a bug, and must not keep a history from being opened for ever."""
    store = SqliteStore(tmp_path / "h.db")
    store.open()
    created, *rest = a_run()
    assert store.append([msgspec.structs.replace(created, id=new_id(), **change), created, *rest])
    store.close()
    assert names(store.path) == ["Completed"]
    assert in_log(store.path) == 0
    assert "left out of history" in caplog.text


def test_a_batch_that_is_no_batch_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    store = SqliteStore(tmp_path / "h.db")
    store.open()
    assert store.append(a_run())
    monkeypatch.setattr(redo, "encode", lambda entries: b"\xc1\xff")
    assert store.append(a_run())
    store.close()
    assert names(store.path) == ["Completed"]
    assert in_log(store.path) == 0
    assert "left out of history" in caplog.text


def test_rows_that_an_older_program_left_are_written_to_the_tables(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "h.db")
    store.open()
    body = redo.encode(a_run())
    with closing(sqlite3.connect(store.path)) as connection, connection:
        connection.execute("INSERT INTO redo (owner, body) VALUES (1, ?)", (body,))
    store.close()
    assert names(store.path) == ["Completed"]
    with closing(sqlite3.connect(store.path)) as connection:
        assert connection.execute("SELECT count(*) FROM redo").fetchone() == (0,)


def test_what_can_be_read_and_not_written_is_left_out_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    store = SqliteStore(tmp_path / "h.db")
    store.open()
    bad, good = a_run(), a_run()
    assert store.append([*bad, *good])
    store.close()
    encode = Encoder.encode

    def refusing(self: Encoder, entries: Any, *skip: Any) -> Any:
        if bad[0] in entries:
            raise TypeError("unforeseen")
        return encode(self, entries, *skip)

    monkeypatch.setattr(Encoder, "encode", refusing)
    assert names(store.path) == ["Completed"]
    assert "left out of history" in caplog.text


def test_entries_that_only_the_database_can_judge_are_not_appended(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "h.db")
    store.open()
    assert store.append(a_run(guards=(SeqIs(new_id(), 1),))) is None
    assert store.append(a_run(message="\ud800")) is None  # the tables' own encoding has an answer to that
    store.close()


def test_a_database_that_is_held_is_not_waited_for(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "h.db")
    store.open()
    with closing(sqlite3.connect(store.path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        assert store.append(a_run()) is None, "a log begins with a transaction"
        other.execute("ROLLBACK")
        assert not logs(store.path)
        assert store.append(a_run()) == 1
        other.execute("BEGIN IMMEDIATE")
        assert store.append(a_run()) == 2, "who appends needs nobody's leave"
        other.execute("ROLLBACK")
    store.close()
    assert names(store.path) == ["Completed", "Completed"]


def test_a_journal_shows_what_was_committed_on_the_spot(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "h.db")
    journal = Journal(store, Durability.RESULTS, gather=60.0)  # the thread does nothing by itself
    journal.start()
    position = journal.put(*a_run())
    assert journal.flush_here(position)
    assert (journal.committed, journal.shown) == (position, 0)
    shown = threading.Event()
    journal.notify_shown(position, shown.set)
    assert shown.wait(10)
    assert journal.shown == position
    assert in_log(store.path) == 0
    assert not journal.close()
    store.close()
    assert names(tmp_path / "h.db") == ["Completed"]


def test_what_is_logged_is_synced_with_the_tables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The log itself is never synced: what it holds is in the tables by then."""
    store = SqliteStore(tmp_path / "h.db")
    monkeypatch.setattr(journal_module, "SETTLE_AFTER", 60.0)
    synced: list[int] = []
    done = threading.Event()
    commit = store.try_commit

    def recording(entries: Any, *, sync: bool = False, settled: int = 0) -> Any:
        refused = commit(entries, sync=sync, settled=settled)
        if sync and refused is not None:
            synced.append(in_log(store.path))
            done.set()
        return refused

    monkeypatch.setattr(store, "try_commit", recording)
    journal = Journal(store, Durability.RESULTS, gather=0.001, sync_interval=0.01)
    journal.start()
    assert journal.flush_here(journal.put(*a_run()))
    assert done.wait(10)
    assert synced[0] == 0
    assert not journal.close()
    store.close()


def test_closing_leaves_nothing_in_the_log(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "h.db")
    journal = Journal(store, Durability.RESULTS, gather=60.0)
    journal.start()
    for _ in range(50):
        assert journal.flush_here(journal.put(*a_run()))
    assert not journal.close()
    assert in_log(store.path) == 0
    store.close()
    assert names(tmp_path / "h.db") == ["Completed"] * 50


def test_callers_and_the_thread_together_keep_the_order(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "h.db")
    journal = Journal(store, Durability.RESULTS, gather=0.0)
    journal.start()

    def work() -> None:
        for _ in range(100):
            position = journal.put(*a_run())
            if not journal.flush_here(position):
                done = threading.Event()
                journal.notify(position, done.set)
                assert done.wait(20)
            assert journal.committed >= position

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    journal.flush()
    assert journal.shown == journal.committed == journal.accepted == 1200
    assert not journal.close()
    store.close()
    assert names(tmp_path / "h.db")[:200] == ["Completed"] * 200


def test_a_client_reads_what_another_process_has_in_the_log_only(tmp_path: Path) -> None:
    path = tmp_path / "h.db"
    with temporary_settings({"CALLSHEET_DATABASE": str(path)}):
        other = SqliteStore(path)
        other.open()
        run = a_run()
        assert other.append(run) is not None
        with get_client(sync_client=True) as client:
            assert client.read_task_run(run[0].id).state_name == "Completed"  # type: ignore[union-attr]
        other.close()
        ambient.close_database(str(path))
