"""The comparison with other engines: turns become figures, figures become verdicts. What is fast is for `make bench` to say."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks.peers import report
from benchmarks.peers.catalogue import ENGINES, PEERS, WORKLOADS
from benchmarks.peers.figures import figures
from benchmarks.peers.targets import TARGETS

ROOT = Path(__file__).parent.parent


def turn(engine: str, workload: str, rate: float, **rest: Any) -> dict[str, Any]:
    return {
        "engine": engine, "workload": workload, "round": 0, "size": 100, "seconds": 1 / rate, "rate": rate, "found": None,
        "error": "", **rest,
    }  # fmt: skip


def run_of(*turns: dict[str, Any]) -> dict[str, Any]:
    return {"facts": {"cores": 2}, "versions": {"dbos": "9.9"}, "turns": list(turns)}


def test_figures_are_medians_of_the_turns_that_ended():
    found = figures(
        [
            turn("callsheet", "map", 10.0),
            turn("callsheet", "map", 30.0, found={"recorded": 50}),
            turn("callsheet", "map", 20.0),
            turn("callsheet", "map", 1.0, error="no end"),
        ]
    )
    figure = found["map"]["callsheet"]
    assert (figure.middle, figure.least, figure.most, figure.turns) == (20.0, 10.0, 30.0, 3)
    assert figure.recorded == 0.5


def test_targets_say_what_was_reached_and_what_was_not():
    run = run_of(
        turn("callsheet", "map", 300.0),
        turn("dbos", "map", 10.0),
        turn("callsheet", "flows", 10.0),
        turn("dbos", "flows", 10.0),
    )
    reached, missed = report.targets(run)
    assert "30 ×" in reached
    assert reached.endswith(" reached")
    assert missed.endswith("NOT REACHED")


def test_less_time_is_better_where_nothing_is_counted():
    run = run_of(turn("callsheet", "cold", 50.0), turn("prefect", "cold", 1.0))
    (line,) = report.targets(run)
    assert "50 ×" in line


def test_the_table_names_versions_losses_and_failures():
    lines = list(
        report.table(
            run_of(
                turn("dbos", "map", 10.0, found={"recorded": 60}),
                turn("prefect", "map", 1.0, error="it\nbroke"),
                turn("callsheet", "import", 10.0),
            )
        )
    )
    text = "\n".join(lines)
    assert "dbos 9.9" in text
    assert "dbos, map: 60% in its history" in text
    assert "prefect, map: DID NOT RUN: broke" in text


def test_a_comparison_knows_noise():
    old = run_of(turn("callsheet", "map", 10.0), turn("callsheet", "map", 20.0))
    faster, same = run_of(turn("callsheet", "map", 30.0)), run_of(turn("callsheet", "map", 20.0))
    (line,) = report.comparison(old, faster)
    assert "2.00 ×" in line
    assert "noise" not in line
    (line,) = report.comparison(old, same)
    assert "within the noise" in line


def test_the_chart_has_a_bar_for_each_engine():
    svg = report.chart(run_of(turn("callsheet", "map", 1000.0), turn("dbos", "map", 1.0)))
    assert svg.count("<rect") == 2
    assert svg.startswith("<svg")


def test_targets_name_what_there_is():
    for target in TARGETS:
        assert target.workload in WORKLOADS
        assert {target.ours, target.other} <= ENGINES.keys()
    for name in PEERS:
        assert ENGINES[name].requirements


@pytest.mark.timeout(120)
def test_a_run_measures_ours_and_the_floors_and_keeps_every_turn(tmp_path: Path):
    kept = tmp_path / "run.json"
    command = [sys.executable, "-m", "benchmarks", "run", "--peers", "", "--rounds", "1"]
    done = subprocess.run(
        [*command, "--workloads", "import,cold", "--json", str(kept)],
        cwd=ROOT, env={**os.environ, "CALLSHEET_BENCH_PEERS": str(tmp_path)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    engines = {(one["engine"], one["workload"]) for one in json.loads(kept.read_text())["turns"]}
    assert {("callsheet", "import"), ("callsheet", "cold"), ("asyncio", "import")} <= engines
    assert "import the package" in done.stdout


def test_a_peer_that_is_not_set_up_is_an_error_that_says_how(tmp_path: Path):
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", "run", "--peers", "dbos", "--workloads", "import"],
        cwd=ROOT, env={**os.environ, "CALLSHEET_BENCH_PEERS": str(tmp_path)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert "python -m benchmarks setup dbos" in done.stderr
