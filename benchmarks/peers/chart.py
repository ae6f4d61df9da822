"""A chart of a run as SVG, legible on light and on dark ground: a group of bars for each workload, on one logarithmic scale."""

from __future__ import annotations

import math
from html import escape
from typing import Any, Final

from benchmarks.peers.catalogue import ENGINES, FLOORS, OURS, WORKLOADS
from benchmarks.peers.figures import Figure, figures
from benchmarks.peers.report import short

CHARTED: Final = (
    "sequential",
    "map",
    "flows",
    "flows_at_once",
    "sync_called",
    "sync_submitted",
    "retry",
    "chain",
    "web",
)
_BAR: Final = 13  # pixels
_WIDE: Final = 400
_LEFT: Final = 112
_TOP: Final = 26
_DECADES: Final = (0, 6)  # 1/s to 1,000,000/s
_STYLE: Final = """<style>
text { font: 11px system-ui, sans-serif; fill: #24292f }
.title { font-weight: 600 }
.scale { fill: #57606a }
line { stroke: #d0d7de }
.ours { fill: #c2410c }
.peer { fill: #57708c }
.floor { fill: #b6bec8 }
@media (prefers-color-scheme: dark) {
  text { fill: #e6edf3 }
  .scale { fill: #9198a1 }
  line { stroke: #3d444d }
  .ours { fill: #fb923c }
  .peer { fill: #7f9cbd }
  .floor { fill: #59626d }
}
</style>"""


def chart(run: dict[str, Any]) -> str:
    """Give the chart: engines of one workload by their rate, what is ours in a colour of its own."""
    found = figures(run["turns"])
    parts: list[str] = []
    y = _TOP
    for name in CHARTED:
        if name in found:
            parts.append(f'<text class="title" x="2" y="{y + 10}">{escape(WORKLOADS[name].title)}</text>')
            y = _bars(parts, y + _BAR + 3, found[name]) + 8
    width = _LEFT + _WIDE + 60
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {y}" width="{width}" height="{y}" role="img" '
        'aria-label="Pieces of work a second, by engine and workload">'
    )
    return "\n".join((head, _STYLE, *_scale(y), *parts, "</svg>\n"))


def _scale(bottom: int) -> list[str]:
    lines = []
    for decade in range(_DECADES[0], _DECADES[1] + 1):
        x = _place(10.0**decade)
        lines += [
            f'<line x1="{x:.0f}" y1="{_TOP - 6}" x2="{x:.0f}" y2="{bottom}"/>',
            f'<text class="scale" x="{x:.0f}" y="{_TOP - 12}" text-anchor="middle">{_round(10**decade)}/s</text>',
        ]
    return lines


def _round(number: int) -> str:
    return (
        f"{number // 1_000_000}M" if number >= 1_000_000 else f"{number // 1_000}k" if number >= 1_000 else str(number)
    )


def _place(rate: float) -> float:
    least, most = _DECADES
    share = (math.log10(max(rate, 10.0**least)) - least) / (most - least)
    return _LEFT + _WIDE * min(1.0, share)


def _bars(parts: list[str], y: int, some: dict[str, Figure]) -> int:
    for engine, figure in sorted(some.items(), key=lambda item: -item[1].middle):
        kind = "ours" if engine in OURS else "floor" if engine in FLOORS else "peer"
        end = max(_LEFT + 2.0, _place(figure.middle))
        parts += [
            f'<text x="{_LEFT - 5}" y="{y + 10}" text-anchor="end">{escape(_named(engine))}</text>',
            f'<rect class="{kind}" x="{_LEFT}" y="{y + 1}" width="{end - _LEFT:.0f}" height="{_BAR - 3}"/>',
            f'<text x="{end + 4:.0f}" y="{y + 10}">{short(figure.middle)}</text>',
        ]
        y += _BAR
    return y


def _named(engine: str) -> str:
    """Say on top of what a floor is made, and which level of durability is ours."""
    if engine in FLOORS:
        return f"({engine})"
    return f"{ENGINES[engine].name}"
