"""A recorded run is run against today's code: nothing is done again, and what differs is shown."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from typing import Any

import anyio
import pytest

from callsheet import flow, pause_flow_run, send_signal, sleep, task, wait_signal
from callsheet.exceptions import FlowPauseTimeout, RecordingError, SignalTimeout, VirtualTimeError
from callsheet.flow_runs import fork_flow_run, resume_flow_run, retry_flow_run, wait_for_flow_run
from callsheet.reruns import patched
from callsheet.run_keys import run_key
from callsheet.states import Completed, Failed
from callsheet.testing import MemoryEngine, ReplayDiffers, override, record, replay, run_virtual
from callsheet.transactions import transaction

BOTH = pytest.mark.parametrize("backend", ["asyncio", "trio"])


class World:
    """What bodies did, and which version of the code there is."""

    def __init__(self) -> None:
        self.done: list[Any] = []
        self.is_new = False
        self.attempts = 0

    def renew(self) -> None:
        """Have the code be another one from here on, and begin to count anew."""
        self.is_new, self.done, self.attempts = True, [], 0


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture(autouse=True)
def _engine() -> Iterator[MemoryEngine]:
    with MemoryEngine() as made:
        yield made


@pytest.fixture
def double(world: World) -> Any:
    @task
    def double(x: int) -> int:
        world.done.append(("double", x))
        return 2 * x

    return double


@pytest.fixture
def charge(world: World) -> Any:
    @task
    def charge(amount: int = 1) -> str:
        world.done.append(("charge", amount))
        return f"charged {amount}"

    return charge


def recorded(flow: Any, *args: Any) -> Any:
    """Run a flow and record it."""
    state = flow(*args, return_state=True)
    return record(asyncio.run(state) if asyncio.iscoroutine(state) else state)


def difference(recording: Any, flow: Any, **options: Any) -> ReplayDiffers:
    """Replay and give the first difference."""
    with pytest.raises(ReplayDiffers) as raised:
        replay(recording, flow, **options)
    return raised.value


# -------------------------------------------------------------------------------------------- what is the same


@BOTH
def test_nothing_is_done_again(world: World, double: Any, charge: Any, backend: str) -> None:
    hooks: list[str] = []

    @flow(on_completion=[lambda *_: hooks.append("completed")], on_running=[lambda *_: hooks.append("running")])
    def order(n: int) -> list[Any]:
        first = double(n)
        second = charge.submit(first)
        return [first, second.result(), double.map([1, 2, 3]).result()]

    recording = recorded(order, 21)
    assert hooks == ["running", "completed"]
    world.renew()
    run = replay(recording, order, backend=backend)
    assert run.result == [42, "charged 42", [2, 4, 6]]
    assert run.state is not None
    assert run.state.state_details.flow_run_id == recording.run_id
    assert world.done == []
    assert hooks == ["running", "completed"]


@BOTH
def test_async_branches_come_in_any_order(world: World, backend: str) -> None:
    @task
    async def load(x: int) -> int:
        await anyio.sleep(0.001 * (15 - x))
        world.done.append(x)
        return x

    @flow
    async def several() -> list[int]:
        found: list[int] = []

        async def one(x: int) -> None:
            found.append(await load(x) + await load(x + 10))

        async with anyio.create_task_group() as group:
            for x in range(5):
                group.start_soon(one, x)
        return sorted(found)

    recording = recorded(several)
    world.renew()
    assert replay(recording, several, backend=backend).result == [10, 12, 14, 16, 18]
    assert world.done == []


@BOTH
@pytest.mark.parametrize("is_async", [False, True])
def test_the_bodies_of_subflows_are_called(world: World, double: Any, backend: str, is_async: bool) -> None:
    @flow
    def inner(x: int) -> int:
        world.done.append("inner")
        return double(x) + 1

    @flow
    async def ainner(x: int) -> int:
        world.done.append("inner")
        return double(x) + 1

    @flow
    def outer() -> list[int]:
        return [inner(1), inner.submit(2).result()]

    @flow
    async def aouter() -> list[int]:
        return [await ainner(1), await ainner.submit(2)]

    whole: Any = aouter if is_async else outer
    recording = recorded(whole)
    world.renew()
    assert replay(recording, whole, backend=backend).result == [3, 5]
    assert world.done == ["inner", "inner"]


@BOTH
@pytest.mark.parametrize("delay", [0, 3600])
def test_every_attempt_is_gone_through(world: World, double: Any, charge: Any, backend: str, delay: int) -> None:
    @flow(retries=2, retry_delay_seconds=delay)
    def unlucky() -> str:
        world.attempts += 1
        double(world.attempts)
        if world.attempts < 3:
            raise ConnectionError("not yet")
        return charge()

    recordings: list[Any] = []

    async def whole() -> None:
        state = await anyio.to_thread.run_sync(lambda: unlucky(return_state=True))
        recordings.append(record(state))

    run_virtual(whole)
    world.renew()
    run = replay(recordings[0], unlucky, backend=backend)
    assert run.result == "charged 1"
    assert world.attempts == 3
    assert run.elapsed == 2 * delay
    assert world.done == []


def test_a_failure_that_was_dealt_with(world: World) -> None:
    @task(retries=2)
    def decline() -> None:
        world.done.append(1)
        raise ValueError("declined")

    @flow
    def order() -> str:
        try:
            decline()
        except ValueError as error:
            return str(error)
        return "charged"

    recording = recorded(order)
    assert len(world.done) == 3
    world.renew()
    assert replay(recording, order).result == "declined"
    assert world.done == []


def test_a_flow_that_fails_fails_the_same_way(double: Any) -> None:
    @flow
    def fails() -> None:
        double(1)
        raise ValueError("no")

    run = replay(recorded(fails), fails)
    assert run.state is not None
    assert run.state.is_failed()
    with pytest.raises(ValueError, match="no"):
        _ = run.result


@BOTH
def test_a_flow_that_timed_out(world: World, double: Any, backend: str) -> None:
    @task
    async def hang() -> None:
        world.done.append("hang")
        await anyio.sleep(3600)

    @flow(timeout_seconds=60)
    async def slow() -> None:
        double(1)
        await hang()

    recordings: list[Any] = []

    async def whole() -> None:
        recordings.append(record(await slow(return_state=True)))

    run_virtual(whole)
    world.renew()
    run = replay(recordings[0], slow, backend=backend)
    assert run.state is not None
    assert run.state.name == "TimedOut"
    assert run.elapsed == 60
    assert world.done == []


def test_states_that_bodies_return(world: World, double: Any) -> None:
    @flow
    def ends(kind: str) -> Any:
        double(1)
        if kind == "futures":
            return [double.submit(1), double.submit(2)]
        return Failed(message="no") if kind == "failed" else Completed(name="Fine", message="yes", data=[world.is_new])

    for kind in ("failed", "futures", "completed"):
        world.is_new = False
        recording = recorded(ends, kind)
        assert recording.has_result
        run = replay(recording, ends)
        assert run.state is not None
        assert run.state.is_failed() == (kind == "failed")
    world.is_new = True
    assert difference(recording, ends).recorded == "the result: [False]"


def test_a_run_that_never_began() -> None:
    """Its parameters did not fit."""

    @flow
    def strict(n: int) -> None: ...

    run = replay(recorded(strict, "many"), strict)
    assert run.state is not None
    assert run.state.is_failed()


@BOTH
def test_a_run_that_crashed_by_itself(double: Any, backend: str) -> None:
    @flow
    def exits() -> None:
        double(1)
        raise SystemExit(3)

    with pytest.raises(SystemExit):
        exits()
    recording = record(MemoryRuns.ids()[0])
    assert replay(recording, exits, backend=backend).state is not None


def test_what_was_rolled_back_had_completed(world: World) -> None:
    @task
    def write() -> str:
        world.done.append("write")
        return "written"

    @write.on_rollback
    def unwrite(_: Any) -> None:
        world.done.append("unwrite")

    @flow
    def both() -> None:
        with transaction():
            raise ValueError(write())

    recording = recorded(both)
    assert world.done == ["write", "unwrite"]
    world.renew()
    run = replay(recording, both)
    assert run.state is not None
    assert "written" in (run.state.message or "")
    assert world.done == []


# -------------------------------------------------------------------------------------------- steps


@BOTH
def test_long_sleeps_and_signals(world: World, double: Any, backend: str) -> None:
    @flow
    async def weekly() -> list[Any]:
        await sleep(7 * 86_400)
        answer = await wait_signal("answer", timeout=3600)
        try:
            await wait_signal("more", timeout=86_400)
        except SignalTimeout:
            return [answer, double(1)]
        return []

    recordings: list[Any] = []

    async def whole() -> None:
        async with anyio.create_task_group() as group:

            async def run() -> None:
                recordings.append(record(await weekly(return_state=True)))

            group.start_soon(run)
            await anyio.sleep(7 * 86_400 + 60)
            run_id = next(iter(MemoryRuns.ids()))
            await send_signal(run_id, "answer", {"yes": 1})

    run_virtual(whole)
    world.renew()
    run = replay(recordings[0], weekly, backend=backend)
    assert run.result == [{"yes": 1}, 2]
    assert world.done == []
    assert run.elapsed == 7 * 86_400  # the signals, and that none came, are on record


class MemoryRuns:
    """Looks for flow runs in the history that is current."""

    @staticmethod
    def ids() -> list[Any]:
        """Give the ids of flow runs."""
        from callsheet._engine.places import ThreadPlace, current_core
        from callsheet._kernel.ports import step
        from callsheet._model.kinds import Kind
        from callsheet._model.records import RunFilter

        place = ThreadPlace(current_core())
        step(place.catch_up())
        try:
            return [run.id for run in step(place.reader.read_runs(RunFilter(kind=Kind.FLOW))).items]  # type: ignore[attr-defined]
        finally:
            step(place.reader.aclose())


def _answered(flow: Any, answer: Callable[[Any], None]) -> Any:
    """Run a flow that pauses, answer, and record it."""
    states: list[Any] = []
    thread = threading.Thread(target=lambda: states.append(flow(return_state=True)))
    thread.start()
    while not MemoryRuns.ids():
        pass
    answer(MemoryRuns.ids()[0])
    thread.join()
    return record(states[0])


@BOTH
def test_pauses_and_their_answers(world: World, double: Any, backend: str) -> None:
    @flow
    def asks() -> int:
        double(1)
        number = pause_flow_run(wait_for_input=int, timeout=50)
        return double(number)

    def answer(run_id: Any) -> None:
        while True:
            try:
                resume_flow_run(run_id, run_input={"value": 7})
            except Exception:
                continue
            return

    recording = _answered(asks, answer)
    world.renew()
    assert replay(recording, asks, backend=backend).result == 14
    assert world.done == []


@BOTH
def test_a_pause_that_nobody_ended(backend: str) -> None:
    @flow
    async def asks() -> None:
        await pause_flow_run(timeout=3600)

    recordings: list[Any] = []

    async def whole() -> None:
        recordings.append(record(await asks(return_state=True)))

    run_virtual(whole)
    run = replay(recordings[0], asks, backend=backend)
    assert run.elapsed == 3600
    with pytest.raises(FlowPauseTimeout):
        _ = run.result


def test_patched_code_goes_the_old_way(world: World, double: Any, charge: Any) -> None:
    @flow
    def order() -> list[Any]:
        done = [double(1)]
        if world.is_new and patched("two charges"):
            done.append(charge(2))
        return [*done, charge(1)]

    recording = recorded(order)
    world.renew()
    assert replay(recording, order).result == [2, "charged 1"]
    new = recorded(order)
    assert replay(new, order).result == [2, "charged 2", "charged 1"]


def test_patched_code_at_the_end_goes_the_old_way(world: World, double: Any, charge: Any) -> None:
    @flow
    def order() -> list[Any]:
        done = [double(1)]
        if world.is_new and patched("a charge at the end"):
            charge(2)
        return done

    recording = recorded(order)
    world.renew()
    assert replay(recording, order).result == [2]


# -------------------------------------------------------------------------------------- other beginnings


def test_a_run_that_was_retried_by_hand(world: World, double: Any, charge: Any) -> None:
    @flow
    def order() -> str:
        double(1)
        if not world.is_new:
            raise ValueError("not yet")
        return charge()

    failed = order(return_state=True)
    first = record(failed)
    world.is_new = True
    run = retry_flow_run(failed.state_details.flow_run_id, flow=order)
    ended = asyncio.run(wait_for_flow_run(run.id, timeout=50))
    assert ended.state is not None
    assert ended.state.is_completed()
    world.renew()
    recording = record(run.id)
    assert replay(recording, order).result == "charged 1"
    assert world.done == []
    assert difference(first, order).index == 1


def test_a_fork(world: World, double: Any, charge: Any) -> None:
    @flow
    def order() -> list[Any]:
        return [double(1), charge()]

    source = order(return_state=True)
    run = fork_flow_run(source.state_details.flow_run_id, "charge", flow=order)
    asyncio.run(wait_for_flow_run(run.id, timeout=50))
    world.renew()
    assert replay(record(run.id), order).result == [2, "charged 1"]
    assert world.done == []


def test_a_run_that_crashed_and_went_on(world: World, double: Any, charge: Any, _engine: MemoryEngine) -> None:
    @flow
    def order() -> list[Any]:
        done = [double(1), double(2)]
        if not world.attempts:
            world.attempts = 1
            _engine.crash()
        return [*done, charge()]

    run_id = None
    try:
        order()
    except BaseException:
        run_id = _engine.history[0].run_id
    assert run_id is not None
    _engine.ended(run_id, 50)
    recording = record(run_id)
    world.done = []
    assert replay(recording, order).result == [2, 4, "charged 1"]
    assert world.done == []


def test_a_run_under_a_key(world: World, double: Any) -> None:
    @flow
    def order() -> int:
        return double(4)

    with run_key("order-4"):
        state = order(return_state=True)
    recording = record(state.state_details.flow_run_id)
    assert recording.has_result
    world.renew()
    assert replay(recording, order).result == 8
    assert world.done == []


# ------------------------------------------------------------------------------------- what has not ended


@BOTH
def test_a_run_that_is_under_way(world: World, double: Any, charge: Any, backend: str) -> None:
    """The replay ends where the recording does."""
    recordings: list[Any] = []

    @task
    def look() -> None:
        recordings.append(record(MemoryRuns.ids()[0]))

    @flow
    def order() -> None:
        double(1)
        if world.is_new == "wrong":
            double(2)
        look()
        charge()

    order()
    world.renew()
    run = replay(recordings[0], order, backend=backend)
    assert run.state is None
    assert world.done == []
    world.is_new = "wrong"  # type: ignore[assignment]
    found = difference(recordings[0], order, backend=backend)
    assert (found.index, found.recorded) == (1, "call 1: look, which was under way")
    assert found.now == "call 1: double(x=2)"


def test_a_run_that_was_cancelled(world: World, double: Any) -> None:
    from callsheet.flow_runs import cancel_flow_run

    @flow
    async def order() -> None:
        double(1)
        await anyio.sleep(50)
        double(2)

    async def main() -> Any:
        async with anyio.create_task_group() as group:
            states: list[Any] = []

            async def run() -> None:
                states.append(await order(return_state=True))

            group.start_soon(run)
            while not world.done:
                await anyio.sleep(0.001)
            await cancel_flow_run(MemoryRuns.ids()[0])
        return states[0]

    state = asyncio.run(main())
    assert state.is_cancelled()
    recording = record(state)
    world.renew()
    assert replay(recording, order).state is None
    assert world.done == []


# ----------------------------------------------------------------------------------------- what differs


@pytest.fixture
def order(world: World, double: Any, charge: Any) -> Callable[[str], Any]:
    """Give a flow whose newer version differs in the way that is asked for."""

    def make(change: str) -> Any:
        @flow(name="order")
        def order() -> Any:
            new = change if world.is_new else ""
            if new == "other order":
                charge(5)
            double(1)
            if new != "one less":
                double(99 if new == "inputs" else 2)
            if new == "one more":
                double(3)
            if new == "a sleep":
                sleep(10)
            if new == "a signal":
                wait_signal("go")
            if new == "a pause":
                pause_flow_run(timeout=100)
            if new != "other order":
                charge(5)
            if new == "one more at the end":
                charge(6)
            if new == "failure":
                raise ValueError("no")
            return "something else" if new == "result" else "done"

        return order

    return make


@BOTH
@pytest.mark.parametrize(
    ("change", "index", "recorded_", "now"),
    [
        ("other order", 0, "call 0: double", "call 0: charge(amount=5)"),
        ("one less", 1, "call 1: double", "call 1: charge(amount=5)"),
        ("one more", 2, "call 2: charge", "call 2: double(x=3)"),
        ("one more at the end", 3, "the end: Completed", "call 3: charge(amount=6)"),
        ("a sleep", 2, "call 2: charge", "call 2: a sleep"),
        ("a signal", 2, "call 2: charge", "call 2: a wait for the signal 'go'"),
        ("a pause", 2, "call 2: charge", "call 2: a pause (key '1')"),
        ("result", None, "the result: 'done'", "the result: 'something else'"),
        ("failure", None, "the end: Completed", "the end: Failed: Flow run encountered an exception: ValueError: no"),
    ],
)
def test_the_first_difference_is_shown(
    world: World, order: Any, backend: str, change: str, index: int | None, recorded_: str, now: str
) -> None:
    changed = order(change)
    recording = recorded(changed)
    world.renew()
    found = difference(recording, changed, backend=backend)
    assert (found.index, found.recorded, found.now) == (index, recorded_, now)
    assert found.flow == "order"
    assert world.done == []
    assert f"\n  - {recorded_}\n  + {now}" in str(found)


def test_other_inputs(world: World, order: Any) -> None:
    changed = order("inputs")
    recording = recorded(changed)
    world.renew()
    found = difference(recording, changed)
    assert found.index == 1
    assert found.recorded.startswith("call 1: double, with other inputs (digest ")
    assert found.now.startswith("call 1: double(x=99) (digest ")


def test_the_whole_message(world: World, order: Any) -> None:
    changed = order("one more")
    recording = recorded(changed)
    world.renew()
    assert str(difference(recording, changed)) == (
        f"The flow 'order' does not do what is recorded of its run {recording.run.name!r} (- recorded, + now):\n"
        "    call 0: double\n"
        "    call 1: double\n"
        "  - call 2: charge\n"
        "  + call 2: double(x=3)"
    )


def test_a_sleep_that_is_gone(world: World, double: Any) -> None:
    @flow
    def waits() -> None:
        double(1)
        if not world.is_new:
            sleep(0.001)

    recording = recorded(waits)
    world.renew()
    assert difference(recording, waits).recorded.startswith("a sleep until 20")


def test_a_subflow_that_differs(world: World, double: Any) -> None:
    @flow
    def inner() -> int:
        return double(2) if world.is_new else double(1)

    @flow
    def outer() -> None:
        double(0)
        inner()

    recording = recorded(outer)
    world.renew()
    found = difference(recording, outer)
    assert (found.flow, found.index) == ("inner", 0)


def test_the_result_of_a_subflow_differs(world: World) -> None:
    @flow
    def inner() -> int:
        return 2 if world.is_new else 1

    @flow
    def outer() -> None:
        inner()

    recording = recorded(outer)
    world.renew()
    found = difference(recording, outer)
    assert (found.flow, found.recorded, found.now) == ("inner", "the result: 1", "the result: 2")


def test_an_attempt_that_does_not_fail_any_more(world: World, double: Any) -> None:
    @flow(retries=1)
    def unlucky() -> None:
        world.attempts += 1
        double(1)
        if world.attempts == 1 and not world.is_new:
            raise ValueError("not yet")

    recording = recorded(unlucky)
    world.renew()
    found = difference(recording, unlucky)
    assert (found.recorded, found.now) == (
        "the end: the attempt fails, and is followed by another",
        "the end: Completed",
    )


def test_an_attempt_that_fails_now(world: World, double: Any) -> None:
    @flow(retries=1)
    def lucky() -> None:
        double(1)
        if world.is_new:
            raise ValueError("not yet")

    recording = recorded(lucky)
    world.renew()
    found = difference(recording, lucky)
    assert (found.recorded, found.now) == ("the end: Completed", "attempt 1 fails, and is followed by another")


def test_a_shorter_map(world: World, double: Any) -> None:
    @flow
    def several() -> list[int]:
        return double.map([1, 2] if world.is_new else [1, 2, 3]).result()

    recording = recorded(several)
    world.renew()
    found = difference(recording, several)
    assert (found.index, found.recorded) == (0, "call 0: double, another element")


def test_a_body_that_catches_everything_does_not_hide_it(world: World, double: Any, charge: Any) -> None:
    @flow
    def stubborn() -> str:
        try:
            charge() if world.is_new else double(1)
        except BaseException:
            charge()
        return "done"

    recording = recorded(stubborn)
    world.renew()
    assert difference(recording, stubborn).index == 0
    assert world.done == []


# -------------------------------------------------------------------------------------- what is not there


def test_a_result_that_could_not_be_recorded_takes_a_stub(world: World, charge: Any) -> None:
    @task
    def connect() -> Any:
        world.done.append("connect")
        return threading.Lock()

    @flow
    def order() -> Any:
        return charge(3) if connect() else None

    recording = recorded(order)
    world.renew()
    with pytest.raises(RecordingError, match=r"what the task 'connect' gave is not on record .*override"):
        replay(recording, order)
    with override(connect, returns="a connection") as stub:
        assert replay(recording, order).result == "charged 3"
    assert len(stub.calls) == 1
    assert world.done == []


def test_a_run_beside_the_recorded_one(world: World, double: Any) -> None:
    @flow
    def other() -> int:
        return double(1)

    @flow
    def order() -> int:
        with run_key("other"):
            return other()

    recording = recorded(order)
    world.renew()
    with pytest.raises(RecordingError, match="begins a run of 'other' that is not inside of it"):
        replay(recording, order)
    assert world.done == []
    with override(other, returns=2):
        assert replay(recording, order).result == 2


def test_a_generator(world: World) -> None:
    @task
    def items() -> Iterator[int]:
        world.done.append(1)
        yield from [1, 2]

    @flow
    def order() -> list[int]:
        return list(items())

    recording = recorded(order)
    world.renew()
    with pytest.raises(RecordingError, match="generator"):
        replay(recording, order)
    assert world.done == []


def test_parameters_that_json_cannot_carry() -> None:
    class Opaque:
        pass

    @flow(validate_parameters=False)
    def order(what: Any, n: int = 1) -> str:
        return f"{type(what).__name__} {n}"

    recording = recorded(order, Opaque())
    with pytest.raises(RecordingError, match=r"'what'.*parameters="):
        replay(recording, order)
    assert replay(recording, order, parameters={"what": Opaque()}).result == "Opaque 1"


def test_the_flow_of_another_name(world: World, double: Any) -> None:
    @flow
    def one() -> None: ...

    @flow
    def two() -> None: ...

    with pytest.raises(RecordingError, match="and not of"):
        replay(recorded(one), two)
    with pytest.raises(RecordingError, match="cannot be imported"):
        replay(recorded(one))


@pytest.mark.anyio
async def test_inside_of_an_event_loop() -> None:
    @flow
    async def one() -> None: ...

    recording = record(await one(return_state=True))
    with pytest.raises(VirtualTimeError, match="Call it in a plain function"):
        replay(recording, one)
