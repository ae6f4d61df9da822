"""Processes that begin with the engine imported, for tests whose subject is not how a process starts.

Importing takes longer than what most of these processes do. One server for each process of tests imports everything once and
forks; what is forked runs a program as `python -c` or `python file` would, in its own environment and on its own streams.
A process whose interpreter needs options, or a state of the environment that an interpreter reads when it starts (other than
`PYTHONPATH`), is started as ever.
"""

from __future__ import annotations

import atexit
import faulthandler
import gc
import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
import warnings
from contextlib import suppress
from pathlib import Path
from types import ModuleType
from typing import Any, Self

COMMAND = "from callsheet._command.main import main; raise SystemExit(main())"
"""What `python -m callsheet` does."""

STREAMS = ("stdin", "stdout", "stderr")


class Process:
    """What `subprocess.Popen` is, as far as tests need it, of a process whose parent is the server."""

    def __init__(self, args: list[str], pid: int, status: int, streams: dict[str, Any]) -> None:
        self.args, self.pid, self.returncode = args, pid, None
        self._status = open(status, "rb", buffering=0)
        self._changes = threading.Lock()
        self.stopped = False
        self.stdin, self.stdout, self.stderr = (streams.get(name) for name in STREAMS)
        self._reading: dict[str, threading.Thread] = {}
        self._read: dict[str, str] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for stream in (self.stdout, self.stderr, self.stdin):
            if stream is not None:
                stream.close()
        self.wait()

    def poll(self) -> int | None:
        """Give the exit code, or None of a process that is still there."""
        self._look(0)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while self.returncode is None:
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            self._look(left)
            if left == 0 and self.returncode is None:
                raise subprocess.TimeoutExpired(self.args, timeout)
        return self.returncode

    def await_stopped(self) -> None:
        """Wait until it stands still, or has ended."""
        while self.returncode is None and not self.stopped:
            self._look(None)

    def _look(self, timeout: float | None) -> None:
        # Somebody else who looks sees it for all, and whoever has no time does not wait for that.
        if not self._changes.acquire(blocking=timeout != 0):
            return
        try:
            while self.returncode is None and select.select([self._status], [], [], timeout)[0]:
                change = self._status.readline().decode().split()
                self.stopped = change == ["stopped"]
                if not self.stopped:
                    assert change, "the server of processes is gone"
                    self.returncode = int(change[1])
                    self._status.close()
                timeout = 0
        finally:
            self._changes.release()

    def send_signal(self, signum: int) -> None:
        """Send a signal, unless it has ended."""
        if self.poll() is None:
            self.stopped = False
            with suppress(ProcessLookupError):  # its end is on the way here
                os.kill(self.pid, signum)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def communicate(self, input: str = "", timeout: float | None = None) -> tuple[str, str]:
        """Write the last that it is to read, wait for its end and give what it wrote."""
        deadline = None if timeout is None else time.monotonic() + timeout
        if self.stdin is not None and not self.stdin.closed:
            self.stdin.write(input)
            self.stdin.close()
        for name, stream in (("stdout", self.stdout), ("stderr", self.stderr)):
            if stream is not None and name not in self._reading:
                self._reading[name] = threading.Thread(target=self._drain, args=(name, stream), daemon=True)
                self._reading[name].start()
        for thread in self._reading.values():
            thread.join(None if deadline is None else max(0.0, deadline - time.monotonic()))
            if thread.is_alive():
                raise subprocess.TimeoutExpired(self.args, timeout or 0.0)
        self.wait(None if deadline is None else max(0.0, deadline - time.monotonic()))
        return self._read.get("stdout", ""), self._read.get("stderr", "")

    def _drain(self, name: str, stream: Any) -> None:
        with stream:
            self._read[name] = stream.read()


class _Server:
    """The process that forks; it ends with the process that uses it."""

    def __init__(self) -> None:
        self._channel, theirs = socket.socketpair()
        self._gate = threading.Lock()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, __file__, str(theirs.fileno())], pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL
            )
        atexit.register(self.close)

    def close(self) -> None:
        self._channel.close()
        self._process.wait()

    def fork(self, request: dict[str, Any], fds: list[int]) -> int:
        text = json.dumps(request).encode()
        with self._gate:
            socket.send_fds(self._channel, [len(text).to_bytes(8, "big")], fds)
            self._channel.sendall(text)
            return int.from_bytes(_exactly(self._channel, 8), "big")


_server: _Server | None = None
_starting = threading.Lock()


def start(
    program: str | Path,
    *args: object,
    env: dict[str, str] | None = None,
    stdin: int | None = None,
    stdout: int | None = None,
    stderr: int | None = None,
    strict: bool = False,
    dev: bool = False,
    folder: Path | None = None,
) -> Any:
    """Run a text or a file of Python in a process of its own.

    The streams are `subprocess.PIPE`, or None for that of this process; what goes through pipes is text; `stderr` may be
    `subprocess.STDOUT`. A `strict` process has warnings as errors, as with `-W error`, and takes everything apart at its
    end, to warn of what was left open. A `dev` process also has what `-X dev` means to code in Python: loops of asyncio in
    their debug mode, and a traceback of every thread if it dies of a fault.
    """
    global _server
    strict = strict or dev
    wanted = dict(zip(STREAMS, (stdin, stdout, stderr), strict=True))
    given = [str(program), *map(str, args)]
    environment = dict(os.environ) if env is None else env
    if not hasattr(os, "fork") or any(name.startswith("COVERAGE_PROCESS") for name in environment):
        # What is measured is measured from its start.
        front = [
            *(["-W", "error"] if strict else []),
            *(["-X", "dev"] if dev else []),
            *([] if isinstance(program, Path) else ["-c"]),
        ]
        return subprocess.Popen([sys.executable, *front, *given], env=environment, cwd=folder, text=True, **wanted)
    with _starting:
        _server = _server or _Server()
    ours: dict[str, Any] = {}
    theirs: list[int] = []
    for number, (name, kind) in enumerate(wanted.items()):
        if kind is None:
            theirs.append(os.dup(number))
            continue
        if kind == subprocess.STDOUT:
            theirs.append(os.dup(theirs[1]))
            continue
        reading, writing = os.pipe()
        ours[name] = open(writing, "w") if number == 0 else open(reading)
        theirs.append(reading if number == 0 else writing)
    status, told = os.pipe()
    theirs.append(told)
    request = {
        "args": given,
        "file": isinstance(program, Path),
        "environment": environment,
        "folder": str(folder or os.getcwd()),
        "strict": strict,
        "dev": dev,
    }
    try:
        pid = _server.fork(request, theirs)
    finally:
        for fd in theirs:
            os.close(fd)
    return Process(given, pid, status, ours)


def run(
    program: str | Path, *args: object, timeout: float | None = None, check: bool = True, **options: Any
) -> subprocess.CompletedProcess[str]:
    """Run a program to its end, with the options of `start`; give what it wrote, as `subprocess.run` does."""
    process = start(program, *args, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options)
    try:
        out, err = process.communicate(timeout=timeout)
    finally:
        process.kill()
        process.wait()
    done = subprocess.CompletedProcess(process.args, process.returncode, out, err)
    if check:
        assert done.returncode == 0, err
    return done


# ---------------------------------------------------------------------------------------------- the server


def _exactly(channel: socket.socket, size: int) -> bytes:
    parts = b""
    while len(parts) < size:
        part = channel.recv(size - len(parts))
        if not part:
            raise EOFError
        parts += part
    return parts


def import_everything() -> None:
    """Import every module of the package, and what it imports when it needs it."""
    import importlib
    import pkgutil

    import callsheet

    for module in pkgutil.walk_packages(callsheet.__path__, "callsheet."):
        if not {"__main__", "_pytest_plugin"} & set(module.name.split(".")):
            importlib.import_module(module.name)
    for name in ("anyio._backends._asyncio", "anyio._backends._trio", "aiosqlite", "cloudpickle", "pydantic", "uvloop"):
        importlib.import_module(name)


def _tell_changes(children: dict[int, int]) -> None:
    while children:
        pid, status = os.waitpid(-1, os.WNOHANG | os.WUNTRACED)
        if not pid:
            return
        stopped = os.WIFSTOPPED(status)
        with suppress(BrokenPipeError):  # nobody wants to know
            os.write(children[pid], b"stopped\n" if stopped else b"ended %d\n" % os.waitstatus_to_exitcode(status))
        if not stopped:
            os.close(children.pop(pid))


def _serve(channel: socket.socket) -> dict[str, Any] | None:
    """Fork whenever asked; give, in the process that was forked, what it is to run, and None at the end of the server."""
    children: dict[int, int] = {}
    woken, waker = os.pipe()
    os.set_blocking(waker, False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(waker, warn_on_full_buffer=False)
    while True:
        ready, _, _ = select.select([channel, woken], [], [])
        if woken in ready:
            os.read(woken, 4096)
            _tell_changes(children)
        if channel not in ready:
            continue
        size, fds, _, _ = socket.recv_fds(channel, 8, 4)
        if not size:
            return None
        request = json.loads(_exactly(channel, int.from_bytes(size, "big")))
        pid = os.fork()
        if not pid:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            for number, fd in enumerate(fds[:3]):
                os.dup2(fd, number)
            for fd in (woken, waker, *fds, *children.values()):
                os.close(fd)
            channel.close()
            return request
        children[pid] = fds.pop()
        for fd in fds:
            os.close(fd)
        channel.sendall(pid.to_bytes(8, "big"))


def _become(request: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """Make this process one that was just started to run a program; give the code and the names of its `__main__`."""
    os.environ.clear()
    os.environ.update(request["environment"])
    time.tzset()
    if request["strict"]:
        sys.warnoptions.append("error")
        warnings.simplefilter("error")
    if request["dev"]:
        os.environ["PYTHONASYNCIODEBUG"] = "1"
        faulthandler.enable()
    os.chdir(request["folder"])
    program, *args = request["args"]
    path = [part for part in os.environ.get("PYTHONPATH", "").split(os.pathsep) if part]
    main = sys.modules["__main__"] = ModuleType("__main__")
    if request["file"]:
        sys.argv = [program, *args]
        sys.path[:0] = [str(Path(program).parent), *path]
        main.__file__ = program
        return compile(Path(program).read_bytes(), program, "exec", dont_inherit=True), vars(main)
    sys.argv = ["-c", *args]
    sys.path[:0] = ["", *path]
    return compile(program, "<string>", "exec", dont_inherit=True), vars(main)


_code: int | None = None
"""How this process ends, once that is known and nobody is to be told why."""


def _leave() -> None:
    """Take nothing apart that was imported before the program: that would copy it, page by page."""
    if _code is not None:
        for stream in (sys.stdout, sys.stderr):
            if stream is not None:
                stream.flush()
        os._exit(_code)


if __name__ == "__main__":
    atexit.register(_leave)  # before anything is imported, for what is registered first is called last
    import_everything()
    sys.path[:] = [entry for entry in sys.path if entry != str(Path(__file__).parent)]
    gc.collect()
    gc.freeze()
    if (asked := _serve(socket.socket(fileno=int(sys.argv[1])))) is not None:
        try:
            exec(*_become(asked))  # at the top, so that it ends as a program ends
            _code = None if asked["strict"] else 0
        except SystemExit as end:
            if end.code is None or (isinstance(end.code, int) and not asked["strict"]):
                _code = (end.code or 0) & 0xFF
            raise
