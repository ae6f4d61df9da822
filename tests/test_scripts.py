"""Whole programs, as processes of their own with warnings as errors: what they print, how they end, what stays.

Those that tell how such a program starts are started by `python -W error -X dev`; the others have the engine imported.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

import warm
from callsheet._model.records import RunFilter
from callsheet._store.sqlite import SqliteStore
from store_helpers import run_now

BEGIN = """
import asyncio, os, signal, sys, threading, time
import anyio
from callsheet import flow, task

def say(*words):
    os.write(1, (" ".join(map(str, words)) + "\\n").encode())

@task
def double(x):
    return 2 * x

@task
async def adouble(x):
    await anyio.sleep(0)
    return 2 * x
"""


class Program:
    """A process that runs a piece of code."""

    def __init__(self, code: str, folder: Path, cold: bool, **env: str) -> None:
        path = folder / "program.py"
        path.write_text(BEGIN + dedent(code))
        environment, pipes = {**os.environ, **env}, {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        self.process: Any
        if cold:
            command = [sys.executable, "-W", "error", "-X", "dev", path]
            self.process = subprocess.Popen(command, cwd=folder, env=environment, text=True, **pipes)
        else:
            self.process = warm.start(path, folder=folder, env=environment, dev=True, **pipes)

    def says(self, line: str) -> None:
        """Wait for a line."""
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == f"{line}\n"

    def ends(self, code: int = 0, *, within: float = 20) -> tuple[str, str]:
        """Wait for the end and give both outputs."""
        try:
            out, err = self.process.communicate(timeout=within)
        except subprocess.TimeoutExpired:
            self.process.kill()
            out, err = self.process.communicate()
            pytest.fail(f"still running; printed:\n{out}\n{err}")
        assert self.process.returncode == code, f"{self.process.returncode}:\n{out}\n{err}"
        # What asyncio says in its debug mode of a first step that takes a tenth of a second on a busy machine.
        return out, "".join(line for line in err.splitlines(True) if not line.startswith("Executing <"))


@pytest.fixture
def run(tmp_path: Path) -> Any:
    """Start programs in a folder of their own; `CALLSHEET_HOME` is the test's."""
    programs: list[Program] = []

    def start(code: str, *, cold: bool = False, **env: str) -> Program:
        programs.append(Program(code, tmp_path, cold, **env))
        return programs[-1]

    yield start
    for program in programs:
        if program.process.poll() is None:
            program.process.kill()
            program.process.communicate()


@pytest.fixture
def ended(callsheet_home: Path) -> Any:
    """Give the names of runs and the states they are in, by definition, as the history of a program has them."""

    def read() -> dict[str, list[str]]:
        store = SqliteStore(callsheet_home / "callsheet.db")
        store.open()
        reader = store.blocking_reader()
        found: dict[str, list[str]] = {}
        for record in run_now(reader.read_runs(RunFilter(), limit=1000)).items:
            found.setdefault(record.definition.name, []).append(record.state.name if record.state else None)
        run_now(reader.aclose())
        store.close()
        return found

    return read


# ------------------------------------------------------------------------------------------ good ends

SYNC = """
@flow
def total(n):
    return sum(double.map(range(n)).result()) + sum(adouble.map(range(n)).result()) + double(1)

say(total(3))
"""
ASYNC = """
@flow
async def total(n):
    return sum(double.map(range(n)).result()) + sum(adouble.map(range(n)).result()) + await adouble(1)

say({run})
"""


@pytest.mark.parametrize("kind", ["sync", "loops", "off", "memory"])
def test_a_script_prints_what_it_says_and_nothing_else(kind: str, run: Any, ended: Any) -> None:
    loops = "asyncio.run(total(3)), anyio.run(total, 3, backend_options={'use_uvloop': True})"
    started = f"{loops}, anyio.run(total, 3, backend='trio')" if kind == "loops" else "asyncio.run(total(3))"
    code = SYNC if kind == "sync" else ASYNC.format(run=started)
    env = {"off": {"CALLSHEET_DURABILITY": "off"}, "memory": {"CALLSHEET_DATABASE": ":memory:"}}.get(kind, {})
    assert run(code, cold=kind in {"sync", "loops"}, **env).ends() == ("14 14 14\n" if kind == "loops" else "14\n", "")
    if not env:
        times = 3 if kind == "loops" else 1
        history = ended()
        assert history["total"] == ["Completed"] * times
        assert set(history["double"] + history["adouble"]) == {"Completed"}
        assert len(history["double"] + history["adouble"]) == 7 * times


def test_a_loop_thread_and_a_sync_flow_at_once(run: Any) -> None:
    program = run("""
        @flow
        async def aflow(n):
            return sum(adouble.map(range(n)).result())

        @flow
        def plain(n):
            return sum(double.map(range(n)).result())

        thread = threading.Thread(target=lambda: say(asyncio.run(aflow(3))))
        thread.start()
        thread.join()
        say(plain(4))
        say([t.name for t in threading.enumerate() if not t.daemon])
    """)
    assert program.ends() == ("6\n12\n['MainThread']\n", "")


def test_an_import_alone_starts_nothing(run: Any) -> None:
    program = run(
        """
        say(threading.active_count(), os.path.exists(os.environ["CALLSHEET_HOME"]))
        """,
        cold=True,
    )
    assert program.ends() == ("1 False\n", "")


# ------------------------------------------------------------------------------------------- bad ends


def test_an_exception_in_a_flow_is_the_programs_to_see(run: Any, ended: Any) -> None:
    program = run("""
        @flow
        def broken():
            raise ValueError("spilled milk")

        broken()
    """)
    out, err = program.ends(1)
    assert out == ""
    assert err.count("Traceback") == 2, "one in the run's log, one of the interpreter"
    assert err.rstrip().endswith("ValueError: spilled milk")
    assert ended() == {"broken": ["Failed"]}


@pytest.mark.parametrize("colour", ["def", "async def"])
def test_sys_exit_inside_a_flow_ends_the_program_with_its_code(colour: str, run: Any, ended: Any) -> None:
    call = "stop()" if colour == "def" else "asyncio.run(stop())"
    program = run(
        f"""
        @flow
        {colour} stop():
            double.submit(1).wait()
            sys.exit(7)

        {call}
    """,
        CALLSHEET_LOGGING_LEVEL="CRITICAL",
    )
    assert program.ends(7) == ("", "")
    assert ended() == {"stop": ["Crashed"], "double": ["Completed"]}


INTERRUPTED = {
    "sync": """
        @flow
        def sleeps():
            say("ready")
            time.sleep(60)

        sleeps()
    """,
    "busy": """
        @flow
        def sleeps():
            say("ready")
            while True:
                pass

        sleeps()
    """,
    "waiting": """
        @task
        async def long():
            say("ready")
            await anyio.sleep(60)

        @flow
        def sleeps():
            long.submit().wait()

        sleeps()
    """,
    "thread": """
        @task
        def long():
            say("ready")
            time.sleep(60)

        @flow
        def sleeps():
            long.submit().wait()

        sleeps()
    """,
    "asyncio": """
        @flow
        async def sleeps():
            say("ready")
            await anyio.sleep(60)

        asyncio.run(sleeps())
    """,
    "asyncio busy": """
        @flow
        async def sleeps():
            say("ready")
            while not asyncio.current_task().cancelling():
                pass
            say("was asked")
            while True:
                pass

        asyncio.run(sleeps())
    """,
    "asyncio waiting": """
        @task
        async def long():
            say("ready")
            await anyio.sleep(60)

        @flow
        async def sleeps():
            long.submit().wait()

        asyncio.run(sleeps())
    """,
    "trio": """
        @flow
        async def sleeps():
            say("ready")
            await anyio.sleep(60)

        anyio.run(sleeps, backend="trio")
    """,
    "trio busy": """
        @flow
        async def sleeps():
            say("ready")
            while True:
                pass

        anyio.run(sleeps, backend="trio")
    """,
    "trio waiting": """
        @task
        async def long():
            say("ready")
            await anyio.sleep(60)

        @flow
        async def sleeps():
            long.submit().wait()

        anyio.run(sleeps, backend="trio")
    """,
}


@pytest.mark.parametrize("where", INTERRUPTED)
def test_an_interrupt_ends_the_program_at_once_and_history_says_crashed(where: str, run: Any, ended: Any) -> None:
    program = run(
        dedent(INTERRUPTED[where]),
        cold=where == "waiting",
        CALLSHEET_CANCEL_GRACE_SECONDS="0.2",
        CALLSHEET_LOGGING_LEVEL="CRITICAL",
    )
    program.says("ready")
    time.sleep(0.05)  # until it is in the middle of what it does
    program.process.send_signal(signal.SIGINT)
    if where == "asyncio busy":  # the first one only asks asyncio's main task to leave
        program.says("was asked")
        program.process.send_signal(signal.SIGINT)
    _, err = program.ends(-signal.SIGINT)
    assert err.rstrip().endswith("KeyboardInterrupt")
    assert "Task was destroyed" not in err
    assert "never retrieved" not in err
    assert "never awaited" not in err
    history = ended()
    assert history["sleeps"] == ["Crashed"]
    assert history.get("long", ["Cancelled"])[0] in {"Cancelled", "Crashed"}


# --------------------------------------------------------------------------------------- loose ends


@pytest.mark.parametrize("way", ["cancel", "return"])
def test_asyncio_run_ends_with_runs_in_flight(way: str, run: Any, ended: Any) -> None:
    """Nothing awaits the run any more when the loop ends: it is cancelled with it, and history says so."""
    end = 'raise SystemExit("left")' if way == "cancel" else 'return "left"'
    program = run(
        f"""
        @task
        async def long():
            await asyncio.sleep(60)

        @task
        def sync_long():
            time.sleep(60)

        @flow
        async def lasts():
            long.submit()
            sync_long.submit()
            started.set()
            await long()

        async def main():
            global started
            started = asyncio.Event()
            running = asyncio.create_task(lasts())
            await started.wait()
            {end}

        try:
            say(asyncio.run(main()))
        except SystemExit as error:
            say(error)
    """,
        CALLSHEET_CANCEL_GRACE_SECONDS="0.2",
        CALLSHEET_LOGGING_LEVEL="CRITICAL",
    )
    assert program.ends() == ("left\n", "")
    history = ended()
    assert history["lasts"] == ["Crashed"]
    assert set(history["long"] + history["sync_long"]) <= {"Crashed", "Cancelled"}


def test_a_fork_starts_an_engine_of_its_own(run: Any, ended: Any) -> None:
    program = run(
        """
        import warnings
        warnings.simplefilter("ignore", DeprecationWarning)  # of 3.12+: a fork while threads run

        @flow
        def total(n):
            return sum(double.map(range(n)).result()) + sum(adouble.map(range(n)).result())

        @flow
        def around():
            child = os.fork()
            if child == 0:
                say("child", total(2), asyncio.run(adouble(5)))
                sys.exit(0)
            os.waitpid(child, 0)
            return total(4)

        say("parent", total(3))
        say("parent", around())
        """
    )
    out, err = program.ends()
    assert (out, err) == ("parent 12\nchild 4 10\nparent 24\n", "")
    assert ended()["total"] == ["Completed"] * 4  # one of them tracks the subflow


def test_a_child_that_is_forked_in_an_async_flow_keeps_its_own_error(run: Any) -> None:
    """Its loop is not a running one any more, so it cannot go on; what it raises is to be seen."""
    program = run(
        """
        import warnings
        warnings.simplefilter("ignore", DeprecationWarning)  # of 3.12+: a fork while threads run

        @flow
        async def around():
            loop = asyncio.get_running_loop()
            child = os.fork()
            if child == 0:
                loop.close = lambda: None  # its selector is the parent's, who would not be woken any more
                raise LookupError("theirs")
            os.waitpid(child, 0)
            return await adouble(2)

        parent = os.getpid()
        try:
            result = asyncio.run(around())
            say("parent", result)
        except BaseException as error:
            import traceback
            say("child", "LookupError: theirs" in "".join(traceback.format_exception(error)))
            os._exit(0)
    """,
        CALLSHEET_LOGGING_LEVEL="CRITICAL",
    )
    out, _ = program.ends()
    assert out == "child True\nparent 4\n"


def test_what_is_left_open_says_nothing_at_exit(run: Any) -> None:
    program = run("""
        from callsheet.logging import get_run_logger

        @flow
        def counts():
            yield 1
            yield 2

        @flow
        async def acounts():
            yield 1
            yield 2

        async def main():
            generator = acounts()
            say(await anext(generator))
            return generator

        left = counts()
        say(next(left))
        aleft = asyncio.run(main())
    """)
    assert program.ends() == ("1\n1\n", "")
