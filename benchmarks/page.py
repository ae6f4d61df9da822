"""The page of the docs that shows figures: what is between its marks is written from runs that are kept, the rest by hand."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Final

from benchmarks import processor, scaling, stages
from benchmarks.peers import report
from benchmarks.peers.chart import chart

ROOT: Final = Path(__file__).parent.parent
PAGE: Final = ROOT / "docs" / "explanation" / "performance.md"
CHART: Final = PAGE.with_suffix(".svg")
KEPT: Final = Path(__file__).parent / "figures"

_BLOCK: Final = re.compile(r"(<!-- written from (\w+): begin -->\n).*?(<!-- written from \2: end -->)", re.DOTALL)
_PARTS: Final[dict[str, tuple[str, Callable[[Any], Iterable[str]]]]] = {
    "targets": ("targets", report.targets),
    "run": ("run", report.table),
    "pinned": ("pinned", report.targets),
    "stages": ("stages", stages.table),
    "profiles": ("stages", stages.profiles),
    "processor": ("processor", processor.table),
    "scaling": ("scaling", scaling.table),
}


def keep(name: str, figures: dict[str, Any]) -> None:
    """Keep figures for the page: of a run, its turns a line each."""
    KEPT.mkdir(exist_ok=True)
    text = json.dumps(figures, ensure_ascii=False, indent=1)
    if "turns" in figures:
        turns = ",\n".join(json.dumps(turn, ensure_ascii=False) for turn in figures["turns"])
        head = json.dumps({**figures, "turns": []}, ensure_ascii=False)
        text = head[: -len("[]}")] + f"[\n{turns}\n]}}"
        assert json.loads(text) == figures
    (KEPT / f"{name}.json").write_text(text + "\n")


def kept(name: str) -> Any:
    """Give what was kept, or nothing."""
    path = KEPT / f"{name}.json"
    return json.loads(path.read_text()) if path.exists() else None


def written() -> str:
    """Give the page as it is to be."""

    def part(match: re.Match[str]) -> str:
        source, lines = _PARTS[match[2]]
        figures = kept(source)
        text = "" if figures is None else "\n".join(lines(figures))
        return f"{match[1]}\n{text or 'Not measured yet.'}\n\n{match[3]}"

    return _BLOCK.sub(part, PAGE.read_text())


def drawn() -> str | None:
    """Give the chart as it is to be."""
    run = kept("run")
    return None if run is None else chart(run)


def write() -> None:
    """Write page and chart."""
    PAGE.write_text(written())
    if (svg := drawn()) is not None:
        CHART.write_text(svg)
