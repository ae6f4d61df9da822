"""The long proofs in the form in which every change passes them, with a line of result each.

    make proofs-short [PARTS="kill soak"]

A part is a program of its own, which says last what it found; one that fails is printed whole, with how to repeat it.
Two run beside each other, on as many cores; that of many processes on one history has the machine for itself.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec

TESTS = Path(__file__).parent
AT_ONCE = 2
TURNS = 40
"""Of the kill loop, of each of the five kinds in which processes are killed: 200 in all."""


class Part(msgspec.Struct):
    """A proof: what it is called, what it shows, and the arguments of the interpreter that runs it."""

    name: str
    shows: str
    arguments: tuple[object, ...]
    alone: bool = False


def _kills(kind: str, shows: str, turns: int = TURNS) -> Part:
    return Part(kind, shows, ("kill_loop.py", "-n", turns, "--kind", kind))


def _tests(name: str, shows: str, *files: str) -> Part:
    # Without the plugins that a whole test run has: they take longer to import than these tests take.
    return Part(name, shows, ("-m", "pytest", "-q", "-p", "no:randomly", "--timeout", 600, *files))


PARTS = (
    _kills("waits", "killed while flows wait for signals and moments"),
    _kills("suspend", "killed while flows are suspended"),
    _kills("keyed", "killed while flows are called under a key"),
    Part("simulate", "200 seeds of each scenario", ("-m", "callsheet.testing", "simulations", "-n", 200)),
    _kills("share", "two engines on one history, one of them stopped and woken", 20),
    _kills("wake", "an owner stopped, its runs taken over, and woken", 20),
    _kills("recover", "killed, and killed again while others recover"),
    _kills("kill", "killed at random moments and at every named point"),
    Part("disk-faults", "writes and syncs that fail below SQLite", ("disk_faults.py", "-n", 100)),
    _tests("orders", "every order of messages, as far as it goes", "proofs/test_all_orders.py"),
    _tests("cancel", "cancelled at every step of a flow", "proofs/test_cancel_everywhere.py"),
    Part(
        "soak",
        "eight processes with fifty flows each on one history, for a minute",
        ("soak.py", "--processes", 8, "--flows", 50, "--seconds", 60, "--runs", 0),
        alone=True,
    ),
)


def play(part: Part) -> bool:
    """Play a part and print what came of it; tell whether all was well."""
    since = time.monotonic()
    done = subprocess.run(
        [sys.executable, *map(str, part.arguments)],
        cwd=TESTS,
        env={**os.environ, "CALLSHEET_PROOFS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    lines = done.stdout.strip().splitlines() or ["It said nothing."]
    verdict = "ok" if done.returncode == 0 else "FAILED"
    said = [f"{verdict:6} {part.name:11} {time.monotonic() - since:5.1f} s  {part.shows}: {lines[-1]}"]
    print(*said, *(lines if done.returncode else ()), sep="\n  ", flush=True)
    return done.returncode == 0


def play_all(parts: Iterable[Part]) -> bool:
    """Play parts, those first that run beside others; tell whether all were well."""
    parts = list(parts)
    with ThreadPoolExecutor(AT_ONCE) as threads:
        well = list(threads.map(play, (part for part in parts if not part.alone)))
    well += [play(part) for part in parts if part.alone]
    return all(well)


def main() -> int:
    """Play what the command line names; the exit code says whether all was well."""
    parser = argparse.ArgumentParser(description=__doc__)
    names = [part.name for part in PARTS]
    parser.add_argument("parts", nargs="*", help=f"default: all of {', '.join(names)}")
    named = parser.parse_args().parts or names
    if unknown := set(named) - set(names):
        parser.error(f"there is no {', '.join(sorted(unknown))}; there are {', '.join(names)}")
    since = time.monotonic()
    well = play_all(part for part in PARTS if part.name in named)
    print(f"{len(named)} proofs in {time.monotonic() - since:.0f} s: {'all held' if well else 'NOT all held'}")
    return 0 if well else 1


if __name__ == "__main__":
    sys.exit(main())
