"""Figures for people: a table, the targets, and a comparison with an earlier run."""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from typing import Any, Final, NamedTuple

from benchmarks.peers.catalogue import ENGINES, FLOORS, OURS, WORKLOADS, Unit
from benchmarks.peers.figures import Figure, Figures, figures
from benchmarks.peers.targets import verdicts

Run = dict[str, Any]
CLEAR: Final = 0.90  # worse than this, and outside of the noise, is a regression
_UNITS: Final[dict[Unit, str]] = {"per second": "/s", "seconds": " s", "bytes": " B"}


def said(figure: Figure | None, unit: Unit, size: int | None = None) -> str:
    """Write a figure: the median, its range where there were several turns, and its size where that is not the usual one."""
    if figure is None:
        return ""
    spread = f" [{short(figure.least)}–{short(figure.most)}]" if figure.turns > 1 else ""
    pieces = f" ({figure.size:,})" if size and figure.size != size else ""
    return f"{short(figure.middle)}{_UNITS[unit]}{spread}{pieces}"


def short(value: float) -> str:
    """Write a number with three digits or so."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def table(run: Run) -> Iterator[str]:
    """Give the lines of tables in Markdown, medians [least–most]: beside peers, beside floors; then what else was found, and what failed."""
    found = figures(run["turns"])
    yield "Machine: " + ", ".join(f"{name} {value}" for name, value in run["facts"].items())
    yield ""
    peers = [name for name in ENGINES if name not in FLOORS]
    for columns in (peers, [*OURS, *FLOORS]):
        yield from _columns(run, found, [name for name in columns if any(name in some for some in found.values())])
    yield from notes(found)
    yield from failures(run)


def _columns(run: Run, found: Figures, engines: list[str]) -> Iterator[str]:
    if not engines:
        return
    wanted = [name for name in engines if name in FLOORS] or engines  # what has no floor is in the other table
    yield "| workload | " + " | ".join(f"{name} {run['versions'].get(name, '')}".strip() for name in engines) + " |"
    yield "|---" * (len(engines) + 1) + "|"
    for name, workload in WORKLOADS.items():
        if any(engine in found.get(name, {}) for engine in wanted):
            cells = [said(found[name].get(engine), workload.unit, workload.size) for engine in engines]
            yield f"| {workload.title} | " + " | ".join(cells) + " |"
    yield ""


def notes(found: Figures) -> Iterator[str]:
    """Give what else was found out, a line each: histories, waiting times, memory."""
    for name, some in found.items():
        for engine, figure in some.items():
            if figure.recorded is not None and figure.recorded < 1:
                late = f"complete at {short(figure.complete)}/s" if figure.complete else "not complete 20 s later"
                yield f"* {engine}, {name}: {figure.recorded:.0%} in its history 50 ms after the end; {late}."
            if name in ("web", "beside_threads") and figure.p50 and figure.p99:
                lost = f"; {figure.unanswered:.0f} requests without an answer" if figure.unanswered else ""
                yield f"* {engine}, {name}: p50 {figure.p50 * 1e3:.3g} ms, p99 {figure.p99 * 1e3:.3g} ms{lost}."
            if figure.begin is not None:
                yield f"* {engine}, {name}: the first piece that was left ran after {figure.begin:.2f} s."
            if figure.resident_mb:
                yield f"* {engine}, {name}: resident after each tenth {', '.join(f'{mb:.0f}' for mb in figure.resident_mb)} MB."


def failures(run: Run) -> Iterator[str]:
    """Give what did not run, a line each."""
    for engine, name, error in sorted({(t["engine"], t["workload"], t["error"]) for t in run["turns"] if t["error"]}):
        yield f"* {engine}, {name}: DID NOT RUN: {error.splitlines()[-1]}"


def targets(run: Run) -> Iterator[str]:
    """Give a table in Markdown of the targets whose sides were measured; what decides is bold."""
    yield "| workload | target | default (`results`) | `relaxed` | verdict |"
    yield "|---|---|---|---|---|"
    for one in verdicts(figures(run["turns"])):
        levels = [
            f"**{value}**" if value and one.decided_by in (level, "both") else value
            for level, value in zip(OURS, (one.default, one.relaxed), strict=True)
        ]
        verdict = "reached" if one.reached else "NOT REACHED"
        yield f"| {one.workload} | {one.wanted} | {' | '.join(levels)} | {verdict} |"


class Change(NamedTuple):
    """How many times as good an engine is at a workload as before, the machine's own change taken out."""

    workload: str
    engine: str
    times: float
    before: Figure
    after: Figure
    noise: bool

    @property
    def regression(self) -> bool:
        """Whether it is clearly worse, and ours."""
        return self.engine in OURS and not self.noise and self.times < CLEAR


def machine(old: Run, new: Run) -> float:
    """Say how many times as fast the machine was in the second run: the median of what the floors changed by."""
    before, after = figures(old["turns"]), figures(new["turns"])
    ratios = [
        figure.beside(before[name][engine], per_second=WORKLOADS[name].per_second)
        for name, some in after.items()
        if WORKLOADS[name].unit != "bytes"
        for engine, figure in some.items()
        if engine in FLOORS and engine in before.get(name, {})
    ]
    return statistics.median(ratios) if ratios else 1.0


def changes(old: Run, new: Run) -> Iterator[Change]:
    """Give what changed, for each workload of each engine that both runs have in the same size."""
    before, after, factor = figures(old["turns"]), figures(new["turns"]), machine(old, new)
    for name, some in after.items():
        workload = WORKLOADS[name]
        scale = 1.0 if workload.unit == "bytes" else factor
        for engine, figure in some.items():
            was = before.get(name, {}).get(engine)
            if was is not None and was.size == figure.size:
                times = figure.beside(was, per_second=workload.per_second) / scale
                now = scale if workload.per_second else 1 / scale
                noise = was.least <= figure.most / now and figure.least / now <= was.most
                yield Change(name, engine, times, was, figure, noise)


def comparison(old: Run, new: Run) -> Iterator[str]:
    """Give a line for each change, then the clear regressions of ours."""
    yield f"The floors say that the machine was {machine(old, new):.2f} × as fast; that is taken out of what follows."
    found = list(changes(old, new))
    for one in found:
        unit = WORKLOADS[one.workload].unit
        text = (
            f"{one.workload:16} {one.engine:18} {one.times:6.2f} ×  {said(one.before, unit)} → {said(one.after, unit)}"
        )
        yield text + ("  (within the noise)" if one.noise else "")
    worse = [one for one in found if one.regression]
    yield ""
    yield f"Clear regressions: {len(worse) or 'none'}"
    for one in worse:
        yield f"* {one.workload}, {one.engine}: {one.times:.2f} × of what it was"
