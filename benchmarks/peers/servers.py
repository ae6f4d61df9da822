"""Servers that turns of a peer share, because one takes longer to start than a turn takes. They stand still between turns."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Final, Self

from benchmarks.peers import processes
from benchmarks.peers.catalogue import Engine
from benchmarks.web import free_port, wait_for_port

START: Final = 90.0  # seconds that a server may take to start, when nothing else runs on the machine
SCRIPTS: Final = Path(__file__).parent / "engines"

Environment = Callable[[Engine, Path], dict[str, str]]


class Servers:
    """Starts servers when they are first needed and ends them all at its own end."""

    def __init__(self, environment: Environment, patience: float = 1.0) -> None:
        self._environment = environment
        self._patience = patience
        self._running: dict[str, tuple[subprocess.Popen[bytes], tempfile.TemporaryDirectory[str], str]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for name in list(self._running):
            self.drop(name)

    def wake(self, engine: Engine, python: Path) -> dict[str, str]:
        """Have an engine's server run, and say how its turns find it: variables of the environment.

        Raises:
            OSError: It does not start.
        """
        known = self._running.get(engine.name)
        if known is not None and known[0].poll() is None:
            processes.hold(known[1].name, still=False)
            return self._found(known[1].name, known[2])
        self.drop(engine.name)
        home = tempfile.TemporaryDirectory(prefix="bench-server-", dir=fast_place(), ignore_cleanup_errors=True)
        port = free_port()
        command = [str(python), str(SCRIPTS / f"{engine.script}.py"), "server", str(port)]
        process = processes.begin(command, self._environment(engine, Path(home.name)), Path(home.name) / "server")
        url = f"http://127.0.0.1:{port}"
        self._running[engine.name] = (process, home, url)
        try:
            wait_for_port(port, START * self._patience, process)
        except OSError:
            said = (Path(home.name) / "server.err").read_text(errors="replace")[-300:]
            self.drop(engine.name)
            raise OSError(f"its server does not start: {said.strip()}") from None
        return self._found(home.name, url)

    def rest(self, name: str) -> None:
        """Have a server stand still, so that what it has left to do is no burden on the next turn."""
        if name in self._running:
            processes.hold(self._running[name][1].name, still=True)

    def drop(self, name: str) -> None:
        """End a server. The next turn has a new one, with nothing in it."""
        known = self._running.pop(name, None)
        if known is not None:
            processes.end(known[0], known[1].name)
            known[1].cleanup()

    @staticmethod
    def _found(home: str, url: str) -> dict[str, str]:
        return {"BENCH_SERVER": url, "BENCH_SERVER_HOME": home}


def fast_place() -> str | None:
    """Give a folder in the memory of the machine where that is to be had: a slow disk would be what is measured."""
    place = Path("/dev/shm")
    return str(place) if place.is_dir() else None
