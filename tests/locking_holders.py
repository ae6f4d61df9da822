"""A process that holds a lock, for tests: it does what it is told, line by line."""

from __future__ import annotations

import signal
import subprocess
from pathlib import Path
from typing import Self

import warm

PROGRAM = """
import sys, time
from callsheet.locking.filesystem import FileSystemLockManager
from callsheet.locking.database import DatabaseLockManager
kind, place, lease = sys.argv[1:]
locks = {"files": FileSystemLockManager, "database": DatabaseLockManager}[kind](place, lease=float(lease))
for line in sys.stdin:
    try:
        answer = eval(line)
    except Exception as error:
        answer = f"{type(error).__name__}: {error}"
    print(answer, flush=True)
"""


class HolderProcess:
    """Evaluates expressions over `locks` in a process of its own."""

    def __init__(self, kind: str, place: Path, lease: float) -> None:
        self.process = warm.start(PROGRAM, kind, place, lease, stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()
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
        self.process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        self.process.send_signal(signal.SIGCONT)
