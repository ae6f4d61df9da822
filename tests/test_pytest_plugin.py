"""The pytest plugin, in test runs of its own: with the plugins of anyio, asyncio and trio, and under xdist."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import subprocess
import sys
import time

import pytest

import warm

pytest_plugins = ["pytester"]

FLOWS = """
    import anyio, asyncio, pytest
    from callsheet import flow, task, sleep
    from callsheet.testing import assert_ran_once, assert_states, override
    from callsheet.exceptions import LostOwnership

    @task(retries=3, retry_delay_seconds=3600)
    def fetch():
        raise ConnectionError

    @task
    def charge():
        return 1

    @flow
    async def shop():
        charge()
        return await fetch.submit()
"""
ASYNC_TEST = """
    async def test_a_day(virtual_clock, engine):
        before = virtual_clock.now
        with pytest.raises(ConnectionError):
            await shop()
        await sleep(86400 - 3 * 3600)
        assert virtual_clock.elapsed == 86400.0
        assert (virtual_clock.now - before).days == 1
        assert_states(engine, "fetch-0", ["Pending", "Running", ("AwaitingRetry", 0.0), ("Retrying", 3600.0),
            "AwaitingRetry", "Retrying", "AwaitingRetry", ("Retrying", 10800.0), ("Failed", 10800.0)])
        assert_ran_once(engine, charge)

    async def test_without_an_engine(virtual_clock):
        await sleep(86400)
        flow(lambda: sleep(3600))()
        with pytest.raises(ConnectionError):
            await shop()
        assert virtual_clock.elapsed == 86400.0 + 4 * 3600

    async def test_real_time_without_the_clock(engine):
        import time
        before = time.monotonic()
        await sleep(0.05)
        assert time.monotonic() - before >= 0.05

    async def test_a_crash(engine):
        import sys
        running = flow_is_running = []

        @flow
        async def order():
            charge()
            if not running:
                running.append(1)
                engine.crash()
            return "delivered"

        with pytest.raises(LostOwnership):
            await order()
        state = await engine.ended(engine.history[0].run_id, timeout=30)
        assert state.name == "Completed"
        assert_ran_once(engine, charge)
"""

# What is imported already is not rewritten for its assertions, and pytest would say so.
PYTEST = "import pytest; raise SystemExit(pytest.main())"
NAMES = ("randomly", "cacheprovider", "faker", "hypothesispytest", "pytest_cov", "timeout")
ASYNC_NAMES = ("asyncio", "trio")  # the latter imports hypothesis
WITHOUT = ["-Wignore::pytest.PytestAssertRewriteWarning"]
"""Plugins that have nothing to do with ours; some take longer to import than the tests take."""


@pytest.fixture
def run(pytester):
    def run(source, *options, marks="", config="", beside=()):
        import textwrap

        pytester.makeini(f"[pytest]\n{config}")
        pytester.makepyfile(textwrap.dedent(FLOWS) + "\n" + marks + "\n" + textwrap.dedent(source))
        since = time.monotonic()
        blocked = [f"-pno:{name}" for name in (*NAMES, *ASYNC_NAMES) if name not in beside]
        done = warm.run(PYTEST, *blocked, *WITHOUT, *options, check=False)
        print(done.stdout, done.stderr)
        return pytest.RunResult(
            done.returncode, done.stdout.splitlines(), done.stderr.splitlines(), time.monotonic() - since
        )

    return run


def needs(module):
    return pytest.mark.skipif(importlib.util.find_spec(module) is None, reason=f"{module} is not installed")


class TestWithOtherPlugins:
    @pytest.mark.parametrize("backend", ["asyncio", "trio"])
    def test_anyios(self, run, backend):
        fixture = f"@pytest.fixture\ndef anyio_backend():\n    return {backend!r}\npytestmark = pytest.mark.anyio\n"
        run(ASYNC_TEST, marks=fixture, beside=ASYNC_NAMES).assert_outcomes(passed=4)

    @needs("pytest_asyncio")
    @pytest.mark.parametrize("config", ["asyncio_mode = auto", "asyncio_mode = strict"])
    def test_pytest_asyncio(self, run, config):
        marks = "pytestmark = pytest.mark.asyncio\n" if "strict" in config else ""
        run(ASYNC_TEST, marks=marks, config=config, beside=["asyncio"]).assert_outcomes(passed=4)

    @needs("pytest_asyncio")
    def test_pytest_asyncio_with_one_loop_for_all(self, run):
        marks = 'pytestmark = pytest.mark.asyncio(loop_scope="module")\n'
        run(ASYNC_TEST, marks=marks, beside=["asyncio"]).assert_outcomes(passed=4)

    @needs("pytest_trio")
    def test_pytest_trio(self, run):
        run(ASYNC_TEST, config="trio_mode = true\n", beside=["trio"]).assert_outcomes(passed=4)

    def test_xdist(self, run):
        marks = "@pytest.fixture\ndef anyio_backend():\n    return 'asyncio'\npytestmark = pytest.mark.anyio\n"
        run(ASYNC_TEST, "-n", "2", marks=marks).assert_outcomes(passed=4)

    @needs("uvloop")
    def test_uvloop_has_no_virtual_time(self, run):
        marks = (
            "@pytest.fixture\ndef anyio_backend():\n    return ('asyncio', {'use_uvloop': True})\n"
            "pytestmark = pytest.mark.anyio\n"
        )
        result = run("async def test_it(virtual_clock):\n    pass\n", marks=marks)
        result.assert_outcomes(failed=1)
        result.stdout.fnmatch_lines(["*VirtualTimeError: There is no virtual time on uvloop.Loop*"])


class TestPlainTests:
    def test_fixtures(self, run):
        run("""
            def test_engine(engine):
                @flow
                def order():
                    return charge()

                assert order() == 1
                assert_states(engine, "order", ["Pending", "Running", "Completed"])

            def test_it_is_fresh(engine):
                assert engine.history == []

            @pytest.mark.parametrize("backend", ["asyncio", "trio"])
            def test_clock(virtual_clock, backend):
                run = virtual_clock.run(shop, backend=backend)
                assert run.elapsed == 10800.0

            class TestMethods:
                def test_method(self, engine):
                    with override(charge, raises=KeyError("none")) as stub, pytest.raises(KeyError):
                        flow(lambda: charge())()
                    assert len(stub.calls) == 1
                    assert_states(engine, "charge-0", ["Pending", "Running", "Failed"])
        """).assert_outcomes(passed=5)

    def test_methods_that_are_async(self, run):
        run("""
            @pytest.fixture
            def anyio_backend():
                return "asyncio"

            @pytest.mark.anyio
            class TestMethods:
                @pytest.mark.parametrize("days", [1, 2])
                async def test_method(self, virtual_clock, days):
                    await anyio.sleep(86400 * days)
                    assert virtual_clock.elapsed == 86400.0 * days
        """).assert_outcomes(passed=2)

    def test_an_own_fixture_wins(self, run):
        run("""
            @pytest.fixture
            def engine():
                return "mine"

            def test_it(engine):
                assert engine == "mine"
        """).assert_outcomes(passed=1)

    def test_diffs_are_readable(self, run):
        result = run("""
            def test_states(virtual_clock):
                run = virtual_clock.run(shop)
                assert_states(run, "charge-0", ["Pending", "Running", "Failed"])

            def test_once(virtual_clock):
                assert_ran_once(virtual_clock.run(shop))
        """)
        result.assert_outcomes(failed=2)
        result.stdout.fnmatch_lines(
            [
                "*AssertionError: 'charge-0' went through other states (- expected, + entered):",
                "*   Pending",
                "*   Running",
                "* - Failed",
                "* ? Completed".replace("?", "+"),
                "*AssertionError: 'fetch' was started 4 times, not once:",
                "*0.0 s  fetch-0  Running",
                "*10800.0 s  fetch-0  Retrying",
            ]
        )


class TestItsCost:
    def test_it_is_registered(self):
        found = importlib.metadata.entry_points(group="pytest11", name="callsheet")
        assert [entry.value for entry in found] == ["callsheet._pytest_plugin"]

    def test_it_imports_nothing_of_the_engine(self):
        script = (
            "import pytest, sys; before = set(sys.modules); import callsheet._pytest_plugin; "
            "print(*sorted(name for name in set(sys.modules) - before))"
        )
        found = subprocess.run(
            [sys.executable, "-c", script], capture_output=True, text=True, check=True
        ).stdout.split()
        assert [name for name in found if name.startswith("callsheet")] == [
            "callsheet",
            "callsheet._pytest_plugin",
            "callsheet._version",
        ]
        assert not {"anyio", "trio", "msgspec", "pydantic", "structlog", "sqlite3"} & set(found)

    def test_programs_do_not_import_pytest(self):
        script = "import callsheet, callsheet.testing, sys; print('pytest' in sys.modules)"
        found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
        assert found.strip() == "False"
