"""What every test gets: four event loops, a home folder of its own, and a look at what it left behind."""

from __future__ import annotations

import bisect
import functools
import gc
import inspect
import itertools
import os
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import anyio
import hypothesis
import pytest
import pytest_timeout
from _pytest import runner
from hypothesis import core as hypothesis_core
from hypothesis import strategies

import blank
import warm
from callsheet._store import connecting
from callsheet.logging import setup
from harness import BACKENDS, Watch, own_tasks, own_threads

GRACE = 2.0  # seconds in which what is ending may end

# Where the environment wants no byte code on disk, every program that a test starts would compile the package anew, which
# is a third of its time, and every run would rewrite all assertions.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False


def _keep_files_in_memory(folder: str = "/dev/shm", room: int = 4 << 30) -> None:
    """Let the files of tests be in memory, where there is a folder for that with room, and nobody chose another one.

    No test takes the power away, so none can tell; on a disk, every commit that is synced waits for it.
    """
    if {"TMPDIR", "TEMP", "TMP"} & os.environ.keys() or not os.access(folder, os.W_OK):
        return
    found = os.statvfs(folder)
    if found.f_bavail * found.f_frsize >= room and os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") >= room:
        os.environ["TMPDIR"] = folder
        tempfile.tempdir = None  # pytest has asked for it already


_keep_files_in_memory()

# --------------------------------------------------------------------------------------------- backends


@pytest.fixture(params=BACKENDS)
def anyio_backend(request: pytest.FixtureRequest) -> Any:
    """Run a test marked `anyio` once on each event loop; the plugin of anyio reads this fixture."""
    return request.param


@pytest.fixture
def run_on(anyio_backend: tuple[str, dict[str, Any]]) -> Callable[..., Any]:
    """Give `run_on(async_fn, *args)`: a whole event loop that begins and ends inside a sync test."""
    name, options = anyio_backend
    return lambda fn, *args: anyio.run(fn, *args, backend=name, backend_options=options)


@pytest.fixture
def untraced() -> Iterator[None]:
    """Keep coverage out: traced bodies of 3.11 are not interrupted, and its own Python code must not be."""
    here, in_threads = sys.gettrace(), threading.gettrace()
    sys.settrace(None)
    threading.settrace(cast("Any", None))
    yield
    threading.settrace(cast("Any", in_threads))
    sys.settrace(here)


# ----------------------------------------------------------------------------------------- repeatability

hypothesis.settings.register_profile("callsheet", deadline=None, print_blob=True)
hypothesis.settings.load_profile("callsheet")


def pytest_addoption(pluginmanager: pytest.PytestPluginManager) -> None:
    """Load pytest-randomly, which would import what it could seed: half a second in each process, and no test uses it."""
    with pytest.MonkeyPatch.context() as hidden:
        for name in ("faker", "numpy", "polyfactory"):
            hidden.setitem(cast("dict[str, Any]", sys.modules), name, None)
        pluginmanager.import_plugin("pytest_randomly")


def pytest_sessionstart(session: pytest.Session) -> None:
    """Let one printed seed (``--randomly-seed``) repeat everything, and Ctrl-C mean what it does in a terminal."""
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        # A shell starts what runs in the background so, and every program of a test would inherit it.
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if hypothesis_core.global_force_seed is None:
        hypothesis_core.global_force_seed = session.config.getoption("randomly_seed", None)


# -------------------------------------------------------------------------------------------- collection


def _size(path: Path) -> int:
    return sum(file.stat().st_size for file in path.rglob("*.py")) if path.is_dir() else path.stat().st_size


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(collector: pytest.Collector) -> Any:
    """Let each worker begin with files of its own: in a fresh clone all would compile the same file at the same time."""
    report = yield
    worker = getattr(collector.config, "workerinput", None)
    if worker is not None and isinstance(collector, pytest.Dir) and report.passed:
        ahead = int(worker["workerid"].removeprefix("gw")) / worker["workercount"]
        ends = [*itertools.accumulate(_size(node.path) for node in report.result)]
        first = bisect.bisect(ends, ahead * ends[-1]) if ends else 0
        report.result = report.result[first:] + report.result[:first]
    return report


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> Any:
    """Give what was collected one order in all workers, whether it is shuffled after this or not."""
    if hasattr(config, "workerinput"):
        items.sort(key=lambda item: item.path)
    return (yield)


@pytest.hookimpl(tryfirst=True)
def pytest_collection(session: pytest.Session) -> None:
    """In a fresh clone, let Hypothesis read the package once, while the workers start: each of them would do it."""
    config = session.config
    if not config.pluginmanager.has_plugin("dsession") or (config.rootpath / ".hypothesis" / "constants").exists():
        return
    warm.import_everything()

    @hypothesis.settings(database=None)
    @hypothesis.given(strategies.text(), strategies.integers())
    def draw(text: str, number: int) -> None:
        """Look into the constants of the modules that are there, and into the tables of Unicode."""

    draw()


def pytest_collection_finish(session: pytest.Session) -> None:
    """Keep what stays until the end, thousands of tests, out of every later collection of garbage.

    Before that, set the loggers up, which leaves a level that it finds as it is: tests change their levels.
    """
    setup.ensure()
    blank.prepare(cast("Any", session.config)._tmp_path_factory.getbasetemp())
    gc.collect()
    gc.freeze()


# ------------------------------------------------------------------------------------- what a test costs

SLOW = 0.05  # seconds from which the set-up of a test is told of, for `--durations`

watch = Watch()


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item, nextitem: pytest.Item | None) -> bool | None:
    """In a worker, tell of a test once: six messages a test are more work than most tests."""
    if not hasattr(item.config, "workerinput") or {*"AP"} & {*item.config.getoption("reportchars")}:
        return None
    for report in runner.runtestprotocol(item, log=False, nextitem=nextitem):
        if report.when == "call" or not report.passed or report.duration > SLOW:
            if report.passed:
                report.keywords = {}  # nobody reads those
            item.ihook.pytest_runtest_logreport(report=report)
    return True


@pytest.hookimpl
def pytest_timeout_set_timer(item: Any, settings: Any) -> bool | None:
    """Watch the time of all tests on one thread, instead of one that is started and ended for each."""
    if settings.method != "thread":
        return None
    watch.begin(settings.timeout, lambda: pytest_timeout.timeout_timer(item, settings))
    item.cancel_timeout = watch.end
    return True


# -------------------------------------------------------------------------------------------- cleanliness


def _shutdown_engines() -> None:
    """End the process-wide engine, if a test has started it; the thread alone also serves hooks of transactions."""
    ambient = sys.modules.get("callsheet._engine.ambient")
    if ambient is None and (host := sys.modules.get("callsheet._kernel.host")) is not None:
        host.runtime_thread.stop()
    shut_down = getattr(ambient, "shut_down", None)
    if shut_down is not None:
        shut_down()


def _dismiss_idle_threads() -> None:
    """Have threads that stay a moment for their next use end now: hundreds of tests would wait for that moment."""
    if (ways := sys.modules.get("callsheet._results.ways")) is not None:
        ways._threads.retire()
    if (locks := sys.modules.get("callsheet.locking.office")) is not None and "callsheet-locks" in own_threads():
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(locks, "_LINGER", 0)
            for office in list(locks._offices.values()):
                with office._gate:
                    office._changed.notify()
            _await_threads()


def _await_threads() -> list[str]:
    deadline = time.monotonic() + GRACE
    while (left := own_threads()) and time.monotonic() < deadline:
        time.sleep(0.001)
    return left


@pytest.fixture
def made_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the histories of a test be made statement by statement, as by any program, instead of copied."""
    monkeypatch.setattr(connecting, "connect", blank.connect)


_homes = itertools.count()


@pytest.fixture(autouse=True)
def callsheet_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Keep every test's history, and that of the processes it starts, in a folder of its own; let no thread outlive it.

    One fixture, and no folder before it is used: what all tests have is paid thousands of times.
    """
    home = tmp_path_factory.getbasetemp() / f"callsheet-home-{next(_homes)}"
    os.environ["CALLSHEET_HOME"] = str(home)
    yield home
    _shutdown_engines()
    _dismiss_idle_threads()
    left = _await_threads()
    assert not left, f"threads left behind: {left}"


async def _no_task_left() -> None:
    deadline = time.monotonic() + GRACE
    while (left := own_tasks()) and time.monotonic() < deadline:
        await anyio.sleep(0.005)
    assert not left, f"tasks left behind: {left}"


@pytest.hookimpl(wrapper=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> Any:
    """After an async test, on its own loop, look whether a task of the engine still runs."""
    body = pyfuncitem.obj
    if "anyio_backend" not in pyfuncitem.funcargs or not inspect.iscoroutinefunction(body):
        return (yield)
    if hasattr(body, "hypothesis"):  # one loop an example; the thread check still holds
        return (yield)

    @functools.wraps(body)
    async def checked(**kwargs: Any) -> None:
        await body(**kwargs)
        await _no_task_left()

    pyfuncitem.obj = checked
    try:
        return (yield)
    finally:
        pyfuncitem.obj = body
