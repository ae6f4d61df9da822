"""Stopping a process of a test as a debugger or a laptop's lid would."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import warm


def stop_outside(process: subprocess.Popen[Any] | warm.Process) -> None:
    """Stop a process on the history of the test, but not inside of a transaction: nobody could write until it goes on."""
    database = Path(os.environ["CALLSHEET_HOME"]) / "callsheet.db"
    with closing(sqlite3.connect(database, timeout=0, isolation_level=None)) as probe:
        while True:
            process.send_signal(signal.SIGSTOP)
            # Threads stop one after the other.
            if isinstance(process, warm.Process):
                process.await_stopped()
            else:
                os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
            try:
                probe.execute("BEGIN IMMEDIATE")
                probe.execute("ROLLBACK")
                return
            except sqlite3.OperationalError:
                process.send_signal(signal.SIGCONT)
                time.sleep(0.001)
