"""From what people write for flow runs to their ids, and to filters."""

from __future__ import annotations

import argparse
import re
from datetime import timedelta
from pathlib import Path
from typing import Any, Final
from uuid import UUID

from callsheet._clock import from_micros
from callsheet._command.main import Refused
from callsheet.client.orchestration import SyncClient, get_client
from callsheet.settings import get_current_settings

_DIGITS: Final = 32
_OF_TIME: Final = 12  # digits of an id that are its time, in milliseconds
_LEEWAY: Final = timedelta(minutes=1)
_SHOWN: Final = 5


def open_history() -> SyncClient:
    """Give a client of the history that is meant.

    Raises:
        Refused: There is none; looking at it would make one.
    """
    history_file()
    return get_client(sync_client=True)


def history_file() -> str:
    """Give the file of the history that is meant.

    Raises:
        Refused: There is none.
    """
    database = get_current_settings().database
    if database == ":memory:" or not Path(database).expanduser().exists():
        raise Refused(
            f"there is no history in {database!r}. Name its file by `--database FILE`, or set CALLSHEET_DATABASE or "
            "CALLSHEET_HOME as the program does whose runs you mean."
        )
    return database


def find(client: SyncClient, text: str) -> UUID:
    """Give the id of the flow run that is meant by an id or its beginning.

    Raises:
        Refused: There is none, or more than one.
    """
    digits = text.replace("-", "").lower()
    if not re.fullmatch(r"[0-9a-f]{1,32}", digits):
        raise Refused(f"{text!r} is no id of a flow run: ids have hexadecimal digits and hyphens.")
    if len(digits) == _DIGITS:
        return client.read_flow_run(UUID(digits)).id
    found = [run for run in _around(client, digits) if run.id.hex.startswith(digits)]
    if not found:
        raise Refused(f"there is no flow run whose id begins with {text!r}.")
    if len(found) > 1:
        some = "".join(f"\n  {run.id}  {run.name}" for run in found[:_SHOWN])
        more = f"\n  and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
        raise Refused(f"{len(found)} flow runs have ids that begin with {text!r}:{some}{more}")
    return found[0].id


def _around(client: SyncClient, digits: str) -> list[Any]:
    """Read the flow runs of the time that the beginning of an id tells."""
    first, last = (int(digits[:_OF_TIME].ljust(_OF_TIME, fill), 16) * 1000 for fill in "0f")
    latest = int(4e15)  # microseconds, in the year 2096
    where = {
        "expected_start_time": {
            "after_": from_micros(min(first, latest)) - _LEEWAY,
            "before_": from_micros(min(last, latest)) + _LEEWAY,
        }
    }
    found: list[Any] = []
    cursor = None
    while True:
        page = client.read_flow_runs(flow_run_filter=where, cursor=cursor)
        found += page
        cursor = page.cursor
        if cursor is None:
            return found


def filters(given: argparse.Namespace) -> dict[str, Any]:
    """Give the filters that the options of a command line say."""
    of_run: dict[str, Any] = {}
    if given.state:
        of_run["state"] = {"name": {"any_": [_state(name) for name in given.state]}}
    if given.name:
        of_run["name"] = {"like_": given.name}
    chosen: dict[str, Any] = {"flow_run_filter": of_run} if of_run else {}
    if given.flow:
        chosen["flow_filter"] = {"name": {"any_": given.flow}}
    return chosen


def _state(name: str) -> str:
    """Give a state's name as it is written: the first letter is a capital one."""
    return name[:1].upper() + (name[1:].lower() if name.isupper() else name[1:])
