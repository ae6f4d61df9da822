"""What a piece of work takes of the processor: instructions, which do not depend on how quick the machine is just now.

`python -m benchmarks processor` counts and prints; with `--keep` the page of the docs shows it. Counted by the processor's own counters
(`perf_event_open(2)`), in programs and not in the kernel, between two sizes of one flow, in processes of their own: on the
thread of the event loop, and on all others, which is the journal's. Turns differ by one or two in a hundred.
"""

from __future__ import annotations

import argparse
import asyncio
import ctypes
import json
import os
import platform
import statistics
import sys
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, Final, NamedTuple

from benchmarks.apart import apart
from benchmarks.shapes import MORE, SHAPES, Shape
from callsheet._kernel import turns

LEVELS: Final = ("off", "relaxed", "results")
ALL: Final[dict[str, Shape]] = {**SHAPES, **MORE}
FLOOR: Final = "asyncio"
_SIZES: Final = (1_000, 3_000)
_TURNS: Final = 3
_QUIET: Final = 0.3  # seconds after which the journal has nothing left to do
_CALLS: Final = {"x86_64": 298, "aarch64": 241}  # the number of `perf_event_open`, by machine


class CannotCount(Exception):
    """This machine does not let programs read its processor's counters."""


class Counted(NamedTuple):
    """Instructions of the thread that began to count, and of those that it has started since."""

    own: float
    others: float


class _Attributes(ctypes.Structure):
    """`struct perf_event_attr` of Linux, as far as it is set here."""

    _fields_ = (
        ("type", ctypes.c_uint32),
        ("size", ctypes.c_uint32),
        ("config", ctypes.c_uint64),
        ("period", ctypes.c_uint64),
        ("sample_type", ctypes.c_uint64),
        ("read_format", ctypes.c_uint64),
        ("flags", ctypes.c_uint64),
        ("rest", ctypes.c_byte * 72),
    )


_INSTRUCTIONS: Final = 1  # PERF_COUNT_HW_INSTRUCTIONS, of type PERF_TYPE_HARDWARE, which is 0
_INHERIT: Final = 1 << 1
_PROGRAMS_ONLY: Final = 1 << 5 | 1 << 6  # neither the kernel nor a hypervisor


class Instructions:
    """Counts from now on, in this thread and in those that it starts.

    Raises:
        CannotCount: The machine does not let it.
    """

    def __init__(self) -> None:
        self._own = self._open(_PROGRAMS_ONLY)
        self._all = self._open(_PROGRAMS_ONLY | _INHERIT)

    def read(self) -> Counted:
        """Give what was counted so far."""
        everything, own = (int.from_bytes(os.read(counter, 8), sys.byteorder) for counter in (self._all, self._own))
        return Counted(own, everything - own)

    def close(self) -> None:
        """Stop counting."""
        os.close(self._own)
        os.close(self._all)

    @staticmethod
    def _open(flags: int) -> int:
        if sys.platform != "linux" or platform.machine() not in _CALLS:
            raise CannotCount(f"instructions are counted on Linux only, on {' and '.join(_CALLS)}")
        wanted = _Attributes(size=ctypes.sizeof(_Attributes), config=_INSTRUCTIONS, flags=flags)
        libc = ctypes.CDLL(None, use_errno=True)
        counter: int = libc.syscall(_CALLS[platform.machine()], ctypes.byref(wanted), 0, -1, -1, 0)
        if counter < 0:
            raise CannotCount(
                f"the kernel does not let this process count instructions: {os.strerror(ctypes.get_errno())} "
                "(see /proc/sys/kernel/perf_event_paranoid; many virtual machines have no counters)"
            )
        return counter


async def floor(size: int) -> None:
    """Do with bare tasks of the loop what `sequential` does."""

    async def nothing(i: int) -> None:
        del i

    for i in range(size):
        await asyncio.get_running_loop().create_task(nothing(i))


async def _counting(counter: Instructions, work: Callable[[int], Awaitable[object]]) -> Counted:
    """Give the instructions of one piece of work: the middle of several turns."""
    await work(300)
    turns: list[Counted] = []
    for _ in range(_TURNS):
        taken: list[Counted] = []
        for size in _SIZES:
            await asyncio.sleep(_QUIET)
            before = counter.read()
            await work(size)
            await asyncio.sleep(_QUIET)
            after = counter.read()
            taken.append(Counted(after.own - before.own, after.others - before.others))
        few, many = taken
        pieces = _SIZES[1] - _SIZES[0]
        turns.append(Counted((many.own - few.own) / pieces, (many.others - few.others) / pieces))
    return Counted(*(statistics.median(part) for part in zip(*turns, strict=True)))


def here(names: list[str]) -> dict[str, Counted]:
    """Count in this process, at the level of durability that its settings say."""
    turns.BUDGET = float("inf")  # what is counted must not depend on how long it takes
    counter = Instructions()
    try:
        works = {name: floor if name == FLOOR else ALL[name].work for name in names}
        return {name: asyncio.run(_counting(counter, work)) for name, work in works.items()}
    finally:
        counter.close()


def measure(names: list[str]) -> dict[str, Any]:
    """Give thousands of instructions of the loop's thread and of the journal's, by shape and level."""
    found: dict[str, dict[str, list[float]]] = {}
    for level in LEVELS:
        counted = apart("benchmarks.processor", "--here", *([FLOOR] if level == "off" else []), *names, level=level)
        for name, threads in counted.items():
            found.setdefault(name, {})[level] = [round(count / 1_000, 1) for count in threads]
    return {"python": sys.version.split()[0], "machine": platform.machine(), "counted": found}


def table(found: dict[str, Any]) -> Iterator[str]:
    """Give the lines of a table in Markdown."""
    yield f"Python {found['python']}, {found['machine']}: thousands of instructions of the processor for a piece of work, on the loop's thread + on the journal's."
    yield ""
    yield "| shape | a piece | " + " | ".join(LEVELS) + " |"
    yield "|---|---" + "|---:" * len(LEVELS) + "|"
    for name, levels in found["counted"].items():
        piece = "bare task of the loop" if name == FLOOR else ALL[name].piece
        yield f"| {name} | {piece} | " + " | ".join(_cell(levels.get(level)) for level in LEVELS) + " |"


def _cell(threads: list[float] | None) -> str:
    if threads is None:
        return ""
    own, others = threads
    return f"{own:,.0f} + {others:,.0f}" if others >= 1 else f"{own:,.0f}"


def main(arguments: list[str] | None = None) -> int:
    """Count, and print or keep it."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks processor", description=__doc__)
    parser.add_argument("--keep", action="store_true", help="have the page of the docs show it")
    parser.add_argument("--shapes", default=",".join(ALL), help="default: all, %(default)s")
    parser.add_argument("--here", nargs="+", choices=[FLOOR, *ALL], help=argparse.SUPPRESS)
    asked = parser.parse_args(arguments)
    names = asked.shapes.split(",")
    if unknown := [name for name in names if name not in ALL]:
        parser.error(f"no shape is called {unknown[0]!r}; there are {', '.join(ALL)}")
    try:
        if asked.here:
            print(json.dumps(here(asked.here)))
            return 0
        Instructions().close()
    except CannotCount as error:
        print(f"Cannot count: {error}.", file=sys.stderr)
        return 2
    found = measure(names)
    print("\n".join(table(found)))
    if asked.keep:
        from benchmarks import page

        page.keep("processor", found)
        page.write()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
