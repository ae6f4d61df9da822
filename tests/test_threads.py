"""Worker threads, bodies that can be interrupted, and deadlines on a thread."""

from __future__ import annotations

import gc
import os
import pickle
import random
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import warm
from callsheet._kernel import critical as critical_module
from callsheet._kernel.critical import critical
from callsheet._kernel.threads import Deadlines, Interruptible, WorkerThreads
from harness import without_gc

WAIT = 10  # seconds that no passing test ever waits


class Stop(BaseException):
    """What interrupts the bodies of these tests."""


class OuterStop(Stop):
    """What interrupts the outer of two nested bodies."""


@pytest.fixture
def workers() -> Iterator[WorkerThreads]:
    pool = WorkerThreads(idle_seconds=60)
    yield pool
    assert pool.close(timeout=WAIT) == 0


@pytest.fixture
def deadlines() -> Iterator[Deadlines]:
    watcher = Deadlines(idle_seconds=60)
    yield watcher
    watcher.close()
    assert not [thread for thread in threading.enumerate() if thread.name == "callsheet-deadlines"]


def run(pool: WorkerThreads, fn: Callable[[], Any]) -> Any:
    """Run a function on the pool and give its value or raise its error."""
    done, box = threading.Event(), []

    def job() -> None:
        try:
            box.append((fn(), None))
        except BaseException as error:
            box.append((None, error))
        done.set()

    pool.run(job)
    assert done.wait(WAIT)
    value, error = box[0]
    if error is not None:
        raise error
    return value


def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + WAIT
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.001)


# ------------------------------------------------------------------------------------------------------ worker threads


def test_jobs_run_on_named_daemon_threads_that_are_used_again(workers: WorkerThreads) -> None:
    first = run(workers, threading.current_thread)
    until(lambda: workers.idle == 1)
    second = run(workers, threading.current_thread)
    assert first is second
    assert first.daemon
    assert first.name == "callsheet-worker-1"


def test_every_job_starts_at_once_however_many_are_busy(workers: WorkerThreads) -> None:
    barrier = threading.Barrier(21)
    for _ in range(20):
        workers.run(lambda: barrier.wait(WAIT))
    until(lambda: barrier.n_waiting == 20)
    assert workers.busy == 20
    barrier.wait(WAIT)
    until(lambda: workers.busy == 0)
    assert workers.idle == 20


def test_an_idle_thread_keeps_no_job_alive(workers: WorkerThreads) -> None:
    class Payload:
        alive = 0

        def __init__(self) -> None:
            Payload.alive += 1

        def __del__(self) -> None:
            Payload.alive -= 1

    workers.run(lambda payload=Payload(): None)
    until(lambda: workers.idle == 1)
    assert Payload.alive == 0


def test_idle_threads_retire() -> None:
    pool = WorkerThreads(idle_seconds=0.01)
    thread = run(pool, threading.current_thread)
    thread.join(WAIT)
    assert not thread.is_alive()
    assert (pool.idle, pool.busy) == (0, 0)
    assert run(pool, lambda: 1) == 1
    assert pool.close(WAIT) == 0


def test_threads_that_retire_lose_no_job() -> None:
    pool = WorkerThreads(idle_seconds=0.0005)
    for _ in range(200):
        assert run(pool, lambda: 1) == 1
        time.sleep(random.choice((0, 0.0005)))
    assert pool.close(WAIT) == 0


def test_idle_threads_can_be_sent_away(workers: WorkerThreads) -> None:
    again = threading.Event()
    workers.run(lambda: None)
    until(lambda: workers.idle == 1)
    workers.retire()
    until(lambda: (workers.idle, workers.busy) == (0, 0))
    workers.run(again.set)
    assert again.wait(10)


def test_close_ends_idle_threads_and_refuses_jobs(workers: WorkerThreads) -> None:
    thread = run(workers, threading.current_thread)
    assert workers.close(WAIT) == 0
    assert not thread.is_alive()
    with pytest.raises(RuntimeError, match="closed"):
        workers.run(lambda: None)


def test_close_says_how_many_threads_were_left(workers: WorkerThreads) -> None:
    go = threading.Event()
    for _ in range(3):
        workers.run(lambda: go.wait(WAIT))
    assert workers.close(timeout=0.01) == 3
    go.set()


def test_a_job_that_raises_ends_its_thread_only(workers: WorkerThreads, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[Any] = []
    monkeypatch.setattr(threading, "excepthook", told.append)
    workers.run(lambda: 1 / 0)
    until(lambda: workers.busy == 0)
    assert run(workers, lambda: 1) == 1
    until(lambda: bool(told))  # a thread tells as the last thing it does
    assert told[0].exc_type is ZeroDivisionError


def test_no_thread_to_be_had_is_said(monkeypatch: pytest.MonkeyPatch, workers: WorkerThreads) -> None:
    def start(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", start)
        with pytest.raises(RuntimeError, match=r"No thread could be started.*can't start new thread"):
            workers.run(lambda: None)
        with pytest.raises(RuntimeError, match="No thread could be started"):
            Deadlines().at(0, lambda: None)
    assert workers.busy == 0
    monkeypatch.setattr(sys, "is_finalizing", lambda: True)
    with pytest.raises(RuntimeError, match="shutting down"):
        workers.run(lambda: None)


def run_python(program: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    return warm.run(textwrap.dedent(program), env=environment, dev=True, timeout=60, check=False)


def test_busy_and_idle_threads_do_not_hold_up_the_end_of_the_process() -> None:
    done = run_python(
        """
        import atexit, threading, time
        from callsheet._kernel.threads import Deadlines, WorkerThreads
        pool, deadlines = WorkerThreads(), Deadlines()
        started = threading.Event()
        pool.run(lambda: None)
        pool.run(lambda: (started.set(), time.sleep(60)))
        started.wait()
        deadlines.at(time.monotonic() + 60, lambda: None)
        class Late:
            def __del__(self):
                try:
                    WorkerThreads().run(lambda: None)
                except RuntimeError as error:
                    print(type(error).__name__)
        late = Late()
        """
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout in {"RuntimeError\n", ""}


def test_a_forked_child_starts_afresh() -> None:
    done = run_python(
        """
        import os, threading, time, warnings
        warnings.simplefilter("ignore", DeprecationWarning)  # 3.12 warns of fork in a process with threads
        from callsheet._kernel.threads import Deadlines, Interruptible, WorkerThreads
        pool, deadlines = WorkerThreads(), Deadlines()
        pool.run(lambda: None)
        pool.run(lambda: time.sleep(60))
        deadlines.at(time.monotonic() + 60, lambda: None)
        child = os.fork()
        ran, rang = threading.Event(), threading.Event()
        if child == 0:
            assert (pool.busy, pool.idle) == (0, 0)
        pool.run(lambda: Interruptible().call(ran.set))
        deadlines.at(time.monotonic(), rang.set)
        assert ran.wait(10) and rang.wait(10)
        if child == 0:
            assert pool.close(10) == 0
            deadlines.close()
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        """
    )
    assert (done.returncode, done.stderr) == (0, "")


# -------------------------------------------------------------------------------------------------------- interruptible


def spin(started: threading.Event) -> None:
    started.set()
    end = time.monotonic() + WAIT
    while time.monotonic() < end:
        pass


@pytest.mark.usefixtures("untraced")
def test_a_body_is_interrupted_and_its_thread_retires(workers: WorkerThreads) -> None:
    body, started = Interruptible(), threading.Event()
    caught: list[BaseException] = []
    retired: list[threading.Thread] = []

    def job() -> None:
        retired.append(threading.current_thread())
        try:
            body.call(spin, started)
        except Stop as error:
            caught.append(error)

    workers.run(job)
    assert started.wait(WAIT)
    assert body.interrupt(Stop)
    retired_thread = retired[0]
    retired_thread.join(WAIT)
    assert not retired_thread.is_alive()
    assert isinstance(caught[0], Stop)
    assert type(pickle.loads(pickle.dumps(caught[0]))) is Stop
    assert body.interrupted
    assert not body.interrupt(Stop)


def test_a_body_gives_its_value_or_its_error() -> None:
    assert Interruptible().call(divmod, 7, 2) == (3, 1)
    assert Interruptible().call(dict, a=1) == {"a": 1}
    with pytest.raises(ZeroDivisionError):
        Interruptible().call(divmod, 7, 0)


def test_an_interruption_before_the_start_keeps_the_body_from_starting() -> None:
    body = Interruptible()
    assert body.interrupt(Stop)
    with pytest.raises(Stop):
        body.call(pytest.fail, "it ran")


def test_a_body_is_called_once() -> None:
    body = Interruptible()
    body.call(int)
    with pytest.raises(RuntimeError, match="once"):
        body.call(int)


@pytest.mark.usefixtures("untraced")
def test_a_body_that_swallows_the_exception_gets_it_once(workers: WorkerThreads) -> None:
    body, started = Interruptible(), threading.Event()

    def stubborn() -> str:
        try:
            spin(started)
        except Stop:
            for _ in range(1000):
                pass
        return "late"

    def interrupt() -> None:
        started.wait(WAIT)
        body.interrupt(Stop)
        body.interrupt(Stop)

    workers.run(interrupt)
    assert run(workers, lambda: body.call(stubborn)) == "late"
    assert body.interrupted


@pytest.mark.usefixtures("untraced")
def test_an_interruption_during_a_c_call_comes_after_it(workers: WorkerThreads) -> None:
    body, waiting, go = Interruptible(), threading.Event(), threading.Lock()
    go.acquire()

    def job() -> None:
        waiting.set()
        go.acquire()

    def interrupt() -> None:
        waiting.wait(WAIT)
        body.interrupt(Stop)
        go.release()

    workers.run(interrupt)
    with pytest.raises(Stop):
        run(workers, lambda: body.call(job))


Strike = Callable[..., None]


@pytest.fixture
def strike(workers: WorkerThreads) -> Strike:
    """Interrupt a body from another thread, and run on until that has been done and could land."""
    barrier = threading.Barrier(3)
    for _ in range(2):  # threads at hand: nothing should land in the middle of starting one
        workers.run(lambda: barrier.wait(WAIT) and None)
    barrier.wait(WAIT)
    until(lambda: workers.idle == 2)

    def strike(body: Interruptible, exc_type: type[BaseException] = Stop) -> None:
        struck: list[bool] = []  # not `body.interrupted`, which holds a moment before the exception is sent
        workers.run(lambda: struck.append(body.interrupt(exc_type)))
        while not struck:
            pass
        for _ in range(100):
            pass

    return strike


def test_a_traced_body_is_interrupted_at_the_next_border(strike: Strike, monkeypatch: pytest.MonkeyPatch) -> None:
    body, reached = Interruptible(), []
    monkeypatch.setattr(critical_module, "_SPINS", True)
    monkeypatch.setattr(threading, "gettrace", lambda: print)

    def job() -> None:
        strike(body)
        reached.append("went on")
        with critical:
            reached.append("inside")
        reached.append("outside")

    with pytest.raises(Stop):
        body.call(job)
    assert reached == ["went on", "inside"]


def test_a_critical_section_in_a_body_is_left_first(strike: Strike) -> None:
    body, reached = Interruptible(), []

    def job() -> None:
        with critical:
            with critical:
                strike(body)
            reached.append("inside")
        reached.append("outside")

    with pytest.raises(Stop):
        body.call(job)
    assert reached == ["inside"]
    assert critical.may_raise()


@pytest.mark.usefixtures("untraced")
def test_lifted_code_in_a_critical_section_is_interrupted_and_the_rest_is_not(strike: Strike) -> None:
    body, reached = Interruptible(), []

    def wait() -> None:
        strike(body)
        reached.append("waited")

    def job() -> None:
        with critical:
            try:
                critical.lift(wait)
            except Stop:
                assert not critical.may_raise()
                reached.append("engine")
                raise

    with pytest.raises(Stop):
        body.call(job)
    assert reached == ["engine"]


@pytest.mark.parametrize("inner_first", [True, False])
def test_the_outer_of_two_bodies_wins(inner_first: bool, strike: Strike) -> None:
    outer, inner = Interruptible(), Interruptible()
    order = [(inner, Stop), (outer, OuterStop)]

    def both() -> None:
        with critical:  # so that both come at once
            for body, exc_type in order if inner_first else reversed(order):
                strike(body, exc_type)

    with pytest.raises(OuterStop):
        outer.call(inner.call, both)
    assert inner.interrupted


@pytest.mark.usefixtures("untraced")
def test_the_inner_of_two_bodies_leaves_the_outer_alone(strike: Strike) -> None:
    outer, inner = Interruptible(), Interruptible()

    def body() -> str:
        with pytest.raises(Stop):
            inner.call(strike, inner)
        return "fine"

    assert outer.call(body) == "fine"
    assert not outer.interrupted


def test_a_failure_leaves_no_cycles(workers: WorkerThreads) -> None:
    def fail() -> None:
        raise ValueError

    def once() -> None:
        try:
            Interruptible().call(fail)
        except ValueError:
            pass

    once()
    gc.collect()
    gc.disable()

    def left_behind() -> int:
        for _ in range(10):
            once()
        return gc.collect()

    try:
        # Again, if there is any: a thread of an earlier test may have ended meanwhile, but that comes once.
        assert not left_behind() or not left_behind()
    finally:
        gc.enable()


@pytest.mark.usefixtures("untraced")
def test_an_interruption_that_lands_in_the_garbage_collector_is_lost_and_told(
    strike: Strike, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A limit of Python: it drops what its collector's callbacks raise. The body goes on; whoever waits does not."""
    body, told, reached = Interruptible(), [], []
    monkeypatch.setattr(sys, "unraisablehook", lambda args: told.append((args.exc_type.__name__, args.object)))

    def in_collector(phase: str, info: object) -> None:
        if phase == "start":
            strike(body)

    def job() -> str:
        with without_gc():
            gc.callbacks.append(in_collector)
            try:
                gc.collect()
            finally:
                gc.callbacks.remove(in_collector)
        reached.append("went on")
        return "late"

    assert body.call(job) == "late"
    assert body.interrupted
    assert reached == ["went on"]
    assert told == [("Stop", in_collector)]
    assert Interruptible().call(int) == 0, "nothing of it is left in this thread"


@pytest.mark.usefixtures("untraced")
def test_no_interruption_ever_lands_outside_its_body() -> None:
    """Thousands of interruptions at random moments, bodies nested, the engine's code beside them."""
    current: list[Interruptible | None] = [None, None, None]
    problems: list[BaseException] = []
    counts = {"called": 0, "raised": 0, "interrupted": 0}
    over = False

    def engine() -> int:
        with critical:
            return sum(number for number in range(10))

    def inner_work() -> None:
        for _ in range(20):
            engine()

    def work(slot: int) -> None:
        inner = Interruptible()
        if random.random() < 0.3:
            current[slot] = inner
        try:
            inner.call(inner_work)
        except Stop:
            if not inner.interrupted:
                raise
            counts["raised"] += 1
        engine()

    def one(slot: int) -> None:
        body = current[slot] = Interruptible()
        raised = False
        try:
            body.call(work, slot)
        except Stop:
            raised = True
        sum(number for number in range(50))  # the next, innocent job
        engine()
        counts["called"] += 1
        if raised:
            assert body.interrupted
            counts["interrupted"] += 1

    def victim(slot: int) -> None:
        try:
            while not over:
                one(slot)
        except BaseException as error:
            problems.append(error)

    victims = [threading.Thread(target=victim, args=(slot,)) for slot in range(3)]
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    sent = 0
    with without_gc():  # what lands there is lost: see the test above
        try:
            for thread in victims:
                thread.start()
            end = time.monotonic() + 1
            while (sent < 3000 and time.monotonic() < end) or not (counts["interrupted"] or problems):
                body = random.choice(current)
                sent += body is not None and body.interrupt(Stop)
                for _ in range(random.randrange(200)):
                    pass
        finally:
            over = True
            for thread in victims:
                thread.join(WAIT)
            sys.setswitchinterval(interval)
    assert not problems
    assert not [thread for thread in victims if thread.is_alive()]
    assert counts["interrupted"] > 0


# ------------------------------------------------------------------------------------------------------------ deadlines


def test_deadlines_are_called_in_order(deadlines: Deadlines) -> None:
    rang, done, go = [], threading.Event(), threading.Event()
    deadlines.at(0, lambda: go.wait(WAIT) and None)  # the others become due together, however long we take
    now = time.monotonic()
    deadlines.at(now + 0.02, done.set)
    deadlines.at(now + 0.01, lambda: rang.append("second"))
    deadlines.at(now - 1, lambda: rang.append("first"))
    go.set()
    assert done.wait(WAIT)
    assert rang == ["first", "second"]
    assert time.monotonic() >= now + 0.02


def test_a_deadline_before_the_one_that_the_thread_waits_for_wakes_it(deadlines: Deadlines) -> None:
    done, far = threading.Event(), time.monotonic() + 60
    deadlines.at(far, lambda: None)
    until(lambda: deadlines._wakes_at == far)
    deadlines.at(time.monotonic() + 0.01, done.set)
    assert done.wait(WAIT)


def test_a_cancelled_deadline_is_not_called(deadlines: Deadlines) -> None:
    rang, done, go = [], threading.Event(), threading.Event()
    deadlines.at(0, lambda: go.wait(WAIT) and None)
    now = time.monotonic()
    handle = deadlines.at(now + 0.01, lambda: rang.append("called"))
    last = deadlines.at(now + 0.02, done.set)
    assert handle.cancel()
    assert not handle.cancel()
    go.set()
    assert done.wait(WAIT)
    assert rang == []
    assert not last.cancel()


def test_setting_and_cancelling_wakes_nobody_and_keeps_little(deadlines: Deadlines) -> None:
    looked = 0
    due = deadlines._due

    def counting() -> Any:
        nonlocal looked
        looked += 1
        return due()

    deadlines._due = counting  # type: ignore[method-assign]
    for _ in range(20_000):
        assert deadlines.at(time.monotonic() + 60, lambda: None).cancel()
    assert looked <= 1
    assert len(deadlines._heap) < 3000


def test_a_callback_that_raises_leaves_the_others(deadlines: Deadlines, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[Any] = []
    done = threading.Event()
    monkeypatch.setattr(threading, "excepthook", told.append)
    now = time.monotonic()
    deadlines.at(now, lambda: 1 / 0)
    deadlines.at(now, done.set)
    assert done.wait(WAIT)
    assert told[0].exc_type is ZeroDivisionError


def test_the_thread_ends_when_idle_and_starts_again() -> None:
    watcher = Deadlines(idle_seconds=0.01)
    for _ in range(2):
        box: list[threading.Thread] = []
        watcher.at(0, lambda box=box: box.append(threading.current_thread()))
        until(lambda box=box: bool(box))
        box[0].join(WAIT)
        assert not box[0].is_alive()
    watcher.close()
    with pytest.raises(RuntimeError, match="closed"):
        watcher.at(0, lambda: None)


def test_a_callback_may_close_and_set_deadlines(deadlines: Deadlines) -> None:
    done = threading.Event()
    deadlines.at(0, lambda: deadlines.at(0, lambda: (deadlines.close(), done.set())) and None)
    assert done.wait(WAIT)


@pytest.mark.usefixtures("untraced")
def test_a_deadline_interrupts_a_body(workers: WorkerThreads, deadlines: Deadlines) -> None:
    body = Interruptible()
    handle = deadlines.at(time.monotonic() + 0.01, lambda: body.interrupt(Stop) and None)
    with pytest.raises(Stop):
        run(workers, lambda: body.call(spin, threading.Event()))
    assert not handle.cancel()
