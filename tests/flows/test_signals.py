"""Ctrl-C and SIGTERM, sent for real to programs that run flows."""

from __future__ import annotations

import signal
import subprocess
import sys
import textwrap

import pytest

import warm
from callsheet.client.orchestration import get_client

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")

PRELUDE = """
    import asyncio, os, signal, sys, threading, time
    import anyio
    from callsheet import flow, task

    def say(*words):
        print(*words, flush=True)

    def note(flow, flow_run, state):
        say(flow.name, state.name, state.message)

    hooks = dict(on_crashed=[note], on_cancellation=[note], on_completion=[note], on_failure=[note])

    def run(main):
        if backend == "none":
            return main()
        options = {"use_uvloop": True} if backend == "uvloop" else {}
        return anyio.run(main, backend="trio" if backend == "trio" else "asyncio", backend_options=options)

    backend = sys.argv[1]
"""
TERMINATED = "Execution was aborted by a termination signal."
LOOPS = ["asyncio", "uvloop", "trio"]


class Program:
    """A program that runs elsewhere; it has said "ready"."""

    def __init__(self, source: str, backend: str) -> None:
        code = textwrap.dedent(PRELUDE) + textwrap.dedent(source)
        self._process = warm.start(code, backend, stdout=subprocess.PIPE, stderr=subprocess.PIPE, strict=True)
        assert self._process.stdout is not None
        first = self._process.stdout.readline()
        if first != "ready\n":
            raise AssertionError(first + self.end()[2])

    def send(self, signum: int) -> None:
        self._process.send_signal(signum)

    def send_until_it_ends(self, signum: int) -> None:
        """Send a signal every half second, as somebody would who waits for the prompt."""
        for _ in range(20):
            try:
                self._process.wait(timeout=0.5)
            except subprocess.TimeoutExpired:
                self.send(signum)
            else:
                return

    def next_line(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().rstrip("\n")

    def next_complaint(self, words: str) -> str:
        """Give the next line on standard error that has these words."""
        assert self._process.stderr is not None
        return next((line for line in self._process.stderr if words in line), "")

    def end(self) -> tuple[int, list[str], str]:
        """Give its exit code, what else it said, and what it complained about."""
        try:
            out, err = self._process.communicate(timeout=20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            out, err = self._process.communicate()
        return self._process.returncode, out.splitlines(), err


ASYNC = """
    @flow(**hooks)
    async def inner():
        say("ready")
        await anyio.sleep(60)

    @flow(**hooks)
    async def outer():
        await inner()
"""
# A signal can come between the interpreter's last look for signals and the system call of a sleep, which then goes on to
# its end: that is so in every program of CPython. So a body that is sent one signal sleeps in short pieces. That
# one long sleep is interrupted in its middle, `test_scripts.py` shows.
SYNC = """
    @flow(**hooks)
    def inner():
        say("ready")
        while True:
            time.sleep(0.05)

    @flow(**hooks)
    def outer():
        inner()
"""


CHILD = """
    @task
    def child():
        say("ready")
        while True:
            time.sleep(0.01)
"""
TERMINATE = """
    def terminate():
        time.sleep(0.2)  # whoever is to hear of it waits by now, and the signal, being another thread's, does not wake it
        signal.pthread_kill(threading.get_ident(), signal.SIGTERM)
"""


def recorded_ends() -> list[tuple[str | None, str | None]]:
    """Give the states in which the flow runs of the history are."""
    with get_client(sync_client=True) as client:
        return [(run.state_name, run.state and run.state.message) for run in client.read_flow_runs()]


def source_for(backend: str) -> str:
    return SYNC if backend == "none" else ASYNC


@pytest.mark.parametrize("backend", ["none", *LOOPS])
def test_sigterm_crashes_the_runs_and_ends_the_process_as_ever(backend: str) -> None:
    program = Program(source_for(backend) + "    run(outer)\n", backend)
    program.send(signal.SIGTERM)
    code, said, _ = program.end()
    assert said == [f"inner Crashed {TERMINATED}", f"outer Crashed {TERMINATED}"]
    assert code == -signal.SIGTERM
    assert recorded_ends() == [("Crashed", TERMINATED)] * 2


@pytest.mark.parametrize("backend", ["none", *LOOPS])
def test_the_hosts_handler_is_called_afterwards_and_back_in_its_place(backend: str) -> None:
    program = Program(
        source_for(backend)
        + """
    def handler(signum, frame):
        say("handler", signum)

    signal.signal(signal.SIGTERM, handler)
    try:
        run(outer)
    except BaseException as error:
        say(type(error).__name__, error.signal == signal.SIGTERM, signal.getsignal(signal.SIGTERM) is handler)
    """,
        backend,
    )
    program.send(signal.SIGTERM)
    code, said, err = program.end()
    assert said[:2] == [f"inner Crashed {TERMINATED}", f"outer Crashed {TERMINATED}"]
    assert said[2:] == [f"handler {int(signal.SIGTERM)}", "TerminationSignal True True"]
    assert code == 0, err


@pytest.mark.parametrize("backend", ["none", *LOOPS])
def test_ctrl_c_crashes_the_runs(backend: str) -> None:
    program = Program(
        source_for(backend)
        + """
    try:
        run(outer)
    except KeyboardInterrupt:
        say("interrupted")
    """,
        backend,
    )
    program.send(signal.SIGINT)
    code, said, err = program.end()
    assert [line.rpartition("Execution was ")[0] for line in said[:2]] == ["inner Crashed ", "outer Crashed "], err
    assert said[2:] == ["interrupted"]
    assert code == 0
    assert [name for name, _ in recorded_ends()] == ["Crashed", "Crashed"]


@pytest.mark.parametrize("backend", LOOPS)
def test_every_root_run_of_a_loop_leaves(backend: str) -> None:
    program = Program(
        """
    started = []

    @flow(**hooks)
    async def root(n):
        started.append(n)
        if len(started) == 3:
            say("ready")
        await anyio.sleep(60)

    async def main():
        async with anyio.create_task_group() as group:
            for n in range(3):
                group.start_soon(root, n)

    run(main)
    """,
        backend,
    )
    program.send(signal.SIGTERM)
    code, said, _ = program.end()
    assert [line.partition(" Execution")[0] for line in said] == ["root Crashed"] * 3
    assert said.count(f"root Crashed {TERMINATED}") >= 1
    assert code == -signal.SIGTERM


@pytest.mark.parametrize("backend", LOOPS)
def test_submitted_children_leave_too(backend: str) -> None:
    program = Program(
        """
    @task
    async def child():
        try:
            say("ready")
            await anyio.sleep(60)
        finally:
            say("child leaves")

    @flow(**hooks)
    async def outer():
        child.submit().result()

    run(outer)
    """,
        backend,
    )
    program.send(signal.SIGTERM)
    code, said, _ = program.end()
    assert said == ["child leaves", f"outer Crashed {TERMINATED}"]
    assert code == -signal.SIGTERM


@pytest.mark.parametrize("backend", LOOPS)
def test_a_body_that_will_not_leave_is_ended_by_a_second_signal(backend: str) -> None:
    program = Program(
        """
    @flow(**hooks)
    async def outer():
        say("ready")
        try:
            await anyio.sleep(60)
        finally:
            with anyio.CancelScope(shield=True):
                say("stays")
                await anyio.sleep(60)
                say("never")

    run(outer)
    """,
        backend,
    )
    program.send(signal.SIGTERM)
    assert program.next_line() == "stays"
    program.send(signal.SIGTERM)
    code, said, _ = program.end()
    assert said == []
    assert code == -signal.SIGTERM


@pytest.mark.parametrize("backend", LOOPS)
def test_a_signal_that_does_not_interrupt_the_wait_for_events_ends_it(backend: str) -> None:
    program = Program(
        TERMINATE
        + """
    @flow(**hooks)
    async def outer():
        thread = threading.Thread(target=terminate)
        thread.start()
        say("ready")
        try:
            await anyio.sleep_forever()
        finally:
            thread.join()

    run(outer)
    """,
        backend,
    )
    code, said, err = program.end()
    assert said == [f"outer Crashed {TERMINATED}"], err
    assert code == -signal.SIGTERM


def test_a_signal_that_another_thread_is_given_ends_the_wait_for_a_task() -> None:
    program = Program(
        TERMINATE
        + """
    leave = threading.Event()

    @task
    def child():
        leave.wait()

    @flow(**hooks)
    def outer():
        thread = threading.Thread(target=terminate)
        thread.start()
        say("ready")
        try:
            child.submit().wait()
        finally:
            leave.set()

    run(outer)
    """,
        "none",
    )
    code, said, err = program.end()
    assert said == [f"outer Crashed {TERMINATED}"], err
    assert code == -signal.SIGTERM


@pytest.mark.parametrize("backend", LOOPS)
def test_ignored_signals_stay_ignored(backend: str) -> None:
    program = Program(
        """
    signal.signal(signal.SIGTERM, signal.SIG_IGN)

    @flow(**hooks)
    async def outer():
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_IGN
        say("ready")
        await anyio.to_thread.run_sync(sys.stdin.readline)

    run(outer)
    """,
        backend,
    )
    program.send(signal.SIGTERM)
    code, said, err = program.end()
    assert said == ["outer Completed None"], err
    assert code == 0


@pytest.mark.parametrize("backend", ["none", "asyncio", "trio"])
@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_a_second_signal_does_not_wait_for_children_that_cannot_be_stopped(
    backend: str, signum: signal.Signals
) -> None:
    program = Program(
        CHILD
        + """
    def sync_outer():
        try:
            child.submit().result()
        finally:
            say("leaves")

    async def async_outer():
        sync_outer()

    try:
        run(flow(sync_outer if backend == "none" else async_outer, **hooks))
    except KeyboardInterrupt:
        say("interrupted")
    """,
        backend,
    )
    program.send(signum)
    assert program.next_line() == "leaves"
    program.send_until_it_ends(signum)  # one that comes while the body is still leaving is the body's
    _, said, err = program.end()
    if signum == signal.SIGINT:
        assert said[-1] == "interrupted", err
        assert [name for name, _ in recorded_ends()] == ["Crashed"]


def test_whoever_waits_for_children_that_cannot_be_stopped_is_told() -> None:
    program = Program(
        CHILD
        + """
    @flow
    def outer():
        child.submit().result()

    outer()
    """,
        "none",
    )
    program.send(signal.SIGINT)
    assert program.next_complaint("Waiting for cancelled child runs")
    program.send_until_it_ends(signal.SIGINT)
    assert program.end()[0] == -signal.SIGINT
