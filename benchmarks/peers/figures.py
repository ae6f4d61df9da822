"""From turns to figures: medians with their range, ratios within one run, and the machine they are from."""

from __future__ import annotations

import os
import platform
import sqlite3
import statistics
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.peers.catalogue import WORKLOADS


@dataclass(frozen=True)
class Figure:
    """The median of an engine's turns at a workload; pieces a second, or seconds where fewer are better."""

    middle: float
    least: float
    most: float
    turns: int
    size: int
    p50: float | None  # seconds
    p99: float | None
    peak_mb: float | None
    recorded: float | None  # the share of what was done that the history knows 50 ms later

    def beside(self, other: Figure, *, per_second: bool) -> float:
        """Say how many times as good this one is."""
        return self.middle / other.middle if per_second else other.middle / self.middle


def facts() -> dict[str, Any]:
    """Describe the machine."""
    return {
        "python": platform.python_version(),
        "sqlite": sqlite3.sqlite_version,
        "system": f"{platform.system()} {platform.machine()}",
        "cores": os.cpu_count(),
        "processor": _processor(),
        "load": round(os.getloadavg()[0], 2),
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")


def figures(turns: list[dict[str, Any]]) -> dict[str, dict[str, Figure]]:
    """Give what each engine reached at each workload. Turns that failed count for nothing."""
    grouped: dict[tuple[str, str], list[dict[str, Any]]] = defaultdict(list)
    for turn in turns:
        if not turn["error"]:
            grouped[turn["workload"], turn["engine"]].append(turn)
    result: dict[str, dict[str, Figure]] = defaultdict(dict)
    for (workload, engine), some in grouped.items():
        result[workload][engine] = _figure(some, per_second=WORKLOADS[workload].per_second)
    return dict(result)


def _figure(turns: list[dict[str, Any]], *, per_second: bool) -> Figure:
    values = [turn["rate" if per_second else "seconds"] for turn in turns]
    found = [turn["found"] or {} for turn in turns]

    def middle(name: str) -> float | None:
        some = [one[name] for one in found if name in one]
        return statistics.median(some) if some else None

    recorded, size = middle("recorded"), turns[0]["size"]
    return Figure(
        statistics.median(values), min(values), max(values), len(values), size, middle("p50"), middle("p99"),
        middle("peak_mb"), None if recorded is None or not size else recorded / size,
    )  # fmt: skip
