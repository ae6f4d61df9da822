"""The example programs, run as a reader runs them: as processes of their own, on real input."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import sqlite3
import subprocess
import sys
import time
import urllib.error
import urllib.request
import zipfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

import warm

ROOT = Path(__file__).parent.parent
CENSUS = ROOT / "examples" / "library_census.py"
GEO_CACHE = ROOT / "examples" / "geo_cache.py"
APPROVAL = ROOT / "examples" / "approval.py"
SERVICE = ROOT / "examples" / "embedded_service"


def is_whole(path: str | Path) -> bool:
    # A connection is in a cycle with itself: unclosed, it warns from 3.13 on in whichever test the collector runs.
    with closing(sqlite3.connect(path)) as db:
        return db.execute("pragma integrity_check").fetchone() == ("ok",)


# ------------------------------------------------------------------------------------------------ census


@pytest.fixture
def library(tmp_path: Path) -> Path:
    """A small library with every kind of file that the real one has."""
    root = tmp_path / "library"
    (root / "pkg").mkdir(parents=True)
    (root / "site-packages" / "other").mkdir(parents=True)
    (root / "single.py").write_text("import os\n\n\ndef f():\n    pass\n")
    (root / "pkg" / "__init__.py").write_text("")
    (root / "pkg" / "big.py").write_text("class A:\n    async def m(self): ...\n" + "x = 1\n" * 98)
    (root / "pkg" / "broken.py").write_text("def (:\n")
    (root / "pkg" / "latin.py").write_bytes("# -*- coding: latin-1 -*-\nname = 'é'\n".encode("latin-1"))
    (root / "pkg" / "liar.py").write_bytes(b"# -*- coding: utf-8 -*-\nname = '\xff'\n")
    (root / "site-packages" / "other" / "m.py").write_text("x = 1\n")
    return root


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_census_measures_reports_and_does_not_hide_what_failed(library, backend, callsheet_home):
    arguments = [str(CENSUS), "--root", str(library), "--backend", backend]
    if backend == "asyncio":  # from the very start, once
        command = [sys.executable, "-X", "dev", *arguments]
        done = subprocess.run(command, capture_output=True, text=True, timeout=50, check=False)
    else:
        done = warm.run(CENSUS, *arguments[1:], dev=True, timeout=50, check=False)
    assert done.returncode == 0, done.stderr
    lines = [line.split() for line in done.stdout.splitlines()]
    assert ["6", "source", "files"] in lines
    assert "pkg: 3 of 5 files, 103 lines" not in done.stderr
    assert ["pkg/big.py", "100", "1", "1", "0"] in lines
    assert ["pkg/latin.py", "2", "0", "0", "0"] in lines, "its second attempt believes the encoding line"
    refused = {line[0] for line in lines[lines.index(["Files", "that", "refused"]) + 2 :] if line and "/" in line[0]}
    assert {"pkg/broken.py", "pkg/liar.py"} <= refused
    assert ["Failed", "2"] in lines
    (path,) = re.findall(r"^History: (.+)$", done.stdout, re.MULTILINE)
    assert Path(path).is_relative_to(callsheet_home)
    assert is_whole(path)


# ------------------------------------------------------------------------------------------------- cache


def geo_cache(folder: Path, *, cold: bool = False) -> list[str]:
    if cold:
        command = [sys.executable, "-X", "dev", str(GEO_CACHE), "--folder", str(folder)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=50, check=False)
    else:
        done = warm.run(GEO_CACHE, "--folder", folder, dev=True, timeout=50, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.splitlines()


def test_geo_cache_computes_nothing_twice_and_leaves_nothing_half_done(tmp_path):
    first, second, third, *report, last = geo_cache(tmp_path / "geo", cold=True)
    assert re.search(r"^First run +(\d+) computed, +0 from the cache$", first)
    assert re.search(r"^Second run, same input +0 computed, +(\d+) from the cache: every one a hit$", second)
    assert re.search(r"^Third run, .* 3 computed, ", third), "parse and spread of one region, and the report"
    assert any(line.startswith("Europe") for line in report)
    assert last == "Publishing failed (no more room after 5 files): 0 files and 0 results were left behind."
    again = geo_cache(tmp_path / "geo")
    assert all("every one a hit" in line for line in again[:3]), "another process finds what the first one kept"


# ---------------------------------------------------------------------------------------------- approval


def test_approval_checks_no_order_twice_though_its_process_is_killed(tmp_path):
    command = [sys.executable, "-X", "dev", str(APPROVAL), "--folder", str(tmp_path / "orders"), "--orders", "25"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=80, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    lines = done.stdout.splitlines()
    assert "25 orders were checked, 25 by the process that was killed." in lines
    assert "Checked twice: none." in lines
    (states,) = re.findall(r"^The flow run went through (.+)\.$", done.stdout, re.MULTILINE)
    assert states.split(", ")[0] == "Pending"
    assert states.split(", ")[-1] == "Completed"
    assert "Suspended" in states.split(", ")
    assert lines[-1] == "Its history is whole."
    with zipfile.ZipFile(tmp_path / "orders" / "bundle.zip") as bundle:
        assert 0 < len(bundle.namelist()) <= 25
        assert bundle.testzip() is None


# ----------------------------------------------------------------------------------------------- service


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def get(port: int, path: str) -> tuple[int, dict]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as answer:
            return answer.status, json.loads(answer.read())
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.loads(error.read())


@contextmanager
def service(tmp_path: Path, *options: str) -> Iterator[tuple[subprocess.Popen, int]]:
    port = free_port()
    command = [sys.executable, "-m", "uvicorn", "app:app", "--app-dir", str(SERVICE), "--port", str(port), *options]
    environment = {**os.environ, "SHOP_DATABASE": str(tmp_path / "shop.db"), "SHOP_DRAIN_SECONDS": "3"}
    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
    try:
        deadline = time.monotonic() + 20
        while process.poll() is None and time.monotonic() < deadline:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                break
            except OSError:
                time.sleep(0.05)
        else:
            raise AssertionError((tmp_path / "log").read_text())
        yield process, port
    finally:
        if process.poll() is None:
            process.kill()
        process.wait(10)


def load(port: int, seconds: float) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(SERVICE / "load.py"), "--port", str(port), "--seconds", str(seconds)]
    return subprocess.run(command, capture_output=True, text=True, timeout=40, check=False)


def test_service_answers_remembers_and_ends_clean_under_load(tmp_path):
    with service(tmp_path) as (process, port):
        status, answer = get(port, "/quote/pear?quantity=12")
        assert (status, answer["cents"]) == (200, 486)
        status, run = get(port, f"/runs/{answer['run']}")
        assert (status, run["states"]) == (200, ["Pending", "Running", "Completed"])
        assert get(port, "/quote/melon")[0] == 404
        assert get(port, "/runs/00000000-0000-0000-0000-000000000000")[0] == 404
        loaded = load(port, 0.5)
        assert loaded.returncode == 0, loaded.stdout + loaded.stderr
        process.send_signal(signal.SIGINT)
        assert process.wait(15) in {0, -signal.SIGINT}
    log = (tmp_path / "log").read_text()
    assert "Traceback" not in log, log
    assert is_whole(tmp_path / "shop.db")


def test_two_workers_share_one_database(tmp_path):
    with service(tmp_path, "--workers", "2") as (process, port):
        loaded = load(port, 0.5)
        assert loaded.returncode == 0, loaded.stdout + loaded.stderr
        status, answer = get(port, "/quote/apple")
        assert status == 200
        # Whichever worker answers, the run is there: what one has committed the other reads.
        assert {get(port, f"/runs/{answer['run']}")[0] for _ in range(10)} == {200}
        process.send_signal(signal.SIGTERM)
        process.wait(20)
    log = (tmp_path / "log").read_text()
    assert "locked" not in log, log
    assert "Traceback" not in log, log
