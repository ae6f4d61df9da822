"""Processes that own runs, for tests: each opens an engine, says what happens in it, and does what it is told."""

from __future__ import annotations

import os
import signal
import subprocess
import textwrap
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

import warm
from stopping import stop_outside

PATIENCE = 50.0  # seconds; only ever waited for by a test that fails
LEASE = 0.4  # seconds

# What every program knows: a flow that says where it is, and goes on when a file says so.
FLOWS = """
import os, sys, time
import anyio
from pathlib import Path
from callsheet import Engine, flow, task

here = Path(sys.argv[1])

def say(*words):
    print(*words, flush=True)

def done(name, *words):
    with (here / "done").open("a") as file:
        file.write(" ".join(map(str, (name, os.getpid(), *words))) + "\\n")

@task
async def step(name):
    done(name)
    return name

@flow(on_crashed=[lambda flow, run, state: done("crashed", run.id)], on_cancellation=[lambda *_: done("cancelled")])
async def waiting(number: int = 0):
    await step("before")
    say("waiting", number)
    while not (here / "go").exists():
        await anyio.sleep(0.005)
    await step("after")
    return number

@flow
async def counting():
    await step("first")
    say("counting")
    while not (here / "go").exists():
        await step("next")
        await anyio.sleep(0.002)

@flow
def waiting_in_a_thread(number: int = 0):
    say("waiting", number)
    while not (here / "go").exists():
        time.sleep(0.005)
    return number

@flow
async def other():
    say("other")
"""

ENGINE = """
async def main():
    async with Engine({options}):
        say("open")
        {body}

anyio.run(main)
"""


class OwnerProcess:
    """A program of its own process, on the history of the test."""

    def __init__(self, here: Path, program: str, *, lease: float = LEASE, flows: str = FLOWS, **variables: str) -> None:
        environment = {**os.environ, "CALLSHEET_LEASE_SECONDS": str(lease), "CALLSHEET_LOGGING_LEVEL": "CRITICAL"}
        self.process = warm.start(
            flows + textwrap.dedent(program), here, stdout=subprocess.PIPE, env={**environment, **variables}
        )

    @classmethod
    def engine(cls, here: Path, body: str, options: str = "", **more: Any) -> Self:
        """Start a program that opens an engine and does something in it."""
        lines = textwrap.indent(textwrap.dedent(body), " " * 8).strip()
        return cls(here, ENGINE.format(options=options, body=lines), **more)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()
        if self.process.stdout is not None:
            self.process.stdout.close()

    @property
    def pid(self) -> int:
        return self.process.pid

    def hears(self, *words: str) -> None:
        """Wait for a line."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline().strip()
        assert line == " ".join(words), line

    def hears_all(self, lines: list[list[str]]) -> None:
        """Wait for lines in any order: a loop starts tasks as it likes."""
        assert self.process.stdout is not None
        assert sorted(self.process.stdout.readline().split() for _ in lines) == sorted(lines)

    def rest(self) -> str:
        """Wait for the end; give what it said until then."""
        said, _ = self.process.communicate(timeout=PATIENCE)
        return said

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def stop(self) -> None:
        """Stop the process, but not inside of a transaction."""
        stop_outside(self.process)

    def go_on(self) -> None:
        self.process.send_signal(signal.SIGCONT)


def until(holds: Callable[[], Any]) -> Any:
    """Wait until something holds; give what it is."""
    deadline = time.monotonic() + PATIENCE
    while not (found := holds()):
        assert time.monotonic() < deadline, "it did not come about"
        time.sleep(0.005)
    return found


def lines(here: Path) -> list[list[str]]:
    """Give what was done, in order: a name and the process that did it, and more."""
    file = here / "done"
    return [line.split() for line in file.read_text().splitlines()] if file.exists() else []
