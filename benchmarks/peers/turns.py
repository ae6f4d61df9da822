"""One turn: a fresh process, a fresh folder, one workload, one engine."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from benchmarks.peers import processes
from benchmarks.peers.catalogue import Engine, Workload
from benchmarks.peers.servers import SCRIPTS, Servers, fast_place
from benchmarks.web import free_port, load, wait_for_port

UNSUPPORTED: Final = 3
START: Final = 60.0  # seconds that an engine may take to start, besides those of its workload
WITHOUT_SERVER: Final = ("import", "cold")


@dataclass
class Turn:
    """What one turn gave. `rate` is in pieces a second, times are in seconds, memory in MB unless said otherwise."""

    engine: str
    workload: str
    round: int
    size: int
    seconds: float = 0.0
    rate: float = 0.0
    found: dict[str, Any] | None = None
    error: str = ""
    wall: float = 0.0  # seconds of the whole turn, with its start and its end
    load: float = 0.0  # how busy the machine was when it ended

    def as_dict(self) -> dict[str, Any]:
        """Give it as JSON can carry it."""
        return asdict(self)


@dataclass
class Stage:
    """What all turns of a run share.

    Attributes:
        servers: Those of engines that have one.
        patience: What time limits are multiplied by, on a machine that does other things too.
        pin: The core that turns are bound to; `None`: all of them.
        scale: What sizes are multiplied by: small, to see whether everything works.
    """

    servers: Servers
    patience: float = 1.0
    pin: int | None = None
    scale: float = 1.0

    def size(self, engine: Engine, workload: Workload) -> int:
        """Say how often an engine does a workload in this run."""
        full = engine.size(workload)
        return full if self.scale == 1 else min(full, max(10, round(full * self.scale / 10) * 10))


def take(engine: Engine, python: Path, workload: Workload, round: int, stage: Stage) -> Turn | None:
    """Let an engine do its turn; `None` where it cannot do such work."""
    turn = Turn(engine.name, workload.name, round, stage.size(engine, workload))
    if (engine.only and workload.name not in engine.only) or not (turn.size or workload.name == "web"):
        return None
    since = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="bench-", dir=fast_place(), ignore_cleanup_errors=True) as state:
        try:
            found = environment(engine, Path(state))
            if engine.server and workload.name not in WITHOUT_SERVER:
                found |= stage.servers.wake(engine, python)
            done = _do(engine, python, workload, found, turn, stage)
        except (OSError, processes.Runaway, subprocess.SubprocessError) as error:
            turn.error, done = f"{type(error).__name__}: {error}", True
        finally:
            stage.servers.rest(engine.name)
    turn.wall, turn.load = time.perf_counter() - since, os.getloadavg()[0]
    if engine.server and (turn.error or (turn.found or {}).get("busy")):
        stage.servers.drop(engine.name)  # what it has left to do would be a burden on the next turn
    return turn if done else None


def _do(engine: Engine, python: Path, workload: Workload, found: dict[str, str], turn: Turn, stage: Stage) -> bool:
    """Fill a turn; give false where the engine cannot do such work."""
    script = str(SCRIPTS / f"{engine.script}.py")
    if workload.name == "web":
        return _web(engine, python, found, turn, stage)
    if workload.name == "import":
        command = [str(python), "-c", engine.imports]
    else:
        command = [str(python), script, workload.name, str(turn.size)]
    pin = None if workload.name == "beside_threads" else stage.pin
    out = Path(found[processes.MARK]) / "turn"
    start = time.perf_counter()
    process = processes.begin(command, found, out, pin)
    try:
        processes.watch(process, (START + engine.limit(workload)) * stage.patience)
        turn.seconds = time.perf_counter() - start
    finally:
        processes.end(process, found[processes.MARK])
    if process.returncode == UNSUPPORTED:
        return False
    if process.returncode:
        said = out.with_suffix(".err").read_text(errors="replace").strip()
        turn.error = said[-500:] or f"exit code {process.returncode}"
        return True
    if workload.name not in WITHOUT_SERVER:
        turn.found = _last_object(out.with_suffix(".out").read_bytes())
        if turn.found is None:
            turn.error = "it ended without a result"
            return True
        turn.seconds = turn.found["seconds"]
    turn.rate = turn.size / turn.seconds
    return True


def _last_object(printed: bytes) -> dict[str, Any] | None:
    """Find what a turn has printed last as JSON: what peers' daemons print may be around it."""
    for line in reversed(printed.splitlines()):
        if line.startswith(b'{"'):
            try:
                return json.loads(line)
            except ValueError:
                continue
    return None


def _web(engine: Engine, python: Path, found: dict[str, str], turn: Turn, stage: Stage) -> bool:
    """Have an engine serve, and load it from a process of its own."""
    script = SCRIPTS / f"{engine.script}.py"
    if "def serve(" not in script.read_text() or engine.variant in ("anyio", "trio", "sqlite"):
        return False
    port = free_port()
    out = Path(found[processes.MARK]) / "turn"
    process = processes.begin([str(python), str(script), "serve", str(port)], found, out, stage.pin)
    try:
        wait_for_port(port, START * stage.patience, process)
        load(port, "/", 1 if not engine.server else 5 * stage.patience)
        measured = load(port, "/", (20 if engine.server else 5 if engine.slow else 3) * stage.patience)
    except (OSError, subprocess.SubprocessError) as error:
        said = out.with_suffix(".err").read_text(errors="replace").strip()
        turn.error = f"{error}\n{said[-500:]}".strip()
        return True
    finally:
        processes.end(process, found[processes.MARK])
    if engine.server:
        measured["busy"] = True
    turn.found, turn.rate, turn.seconds = dict(measured), measured["rate"], 1 / measured["rate"]
    return True


def environment(engine: Engine, state: Path) -> dict[str, str]:
    """Give what a program finds around it: its own empty home, no telemetry, and no chatter to be timed."""
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return {
        **kept,
        "HOME": str(state),
        "TMPDIR": str(state),
        processes.MARK: str(state),
        "BENCH_VARIANT": engine.variant,
        "PYTHONHASHSEED": "0",
        "PYTHONPATH": "",
        "DO_NOT_TRACK": "1",
        "CALLSHEET_HOME": str(state),
        "CALLSHEET_DATABASE": str(state / "callsheet.db"),
        "CALLSHEET_DURABILITY": engine.variant if engine.script == "callsheet_" else "results",
        "CALLSHEET_LOGGING_LEVEL": "ERROR",
        "CALLSHEET_LEASE_SECONDS": "2",
        "PREFECT_HOME": str(state / "prefect"),
        "PREFECT_LOGGING_LEVEL": "ERROR",
        "PREFECT_LOGGING_SERVER_LEVEL": "ERROR",
        "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "180",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        # Its time-outs are those of a machine that does nothing else.
        "PREFECT_API_REQUEST_TIMEOUT": "300",
        "PREFECT_CLIENT_MAX_RETRIES": "30",
        "PREFECT_API_DATABASE_TIMEOUT": "120",
        "PREFECT_API_DATABASE_CONNECTION_TIMEOUT": "120",
        "DAGSTER_HOME": str(state / "dagster"),
        "DAGSTER_DISABLE_TELEMETRY": "true",
        "RAY_USAGE_STATS_ENABLED": "0",
    }
