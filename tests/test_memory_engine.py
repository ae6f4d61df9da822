"""An engine for one test: quick to have, mortal, and what is asserted and put in the place of bodies in it."""

from __future__ import annotations

import asyncio
import threading
import time
import unittest

import anyio
import pytest

from callsheet import flow, task
from callsheet.exceptions import EngineClosed, LostOwnership
from callsheet.testing import MemoryEngine, assert_ran_once, assert_states, override, run_virtual


class TestLife:
    def test_it_opens_and_closes_in_under_twenty_milliseconds(self):
        def once():
            began = time.perf_counter()
            with MemoryEngine():
                pass
            return time.perf_counter() - began

        once()  # imports
        assert min(once() for _ in range(10)) < 0.02

    def test_it_is_used_by_runs_in_every_place(self):
        @flow
        def sync_flow():
            return 1

        @flow
        async def async_flow():
            return 2

        with MemoryEngine() as engine:
            sync_flow()
            asyncio.run(async_flow())
            thread = threading.Thread(target=sync_flow)
            thread.start()
            thread.join()
            assert [one.run for one in engine.history if one.state == "Completed"] == [
                "sync-flow",
                "async-flow",
                "sync-flow-1",
            ]

    def test_a_closed_one_is_not_used(self):
        engine = MemoryEngine()
        with pytest.raises(EngineClosed):
            engine.history
        with engine, pytest.raises(RuntimeError, match="open already"):
            engine.__enter__()
        assert not engine.usable

    def test_in_unittest(self):
        class Case(unittest.TestCase):
            def test(self):
                engine = self.enterContext(MemoryEngine())
                assert flow(lambda: 1)() == 1
                assert len(engine.history) == 3

        result = unittest.TestResult()
        Case("test").run(result)
        assert result.wasSuccessful(), result.errors


class TestCrash:
    @pytest.mark.parametrize("colour", ["sync", "async"])
    def test_in_the_body_of_a_run(self, colour):
        done, lives = [], []

        @task
        def charge(x):
            done.append(x)
            return x

        @flow
        def order():
            first = charge(1)
            lives.append(1)
            if len(lives) == 1:
                engine.crash()
                done.append("not reached")
            charge(first + 1)

        @flow
        async def async_order():
            order.fn()

        with MemoryEngine() as engine:

            async def main():
                with pytest.raises(LostOwnership, match="crash"):
                    await async_order()
                return await engine.ended(engine.history[0].run_id, timeout=30)

            if colour == "sync":
                with pytest.raises(LostOwnership, match="crash"):
                    order()
                state = engine.ended(engine.history[0].run_id, timeout=30)
            else:
                state = asyncio.run(main())
            assert state.is_completed()
            assert done == [1, 2]
            assert [one.state for one in engine.history if one.kind == "flow"] == [
                "Pending", "Running", "Pending", "Running", "Completed"
            ]  # fmt: skip

    @pytest.mark.parametrize("backend", ["asyncio", "trio"])
    def test_runs_in_the_background_are_cut_off(self, backend):
        lives, errors = [], []

        @flow
        async def service():
            lives.append(1)
            if len(lives) == 1:
                await anyio.sleep_forever()

        async def call():
            try:
                await service()
            except LostOwnership as error:
                errors.append(error)

        async def main():
            with MemoryEngine() as engine:
                async with anyio.create_task_group() as group:
                    group.start_soon(call)
                    while not lives:
                        await anyio.sleep(0.001)
                    (cut_off,) = engine.crash()
                state = await engine.ended(cut_off, timeout=30)
                assert state.is_completed()

        anyio.run(main, backend=backend)
        assert (len(lives), len(errors)) == (2, 1)

    def test_what_was_only_in_memory_is_lost(self, monkeypatch):
        @task
        def step():
            return 1

        @flow
        def order():
            step()
            monkeypatch.setattr(engine.core.journal, "_take", list)  # the disk is slow
            step()
            engine.crash(at_once=True)

        @flow
        def before():
            return 1

        with MemoryEngine(durability="relaxed") as engine:
            before()
            assert len(engine.history) == 3
            with pytest.raises(LostOwnership):
                order()
            known = [one.run for one in engine.history]
            assert known[:3] == ["before"] * 3
            assert "step-1" not in known

    def test_it_can_be_killed_again_and_again(self):
        lives = []

        @flow
        def order():
            lives.append(1)
            if len(lives) < 4:
                engine.crash()

        with MemoryEngine() as engine:
            with pytest.raises(LostOwnership):
                order()
            state = engine.ended(engine.history[0].run_id, timeout=30)
        assert (len(lives), state.name) == (4, "Completed")

    def test_without_runs(self):
        with MemoryEngine() as engine:
            flow(lambda: 1)()
            assert engine.crash() == []
            assert flow(lambda: 2)() == 2
            assert len(engine.history) == 6

    def test_nothing_is_kept_at_off(self):
        with MemoryEngine(durability="off") as engine, pytest.raises(ValueError, match="off"):
            engine.crash()


class TestOverride:
    def test_what_it_returns_raises_and_calls(self):
        @task(retries=1)
        def fetch(x):
            return x

        @flow
        def around(x):
            return fetch(x)

        with MemoryEngine() as engine:
            with override(fetch, returns=7) as stub:
                assert around(1) == 7
            assert stub.calls == [((1,), {})]
            with override(fetch, raises=KeyError("gone")) as stub, pytest.raises(KeyError):
                around(1)
            assert len(stub.calls) == 2
            with override(fetch, calls=lambda x: x * 100):
                assert around(2) == 200
            assert around(3) == 3
            assert_states(engine, "fetch-1", ["Pending", "Running", "Retrying", "Failed"])

    @pytest.mark.parametrize("colour", ["sync", "async"])
    def test_async_ones(self, colour):
        @task
        async def fetch(x):
            return x

        @flow
        async def around(x):
            return await fetch(x) + await fetch.submit(x)

        async def later(x):
            await anyio.sleep(1)
            return x * 10

        with override(fetch, calls=later if colour == "async" else lambda x: x * 10):
            assert run_virtual(around, 1).result == 20

    @pytest.mark.parametrize(
        "options", [{}, {"returns": 1, "raises": KeyError}, {"calls": anyio.sleep}], ids=["none", "two", "colour"]
    )
    def test_what_it_does_not_take(self, options):
        with pytest.raises(TypeError), override(task(lambda: 1), **options):
            pass
        with pytest.raises(TypeError), override(len, returns=1):
            pass


class TestAssertions:
    def test_what_is_not_there(self):
        run = run_virtual(flow(lambda: 1, name="one"))
        with pytest.raises(AssertionError, match=r"no run 'two' in this history; there are: one\."):
            assert_states(run, "two", [])
        with pytest.raises(AssertionError, match=r"'two' was never started\."):
            assert_ran_once(run, "two")
        assert_ran_once(run.history, "one")
        with pytest.raises(AssertionError, match=r"\+ Completed at 0\.0 s"):
            assert_states(run, "one", ["Pending", "Running", ("Completed", 1.0)])
