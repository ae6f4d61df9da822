"""What is asked of a history, of one with 1,000,000 task runs: by the writer and the readers of the engine.

10,000 flow runs of 100 tasks each, of which one in a hundred failed, a few are tagged, and some logged a line.
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple
from uuid import UUID

from benchmarks.measure import Row
from callsheet._ids import new_id
from callsheet._kernel.ports import step
from callsheet._model.kinds import Kind, RunOrder, StateType
from callsheet._model.records import (
    Definition,
    Entry,
    LogFilter,
    LogWritten,
    OutcomeRecorded,
    ResultBlob,
    RunCreated,
    RunFilter,
    StateEntered,
)
from callsheet._store.protocol import Reader
from callsheet._store.sqlite import SqliteStore

TASKS: Final = 100  # in each flow run
FLOWS: Final = int(os.environ.get("CALLSHEET_BENCHMARK_FLOW_RUNS", "10000"))
PAGE: Final = 200
COMMON: Final = 50.0  # milliseconds for a page of anything that an index is for
WHOLE: Final = 2000.0  # milliseconds after which a reader stops what walks over everything

_S: Final = StateType
_FLOWS: Final = [Definition(Kind.FLOW, f"module:flow_{n}", f"flow-{n}", "c0de") for n in range(5)]
_TASKS: Final = [Definition(Kind.TASK, f"module:task_{n}", f"task-{n}", "c0de") for n in range(20)]
_RARE: Final = Definition(Kind.TASK, "module:rare", "rare", "c0de")

Ask = Callable[[Reader], Awaitable[Any]]

_ALL_FLOWS: Final = RunFilter(kind=Kind.FLOW)
_ALL_TASKS: Final = RunFilter(kind=Kind.TASK)


def flow_run(number: int) -> Iterator[Entry]:
    """Give what one flow run and its tasks put into the history."""
    flow, micros = new_id(), time.time_ns() // 1_000
    tags = (f"team-{number % 50}",)
    yield RunCreated(
        id=flow, kind=Kind.FLOW, definition=_FLOWS[number % 5], name=f"flow-run-{number}", created=micros, root_id=flow,
        parameters=b'{"number": 7}', tags=tags, entered=2,
    )  # fmt: skip
    for index in range(TASKS):
        run, fails = new_id(), index == 50
        definition = _RARE if number == FLOWS - 1 and index == 99 else _TASKS[index % 20]
        end = _S.FAILED if fails else _S.COMPLETED
        yield RunCreated(
            id=run, kind=Kind.TASK, definition=definition, name=f"{definition.name}-{index}", created=micros + index,
            parent_id=flow, flow_run_id=flow, root_id=flow, entered=2, tags=("slow",) if index == 7 else (),
        )  # fmt: skip
        yield StateEntered(run_id=run, seq=3, type=end, name=end.value.title(), at=micros + index + 50, attempt=1)
        blob = None if fails else ResultBlob("record", 40, inline=b"x" * 40)
        yield OutcomeRecorded(flow_run_id=flow, identity=run.bytes[::-1], run_id=run, status=end, result=blob)
        if index % 10 == 0:
            yield LogWritten(
                flow_run_id=flow, task_run_id=run, at=micros + index, level=20, logger="module", message="Working", n=0
            )
    yield StateEntered(run_id=flow, seq=3, type=_S.COMPLETED, name="Completed", at=micros + 1_000, attempt=1)


class Built(NamedTuple):
    """What was written: seconds of the processor a task run, and a flow run in the middle, a task run in that, and when."""

    each: float
    flow: UUID
    task: UUID
    at: int


def build(path: Path) -> Built:
    """Write the history."""
    store = SqliteStore(path)
    store.open()
    began = time.process_time()
    middle: list[RunCreated] = []
    for number in range(FLOWS):
        entries = list(flow_run(number))
        if number == FLOWS // 2:
            middle = [entry for entry in entries if isinstance(entry, RunCreated)]
        store.commit(entries)
        if number % 100 == 0:
            store.tend()
    store.close()
    took = time.process_time() - began
    return Built(took / (FLOWS * TASKS), middle[0].id, middle[40].id, middle[0].created)


def runs(where: RunFilter, *, newest: bool = True, order: RunOrder = RunOrder.CREATED) -> Ask:
    """Ask for a page of runs."""
    return lambda reader: reader.read_runs(where, limit=PAGE, newest_first=newest, order=order)


def of(kind: Kind, **more: Any) -> RunFilter:
    """Give a filter."""
    return RunFilter(kind=kind, **more)


def pages(flow: UUID, task: UUID, at: int) -> dict[str, Ask]:
    """Give pages that an index is for."""
    return {
        "the newest flow runs": runs(_ALL_FLOWS),
        "the oldest flow runs": runs(_ALL_FLOWS, newest=False),
        "the newest task runs": runs(_ALL_TASKS),
        "a flow run by its id": runs(of(Kind.FLOW, ids=(flow,))),
        "a task run by its id": runs(of(Kind.TASK, ids=(task,))),
        "the task runs of a flow run": runs(RunFilter(flow_run_ids=(flow,))),
        "subflows of a task run": runs(of(Kind.FLOW, parent_task_run_ids=(task,))),
        "failed task runs, newest first": runs(of(Kind.TASK, state_types=(_S.FAILED,))),
        "failed flow runs, of which there are none": runs(of(Kind.FLOW, state_types=(_S.FAILED,))),
        "runs that are running, of which there are none": runs(of(Kind.TASK, state_types=(_S.RUNNING,))),
        "completed task runs, newest first": runs(of(Kind.TASK, state_types=(_S.COMPLETED,))),
        "flow runs with a tag": runs(of(Kind.FLOW, tags_all=("team-7",))),
        "task runs with a tag": runs(of(Kind.TASK, tags_all=("slow",))),
        "runs of a flow": runs(of(Kind.FLOW, definition_names=("flow-3",))),
        "runs of a task": runs(of(Kind.TASK, definition_names=("task-3",))),
        "flow runs of a second": runs(of(Kind.FLOW, created_after=at, created_before=at + 1_000_000)),
        "task runs of flow runs with a tag": runs(of(Kind.TASK, flow_run=of(Kind.FLOW, tags_all=("team-7",)))),
        "flow runs with a failed task": runs(of(Kind.FLOW, any_task_run=of(Kind.TASK, state_types=(_S.FAILED,)))),
    }


def others(flow: UUID, task: UUID) -> dict[str, Ask]:
    """Give what else is asked again and again."""
    return {
        "the states of a run": lambda reader: reader.read_states(task),
        "the outcomes in a flow run": lambda reader: reader.read_outcomes(flow),
        "the log of a flow run": lambda reader: reader.read_logs(LogFilter(flow_run_ids=(flow,))),
        "the log of a task run": lambda reader: reader.read_logs(LogFilter(task_run_ids=(task,))),
        "flows": lambda reader: reader.read_definitions(Kind.FLOW),
        "how many flow runs": lambda reader: reader.count_runs(_ALL_FLOWS),
        "flow runs by state": lambda reader: reader.count_states(_ALL_FLOWS),
        "failed task runs, counted": lambda reader: reader.count_runs(of(Kind.TASK, state_types=(_S.FAILED,))),
        "flow runs by name": runs(of(Kind.FLOW, names=(f"flow-run-{FLOWS // 2}",))),
        "flow runs by their end": runs(_ALL_FLOWS, order=RunOrder.ENDED),
        "flow runs by their start": runs(_ALL_FLOWS, order=RunOrder.STARTED),
    }


def walks(flow: UUID) -> dict[str, Ask]:
    """Give what walks over all runs there are."""
    return {
        "children of a run": runs(RunFilter(parent_ids=(flow,))),
        "runs below a root": runs(RunFilter(root_ids=(flow,))),
        "tasks": lambda reader: reader.read_definitions(Kind.TASK),
        "how many task runs": lambda reader: reader.count_runs(_ALL_TASKS),
        "task runs by state": lambda reader: reader.count_states(_ALL_TASKS),
        "runs of a rare task": runs(of(Kind.TASK, definition_names=("rare",))),
        "task runs by name": runs(of(Kind.TASK, names=("rare-99",))),
        "task runs by a part of their name": runs(of(Kind.TASK, name_like="are-9")),
        "task runs by their end": runs(_ALL_TASKS, order=RunOrder.ENDED),
        "the newest lines of all logs": lambda reader: reader.read_logs(LogFilter(), newest_first=True),
        "errors in all logs": lambda reader: reader.read_logs(LogFilter(level_at_least=40)),
    }


def questions(flow: UUID, task: UUID, at: int) -> dict[str, tuple[float, Ask]]:
    """Give what is asked, and how many milliseconds it may take."""
    common = pages(flow, task, at) | others(flow, task)
    asked = {name: (COMMON, ask) for name, ask in common.items()}
    return asked | {name: (WHOLE, ask) for name, ask in walks(flow).items()}


def rows(rounds: int) -> list[Row]:
    """Measure the writing and every question."""
    path = Path(os.environ["CALLSHEET_HOME"]) / "read.db"
    written, *middle = build(path)
    of = f"of {FLOWS * TASKS:,}"
    size = path.stat().st_size / (FLOWS * TASKS)
    found = [
        Row(f"processor time to write a task run {of}", f"{written * 1e6:.1f} µs", "", None, "", reached=True),
        Row(f"bytes a task run {of}", f"{size:.0f} B", "", None, "", reached=True),
    ]
    reader = SqliteStore(path).blocking_reader()
    for name, (limit, ask) in questions(*middle).items():
        times: list[float] = []
        for _ in range(max(1, rounds)):
            began = time.thread_time()
            try:
                step(ask(reader))  # type: ignore[arg-type]
            except Exception as error:
                times = [float("inf")]
                name = f"{name}: {error}"[:100]
                break
            times.append((time.thread_time() - began) * 1e3)
        took = statistics.median(times)
        found.append(Row(name, f"{took:.1f} ms", "", None, f"≤ {limit:g} ms", took <= limit))
    step(reader.aclose())
    return found
