"""`run`, `setup`, `compare` and `report` of `python -m benchmarks`."""

from __future__ import annotations

import argparse
import json
import signal
import sys
from pathlib import Path
from typing import Any

from benchmarks import page
from benchmarks.peers import report
from benchmarks.peers.catalogue import ENGINES, PEERS, WORKLOADS
from benchmarks.peers.chart import chart
from benchmarks.peers.environments import set_up
from benchmarks.peers.running import Asked, run

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
    _run_options(verbs.add_parser("run", help="measure engines side by side"))
    setup = verbs.add_parser("setup", help="install peers, each in a virtual environment of its own")
    setup.add_argument("peers", nargs="+", choices=PEERS, metavar="PEER")
    compare = verbs.add_parser(
        "compare", help="compare two runs; the exit code says whether anything of ours is clearly worse"
    )
    compare.add_argument("old", type=Path)
    compare.add_argument("new", type=Path)
    show = verbs.add_parser(
        "report", help="give a run as a table and a chart; without a run, write the page of the docs"
    )
    show.add_argument("json", type=Path, nargs="?")
    show.add_argument("--svg", type=Path, default=None, metavar="FILE")
    show.add_argument(
        "--keep", nargs="?", const="run", choices=("run", "targets", "pinned"),
        help="make it the run of which the page of the docs shows figures, targets, or targets where all is bound to a core",
    )  # fmt: skip
    return top


def _run_options(run: argparse.ArgumentParser) -> None:
    run.add_argument("--peers", type=_names(PEERS), default=None, help="default: all that are set up; empty: none")
    run.add_argument("--workloads", type=_names(tuple(WORKLOADS)), default=list(WORKLOADS))
    run.add_argument("--rounds", type=int, default=3, help="turns that medians are taken from")
    run.add_argument("--minutes", type=float, default=20, help="after which no turn of a later round begins")
    run.add_argument(
        "--json", type=Path, default=None, metavar="FILE", help="where every turn is kept as soon as it is over"
    )
    run.add_argument("--resume", action="store_true", help="go on with FILE: what it has is not measured again")
    run.add_argument("--pin", type=int, default=None, metavar="CORE", help="bind turns to one core")
    run.add_argument("--patience", type=float, default=1, help="multiplies time limits, on a machine that is busy")
    run.add_argument("--scale", type=float, default=1, help="multiplies sizes: small, to see whether everything works")


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
            old, new = _load(asked.old), _load(asked.new)
            print("\n".join(report.comparison(old, new)))
            return 1 if any(change.regression for change in report.changes(old, new)) else 0
        case "report":
            return _report(asked)
        case _:
            # Whoever ends us by SIGTERM is not to leave a turn behind, which has a session of its own.
            signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
            options = {name: value for name, value in vars(asked).items() if name != "verb"}
            if asked.resume and asked.json is None:
                print("`--resume` needs `--json FILE`, the run to go on with.", file=sys.stderr)
                return 2
            return run(Asked(**options))


def _load(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text())


def _report(asked: argparse.Namespace) -> int:
    if asked.json is not None:
        run = _load(asked.json)
        print("\n".join((*report.table(run), "", *report.targets(run))))
        if asked.svg is not None:
            asked.svg.write_text(chart(run))
        if not asked.keep:
            return 0
        page.keep(asked.keep, run)
    page.write()
    print(f"Written: {page.PAGE.name}, {page.CHART.name}", file=sys.stderr)
    return 0
