"""The file of the history is taken away while flows run."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from callsheet import flow, get_client, task
from callsheet.exceptions import LostOwnership, StoreUnavailable


@task
def double(x: int) -> int:
    return 2 * x


def remove(home: Path) -> None:
    for file in home.glob("callsheet.db*"):
        if file.is_file():
            file.unlink()


def test_a_run_whose_file_is_removed_is_told_so_and_the_next_one_is_kept(
    callsheet_home: Path, caplog: pytest.LogCaptureFixture
) -> None:
    @flow
    def around(take: Callable[[Path], None] | None = None) -> int:
        double(1)
        if take is not None:
            take(callsheet_home)
            time.sleep(0.11)  # longer than between two looks for the file
        return double(2)

    around()
    with pytest.raises(LostOwnership, match="was removed or replaced while this engine was using it"):
        around(remove)
    assert "A new history is begun" in caplog.text
    assert around() == 4
    with get_client(sync_client=True) as client:
        assert [run.state_name for run in client.read_flow_runs()] == ["Completed"]


def names() -> list[str]:
    with get_client(sync_client=True) as client:
        return [run.name for run in client.read_flow_runs()]


@pytest.mark.parametrize("files", [["-wal"], ["-wal", "-shm"], ["-shm"]], ids=" ".join)
@pytest.mark.parametrize("durability", ["relaxed", "strict"])
def test_a_write_ahead_log_that_is_removed_is_told_and_nothing_is_lost(
    callsheet_home: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    durability: str,
    files: list[str],
) -> None:
    monkeypatch.setenv("CALLSHEET_DURABILITY", durability)

    @flow(flow_run_name="{name}")
    def around(name: str, take: bool = False) -> int:
        double(1)
        if take:
            for file in files:
                (callsheet_home / f"callsheet.db{file}").unlink()
            time.sleep(0.11)  # longer than between two looks for the file
        return double(2)

    around("before")
    assert around("meanwhile", take=True) == 4
    assert around("after") == 4
    assert sorted(names()) == ["after", "before", "meanwhile"]
    if files != ["-shm"]:
        assert "callsheet.db-wal' was removed or replaced while the history was in use" in caplog.text
    assert "saved again" in caplog.text
    with closing(sqlite3.connect(callsheet_home / "callsheet.db")) as database:
        assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


def test_who_reads_without_the_write_ahead_log_is_told_so_until_it_is_mended(callsheet_home: Path) -> None:
    @flow
    def writes() -> int:
        return double(2)

    writes()
    assert len(names()) == 1
    (callsheet_home / "callsheet.db-wal").unlink()
    with pytest.raises(StoreUnavailable, match=r"callsheet\.db-wal' was removed or replaced .* restart the programs"):
        names()
    time.sleep(0.11)
    writes()
    assert len(names()) == 2
