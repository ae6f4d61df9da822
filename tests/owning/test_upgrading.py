"""A newer program opens the history while an older one runs flows, and from then on the older one must not write."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from callsheet._store import migrate
from owning_helpers import FLOWS, PATIENCE, OwnerProcess, lines, until

VERSION = migrate.newest() + 1
NEWER = f"""
from callsheet._store import migrate
ours = migrate.migrations()
migrate.migrations = lambda: (*ours, ({VERSION}, ("INSERT OR REPLACE INTO meta VALUES ('min_writer', {VERSION})",)))
migrate.newest.cache_clear()
"""
"""What the next version may be like, as far as an older one sees it."""
STAY = "await anyio.sleep(60)"


@pytest.fixture
def here(tmp_path: Path) -> Path:
    return tmp_path


@pytest.fixture
def path(callsheet_home: Path) -> Path:
    return callsheet_home / "callsheet.db"


def newer(here: Path, options: str) -> OwnerProcess:
    return OwnerProcess.engine(here, STAY, options, flows=NEWER + FLOWS)


def ask(path: Path, sql: str) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(path)) as db:
        return db.execute(sql).fetchall()


@pytest.mark.parametrize("durability", ["relaxed", "results", "strict"])
def test_the_older_one_is_told_and_its_run_goes_on_in_the_newer(here: Path, path: Path, durability: str) -> None:
    body = """
    try:
        await waiting(7)
    except Exception as error:
        say(type(error).__name__)
        print(error, flush=True)
    try:
        await other()
    except Exception as error:
        say(type(error).__name__)
    """
    with OwnerProcess.engine(here, body, "flows=[waiting]", CALLSHEET_DURABILITY=durability) as older:
        older.hears("open")
        older.hears("waiting", "7")
        with newer(here, "flows=[waiting]") as taker:
            taker.hears("open")
            older.hears("LostOwnership")
            older.hears(
                f"The history in '{path}' was written by a newer version of callsheet (it needs schema {VERSION}, this one "
                f"knows {VERSION - 1}). Upgrade callsheet in this environment and start this program anew, or set "
                "CALLSHEET_HOME to another folder. What this process was running belongs to engines of the newer version "
                "now: they go on with runs whose flows they know, after the lease of this one."
            )
            older.hears("StoreTooNew")
            assert older.process.wait(PATIENCE) == 0, "its engine closes as ever"
            taker.hears("waiting", "7")
            (here / "go").touch()
            until(lambda: ask(path, "SELECT 1 FROM run WHERE kind = 0 AND state_type = 3"))
    found = lines(here)
    assert (found[0], found[-1]) == (["before", str(older.pid)], ["after", str(taker.pid)])
    assert len(found) == 2 or durability == "relaxed", "which may not have saved what came first"


def test_an_older_one_without_an_engine_of_its_own_is_told_at_its_next_call(here: Path) -> None:
    program = """
    try:
        anyio.run(counting)
    except Exception as error:
        say(type(error).__name__)
    from callsheet.exceptions import LostOwnership
    while True:
        try:
            anyio.run(other)
        except LostOwnership:  # the engine that was shut out is about to make place
            continue
        except Exception as error:
            say(type(error).__name__)
            break
    """
    with OwnerProcess(here, program) as older:
        older.hears("counting")
        with newer(here, "flows=[other]") as taker:
            taker.hears("open")
            older.hears("LostOwnership")
            older.hears("StoreTooNew")
            assert older.process.wait(PATIENCE) == 0


def test_nothing_that_the_older_one_was_told_is_lost(here: Path, path: Path) -> None:
    """Each step is on record before the next one begins."""
    body = """
    try:
        await counting()
    except Exception as error:
        say(type(error).__name__)
    """
    with OwnerProcess.engine(here, body) as older:
        older.hears("open")
        older.hears("counting")
        until(lambda: len(lines(here)) > 20)
        with newer(here, "flows=[other]") as taker:
            taker.hears("open")
            older.hears("LostOwnership")
            assert older.process.wait(PATIENCE) == 0
            done = len(lines(here))
            ((kept,),) = ask(path, "SELECT count(*) FROM run WHERE kind = 1 AND state_type = 3")
            assert done - 1 <= kept <= done


def test_an_engine_that_waits_for_work_says_so_in_the_log(here: Path, path: Path) -> None:
    body = """
    import logging
    class Heard(logging.Handler):
        def emit(self, record):
            say(record.name, record.getMessage().partition("(it")[0])
    logging.getLogger("callsheet").addHandler(Heard())
    say("open")
    await anyio.sleep(60)
    """
    with OwnerProcess.engine(here, body, "flows=[waiting]", CALLSHEET_LOGGING_LEVEL="ERROR") as older:
        older.hears("open")
        older.hears("open")
        with newer(here, "flows=[waiting]") as taker:
            taker.hears("open")
            older.hears(f"callsheet.journal The history in '{path}' was written by a newer version of callsheet")
