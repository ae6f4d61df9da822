"""The file of the history is taken away while flows run."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from callsheet import flow, get_client, task
from callsheet.exceptions import LostOwnership


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
