"""Locks between processes: killed, stopped and slow holders, clocks that jump, files that are torn."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import pytest

from callsheet._clock import machine
from callsheet._store import proofs
from callsheet.exceptions import StoreError, StoreLocked, StoreReadOnly
from callsheet.locking.database import DatabaseLockManager
from callsheet.locking.filesystem import FileSystemLockManager
from callsheet.locking.office import Answer, Office
from callsheet.locking.tickets import Ticket, decode
from locking_holders import HolderProcess

FAR = 30.0
LONG = 60.0  # a lease that no test lives to see
SHORT = 0.4


@pytest.fixture(params=["files", "database"])
def kind(request) -> str:
    return request.param


@pytest.fixture
def place(kind, tmp_path) -> Path:
    return tmp_path / ("locks" if kind == "files" else "history.db")


def manager(kind: str, place: Path, lease: float = LONG) -> Any:
    return {"files": FileSystemLockManager, "database": DatabaseLockManager}[kind](place, lease=lease)


def test_two_processes_exclude_each_other(kind, place):
    locks = manager(kind, place)
    with HolderProcess(kind, place, LONG) as other:
        assert other.ask("locks.acquire_lock('k', 'other')") == "True"
        assert locks.is_locked("k")
        assert locks.is_lock_holder("k", "other")
        assert not locks.acquire_lock("k", "me", acquire_timeout=0.05)
        assert not locks.wait_for_lock("k", timeout=0.05)
        assert other.ask("locks.release_lock('k', 'other')") == "None"
        assert locks.acquire_lock("k", "me", acquire_timeout=FAR)
        assert other.ask("locks.acquire_lock('k', 'other', 0.05)") == "False"
        other.tell("locks.acquire_lock('k', 'other', 30)")  # polls, and gets it when it is released
        locks.release_lock("k", "me")
        assert other.hear() == "True"


def test_many_processes_take_turns(kind, place):
    """Each adds one to a number in a file, which loses nothing only if they take turns."""
    number = place.parent / "number"
    number.write_text("0")
    step = (
        f"[locks.acquire_lock('k', NAME), open({str(number)!r}, 'r+').write("
        f"str(int(open({str(number)!r}).read()) + 1)), locks.release_lock('k', NAME)]"
    )
    with HolderProcess(kind, place, LONG) as a, HolderProcess(kind, place, LONG) as b:
        for other, name in ((a, "'a'"), (b, "'b'")):
            other.tell(f"[{step.replace('NAME', name)} for _ in range(20)] and 'done'")
        assert (a.hear(), b.hear()) == ("done", "done")
    assert number.read_text() == "40"


def test_the_lock_of_a_killed_process_is_free_at_once(kind, place):
    """By the evidence of its file's lock: the lease is far longer than the test may take."""
    locks = manager(kind, place)
    with HolderProcess(kind, place, LONG) as other:
        assert other.ask("locks.acquire_lock('k', 'other')") == "True"
        other.kill()
        assert not locks.is_locked("k")
        assert locks.wait_for_lock("k", timeout=FAR)
        assert locks.acquire_lock("k", "me", acquire_timeout=FAR)
    assert locks.is_lock_holder("k", "me")
    locks.release_lock("k", "me")


def test_a_waiter_gets_the_lock_of_a_process_that_is_killed_meanwhile(kind, place):
    locks = manager(kind, place)
    with HolderProcess(kind, place, LONG) as other:
        assert other.ask("locks.acquire_lock('k', 'other')") == "True"
        timer = threading.Timer(0.1, other.kill)
        timer.start()
        assert locks.acquire_lock("k", "me", acquire_timeout=FAR)
        timer.join()
    locks.release_lock("k", "me")


def test_without_evidence_the_lease_decides(kind, place, monkeypatch):
    """As for a holder on another machine."""
    locks = manager(kind, place)
    with HolderProcess(kind, place, SHORT) as other:
        assert other.ask("locks.acquire_lock('k', 'other')") == "True"
        monkeypatch.setattr(proofs, "machine_of", lambda folder: "elsewhere")
        other.kill()
        assert locks.is_locked("k")
        began = time.monotonic()
        assert locks.acquire_lock("k", "me", acquire_timeout=FAR)
        assert time.monotonic() - began >= SHORT * 0.9
    locks.release_lock("k", "me")


def test_a_stopped_holder_loses_its_lock_after_a_lease_and_is_told(kind, place):
    locks = manager(kind, place)
    with HolderProcess(kind, place, SHORT) as other:
        assert other.ask("locks.acquire_lock('k', 'other')") == "True"
        other.stop()
        began = time.monotonic()
        assert locks.acquire_lock("k", "me", acquire_timeout=FAR)
        assert time.monotonic() - began >= SHORT * 0.9
        other.go_on()
        assert other.ask("locks.is_lock_holder('k', 'other')") == "False"
        answer = other.ask("locks.release_lock('k', 'other')")
        assert answer == "ValueError: No lock held by other for transaction with key k"
        assert other.ask("locks.acquire_lock('k', 'other', 0.05)") == "False"
    assert locks.is_lock_holder("k", "me")
    locks.release_lock("k", "me")


def test_a_slow_holder_keeps_its_lock(kind, place):
    """Its main thread computes for several leases without a pause."""
    locks = manager(kind, place)
    with HolderProcess(kind, place, 1.5) as other:
        assert other.ask("locks.acquire_lock('k', 'other')") == "True"
        busy = "[0 for end in [time.monotonic() + 3] for _ in iter(lambda: time.monotonic() < end, False)] and 'done'"
        other.tell(busy)
        assert not locks.acquire_lock("k", "me", acquire_timeout=2.7)
        assert other.hear() == "done"
        assert other.ask("locks.release_lock('k', 'other')") == "None"


@pytest.mark.parametrize("jump", [-86_400.0, 86_400.0])
def test_a_clock_that_jumps_changes_nothing(kind, place, monkeypatch, jump):
    locks = manager(kind, place, lease=2.0)  # with a beat every half second, one while the other waits
    assert locks.acquire_lock("k", "me", hold_timeout=FAR)
    now = time.time
    monkeypatch.setattr(time, "time", lambda: now() + jump)
    monkeypatch.setattr(machine, "time_ns", lambda: int((now() + jump) * 1e9))
    with HolderProcess(kind, place, LONG) as other:
        assert other.ask("locks.acquire_lock('k', 'other', 0.7)") == "False"
        assert locks.is_lock_holder("k", "me")
        locks.release_lock("k", "me")
        assert other.ask("locks.acquire_lock('k', 'other', 30)") == "True"
        assert not locks.acquire_lock("k", "me", acquire_timeout=0.05)


def test_time_in_which_the_watcher_itself_stood_still_hardly_counts(monkeypatch, place):
    """A frozen container wakes, and finds the holder, frozen with it, without a sign for an hour."""
    now = 1000.0
    monkeypatch.setattr(machine, "monotonic", lambda: now)
    watch = proofs.Watch()
    assert not watch.look(1, 10.0)
    now += 3600
    assert not watch.look(1, 10.0)
    for _ in range(2):
        now += 2.5
        assert not watch.look(1, 10.0)
    now += 2.5
    assert watch.look(1, 10.0)
    assert not watch.look(2, 10.0)


# --------------------------------------------------------------------------------------------- the files


@pytest.mark.parametrize("content", [b"", b'{"holder": "a', b"\xff\xfe", b'{"key": "k", "holder": "foreign"}'])
def test_a_torn_or_foreign_lock_file_is_held_by_nobody_we_know_and_frees_itself(tmp_path, monkeypatch, content):
    monkeypatch.setattr("callsheet.locking.tickets.LEASE", SHORT)
    locks = FileSystemLockManager(tmp_path)
    (tmp_path / "k.lock").write_bytes(content)
    assert locks.is_locked("k")
    assert not locks.acquire_lock("k", "me", acquire_timeout=0.02)
    assert locks.acquire_lock("k", "me", acquire_timeout=FAR)
    locks.release_lock("k", "me")
    assert decode(content).is_same(decode(content))


def test_a_lock_file_that_is_removed_is_a_lock_that_is_lost(tmp_path, caplog):
    locks = FileSystemLockManager(tmp_path, lease=0.2)
    with caplog.at_level("WARNING", "callsheet.locking"):
        assert locks.acquire_lock("k", "me")
        (tmp_path / "k.lock").unlink()
        assert not locks.is_lock_holder("k", "me")
        deadline = time.monotonic() + FAR
        while not caplog.records and time.monotonic() < deadline:
            time.sleep(0.01)
    assert "released or taken over" in caplog.text
    with pytest.raises(ValueError, match="No lock held by me"):
        locks.release_lock("k", "me")


def test_a_release_notices_that_the_lock_is_gone(tmp_path):
    locks = FileSystemLockManager(tmp_path)
    assert locks.acquire_lock("k", "me")
    (tmp_path / "k.lock").unlink()
    with pytest.raises(ValueError, match="No lock held by me"):
        locks.release_lock("k", "me")
    assert locks.acquire_lock("k", "you", acquire_timeout=0)
    locks.release_lock("k", "you")


def test_a_folder_that_cannot_be_used_is_a_clear_error(tmp_path):
    (tmp_path / "file").write_text("")
    locks = FileSystemLockManager(tmp_path / "file")
    assert not locks.is_locked("k")
    with pytest.raises(StoreError, match=r"Give this user write access|cannot be used"):
        locks.acquire_lock("k", "me", acquire_timeout=0)
    (tmp_path / "folder.lock").mkdir()
    with pytest.raises(StoreError, match="cannot be used"):
        FileSystemLockManager(tmp_path).is_locked("folder")


def test_a_guard_that_somebody_keeps_delays_and_then_says_so(tmp_path):
    import fcntl

    locks = FileSystemLockManager(tmp_path)
    locks.acquire_lock("other", "me")
    with (tmp_path / ".owners" / "guard").open("w") as guard:
        fcntl.flock(guard, fcntl.LOCK_EX)
        assert not locks.acquire_lock("k", "me", acquire_timeout=0.1)
        with pytest.raises(StoreLocked, match="End or continue that process"):
            locks._place.swap("k", None, None, 0.02)
    assert locks.acquire_lock("k", "me", acquire_timeout=FAR)
    locks.release_lock("k", "me")
    locks.release_lock("other", "me")


def test_a_renewal_that_fails_is_tried_again(tmp_path, caplog):
    locks = FileSystemLockManager(tmp_path, lease=0.4)
    swap, failures = locks._place.swap, []

    def failing(*args: Any) -> bool:
        if len(failures) < 2:
            failures.append(args)
            raise StoreReadOnly("no")
        return swap(*args)

    with caplog.at_level("WARNING", "callsheet.locking"):
        assert locks.acquire_lock("k", "me")
        locks._office.place.swap = failing  # type: ignore
        deadline = time.monotonic() + FAR
        while len(failures) < 2 and time.monotonic() < deadline:
            time.sleep(0.01)
        first = locks._place.read("k").beat
        while locks._place.read("k").beat == first and time.monotonic() < deadline:
            time.sleep(0.01)
    assert "will be tried again: no" in caplog.text
    assert locks.is_lock_holder("k", "me")
    locks.release_lock("k", "me")


def test_files_of_processes_that_died_long_ago_are_removed(tmp_path):
    import os

    folder = tmp_path / ".owners"
    folder.mkdir()
    old, new = folder / ("a" * 32), folder / ("b" * 32)
    for path in (old, new):
        path.touch()
    os.utime(old, (1, 1))
    locks = FileSystemLockManager(tmp_path)
    locks.acquire_lock("k", "me")
    assert not old.exists()
    assert new.exists()
    locks.release_lock("k", "me")


def test_an_office_without_locks_leaves_no_proof_behind(tmp_path):
    locks = FileSystemLockManager(tmp_path)
    locks.acquire_lock("k", "me")
    files = [path for path in (tmp_path / ".owners").iterdir() if len(path.name) == 32]
    assert len(files) == 1
    locks._office.close_if_idle()
    assert files[0].exists()
    locks.release_lock("k", "me")
    locks._office.close_if_idle()
    assert not files[0].exists()


def test_where_file_locks_mean_nothing_there_is_no_evidence(tmp_path, monkeypatch):
    def refuse(*_: Any) -> None:
        raise OSError(37, "No locks available")

    monkeypatch.setattr(proofs.fcntl, "lockf", refuse)
    owner = proofs.Proof(tmp_path)
    assert owner.machine == ""
    ticket = Ticket(holder="a", owner=owner.name, machine="", lease=1.0)
    assert not proofs.is_gone(tmp_path, ticket.machine, ticket.owner)
    owner.close()
    assert proofs.machine_of(tmp_path / "nowhere") == ""
    gone = Ticket(holder="a", owner="c" * 32, machine=proofs.machine_of(tmp_path), lease=1.0)
    assert not proofs.is_gone(tmp_path, gone.machine, gone.owner)  # no file, no evidence


def test_a_ticket_of_this_process_that_nobody_keeps_is_free(tmp_path):
    """A release that failed half-way: the token is forgotten, the file is still there."""
    locks = FileSystemLockManager(tmp_path)
    locks.acquire_lock("k", "me")
    own = locks._office
    assert isinstance(own, Office)
    own._drop("k", own._held["k"].ticket.token)
    assert own.attempt("k", "you", None, LONG) is Answer.TAKEN
    locks.release_lock("k", "you")
