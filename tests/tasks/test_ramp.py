"""Submitted sync runs without a limit: they get threads as long as threads help."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest

from callsheet import flow, task
from callsheet._engine.ramp import AT_ONCE, Ramp
from callsheet._kernel.threads import WorkerThreads


class Crowd:
    """Counts how many are inside at once."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.inside = self.most = 0

    def __enter__(self) -> None:
        with self._lock:
            self.inside += 1
            self.most = max(self.most, self.inside)

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self.inside -= 1


def test_two_hundred_may_meet() -> None:
    barrier = threading.Barrier(200)

    @task
    def meet() -> int:
        return barrier.wait(30)

    @flow
    def around() -> list[int]:
        return [future.result() for future in [meet.submit() for _ in range(200)]]

    started = time.monotonic()
    assert sorted(around()) == list(range(200))
    assert time.monotonic() - started < 10


def test_runs_that_compute_do_not_get_a_thread_each() -> None:
    most: list[int] = []

    @task
    def compute(x: int) -> int:
        most.append(threading.active_count())
        return sum(i * i for i in range(2000)) + x

    @flow
    def around() -> int:
        return len(compute.map(range(2000)).result())

    assert around() == 2000
    assert max(most) < 1000  # about forty, unless the machine is so busy that it looks as if they waited


def test_runs_that_wait_are_not_held_up_by_each_other() -> None:
    crowd = Crowd()
    together = 3 * AT_ONCE
    full = threading.Event()

    @task
    def wait() -> None:
        with crowd:
            if crowd.inside >= together:
                full.set()
            full.wait(10)

    @flow
    def around() -> None:
        for future in [wait.submit() for _ in range(together)]:
            future.wait()

    around()
    assert crowd.most == together


@pytest.fixture
def threads() -> Any:
    made = WorkerThreads()
    yield made
    made.close(5)


def test_jobs_start_in_order(threads: WorkerThreads) -> None:
    ramp = Ramp(threads, at_once=1)
    order: list[int] = []
    done = threading.Event()
    for i in range(100):
        ramp.run(lambda i=i: order.append(i))
    ramp.run(done.set)
    assert done.wait(5)
    assert order == list(range(100))
    ramp.close()


def test_a_job_that_polls_for_one_in_the_queue_is_seen_in_the_end(
    threads: WorkerThreads, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("callsheet._engine.ramp._STUCK_SECONDS", 0.05)
    ramp = Ramp(threads, at_once=1)
    flag: list[int] = []
    done = threading.Event()

    def poll() -> None:
        while not flag:
            pass
        done.set()

    ramp.run(poll)
    ramp.run(lambda: flag.append(1))
    assert done.wait(10)
    ramp.close()


def test_where_threads_have_no_clocks_that_of_the_process_serves(
    threads: WorkerThreads, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("callsheet._engine.ramp._HAS_THREAD_CLOCKS", False)
    ramp = Ramp(threads, at_once=2)
    barrier = threading.Barrier(9)
    for _ in range(8):
        ramp.run(lambda: barrier.wait(10) and None)
    barrier.wait(10)
    ramp.close()


def test_a_thread_that_cannot_be_started_loses_no_job(threads: WorkerThreads, monkeypatch: pytest.MonkeyPatch) -> None:
    ramp = Ramp(threads, at_once=4)
    entered, go, done = threading.Event(), threading.Event(), threading.Event()

    def first() -> None:
        entered.set()
        go.wait(5)

    ramp.run(first)
    assert entered.wait(5)

    def refuse(_: Any) -> None:
        raise RuntimeError("no more threads")

    with monkeypatch.context() as patched:
        patched.setattr(threads, "run", refuse)
        ramp.run(done.set)
    assert not done.is_set()
    go.set()
    assert done.wait(5)
    ramp.close()
    with monkeypatch.context() as patched:
        patched.setattr(threads, "run", refuse)
        deadline = time.monotonic() + 5
        with pytest.raises(RuntimeError, match="no more threads"):
            while time.monotonic() < deadline:
                ramp.run(done.set)
