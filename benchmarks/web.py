"""A FastAPI endpoint that awaits a flow of three tasks, under 32 connections from a second process."""

from __future__ import annotations

import json
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from benchmarks.measure import Row

CONNECTIONS = 32
SECONDS = 3.0
SHARE = 0.40
SPREAD = 5


def free_port() -> int:
    """Find a port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_for_port(port: int, seconds: float, process: subprocess.Popen[bytes] | None = None) -> None:
    """Wait until somebody listens on a port.

    Raises:
        OSError: Nobody did in time, or the process that was to do it has ended.
    """
    until = time.monotonic() + seconds
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError:
            if time.monotonic() > until or (process is not None and process.poll() is not None):
                raise
            time.sleep(0.05)


@contextmanager
def service() -> Iterator[int]:
    """Run a real server in a process of its own."""
    port = free_port()
    command = [sys.executable, "-m", "uvicorn", "benchmarks.web_app:app", "--port", str(port), "--no-access-log"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        wait_for_port(port, 10)
        yield port
    finally:
        process.terminate()
        process.wait(30)


def load(port: int, path: str, seconds: float = SECONDS) -> dict[str, float]:
    """Load one path from a second process."""
    command = [sys.executable, "-m", "benchmarks.web_load", str(port), path, str(CONNECTIONS), str(seconds)]
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)


def rows(rounds: int) -> list[Row]:
    """Give the share of requests a second that is left, and the spread of the waiting times."""
    flows: list[dict[str, float]] = []
    plains: list[dict[str, float]] = []
    with service() as port:
        for path in ("/plain/1", "/flow/1"):
            load(port, path, 1)
        for _ in range(max(3, rounds // 2)):
            plains.append(load(port, "/plain/1"))
            flows.append(load(port, "/flow/1"))
    ours, floor = (statistics.median(run["rate"] for run in runs) for runs in (flows, plains))
    p50, p99 = (statistics.median(run[name] for run in flows) for name in ("p50", "p99"))
    share, spread = ours / floor, p99 / p50
    return [
        Row(
            "FastAPI endpoint awaiting a flow of 3 tasks, 32 connections",
            f"{ours:,.0f} /s",
            f"{floor:,.0f} /s",
            share,
            f"≥ {SHARE:g} ×",
            share >= SHARE,
        ),
        Row("… p99 beside p50", f"{p99 * 1e3:.1f} ms", f"{p50 * 1e3:.1f} ms", spread, f"< {SPREAD} ×", spread < SPREAD),
    ]
