"""Sync frames that wait in async code: when they may, what they get back, and what is left behind."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import gc
import subprocess
import sys
import threading
import time
import traceback
import weakref
from typing import Any

import anyio
import greenlet
import pytest

import warm
from callsheet._kernel import driver
from callsheet._kernel.driver import current_backend_task, drive, is_driven, parking, wait
from callsheet._kernel.steppers import Parking
from callsheet.exceptions import BlockingWaitError
from callsheet.settings import temporary_settings

pytestmark = pytest.mark.anyio


async def later(value: Any = None, times: int = 1) -> Any:
    for _ in range(times):
        await anyio.lowlevel.checkpoint()
    return value


async def failing(error: BaseException) -> None:
    await anyio.lowlevel.checkpoint()
    raise error


async def on_wait(*args: Any) -> Any:
    """The coroutine that most tests drive: a sync frame inside it waits."""
    return wait(later(*args))


@pytest.fixture
def asyncio_only(anyio_backend):
    if anyio_backend[0] != "asyncio":
        pytest.skip("speaks of asyncio's own tasks")


@pytest.fixture
def runner(anyio_backend):
    """A loop of its own for tests that look at what a loop leaves behind."""
    name, options = anyio_backend
    return lambda fn, *args: anyio.run(fn, *args, backend=name, backend_options=options)


# ------------------------------------------------------------------------------------------- what a wait gives


async def test_a_sync_frame_gets_the_value():
    async def body():
        return [wait(later(n, n)) for n in range(4)]

    assert await drive(body()) == [0, 1, 2, 3]


async def test_the_loop_goes_on_meanwhile():
    order = []
    parked, go = anyio.Event(), anyio.Event()

    async def body():
        order.append("waits")
        parked.set()
        wait(go.wait())
        order.append("goes on")

    async with anyio.create_task_group() as group:
        group.start_soon(drive, body())
        await parked.wait()
        order.append("other")
        go.set()
    assert order == ["waits", "other", "goes on"]


async def test_anything_awaitable_can_be_driven_and_waited_for():
    class Later:
        def __init__(self, value):
            self.value = value

        def __await__(self):
            return later(self.value).__await__()

    async def body():
        return wait(Later(1)), await Later(2)

    assert await drive(body()) == (1, 2)
    assert await drive(Later(3)) == 3


async def test_what_cannot_be_awaited_is_refused_in_the_sync_frame():
    async def body():
        with pytest.raises((TypeError, AttributeError)):
            wait(3)  # type: ignore[arg-type]
        return wait(later("and on"))

    assert await drive(body()) == "and on"


async def test_waits_nest_through_a_drive_of_their_own():
    async def deeper(n):
        return n if n == 0 else 1 + wait(drive(deeper(n - 1)))

    assert await drive(deeper(20)) == 20


async def test_a_wait_inside_a_plain_awaited_wait_is_not_driven():
    async def body():
        with pytest.raises(BlockingWaitError):
            wait(on_wait())
        return wait(drive(on_wait(5)))

    assert await drive(body()) == 5


async def test_a_drive_in_a_driven_task_adds_nothing():
    async def outer():
        before = greenlet.getcurrent()

        async def inner():
            assert greenlet.getcurrent() is before
            return await on_wait(1)

        return await drive(inner())

    assert await drive(outer()) == 1


def test_without_a_loop_a_drive_is_a_plain_await():
    async def plain():
        return is_driven()

    with pytest.raises(StopIteration) as stop:
        drive(plain()).send(None)
    assert stop.value.value is False


@pytest.mark.filterwarnings("ignore:coroutine .* was never awaited")  # the last one, for which there was no room
def test_endless_recursion_through_waits_is_a_recursion_error(runner):
    async def deeper():
        return wait(drive(deeper()))

    with pytest.raises(RecursionError):
        runner(drive, deeper())
    gc.collect()
    assert runner(drive, on_wait("alive")) == "alive"


def test_stacks_made_deep_in_a_recursion_are_not_kept(runner):
    def room() -> int:
        try:
            return 1 + room()
        except RecursionError:
            return 1

    async def deep(n):
        if n:
            return await deep(n - 1)
        return await drive(on_wait())

    async def measure():
        return room()

    async def main():
        while driver.parking().idle:
            driver.parking().idle.pop()
        await deep(400)
        return await drive(measure())

    assert runner(main) > sys.getrecursionlimit() * 0.6


# ----------------------------------------------------------------------------------------------- who is driven


async def test_an_undriven_task_is_told_what_to_write():
    async def helper():
        assert not is_driven()
        with pytest.raises(BlockingWaitError, match=r"`await future`.*`await callsheet\.drive\(coro\)`"):
            wait(later())

    await helper()
    async with anyio.create_task_group() as group:
        group.start_soon(helper)


async def test_children_of_a_driven_task_are_not_driven():
    async def child():
        with pytest.raises(BlockingWaitError):
            wait(later())
        return is_driven()

    async def body():
        async with anyio.create_task_group() as group:
            group.start_soon(child)
        assert is_driven()
        return wait(later("mine"))

    assert await drive(body()) == "mine"


async def test_children_by_every_native_way(asyncio_only):
    async def child():
        driven = is_driven()
        with pytest.raises(BlockingWaitError):
            wait(later())
        await asyncio.sleep(0)
        return driven or is_driven()

    async def body():
        found = await asyncio.gather(child(), child())
        found.append(await asyncio.create_task(child()))
        found.append(await asyncio.wait_for(asyncio.ensure_future(child()), 5))
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(child()) for _ in range(2)]
        found += [task.result() for task in tasks]
        assert is_driven()
        return found, wait(later("mine"))

    assert await drive(body()) == ([False] * 6, "mine")


async def test_driven_children_wait_beside_their_parent(asyncio_only):
    async def body():
        tasks = [asyncio.create_task(drive(on_wait(n, n))) for n in range(5)]
        mine = wait(later("mine", 3))
        return mine, await asyncio.gather(*tasks, drive(on_wait("last")))

    assert await drive(body()) == ("mine", [0, 1, 2, 3, 4, "last"])


@pytest.mark.skipif(sys.version_info < (3, 12), reason="eager tasks came with 3.12")
async def test_an_eager_child_does_not_use_its_parents_driver(asyncio_only):
    async def child():
        try:
            return wait(later("wrong"))
        except BlockingWaitError:
            return "refused"

    async def parent():
        loop = asyncio.get_running_loop()
        plain = asyncio.Task(child(), loop=loop, eager_start=True)  # type: ignore[call-arg,unused-ignore]
        assert plain.done() and plain.result() == "refused"
        assert is_driven()
        own = asyncio.Task(drive(on_wait("own", 3)), loop=loop, eager_start=True)  # type: ignore[call-arg,unused-ignore]
        quick = asyncio.Task(drive(later("quick", 0)), loop=loop, eager_start=True)  # type: ignore[call-arg,unused-ignore]
        assert quick.done()
        assert is_driven()
        return wait(later("parent")), await own, quick.result()

    assert await drive(parent()) == ("parent", "own", "quick")


def test_switching_can_be_forbidden(runner):
    async def body():
        with (
            temporary_settings({"CALLSHEET_BLOCKING_WAITS": "error"}),
            pytest.raises(BlockingWaitError, match="CALLSHEET_BLOCKING_WAITS=error"),
        ):
            wait(later())
        return is_driven()

    assert runner(drive, body())
    assert runner(drive, on_wait(1)) == 1


def test_the_current_task_is_known_only_inside_a_loop(runner):
    async def main():
        return current_backend_task()

    assert current_backend_task() is None
    assert runner(main) is not None
    assert current_backend_task() is None


async def test_a_callback_of_the_loop_has_no_task(asyncio_only):
    seen = []
    asyncio.get_running_loop().call_soon(lambda: seen.append((current_backend_task(), is_driven())))
    await drive(later(times=2))
    assert seen == [(None, False)]


# -------------------------------------------------------------------------------------------------- cancellation


async def test_a_scope_cancels_a_parked_frame():
    seen = []

    def frame():
        try:
            wait(anyio.sleep_forever())
        finally:
            seen.append("finally")

    async def body():
        with anyio.CancelScope() as scope:
            scope.cancel()
            frame()
        assert scope.cancelled_caught
        with anyio.move_on_after(0.01) as scope:
            frame()
        assert scope.cancelled_caught
        return wait(later("on"))

    assert await drive(body()) == "on"
    assert seen == ["finally"] * 2


async def test_a_scope_entered_in_the_sync_frame_works():
    def frame():
        with anyio.move_on_after(0.01) as scope:
            wait(anyio.sleep_forever())
        return scope.cancelled_caught

    async def body():
        return frame()

    assert await drive(body())


async def test_a_group_cancels_its_parked_children():
    ended = []
    started = [anyio.Event() for _ in range(3)]

    async def body(n):
        try:
            started[n].set()
            wait(anyio.sleep_forever())
        finally:
            ended.append(n)

    async with anyio.create_task_group() as group:
        for n in range(3):
            group.start_soon(drive, body(n))
        for event in started:
            await event.wait()
        group.cancel_scope.cancel()
    assert sorted(ended) == [0, 1, 2]


async def test_native_cancellation_and_timeouts(asyncio_only):
    async def forever():
        wait(anyio.sleep_forever())

    async def body():
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await forever()
        task = asyncio.current_task()
        asyncio.get_running_loop().call_soon(task.cancel, "enough")
        with pytest.raises(asyncio.CancelledError, match="enough"):
            await forever()
        task.uncancel()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            wait(later())
        task.uncancel()
        return wait(later("on"))

    assert await drive(body()) == "on"


async def test_a_drive_that_is_cancelled_before_it_begins_is_quiet(asyncio_only):
    task = asyncio.create_task(drive(later()))
    if not task.done():  # an eager one has begun
        task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
    with anyio.CancelScope() as scope:
        async with anyio.create_task_group() as group:
            group.start_soon(drive, on_wait())
            scope.cancel()
    gc.collect()  # a warning of a coroutine that was never awaited would fail this test


async def test_a_frame_may_wait_while_it_is_cancelled(asyncio_only):
    async def body():
        try:
            wait(anyio.sleep_forever())
        finally:
            seen.append(wait(later("cleaned")))

    seen: list[str] = []
    task = asyncio.create_task(drive(body()))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert seen == ["cleaned"]


# ------------------------------------------------------------------------------------------------------- errors


class Boom(Exception):
    pass


async def test_errors_keep_their_identity_cause_and_context():
    error, cause = Boom("b"), KeyError("c")

    async def fails():
        await later()
        try:
            raise ValueError("inner")
        except ValueError:
            raise error from cause

    async def body():
        try:
            raise LookupError("outer")
        except LookupError:
            wait(fails())

    with pytest.raises(Boom) as caught:
        try:
            raise OSError("outermost")
        except OSError:
            await drive(body())
    assert caught.value is error
    assert error.__cause__ is cause
    assert isinstance(error.__context__, ValueError)


async def test_an_error_without_a_context_gets_the_handled_one():
    async def body():
        try:
            raise LookupError("outer")
        except LookupError:
            wait(failing(Boom()))

    with pytest.raises(Boom) as caught:
        await drive(body())
    assert isinstance(caught.value.__context__, LookupError)


async def test_tracebacks_name_the_users_frames():
    def sync_frame():
        wait(failing(Boom("x")))

    async def body():
        await later()
        sync_frame()

    with pytest.raises(Boom) as caught:
        await drive(body())
    names = [frame.name for frame in traceback.extract_tb(caught.value.__traceback__)]
    positions = [names.index(name) for name in ("_begin", "body", "sync_frame", "wait", "failing")]
    assert positions == sorted(positions)
    assert "_serve" not in names


@pytest.mark.parametrize("kind", [Boom, KeyboardInterrupt, SystemExit, StopAsyncIteration, greenlet.GreenletExit])
async def test_errors_of_every_kind_pass(kind):
    if kind is not StopAsyncIteration and not issubclass(kind, Exception):
        error = kind()

        async def raises():
            await later()
            raise error

        with pytest.raises(kind) as caught:
            await drive(raises())
        assert caught.value is error

    async def body():
        with pytest.raises(kind):
            wait(failing(kind()))
        return "on"

    assert await drive(body()) == "on"
    assert await drive(on_wait(1)) == 1


async def test_handled_errors_belong_to_their_own_frames():
    async def body(n):
        try:
            raise Boom(n)
        except Boom as error:
            wait(later(times=3))
            assert sys.exc_info()[1] is error

    async with anyio.create_task_group() as group:
        for n in range(5):
            group.start_soon(drive, body(n))


# --------------------------------------------------------------------------------------------- context variables

VARIABLE: contextvars.ContextVar[int] = contextvars.ContextVar("VARIABLE", default=0)


async def test_context_variables_are_the_tasks_own():
    async def asked():
        assert VARIABLE.get() == 2
        VARIABLE.set(3)
        await later()

    async def body():
        assert VARIABLE.get() == 1
        VARIABLE.set(2)
        wait(asked())
        assert VARIABLE.get() == 3
        await later()
        VARIABLE.set(4)

    VARIABLE.set(1)
    await drive(body())
    assert VARIABLE.get() == 4


async def test_a_context_entered_in_a_sync_frame_survives_its_wait():
    def frame():
        VARIABLE.set(7)
        wait(later(times=2))
        return VARIABLE.get()

    async def body():
        return contextvars.copy_context().run(frame), VARIABLE.get()

    VARIABLE.set(1)
    assert await drive(body()) == (7, 1)


async def test_tasks_do_not_see_each_others_variables():
    async def body(n):
        VARIABLE.set(n)
        for _ in range(3):
            wait(later())
            await later()
            assert VARIABLE.get() == n

    async with anyio.create_task_group() as group:
        for n in range(10):
            group.start_soon(drive, body(n))


# ----------------------------------------------------------------------------------------------------- generators


async def test_generators_are_driven_step_by_step():
    async def counting():
        try:
            for n in range(3):
                yield wait(later(n))
        finally:
            closed.append(wait(later("closed")))

    closed: list[str] = []
    generator = counting()
    assert await drive(generator.__anext__()) == 0
    assert await drive(generator.asend(None)) == 1
    with pytest.raises(BlockingWaitError):
        wait(later())
    assert await drive(generator.__anext__()) == 2
    with pytest.raises(StopAsyncIteration):
        await drive(generator.__anext__())
    assert closed == ["closed"]
    generator = counting()
    await drive(generator.__anext__())
    await drive(generator.aclose())
    assert closed == ["closed"] * 2


# ------------------------------------------------------------------------------------- greenlets of other libraries


async def spawn(fn, *args):
    """Run a sync function the way SQLAlchemy's async layer does: its greenlet outlives steps of the task."""
    child = greenlet.greenlet(fn, greenlet.getcurrent())
    child.gr_context = greenlet.getcurrent().gr_context
    result = child.switch(*args)
    while not child.dead:
        try:
            value = await result
        except BaseException:
            result = child.throw(*sys.exc_info())
        else:
            result = child.switch(value)
    return result


def await_only(awaitable):
    return greenlet.getcurrent().parent.switch(awaitable)


async def test_waits_and_foreign_switches_mix():
    def session(n):
        seen = [await_only(later(n, 1 + n % 3)), wait(later(n + 1, 2))]
        with pytest.raises(Boom):
            await_only(failing(Boom()))
        with pytest.raises(Boom):
            wait(failing(Boom()))
        return [*seen, await_only(drive(on_wait(n + 2))), wait(drive(spawn(deeper, n))), await_only(later(n + 3))]

    def deeper(n):
        return wait(later(await_only(later(n))))

    async def body(n):
        await later(times=n % 4)
        found = await spawn(session, n)
        return found, wait(later("after"))

    async def check(n):
        assert await drive(body(n)) == ([n, n + 1, n + 2, n, n + 3], "after")

    async with anyio.create_task_group() as group:
        for n in range(12):
            group.start_soon(check, n)
    assert all(stepper.owner is None for stepper in driver.parking().idle)


async def test_a_wait_through_a_driver_that_is_itself_waiting_is_refused():
    """A greenlet that hangs on a parked stepper could be resumed by what its driver awaits."""
    box = []

    def hanging():
        greenlet.getcurrent().parent.switch()
        with pytest.raises(BlockingWaitError):
            wait(later())
        seen.append(is_driven())
        back.switch()

    async def meddles():
        nonlocal back
        back = greenlet.getcurrent()
        box[0].switch()
        return "answer"

    async def body():
        box.append(greenlet.greenlet(hanging))
        box[0].switch()
        return wait(meddles())

    back: Any = None
    seen: list[bool] = []
    assert await drive(body()) == "answer"
    assert seen == [False]
    box.clear()


async def test_a_drive_inside_a_foreign_greenlet():
    def session():
        return await_only(drive(on_wait(1))), await_only(drive(on_wait(2)))

    assert await spawn(session) == (1, 2)


# ---------------------------------------------------------------------------------------------- nothing is left


async def test_failures_leave_no_cyclic_garbage():
    async def quiet(make):
        with contextlib.suppress(Boom):
            await make()

    async def fails():
        await later()
        raise Boom  # an error in a local variable of its own frame would be a cycle of the test's

    async def in_wait():
        wait(fails())

    async def handled():
        with contextlib.suppress(Boom):
            wait(fails())
        await in_wait()

    async def plain():
        raise Boom

    async def main():
        for make in (plain, in_wait, handled):
            await quiet(lambda make=make: drive(make()))

    await main()
    gc.collect()
    gc.disable()

    async def left_behind() -> int:
        for _ in range(20):
            await main()
        return gc.collect()

    try:
        # Again, if there is any: a thread of an earlier test may have ended meanwhile, but that comes once.
        assert not await left_behind() or not await left_behind()
    finally:
        gc.enable()


async def test_the_pool_holds_nothing_of_its_users():
    class Token:
        pass

    token = Token()
    error = Boom()
    references = [weakref.ref(token), weakref.ref(error)]

    async def body(token, error):
        VARIABLE.set(token)
        wait(later(token))
        wait(failing(error))

    async def main(token, error):
        try:
            await drive(body(token, error))
        except Boom:
            VARIABLE.set(0)

    task = contextvars.copy_context().run(main, token, error)
    await task
    del task, token, error
    gc.collect()
    assert [reference() for reference in references] == [None, None]


def test_nothing_is_alive_after_the_loop(runner):
    references = []

    class Local:
        pass

    async def body():
        local = Local()
        references.extend([weakref.ref(local), weakref.ref(current_backend_task())])
        wait(later())
        return local

    async def main():
        async with anyio.create_task_group() as group:
            for _ in range(5):
                group.start_soon(drive, body())

    runner(main)
    gc.collect()
    assert not any(reference() for reference in references)
    assert not driver.parking().parked


def test_the_loops_end_cancels_parked_frames():
    seen = []

    def frame():
        try:
            wait(asyncio.Event().wait())
        except asyncio.CancelledError:
            seen.append("cancelled")
            raise
        finally:
            seen.append("finally")

    async def body():
        frame()

    async def main():
        task = asyncio.create_task(drive(body()))
        await asyncio.sleep(0)
        assert len(driver.parking().frames()) == 1
        return weakref.ref(task)

    task = asyncio.run(main())
    gc.collect()
    assert task() is None
    assert seen == ["cancelled", "finally"]
    assert not driver.parking().parked


def leave_behind(*bodies):
    """End a loop the rough way: its tasks stay where they are."""
    loop = asyncio.new_event_loop()
    loop.set_exception_handler(lambda *_: None)  # "Task was destroyed": asyncio's own notice of what is done here
    tasks = [loop.create_task(drive(body)) for body in bodies]
    loop.run_until_complete(asyncio.sleep(0))
    loop.run_until_complete(asyncio.sleep(0))
    loop.close()
    return tasks


def test_abandoned_frames_are_cancelled():
    seen = []

    async def waits(name, *, awaits=False):
        try:
            wait(asyncio.Event().wait())
        except asyncio.CancelledError as error:
            seen.append((name, str(error)))
            raise
        finally:
            assert not is_driven()
            with pytest.raises(BlockingWaitError):
                wait(later())
            if awaits:
                await later()

    async def nested():
        try:
            wait(drive(waits("inner")))
        except asyncio.CancelledError:
            seen.append("outer")
            raise

    tasks = leave_behind(waits("first"), waits("awaits", awaits=True), nested())
    assert driver.abandon_parked("the loop ended") == 4
    expected = {("first", "the loop ended"), ("awaits", "the loop ended"), ("inner", "the loop ended"), "outer"}
    assert set(seen) == expected
    assert len(seen) == 4
    assert not driver.parking().parked
    assert driver.abandon_parked("again") == 0
    del tasks
    gc.collect()


def test_an_abandoned_body_that_refuses_to_end_stops_nobody():
    async def stubborn():
        try:
            wait(asyncio.Event().wait())
        finally:
            with contextlib.suppress(GeneratorExit):
                await asyncio.Event().wait()
            await asyncio.Event().wait()

    async def gentle():
        try:
            wait(asyncio.Event().wait())
        finally:
            ended.append(True)

    ended: list[bool] = []
    tasks = leave_behind(gentle(), stubborn())
    assert driver.abandon_parked("over") == 2
    assert ended == [True]
    del tasks
    gc.collect()


def test_a_task_goes_on_after_its_frame_was_abandoned():
    async def body():
        with pytest.raises(asyncio.CancelledError):
            wait(asyncio.sleep(0, "late"))
        return "ended"

    async def main():
        task = asyncio.create_task(drive(body()))
        await asyncio.sleep(0)
        assert driver.abandon_parked("early") == 1
        return await task

    assert asyncio.run(main()) == "ended"


def test_parked_frames_that_nobody_finishes_are_unwound():
    seen = []

    async def body():
        try:
            wait(asyncio.Event().wait())
        finally:
            with pytest.raises(BlockingWaitError):
                wait(later())
            seen.append("finally")

    tasks = leave_behind(body(), body())
    del tasks
    gc.collect()
    assert seen == ["finally"] * 2
    assert not driver.parking().parked


def test_what_is_closed_by_hand():
    seen = []

    async def body(sync):
        try:
            if sync:
                wait(asyncio.Event().wait())
            await asyncio.Event().wait()
        except GeneratorExit:
            seen.append(sync)
            raise

    async def main():
        async def first_step(sync):
            return await drive(body(sync))

        tasks = [asyncio.ensure_future(first_step(sync)) for sync in (True, False)]
        await asyncio.sleep(0)
        return tasks

    loop = asyncio.new_event_loop()
    loop.set_exception_handler(lambda *_: None)
    tasks = loop.run_until_complete(main())
    loop.close()
    for task in tasks:
        task.get_coro().close()
    assert seen == [True, False]
    del tasks, task
    gc.collect()


def test_frames_dropped_by_another_thread_leave_no_noise():
    box = []

    async def body():
        wait(asyncio.Event().wait())

    def other():
        box.extend(leave_behind(body(), later(times=5)))

    thread = threading.Thread(target=other)
    thread.start()
    thread.join()
    box.clear()
    gc.collect()


def test_every_thread_has_its_own_stacks(runner):
    results = []

    def work():
        results.append(asyncio.run(drive(on_wait(threading.get_ident()))))

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 8
    assert runner(drive, on_wait(1)) == 1


async def test_a_thousand_parked_at_once():
    parked, go = 0, anyio.Event()
    results = []

    async def body(n):
        nonlocal parked
        parked += 1
        if parked == 1000:
            go.set()
        wait(go.wait())
        results.append(wait(later(n)))

    async with anyio.create_task_group() as group:
        for n in range(1000):
            group.start_soon(drive, body(n))
    assert sorted(results) == list(range(1000))
    assert not driver.parking().parked
    assert len(driver.parking().idle) <= 128


async def test_a_watchdog_sees_where_frames_are_parked():
    def my_sync_frame():
        wait(go.wait())

    async def body():
        my_sync_frame()

    go = anyio.Event()
    parking = driver.parking()
    async with anyio.create_task_group() as group:
        for _ in range(2):
            group.start_soon(drive, body())
        await later(times=3)
        seen: list[str] = []

        def look():
            for frame in parking.frames():
                seen.append("".join(traceback.format_stack(frame)))

        await anyio.to_thread.run_sync(look)
        assert len(seen) == 2
        assert all("my_sync_frame" in stack for stack in seen)
        go.set()
    assert parking.frames() == []


async def test_tracing_goes_on_through_switches():
    lines = set()

    def tracer(frame, event, arg):
        lines.add((frame.f_code.co_name, event))
        return tracer

    def traced_frame():
        first = wait(later(1, 2))
        return first + wait(later(1))

    async def body():
        await later()
        return traced_frame()

    before = sys.gettrace()
    sys.settrace(tracer)
    try:
        assert await drive(body()) == 2
        assert sys.gettrace() is tracer
    finally:
        sys.settrace(before)
    assert ("traced_frame", "return") in lines
    assert await drive(body()) == 2


# --------------------------------------------------------------------------------------------- whole processes

BUSY = """
import sys, os, signal, threading, time
from callsheet._kernel.driver import drive, wait
import {backend}

async def nap():
    await {backend}.sleep(0)

def busy():
    wait(nap())
    threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGINT)).start()
    ends = time.monotonic() + 20
    while time.monotonic() < ends:
        pass
    print("never stopped")

async def body():
    try:
        busy()
    finally:
        print("unwound")

async def parks():
    try:
        threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGINT)).start()
        wait({backend}.sleep(20))
    finally:
        print("unwound")

try:
    {run}
except KeyboardInterrupt:
    print("interrupted")
"""


def run_python(code: str) -> subprocess.CompletedProcess[str]:
    return warm.run(code, dev=True, timeout=30, check=False)


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
@pytest.mark.parametrize(
    ("backend", "run"),
    [
        ("trio", "trio.run(drive, body())"),
        ("trio", "trio.run(drive, parks())"),
        ("asyncio", "asyncio.run(drive(parks()))"),
    ],
)
def test_ctrl_c_reaches_driven_code(backend, run):
    began = time.monotonic()
    result = run_python(BUSY.format(backend=backend, run=run))
    assert (result.stdout.split(), result.stderr) == (["unwound", "interrupted"], "")
    assert time.monotonic() - began < 20


def test_exit_with_parked_frames_is_quiet():
    result = run_python("""
import asyncio, threading
from callsheet._kernel.driver import drive, wait
async def body():
    wait(asyncio.Event().wait())
def leave():
    loop = asyncio.new_event_loop()
    loop.set_exception_handler(lambda *_: None)
    kept.append(loop.create_task(drive(body())))
    kept.append(loop)
    loop.run_until_complete(asyncio.sleep(0))
    loop.close()
kept = []
thread = threading.Thread(target=leave)
thread.start(); thread.join()
leave()
""")
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")


def test_a_thread_that_ends_leaves_nothing_for_the_garbage_collector() -> None:
    async def several() -> None:
        await asyncio.gather(*(drive(on_wait()) for _ in range(3)))

    seen: list[weakref.ref[Parking]] = []

    def program() -> None:
        asyncio.run(several())
        seen.append(weakref.ref(parking()))

    gc.disable()
    try:
        thread = threading.Thread(target=program)
        thread.start()
        thread.join()
        assert [reference() for reference in seen] == [None]
    finally:
        gc.enable()
