"""One turn: a fresh process, a fresh folder, one workload, one engine."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from benchmarks.peers.catalogue import Engine, Workload
from benchmarks.web import free_port, load, wait_for_port

SCRIPTS: Final = Path(__file__).parent / "engines"
UNSUPPORTED: Final = 3
DEADLINE: Final = 300  # seconds a turn may take


@dataclass
class Turn:
    """What one turn gave. `rate` is in pieces a second, times are in seconds, memory in MB."""

    engine: str
    workload: str
    round: int
    size: int
    seconds: float = 0.0
    rate: float = 0.0
    found: dict[str, Any] | None = None
    error: str = ""

    def as_dict(self) -> dict[str, Any]:
        """Give it as JSON can carry it."""
        return asdict(self)


def take(engine: Engine, python: Path, workload: Workload, round: int) -> Turn | None:
    """Let an engine do its turn; `None` where it cannot do such work."""
    size = workload.small if engine.slow else workload.size
    turn = Turn(engine.name, workload.name, round, size)
    # In the memory of the machine where that is to be had: a slow disk would be what is measured.
    fast = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="bench-", dir=fast, ignore_cleanup_errors=True) as state:
        environment = _environment(engine, Path(state))
        try:
            if workload.name == "import":
                done = _timed([str(python), "-c", f"import {engine.module}"], environment, turn)
            elif workload.name == "web":
                return _web(engine, python, environment, turn)
            else:
                script = str(SCRIPTS / f"{engine.script}.py")
                done = _timed([str(python), script, workload.name, str(size)], environment, turn)
        except subprocess.TimeoutExpired:
            turn.error = f"no end after {DEADLINE} s"
            return turn
    if done.returncode == UNSUPPORTED:
        return None
    if done.returncode:
        turn.error = done.stderr.decode(errors="replace").strip()[-500:] or f"exit code {done.returncode}"
        return turn
    if workload.per_second:
        turn.found = json.loads(done.stdout.splitlines()[-1])
        turn.seconds = turn.found["seconds"]
    turn.rate = size / turn.seconds
    return turn


def _timed(command: list[str], environment: dict[str, str], turn: Turn) -> subprocess.CompletedProcess[bytes]:
    start = time.perf_counter()
    process = subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
    )
    try:
        out, err = process.communicate(timeout=DEADLINE)
        turn.seconds = time.perf_counter() - start
    finally:
        _end(process)
    return subprocess.CompletedProcess(command, process.returncode, out, err)


def _end(process: subprocess.Popen[bytes]) -> None:
    """End whatever the turn has left running, its servers and workers too: it has a session of its own."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    process.wait()


def _web(engine: Engine, python: Path, environment: dict[str, str], turn: Turn) -> Turn | None:
    """Have an engine serve, and load it from a process of its own."""
    script = SCRIPTS / f"{engine.script}.py"
    if "def serve(" not in script.read_text() or engine.variant in ("anyio", "trio", "sqlite"):
        return None
    port = free_port()
    command = [str(python), str(script), "serve", str(port)]
    process = subprocess.Popen(
        command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    try:
        wait_for_port(port, 60)
        load(port, "/", 1)
        found = load(port, "/", 10 if engine.slow else 3)
    except (OSError, subprocess.CalledProcessError) as error:
        turn.error = str(error)
        return turn
    finally:
        _end(process)
    turn.found, turn.rate, turn.seconds = dict(found), found["rate"], 1 / found["rate"]
    return turn


def _environment(engine: Engine, state: Path) -> dict[str, str]:
    """Give what a program finds around it: its own empty home, no telemetry, and no chatter to be timed."""
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return {
        **kept,
        "HOME": str(state),
        "BENCH_STATE": str(state),
        "BENCH_VARIANT": engine.variant,
        "PYTHONHASHSEED": "0",
        "PYTHONPATH": "",
        "DO_NOT_TRACK": "1",
        "CALLSHEET_HOME": str(state),
        "CALLSHEET_DATABASE": str(state / "callsheet.db"),
        "CALLSHEET_DURABILITY": engine.variant if engine.script == "callsheet_" else "results",
        "CALLSHEET_LOGGING_LEVEL": "ERROR",
        "PREFECT_HOME": str(state / "prefect"),
        "PREFECT_LOGGING_LEVEL": "ERROR",
        "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "120",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "DAGSTER_HOME": str(state / "dagster"),
        "DAGSTER_DISABLE_TELEMETRY": "true",
        "RAY_USAGE_STATS_ENABLED": "0",
    }
