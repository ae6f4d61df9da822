"""``callsheet doctor``: how the history and the engines on it are doing. It only reads."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from callsheet._command import show
from callsheet._command.finding import history_file
from callsheet._store.doctor import Report, examine
from callsheet._store.doctor_logs import LEFT, MISSING, NAMELESS, OPEN, UNKNOWN, Log
from callsheet._store.proofs import folder_beside

_MEGABYTE: Final = 1_000_000
_WHOSE: Final = {
    LEFT: "left by a process that has ended",
    UNKNOWN: "of a process of which nothing can be told here",
    NAMELESS: "named by no row and used by nobody",
    MISSING: "has no file any more",
}
_NEXT: Final = "whoever opens the history next {} (`callsheet flow-run ls` will do)"


def doctor(given: argparse.Namespace) -> int:
    """Say how the history is doing; 1 where something is wrong with it."""
    report = examine(Path(history_file()).expanduser(), watch=given.watch, integrity=given.integrity)
    if given.json:
        show.as_json(report)
    else:
        for line in _lines(report):
            print(line)
    sound = report.integrity in (None, ("ok",)) and not any(log.unreadable or log.error for log in report.logs)
    return 0 if sound else 1


def _lines(report: Report) -> list[str]:
    said = [
        f"history: {report.database}",
        f"size: {report.bytes / _MEGABYTE:.1f} MB, and {report.wal_bytes / _MEGABYTE:.1f} MB not yet moved into it",
        f"schema: {report.schema} (written by programs that know at least {report.min_writer})",
        f"integrity: {'not checked (--integrity reads all of it)' if report.integrity is None else '; '.join(report.integrity)}",
        f"engines: {len(report.engines)}, watched for {report.watched_seconds:g} s",
    ]
    for engine in report.engines:
        beat = "gave a sign of life" if engine.beats else "gave no sign of life meanwhile"
        flows = f", goes on with {', '.join(engine.flows)}" if engine.flows else ""
        said.append(
            f"  {engine.id} {engine.status}: process {engine.pid} on {engine.host!r}, {engine.runs} runs, {beat} "
            f"(lease {engine.lease_seconds:g} s){flows}"
        )
    said.append(f"runs of dead engines: {report.runs_of_dead_engines}")
    if report.writer_pid is not None:
        names = [str(engine.id) for engine in report.engines if engine.pid == report.writer_pid and not engine.beats]
        whose = f", the engine {', '.join(names)}" if names else ""
        said.append(
            f"writer: the process {report.writer_pid}{whose} holds the file, and nobody else can write; continue or end it"
        )
    said.append(f"orders without an answer: {report.letters}")
    said.append(f"lock files left behind: {len(report.files_left_behind)} (removed after a day)")
    return said + _logs(report)


def _logs(report: Report) -> list[str]:
    said = [f"redo logs: {len(report.logs)}, with {_amount(report.logs)} not in the tables yet"]
    return said + [f"  {log.name} {_whose(log)}: {'; '.join(_content(log, report))}" for log in report.logs]


def _amount(logs: Sequence[Log]) -> str:
    return f"{sum(log.batches for log in logs)} batches ({sum(log.bytes for log in logs):,} bytes)"


def _whose(log: Log) -> str:
    if log.status != OPEN:
        return _WHOSE[log.status]
    engines = f", engine {', '.join(log.engines)}" if log.engines else ""
    processes = (
        f"process {', '.join(map(str, log.processes))}" if log.processes else "a process that cannot be seen here"
    )
    return f"open in {processes}{engines}"


def _content(log: Log, report: Report) -> list[str]:
    if log.status == NAMELESS:
        return ["nothing in it counts; it is removed when somebody opens the history a day after its last use"]
    if log.status == MISSING:
        folder = folder_beside(Path(report.database)).name
        lost = f"what was in it only is lost (a copy of a history needs the folder {folder!r} beside it)"
        return [lost, _NEXT.format("forgets it")]
    said = [f"{_amount([log]) if log.batches else 'nothing that is'} not in the tables yet"]
    if log.status != OPEN:
        said.append(_NEXT.format("writes them" if log.batches else "removes it"))
    elif log.batches:
        said.append("its process writes them, or who reads the history")
    if log.unreadable:
        said.append(
            f"the last {log.unreadable} batches CANNOT BE READ and will be left out of history, as after a power loss: "
            "what they say of runs is lost. Copy the database and the folder beside it first, if that matters"
        )
    if log.error is not None:
        said.append(f"NOT READ WHOLE: {log.error}")
    return said
