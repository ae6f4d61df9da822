"""The comparison with other engines: turns become figures, figures become verdicts. What is fast is for `make bench` to say."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from benchmarks import page, processor, scaling, stages
from benchmarks.peers import processes, report, servers
from benchmarks.peers.catalogue import ENGINES, PEERS, WORKLOADS, Engine
from benchmarks.peers.chart import chart
from benchmarks.peers.figures import figures
from benchmarks.peers.running import Book
from benchmarks.peers.targets import OWN_TARGETS, TARGETS
from benchmarks.peers.turns import Turn, environment

linux = pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="processes are found by /proc")

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


def lines_of_targets(*turns: dict[str, Any]) -> list[str]:
    return list(report.targets(run_of(*turns)))[2:]


def test_targets_say_what_was_reached_and_what_was_not_at_both_levels():
    reached, missed = lines_of_targets(
        turn("callsheet", "map", 300.0),
        turn("callsheet-relaxed", "map", 500.0),
        turn("dbos", "map", 10.0),
        turn("callsheet", "flows", 10.0),
        turn("dbos", "flows", 10.0),
    )
    assert reached == "| map | 30 × dbos | **30 ×** | 50 × | reached |"
    assert missed == "| flows | 8 × dbos | **1 ×** |  | NOT REACHED |"


def test_a_floor_is_a_target_in_times_of_its_time():
    (line,) = lines_of_targets(turn("callsheet-relaxed", "map", 10.0), turn("anyio", "map", 40.0))
    assert line == "| map | at most 3 × anyio's time |  | **1/4 ×** | NOT REACHED |"


def test_a_history_that_comes_later_is_measured_until_it_is_complete():
    lines = lines_of_targets(
        turn("callsheet-relaxed", "sequential", 1000.0, found={"recorded": 100, "complete": 0.1}),
        turn("prefect", "sequential", 100.0, found={"recorded": 20, "complete": 4.0}),
    )
    assert "| sequential | 300 × prefect until the history is complete |  | **40 ×** | NOT REACHED |" in lines
    assert "| sequential | 100 × prefect |  | **10 ×** | NOT REACHED |" in lines


def test_own_figures_have_bounds():
    lines = lines_of_targets(
        turn("callsheet", "web", 10.0, found={"p50": 0.01, "p99": 0.06}),
        turn("callsheet", "held", 1.0, found={"bytes": 1500.0}),
        turn("callsheet", "map", 1.0, found={"recorded": 99}),
    )
    assert lines == [
        "| web | p99 beside p50: at most 5 | **6** |  | NOT REACHED |",
        "| map | share in the history 50 ms after the end: at least 1 | **0.99** |  | NOT REACHED |",
        "| held | bytes a task run: at most 4,096 | **1,500** |  | reached |",
    ]


def test_less_time_is_better_where_nothing_is_counted():
    run = run_of(turn("callsheet", "cold", 50.0), turn("prefect", "cold", 1.0))
    (line,) = list(report.targets(run))[2:]
    assert "**50 ×**" in line


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


def test_a_comparison_knows_noise_and_regressions():
    old = run_of(turn("callsheet", "map", 10.0), turn("callsheet", "map", 20.0))
    (change,) = report.changes(old, run_of(turn("callsheet", "map", 30.0)))
    assert (change.times, change.noise, change.regression) == (2.0, False, False)
    (change,) = report.changes(old, run_of(turn("callsheet", "map", 10.0)))
    assert (change.noise, change.regression) == (True, False)
    (change,) = report.changes(old, run_of(turn("callsheet", "map", 9.0)))
    assert change.regression
    assert "* map, callsheet: 0.60 × of what it was" in list(
        report.comparison(old, run_of(turn("callsheet", "map", 9.0)))
    )
    (change,) = report.changes(run_of(turn("dbos", "map", 10.0)), run_of(turn("dbos", "map", 1.0)))
    assert not change.regression, "that is not for us to mend"


def test_a_comparison_takes_out_what_the_machine_does():
    old = run_of(turn("callsheet", "map", 10.0), turn("asyncio", "map", 100.0))
    new = run_of(turn("callsheet", "map", 5.0), turn("asyncio", "map", 50.0))
    assert report.machine(old, new) == 0.5
    ours, floor = report.changes(old, new)
    assert (ours.times, ours.noise, floor.times) == (1.0, True, 1.0)


def test_a_comparison_leaves_out_what_had_another_size():
    old, new = run_of(turn("callsheet", "map", 10.0)), run_of(turn("callsheet", "map", 5.0, size=10))
    assert list(report.changes(old, new)) == []


def test_the_spread_of_sizes_is_what_is_furthest_from_the_middle():
    costs = {
        "100": {"wall": 1.0, "processor": 90.0},
        "1000": {"wall": 1.0, "processor": 100.0},
        "10000": {"wall": 1.0, "processor": 130.0},
    }
    assert scaling.spread(costs) == pytest.approx(0.3)
    level = {"sequential": costs, "map": costs, "flows": costs, "bytes": 400}
    lines = list(scaling.table({"results": level, "relaxed": level}))
    assert "| results | 1 (90) | 1 (100) | 1 (130) | ± 30% |" in lines


def test_stages_have_what_was_counted_and_their_share_of_the_samples():
    counted = [["caller", "rules", 100.0], ["caller", "commit", 300.0], ["journal", "commit", 50.0]]
    sampled = {
        "clock": 80.0,
        "processor": 60.0,
        "samples": 4,
        "stages": {"commit": 0.75, stages.LOOP: 0.25},
        "functions": {},
    }
    found = stages.together(counted, sampled)
    assert found["stages"] == {
        "rules": {"caller": 100.0},
        "commit": {"caller": 300.0, "journal": 50.0, "micros": 60.0},
        stages.LOOP: {"micros": 20.0},
    }


def test_samples_tell_where_the_main_thread_is():
    def busy() -> None:
        end = time.monotonic() + 30
        while sum(sampler.stages.values()) < 5 and time.monotonic() < end:
            pass

    with (sampler := stages.Sampler()):
        busy()
    assert sampler.stages.keys() == {stages.LOOP}
    assert stages.function_of(busy.__code__) in map(stages.function_of, sampler.functions)


def test_the_chart_has_a_bar_for_each_engine():
    svg = chart(run_of(turn("callsheet", "map", 1000.0), turn("dbos", "map", 1.0), turn("asyncio", "map", 9000.0)))
    found = ET.fromstring(svg)
    bars = [one.get("class") for one in found.iter("{http://www.w3.org/2000/svg}rect")]
    assert bars == ["floor", "ours", "peer"]
    assert "prefers-color-scheme: dark" in svg


def test_the_page_is_what_the_kept_figures_say():
    assert page.PAGE.read_text() == page.written(), "run `python -m benchmarks report`"
    assert page.drawn() is None or page.CHART.read_text() == page.drawn()


def test_a_run_is_kept_turn_by_turn_and_gone_on_with(tmp_path: Path):
    kept = tmp_path / "run.json"
    book = Book(kept, resume=False)
    book.keep(Turn("callsheet", "map", 0, 10, seconds=1, rate=10, wall=4))
    book.keep(Turn("dbos", "map", 0, 10, error="it broke", wall=4))
    again = Book(kept, resume=True)
    assert again.has("map", "callsheet", 0)
    assert not again.has("map", "callsheet", 1)
    assert not again.has("map", "dbos", 0), "what failed is tried again"
    assert again.spent["map", "callsheet"] == 4


# What a peer may do to a machine: daemons with sessions of their own, more threads than there is room for, no end.
DAEMON = "import subprocess, sys, time; subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'], start_new_session=True); print('ready', flush=True); time.sleep(60)"
THREADS = "import threading, time; [threading.Thread(target=time.sleep, args=(60,)).start() for _ in range(8)]"


@contextmanager
def begun(code: str, tmp_path: Path) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    mark = str(tmp_path)
    process = processes.begin([sys.executable, "-c", code], {**os.environ, processes.MARK: mark}, tmp_path / "turn")
    try:
        yield process, mark
    finally:
        processes.end(process, mark)


def until(condition: Callable[[], bool]) -> None:
    """Poll: there is nothing to wait for in another program."""
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@linux
def test_a_turn_ends_with_all_that_it_has_started(tmp_path: Path):
    with begun(DAEMON, tmp_path) as (process, mark):
        until(lambda: b"ready" in (tmp_path / "turn.out").read_bytes())
        assert len(list(processes.marked(mark))) == 2
        with pytest.raises(processes.Runaway, match="no end after"):
            processes.watch(process, 0.1)
    assert list(processes.marked(mark)) == []


DRIVER = """
import os, sys, time
from pathlib import Path
from benchmarks.peers import processes
code = "import time; print('ready', flush=True); time.sleep(60)"
processes.begin([sys.executable, "-c", code], os.environ, Path(sys.argv[1]) / "turn")
time.sleep(60)
"""


@linux
@pytest.mark.skipif(shutil.which("setpriv") is None, reason="nothing else asks the kernel for that")
def test_a_driver_that_is_killed_leaves_no_turn_behind(tmp_path: Path):
    mark = str(tmp_path)
    driver = subprocess.Popen(
        [sys.executable, "-c", DRIVER, mark], cwd=ROOT, env={**os.environ, processes.MARK: mark}, start_new_session=True
    )
    until(lambda: (tmp_path / "turn.out").exists() and b"ready" in (tmp_path / "turn.out").read_bytes())
    assert len(list(processes.marked(mark))) == 2
    driver.kill()
    driver.wait()
    until(lambda: not list(processes.marked(mark)))


@linux
def test_a_turn_with_too_many_threads_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(processes, "MOST_THREADS", 5)
    with begun(THREADS, tmp_path) as (process, _), pytest.raises(processes.Runaway, match="9 threads"):
        processes.watch(process, 30)


SERVER = """
import socket, sys, time
listening = socket.create_server(("127.0.0.1", int(sys.argv[2])))
time.sleep(60)
"""


@linux
def test_a_server_is_shared_stands_still_between_turns_and_ends_with_the_run(tmp_path, monkeypatch):
    (tmp_path / "fake.py").write_text(SERVER)
    monkeypatch.setattr(servers, "SCRIPTS", tmp_path)
    engine = Engine("fake", "fake", "fake", "fake", server=True)
    with servers.Servers(environment) as running:
        first = running.wake(engine, Path(sys.executable))
        (pid,) = processes.marked(first["BENCH_SERVER_HOME"])
        running.rest("fake")
        until(lambda: Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T")
        assert running.wake(engine, Path(sys.executable)) == first
        running.drop("fake")
        second = running.wake(engine, Path(sys.executable))
        assert second != first
    assert list(processes.marked(second["BENCH_SERVER_HOME"])) == []


@linux
def test_a_server_that_does_not_start_says_why(tmp_path, monkeypatch):
    (tmp_path / "fake.py").write_text("raise SystemExit('no port today')")
    monkeypatch.setattr(servers, "SCRIPTS", tmp_path)
    with servers.Servers(environment) as running, pytest.raises(OSError, match="no port today"):
        running.wake(Engine("fake", "fake", "fake", "fake", server=True), Path(sys.executable))


@pytest.mark.parametrize(
    ("module", "stage"),
    [
        ("_rules/table.py", "rules"),
        ("_rules/digest.py", "recording"),
        ("_kernel/mailbox.py", "messages"),
        ("_kernel/host.py", "waiting and waking"),
        ("_store/redo.py", "encoding"),
        ("_store/sqlite.py", "commit"),
        ("_engine/task_run.py", "the run itself"),
    ],
)
def test_every_module_belongs_to_a_stage(module, stage):
    source = ROOT / "src" / "callsheet"
    assert (source / module).exists()
    assert stages.stage_of(str(source / module)) == stage


def test_code_of_others_belongs_to_whoever_calls_it():
    assert stages.stage_of(subprocess.__file__) is None


def test_targets_name_what_there_is():
    for target in TARGETS:
        assert target.workload in WORKLOADS
        assert {target.ours, target.other} <= ENGINES.keys()
    for limit in OWN_TARGETS:
        assert limit.workload in WORKLOADS
    for name in PEERS:
        engine = ENGINES[name]
        assert engine.requirements
        assert {*engine.sizes, *engine.limits, *engine.only} <= WORKLOADS.keys()


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
    assert "import what a program begins with" in done.stdout


def test_a_peer_that_is_not_set_up_is_an_error_that_says_how(tmp_path: Path):
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", "run", "--peers", "dbos", "--workloads", "import"],
        cwd=ROOT, env={**os.environ, "CALLSHEET_BENCH_PEERS": str(tmp_path)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert "python -m benchmarks setup dbos" in done.stderr


@pytest.mark.parametrize(("workload", "count", "expected"), [("appending", 200, 4), ("giving_way", 300, 4)])
def test_what_the_journal_does_can_be_measured_again(workload: str, count: int, expected: int, tmp_path: Path) -> None:
    """By the commands that stand beside the figures; here with few runs."""
    program = f"from benchmarks.{workload} import rows; print(len(rows(1, {count})))"
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT,
        env={**os.environ, "CALLSHEET_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == [str(expected)]


@pytest.fixture
def instructions() -> Iterator[processor.Instructions]:
    try:
        counter = processor.Instructions()
    except processor.CannotCount as error:
        pytest.skip(str(error))
    yield counter
    counter.close()


def spent(counter: processor.Instructions, work: Callable[[], object]) -> processor.Counted:
    before = counter.read()
    work()
    after = counter.read()
    return processor.Counted(after.own - before.own, after.others - before.others)


def test_instructions_are_told_apart_by_thread(instructions: processor.Instructions):
    def elsewhere() -> None:
        thread = threading.Thread(target=lambda: sum(range(1_000_000)))
        thread.start()
        thread.join()

    here, there = spent(instructions, lambda: sum(range(1_000_000))), spent(instructions, elsewhere)
    assert here.own > 3_000_000 > here.others
    assert there.others > 3_000_000 > there.own


def test_twice_the_work_is_twice_the_instructions(instructions: processor.Instructions):
    once, twice = (spent(instructions, lambda: sum(range(size))).own for size in (500_000, 1_000_000))
    assert twice / once == pytest.approx(2, rel=0.1)


def test_the_table_of_instructions_has_a_floor_and_both_threads():
    counted = {"asyncio": {"off": [47.0, 0.0]}, "map": {"off": [236.4, 0.2], "results": [281.0, 1119.0]}}
    assert list(processor.table({"python": "3.11.7", "machine": "x86_64", "counted": counted}))[4:] == [
        "| asyncio | bare task of the loop | 47 |  |  |",
        "| map | task run | 236 |  | 281 + 1,119 |",
    ]


def test_a_shape_that_is_not_there_is_an_error_that_names_those_that_are(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit):
        processor.main(["--shapes", "triangle"])
    said = capsys.readouterr().err
    assert "'triangle'" in said
    assert "sequential, map, retry" in said
