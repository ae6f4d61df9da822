"""A disk that is full for longer than anybody waits for it, in a process whose disk can be filled (see `faulty_disk`)."""

from __future__ import annotations

from pathlib import Path

import pytest

from elsewhere import other

LIMIT = 1.0
"""Seconds of failing in these processes after which nobody waits any more; else half a minute."""

PROGRAM = f"""
import logging
sys.path.insert(0, {str(Path(__file__).parents[1])!r})
from callsheet._kernel.journal import Journal
from callsheet.exceptions import StoreFull
from faulty_disk import disk

disk.install()
Journal.__init__.__kwdefaults__["ack_deadline"] = {LIMIT}

class Tell(logging.Handler):
    def emit(self, record):
        say("log", record.levelname, record.getMessage())

logging.getLogger("callsheet.journal").addHandler(Tell(logging.WARNING))

@task
def step(n):
    return n
"""

LONG = """
@flow
def walk():
    step(0)
    time.sleep(0.5)  # by now others can read of it, and could take it over
    disk.fill()
    for n in range(1, 1000):
        step(n)
        time.sleep(0.01)

def whole():
    began = time.monotonic()
    try:
        walk()
    except StoreFull as error:
        say("told", "Free some space" in str(error), time.monotonic() - began)
    disk.lift()

whole()
say("again", step(5))
"""


@pytest.mark.parametrize("durability", ["relaxed", "results", "strict"])
def test_a_run_that_may_start_nothing_more_is_told_so_instead_of_hanging(
    monkeypatch: pytest.MonkeyPatch, durability: str
) -> None:
    monkeypatch.setenv("CALLSHEET_LEASE_SECONDS", "0.4")
    monkeypatch.setenv("CALLSHEET_DURABILITY", durability)
    with other(PROGRAM + LONG) as process:
        assert "for up to 1 s" in process.next("log"), "at once"
        assert "for up to 1 s" not in process.next("log"), "and once"
        says_why, seconds = process.next("told").split()
        assert (says_why, float(seconds) < 20) == ("True", True)
        assert process.next("again") == "5"
        said = process.end()
    levels = [line.split()[1] for line in said if line.startswith("log ")]
    assert levels == ["WARNING", "ERROR", "WARNING"], said
    assert "saved again" in [line for line in said if line.startswith("log ")][-1]


FULL = """
@flow
def short(n):
    return step(n)

short(1)
disk.fill()
for n in (2, 3):
    began = time.monotonic()
    say("short", short(n), time.monotonic() - began)
disk.lift()
"""


def test_the_first_who_waits_is_let_go_at_the_limit_and_the_next_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CALLSHEET_DURABILITY", "strict")
    with other(PROGRAM + FULL) as process:
        value, seconds = process.next("short").split()
        assert value == "2"
        assert LIMIT * 0.9 < float(seconds) < 20
        value, seconds = process.next("short").split()
        assert value == "3"
        assert float(seconds) < LIMIT
        said = process.end()
    assert [line.split()[1] for line in said if line.startswith("log ")] == ["WARNING", "ERROR", "WARNING"], said
