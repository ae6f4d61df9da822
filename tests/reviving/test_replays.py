"""A flow run that is taken up again goes on where it was cut off: what had ended in it is not run again."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import anyio
import pytest

from callsheet import Engine, flow, task
from callsheet._engine.places import LoopPlace
from callsheet._engine.recording import INLINE_LIMIT
from callsheet._engine.reviving import revive
from callsheet._engine.steps import Step
from callsheet._kernel.host import here
from callsheet._model.kinds import Kind
from callsheet._model.records import RunFilter
from callsheet.context import current_run
from callsheet.states import Completed
from callsheet.transactions import transaction
from reviving_helpers import Doings, Lives, doings, lives

__all__ = ["doings", "lives"]
_FLOWS = RunFilter(kind=Kind.FLOW)


def test_what_was_called_is_not_called_again(lives: Lives, doings: Doings) -> None:
    @task
    def double(x: int) -> int:
        doings.done.append(x)
        return 2 * x

    @flow
    def doubles(n: int, label: str = "none") -> list[Any]:
        values = [double(i) for i in range(n)]
        doings.cut()
        return [*values, double(n), label]

    first = doubles(3, label="some", return_state=True)
    assert first.data == [0, 2, 4, 6, "some"]
    run = doings.again(doubles)
    assert run.state.result() == first.data
    assert doings.done == [3]
    assert run.cell.id == first.state_details.flow_run_id
    assert lives.states(run.cell.id) == ["Pending", "Running", "Pending", "Running", "Completed"]
    (root,) = lives.runs(kind=Kind.FLOW)
    assert (root.attempt, root.name) == (1, run.name)
    tasks = lives.runs(kind=Kind.TASK)
    assert len(tasks) == 4
    assert [lives.states(one.id) for one in tasks] == [["Pending", "Running", "Completed"]] * 4
    assert lives.core is not None
    assert not lives.core.memories


def test_submitted_and_mapped_runs_give_the_futures_that_there_were(lives: Lives, doings: Doings) -> None:
    @task
    def note(x: int, y: int = 0) -> int:
        doings.done.append((x, y))
        return x + y

    @flow
    def whole() -> list[Any]:
        first = note.submit(1)
        second = note.submit(2, y=first)
        mapped = note.map([10, 20, 30], second)
        values = mapped.result()
        ids = [str(future.task_run_id) for future in (first, second, *mapped)]
        doings.cut()
        last = note.submit(100, wait_for=[*mapped, first])
        return [values, note.submit(7, return_state=True).data, last.result(), ids]

    first = whole()
    assert doings.again(whole).state.result() == first
    assert sorted(doings.done) == [(7, 0), (100, 0)]
    (last,) = [run for run in lives.runs(kind=Kind.TASK) if dict(run.inputs).get("wait_for")]
    assert {str(source) for source in dict(last.inputs)["wait_for"]} == {first[3][0], *first[3][2:]}


def test_states_are_the_ones_that_were_entered(lives: Lives, doings: Doings) -> None:
    @task
    def named() -> Any:
        doings.done.append("named")
        return Completed(name="Fine", message="as ever", data=3)

    @flow
    def asks() -> list[Any]:
        state = named(return_state=True)
        doings.cut()
        return [state.name, state.message, state.result(), str(state.id), named.fn().name]

    first = asks()
    assert doings.again(asks).state.result() == first
    assert doings.done == ["named"]  # by the plain function, at the end


def test_a_failure_that_was_dealt_with_stays_dealt_with(lives: Lives, doings: Doings) -> None:
    @task
    def charge() -> None:
        doings.done.append("charge")
        raise ValueError("declined")

    @flow
    def order() -> str:
        try:
            charge()
        except ValueError as error:
            doings.cut()
            return f"{type(error).__name__}: {error}"
        return "charged"

    assert order() == "ValueError: declined"
    assert doings.again(order).state.result() == "ValueError: declined"
    assert doings.done == []


def test_a_task_that_was_under_way_runs_again_and_what_it_had_called_does_not(lives: Lives, doings: Doings) -> None:
    @task
    def inner(x: int) -> int:
        doings.done.append(f"inner {x}")
        return x

    @task
    def outer() -> int:
        doings.done.append("outer")
        value = inner(1)
        doings.cut()
        return value + inner(2)

    @flow
    def whole() -> int:
        return outer()

    assert whole() == 3
    assert doings.again(whole).state.result() == 3
    assert doings.done == ["outer", "inner 2"]


def test_failed_attempts_count(lives: Lives, doings: Doings) -> None:
    @task(retries=3)
    def flaky() -> int:
        run = current_run.get().record
        doings.done.append((run.run_count, run.state_name))
        if run.run_count == 3:
            doings.cut()
        raise ValueError("no")

    @flow
    def whole() -> str:
        return flaky(return_state=True).name

    assert whole() == "Failed"
    assert doings.again(whole).state.result() == "Failed"
    assert doings.done == [(3, "Running"), (4, "Retrying")]  # the third was cut off


def test_what_had_ended_before_a_retry_of_the_flow_runs_again(lives: Lives, doings: Doings) -> None:
    @task
    def first() -> int:
        doings.done.append("first")
        return 1

    @task
    def second() -> int:
        doings.done.append("second")
        return 2

    @flow(retries=2)
    def whole() -> int:
        value = first()
        if current_run.get().cell.attempt == 2:
            doings.cut()
        value += second()
        if current_run.get().cell.attempt == 1:
            raise ValueError("once more")
        return value

    assert whole() == 3
    run = doings.again(whole)
    assert run.state.result() == 3
    assert doings.done == ["second"]
    assert run.cell.attempt == 2
    assert lives.states(run.cell.id) == ["Pending", "Running", "Retrying", "Pending", "Running", "Completed"]


def test_a_retry_in_the_new_life_runs_everything_again(lives: Lives, doings: Doings) -> None:
    @task
    def give() -> int:
        doings.done.append("give")
        return 1

    @flow(retries=1)
    def whole() -> int:
        value = give()
        doings.cut()
        if current_run.get().cell.attempt == 1:
            raise ValueError("once more")
        return value

    assert whole() == 1
    assert doings.again(whole).state.result() == 1
    assert doings.done == ["give"]


def test_subflows_that_had_ended_and_one_that_had_not(lives: Lives, doings: Doings) -> None:
    @task
    def note(x: str) -> str:
        doings.done.append(x)
        return x

    @flow
    def child(x: str) -> str:
        doings.done.append(f"child {x}")
        note(f"{x}1")
        if x == "b":
            doings.cut()
        return note(f"{x}2")

    @flow
    def parent() -> list[str]:
        return [child("a"), child("b"), child.submit("c").result()]

    assert parent() == ["a2", "b2", "c2"]
    run = doings.again(parent)
    assert run.state.result() == ["a2", "b2", "c2"]
    assert doings.done == ["child b", "b2", "child c", "c1", "c2"]
    flows = lives.runs(kind=Kind.FLOW)
    assert len(flows) == 4
    for one in flows:
        around = ["Pending", "Running"] if one.definition.name == "parent" or one is flows[2] else []
        assert lives.states(one.id) == [*around, "Pending", "Running", "Completed"]
    trackers = lives.runs(ids=tuple(one.parent_task_run_id for one in flows[1:]))
    assert [lives.states(one.id) for one in trackers] == [["Pending", "Running", "Completed"]] * 3


def test_large_and_kept_results(lives: Lives, doings: Doings, tmp_path: Path) -> None:
    @task
    def large() -> bytes:
        doings.done.append("large")
        return b"x" * (INLINE_LIMIT + 1)

    @task(persist_result=True)
    def kept() -> list[int]:
        doings.done.append("kept")
        return [1, 2]

    @flow(result_storage=str(tmp_path / "kept"), persist_result=False)
    def whole() -> list[Any]:
        values = [len(large()), kept(), kept.submit().result(), kept(return_state=True).result()]
        doings.cut()
        return values

    first = whole()
    assert doings.again(whole).state.result() == first
    assert doings.done == []


def test_what_is_gone_torn_or_was_not_recorded_runs_again(lives: Lives, doings: Doings, tmp_path: Path) -> None:
    @task
    def large(n: int) -> bytes:
        doings.done.append(f"large {n}")
        return bytes([n]) * (INLINE_LIMIT + 1)

    @task(persist_result=True)
    def kept() -> int:
        doings.done.append("kept")
        return 1

    @task
    def lock() -> Any:
        doings.done.append("lock")
        return threading.Lock()

    @task
    def uses(lock: Any) -> bool:
        doings.done.append("uses")
        return lock is not None

    @flow(result_storage=str(tmp_path / "kept"), persist_result=False)
    def whole() -> list[Any]:
        values = [large(0)[0], large(1)[0], large(2)[0], kept(), uses(lock())]
        doings.cut()
        return values

    assert whole() == [0, 1, 2, 1, True]
    gone, torn, _ = sorted(Path(f"{lives.path}-results").iterdir())
    gone.unlink()
    torn.write_bytes(torn.read_bytes()[:-1])
    for path in (tmp_path / "kept").rglob("*"):
        if path.is_file():
            path.unlink()
    assert doings.again(whole).state.result() == [0, 1, 2, 1, True]
    assert sorted(doings.done) == ["kept", "large 0", "large 1", "lock"]


def test_generators_run_again_and_what_they_call_does_not(lives: Lives, doings: Doings) -> None:
    @task
    def note(x: int) -> int:
        doings.done.append(x)
        return x

    @task
    def numbers() -> Iterator[int]:
        doings.done.append("numbers")
        yield note(1)
        yield note(2)

    @flow
    def whole() -> list[int]:
        values = list(numbers())
        doings.cut()
        return values

    assert whole() == [1, 2]
    assert doings.again(whole).state.result() == [1, 2]
    assert doings.done == ["numbers"]


def test_what_was_rolled_back_runs_again(lives: Lives, doings: Doings) -> None:
    @task
    def write() -> int:
        doings.done.append("write")
        return 1

    @write.on_rollback
    def undo(_: Any) -> None:
        doings.done.append("undo")

    @flow
    def whole() -> int:
        try:
            with transaction():
                write()
                if not doings.was_cut:
                    raise ValueError("no")
        except ValueError:
            doings.cut()
            return 0
        return 1

    assert whole() == 0
    assert doings.again(whole).state.result() == 1
    assert doings.done == ["write"]


def test_async_branches_on_every_loop(lives: Lives, doings: Doings, run_on: Any) -> None:
    @task
    async def note(x: str) -> str:
        doings.done.append(x)
        return x

    async def branch(name: str, cuts: bool, seconds: float) -> str:
        first = await note(f"{name}1")
        await anyio.sleep(seconds)
        if cuts:
            doings.cut()
        return first + await note(f"{name}2")

    @flow
    async def whole() -> list[str]:
        found: dict[str, str] = {}

        async def put(name: str, cuts: bool, seconds: float) -> None:
            found[name] = await branch(name, cuts, seconds)

        async with anyio.create_task_group() as group:
            for name, cuts, seconds in (("a", False, 0.0), ("b", True, 0.1), ("c", False, 0.2)):
                group.start_soon(put, name, cuts, seconds)
        return sorted(found.values())

    first = run_on(whole)
    assert first == ["a1a2", "b1b2", "c1c2"]

    async def in_an_engine() -> Any:
        async with Engine(database=lives.path) as engine:
            place = LoopPlace(engine.core, here())
            (root,) = [run for run in (await place.reader.read_runs(_FLOWS)).items]
            await place.reader.aclose()
            run = await place.apart(lambda: revive(engine.core, root.id, whole))
            await _ended(run)
            assert run.home is engine.core.home
            return await run.state.aresult()

    doings.done = []
    assert run_on(in_an_engine) == first
    assert sorted(doings.done) == ["b2", "c2"]


async def _ended(run: Any) -> None:
    ended = threading.Event()
    run.when_ended().subscribe(ended.set)
    with anyio.fail_after(50):
        while not ended.is_set():
            await anyio.sleep(0.005)


def test_steps_are_known_in_the_next_life(lives: Lives, doings: Doings) -> None:
    @flow(retries=1)
    def whole() -> list[Any]:
        run = current_run.get()
        values: list[Any] = []
        for key in ("sleep", "sleep", "other", "other"):
            step = Step(run, key)
            if not step.known:
                doings.done.append(key)
                step.record(f"{key} {len(values)}")
            values.append(step.value)
            if len(values) == 3:
                doings.cut()
        if run.cell.attempt == 1 and doings.again_too:
            raise ValueError("once more")
        return values

    doings.again_too = False  # type: ignore[attr-defined]
    assert whole() == ["sleep 0", "sleep 1", "other 2", "other 3"]
    doings.again_too = True  # type: ignore[attr-defined]
    assert doings.again(whole).state.result() == ["sleep 0", "sleep 1", "other 2", "other 3"]
    assert doings.done == ["other", "sleep", "sleep", "other", "other"]  # the retry does everything again


def test_parameters_that_the_history_does_not_have(lives: Lives, doings: Doings) -> None:
    class Opaque:
        pass

    crashed: SimpleQueue[str] = SimpleQueue()

    @flow
    def whole(text: str, thing: Any) -> str:
        doings.cut()
        return text

    @whole.on_crashed
    def tell(_flow: Any, _run: Any, state: Any) -> None:
        crashed.put(state.message)

    assert whole("<str>", Opaque()) == "<str>"
    run = doings.again(whole)
    assert run.state.name == "Crashed"
    assert crashed.get(timeout=30) == run.state.message  # the hook is called when the state is on record
    assert crashed.empty()
    assert "not recoverable: the history has no value of its parameters 'thing'" in run.state.message


def test_parameters_are_made_by_the_annotations(lives: Lives, doings: Doings) -> None:
    from datetime import date

    @flow
    def whole(day: date, data: bytes, *rest: int, note: str = "<x>", **more: Any) -> list[Any]:
        doings.cut()
        return [day, data, rest, note, more]

    first = whole(date(2026, 11, 22), b"abc", 1, 2, k=[1])
    run = doings.again(whole)
    assert run.state.result() == first


def test_a_run_that_was_about_to_be_cancelled_is(lives: Lives, doings: Doings) -> None:
    from callsheet import get_client
    from callsheet.states import Cancelling

    @flow
    def whole() -> None:
        doings.done.append("whole")
        with get_client(sync_client=True) as client:
            client.set_flow_run_state(current_run.get().cell.id, Cancelling())
        doings.cut()

    whole(return_state=True)
    run = doings.again(whole)
    assert run.state.name == "Cancelled"
    assert doings.done == []


def test_asyncio_gather(lives: Lives, doings: Doings) -> None:
    @task
    async def note(x: int) -> int:
        doings.done.append(x)
        return x

    @flow
    async def whole() -> list[int]:
        values = await asyncio.gather(*(note(i) for i in range(4)))
        futures = note.map([10, 11])
        values += await futures
        doings.cut()
        return [*values, await note(5)]

    assert asyncio.run(whole()) == [0, 1, 2, 3, 10, 11, 5]
    assert doings.again(whole).state.result() == [0, 1, 2, 3, 10, 11, 5]
    assert doings.done == [5]


@pytest.mark.anyio
async def test_who_starts_a_run_that_cannot_be_recovered_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    @flow
    async def whole(thing: Any) -> None:
        assert thing is not None

    @flow
    async def around() -> None:
        await whole(object())  # its parameters are handed to it by the call that is made again

    def told() -> list[str]:
        return [record.getMessage() for record in caplog.records if "not recoverable" in record.getMessage()]

    await whole(object())  # nobody would go on with it
    async with Engine(flows=[whole, around]):
        await around()
        await whole("plain")
        assert told() == []
        for _ in range(2):
            await whole(object())
        assert len(told()) == 1
        assert "'whole'" in told()[0]
        assert "'thing'" in told()[0]
