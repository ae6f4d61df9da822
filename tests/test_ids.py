"""Ids of runs: no two are the same, and their order is that in which they were made."""

from __future__ import annotations

import os
import threading
from uuid import RFC_4122, UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callsheet import _ids
from callsheet._clock import machine
from callsheet._ids import new_id, repeatable


@pytest.fixture(autouse=True)
def as_before(monkeypatch):
    """Leave no millisecond of another time behind."""
    monkeypatch.setattr(_ids, "_time", -1)
    monkeypatch.setattr(_ids, "_counted", _ids._counted)


def test_ids_of_a_millisecond_differ_and_ascend_by_no_step_that_could_be_guessed(monkeypatch):
    now = machine.time_ns() + 3_600_000_000_000
    monkeypatch.setattr(machine, "time_ns", lambda: now)
    made = [new_id() for _ in range(10_000)]
    assert made == sorted(set(made))
    assert {(one.version, one.variant, one.int >> 80) for one in made} == {(7, RFC_4122, now // 1_000_000)}
    assert made[1].int - made[0].int > 1
    monkeypatch.undo()


@given(st.lists(st.integers(-5, 5), max_size=40))
def test_ids_ascend_whatever_the_clock_does(jumps):
    now, made = machine.time_ns(), list[UUID]()
    time_ns = machine.time_ns
    try:
        for jump in jumps:
            now += jump * 500_000
            machine.time_ns = lambda now=now: now
            made.append(new_id())
    finally:
        machine.time_ns = time_ns
    assert made == sorted(set(made))


def test_threads_make_different_ids_each_in_order():
    found: list[list[UUID]] = []
    threads = [threading.Thread(target=lambda: found.append([new_id() for _ in range(5_000)])) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(ids == sorted(ids) for ids in found)
    assert len({one for ids in found for one in ids}) == 20_000


def test_a_forked_child_begins_anew(monkeypatch):
    now = machine.time_ns() + 7_200_000_000_000
    monkeypatch.setattr(machine, "time_ns", lambda: now)
    before = new_id()
    reader, writer = os.pipe()
    pid = os.fork()
    if not pid:
        os.write(writer, new_id().bytes)
        os._exit(0)
    os.waitpid(pid, 0)
    theirs, ours = UUID(bytes=os.read(reader, 16)), new_id()
    os.close(reader)
    os.close(writer)
    assert theirs.int >> 80 == ours.int >> 80 == before.int >> 80
    step = ours.int - before.int
    assert (theirs.int - before.int) % step != 0


def test_the_same_seed_gives_the_same_ids_and_leaves_others_in_order(monkeypatch):
    monkeypatch.setattr(machine, "time_ns", lambda: 1_700_000_000_000_000_000)
    before = new_id()
    rows: list[list[UUID]] = []
    for _ in range(2):
        with repeatable(7):
            rows.append([new_id() for _ in range(3)])
    assert rows[0] == rows[1]
    assert new_id() > before
    assert _ids.new_token() != _ids.new_token()
