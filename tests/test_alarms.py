"""Alarms and signals of sync roots: real signals, in this process and in others."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import warm
from callsheet._kernel import alarms
from callsheet._kernel.alarms import deadline_alarm, guarded_signals, usable
from callsheet._kernel.critical import critical
from callsheet.exceptions import TerminationSignal
from harness import without_gc

SIGNALS = (signal.SIGALRM, signal.SIGINT, signal.SIGTERM)


class Late(Exception):
    """What the alarms of these tests raise."""


class OuterLate(Exception):
    """What the outer of two alarms raises."""


@pytest.fixture(autouse=True)
def host() -> Iterator[None]:
    """See to it that every test leaves signals and timer as they were."""
    before = [signal.getsignal(signum) for signum in SIGNALS]
    timer = signal.setitimer(signal.ITIMER_REAL, 0)  # that of the test runner, if it has one
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
        assert signal.getitimer(signal.ITIMER_REAL) == (0, 0)
        assert signal.getsignal(signal.SIGALRM) == signal.SIG_DFL
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
        assert signal.getsignal(signal.SIGTERM) == before[2]
        assert critical.may_raise()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        for signum, handler in zip(SIGNALS, before, strict=True):
            signal.signal(signum, handler)
        signal.setitimer(signal.ITIMER_REAL, *timer)


@contextlib.contextmanager
def handler(signum: int, function: Any) -> Iterator[None]:
    """Install a handler as a host would; it must still be there at the end."""
    before = signal.signal(signum, function)
    try:
        yield
        assert signal.getsignal(signum) is function
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signum, before)


def busy(seconds: float) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        pass


class Begun:
    """Lets an alarm raise only once the test is where it should, however late that is."""

    now = False

    def __call__(self) -> bool:
        return self.now


@contextlib.contextmanager
def untraced() -> Iterator[None]:
    """Keep coverage out: an exception that lands in its tracer's Python code leaves a lock of it locked for ever."""
    trace = sys.gettrace()
    sys.settrace(None)
    try:
        yield
    finally:
        sys.settrace(trace)


def run_python(program: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    return warm.run(textwrap.dedent(program), env=environment, dev=True, timeout=60, check=False)


# --------------------------------------------------------------------------------------------------------------- where


def test_alarms_are_for_the_main_thread_without_a_loop() -> None:
    assert usable()
    box: list[bool] = []
    thread = threading.Thread(target=lambda: box.append(usable()))
    thread.start()
    thread.join()
    assert box == [False]


def test_alarms_are_not_for_loops(run_on: Callable[..., Any]) -> None:
    async def main() -> None:
        assert not usable()
        with pytest.raises(RuntimeError, match="no event loop"), deadline_alarm(1, Late):
            pass
        with guarded_signals() as signals:
            assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
        signals.check()
        signals.propagate()

    run_on(main)
    assert usable()


def test_alarms_are_not_for_callbacks_of_a_loop() -> None:
    async def main() -> bool:
        loop = asyncio.get_running_loop()
        answer = loop.create_future()
        loop.call_soon(lambda: answer.set_result(usable()))
        return await answer

    assert asyncio.run(main()) is False


def test_alarms_are_not_for_handlers_that_cannot_be_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(alarms, "handler_of", lambda signum: None)
        assert not usable()
        alarms._is_main_interpreter.cache_clear()
        assert not alarms._signals_usable()
    alarms._is_main_interpreter.cache_clear()
    assert usable()


# -------------------------------------------------------------------------------------------------------------- alarms


@pytest.mark.parametrize("body", [lambda: time.sleep(10), lambda: busy(10), lambda: threading.Event().wait(10)])
def test_a_body_is_interrupted_in_the_middle(body: Callable[[], None]) -> None:
    begin = time.monotonic()
    alarm = deadline_alarm(0.02, Late)
    with pytest.raises(Late) as caught, alarm:
        body()
    assert 0.019 < time.monotonic() - begin < 5
    assert alarm.raised is caught.value
    assert alarm.expired
    assert not alarm.pending


def test_many_short_sleeps_are_interrupted() -> None:
    with pytest.raises(Late), deadline_alarm(0.02, Late):
        while True:
            time.sleep(0.001)


def test_a_body_that_is_in_time_hears_nothing() -> None:
    with deadline_alarm(60, Late) as alarm:
        assert signal.getitimer(signal.ITIMER_REAL)[0] > 9
    assert not alarm.expired


def test_a_body_that_swallows_the_exception_gets_it_once() -> None:
    count, begun = 0, Begun()
    with deadline_alarm(0.005, Late, may_raise=begun) as alarm:
        for seconds in (10, 0.012, 0.012, 0.012):
            try:
                begun.now = True
                busy(seconds)
            except Late:
                count += 1
    assert count == 1
    assert alarm.expired


def test_a_deadline_that_has_passed_comes_at_once() -> None:
    with pytest.raises(Late), deadline_alarm(0, Late):
        time.sleep(10)


def test_nothing_is_raised_in_a_critical_section_but_right_after() -> None:
    reached, begun = [], Begun()
    with pytest.raises(Late), deadline_alarm(0.005, Late, may_raise=begun) as alarm:
        with critical:
            begun.now = True
            busy(0.02)
            reached.append(alarm.pending)
        busy(10)
    assert reached == [True]


def test_lifting_raises_what_is_pending_before_it_calls() -> None:
    with pytest.raises(Late), deadline_alarm(0.005, Late), critical:
        busy(0.02)
        critical.lift(pytest.fail, "called")
    with pytest.raises(Late), deadline_alarm(0.005, Late), critical:
        busy(0.02)
        critical.check()


def test_lifted_code_is_interrupted() -> None:
    begun = Begun()
    with deadline_alarm(0.005, Late, may_raise=begun), critical:
        begun.now = True
        with pytest.raises(Late):
            critical.lift(time.sleep, 10)
        assert not critical.may_raise()


def test_the_engine_may_forbid_raising() -> None:
    with deadline_alarm(0.005, Late, may_raise=lambda: False) as alarm:
        busy(0.02)
        assert alarm.pending
    assert alarm.pending
    alarm.check()  # the context is over: nothing to raise any more


def test_an_alarm_that_was_missed_is_pending_afterwards() -> None:
    with critical, deadline_alarm(0.005, Late) as alarm:
        busy(0.01)
    critical.check()
    assert (alarm.pending, alarm.raised) == (True, None)


@pytest.mark.parametrize(
    ("outer", "inner", "expected"), [(0.01, 5, OuterLate), (5, 0.01, Late), (0.01, 0.01, OuterLate)]
)
def test_the_nearest_of_nested_alarms_wins(outer: float, inner: float, expected: type[Exception]) -> None:
    with pytest.raises(expected), deadline_alarm(outer, OuterLate), deadline_alarm(inner, Late):
        time.sleep(10)


def test_the_outer_alarm_still_holds_after_the_inner_one() -> None:
    inner = deadline_alarm(60, Late)
    with deadline_alarm(60, OuterLate) as outer:
        with pytest.raises(Late), deadline_alarm(0.01, Late):
            time.sleep(10)
        with pytest.raises(OuterLate):
            outer.deadline = time.monotonic() + 0.02
            with inner:  # which sets the timer
                pass
            time.sleep(10)
    assert outer.expired
    assert not inner.expired


def test_the_inner_alarm_is_silent_while_the_outer_one_unwinds() -> None:
    begun, inner = Begun(), deadline_alarm(0.01, Late)
    with pytest.raises(OuterLate), deadline_alarm(0.005, OuterLate, may_raise=begun), inner:
        try:
            begun.now = True
            time.sleep(10)
        finally:
            busy(0.02)
    assert inner.pending


def test_the_hosts_alarm_rings_at_its_time_inside() -> None:
    rang: list[tuple[float, bool]] = []
    alarm = deadline_alarm(0.4, Late)
    with handler(signal.SIGALRM, lambda *_: rang.append((time.monotonic(), alarm.expired))):
        begin = time.monotonic()
        signal.setitimer(signal.ITIMER_REAL, 0.02)
        with pytest.raises(Late), alarm:
            time.sleep(10)
        ((moment, was_late),) = rang
        assert moment - begin > 0.019
        assert not was_late
        assert signal.getitimer(signal.ITIMER_REAL) == (0, 0)


def test_the_hosts_alarm_rings_at_its_time_afterwards() -> None:
    rang: list[float] = []
    with handler(signal.SIGALRM, lambda *_: rang.append(time.monotonic())):
        begin = time.monotonic()
        signal.setitimer(signal.ITIMER_REAL, 0.03, 0.01)
        with deadline_alarm(5, Late):
            time.sleep(0.005)
        assert 0 < signal.getitimer(signal.ITIMER_REAL)[0] < 0.026
        while len(rang) < 2:
            time.sleep(0.001)
        assert rang[0] - begin > 0.029
    assert len(rang) >= 2


def test_a_repeating_alarm_of_the_host_goes_on() -> None:
    rang: list[int] = []
    with handler(signal.SIGALRM, lambda signum, frame: rang.append(signum)):
        signal.setitimer(signal.ITIMER_REAL, 0.004, 0.004)
        with deadline_alarm(5, Late):
            while len(rang) < 3:
                time.sleep(0.001)
        seen = len(rang)
        while len(rang) == seen:
            time.sleep(0.001)
        signal.setitimer(signal.ITIMER_REAL, 0)


def test_the_hosts_alarm_may_raise_but_not_in_a_critical_section() -> None:
    class HostLate(Exception):
        pass

    def ring(*_: object) -> None:
        if begun() and not rang:
            rang.append(1)
            raise HostLate

    reached, rang, begun = [], [], Begun()
    with handler(signal.SIGALRM, ring):
        signal.setitimer(signal.ITIMER_REAL, 0.005, 0.005)
        with pytest.raises(HostLate), deadline_alarm(60, Late):
            with critical:
                begun.now = True
                busy(0.015)
                reached.append(1)
            time.sleep(10)
    assert reached


def test_an_alarm_of_the_host_that_ends_the_process_still_does() -> None:
    done = run_python(
        """
        import signal, time
        from callsheet._kernel.alarms import deadline_alarm
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        with deadline_alarm(60, TimeoutError):
            time.sleep(60)
        """
    )
    assert done.returncode == -signal.SIGALRM


def test_an_ignored_alarm_of_the_host_stays_ignored() -> None:
    signal.signal(signal.SIGALRM, signal.SIG_IGN)
    signal.setitimer(signal.ITIMER_REAL, 0.005)
    with deadline_alarm(5, Late):
        busy(0.01)
    assert signal.getsignal(signal.SIGALRM) == signal.SIG_IGN
    signal.signal(signal.SIGALRM, signal.SIG_DFL)


def test_a_handler_that_the_body_installs_stays() -> None:
    def own(*_: object) -> None:
        pass

    with deadline_alarm(5, Late):
        signal.signal(signal.SIGALRM, own)
        signal.setitimer(signal.ITIMER_REAL, 60)
    assert signal.getsignal(signal.SIGALRM) is own
    assert signal.setitimer(signal.ITIMER_REAL, 0)[0] > 19
    signal.signal(signal.SIGALRM, signal.SIG_DFL)


def test_alarms_at_random_moments_leave_everything_in_order() -> None:
    """Contexts, critical sections and lifted code are entered and left whole, wherever an alarm strikes."""

    def engine() -> None:
        with critical:
            sum(range(20))
            critical.lift(sum, range(20))
            assert not critical.may_raise()

    raised = 0
    with untraced(), without_gc():
        end = time.monotonic() + 0.25
        while time.monotonic() < end or raised <= 20:
            try:
                with deadline_alarm(random.uniform(0, 0.0005), OuterLate):
                    while True:
                        try:
                            with deadline_alarm(random.uniform(0, 0.0003), Late):
                                engine()
                                if random.random() < 0.3:
                                    time.sleep(0.0001)
                        except Late:
                            raised += 1
            except OuterLate:
                raised += 1
            assert critical.may_raise()
            assert signal.getsignal(signal.SIGALRM) == signal.SIG_DFL
            assert not alarms._alarms
    assert raised > 20


# ------------------------------------------------------------------------------------------------- SIGINT and SIGTERM


@pytest.mark.parametrize(
    ("signum", "expected"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, TerminationSignal)]
)
def test_a_signal_is_raised_in_the_body(signum: signal.Signals, expected: type[BaseException]) -> None:
    with pytest.raises(expected), guarded_signals() as signals:
        os.kill(os.getpid(), signum)
        time.sleep(10)
    assert signals.terminated is (signum == signal.SIGTERM)
    assert not signals.pending


def test_a_signal_from_outside_interrupts_a_sleep() -> None:
    timer = threading.Timer(0.02, os.kill, (os.getpid(), signal.SIGTERM))
    with guarded_signals():
        with pytest.raises(TerminationSignal) as caught:
            timer.start()  # in here: a busy machine may not be back before it fires
            time.sleep(10)
    timer.join()
    assert caught.value.signal == signal.SIGTERM


@pytest.mark.parametrize(
    ("signum", "expected"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, TerminationSignal)]
)
def test_a_signal_in_a_critical_section_waits_for_the_check(
    signum: signal.Signals, expected: type[BaseException]
) -> None:
    with guarded_signals() as signals:
        with critical:
            signal.raise_signal(signum)
            assert signals.pending
        with pytest.raises(expected):
            critical.check()
        with critical:
            signal.raise_signal(signum)
            with pytest.raises(expected):
                critical.lift(pytest.fail, "called")
            signal.raise_signal(signum)
        with pytest.raises(expected):
            signals.check()
        critical.check()
        signals.check()
        assert not signals.pending


def test_both_signals_are_raised_one_after_the_other() -> None:
    with guarded_signals() as signals:
        with critical:
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGTERM)
        with pytest.raises(TerminationSignal):
            signals.check()
        with pytest.raises(KeyboardInterrupt):
            signals.check()


def test_a_second_interrupt_after_a_while_is_raised_anywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(alarms, "PATIENCE_SECONDS", 0.001)
    with guarded_signals() as signals, critical:
        signal.raise_signal(signal.SIGINT)
        time.sleep(0.002)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        assert not signals.pending


def test_an_interrupt_that_nobody_checked_is_raised_at_the_end() -> None:
    with guarded_signals() as signals, critical:
        signal.raise_signal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        signals.propagate()
    signals.propagate()
    critical.check()


def test_handlers_are_given_back_and_only_the_outermost_installs() -> None:
    before = [signal.getsignal(signum) for signum in SIGNALS]
    with guarded_signals() as outer:
        during = [signal.getsignal(signum) for signum in SIGNALS]
        with guarded_signals() as inner:
            assert [signal.getsignal(signum) for signum in SIGNALS] == during
            with critical:
                signal.raise_signal(signal.SIGTERM)
            assert inner.pending
            assert inner.terminated
        assert [signal.getsignal(signum) for signum in SIGNALS] == during
        inner.propagate()  # the outermost does it
        with pytest.raises(TerminationSignal):
            outer.check()
        outer.propagate()  # not before its end
    assert [signal.getsignal(signum) for signum in SIGNALS] == before
    assert during != before


def test_the_hosts_termination_handler_is_called_at_the_end() -> None:
    called: list[Any] = []
    with handler(signal.SIGTERM, lambda *args: called.append(args)):
        with pytest.raises(TerminationSignal), guarded_signals() as signals:
            signal.raise_signal(signal.SIGTERM)
        assert not called
        signals.propagate()
        assert called == [(signal.SIGTERM, None)]
        signals.propagate()
        assert len(called) == 1


def test_without_a_handler_the_process_ends_by_the_signal() -> None:
    done = run_python(
        """
        import signal
        from callsheet._kernel.alarms import guarded_signals
        from callsheet.exceptions import TerminationSignal
        try:
            with guarded_signals() as signals:
                signal.raise_signal(signal.SIGTERM)
        except TerminationSignal:
            print("recorded", flush=True)
        signals.propagate()
        print("never")
        """
    )
    assert (done.returncode, done.stdout, done.stderr) == (-signal.SIGTERM, "recorded\n", "")


def test_what_the_host_chose_is_left_alone() -> None:
    def noop(*_: object) -> None:
        pass

    noop.__module__ = "asyncio.unix_events"
    for chosen in (signal.SIG_IGN, noop):
        with handler(signal.SIGTERM, chosen), guarded_signals() as signals:
            assert signal.getsignal(signal.SIGTERM) is chosen
            signal.raise_signal(signal.SIGTERM)
        assert not signals.terminated
    called: list[int] = []
    with handler(signal.SIGINT, lambda signum, frame: called.append(signum)), guarded_signals():
        signal.raise_signal(signal.SIGINT)
    assert called == [signal.SIGINT]


def test_a_loops_own_handlers_are_left_alone() -> None:
    loop = asyncio.new_event_loop()
    try:
        loop.add_signal_handler(signal.SIGTERM, lambda: None)
        installed = signal.getsignal(signal.SIGTERM)
        with guarded_signals():
            assert signal.getsignal(signal.SIGTERM) is installed
    finally:
        loop.close()


def test_a_handler_that_the_body_sets_stays() -> None:
    def own(*_: object) -> None:
        pass

    before = signal.getsignal(signal.SIGTERM)
    with guarded_signals():
        signal.signal(signal.SIGTERM, own)
    assert signal.getsignal(signal.SIGTERM) is own
    signal.signal(signal.SIGTERM, before)


def test_other_threads_install_nothing_and_share_nothing() -> None:
    def other() -> None:
        with guarded_signals() as inner:
            inner.check()
        inner.propagate()
        states.append((inner.pending, inner.terminated, signal.getsignal(signal.SIGTERM)))

    states: list[Any] = []
    with guarded_signals() as outer:
        installed = signal.getsignal(signal.SIGTERM)
        with critical:
            signal.raise_signal(signal.SIGTERM)
            thread = threading.Thread(target=other)
            thread.start()
            thread.join()
        with pytest.raises(TerminationSignal):
            outer.check()
    thread = threading.Thread(target=other)
    thread.start()
    thread.join()
    assert states == [(False, False, installed), (False, False, signal.SIG_DFL)]


def test_a_signal_in_a_body_that_has_an_alarm() -> None:
    with guarded_signals(), deadline_alarm(5, Late) as alarm, pytest.raises(TerminationSignal):
        signal.raise_signal(signal.SIGTERM)
    assert not alarm.expired


def test_a_forked_child_has_the_hosts_handlers_and_no_alarm() -> None:
    done = run_python(
        """
        import os, signal
        from callsheet._kernel.alarms import deadline_alarm, guarded_signals
        before = [signal.getsignal(signum) for signum in (signal.SIGALRM, signal.SIGINT, signal.SIGTERM)]
        with guarded_signals() as signals:
            with deadline_alarm(60, TimeoutError):
                child = os.fork()
                if child == 0:
                    after = [signal.getsignal(signum) for signum in (signal.SIGALRM, signal.SIGINT, signal.SIGTERM)]
                    assert before == after, after
                    assert signal.getitimer(signal.ITIMER_REAL) == (0, 0)
                    os._exit(0)
            assert os.waitpid(child, 0)[1] == 0
        """
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_ctrl_c_from_another_process() -> None:
    process = subprocess.Popen(
        [
            sys.executable,
            "-c",
            textwrap.dedent(
                """
                import time
                from callsheet._kernel.alarms import guarded_signals
                from callsheet._kernel.critical import critical
                try:
                    with guarded_signals(), critical:
                        print("ready", flush=True)
                        critical.lift(time.sleep, 60)
                except KeyboardInterrupt:
                    print("interrupted", flush=True)
                """
            ),
        ],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )
    with process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGINT)
        assert process.stdout.readline() == "interrupted\n"
    assert process.returncode == 0


def test_signals_at_random_moments_are_neither_lost_nor_misplaced() -> None:
    """Every signal is raised, in lifted code or by a check, and everything is left whole."""

    def body() -> None:
        for _ in range(20):
            sum(range(5))

    def attempt() -> None:
        signal.setitimer(signal.ITIMER_REAL, random.uniform(0.000_001, 0.000_1))
        while not rang:
            with critical:
                critical.lift(body)
        critical.check()
        pytest.fail("the signal was lost")

    rang: list[int] = []

    def ring(*_: object) -> None:
        rang.append(1)
        signal.raise_signal(signal.SIGINT)

    with untraced(), without_gc(), handler(signal.SIGALRM, ring), guarded_signals() as signals:
        end = time.monotonic() + 0.25
        while time.monotonic() < end:
            rang.clear()
            with pytest.raises(KeyboardInterrupt):
                attempt()
            assert critical.may_raise()
            assert not signals.pending
