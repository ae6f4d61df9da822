"""A run: engines take turns, A B A B, workload by workload and round by round, and every turn is kept at once."""

from __future__ import annotations

import json
import sys
import time
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.peers import report
from benchmarks.peers.catalogue import ENGINES, FLOORS, OURS, PEERS, WORKLOADS
from benchmarks.peers.environments import python_of, version_of
from benchmarks.peers.figures import facts
from benchmarks.peers.servers import Servers
from benchmarks.peers.turns import Stage, Turn, environment, take


@dataclass
class Asked:
    """What the command line says about a run."""

    peers: list[str] | None = None
    workloads: list[str] = field(default_factory=lambda: list(WORKLOADS))
    rounds: int = 3
    minutes: float = 20
    json: Path | None = None
    resume: bool = False
    pin: int | None = None
    patience: float = 1.0
    scale: float = 1.0


class Book:
    """The turns so far, on disk after each of them."""

    def __init__(self, path: Path | None, *, resume: bool) -> None:
        self._path = path
        self.run: dict[str, Any] = {"facts": facts(), "versions": {}, "turns": []}
        if resume and path is not None and path.exists():
            self.run = json.loads(path.read_text())
            self.run["turns"] = [turn for turn in self.run["turns"] if not turn["error"]]  # what failed is tried again
        self._known = {(turn["workload"], turn["engine"], turn["round"]) for turn in self.run["turns"]}
        self.spent: dict[tuple[str, str], float] = defaultdict(float)
        self.failed: set[tuple[str, str]] = set()
        for turn in self.run["turns"]:
            self._count(turn)

    def has(self, workload: str, engine: str, round: int) -> bool:
        """Whether a turn was taken already."""
        return (workload, engine, round) in self._known

    def keep(self, turn: Turn) -> None:
        """Write a turn down."""
        self.run["turns"].append(turn.as_dict())
        self._count(turn.as_dict())
        self.save()

    def save(self) -> None:
        """Write everything down, so that it is whole at any moment."""
        if self._path is not None:
            new = self._path.with_suffix(".new")
            new.write_text(json.dumps(self.run))
            new.replace(self._path)

    def _count(self, turn: dict[str, Any]) -> None:
        key = turn["workload"], turn["engine"]
        self.spent[key] += turn.get("wall", 0.0)
        if turn["error"]:
            self.failed.add(key)


def run(asked: Asked) -> int:
    """Measure, and print the tables; the exit code says whether everything ran."""
    wanted = asked.peers if asked.peers is not None else [name for name in PEERS if python_of(ENGINES[name])]
    pythons = {name: python_of(ENGINES[name]) for name in (*OURS, *FLOORS, *wanted)}
    if missing := [name for name, python in pythons.items() if python is None]:
        print(
            f"Not set up: {', '.join(missing)}. Run `python -m benchmarks setup {' '.join(missing)}`.", file=sys.stderr
        )
        return 2
    known = {name: python for name, python in pythons.items() if python is not None}
    book = Book(asked.json, resume=asked.resume)
    book.run["facts"] |= {"scale": asked.scale, "pinned": asked.pin is not None}
    book.run["versions"] |= {name: version_of(ENGINES[name], python) for name, python in known.items()}
    with Servers(environment, asked.patience) as servers:
        _rounds(asked, known, book, Stage(servers, asked.patience, asked.pin, asked.scale))
    print("\n".join((*report.table(book.run), "", *report.targets(book.run))))
    return 1 if any(turn["error"] for turn in book.run["turns"]) else 0


def _rounds(asked: Asked, known: dict[str, Path], book: Book, stage: Stage) -> None:
    since = time.monotonic()
    cannot: set[tuple[str, str]] = set()
    for round in range(asked.rounds):
        for name in asked.workloads:
            for engine, python in known.items():
                over = round and time.monotonic() - since > asked.minutes * 60
                if over or (name, engine) in cannot or not _due(book, name, engine, round):
                    continue
                turn = take(ENGINES[engine], python, WORKLOADS[name], round, stage)
                if turn is None:
                    cannot.add((name, engine))
                    continue
                book.keep(turn)
                _say(turn, time.monotonic() - since)


def _due(book: Book, workload: str, engine: str, round: int) -> bool:
    """Whether a turn is still to be taken. What failed is not tried again, and slow peers need not show it thrice."""
    if book.has(workload, engine, round) or (workload, engine) in book.failed:
        return False
    if round and WORKLOADS[workload].once:
        return False
    return engine in (*OURS, *FLOORS) or book.spent[workload, engine] < ENGINES[engine].enough


def _say(turn: Turn, since: float) -> None:
    what = turn.error.splitlines()[-1] if turn.error else f"{turn.seconds:.4g} s, {turn.rate:,.0f}/s"
    print(f"{since:6.0f} s  {turn.workload} {turn.round + 1} {turn.engine}: {what}", file=sys.stderr, flush=True)
