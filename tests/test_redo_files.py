"""Files of the redo log: torn ones, closed ones, those that came through a power loss; and two processes at one of them."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import threading
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from callsheet._kernel.journal import Journal
from callsheet._model.kinds import Durability
from callsheet._store import logfile, places, sqlite
from callsheet._store.logfile import SEGMENT, LogFile
from callsheet._store.proofs import folder_beside
from callsheet._store.sqlite import SqliteStore
from callsheet.exceptions import StoreTooNew
from test_redo import a_run, in_log, logs, names

KINDS = pytest.mark.parametrize("kind", ["tmpfs", "overlay"])
"""Written by memory, and by calls."""


def a_file(folder: Path, kind: str, number: int = 0) -> LogFile:
    return LogFile(folder, kind, 0o644, number)


@KINDS
def test_what_was_appended_is_read_in_order(tmp_path: Path, kind: str) -> None:
    file = a_file(tmp_path, kind, number=7)
    for body in (b"a", b"", b"ccc"):
        assert file.append(3, body, 7)
    assert logfile.newest(file.path) == 10
    assert logfile.seal_and_read(file.path) == [(8, 3, b"a"), (9, 3, b""), (10, 3, b"ccc")]
    assert file.is_sealed
    file.close()


@KINDS
@settings(max_examples=60)
@given(sizes=st.lists(st.integers(0, 300), min_size=1, max_size=8), data=st.data())
def test_a_file_that_is_torn_anywhere_gives_what_was_whole(
    tmp_path_factory: pytest.TempPathFactory, kind: str, sizes: list[int], data: st.DataObject
) -> None:
    """Of a write that was under way when the process was killed, any part may be there."""
    file = a_file(tmp_path_factory.mktemp("log"), kind)
    before = [file.path.read_bytes()]
    for number, size in enumerate(sizes, 1):
        assert file.append(0, bytes([number]) * size, 0)
        before.append(file.path.read_bytes())
    whole = data.draw(st.integers(0, len(sizes) - 1), label="batches that are whole")
    early, late = before[whole], before[whole + 1]
    changed = [at for at in range(64, len(late[:4096])) if early[at] != late[at]]
    there = data.draw(st.sets(st.sampled_from(changed)) if changed else st.just(set()), label="bytes that are there")
    torn = bytearray(early)
    for at in there:
        torn[at] = late[at]
    found = logfile.read(bytes(torn))
    expected = whole + (there == set(changed))
    assert [batch.number for batch in found] == list(range(1, expected + 1))
    assert found == logfile.read(late)[:expected]
    file.drop()


@KINDS
@settings(max_examples=40)
@given(
    steps=st.lists(
        st.one_of(
            st.tuples(st.just("append"), st.integers(0, SEGMENT // 3)),
            st.tuples(st.just("settle"), st.integers(0, 6)),
        ),
        max_size=60,
    )
)
def test_what_is_not_settled_is_never_written_over(
    tmp_path_factory: pytest.TempPathFactory, kind: str, steps: list[tuple[str, int]]
) -> None:
    file = a_file(tmp_path_factory.mktemp("log"), kind)
    settled, sizes = 0, dict[int, int]()
    for what, much in steps:
        if what == "settle":
            settled = min(file.number, settled + much)
        elif file.append(0, bytes(much), settled):
            sizes[file.number] = much
        else:
            assert file.number > settled, "an empty log has room"
        found = [batch for batch in logfile.read(file.path.read_bytes()) if batch.number > settled]
        assert [batch.number for batch in found] == list(range(settled + 1, file.number + 1))
        assert [len(batch.body) for batch in found] == [sizes[batch.number] for batch in found]
    file.drop()


def test_a_batch_that_is_larger_than_a_segment_goes_to_the_tables(tmp_path: Path) -> None:
    file = a_file(tmp_path, "tmpfs")
    assert not file.append(0, bytes(SEGMENT), 0)
    assert file.append(0, bytes(SEGMENT - 24), 0)
    assert len(logfile.seal_and_read(file.path)) == 1
    file.close()


# ------------------------------------------------------------------------------------------ in a store


@pytest.fixture(params=["mapped", "called"])
def store(tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Any:
    if request.param == "called":
        monkeypatch.setattr(places, "kind_of", lambda folder: "btrfs")
    store = SqliteStore(tmp_path / "h.db")
    store.open()
    yield store
    store.close()


def other(store: SqliteStore) -> SqliteStore:
    other = SqliteStore(store.path)
    other.open()
    return other


def test_a_log_that_others_have_closed_is_followed_by_another(store: SqliteStore) -> None:
    first, second, third = a_run(), a_run(), a_run()
    number = store.append(first)
    assert number == 1
    (file,) = logs(store.path)
    reader = other(store)  # whoever opens the database closes what there is
    assert not file.exists()
    assert store.append(second) is None, "it would be in a file that nobody reads any more"
    assert store.append(second) is None, "what was appended is not known to be in the tables"
    assert store.try_commit([*first, *second], settled=number) == []
    assert store.append(third) == 2
    assert in_log(store.path) == 1
    reader.adopt()
    assert in_log(store.path) == 0
    reader.close()
    assert names(store.path) == ["Completed"] * 3


def test_reading_what_a_living_owner_has_does_not_close_its_log(store: SqliteStore) -> None:
    reader = other(store)
    first, second = a_run(), a_run()
    for number, run in enumerate((first, second), 1):
        assert store.append(run) == number
        assert reader.adoptable()
        reader.adopt()
        assert not reader.adoptable()
        assert in_log(store.path) == 0
    assert len(logs(store.path)) == 1
    assert store.try_commit(first, settled=1) == []
    assert reader.adoptable(), "its owner knows of the first only"
    reader.adopt()
    assert not reader.adoptable()
    reader.close()
    store.forget_after_fork()
    assert names(store.path) == ["Completed"] * 2


def test_a_log_whose_end_makes_no_sense_is_closed_by_who_reads(
    store: SqliteStore, caplog: pytest.LogCaptureFixture
) -> None:
    assert store.append(a_run())
    reader = other(store)  # closes it
    run = a_run()
    assert store.append(run) is None
    assert store.try_commit(run, settled=1) == []
    assert store.append(a_run())
    with closing(sqlite3.connect(store.path)) as db, db:
        db.execute("UPDATE redo_log SET epoch = 0")
    reader.adopt()
    assert not reader.adoptable()
    assert "power loss" in caplog.text
    assert not logs(store.path)
    reader.close()


def test_a_log_that_was_closed_by_somebody_who_then_died_loses_nothing(store: SqliteStore) -> None:
    run = a_run()
    number = store.append(run)
    (file,) = logs(store.path)
    logfile.seal_and_read(file)
    late = a_run()
    assert store.append(late) is None
    assert store.try_commit([*run, *late], settled=number or 0) == []
    assert store.append(a_run()) is not None
    assert len(logs(store.path)) == 1
    store.forget_after_fork()
    assert names(store.path) == ["Completed"] * 3


def test_a_file_that_was_removed_is_not_used_any_more(store: SqliteStore, monkeypatch: pytest.MonkeyPatch) -> None:
    run = a_run()
    assert store.append(run)
    (file,) = logs(store.path)
    file.unlink()
    monkeypatch.setattr(sqlite, "_LOOK", 0.0)
    monkeypatch.setattr(store._presence, "_again", 0.0)
    assert store.append(a_run()) is None
    assert store.try_commit(run, settled=1) == []
    assert store.append(a_run())


def test_a_disk_that_has_no_room_for_a_log(store: SqliteStore, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: object) -> None:
        raise OSError(28, "No space left on device")

    for name in ("posix_fallocate", "ftruncate"):
        monkeypatch.setattr(os, name, full)
    run = a_run()
    assert store.append(run) is None
    assert store.append(run) is None
    assert store.try_commit(run) == []
    assert not logs(store.path)


def test_a_disk_that_refuses_a_batch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(places, "kind_of", lambda folder: "")
    store = SqliteStore(tmp_path / "h.db")
    store.open()
    first, second = a_run(), a_run()
    assert store.append(first) == 1
    monkeypatch.setattr(os, "pwrite", lambda file, content, at: 1)
    assert store.append(second) is None
    assert store.append(second) is None
    monkeypatch.undo()
    store.forget_after_fork()
    assert names(store.path) == ["Completed"]


def test_what_nobody_has_foreseen_leaves_the_batch_to_the_tables(
    store: SqliteStore, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*args: object) -> None:
        raise TypeError("not of the disk's making")

    journal = Journal(store, Durability.RESULTS, gather=0.001)
    journal.start()
    monkeypatch.setattr(logfile, "crc32", broken)
    position = journal.put(*a_run())
    assert journal.flush_here(position)  # in the tables
    assert "goes to the tables" in caplog.text
    monkeypatch.undo()
    assert not journal.close()
    store.close()
    assert names(store.path) == ["Completed"]


def test_what_follows_something_that_is_lost_is_left_out(store: SqliteStore, caplog: pytest.LogCaptureFixture) -> None:
    """A power loss takes the latest transactions of the database, and may leave later pages of the log."""
    with closing(sqlite3.connect(store.path)) as db, db:
        for _ in range(2 * SEGMENT // 90_000):  # more than fits: the first ones are written over
            run = a_run(message="x" * 100_000)
            number = store.append(run)
            assert number is not None
            if number == 1:
                (before,) = db.execute("SELECT settled FROM redo_log").fetchall()
            assert store.try_commit(run, settled=number) == []
        assert store.append(a_run())
        db.execute("UPDATE redo_log SET settled = ?", before)
        db.execute("DELETE FROM run")
    store.forget_after_fork()
    assert names(store.path) == []
    assert "power loss" in caplog.text


def test_what_follows_a_transaction_that_is_lost_is_left_out(
    store: SqliteStore, caplog: pytest.LogCaptureFixture
) -> None:
    assert store.append(a_run())
    with closing(sqlite3.connect(store.path)) as db:
        (before,) = db.execute("SELECT epoch FROM redo_log").fetchall()
    assert store.try_commit([]) == []  # as a sign of life, or a run that is taken up
    assert store.append(a_run())
    with closing(sqlite3.connect(store.path)) as db, db:
        db.execute("UPDATE redo_log SET epoch = ?", before)
    store.forget_after_fork()
    assert names(store.path) == ["Completed"]
    assert "power loss" in caplog.text


def test_a_program_that_became_too_old_appends_nothing(store: SqliteStore) -> None:
    """A newer one closes every log when it opens the database."""
    assert store.append(a_run())
    with closing(sqlite3.connect(store.path)) as db, db:
        db.execute("UPDATE meta SET value = 99 WHERE key = 'min_writer'")
    run = a_run()
    (file,) = logs(store.path)
    logfile.seal_and_read(file)
    assert store.append(run) is None
    with pytest.raises(StoreTooNew):
        store.try_commit(run, settled=1)


def test_a_forked_child_does_not_write_to_the_log_of_its_parent(store: SqliteStore) -> None:
    assert store.append(a_run())
    child = os.fork()
    if child == 0:
        try:
            store.append(a_run())
        except BaseException:
            os._exit(7)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7, "its store is closed"
    assert in_log(store.path) == 1
    assert store.append(a_run()) == 2


def test_files_that_nobody_knows_are_removed_a_day_later(store: SqliteStore) -> None:
    folder = folder_beside(store.path)
    folder.mkdir(exist_ok=True)
    old, young = folder / "redo-1", folder / "redo-2"
    for file, age in ((old, 90_000), (young, 3_000)):
        file.touch()
        at = file.stat().st_mtime - age
        os.utime(file, (at, at))
    other(store).close()
    assert logs(store.path) == [young]


# ----------------------------------------------------------------------------------------- two processes

APPENDS = """
import sys
sys.path.insert(0, sys.argv[2])
from test_redo import SqliteStore, a_run
store = SqliteStore(sys.argv[1]); store.open()
waiting = []
for _ in range(int(sys.argv[3])):
    run = a_run()
    waiting += run
    if store.append(run) is None:
        while store.try_commit(waiting, settled=sys.maxsize) is None:
            pass
        waiting.clear()
    elif len(waiting) > 60:
        while store.try_commit(waiting, settled=sys.maxsize) is None:
            pass
        waiting.clear()
    print(run[0].id, flush=True)
print("end", flush=True)
sys.stdin.readline()
"""


def test_what_was_acknowledged_is_there_whoever_reads_the_log_meanwhile(tmp_path: Path) -> None:
    """One process appends and is killed, another one reads its logs all the time, and closes some."""
    path = tmp_path / "h.db"
    reader = SqliteStore(path)
    reader.open()
    command = [sys.executable, "-c", APPENDS, str(path), str(Path(__file__).parent), "1500"]
    told: list[str] = []
    with subprocess.Popen(command, stdout=subprocess.PIPE, stdin=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None
        ended = threading.Event()

        def listen() -> None:
            for line in writer.stdout or ():
                if line.strip() == "end":
                    break
                told.append(line.strip())
            ended.set()

        listener = threading.Thread(target=listen)
        listener.start()
        rounds = 0
        while not ended.is_set():
            rounds += reader.adoptable()
            reader.adopt()
            if rounds % 5 == 0:
                other(reader).close()  # whoever opens the database closes all logs
        writer.send_signal(signal.SIGKILL)
        listener.join()
    reader.close()
    assert len(told) == 1500
    assert set(told) == set(ids(path))


def ids(path: Path) -> list[str]:
    store = SqliteStore(path)
    store.open()
    store.close()
    with closing(sqlite3.connect(path)) as db:
        return [str(sqlite_id(row[0])) for row in db.execute("SELECT id FROM run WHERE state_type IS NOT NULL")]


def sqlite_id(value: bytes) -> Any:
    from uuid import UUID

    return UUID(bytes=value)
