"""Which code lives in virtual time, and what is told to code that lives in another."""

from __future__ import annotations

import threading
import time

import anyio
import anyio.to_thread
import pytest

from callsheet import Engine, drive, flow, sleep, task
from callsheet.exceptions import BlockingWaitError, LostOwnership, VirtualTimeError
from callsheet.testing import MemoryEngine, VirtualTime, run_virtual

HOUR = 3600.0


@pytest.fixture(params=["asyncio", "trio"])
def backend(request):
    return request.param


@task
async def later(value):
    await anyio.sleep(HOUR)
    return value


@flow
def naps():
    sleep(HOUR)
    return 1


@flow
async def naps_async():
    await sleep(HOUR)
    return 1


def in_virtual_time(test, backend):
    """Run an asynchronous test as the plugin does."""
    virtual = VirtualTime()
    anyio.run(virtual.around(test), backend=backend)
    return virtual.elapsed


class TestAsyncCodeOfThreads:
    def test_tasks_hooks_and_conditions_live_on_the_loop_that_jumps(self, backend):
        called, loops = [], set()

        async def hook(*_):
            await anyio.sleep(HOUR)
            loops.add(threading.get_ident())
            called.append("hook")

        async def condition(*_):
            await anyio.sleep(HOUR)
            loops.add(threading.get_ident())
            return True

        @task(retries=1, retry_delay_seconds=HOUR, retry_condition_fn=condition)
        def fetch():
            if not called:
                called.append("failed")
                raise ConnectionError
            return later.submit(1).result()

        @flow(on_completion=[hook])
        def inner():
            return fetch.submit().result() + later.submit(1).result()

        @flow
        async def outer():
            return await inner.submit()

        run = run_virtual(outer, backend=backend)
        # The condition, the delay, the task below the task, the task, and the hook for which the flow around waits.
        assert (run.result, run.elapsed) == (2, 5 * HOUR)
        assert called == ["failed", "hook"]
        assert loops == {threading.get_ident()}


class TestOtherTimes:
    def test_a_second_virtual_time_in_a_run(self, backend):
        @task
        def nested():
            return run_virtual(naps).result

        @flow
        def around():
            return nested.submit().result()

        with pytest.raises(VirtualTimeError, match="by a flow or task"):
            around()
        with pytest.raises(VirtualTimeError, match="by a flow or task"):
            run_virtual(around, backend=backend).result

    def test_an_engine_of_real_time(self, backend):
        async def main():
            async with Engine(":memory:"):

                async def test():
                    with pytest.raises(VirtualTimeError, match="different times"):
                        await naps_async()
                    with pytest.raises(VirtualTimeError, match="different times"):
                        naps()

                await VirtualTime().around(test)()

        anyio.run(main, backend=backend)

    def test_code_of_real_time_in_a_virtual_engine(self, backend):
        caught = []

        def foreign():
            try:
                naps()
            except VirtualTimeError as error:
                caught.append(str(error))

        async def test():
            thread = threading.Thread(target=foreign)
            thread.start()
            thread.join()

        in_virtual_time(test, backend)
        assert len(caught) == 1

    def test_the_ambient_engine_keeps_to_real_time(self, backend):
        for _ in range(2):
            assert in_virtual_time(naps_async, backend) == HOUR

            async def test():
                await naps_async()
                assert naps() == 1

            assert in_virtual_time(test, backend) == 2 * HOUR
            before = time.monotonic()
            flow(lambda: sleep(0.01))()
            assert 0.01 <= time.monotonic() - before < 20


class TestSyncCode:
    def test_a_sync_flow_in_an_async_test(self, backend):
        async def test():
            assert naps() == 1
            assert await anyio.to_thread.run_sync(naps) == 1

        assert in_virtual_time(test, backend) == 2 * HOUR

    def test_a_wait_that_would_block_the_loop_is_told(self, backend):
        async def helper():
            naps()

        async def test():
            with pytest.raises(BaseExceptionGroup) as caught:
                async with anyio.create_task_group() as group:
                    group.start_soon(helper)
            assert caught.group_contains(BlockingWaitError, match="keeps virtual time")
            async with anyio.create_task_group() as group:
                for _ in range(3):
                    group.start_soon(drive, helper())

        assert in_virtual_time(test, backend) == HOUR


class TestCrash:
    @pytest.mark.parametrize("where", ["thread", "loop"])
    def test_async_flows_are_taken_up_on_the_loop_on_which_they_lived(self, backend, where):
        lives = []

        @task
        def from_a_thread():
            engine.crash()

        @flow
        async def order():
            lives.append(threading.get_ident())
            if len(lives) == 1 and where == "thread":
                await from_a_thread.submit()
            elif len(lives) == 1:
                engine.crash()

        async def main():
            with pytest.raises(LostOwnership):
                await order()
            return (await engine.ended(engine.history[0].run_id, timeout=30)).name

        with MemoryEngine() as engine:
            assert anyio.run(main, backend=backend) == "Completed"
        assert lives == [threading.get_ident()] * 2

    def test_in_virtual_time(self, backend):
        lives = []

        @task
        def from_a_thread():
            engine.crash()

        @flow
        async def order():
            lives.append(anyio.current_time())
            await sleep(HOUR)
            if len(lives) == 1:
                await from_a_thread.submit()
            await sleep(HOUR)

        async def test():
            nonlocal engine
            with MemoryEngine() as engine:
                with pytest.raises(LostOwnership):
                    await order()
                state = await engine.ended(engine.history[0].run_id)
                assert state.name == "Completed"

        engine = None
        assert in_virtual_time(test, backend) == 2 * HOUR
        # What is taken up is suspended during its second sleep, as in any engine that goes on with its flow.
        assert [life - lives[0] for life in lives] == [0.0, HOUR, 2 * HOUR]
