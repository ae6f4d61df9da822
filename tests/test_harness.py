"""The harness itself: it runs what it says it runs, and it sees what is left behind."""

from __future__ import annotations

import asyncio
import os
import sys
import threading
import warnings
from pathlib import Path

import anyio
import pytest

import harness


@pytest.mark.anyio
async def test_the_backend_is_the_one_that_the_id_names(request, anyio_backend_name):
    kind = request.node.callspec.id
    if kind == "trio":
        import trio

        assert anyio_backend_name == "trio"
        assert trio.lowlevel.current_task()
        return
    loop = asyncio.get_running_loop()
    assert type(loop).__module__.startswith("uvloop") is (kind == "uvloop")
    assert (loop.get_task_factory() is not None) is (kind == "eager")


def test_all_four_backends_are_there(request):
    ids = {param.id for param in harness.BACKENDS}
    expected = {"asyncio", "trio"} | ({"uvloop"} if sys.platform != "win32" else set())
    assert ids == expected | ({"eager"} if sys.version_info >= (3, 12) else set())


_homes = set()


@pytest.mark.parametrize("turn", [1, 2])
def test_home_is_the_tests_own(callsheet_home: Path, tmp_path_factory: pytest.TempPathFactory, turn: int):
    assert Path(os.environ["CALLSHEET_HOME"]) == callsheet_home
    assert tmp_path_factory.getbasetemp() in callsheet_home.parents
    assert not callsheet_home.exists()
    assert callsheet_home not in _homes
    _homes.add(callsheet_home)


def test_warnings_are_errors():
    with pytest.raises(UserWarning, match="loud"):
        warnings.warn("loud", stacklevel=1)


def test_a_thread_of_ours_is_seen():
    gate = threading.Event()
    thread = threading.Thread(target=gate.wait, name="callsheet-planted")
    thread.start()
    try:
        assert "callsheet-planted" in harness.own_threads()
    finally:
        gate.set()
        thread.join()
    assert "callsheet-planted" not in harness.own_threads()


@pytest.mark.anyio
async def test_a_task_of_ours_is_seen():
    async with anyio.create_task_group() as group:
        group.start_soon(anyio.sleep_forever, name="callsheet planted")
        await anyio.wait_all_tasks_blocked()
        assert harness.own_tasks() == ["callsheet planted"]
        group.cancel_scope.cancel()
    assert harness.own_tasks() == []


def test_a_watch_calls_for_help_in_time():
    watch, called = harness.Watch(), threading.Event()
    watch.begin(3600, lambda: pytest.fail("too early"))
    watch.end()
    watch.begin(0.01, called.set)  # long before the moment for which the thread sleeps now
    assert called.wait(60)


def test_a_watch_does_not_call_for_what_has_ended():
    watch, called, later = harness.Watch(), threading.Event(), threading.Event()
    watch.begin(0.05, called.set)
    watch.end()
    watch.begin(0.1, later.set)
    assert later.wait(60)
    assert not called.is_set()
