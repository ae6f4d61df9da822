"""Databases of every earlier version open, are brought up to date, tell what they told, and go on.

`tests/upgrades` has one for each version of the schema, as statements, written by the program of its time.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import anyio
import pytest

import upgrade_flows
from callsheet import Engine, get_client
from callsheet._store import migrate
from callsheet.testing import check_history

FOLDER = Path(__file__).parents[1] / "upgrades"
OWNED_SINCE = 4
"""The version from which on runs have owners; what an older program left belongs to nobody."""


def test_there_is_a_database_of_every_version() -> None:
    assert {file.name for file in FOLDER.iterdir()} == {f"schema_{n}.sql" for n in range(1, migrate.newest() + 1)}


@pytest.mark.parametrize("version", range(1, migrate.newest() + 1))
def test_an_older_database_opens_and_goes_on(version: int, tmp_path: Path) -> None:
    anyio.run(open_and_go_on, version, tmp_path)


async def open_and_go_on(version: int, tmp_path: Path) -> None:
    database = tmp_path / "h.db"
    with closing(sqlite3.connect(database)) as connection:
        connection.executescript((FOLDER / f"schema_{version}.sql").read_text("utf-8"))
        found = migrate.versions(connection)
    assert found is not None
    assert found["schema"] == version
    upgrade_flows.did.clear()
    async with Engine(database, flows=[upgrade_flows.handle]), get_client() as client:
        with anyio.fail_after(50):
            while version >= OWNED_SINCE and "ship ink" not in upgrade_flows.did:
                await anyio.sleep(0.01)
        paper, ink = sorted(await client.read_flow_runs(), key=lambda run: run.created)
        assert (paper.state_name, paper.parameters) == ("Completed", {"order": "paper"})
        assert [state.name for state in await client.read_flow_run_states(paper.id)] == [
            "Pending",
            "Running",
            "Completed",
        ]
        if version >= OWNED_SINCE:
            with anyio.fail_after(50):
                while (ink := await client.read_flow_run(ink.id)).state_name != "Completed":
                    await anyio.sleep(0.01)
            assert upgrade_flows.did == ["ship ink"], "what had ended is not run again"
        else:
            assert ink.state_name == "Running"
    with closing(sqlite3.connect(database)) as connection:
        assert (migrate.versions(connection) or {})["schema"] == migrate.newest()
    found_wrong = check_history(database)
    assert [one for one in found_wrong if version >= OWNED_SINCE or one.run_id != ink.id] == []
