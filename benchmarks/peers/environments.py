"""Virtual environments of peers, one each, outside of the project."""

from __future__ import annotations

import os
import subprocess
import sys
import venv
from pathlib import Path

from benchmarks.peers.catalogue import Engine

ROOT = Path(os.environ.get("CALLSHEET_BENCH_PEERS", "~/.cache/callsheet-benchmarks")).expanduser()


def python_of(engine: Engine) -> Path | None:
    """Give the interpreter that an engine's scripts run in, or `None` where it is not set up as it is to be now."""
    if not engine.requirements:
        return Path(sys.executable)
    ready = ROOT / engine.name / "ready"
    wanted = "\n".join(engine.requirements)
    return ROOT / engine.name / "bin" / "python" if ready.exists() and ready.read_text() == wanted else None


def set_up(engine: Engine) -> None:
    """Make an engine's environment, or bring it up to date.

    Raises:
        subprocess.CalledProcessError: Something cannot be installed; pip has said what.
    """
    place = ROOT / engine.name
    if not (place / "bin" / "python").exists():
        venv.create(place, symlinks=True, with_pip=True)
    command = [place / "bin" / "python", "-m", "pip", "install", "-q", "--disable-pip-version-check", "--no-input"]
    subprocess.run([*command, "--upgrade", *engine.requirements], check=True)
    (place / "ready").write_text("\n".join(engine.requirements))


def version_of(engine: Engine, python: Path) -> str:
    """Give the version of what is measured; nothing for what comes with Python."""
    if not engine.package:
        return ""
    code = f"import importlib.metadata as m; print(m.version({engine.package!r}))"
    return subprocess.run([python, "-c", code], check=True, stdout=subprocess.PIPE, text=True).stdout.strip()
