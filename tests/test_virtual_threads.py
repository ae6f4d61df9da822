"""Virtual time stands still while anything works that takes real time; and what it cannot give is refused."""

from __future__ import annotations

import asyncio
import concurrent.futures
import socket
import subprocess
import sys
import time

import anyio
import anyio.to_thread
import pytest
import trio

from callsheet import Engine, flow, sleep, task
from callsheet._clock import SYSTEM_CLOCK
from callsheet._kernel.threads import WorkerThreads
from callsheet._kernel.virtual import VirtualClock
from callsheet._kernel.virtual_loops import virtual_time
from callsheet.exceptions import VirtualTimeError
from callsheet.flow_runs import wait_for_flow_run
from callsheet.testing import run_virtual
from harness import own_threads

WORK = 0.05  # real seconds
HOUR, DAY = 3600.0, 86400.0
SCRIPT = f"import time; time.sleep({WORK}); print('done')"

BACKENDS = ["asyncio", "trio"]


@pytest.fixture(params=BACKENDS)
def backend(request):
    return request.param


def work():
    time.sleep(WORK)
    return "done"


async def in_anyio_thread():
    return await anyio.to_thread.run_sync(work)


async def in_asyncio_thread():
    return await asyncio.to_thread(work)


async def in_executor():
    return await asyncio.get_running_loop().run_in_executor(None, work)


async def in_own_executor():
    with concurrent.futures.ThreadPoolExecutor(1) as executor:
        return await asyncio.get_running_loop().run_in_executor(executor, work)


async def in_trio_thread():
    return await trio.to_thread.run_sync(work)


async def in_anyio_subprocess():
    return (await anyio.run_process([sys.executable, "-c", SCRIPT])).stdout.decode().strip()


async def in_opened_subprocess():
    async with await anyio.open_process([sys.executable, "-c", SCRIPT]) as process:
        text = b"".join([chunk async for chunk in process.stdout])
        assert await process.wait() == 0
        return text.decode().strip()


async def in_trio_subprocess():
    done = await trio.run_process([sys.executable, "-c", SCRIPT], capture_stdout=True)
    return done.stdout.decode().strip()


async def in_asyncio_subprocess():
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", SCRIPT, stdout=subprocess.PIPE)
    out, _ = await process.communicate()
    return out.decode().strip()


async def in_asyncio_shell():
    process = await asyncio.create_subprocess_shell(f'"{sys.executable}" -c "{SCRIPT}"', stdout=subprocess.PIPE)
    out, _ = await process.communicate()
    return out.decode().strip()


async def here():
    return work()


@task
def working_task():
    return work()


async def in_a_submitted_task():
    @flow
    async def around():
        return await working_task.submit()

    return await around()


async def in_a_task_with_a_timeout():
    @flow
    async def around():
        return working_task.with_options(timeout_seconds=0.001)()

    return await around()


async def from_a_history_in_a_file():
    @flow
    async def around():
        return "done"

    async with Engine():
        state = await around(return_state=True)
        found = await wait_for_flow_run(state.state_details.flow_run_id, timeout=0.001)
        return await around() if found.state.is_completed() else None


EVERYWHERE = [in_anyio_thread, in_anyio_subprocess, in_opened_subprocess, here, in_a_submitted_task,
              in_a_task_with_a_timeout, from_a_history_in_a_file]  # fmt: skip
ON_ASYNCIO = [in_asyncio_thread, in_executor, in_own_executor, in_asyncio_subprocess, in_asyncio_shell]
ON_TRIO = [in_trio_thread, in_trio_subprocess]
PLACES = [
    *(pytest.param(name, body, id=f"{name}-{body.__name__}") for name in BACKENDS for body in EVERYWHERE),
    *(pytest.param("asyncio", body, id=f"asyncio-{body.__name__}") for body in ON_ASYNCIO),
    *(pytest.param("trio", body, id=f"trio-{body.__name__}") for body in ON_TRIO),
]


class TestStandingStill:
    @pytest.mark.parametrize(("name", "body"), PLACES)
    def test_a_short_deadline_outlasts_long_work(self, name, body):
        async def scenario():
            rang = []

            async def alarm():
                await anyio.sleep(0.001)
                rang.append(anyio.current_time())

            before = anyio.current_time()
            async with anyio.create_task_group() as group:
                group.start_soon(alarm)
                with anyio.fail_after(0.01):
                    value = await body()
                assert anyio.current_time() - before <= 0.001  # the alarm may have come before the work began
            assert len(rang) == 1
            await anyio.sleep(HOUR)
            return value, anyio.current_time() - before

        value, elapsed = run_virtual(scenario, backend=name).result
        assert value == "done"
        assert elapsed == pytest.approx(HOUR, abs=0.0011)

    def test_a_subprocess_that_nobody_waits_for(self, backend):
        async def scenario():
            process = await anyio.open_process([sys.executable, "-c", SCRIPT], stdout=None, stderr=None)
            began = time.monotonic()
            await anyio.sleep(DAY)
            real = time.monotonic() - began
            await process.wait()
            return real

        assert run_virtual(scenario, backend=backend).result >= WORK * 0.9

    def test_threads_of_others_that_wait_for_virtual_time(self, backend):
        @flow(retries=2, retry_delay_seconds=3600)
        def unlucky():
            raise ConnectionError

        def call():
            return unlucky(return_state=True).name

        async def scenario():
            before = anyio.current_time()
            names = []

            async def one():
                names.append(await anyio.to_thread.run_sync(call))

            async with anyio.create_task_group() as group:
                for _ in range(5):
                    group.start_soon(one)
            return names, anyio.current_time() - before

        assert run_virtual(scenario, backend=backend).result == (["Failed"] * 5, 2 * HOUR)

    def test_an_executors_thread_that_waits_for_virtual_time(self):
        def call():
            sleep(DAY)
            return work()

        async def scenario():
            loop = asyncio.get_running_loop()
            before = loop.time()
            return await loop.run_in_executor(None, call), loop.time() - before

        assert run_virtual(scenario).result == ("done", DAY)

    def test_threads_that_wake_each_other_let_no_time_pass_between(self, backend):
        @task
        def first():
            sleep(10)
            return work()

        @task
        def second(value):
            return work() + value

        @flow(timeout_seconds=10.001)
        async def around():
            return await second.submit(first.submit())

        run = run_virtual(around, backend=backend)
        assert (run.result, run.elapsed) == ("donedone", 10.0)

    def test_a_body_that_is_cut_off_lets_time_go_on(self, backend):
        @task(timeout_seconds=5)
        def stuck():
            sleep(DAY)

        @flow
        async def around():
            stuck.submit().wait()
            await sleep(10)

        assert run_virtual(around, backend=backend).elapsed == 15.0

    def test_a_hop_that_cannot_begin_holds_nothing(self, backend):
        async def scenario():
            threads = WorkerThreads()
            threads.close(0)
            with pytest.raises(RuntimeError):
                threads.run(work)
            before = anyio.current_time()
            await anyio.sleep(10)
            return anyio.current_time() - before

        assert run_virtual(scenario, backend=backend).result == 10.0

    def test_no_thread_is_left(self, backend):
        run_virtual(flow(lambda: working_task.submit().result()), backend=backend)
        deadline = time.monotonic() + 5
        while (left := own_threads()) and time.monotonic() < deadline:
            time.sleep(0.005)
        assert not left


async def connect_by_anyio():
    await anyio.connect_tcp("127.0.0.1", 9)


async def listen_by_anyio():
    async with await anyio.create_tcp_listener(local_host="127.0.0.1") as listener:
        await listener.serve(print)


async def connect_by_asyncio():
    await asyncio.open_connection("127.0.0.1", 9)


async def watch_a_socket():
    ours, theirs = socket.socketpair()
    with ours, theirs:
        asyncio.get_running_loop().add_reader(ours, print)


async def connect_by_trio():
    await trio.open_tcp_stream("127.0.0.1", 9)


SOCKETS = [
    *(pytest.param(name, body, id=f"{name}-{body.__name__}") for name in BACKENDS for body in (connect_by_anyio, listen_by_anyio)),
    *(pytest.param("asyncio", body, id=body.__name__) for body in (connect_by_asyncio, watch_a_socket)),
    pytest.param("trio", connect_by_trio, id="connect_by_trio"),
]  # fmt: skip


def errors_in(error):
    return (
        [inner for one in error.exceptions for inner in errors_in(one)]
        if isinstance(error, BaseExceptionGroup)
        else [error]
    )


class TestWhatItCannotGive:
    @pytest.mark.parametrize(("name", "body"), SOCKETS)
    def test_sockets_are_refused(self, name, body):
        with pytest.raises(BaseException) as caught:
            run_virtual(body, backend=name)
        causes = errors_in(caught.value)
        causes += [inner for error in causes if error.__cause__ for inner in errors_in(error.__cause__)]
        assert any(isinstance(error, VirtualTimeError) and "no sockets" in str(error) for error in causes)

    def test_a_loop_of_uvloop_is_refused(self):
        pytest.importorskip("uvloop")

        async def main():
            with pytest.raises(VirtualTimeError, match="uvloop"), virtual_time(VirtualClock(0)):
                pass

        anyio.run(main, backend="asyncio", backend_options={"use_uvloop": True})

    def test_a_second_clock_is_refused(self, backend):
        async def scenario():
            with pytest.raises(VirtualTimeError, match="virtual here already"), virtual_time(VirtualClock(0)):
                pass

        run_virtual(scenario, backend=backend)

    def test_a_running_loop_becomes_real_again(self, backend):
        async def main():
            kept = anyio.current_time()
            with virtual_time(VirtualClock(SYSTEM_CLOCK.micros())):
                began = anyio.current_time()
                await anyio.sleep(DAY)
                assert anyio.current_time() - began == pytest.approx(DAY)
            assert began - kept < 5
            before = time.monotonic()
            await anyio.sleep(0.02)
            assert time.monotonic() - before >= 0.019
            assert await anyio.to_thread.run_sync(work) == "done"
            if backend == "asyncio":
                server = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0)
                server.close()
            else:
                trio.socket.socket().close()

        anyio.run(main, backend=backend)
