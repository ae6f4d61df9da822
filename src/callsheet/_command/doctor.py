"""``callsheet doctor``: how the history and the engines on it are doing. It only reads."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Final

from callsheet._command import show
from callsheet._command.finding import history_file
from callsheet._store.doctor import Report, examine

_MEGABYTE: Final = 1_000_000


def doctor(given: argparse.Namespace) -> int:
    """Say how the history is doing; 1 where something is wrong with it."""
    report = examine(Path(history_file()).expanduser(), watch=given.watch, integrity=given.integrity)
    if given.json:
        show.as_json(report)
    else:
        for line in _lines(report):
            print(line)
    return 0 if report.integrity in (None, ("ok",)) else 1


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
    return said
