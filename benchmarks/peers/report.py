"""Figures for people: a table, the targets, a comparison with an earlier run, and a chart."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from html import escape
from typing import Any, Final

from benchmarks.peers.catalogue import ENGINES, OURS, WORKLOADS
from benchmarks.peers.figures import Figure, figures
from benchmarks.peers.targets import TARGETS

Run = dict[str, Any]
_BAR: Final = 15  # pixels
_WIDE: Final = 420
_LEFT: Final = 150
_OURS: Final = "#d9480f"
_THEIRS: Final = "#868e96"


def _said(figure: Figure | None, *, per_second: bool) -> str:
    if figure is None:
        return ""
    return f"{_short(figure.middle)} [{_short(figure.least)}–{_short(figure.most)}]" + ("/s" if per_second else " s")


def _short(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def table(run: Run) -> Iterator[str]:
    """Give the lines of a table in Markdown: medians [least–most]; then what was recorded, and what failed."""
    found = figures(run["turns"])
    engines = [name for name in ENGINES if any(name in some for some in found.values())]
    yield "Machine: " + ", ".join(f"{name} {value}" for name, value in run["facts"].items())
    yield ""
    yield "| workload | " + " | ".join(f"{name} {run['versions'].get(name, '')}".strip() for name in engines) + " |"
    yield "|---" * (len(engines) + 1) + "|"
    for name, workload in WORKLOADS.items():
        if name in found:
            cells = [_said(found[name].get(engine), per_second=workload.per_second) for engine in engines]
            yield f"| {workload.title} | " + " | ".join(cells) + " |"
    yield ""
    for name, some in found.items():
        for engine, figure in some.items():
            if figure.recorded is not None and figure.recorded < 1 and name not in ("flows", "flows_at_once"):
                yield f"* {engine}, {name}: {figure.recorded:.0%} in its history 50 ms after the end."
    for engine, name, error in sorted({(t["engine"], t["workload"], t["error"]) for t in run["turns"] if t["error"]}):
        yield f"* {engine}, {name}: DID NOT RUN: {error.splitlines()[-1]}"


def targets(run: Run) -> Iterator[str]:
    """Give a line for each target whose two sides were measured."""
    found = figures(run["turns"])
    for target in TARGETS:
        some = found.get(target.workload, {})
        ours, other = some.get(target.ours), some.get(target.other)
        if ours is None or other is None:
            continue
        times = ours.beside(other, per_second=WORKLOADS[target.workload].per_second)
        verdict = "reached" if times >= target.times else "NOT REACHED"
        yield f"{target.workload:16} {target.ours:18} {_times(times):>9} {target.other:10} (≥ {_times(target.times)}) {verdict}"


def _times(value: float) -> str:
    return f"{value:,.3g} ×" if value >= 0.75 else f"1/{1 / value:.3g} ×"


def comparison(old: Run, new: Run) -> Iterator[str]:
    """Give a line for each workload of each engine that both runs have: how many times as good it is now."""
    before, after = figures(old["turns"]), figures(new["turns"])
    for name, some in after.items():
        per_second = WORKLOADS[name].per_second
        for engine, figure in some.items():
            was = before.get(name, {}).get(engine)
            if was is not None:
                noise = _overlap(was, figure)
                said = f"{_said(was, per_second=per_second)} → {_said(figure, per_second=per_second)}"
                times = figure.beside(was, per_second=per_second)
                yield f"{name:16} {engine:18} {times:6.2f} ×  {said}{'  (within the noise)' if noise else ''}"


def _overlap(one: Figure, other: Figure) -> bool:
    return one.least <= other.most and other.least <= one.most


def chart(run: Run) -> str:
    """Give a chart as SVG: a group of bars for each workload, on a logarithmic scale."""
    found = figures(run["turns"])
    groups = [(WORKLOADS[name], found[name]) for name in WORKLOADS if name in found and WORKLOADS[name].per_second]
    parts: list[str] = []
    y = 10
    for workload, some in groups:
        parts.append(f'<text x="4" y="{y + 11}" font-weight="bold">{escape(workload.title)} (per second)</text>')
        y += _BAR + 4
        y = _bars(parts, y, some)
        y += 10
    style = "font-family:sans-serif;font-size:11px"
    head = f'<svg xmlns="http://www.w3.org/2000/svg" width="{_LEFT + _WIDE + 90}" height="{y}" style="{style}">'
    return "\n".join((head, *parts, "</svg>\n"))


def _bars(parts: list[str], y: int, some: dict[str, Figure]) -> int:
    top = max(figure.middle for figure in some.values())
    for engine, figure in _by_rate(some.items()):
        width = max(2.0, _WIDE * (1 - math.log10(top / figure.middle) / 5))  # five decades
        colour = _OURS if engine in OURS else _THEIRS
        parts += [
            f'<text x="{_LEFT - 6}" y="{y + 11}" text-anchor="end">{escape(engine)}</text>',
            f'<rect x="{_LEFT}" y="{y}" width="{width:.0f}" height="{_BAR - 3}" fill="{colour}"/>',
            f'<text x="{_LEFT + width + 4:.0f}" y="{y + 11}">{_short(figure.middle)}</text>',
        ]
        y += _BAR
    return y


def _by_rate(items: Iterable[tuple[str, Figure]]) -> list[tuple[str, Figure]]:
    return sorted(items, key=lambda item: -item[1].middle)
