"""A process of its own that runs a flow, for tests that give it orders; it tells of its life in lines."""

from __future__ import annotations

import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from queue import Empty, SimpleQueue
from typing import Any

import warm

PATIENCE = 50.0  # seconds; only ever waited for by a test that fails

PRELUDE = """
import asyncio, sys, threading, time
from callsheet import flow, pause_flow_run, task
from callsheet.runtime import flow_run, task_run

def say(*words):
    print(*words, flush=True)

def hook(flow, run, state):
    say("hook", flow.name, state.name)
"""


class Other:
    """The process."""

    def __init__(self, process: Any) -> None:
        self.process = process
        self.lines: SimpleQueue[str] = SimpleQueue()
        self.seen: list[str] = []
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.put(line.rstrip("\n"))

    def next(self, first: str) -> str:
        """Give the rest of the next line that begins so."""
        while True:
            try:
                line = self.lines.get(timeout=PATIENCE)
            except Empty:
                raise AssertionError(f"no {first!r}; it said {self.seen}") from None
            self.seen.append(line)
            if line.split(" ", 1)[0] == first:
                return line.partition(" ")[2]

    def end(self) -> list[str]:
        """Wait for its end, and give everything that it said."""
        self.process.wait(PATIENCE)
        while True:
            try:
                self.seen.append(self.lines.get(timeout=0.2))
            except Empty:
                return self.seen


def until(holds: Callable[[], object]) -> None:
    """Wait until the history that another process writes says so: it may be some moments behind."""
    deadline = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@contextmanager
def other(program: str) -> Iterator[Other]:
    """Start a process on the same history; it is killed if it has not ended by itself."""
    process = warm.start(PRELUDE + program, stdout=subprocess.PIPE)
    try:
        yield Other(process)
    finally:
        process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()
