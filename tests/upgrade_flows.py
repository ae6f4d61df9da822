"""What has written the databases in tests/upgrades, and goes on with them; see tests/proofs/test_upgrades.py.

python -c "import upgrade_flows; upgrade_flows.write('h.db')"
"""

from __future__ import annotations

import os
import sqlite3
import time
from pathlib import Path

from callsheet import flow, task

did: list[str] = []


@task
def charge(order: str) -> str:
    did.append(f"charge {order}")
    return f"{order} is paid"


@task
def ship(order: str) -> str:
    if os.environ.get("CALLSHEET_UPGRADE_STOPS"):
        time.sleep(0.3)  # what the journal writes by itself is on the disk then
        os._exit(0)
    did.append(f"ship {order}")
    return f"{order} is on its way"


@flow
def handle(order: str) -> list[str]:
    return [charge(order), ship(order)]


def write() -> None:
    """Write a history with a flow run that has completed and one whose process was killed, into $CALLSHEET_DATABASE."""
    handle("paper")
    os.environ["CALLSHEET_UPGRADE_STOPS"] = "1"
    handle("ink")


def dump(database: str, to: str) -> None:
    """Write a database as statements."""
    connection = sqlite3.connect(database)
    application = connection.execute("PRAGMA application_id").fetchone()[0]
    lines = [f"PRAGMA application_id = {application};", *connection.iterdump()]
    Path(to).write_text("\n".join(lines) + "\n", "utf-8")
