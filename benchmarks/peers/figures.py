"""From turns to figures: medians with their range, ratios within one run, and the machine they are from."""

from __future__ import annotations

import os
import platform
import sqlite3
import statistics
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from benchmarks.peers.catalogue import WORKLOADS, Workload


@dataclass(frozen=True)
class Figure:
    """The median of an engine's turns at a workload, in its unit, and what else was found."""

    middle: float
    least: float
    most: float
    turns: int
    size: int
    p50: float | None = None  # seconds
    p99: float | None = None
    peak_mb: float | None = None
    recorded: float | None = None  # the share of what was done that the history knows 50 ms later
    complete: float | None = None  # pieces a second, until the history had them all
    begin: float | None = None  # seconds until the first piece that was left ran
    resident_mb: tuple[float, ...] = ()  # after each tenth of the work
    unanswered: float | None = None  # requests that were given up

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


Figures = dict[str, dict[str, Figure]]
_VALUES: Final = {"per second": "rate", "seconds": "seconds"}


def figures(turns: list[dict[str, Any]]) -> Figures:
    """Give what each engine reached at each workload. Turns that failed count for nothing."""
    grouped: dict[tuple[str, str], list[dict[str, Any]]] = defaultdict(list)
    for turn in turns:
        if not turn["error"] and turn["workload"] in WORKLOADS:
            grouped[turn["workload"], turn["engine"]].append(turn)
    result: Figures = defaultdict(dict)
    for (workload, engine), some in grouped.items():
        result[workload][engine] = _figure(some, WORKLOADS[workload])
    return dict(result)


def _figure(turns: list[dict[str, Any]], workload: Workload) -> Figure:
    found = [turn.get("found") or {} for turn in turns]
    if workload.unit == "bytes":
        values = [one["bytes"] for one in found]
    else:
        values = [turn[_VALUES[workload.unit]] for turn in turns]

    def middle(name: str) -> float | None:
        some = [one[name] for one in found if one.get(name) is not None]
        return statistics.median(some) if some else None

    recorded, size, complete = middle("recorded"), turns[0]["size"], middle("complete")
    if any(one.get("busy") for one in found):
        complete = None
    return Figure(
        statistics.median(values), min(values), max(values), len(values), size, middle("p50"), middle("p99"),
        middle("peak_mb"), None if recorded is None or not size else recorded / size,
        size / complete if complete else None, middle("begin"), tuple(found[-1].get("resident_mb", ())), middle("unanswered"),
    )  # fmt: skip
