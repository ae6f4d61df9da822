"""Processes of turns, of which none may be left behind: servers, workers and daemons of peers end with their turn."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

MARK: Final = (
    "BENCH_STATE"  # in the environment of all that belongs to one turn, whatever its session and its parent are
)
MOST_THREADS: Final = 3_000  # more than any peer has needed; one took 9,000 and the machine stood still
_LOOK: Final = 0.2  # seconds


class Runaway(Exception):
    """A turn took too long, or more threads than a machine can stand."""


def begin(
    command: list[str], environment: dict[str, str], out: Path, pin: int | None = None
) -> subprocess.Popen[bytes]:
    """Start a process in a session and a folder of its own. What it prints goes to files: a pipe would outlive it in its daemons.

    The folder, because some read the settings of whatever project they are started in.
    """
    if pin is not None and (taskset := shutil.which("taskset")):
        command = [taskset, "-c", str(pin), *command]
    if setpriv := shutil.which(
        "setpriv"
    ):  # the program that takes turns may be killed, and then has no time to end them
        command = [setpriv, "--pdeathsig", "KILL", *command]
    with out.with_suffix(".out").open("wb") as stdout, out.with_suffix(".err").open("wb") as stderr:
        return subprocess.Popen(
            command, env=environment, stdin=subprocess.DEVNULL, stdout=stdout, stderr=stderr, start_new_session=True,
            cwd=out.parent,
        )  # fmt: skip


def watch(process: subprocess.Popen[bytes], limit: float) -> None:
    """Wait for the end of a process.

    Args:
        process: The process.
        limit: Seconds that it may take.

    Raises:
        Runaway: It took longer, or too many threads.
    """
    until = time.monotonic() + limit
    while True:
        try:
            process.wait(_LOOK)
            return
        except subprocess.TimeoutExpired:
            if time.monotonic() > until:
                raise Runaway(f"no end after {limit:g} s") from None
            if (threads := _threads(process.pid)) > MOST_THREADS:
                raise Runaway(f"{threads:,} threads") from None


def end(process: subprocess.Popen[bytes], mark: str) -> None:
    """End a process, its session, and whatever else carries its mark, wherever that has gone."""
    _signal_session(process.pid, signal.SIGKILL)
    process.wait()
    until = time.monotonic() + 10
    while (left := list(marked(mark))) and time.monotonic() < until:
        for pid in left:
            _signal(pid, signal.SIGKILL)
        time.sleep(0.02)


def hold(mark: str, *, still: bool) -> None:
    """Stop all that carries a mark, or let it go on."""
    for pid in marked(mark):
        _signal(pid, signal.SIGSTOP if still else signal.SIGCONT)


def marked(mark: str) -> Iterator[int]:
    """Find living processes by their mark (Linux; elsewhere the session has to do)."""
    wanted = f"{MARK}={mark}".encode()
    for place in Path("/proc").glob("[0-9]*"):
        try:
            if wanted in (place / "environ").read_bytes().split(b"\0") and not _is_zombie(place):
                yield int(place.name)
        except OSError:
            continue


def _is_zombie(place: Path) -> bool:
    return (place / "stat").read_bytes().rpartition(b")")[2].split()[0] in (b"Z", b"X")


def _threads(pid: int) -> int:
    try:
        return sum(1 for _ in Path(f"/proc/{pid}/task").iterdir())
    except OSError:
        return 0


def _signal(pid: int, number: signal.Signals) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        pass


def _signal_session(pid: int, number: signal.Signals) -> None:
    try:
        os.killpg(pid, number)
    except ProcessLookupError:
        pass
