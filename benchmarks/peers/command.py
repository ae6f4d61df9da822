"""`run`, `setup`, `compare` and `report` of `python -m benchmarks`."""

from __future__ import annotations

import argparse
import json
import signal
import sys
from pathlib import Path
from typing import Any

from benchmarks.peers import report
from benchmarks.peers.catalogue import ENGINES, FLOORS, OURS, PEERS, WORKLOADS
from benchmarks.peers.environments import python_of, set_up, version_of
from benchmarks.peers.figures import facts
from benchmarks.peers.turns import take

VERBS = ("run", "setup", "compare", "report")


def _names(known: tuple[str, ...]) -> Any:
    def parse(text: str) -> list[str]:
        names = [name for name in text.split(",") if name]
        if unknown := [name for name in names if name not in known]:
            raise argparse.ArgumentTypeError(f"unknown: {', '.join(unknown)}. Known: {', '.join(known)}")
        return names

    return parse


def parser() -> argparse.ArgumentParser:
    """Give the parser of these verbs."""
    top = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    verbs = top.add_subparsers(dest="verb", required=True)
    run = verbs.add_parser("run", help="measure engines side by side")
    run.add_argument("--peers", type=_names(PEERS), default=None, help="default: all that are set up")
    run.add_argument("--workloads", type=_names(tuple(WORKLOADS)), default=list(WORKLOADS))
    run.add_argument("--rounds", type=int, default=3, help="turns that medians are taken from")
    run.add_argument("--json", type=Path, default=None, metavar="FILE", help="where to keep every turn")
    setup = verbs.add_parser("setup", help="install peers, each in a virtual environment of its own")
    setup.add_argument("peers", nargs="+", choices=PEERS, metavar="PEER")
    compare = verbs.add_parser("compare", help="compare two runs")
    compare.add_argument("old", type=Path)
    compare.add_argument("new", type=Path)
    show = verbs.add_parser("report", help="give a run as a table and a chart")
    show.add_argument("json", type=Path)
    show.add_argument("--svg", type=Path, default=None, metavar="FILE")
    return top


def main(arguments: list[str]) -> int:
    """Do what was asked for; the exit code says whether everything ran."""
    asked = parser().parse_args(arguments)
    match asked.verb:
        case "setup":
            for name in asked.peers:
                print(f"Setting up {name} …", flush=True)
                set_up(ENGINES[name])
            return 0
        case "compare":
            print("\n".join(report.comparison(_load(asked.old), _load(asked.new))))
            return 0
        case "report":
            run = _load(asked.json)
            print("\n".join((*report.table(run), "", *report.targets(run))))
            if asked.svg is not None:
                asked.svg.write_text(report.chart(run))
            return 0
        case _:
            # Whoever ends us by SIGTERM is not to leave a turn behind, which has a session of its own.
            signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
            return _run(asked)


def _load(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text())


def _run(asked: argparse.Namespace) -> int:
    """Let engines take turns, A B A B, workload by workload."""
    wanted = asked.peers if asked.peers is not None else [name for name in PEERS if python_of(ENGINES[name])]
    pythons = {name: python_of(ENGINES[name]) for name in (*OURS, *FLOORS, *wanted)}
    if missing := [name for name, python in pythons.items() if python is None]:
        print(
            f"Not set up: {', '.join(missing)}. Run `python -m benchmarks setup {' '.join(missing)}`.", file=sys.stderr
        )
        return 2
    known = {name: python for name, python in pythons.items() if python is not None}
    run: dict[str, Any] = {
        "facts": facts(),
        "versions": {name: version_of(ENGINES[name], python) for name, python in known.items()},
        "turns": [],
    }
    for name in asked.workloads:
        engines = list(known)
        for round in range(asked.rounds):
            for engine in list(engines):
                turn = take(ENGINES[engine], known[engine], WORKLOADS[name], round)
                if turn is None:
                    engines.remove(engine)
                    continue
                run["turns"].append(turn.as_dict())
                print(f"{name} {round + 1} {engine}: {turn.error or f'{turn.seconds:.4g} s, {turn.rate:,.0f}/s'}",
                      file=sys.stderr, flush=True)  # fmt: skip
                if turn.error:
                    engines.remove(engine)
        if asked.json is not None:
            asked.json.write_text(json.dumps(run))
    print("\n".join((*report.table(run), "", *report.targets(run))))
    return 1 if any(turn["error"] for turn in run["turns"]) else 0
