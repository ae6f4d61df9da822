"""Run every workload in a process of its own and print the table.

With `run`, `setup`, `compare` or `report`: measure other engines beside this one. With `stages`: where the time of one task run
goes. With `scaling`: how it grows. With `processor`: in instructions, which do not depend on the machine's pace.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
from importlib import import_module
from pathlib import Path

from benchmarks.measure import Row, emit
from benchmarks.peers.command import VERBS
from benchmarks.peers.command import main as side_by_side

WORKLOADS = (
    "sequential",
    "fan_out",
    "giving_way",
    "appending",
    "flat_memory",
    "trivial_flow",
    "sync_tasks",
    "results",
    "pauses",
    "recovery",
    "suspended",
    "imports",
    "cold_script",
    "engine_start",
    "web",
    "scaling",
    "read_queries",
)
PROGRAMS = ("stages", "scaling", "processor")
DEADLINE = 600  # seconds a workload may take


def run(workload: str, rounds: int) -> list[Row] | str:
    """Give a workload's rows, or the end of what it complained about."""
    with tempfile.TemporaryDirectory(prefix="callsheet-bench-") as home:
        errors = Path(home) / "stderr"
        environment = {**os.environ, "CALLSHEET_HOME": home, "PYTHONHASHSEED": "0"}
        command = [sys.executable, "-m", "benchmarks", "--inside", workload, "--rounds", str(rounds)]
        with errors.open("w") as stderr:
            try:
                done = subprocess.run(
                    command, env=environment, stdout=subprocess.PIPE, stderr=stderr, timeout=DEADLINE, check=False
                )
            except subprocess.TimeoutExpired:
                return f"no end after {DEADLINE} s"
        if done.returncode:
            return errors.read_text()[-600:].strip()
        return [Row(**json.loads(line)) for line in done.stdout.splitlines() if line.startswith(b"{")]


def line(cells: tuple[str, ...]) -> str:
    """Lay out one line of the table."""
    return " ".join(cell.ljust(width) for cell, width in zip(cells, (58, 16, 16, 9, 14, 8), strict=True)).rstrip()


def main() -> int:
    """Print the table; the exit code says whether every workload ran, not whether it reached its target."""
    if sys.argv[1:2] and sys.argv[1] in VERBS:
        return side_by_side(sys.argv[1:])
    if sys.argv[1:2] and sys.argv[1] in PROGRAMS:
        return import_module(f"benchmarks.{sys.argv[1]}").main(sys.argv[2:])
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--only", nargs="+", choices=WORKLOADS, default=WORKLOADS, metavar="NAME")
    parser.add_argument("--rounds", type=int, default=5, help="turns that the medians are taken from")
    parser.add_argument("--inside", choices=WORKLOADS, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.inside:
        emit(import_module(f"benchmarks.{arguments.inside}").rows(arguments.rounds))
        return 0
    print(f"Python {platform.python_version()}, {os.cpu_count()} cores, medians of {arguments.rounds} turns\n")
    print(line(("workload", "figure", "floor", "ratio", "target", "reached")))
    broken = 0
    for workload in arguments.only:
        outcome = run(workload, arguments.rounds)
        if isinstance(outcome, str):
            broken += 1
            print(f"{workload}: DID NOT RUN\n{outcome}")
            continue
        for row in outcome:
            ratio = "" if row.ratio is None else f"{row.ratio:.2f} ×"
            reached = "yes" if row.reached else "NO"
            print(line((row.workload, row.figure, row.floor, ratio, row.target, reached)), flush=True)
    return 1 if broken else 0


if __name__ == "__main__":
    raise SystemExit(main())
