"""The command that simulates scenarios, one seed after the other, and says how to repeat what failed."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
import time
from collections.abc import Sequence
from typing import Any, cast

from callsheet.testing.faults import Fault
from callsheet.testing.scenarios import Scenario
from callsheet.testing.shrinking import shrink
from callsheet.testing.simulations import SimulationFailed, simulate


def main(arguments: Sequence[str] | None = None) -> None:
    """Simulate what the arguments say.

    Args:
        arguments: As on the command line. Default: those of the process.

    Raises:
        SystemExit: 1 where a simulation failed, 2 where the arguments make no sense.
    """
    parser = argparse.ArgumentParser(prog="python -m callsheet.testing", description="Simulate scenarios.")
    parser.add_argument("scenario", help="MODULE:NAME of a scenario, or MODULE for all that it defines")
    parser.add_argument("--seed", type=int, default=0, help="the first seed (default 0)")
    parser.add_argument("-n", "--count", type=int, default=1, help="how many seeds (default 1)")
    parser.add_argument("--faults", help="what goes wrong, such as 'crash_before_commit@4 task_fails@2'")
    parser.add_argument("--most", type=int, default=5, help="stop after so many failures (default 5)")
    given = parser.parse_args(arguments)
    sys.path.insert(0, os.getcwd())  # noqa: PTH109 - as `python -m` has it
    plan = None if given.faults is None else tuple(Fault.parse(text) for text in given.faults.split())
    scenarios = _found(given.scenario)
    if not scenarios:
        parser.error(f"there is no scenario in {given.scenario}")
    failures = _simulate(scenarios, range(given.seed, given.seed + given.count), plan, given.most)
    if failures:
        raise SystemExit(1)


def _found(named: str) -> list[Scenario]:
    module, _, name = named.partition(":")
    there: Any = importlib.import_module(module)
    if name:
        found = getattr(there, name)
        return [found if isinstance(found, Scenario) else Scenario(found)]
    return [one for one in cast("dict[str, object]", vars(there)).values() if isinstance(one, Scenario)]


def _simulate(scenarios: list[Scenario], seeds: range, plan: tuple[Fault, ...] | None, most: int) -> int:
    began, failures, count = time.perf_counter(), 0, 0
    for seed in seeds:
        for one in scenarios:
            count += 1
            try:
                done = simulate(one, seed=seed, faults=plan)
            except SimulationFailed as failure:
                failures += 1
                print(failure)
                if plan is None and failure.faults:
                    print(f"with fewer faults: {shrink(failure).command}", flush=True)
                if failures >= most:
                    return failures
                continue
            if len(seeds) * len(scenarios) == 1:
                said = ", ".join(map(str, done.faults)) or "none"
                print(f"{one.name}, seed {seed}: {done.elapsed:g} s, history {done.digest}, faults: {said}")
    seconds = time.perf_counter() - began
    last = seeds[-1] if seeds else seeds.start
    print(f"{count} simulations of seeds {seeds.start} to {last}: {failures} failed, {seconds:.1f} s")
    return failures
