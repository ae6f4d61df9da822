"""Where the time of one task run goes: bytecode instructions by stage, and microseconds that are estimated from them.

`python -m benchmarks stages` measures and prints; with `--keep` the page of the docs shows it.

Instructions are counted on every thread, between two sizes of one flow; code of libraries counts for the stage that calls it. Time
inside of C functions (SQLite above all) is taken by a profile, less what the profile itself costs. The processor's time of a
run that is not traced, less that, is shared out by instructions: those microseconds are estimates, the instructions are not.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from types import CodeType, FrameType
from typing import Any, Final

from benchmarks.hot_path import mapped, one_by_one
from benchmarks.peers.servers import fast_place

LEVELS: Final = ("off", "relaxed", "results")
SHAPES: Final = (("sequential", one_by_one), ("map", mapped))
# What belongs where: the beginning of a module's path below the package, the longest that fits.
STAGES: Final[dict[str, tuple[str, ...]]] = {
    "call and binding": (
        "tasks", "flows", "_engine/calls", "_engine/task_calls", "_engine/binding", "_engine/parameters", "_engine/mapping",
        "_engine/invoke", "_engine/dispatch", "_engine/definitions", "_engine/upstream", "_engine/ambient", "utilities",
    ),
    "the run itself": ("_engine", "context", "runtime", "_clock", "_dual", "logging", "_transactions", "transactions"),
    "messages": ("_kernel/orchestrator", "_kernel/mailbox", "_kernel/messages", "_kernel/critical", "_kernel/alarms", "_kernel/tree"),
    "rules": ("_rules",),
    "recording": ("_rules/identity", "_rules/digest", "_engine/recording", "_engine/names", "_model", "_ids", "_results"),
    "encoding": ("_store/rows", "_store/redo", "_store/codes", "_store/statements"),
    "commit": ("_store", "_kernel/journal", "_kernel/commits", "_kernel/bell"),
    "waiting and waking": ("_kernel", "_engine/futures", "_engine/waiting", "_engine/circles"),
}  # fmt: skip
LOOP: Final = "event loop and body"
_PLACES: Final = sorted(
    ((place, stage) for stage, places in STAGES.items() for place in places), key=lambda one: -len(one[0])
)
_FEW, _MANY, _TIMED, _TURNS = 50, 150, 1_000, 5
_PACKAGE: Final = f"{os.sep}callsheet{os.sep}"

_known: dict[CodeType, str | None] = {}
_counts: dict[tuple[str, str], float] = defaultdict(float)
_main = threading.get_ident()
_traced: set[int] = set()


def stage_of(path: str) -> str | None:
    """Say to what stage a source file belongs; nothing for files that are not this package's."""
    below = path.replace("\\", "/").rpartition("/callsheet/")[2].removesuffix(".py") if _PACKAGE in path else ""
    return next((stage for place, stage in _PLACES if below.startswith(place)), "the run itself") if below else None


def _of_frame(frame: FrameType | None) -> str:
    while frame is not None:
        code = frame.f_code
        if code not in _known:
            _known[code] = stage_of(code.co_filename)
        if (stage := _known[code]) is not None:
            return stage
        frame = frame.f_back
    return LOOP


def _thread() -> str:
    return "caller" if threading.get_ident() == _main else "journal"


def _on_frame(frame: FrameType, event: str, argument: Any) -> Any:
    del event, argument
    frame.f_trace_opcodes, frame.f_trace_lines = True, False
    key = _thread(), _of_frame(frame)

    def on_instruction(frame: FrameType, event: str, argument: Any) -> Any:
        del frame, argument
        if event == "opcode":
            _counts[key] += 1
        return on_instruction

    return on_instruction


class _InC:
    """Adds up the time inside of C functions that call nothing back."""

    def __init__(self) -> None:
        self._since = threading.local()
        self.cost = 0.0
        sys.setprofile(self)
        for _ in range(10_000):
            len(())
        sys.setprofile(None)
        self.cost = sum(_counts.values()) / 10_000  # what the two events see of a function that does nothing
        _counts.clear()

    def __call__(self, frame: FrameType, event: str, argument: Any) -> None:
        del argument
        now = time.thread_time()
        if event == "c_call":
            self._since.at = time.thread_time()
            return
        since = getattr(self._since, "at", None)
        if event == "c_return" and since is not None:
            _counts[_thread(), _of_frame(frame)] += now - since - self.cost
        self._since.at = None


async def _taken(work: Any, size: int, tracer: Any, kind: str) -> dict[tuple[str, str], float]:
    await work(20)
    await asyncio.sleep(0.1)  # the journal has nothing left to do
    _counts.clear()
    start = sys.settrace if kind == "instructions" else sys.setprofile
    start(tracer)
    try:
        await work(size)
    finally:
        start(None)
    await asyncio.sleep(0.2)
    return dict(_counts)


def _by_stage(work: Any, tracer: Any, kind: str) -> dict[tuple[str, str], float]:
    few, many = (asyncio.run(_taken(work, size, tracer, kind)) for size in (_FEW, _MANY))
    return {key: max(0.0, (many[key] - few.get(key, 0.0)) / (_MANY - _FEW)) for key in many}


def here(kind: str) -> dict[str, Any]:
    """Take one kind of measure in this process: `clock`, `instructions` or `c`."""
    if kind == "clock":
        return {name: asyncio.run(_clocks(work)) for name, work in SHAPES}
    tracer = _on_frame if kind == "instructions" else _InC()
    # The journal's thread is traced from its start: it starts with the first flow.
    (threading.settrace if kind == "instructions" else threading.setprofile)(tracer)
    found = {name: _by_stage(work, tracer, kind) for name, work in SHAPES}
    return {name: [[*key, value] for key, value in one.items()] for name, one in found.items()}


async def _clocks(work: Any) -> list[float]:
    """Give microseconds a task run: by the clock, and of the processor, on the thread that runs the tasks."""
    await work(_TIMED)
    taken = []
    for _ in range(_TURNS):
        start, busy = time.perf_counter(), time.thread_time()
        await work(_TIMED)
        taken.append(((time.perf_counter() - start) / _TIMED * 1e6, (time.thread_time() - busy) / _TIMED * 1e6))
    return [statistics.median(some) for some in zip(*taken, strict=True)]


def _process(level: str, kind: str) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="callsheet-stages-", dir=fast_place()) as home:
        environment = {
            **os.environ,
            "CALLSHEET_HOME": home,
            "CALLSHEET_DATABASE": str(Path(home) / "stages.db"),
            "CALLSHEET_DURABILITY": level,
            "PYTHONHASHSEED": "0",
        }
        command = [sys.executable, "-m", "benchmarks.stages", "--here", kind]
        done = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE)
    return json.loads(done.stdout)


def measure() -> dict[str, Any]:
    """Give, by level and shape, what each stage executes on which thread, and microseconds by the clock."""
    found: dict[str, Any] = {}
    for level in LEVELS:
        clock, instructions, inside = (_process(level, kind) for kind in ("clock", "instructions", "c"))
        for name, _ in SHAPES:
            found[f"{level} {name}"] = _together(clock[name], instructions[name], inside[name])
    return {"python": sys.version.split()[0], "measured": found}


def _together(clocks: list[float], instructions: list[list[Any]], inside: list[list[Any]]) -> dict[str, Any]:
    in_c = {(thread, stage): seconds * 1e6 for thread, stage, seconds in inside}
    counted = {(thread, stage): count for thread, stage, count in instructions}
    mine = sum(count for (thread, _), count in counted.items() if thread == "caller")
    left = max(0.0, clocks[1] - sum(micros for (thread, _), micros in in_c.items() if thread == "caller"))
    stages: dict[str, dict[str, float]] = {}
    for thread, stage in sorted(counted.keys() | in_c.keys()):
        count = counted.get((thread, stage), 0.0)
        one = stages.setdefault(stage, {})
        one[f"{thread} instructions"] = round(count, 1)
        one[f"{thread} c"] = round(in_c.get((thread, stage), 0.0), 2)
        if thread == "caller":
            one["micros"] = round(one["caller c"] + left * count / mine, 2)
    return {"clock": round(clocks[0], 1), "processor": round(clocks[1], 1), "stages": stages}


def table(found: dict[str, Any]) -> Iterator[str]:
    """Give the lines of a table in Markdown: instructions of a task run on the caller's thread, and the estimated microseconds."""
    shown = ("off sequential", "relaxed sequential", "results sequential", "relaxed map", "results map")
    measured = found["measured"]
    yield f"Python {found['python']}: instructions a task run on the caller's thread; in brackets microseconds of its processor time, estimated stage by stage."
    yield ""
    yield "| stage | " + " | ".join(shown) + " |"
    yield "|---" + "|---:" * len(shown) + "|"
    for stage in (*STAGES, LOOP):
        cells = []
        for name in shown:
            one = measured[name]["stages"].get(stage, {})
            count, micros = one.get("caller instructions", 0), one.get("micros", 0)
            cells.append(f"{count:,.0f} ({micros:.1f})" if count or micros else "")
        if any(cells):
            yield f"| {stage} | " + " | ".join(cells) + " |"
    totals = [
        f"{sum(one.get('caller instructions', 0) for one in measured[name]['stages'].values()):,.0f} ({measured[name]['processor']:.1f})"
        for name in shown
    ]
    yield "| **all** | " + " | ".join(totals) + " |"
    in_c = [sum(one.get("caller c", 0) for one in measured[name]["stages"].values()) for name in shown]
    yield "| of it inside of C functions | " + " | ".join(f"({micros:.1f})" for micros in in_c) + " |"
    yield "| by the clock | " + " | ".join(f"({measured[name]['clock']:.0f})" for name in shown) + " |"
    journal = [sum(one.get("journal instructions", 0) for one in measured[name]["stages"].values()) for name in shown]
    yield (
        "| the journal's thread, meanwhile | "
        + " | ".join(f"{count:,.0f}" if count else "" for count in journal)
        + " |"
    )


def main(arguments: list[str] | None = None) -> int:
    """Measure, and print or keep it."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks stages", description=__doc__)
    parser.add_argument("--keep", action="store_true", help="have the page of the docs show it")
    parser.add_argument("--here", choices=("clock", "instructions", "c"), help=argparse.SUPPRESS)
    asked = parser.parse_args(arguments)
    if asked.here:
        print(json.dumps(here(asked.here)))
        return 0
    if sys.version_info[:2] == (3, 12):
        print("Python 3.12 does not trace what it has traced before; take another version.", file=sys.stderr)
        return 2
    found = measure()
    print("\n".join(table(found)))
    if asked.keep:
        from benchmarks import page

        page.keep("stages", found)
        page.write()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
