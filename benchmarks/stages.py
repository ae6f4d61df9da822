"""Where the time of a piece of work goes: bytecode instructions by stage, and microseconds from a profile by samples.

`python -m benchmarks stages` measures and prints; with `--keep` the page of the docs shows it.

Instructions are counted on every thread, between two sizes of one flow, in processes of their own; code of libraries counts for the
stage that calls it. For microseconds a timer interrupts the untraced loop every millisecond and notes where its thread is: in
bytecode, inside of a C function, or waiting for the interpreter's lock. Many samples make a profile, and their shares are shares of
the time by the clock. (So does statistical profiling in `gprof` and all that came after it.)
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import selectors
import signal
import statistics
import sys
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from types import CodeType, FrameType
from typing import Any, Final, Self

from benchmarks.apart import apart
from benchmarks.shapes import SHAPES

LEVELS: Final = ("off", "relaxed", "results")
SHOWN: Final = (
    "off sequential", "relaxed sequential", "results sequential", "relaxed map", "results map", "relaxed retry", "results retry",
    "relaxed flows", "results flows",
)  # fmt: skip
LISTED: Final = (
    "relaxed sequential",
    "relaxed map",
    "results retry",
    "results flows",
)  # of which the page has the profile by function
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
ASLEEP: Final = "asleep until something is committed"
_PLACES: Final = sorted(
    ((place, stage) for stage, places in STAGES.items() for place in places), key=lambda one: -len(one[0])
)
_FEW, _MANY = 50, 150
_TIMED, _TURNS, _WARM = 1_000, 12, 200
_EVERY: Final = 0.001  # seconds between samples
_FUNCTIONS: Final = 20
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


class Sampler:
    """Notes by a timer where the main thread is: how often in which stage, and in which function of whose."""

    def __init__(self) -> None:
        self.stages: Counter[str] = Counter()
        self.functions: Counter[CodeType] = Counter()
        self._notes = False

    def __enter__(self) -> Self:
        signal.signal(signal.SIGALRM, self._note)
        signal.setitimer(signal.ITIMER_REAL, _EVERY, _EVERY)
        return self

    def __exit__(self, *_: object) -> None:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, signal.SIG_IGN)

    def _note(self, number: int, frame: FrameType | None) -> None:
        del number
        if self._notes or frame is None:  # it does not tell of itself
            return
        self._notes = True
        asleep = frame.f_code is selectors.DefaultSelector.select.__code__
        self.stages[ASLEEP if asleep else _of_frame(frame)] += 1
        self.functions[frame.f_code] += 1
        self._notes = False


def function_of(code: CodeType) -> str:
    """Name a function with its module, from the package on."""
    path = Path(code.co_filename)
    parts = path.with_suffix("").parts
    for root in ("callsheet", "site-packages", f"python{sys.version_info.major}.{sys.version_info.minor}"):
        if root in parts:
            last = len(parts) - 1 - parts[::-1].index(root)
            return f"{'/'.join(parts[last + (root != 'callsheet') :])}: {code.co_qualname}"
    return f"{path.stem}: {code.co_qualname}"


async def _counting(work: Any, size: int) -> dict[tuple[str, str], float]:
    await work(20)
    await asyncio.sleep(0.1)  # the journal has nothing left to do
    _counts.clear()
    sys.settrace(_on_frame)
    try:
        await work(size)
    finally:
        sys.settrace(None)
    await asyncio.sleep(0.2)
    return dict(_counts)


def _counted(work: Any) -> list[list[Any]]:
    few, many = (asyncio.run(_counting(work, size)) for size in (_FEW, _MANY))
    return [[*key, max(0.0, (many[key] - few.get(key, 0.0)) / (_MANY - _FEW))] for key in many]


async def _sampling(work: Any) -> dict[str, Any]:
    """Give microseconds a piece by the clock and of the loop's thread, and where the samples were."""
    await work(_WARM)
    taken: list[tuple[float, float]] = []
    sampler = Sampler()
    for _ in range(_TURNS):
        start, busy = time.perf_counter(), time.thread_time()
        with sampler:
            await work(_TIMED)
        taken.append(((time.perf_counter() - start) / _TIMED * 1e6, (time.thread_time() - busy) / _TIMED * 1e6))
    clock, processor = (statistics.median(some) for some in zip(*taken, strict=True))
    samples = sum(sampler.stages.values())
    return {
        "clock": round(clock, 1),
        "processor": round(processor, 1),
        "samples": samples,
        "stages": {stage: round(count / samples, 4) for stage, count in sampler.stages.items()},
        "functions": {
            function_of(code): round(count / samples, 4) for code, count in sampler.functions.most_common(_FUNCTIONS)
        },
    }


def here(kind: str) -> dict[str, Any]:
    """Take one kind of measure in this process: `instructions` or `samples`."""
    if kind == "samples":
        return {name: asyncio.run(_sampling(shape.work)) for name, shape in SHAPES.items()}
    threading.settrace(_on_frame)  # the journal's thread is traced from its start: it starts with the first flow
    return {name: _counted(shape.work) for name, shape in SHAPES.items()}


def measure() -> dict[str, Any]:
    """Give, by level and shape, what each stage executes on which thread, and its microseconds by the clock."""
    found: dict[str, Any] = {}
    for level in LEVELS:
        instructions, sampled = (
            apart("benchmarks.stages", "--here", kind, level=level) for kind in ("instructions", "samples")
        )
        found |= {f"{level} {name}": together(instructions[name], sampled[name]) for name in SHAPES}
    return {"python": sys.version.split()[0], "measured": found}


def together(instructions: list[list[Any]], sampled: dict[str, Any]) -> dict[str, Any]:
    """Join what was counted and what was sampled of one shape, by stage."""
    stages: dict[str, dict[str, float]] = {}
    for thread, stage, count in instructions:
        stages.setdefault(stage, {})[thread] = round(count, 1)
    for stage, share in sampled["stages"].items():
        stages.setdefault(stage, {})["micros"] = round(share * sampled["clock"], 1)
    return {**sampled, "stages": stages}


def table(found: dict[str, Any]) -> Iterator[str]:
    """Give the lines of a table in Markdown: instructions of a piece of work on the caller's thread, and its microseconds."""
    measured = {name: found["measured"][name] for name in SHOWN}
    yield f"Python {found['python']}: bytecode instructions of a piece of work on the loop's thread; in brackets its microseconds by the clock."
    yield ""
    yield "| stage | " + " | ".join(SHOWN) + " |"
    yield "|---" + "|---:" * len(SHOWN) + "|"
    for stage in (*STAGES, LOOP, ASLEEP):
        cells = [_cell(one["stages"].get(stage, {})) for one in measured.values()]
        if any(cells):
            yield f"| {stage} | " + " | ".join(cells) + " |"
    for label, figures in (
        ("**all**", [f"{_instructions(one, 'caller'):,.0f} ({one['clock']:.0f})" for one in measured.values()]),
        ("the loop's thread, of the processor's time", [f"({one['processor']:.0f})" for one in measured.values()]),
        ("the journal's thread, meanwhile", [f"{_instructions(one, 'journal'):,.0f}" for one in measured.values()]),
    ):
        yield f"| {label} | " + " | ".join(figures) + " |"


def _cell(stage: dict[str, float]) -> str:
    count, micros = stage.get("caller", 0), stage.get("micros", 0)
    return f"{count:,.0f} ({micros:.1f})" if count else f"({micros:.1f})" if micros else ""


def _instructions(one: dict[str, Any], thread: str) -> float:
    return sum(stage.get(thread, 0) for stage in one["stages"].values())


def profiles(found: dict[str, Any]) -> Iterator[str]:
    """Give the lines of the profiles by function, in Markdown."""
    for name in LISTED:
        one = found["measured"][name]
        shape = SHAPES[name.rpartition(" ")[2]]
        yield f"<details><summary>{name}: {one['clock']:.0f} microseconds a {shape.piece}, {one['samples']:,} samples</summary>"
        yield ""
        yield "| function | share | microseconds |"
        yield "|---|---:|---:|"
        for function, share in one["functions"].items():
            yield f"| `{function}` | {share:.1%} | {share * one['clock']:.1f} |"
        yield ""
        yield "</details>"
        yield ""


def main(arguments: list[str] | None = None) -> int:
    """Measure, and print or keep it."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks stages", description=__doc__)
    parser.add_argument("--keep", action="store_true", help="have the page of the docs show it")
    parser.add_argument("--here", choices=("instructions", "samples"), help=argparse.SUPPRESS)
    asked = parser.parse_args(arguments)
    if asked.here:
        print(json.dumps(here(asked.here)))
        return 0
    if sys.version_info[:2] == (3, 12):
        print("Python 3.12 does not trace what it has traced before; take another version.", file=sys.stderr)
        return 2
    found = measure()
    print("\n".join((*table(found), "", *profiles(found))))
    if asked.keep:
        from benchmarks import page

        page.keep("stages", found)
        page.write()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
