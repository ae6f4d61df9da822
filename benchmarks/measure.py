"""Taking turns, medians, and one row of the table."""

from __future__ import annotations

import json
import os
import statistics
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass
class Row:
    """One line: what was measured, its floor, and whether the target was reached."""

    workload: str
    figure: str
    floor: str
    ratio: float | None
    target: str
    reached: bool


async def in_turn(
    rounds: int, ours: Callable[[], Awaitable[object]], floor: Callable[[], Awaitable[object]]
) -> tuple[float, float]:
    """Give the median seconds of ours and of the floor: one warm-up each, then A B A B."""
    times: tuple[list[float], list[float]] = ([], [])
    for turn in range(rounds + 1):
        for fn, seconds in zip((floor, ours), times, strict=True):
            start = time.perf_counter()
            await fn()
            if turn:
                seconds.append(time.perf_counter() - start)
    return statistics.median(times[1]), statistics.median(times[0])


def in_turn_sync(rounds: int, ours: Callable[[], object], floor: Callable[[], object]) -> tuple[float, float]:
    """Do the same for plain functions."""
    times: tuple[list[float], list[float]] = ([], [])
    for turn in range(rounds + 1):
        for fn, seconds in zip((floor, ours), times, strict=True):
            start = time.perf_counter()
            fn()
            if turn:
                seconds.append(time.perf_counter() - start)
    return statistics.median(times[1]), statistics.median(times[0])


def at_most_times(workload: str, ours: float, floor: float, count: int, limit: float) -> Row:
    """Make the row of a workload that may cost so many times its floor."""
    ratio = ours / floor
    return Row(workload, each(ours, count), each(floor, count), ratio, f"≤ {limit:g} ×", ratio <= limit)


def at_most(workload: str, ours: float, floor: float, limit: float, unit: str = "ms") -> Row:
    """Make the row of a workload that may take so long; `ours` and `floor` are in the unit."""
    ratio = ours / floor if floor else None
    return Row(workload, f"{ours:.3g} {unit}", f"{floor:.3g} {unit}", ratio, f"≤ {limit:g} {unit}", ours <= limit)


def each(seconds: float, count: int) -> str:
    """Say how long one of many took."""
    return f"{seconds / count * 1e6:.1f} µs"


def memory_kib(field: str, pid: int | str = "self") -> int:
    """Read a field of this kind from the kernel: ``VmHWM`` is the peak, ``VmRSS`` what is resident now."""
    with Path(f"/proc/{pid}/status").open() as status:
        return next(int(line.split()[1]) for line in status if line.startswith(f"{field}:"))


def as_installed(home: Path) -> dict[str, str]:
    """Give the environment of a program whose packages are compiled, as installers leave them.

    The first run compiles to a folder of its own; programs that are not compiled take twice as long to start.
    """
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    compiled = Path(os.environ["CALLSHEET_HOME"]) / "compiled"
    return {**environment, "CALLSHEET_HOME": str(home), "PYTHONPYCACHEPREFIX": str(compiled)}


def emit(rows: Sequence[Row]) -> None:
    """Hand rows to the process that prints the table."""
    sys.stdout.write("".join(f"{json.dumps(asdict(row))}\n" for row in rows))
