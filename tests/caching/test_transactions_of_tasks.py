"""Tasks in transactions: hooks, states, nesting, generators, and tasks that only get one because they ask for it."""

from __future__ import annotations

import logging
from typing import Any

import anyio
import pytest

from callsheet import Task, flow, task
from callsheet.cache_policies import INPUTS
from callsheet.context import TaskRunContext
from callsheet.exceptions import MissingResult
from callsheet.results import ResultStore
from callsheet.transactions import CommitMode, get_transaction, transaction
from past import states_of


@pytest.fixture
def logged(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> pytest.LogCaptureFixture:
    monkeypatch.setattr(logging.getLogger("callsheet"), "propagate", True)
    caplog.set_level("INFO", logger="callsheet")
    return caplog


class Undoable:
    """Tasks with hooks that note what happens to them."""

    def __init__(self) -> None:
        self.events: list[str] = []

    def task(self, name: str, **options: Any) -> Task[..., Any]:
        @task(name=name, **options)
        def work(value: Any = None) -> Any:
            self.events.append(name)
            get_transaction().set("mine", name)
            if isinstance(value, Exception):
                raise value
            return value

        @work.on_commit
        def commit(txn: Any) -> None:
            self.events.append(f"{txn.get('mine')} committed")

        @work.on_rollback
        async def rollback(txn: Any) -> None:
            await anyio.sleep(0)
            self.events.append(f"{txn.get('mine')} undone")

        return work


@pytest.mark.parametrize("colour", ["sync", "async"])
def test_hooks_of_a_task_alone_run_with_its_end(colour, run_on, logged):
    undoable = Undoable()
    one = undoable.task("one")

    @flow
    async def around() -> Any:
        return one(5, return_state=True) if colour == "sync" else one.submit(5, return_state=True)

    state = run_on(around)
    assert undoable.events == ["one", "one committed"]
    assert states_of(state) == ["Pending", "Running", "Completed"]
    assert "Running commit hook 'commit'" in logged.text
    assert "Commit hook 'commit' finished running successfully" in logged.text


def test_a_failed_task_has_nothing_to_undo():
    undoable = Undoable()
    with pytest.raises(ValueError):
        undoable.task("one")(ValueError("no"))
    assert undoable.events == ["one"]


@pytest.mark.parametrize("colour", ["sync", "async"])
def test_a_fault_in_a_transaction_undoes_its_tasks_last_first(colour, run_on):
    undoable = Undoable()
    one, two = undoable.task("one", persist_result=True), undoable.task("two")
    states: list[Any] = []

    @task
    def plain() -> int:
        return 1

    def inside() -> None:
        states.extend([one(1, return_state=True), two(2, return_state=True), plain(return_state=True)])
        raise ConnectionError("half-way")

    @flow
    def around() -> None:
        with transaction():
            inside()

    @flow
    async def aaround() -> None:
        async with transaction():
            inside()

    with pytest.raises(ConnectionError):
        around() if colour == "sync" else run_on(aaround)
    assert undoable.events == ["one", "two", "two undone", "one undone"]
    for state in states:
        assert state.name == "Completed"
        assert states_of(state) == ["Pending", "Running", "Completed", "RolledBack"]
    with pytest.raises(MissingResult):  # nothing is left behind
        ResultStore(result_storage=None).read(states[0].data.metadata.storage_key)


def test_results_are_written_when_the_outermost_transaction_commits():
    seen: list[bool] = []

    @task(cache_policy=INPUTS)
    def keep(x: int) -> int:
        return x

    @flow
    def around() -> Any:
        with transaction():
            state = keep(1, return_state=True)
            store = ResultStore()
            seen.append(store.exists(state.data.metadata.storage_key))
        seen.append(store.exists(state.data.metadata.storage_key))
        return keep(1, return_state=True).name

    assert around() == "Cached"
    assert seen == [False, True]


def test_eager_tasks_keep_their_results_whatever_comes():
    undoable = Undoable()
    one = undoable.task("one", cache_policy=INPUTS)

    @flow
    def around() -> None:
        with transaction(commit_mode=CommitMode.EAGER):
            one(1)
            raise ValueError("later")

    with pytest.raises(ValueError):
        around()
    assert undoable.events == ["one", "one committed"]
    assert one(1, return_state=True).name == "Cached"


def test_a_commit_hook_that_fails_does_not_fail_the_task(logged):
    undone: list[Any] = []

    @task(persist_result=True)
    def one() -> int:
        return 1

    @one.on_commit
    def refuse(txn: Any) -> None:
        raise RuntimeError("not here")

    @one.on_rollback
    def undo(txn: Any) -> None:
        undone.append(txn.key)

    state = one(return_state=True)
    assert (state.name, state.result()) == ("Completed", 1)
    assert len(undone) == 1
    assert "An error was encountered while running commit hook 'refuse'" in logged.text
    assert states_of(state) == ["Pending", "Running", "Completed", "RolledBack"]


def test_no_line_about_rollback_without_hooks_of_the_users(logged):
    @task
    def plain() -> None: ...

    with pytest.raises(ValueError), transaction():
        plain()
        raise ValueError("no")
    assert "rollback hook" not in logged.text


# ------------------------------------------------------------------------------------------- nesting


def test_a_body_has_a_transaction_if_it_asks(run_on):
    @task
    async def asks() -> list[Any]:
        mine = get_transaction()
        with transaction() as inner:
            assert inner.get_parent() is mine
            assert get_transaction() is inner
        assert get_transaction() is mine
        assert mine.children == [inner]
        assert not inner.is_committed()
        return [mine, inner]

    @flow
    async def around() -> list[Any]:
        assert get_transaction() is None
        found = await asks()
        assert get_transaction() is None
        return found

    mine, inner = run_on(around)
    assert mine.is_committed()
    assert inner.is_committed()


def test_a_plain_body_that_fails_undoes_the_transactions_inside_of_it():
    events: list[str] = []

    @task
    def fails() -> None:
        with transaction() as txn:
            txn.stage(1, on_rollback_hooks=[lambda txn: events.append("undone")])
        raise ValueError("after all")

    with pytest.raises(ValueError):
        fails()
    assert events == ["undone"]
    assert get_transaction() is None


def test_a_helper_of_the_body_sees_the_same_transaction(run_on):
    seen: list[Any] = []

    @task
    async def asks() -> None:
        async def helper() -> None:
            seen.append(get_transaction())

        async with anyio.create_task_group() as group:
            group.start_soon(helper)
            group.start_soon(helper)
        seen.append(get_transaction())

    async def main() -> None:
        await asks()
        assert get_transaction() is None

    run_on(main)
    assert seen[0] is seen[1] is seen[2]
    assert seen[0].is_committed()


def test_tasks_in_tasks_commit_with_the_outer_one():
    undoable = Undoable()
    inner = undoable.task("inner", persist_result=True)

    @task
    def outer(fail: bool) -> None:
        inner(1)
        undoable.events.append("outer ends")
        if fail:
            raise ValueError("no")

    outer(False)
    assert undoable.events == ["inner", "outer ends", "inner committed"]
    undoable.events.clear()
    with pytest.raises(ValueError):
        outer(True)
    assert undoable.events == ["inner", "outer ends", "inner undone"]


def test_retries_undo_the_attempt_that_failed():
    undoable = Undoable()
    inner = undoable.task("inner")

    @task(retries=1)
    def outer() -> int:
        inner()
        if len(undoable.events) < 3:
            raise ValueError("again")
        return 1

    assert outer() == 1
    assert undoable.events == ["inner", "inner undone", "inner", "inner committed"]


def test_a_submitted_task_that_outlives_its_transaction_follows_its_end(run_on):
    undoable = Undoable()
    one = undoable.task("one", cache_policy=INPUTS)

    @flow
    async def around(fail: bool) -> None:
        started, go = anyio.Event(), anyio.Event()

        @task
        async def gate() -> int:
            started.set()
            await go.wait()
            return 7 + fail

        future = None
        with pytest.raises(ValueError) if fail else transaction():
            with transaction():
                future = one.submit(gate.submit())
                await started.wait()
                if fail:
                    raise ValueError("no")
        go.set()
        await future

    run_on(around, False)
    assert undoable.events == ["one", "one committed"]
    undoable.events.clear()
    run_on(around, True)
    assert undoable.events == ["one", "one undone"]


# ----------------------------------------------------------------------------------------- generators


@pytest.mark.parametrize("end", ["return", "raise", "close"])
def test_generators_have_a_transaction_that_the_caller_does_not_see(end):
    undoable = Undoable()
    inner = undoable.task("inner")

    @task
    def numbers() -> Any:
        mine = get_transaction()
        inner()
        yield 1
        assert get_transaction() is mine
        yield 2
        if end == "raise":
            raise ValueError("no")

    with transaction() as around:
        seen = []
        steps = numbers()
        try:
            for number in steps:
                seen.append(number)
                assert get_transaction() is around
                if end == "close":
                    steps.close()
        except ValueError:
            around.state = around.state.ACTIVE
        assert get_transaction() is around
        expected = [] if end == "return" else ["inner undone"]
        assert undoable.events == ["inner", *expected]
    assert seen[0] == 1
    if end == "return":
        assert undoable.events == ["inner", "inner committed"]


def test_generators_call_their_commit_hooks(run_on):
    events: list[str] = []

    @task(persist_result=True)
    async def numbers() -> Any:
        yield 1
        yield 2

    @numbers.on_commit
    def commit(txn: Any) -> None:
        events.append("committed")

    async def main() -> list[int]:
        found = [number async for number in numbers()]
        assert get_transaction() is None
        return found

    assert run_on(main) == [1, 2]
    assert events == ["committed"]


def test_persisted_generators_run_again():
    @task(persist_result=True)
    def numbers() -> Any:
        yield 1
        return 2

    @flow
    def around() -> Any:
        return [list(numbers()), list(numbers())]

    assert around() == [[1], [1]]


def test_the_key_and_the_store_of_the_own_transaction():
    @task(cache_policy=INPUTS)
    def one(x: int) -> Any:
        return get_transaction().key, get_transaction().store == TaskRunContext.get().result_store

    assert one(1) == (INPUTS.compute_key(None, {"x": 1}, {}), True)


@pytest.mark.parametrize("caught", [False, True])
@pytest.mark.parametrize("colour", ["sync", "async"])
def test_rollback_hooks_see_what_the_block_around_was_given(colour, caught, run_on):
    """The failing task rolls the block back as it leaves it: by then its own transaction is not the active one."""
    seen: list[Any] = []

    @task
    def writes() -> None: ...

    @writes.on_rollback
    def undo(txn: Any) -> None:
        seen.append((txn.get("path"), txn.get_parent() is outer[0]))

    @task
    def fails() -> None:
        raise ValueError("bad data")

    @task
    async def afails() -> None:
        raise ValueError("bad data")

    outer: list[Any] = []

    @flow
    def pipeline() -> None:
        with transaction() as txn:
            outer.append(txn)
            txn.set("path", "side.txt")
            writes()
            fails(return_state=caught)

    @flow
    async def apipeline() -> None:
        async with transaction() as txn:
            outer.append(txn)
            txn.set("path", "side.txt")
            writes()
            await afails(return_state=caught)

    async def main() -> Any:
        return pipeline(return_state=True) if colour == "sync" else await apipeline(return_state=True)

    assert run_on(main).name == ("Completed" if caught else "Failed")
    assert seen == [("side.txt", True)]
    assert outer[0].is_rolled_back()
    assert get_transaction() is None
