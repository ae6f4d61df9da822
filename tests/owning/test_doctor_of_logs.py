"""`callsheet doctor` of redo logs: those of living processes and of killed ones, and whatever is wrong with them."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

import warm
from callsheet._store import doctor_logs, logfile
from callsheet._store.doctor import examine
from callsheet._store.doctor_logs import Log
from callsheet._store.proofs import folder_beside
from callsheet._store.sqlite import SqliteStore
from owning_helpers import PATIENCE, OwnerProcess, until
from test_redo import in_log, logs

only_linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux tells who has a file open")

APPENDS = """
import sys
sys.path.insert(0, sys.argv[2])
from test_redo import SqliteStore, a_run
store = SqliteStore(sys.argv[1]); store.open()
settled = a_run()
number = store.append(settled)
assert store.try_commit(settled, settled=number) == []
for _ in range(3):
    assert store.append(a_run())
print("appended", flush=True)
sys.stdin.readline()
"""


@pytest.fixture
def path(callsheet_home: Path) -> Path:
    return callsheet_home / "callsheet.db"


@contextmanager
def appending(path: Path) -> Iterator[subprocess.Popen[str]]:
    """Have a process append three batches that are not in the tables, and then wait."""
    tests = str(Path(__file__).parents[1])
    process = warm.start(APPENDS, path, tests, stdout=subprocess.PIPE, stdin=subprocess.PIPE)
    with process:
        assert process.stdout is not None
        assert process.stdout.readline() == "appended\n"
        yield process
        process.kill()


@pytest.fixture
def left(path: Path) -> Path:
    """Have a log whose process was killed."""
    with appending(path) as process:
        process.kill()
        process.wait()
    (file,) = logs(path)
    return file


def opened_once(path: Path) -> None:
    store = SqliteStore(path)
    store.open()
    store.close()


def the_log(path: Path) -> Log:
    (log,) = examine(path, watch=0.0, integrity=False).logs
    return log


def doctor(*words: str) -> tuple[int, str]:
    done = warm.run(warm.COMMAND, "doctor", "--watch", "0", *words, timeout=PATIENCE, check=False)
    return done.returncode, done.stdout


@only_linux
def test_the_log_of_a_living_process_and_of_a_killed_one(path: Path) -> None:
    with appending(path) as process:
        log = the_log(path)
        assert (log.status, log.processes, log.engines, log.batches) == ("open", (process.pid,), (), 3)
        assert log.bytes > 3 * 100
        code, said = doctor()
        assert code == 0
        assert (
            f"{log.name} open in process {process.pid}: 3 batches ({log.bytes:,} bytes) not in the tables yet" in said
        )
        process.kill()
        process.wait()
    left = the_log(path)
    assert (left.status, left.processes, left.batches, left.bytes) == ("left", (), 3, log.bytes)
    code, said = doctor()
    assert code == 0
    assert f"redo logs: 1, with 3 batches ({log.bytes:,} bytes) not in the tables yet" in said
    assert f"{log.name} left by a process that has ended: 3 batches" in said
    assert in_log(path) == 3, "looking changes nothing"


def test_the_log_of_a_process_that_cannot_be_seen(path: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """One in another container, say."""
    monkeypatch.setattr(doctor_logs, "_PROCESSES", tmp_path / "none")
    with appending(path) as process:
        assert (the_log(path).status, the_log(path).processes) == ("open", ())
        process.kill()
        process.wait()
    assert the_log(path).status == "left"


def test_what_the_doctor_advises_helps(path: Path, left: Path) -> None:
    assert "`callsheet flow-run ls` will do" in doctor()[1]
    warm.run(warm.COMMAND, "flow-run", "ls", timeout=PATIENCE, strict=True)
    assert not left.exists()
    code, said = doctor()
    assert code == 0
    assert "redo logs: 0, with 0 batches (0 bytes)" in said
    with closing(sqlite3.connect(path)) as db:
        assert db.execute("SELECT count(*) FROM run").fetchone() == (4,)


@only_linux
def test_the_log_of_an_engine_is_known_as_its(here: Path, path: Path) -> None:
    with OwnerProcess.engine(here, "await counting()") as owner:
        owner.hears("open")
        owner.hears("counting")
        until(lambda: logs(path))
        found = json.loads(doctor("--json")[1])
        (engine,) = found["engines"]
        (log,) = found["logs"]
        assert (log["status"], log["processes"], log["engines"]) == ("open", [owner.pid], [engine["id"]])
        assert f"open in process {owner.pid}, engine {engine['id']}:" in doctor()[1]
        owner.kill()
        assert json.loads(doctor("--json")[1])["logs"][0]["status"] == "left"


@pytest.fixture
def here(tmp_path: Path) -> Path:
    return tmp_path


def test_a_file_that_no_row_names(path: Path) -> None:
    store = SqliteStore(path)
    store.open()
    (folder_beside(path)).mkdir(exist_ok=True)
    (folder_beside(path) / f"{logfile.PREFIX}0").write_bytes(bytes(10))
    log = the_log(path)
    assert (log.name, log.status, log.batches) == (f"{logfile.PREFIX}0", "nameless", 0)
    code, said = doctor()
    assert code == 0
    assert "named by no row and used by nobody: nothing in it counts; it is removed when" in said
    store.close()


def test_a_row_without_its_file(path: Path, left: Path) -> None:
    left.unlink()
    assert the_log(path) == Log(name=left.name, status="missing")
    code, said = doctor()
    assert code == 0
    assert (
        "has no file any more: what was in it only is lost (a copy of a history needs the folder 'callsheet.db-engines'"
        in said
    )
    opened_once(path)
    assert examine(path, watch=0.0, integrity=False).logs == ()


@pytest.mark.parametrize("how", ["damaged", "a gap", "what it follows is lost"])
def test_a_log_whose_end_cannot_be_read(path: Path, left: Path, how: str) -> None:
    """What the doctor says is there is what the next to open writes."""
    there = 1
    if how == "damaged":
        content = bytearray(left.read_bytes())
        second = content.index(logfile.read(bytes(content))[2].body)  # the first one of the four is in the tables
        content[second + 5] ^= 1
        left.write_bytes(content)
    else:
        with closing(sqlite3.connect(path)) as db, db:
            db.execute(
                "UPDATE redo_log SET settled = settled - 9" if how == "a gap" else "UPDATE redo_log SET epoch = 0"
            )
        there = 0
    log = the_log(path)
    assert log.status == "left"
    assert log.batches == there
    assert log.unreadable >= 2
    code, said = doctor()
    assert code == 1
    assert f"the last {log.unreadable} batches CANNOT BE READ and will be left out of history" in said
    opened_once(path)
    with closing(sqlite3.connect(path)) as db:
        assert db.execute("SELECT count(*) FROM run").fetchone() == (1 + there,)
    assert doctor()[0] == 0


def test_a_log_that_was_cut_off(path: Path, left: Path) -> None:
    os.truncate(left, 10)
    assert the_log(path).error == "it has been cut off"
    code, said = doctor()
    assert code == 1
    assert "NOT READ WHOLE: it has been cut off" in said
    opened_once(path)
    assert doctor()[0] == 0


def test_a_log_that_this_user_may_not_read(path: Path, left: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read = Path.read_bytes

    def refused(self: Path) -> bytes:
        if self.name == left.name:
            raise PermissionError(13, "Permission denied")
        return read(self)

    monkeypatch.setattr(Path, "read_bytes", refused)
    log = the_log(path)
    assert (log.batches, log.error) == (0, "Permission denied")


def test_a_history_of_before_there_were_such_logs(tmp_path: Path) -> None:
    old = tmp_path / "old.db"
    with closing(sqlite3.connect(old)) as db:
        db.executescript((Path(__file__).parents[1] / "upgrades" / "schema_5.sql").read_text("utf-8"))
    report = examine(old, watch=0.0, integrity=False)
    assert (report.schema, report.logs) == (5, ())


def test_while_a_process_appends_and_settles_nothing_looks_wrong(path: Path) -> None:
    """The doctor reads files and rows one after the other, and the owner writes over segments meanwhile."""
    program = """
import sys
sys.path.insert(0, sys.argv[2])
from test_redo import SqliteStore, a_run
store = SqliteStore(sys.argv[1]); store.open()
print("open", flush=True)
while True:
    run = a_run(message="x" * 50_000)
    number = store.append(run)
    while store.try_commit(run, settled=number or 0) is None:
        pass
"""
    with warm.start(program, path, str(Path(__file__).parents[1]), stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        seen: list[Any] = []
        while len(seen) < 60:
            seen += [(log.status, log.unreadable, log.error) for log in examine(path, watch=0.0, integrity=False).logs]
        process.kill()
    assert {one[1:] for one in seen} == {(0, None)}
    assert {one[0] for one in seen} == {"open"}
