"""Virtual time: delays take no time, and every time stamp is exact, on asyncio and trio."""

from __future__ import annotations

import asyncio
import time
from datetime import timedelta

import anyio
import pytest

from callsheet import flow, pause_flow_run, sleep, task, wait_signal
from callsheet.exceptions import FlowPauseTimeout, SignalTimeout, VirtualTimeError
from callsheet.flow_runs import resume_flow_run
from callsheet.runtime import flow_run
from callsheet.states import StateType
from callsheet.task_runners import ThreadPoolTaskRunner
from callsheet.tasks import task_input_hash
from callsheet.testing import run_virtual
from callsheet.waits import sleep_until

HOUR, DAY = 3600.0, 86400.0
YEAR = 365 * DAY
REAL_SECONDS = 30.0  # that a test may take on a machine that has a lot else to do


@pytest.fixture(params=["asyncio", "trio"])
def backend(request):
    return request.param


@pytest.fixture(autouse=True)
def quick():
    began = time.monotonic()
    yield
    assert time.monotonic() - began < REAL_SECONDS


def moments(run, name, state):
    return [happened.elapsed for happened in run.history if (happened.run, happened.state) == (name, state)]


class TestDelays:
    def test_retries_of_a_flow(self, backend):
        @flow(retries=5, retry_delay_seconds=3600)
        def unlucky():
            raise ConnectionError("nobody there")

        run = run_virtual(unlucky, backend=backend)
        assert run.elapsed == 5 * HOUR
        assert moments(run, "unlucky", "AwaitingRetry") == [n * HOUR for n in range(5)]
        assert moments(run, "unlucky", "Retrying") == [n * HOUR for n in range(1, 6)]
        assert moments(run, "unlucky", "Failed") == [5 * HOUR]
        with pytest.raises(ConnectionError, match="nobody there"):
            run.result

    @pytest.mark.parametrize("delay", [0.1, 4.35, 1 / 3, 1e-6])
    def test_a_delay_is_exact_to_the_microsecond(self, backend, delay):
        @flow(retries=20, retry_delay_seconds=delay)
        async def unlucky():
            raise ConnectionError

        run = run_virtual(unlucky, backend=backend)
        assert moments(run, "unlucky", "Retrying") == [round(n * round(delay * 1e6)) / 1e6 for n in range(1, 21)]
        assert run.elapsed == moments(run, "unlucky", "Failed")[0]

    @pytest.mark.parametrize("colour", ["async", "sync"])
    def test_retries_of_tasks_that_hop_to_threads(self, backend, colour):
        calls = []

        @task(retries=5, retry_delay_seconds=3600)
        def fetch():
            time.sleep(0.002)
            calls.append(1)
            if len(calls) < 6:
                raise ConnectionError
            return "there"

        @flow(timeout_seconds=5 * HOUR + 1)
        async def waits():
            return await fetch.submit()

        @flow(timeout_seconds=5 * HOUR + 1)
        def blocks():
            return fetch.submit().result()

        run = run_virtual(waits if colour == "async" else blocks, backend=backend)
        assert (run.result, run.elapsed) == ("there", 5 * HOUR)
        assert moments(run, "fetch-0", "Retrying") == [n * HOUR for n in range(1, 6)]

    def test_a_pause_of_three_days_that_nobody_ends(self, backend):
        @flow
        async def approval():
            await pause_flow_run(timeout=3 * DAY)

        run = run_virtual(approval, backend=backend)
        assert run.elapsed == 3 * DAY
        with pytest.raises(FlowPauseTimeout):
            run.result

    def test_a_pause_that_somebody_ends_after_three_days(self, backend):
        runs = []

        @flow
        async def approval():
            runs.append(flow_run.id)
            await pause_flow_run(timeout=4 * DAY)

        async def scenario():
            async with anyio.create_task_group() as group:
                group.start_soon(approval)
                await anyio.sleep(3 * DAY)
                await resume_flow_run(runs[0])
            return "approved"

        run = run_virtual(scenario, backend=backend)
        assert (run.result, run.elapsed, run.state) == ("approved", 3 * DAY, None)
        assert moments(run, "approval", "Running") == [0.0, 3 * DAY]

    @pytest.mark.parametrize("seconds", [YEAR, 100 * YEAR, 12.345678])
    def test_a_durable_sleep(self, backend, seconds):
        @flow
        async def sleeper():
            await sleep(seconds)

        @flow
        def sync_sleeper():
            sleep(seconds)

        for body in (sleeper, sync_sleeper):
            run = run_virtual(body, backend=backend)
            assert run.elapsed == seconds
            assert run.state.is_completed()

    def test_a_timer_that_fires_daily_for_a_year(self, backend):
        @task
        def report(day):
            time.sleep(0.0001)
            return day

        @flow
        async def daily():
            started, days = flow_run.scheduled_start_time, []
            for day in range(1, 366):
                await sleep_until(started + timedelta(days=day))
                days.append(report.submit(day))
            return [await day for day in days]

        run = run_virtual(daily, backend=backend)
        assert (run.elapsed, run.result) == (YEAR, list(range(1, 366)))
        assert [h.elapsed for h in run.history if h.kind == "task" and h.state == "Running"] == [
            n * DAY for n in range(1, 366)
        ]

    def test_timeouts_of_async_bodies(self, backend):
        @task(timeout_seconds=60, retries=1, retry_delay_seconds=30)
        async def late():
            await anyio.sleep(61)

        @flow
        async def around():
            return await late(return_state=True)

        run = run_virtual(around, backend=backend)
        assert moments(run, "late-0", "AwaitingRetry") == [60.0]
        assert moments(run, "late-0", "TimedOut") == [150.0]

    def test_a_timeout_of_a_thread_that_waits_for_time(self, backend):
        @task(timeout_seconds=60)
        def late():
            sleep(61)

        @flow
        def around():
            late.submit().wait()
            return flow_run.scheduled_start_time

        run = run_virtual(around, backend=backend)
        assert moments(run, "late-0", "TimedOut") == [60.0]
        assert run.result == run.history[0].timestamp

    def test_waiting_for_a_signal(self, backend):
        @flow
        async def order():
            await wait_signal("paid", timeout=DAY)

        run = run_virtual(order, backend=backend)
        assert run.elapsed == DAY
        with pytest.raises(SignalTimeout):
            run.result

    def test_a_future_that_is_waited_for_in_vain(self, backend):
        @task
        def slow():
            sleep(HOUR)

        @flow
        def around():
            future = slow.submit()
            with pytest.raises(TimeoutError):
                future.result(timeout=60)
            return future.result()

        assert run_virtual(around, backend=backend).elapsed == HOUR

    def test_cached_results_expire(self, backend, tmp_path):
        calls = []

        @task(cache_key_fn=task_input_hash, cache_expiration=timedelta(hours=1), persist_result=True)
        def fetch(x):
            calls.append(x)
            return x

        @flow
        async def around():
            for _ in range(3):
                fetch(1)
                await sleep(HOUR * 0.6)
            return len(calls)

        assert run_virtual(around, backend=backend).result == 2

    def test_many_threads_that_wait_for_different_times(self, backend):
        @task
        def nap(minutes):
            sleep(60 * minutes)
            return minutes

        @flow(task_runner=ThreadPoolTaskRunner(max_workers=20))
        def around():
            return sorted(nap.map(range(50)).result())

        run = run_virtual(around, backend=backend)
        assert run.result == list(range(50))
        assert run.state.is_completed()


class TestWhatItGives:
    def test_state_result_and_history(self, backend):
        @task
        def double(x):
            return 2 * x

        @flow
        async def total(upto):
            return sum(double.map(range(upto)).result())

        run = run_virtual(total, 3, backend=backend)
        assert (run.result, run.state.type, run.elapsed) == (6, StateType.COMPLETED, 0.0)
        assert run.history[0].run == "total"
        assert str(run.history[-1]) == "0.0 s  total  Completed"
        assert {h.run for h in run.history} == {"total", "double-0", "double-1", "double-2"}
        assert repr(run) == "<VirtualRun Completed after 0.0 s>"
        assert run.history[0].timestamp == run.history[-1].timestamp

    def test_a_task_and_a_plain_function(self, backend):
        @task(retries=1, retry_delay_seconds=10)
        async def once():
            if len(tries := tried) < 1:
                tries.append(1)
                raise ValueError
            return 1

        tried = []
        assert run_virtual(once, backend=backend).elapsed == 10.0

        async def plain(x, *, y):
            await anyio.sleep(5)
            return x + y

        run = run_virtual(plain, 1, y=2, backend=backend)
        assert (run.result, run.elapsed, run.state, run.history) == (3, 5.0, None, [])

    def test_what_a_plain_function_raises_is_raised(self, backend):
        async def plain():
            raise KeyError("x")

        with pytest.raises(KeyError):
            run_virtual(plain, backend=backend)

    @pytest.mark.parametrize("body", [len, flow(lambda: (yield 1))], ids=["function", "generator"])
    def test_what_cannot_be_run(self, backend, body):
        with pytest.raises(TypeError):
            run_virtual(body, backend=backend)

    @pytest.mark.parametrize("name", ["uvloop", "asyncio+uvloop", "curio"])
    def test_no_other_backend(self, name):
        with pytest.raises(VirtualTimeError, match="no virtual time"):
            run_virtual(flow(lambda: 1), backend=name)

    @pytest.mark.parametrize("other", ["asyncio", "trio"])
    def test_not_inside_a_running_loop(self, other):
        async def main():
            with pytest.raises(VirtualTimeError, match="virtual_clock"):
                run_virtual(flow(lambda: 1))

        anyio.run(main, backend=other)

    def test_real_time_goes_on_around_it(self, backend):
        before = time.time()
        run = run_virtual(flow(lambda: sleep(YEAR)), backend=backend)
        state = flow(lambda: 1)(return_state=True)
        assert run.elapsed == YEAR
        assert before - 1 <= state.timestamp.timestamp() <= time.time() + 1

    def test_the_loop_tells_virtual_time_too(self):
        async def plain():
            loop = asyncio.get_running_loop()
            before = loop.time()
            await asyncio.wait_for(asyncio.sleep(DAY), timeout=2 * DAY)
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(DAY):
                    await asyncio.sleep(YEAR)
            return loop.time() - before

        assert run_virtual(plain).result == 2 * DAY
