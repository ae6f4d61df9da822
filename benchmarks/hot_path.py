"""What one task run executes, counted instead of timed: bytecode instructions and calls, the same on every machine.

`python -m benchmarks.hot_path` prints the counts beside the recorded ones; with `--record` it writes them down. Counted is the thread
that runs the tasks, between two sizes of one flow, so that neither start nor end takes part.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from pathlib import Path
from types import FrameType
from typing import Any, Final

from benchmarks.apart import apart
from benchmarks.shapes import SHAPES
from callsheet._kernel import turns

RECORDED: Final = Path(__file__).with_suffix(".json")
VERSION: Final = f"{sys.version_info.major}.{sys.version_info.minor}"
LEVELS: Final = ("off", "relaxed", "results")
GROWTH: Final = 1.10
# Python 3.12 does not trace instructions again that were traced once before (its code is instrumented for good).
KINDS: Final = ("calls",) if VERSION == "3.12" else ("calls", "instructions")
SIZES: Final = (50, 150)
FEWER: Final = (20, 60)  # gives the same within two in a hundred, and takes half the time
_counted = {"instructions": 0, "calls": 0}

Counts = dict[str, float]


def _on_call(frame: FrameType, event: str, argument: Any) -> None:
    del frame, argument
    if event in ("call", "c_call"):
        _counted["calls"] += 1


def _on_frame(frame: FrameType, event: str, argument: Any) -> Any:
    del event, argument
    frame.f_trace_opcodes, frame.f_trace_lines = True, False
    return _on_instruction


def _on_instruction(frame: FrameType, event: str, argument: Any) -> Any:
    del frame, argument
    if event == "opcode":
        _counted["instructions"] += 1
    return _on_instruction


def _count(work: Any, size: int, kind: str) -> int:
    async def counting() -> None:
        await work(20)  # what is made once is there
        _counted[kind] = 0
        sys.setprofile(_on_call) if kind == "calls" else sys.settrace(_on_frame)
        try:
            await work(size)
        finally:
            sys.setprofile(None)
            sys.settrace(None)

    asyncio.run(counting())
    return _counted[kind]


def here(few: int, many: int) -> dict[str, Counts]:
    """Count in this process, at the level of durability that its settings say."""
    turns.BUDGET = float("inf")  # what is counted must not depend on how long it takes
    return {
        name: {
            kind: round((_count(shape.work, many, kind) - _count(shape.work, few, kind)) / (many - few), 1)
            for kind in KINDS
        }
        for name, shape in SHAPES.items()
    }


def counts(sizes: tuple[int, int] = SIZES) -> dict[str, Counts]:
    """Count between two sizes at every level, each in a process and a history of its own; by level and workload."""
    found: dict[str, Counts] = {}
    for level in LEVELS:
        counted = apart("benchmarks.hot_path", "--here", *map(str, sizes), level=level)
        found |= {f"{level} {name}": one for name, one in counted.items()}
    return found


def recorded() -> dict[str, Counts]:
    """Give what was written down for this version of Python; nothing where that is not known."""
    return json.loads(RECORDED.read_text()).get(VERSION, {}) if RECORDED.exists() else {}


def grown(now: dict[str, Counts], before: dict[str, Counts]) -> list[str]:
    """Say what has grown by more than a tenth."""
    return [
        f"{name}: {now[name][kind]:g} {kind} a piece of work, {count:g} before"
        for name, one in before.items()
        for kind, count in one.items()
        if now[name][kind] > count * GROWTH
    ]


def main() -> int:
    """Print or record the counts; the exit code says whether any has grown too much."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.hot_path", description=__doc__)
    parser.add_argument("--record", action="store_true", help="write the counts down for this version of Python")
    parser.add_argument("--here", nargs=2, type=int, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.here:
        print(json.dumps(here(*asked.here)))
        return 0
    now, before = counts(), recorded()
    for name, one in now.items():
        print(f"{name:20} {one}  before: {before.get(name, 'not recorded')}")
    if asked.record:
        whole = json.loads(RECORDED.read_text()) if RECORDED.exists() else {}
        RECORDED.write_text(json.dumps({**whole, VERSION: now}, indent=2, sort_keys=True) + "\n")
        return 0
    problems = grown(now, before)
    print("\n".join(problems))
    return 1 if problems else 0


if __name__ == "__main__":
    raise SystemExit(main())
