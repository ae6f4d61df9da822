"""Flows that several processes call under run keys, and what tests hear of their bodies: see `Stage`."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path
from typing import Any, Self

import anyio
import sniffio

import warm
from callsheet import flow, run_key, task
from stopping import stop_outside

FOLDER = "KEYED_FLOWS_FOLDER"
PROGRAM = """
import sys, keyed_flows
for line in sys.stdin:
    try:
        answer = eval(line, vars(keyed_flows))
    except BaseException as error:
        answer = f"{type(error).__name__}: {error}"
    print(answer, flush=True)
"""


class RefusedError(Exception):
    """What `refuse` raises."""


def note(text: str) -> None:
    """Leave a trace outside of the engine."""
    with (_folder() / "notes").open("a") as file:
        file.write(f"{text}\n")


def hold() -> None:
    """Tell that a body is here, and wait until it may go on; not at all once the gate was opened for good."""
    folder = _folder()
    if not (folder / "open").exists():
        (folder / "here").open("w").close()
        (folder / "gate").open().close()


def _folder() -> Path:
    return Path(os.environ[FOLDER])


@task
def step(name: str) -> str:
    note(name)
    return name


@flow
def charge(cents: int) -> str:
    done = [step("first")]
    hold()
    done.append(step("second"))
    return f"{cents}: {' '.join(done)}"


@flow
async def acharge(cents: int) -> str:
    done = [step("first")]
    await anyio.to_thread.run_sync(hold)
    done.append(step("second"))
    return f"{cents}: {' '.join(done)}"


@flow
async def where(what: object) -> str:
    """Say on which kind of event loop the body runs; its parameter has no form that a history can keep."""
    await anyio.to_thread.run_sync(hold)
    return sniffio.current_async_library()


@flow
def die(cents: int) -> None:
    """End the process that runs it, each time."""
    note(f"dies-{cents}")
    os.kill(os.getpid(), signal.SIGKILL)


@flow
def refuse(cents: int) -> None:
    note("refuse")
    hold()
    raise RefusedError(f"no {cents}")


def call(name: str, key: str, cents: Any = 1, backend: str = "asyncio", **options: Any) -> Any:
    """Call a flow of this module under a key, wherever this is."""
    called = globals()[name]
    if not called.isasync:
        with run_key(key, **options):
            return called(cents)

    async def keyed() -> Any:
        with run_key(key, **options):
            return await called(cents)

    return anyio.run(keyed, backend=backend)


class Stage:
    """Where the bodies leave their traces and wait, in whichever process they run."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        os.mkfifo(folder / "here")
        os.mkfifo(folder / "gate")

    def await_body(self) -> None:
        """Wait until a body is at `hold`."""
        (self.folder / "here").open().close()

    def open(self) -> None:
        """Let the body that waits go on, and everybody who comes later."""
        (self.folder / "open").touch()
        (self.folder / "gate").open("w").close()

    def open_before(self) -> None:
        """Let nobody wait."""
        (self.folder / "open").touch()

    @property
    def notes(self) -> list[str]:
        """Give the traces, in order."""
        return (self.folder / "notes").read_text().split()


class Caller:
    """A process that calls flows; it evaluates expressions over this module."""

    def __init__(self, **environment: str) -> None:
        self.process = warm.start(
            PROGRAM,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, **environment, "PYTHONPATH": str(Path(__file__).parent)},
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
        self.process.stdin.close()
        self.process.stdout.close()

    def tell(self, expression: str) -> None:
        self.process.stdin.write(expression + "\n")
        self.process.stdin.flush()

    def hear(self) -> str:
        return self.process.stdout.readline().strip()

    def ask(self, expression: str) -> str:
        self.tell(expression)
        return self.hear()

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def stop(self) -> None:
        """Stop the process, but not inside of a transaction."""
        stop_outside(self.process)

    def go_on(self) -> None:
        self.process.send_signal(signal.SIGCONT)
