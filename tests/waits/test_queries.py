"""Asking live flow runs of this process."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any
from uuid import UUID, uuid4

import anyio
import pytest

from callsheet import Engine, flow, on_query, query_flow_run, task
from callsheet.exceptions import BlockingWaitError, ObjectNotFound, QueryTimeout, RunNotLive, UnknownQuery
from callsheet.queries import aquery_flow_run
from callsheet.runtime import flow_run
from waits_helpers import PATIENCE


class Sync:
    """A sync flow in a thread that stays alive until the block ends."""

    def __init__(self, body: Callable[[], Any]) -> None:
        self.ready, self.leave = threading.Event(), threading.Event()
        self.run_id = uuid4()

        @flow
        def asked() -> None:
            self.run_id = UUID(flow_run.id)
            body()
            self.ready.set()
            self.leave.wait(PATIENCE)

        self.thread = threading.Thread(target=asked)

    def __enter__(self) -> Sync:
        self.thread.start()
        assert self.ready.wait(PATIENCE)
        return self

    def __exit__(self, *_: object) -> None:
        self.leave.set()
        self.thread.join()


def register() -> None:
    on_query("double", lambda x: 2 * x)

    @on_query("where")
    async def where() -> str:
        await anyio.sleep(0)
        return threading.current_thread().name

    @on_query("fails")
    def fails() -> None:
        raise KeyError("mine")


def test_a_sync_flow_is_asked_by_sync_code() -> None:
    with Sync(register) as asked:
        assert query_flow_run(asked.run_id, "double", 21) == 42
        assert query_flow_run(str(asked.run_id), "where").startswith("callsheet")
        with pytest.raises(KeyError, match="mine"):
            query_flow_run(asked.run_id, "fails")
        with pytest.raises(UnknownQuery, match=r"answers no query 'nothing'.*'double', 'fails', 'where'"):
            query_flow_run(asked.run_id, "nothing")
    with pytest.raises(RunNotLive, match="has ended in the state 'Completed'"):
        query_flow_run(asked.run_id, "double", 21)


@pytest.mark.anyio
async def test_a_sync_flow_is_asked_by_async_code() -> None:
    with Sync(register) as asked:
        assert await query_flow_run(asked.run_id, "double", 21) == 42
        assert (await query_flow_run(asked.run_id, "where")).startswith("callsheet")


@pytest.mark.anyio
async def test_an_async_flow_is_asked_where_it_lives() -> None:
    """By its own body, by its tasks, by another flow on its loop, and from a thread: always on its loop."""
    leave, ready = anyio.Event(), anyio.Event()
    found: list[UUID] = []

    @task
    def in_thread() -> Any:
        return query_flow_run(found[0], "where")

    @flow
    async def asked() -> None:
        found.append(UUID(flow_run.id))
        on_query("where", threading.get_ident)
        assert await query_flow_run(found[0], "where") == threading.get_ident()
        assert in_thread.submit().result() == threading.get_ident()
        assert in_thread() == threading.get_ident()
        ready.set()
        await leave.wait()

    @flow
    def sync_asker() -> Any:
        return query_flow_run(found[0], "where")

    @flow
    async def asker() -> Any:
        return sync_asker()

    async with anyio.create_task_group() as group:
        group.start_soon(asked)
        await ready.wait()
        assert await asker() == threading.get_ident()
        assert await aquery_flow_run(found[0], "where") == threading.get_ident()
        assert await anyio.to_thread.run_sync(lambda: query_flow_run(found[0], "where")) == threading.get_ident()
        with pytest.raises(BlockingWaitError, match="aquery_flow_run"):
            query_flow_run(found[0], "where", _sync=True)
        leave.set()


@pytest.mark.anyio
async def test_a_run_of_an_engine_of_its_own() -> None:
    leave, ready = anyio.Event(), anyio.Event()
    found: list[UUID] = []

    @flow
    async def asked() -> None:
        found.append(UUID(flow_run.id))
        on_query("answer", lambda: 42)
        ready.set()
        await leave.wait()

    async def other() -> None:
        async with Engine(database=":memory:", durability="off"):
            await asked()

    async with anyio.create_task_group() as group:
        group.start_soon(other)
        await ready.wait()
        assert await query_flow_run(found[0], "answer") == 42
        leave.set()


def test_a_loop_that_computes_does_not_answer() -> None:
    blocked, go_on = threading.Event(), threading.Event()
    found: list[UUID] = []

    @flow
    async def computes() -> None:
        found.append(UUID(flow_run.id))
        on_query("answer", lambda: 42)
        blocked.set()
        go_on.wait(PATIENCE)

    thread = threading.Thread(target=lambda: anyio.run(computes))
    thread.start()
    blocked.wait(PATIENCE)
    with pytest.raises(QueryTimeout, match=r"'answer' within 0\.01 seconds"):
        query_flow_run(found[0], "answer", timeout=0.01)
    go_on.set()
    thread.join()


def test_a_subflow_answers_for_itself_and_another_attempt_anew() -> None:
    answers: list[Any] = []

    @flow
    def inner() -> None:
        on_query("which", lambda: "inner")
        answers.append(query_flow_run(flow_run.id, "which"))

    @flow(retries=1)
    def outer() -> None:
        if answers:
            with pytest.raises(UnknownQuery, match="has registered: none"):
                query_flow_run(flow_run.id, "which")
            return
        on_query("which", lambda: "first")
        on_query("which", lambda: "outer")
        inner()
        answers.append(query_flow_run(flow_run.id, "which"))
        raise ValueError("again")

    outer()
    assert answers == ["inner", "outer"]


def test_what_a_handler_starts_is_no_run_of_the_flow() -> None:
    @task
    def work() -> int:
        return 1

    def handler() -> Any:
        assert flow_run.id is None
        return work()

    with Sync(lambda: on_query("work", handler)) as asked:
        assert query_flow_run(asked.run_id, "work") == 1


def test_only_bodies_of_flows_answer() -> None:
    with pytest.raises(RuntimeError, match="answered by flow runs"):
        on_query("answer", int)

    @task
    def register_in_a_task() -> None:
        on_query("answer", int)

    @flow
    def outer() -> None:
        register_in_a_task()

    with pytest.raises(RuntimeError, match="not in a task"):
        outer()


def test_nobody_has_this_id(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("callsheet._engine.history.RECORDED_WITHIN", 0.01)
    with pytest.raises(ObjectNotFound):
        query_flow_run(uuid4(), "answer")
