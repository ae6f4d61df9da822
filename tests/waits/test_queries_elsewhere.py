"""Asking flow runs of other processes."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from callsheet import query_flow_run
from callsheet.exceptions import QueryFailed, QueryTimeout, RunNotLive, UnknownQuery
from waits_helpers import PATIENCE, line, program

ASKED = """
import sys, threading, time
import anyio
from callsheet import flow, on_query
from callsheet.runtime import flow_run

def register():
    on_query("add", lambda *numbers: {"sum": sum(numbers)})
    on_query("fails", lambda: {}["nothing"])
    on_query("opaque", lambda: object())
    on_query("never", lambda: time.sleep(60) if sys.argv[1] == "sync" else anyio.sleep(60))
    print(flow_run.id, flush=True)

@flow
def sync_flow():
    register()
    sys.stdin.readline()

@flow
async def async_flow():
    register()
    await anyio.to_thread.run_sync(sys.stdin.readline)

@flow
async def outer():
    await async_flow()

match sys.argv[1]:
    case "sync":
        sync_flow()
    case "subflow":
        anyio.run(outer)
    case backend:
        anyio.run(async_flow, backend=backend)
"""


@contextmanager
def asked(folder: Path, kind: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    with program(folder / "asked.py", ASKED, kind) as process:
        yield process, line(process)


@pytest.mark.parametrize("kind", ["sync", "asyncio", "trio", "subflow"])
def test_a_flow_run_of_another_process(tmp_path: Path, kind: str) -> None:
    with asked(tmp_path, kind) as (process, run_id):
        assert query_flow_run(run_id, "add", 1, 2, 39, timeout=PATIENCE) == {"sum": 42}
        with pytest.raises(UnknownQuery, match=r"no query 'nothing'.*'add', 'fails'"):
            query_flow_run(run_id, "nothing")
        with pytest.raises(QueryFailed, match="KeyError: 'nothing'"):
            query_flow_run(run_id, "fails")
        with pytest.raises(QueryFailed, match="cannot be written as JSON"):
            query_flow_run(run_id, "opaque")
        with pytest.raises(QueryTimeout, match=r"'never' within 0\.3 seconds"):
            query_flow_run(run_id, "never", timeout=0.3)
        assert query_flow_run(run_id, "add", timeout=PATIENCE) == {"sum": 0}
        if kind != "sync":  # its handler still sleeps in a thread
            process.communicate("\n", PATIENCE)
            with pytest.raises(RunNotLive, match="has ended in the state 'Completed'"):
                query_flow_run(run_id, "add")


@pytest.mark.anyio
async def test_asked_in_async_code(tmp_path: Path) -> None:
    with asked(tmp_path, "asyncio") as (_, run_id):
        answer: Any = await query_flow_run(run_id, "add", 1, timeout=PATIENCE)
        assert answer == {"sum": 1}


def test_a_process_that_is_gone(tmp_path: Path) -> None:
    with asked(tmp_path, "asyncio") as (process, run_id):
        assert query_flow_run(run_id, "add", timeout=PATIENCE) == {"sum": 0}
        process.kill()
        process.wait()
        with pytest.raises(RunNotLive, match="alive in no process just now"):
            query_flow_run(run_id, "add", timeout=PATIENCE)
