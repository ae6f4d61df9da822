from __future__ import annotations

import inspect
import logging
from functools import partial
from types import SimpleNamespace

import anyio
import pytest

from callsheet._engine.hooks import hook_name, run_hooks

STATE = SimpleNamespace(name="Completed")
pytestmark = pytest.mark.anyio


@pytest.fixture
def log():
    logger = logging.Logger("hooks", logging.DEBUG)  # noqa: LOG001 - one for each test
    logger.records = []
    logger.addFilter(lambda record: logger.records.append(record))
    logger.lines = lambda: [(record.levelname, record.getMessage()) for record in logger.records]
    return logger


async def call(fn, *args):
    result = fn(*args)
    if inspect.isawaitable(result):
        await result


async def test_hooks_run_in_order_sync_and_async_mixed(log):
    seen = []

    def first(flow, run, state):
        seen.append(("first", flow, run, state))

    async def second(flow, run, state, extra="x"):
        await anyio.sleep(0)
        seen.append(("second", flow, run, state))

    class Third:
        def __call__(self, flow, run, state):
            seen.append(("third", flow, run, state))

    def fourth(note, flow, run, state):
        seen.append((note, flow, run, state))

    await run_hooks([first, second, Third(), partial(fourth, "fourth")], ("f", "r", STATE), logger=log, call=call)
    assert seen == [(name, "f", "r", STATE) for name in ("first", "second", "third", "fourth")]
    assert log.lines() == [
        (level, text)
        for name in ("first", "second", "Third", "fourth")
        for level, text in [
            ("INFO", f"Running hook '{name}' in response to entering state 'Completed'"),
            ("INFO", f"Hook '{name}' finished running successfully"),
        ]
    ]


async def test_an_error_is_logged_and_the_rest_runs(log):
    seen = []

    def bad(*args):
        raise ValueError("oops")

    await run_hooks((bad, lambda *args: seen.append(args)), ("f", "r", STATE), logger=log, call=call)
    assert len(seen) == 1
    assert log.lines()[1] == ("ERROR", "An error was encountered while running hook 'bad'")
    assert log.records[1].exc_info[0] is ValueError
    assert log.lines()[-1] == ("INFO", "Hook '<lambda>' finished running successfully")


async def test_cancellation_and_interrupts_pass_through(log):
    def interrupted(*args):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        await run_hooks([interrupted], (STATE,), logger=log, call=call)

    async def waits(*args):
        await anyio.sleep_forever()

    never = []
    with anyio.CancelScope() as scope:
        scope.cancel()
        await run_hooks([waits, never.append], (STATE,), logger=log, call=call)
    assert scope.cancelled_caught
    assert not never


async def test_a_hook_may_register_another_for_the_next_time(log):
    hooks = []

    def adds(state):
        hooks.append(adds)

    hooks.append(adds)
    await run_hooks(hooks, (STATE,), logger=log, call=call)
    assert len(hooks) == 2


async def test_names_of_hooks():
    def plain():
        pass

    class Callable:
        def __call__(self):
            pass

        def method(self):
            pass

    assert hook_name(plain) == "plain"
    assert hook_name(Callable()) == "Callable"
    assert hook_name(Callable().method) == "method"
    assert hook_name(partial(partial(plain))) == "plain"
    assert hook_name(partial(Callable())) == "Callable"
