"""Explicit engines: their life, what uses them, how they drain, and what a host application finds afterwards."""

from __future__ import annotations

import asyncio
import contextvars
import logging
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import pytest

from callsheet import Engine, flow, runtime, task
from callsheet._model.records import RunFilter
from callsheet._store.sqlite import SqliteStore
from callsheet.context import EngineContext
from callsheet.exceptions import CancelledRun, CrashedRun, EngineClosed, StoreError, StoreNotADatabase
from store_helpers import run_now


def history(database: Path) -> dict[str, list[str]]:
    """Give the states that runs ended in, by definition, as a database has them."""
    store = SqliteStore(database)
    store.open()
    reader = store.blocking_reader()
    found: dict[str, list[str]] = {}
    for record in run_now(reader.read_runs(RunFilter(), limit=1000)).items:
        assert record.state is not None
        found.setdefault(record.definition.name, []).append(record.state.name)
    run_now(reader.aclose())
    store.close()
    return found


@task
async def double(x: int) -> int:
    await anyio.sleep(0)
    return 2 * x


@task
def plain_double(x: int) -> int:
    return 2 * x


@flow
async def total(n: int) -> int:
    return sum(double.map(range(n)).result()) + sum(plain_double.map(range(n)).result())


# ------------------------------------------------------------------------------------------- its life


@pytest.mark.anyio
async def test_runs_inside_use_it_and_are_in_its_database(tmp_path: Path, callsheet_home: Path) -> None:
    database = tmp_path / "mine.db"
    async with Engine(database=database) as engine:
        assert engine.usable
        context = EngineContext.get()
        assert context is not None
        assert context.engine is engine
        assert await total(3) == 12
        assert await double(4) == 8
        assert plain_double(5) == 10
    assert not engine.usable
    assert engine.left == ()
    assert EngineContext.get() is None
    found = history(database)
    assert found["total"] == ["Completed"]
    assert len(found["double"] + found["plain_double"]) == 8
    assert not callsheet_home.exists(), "the ambient engine was not used"


@pytest.mark.parametrize("durability", ["off", "relaxed", "results", "strict"])
@pytest.mark.anyio
async def test_every_durability(durability: str, tmp_path: Path) -> None:
    database = tmp_path / "mine.db"
    async with Engine(database=str(database), durability=durability):
        assert await total(2) == 4
    assert history(database).get("total", []) == ([] if durability == "off" else ["Completed"])


@pytest.mark.anyio
async def test_an_engine_can_be_opened_again_and_nested(tmp_path: Path) -> None:
    first, second = Engine(database=tmp_path / "1.db"), Engine(database=tmp_path / "2.db")
    async with first:
        assert await double(1) == 2
        async with second:
            assert await total(1) == 0
        assert await double(2) == 4
        with pytest.raises(RuntimeError, match="open already"):
            await first.__aenter__()
    async with first:
        assert await double(3) == 6
    assert history(tmp_path / "1.db") == {"double": ["Completed"] * 3}
    assert history(tmp_path / "2.db") == {
        "total": ["Completed"],
        "double": ["Completed"],
        "plain_double": ["Completed"],
    }


def test_many_engines_one_after_the_other(run_on: Callable[..., Any]) -> None:
    async def once() -> int:
        async with Engine(database=":memory:"):
            return await double(1)

    assert [run_on(once) for _ in range(20)] == [2] * 20


@pytest.mark.anyio
async def test_an_error_inside_closes_it(tmp_path: Path) -> None:
    engine = Engine(database=tmp_path / "mine.db")
    with pytest.raises(ValueError, match="mine"):
        async with engine:
            await double(1)
            raise ValueError("mine")
    assert not engine.usable
    assert history(tmp_path / "mine.db") == {"double": ["Completed"]}


@pytest.mark.anyio
async def test_a_cancelled_block_closes_it(tmp_path: Path) -> None:
    engine = Engine(database=tmp_path / "mine.db")
    with anyio.CancelScope() as scope:
        async with engine:
            await double(1)
            scope.cancel()
            await anyio.sleep_forever()
    assert scope.cancelled_caught
    assert not engine.usable
    assert history(tmp_path / "mine.db") == {"double": ["Completed"]}


# ----------------------------------------------------------------------------------------- wrong uses


def test_options_are_checked_at_once() -> None:
    with pytest.raises(ValueError, match="`drain_seconds` must be >= 0"):
        Engine(drain_seconds=-1)
    with pytest.raises(ValueError, match="drain_seconds"):
        Engine(drain_seconds=float("nan"))
    with pytest.raises(ValueError, match="sometimes"):
        Engine(durability="sometimes")


def test_a_closed_engine_says_how_to_open_it() -> None:
    with pytest.raises(EngineClosed, match=r"async with Engine\(\.\.\.\)"):
        _ = Engine().core


@pytest.mark.anyio
async def test_a_run_cannot_close_its_own_engine(tmp_path: Path) -> None:
    engine = Engine(database=":memory:")

    @flow
    async def closes() -> str:
        with pytest.raises(RuntimeError, match="cannot be closed by a run of its own"):
            await engine.__aexit__()
        return "went on"

    async with engine:
        assert await closes() == "went on"
        assert await double(1) == 2


@pytest.mark.anyio
async def test_a_database_that_cannot_be_used_is_told_at_opening(tmp_path: Path) -> None:
    (tmp_path / "text.db").write_text("this is not a database, it is a text of more than a hundred bytes " * 5)
    with pytest.raises(StoreNotADatabase, match=r"text\.db"):
        async with Engine(database=tmp_path / "text.db"):
            pass
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="file"):
        async with Engine(database=tmp_path / "file" / "below.db"):
            pass
    with pytest.raises(StoreError, match="folder"):
        async with Engine(database=make_folder(tmp_path / "folder")):
            pass
    assert EngineContext.get() is None
    assert await double(1) == 2, "the ambient engine is used as ever"


def make_folder(path: Path) -> Path:
    path.mkdir()
    return path


# --------------------------------------------------------------------------------------------- drain


@pytest.mark.anyio
async def test_runs_may_finish_and_start_children_but_no_new_roots_start(tmp_path: Path) -> None:
    started, may_end = anyio.Event(), anyio.Event()
    found: list[Any] = []

    @flow
    async def lasts() -> int:
        started.set()
        await may_end.wait()
        return await double(21) + double.submit(0).result()

    async def outside(engine: Engine) -> None:
        found.append(await lasts())

    async def latecomer() -> None:
        while engine.core.accepting:
            await anyio.sleep(0.001)
        with pytest.raises(EngineClosed, match="takes no new runs"):
            await double(1)
        with pytest.raises(EngineClosed, match="takes no new runs"):
            plain_double(1)
        may_end.set()

    async with anyio.create_task_group() as group:
        async with Engine(database=tmp_path / "mine.db") as engine:
            group.start_soon(outside, engine)
            group.start_soon(latecomer)
            await started.wait()
    assert found == [42]
    assert engine.left == ()
    assert history(tmp_path / "mine.db") == {"lasts": ["Completed"], "double": ["Completed"] * 2}


@pytest.mark.anyio
async def test_what_does_not_finish_in_time_is_cancelled_and_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    started = anyio.Event()
    ends: list[str] = []

    @task
    async def child() -> None:
        started.set()
        try:
            await anyio.sleep_forever()
        finally:
            ends.append("child")

    @flow(flow_run_name="endless")
    async def lasts() -> None:
        child.submit()
        try:
            await anyio.sleep_forever()
        finally:
            ends.append("flow")

    async def outside() -> None:
        with pytest.raises(CancelledRun):
            await lasts()
        ends.append("caller")

    async with anyio.create_task_group() as group:
        async with Engine(database=tmp_path / "mine.db", drain_seconds=0.05) as engine:
            group.start_soon(outside)
            await started.wait()
    assert sorted(ends) == ["caller", "child", "flow"]
    assert engine.left == ()
    warnings = [record.getMessage() for record in caplog.records if record.name == "callsheet.engine"]
    assert [line for line in warnings if "flow run endless" in line and "0.05 seconds" in line]
    assert history(tmp_path / "mine.db") == {"lasts": ["Cancelled"], "child": ["Cancelled"]}


@pytest.mark.anyio
async def test_what_cannot_be_made_to_leave_is_left_behind_named_and_crashed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("CALLSHEET_CANCEL_GRACE_SECONDS", "0.05")
    started, may_end = threading.Event(), threading.Event()

    @task(task_run_name="stubborn")
    def lasts() -> None:
        started.set()
        may_end.wait()

    def caller() -> None:
        with pytest.raises(CrashedRun, match="closed before the run ended"):
            lasts()

    async with anyio.create_task_group() as group:
        async with Engine(database=tmp_path / "mine.db", drain_seconds=0.01) as engine:
            group.start_soon(anyio.to_thread.run_sync, caller)
            while not started.is_set():
                await anyio.sleep(0.001)
        assert engine.left == ("task run stubborn",)
        assert "left behind: task run stubborn" in caplog.text
        assert history(tmp_path / "mine.db") == {"lasts": ["Crashed"]}
        may_end.set()


# ------------------------------------------------------------------------------- loops and threads


def test_two_engines_on_two_loops_at_once(tmp_path: Path, run_on: Callable[..., Any]) -> None:
    barrier = threading.Barrier(2, timeout=10)
    found: list[int] = []

    async def main(name: str, n: int) -> None:
        async with Engine(database=tmp_path / name):
            await anyio.to_thread.run_sync(barrier.wait)
            found.append(await total(n))
            await anyio.to_thread.run_sync(barrier.wait)

    threads = [threading.Thread(target=run_on, args=(main, f"{n}.db", n)) for n in (2, 3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(found) == [4, 12]
    for n in (2, 3):
        assert len(history(tmp_path / f"{n}.db")["double"]) == n


@pytest.mark.anyio
async def test_sync_code_in_threads_uses_it_and_its_async_children_run_on_its_loop(tmp_path: Path) -> None:
    loop_thread = threading.get_ident()

    @task
    async def where() -> int:
        await anyio.sleep(0)
        return threading.get_ident()

    @flow
    def endpoint() -> tuple[int, int]:
        return threading.get_ident(), where.submit().result()

    def plain_thread(found: list[Any]) -> None:
        found.append(endpoint())

    async with Engine(database=tmp_path / "mine.db"):
        here, there = await anyio.to_thread.run_sync(endpoint)
        found: list[Any] = []
        thread = threading.Thread(target=plain_thread, args=(found,))  # which knows nothing of this context
        thread.start()
        while thread.is_alive():
            await anyio.sleep(0.001)
    assert here != loop_thread
    assert there == found[0][1] == loop_thread
    assert history(tmp_path / "mine.db") == {"endpoint": ["Completed"] * 2, "where": ["Completed"] * 2}


@pytest.mark.anyio
async def test_an_engine_of_a_loop_that_has_ended_is_ignored(tmp_path: Path) -> None:
    """A thread copies the context, and outlives the engine in it; a loop of its own begins there."""
    may_go_on = threading.Event()
    found: list[int] = []

    def outlives() -> None:
        may_go_on.wait()
        found.append(asyncio.run(_awaited_double(4)))
        found.append(plain_double(5))

    async with anyio.create_task_group() as group:
        async with Engine(database=tmp_path / "mine.db"):
            group.start_soon(anyio.to_thread.run_sync, outlives)
            assert await double(1) == 2
        may_go_on.set()
    assert found == [8, 10]
    assert history(tmp_path / "mine.db") == {"double": ["Completed"]}


async def _awaited_double(x: int) -> int:
    return await double(x)


def test_a_context_from_a_loop_that_has_closed() -> None:
    async def main() -> contextvars.Context:
        async with Engine(database=":memory:"):
            await double(1)
            return contextvars.copy_context()

    context = asyncio.run(main())
    assert context.run(plain_double, 2) == 4
    assert context.run(lambda: asyncio.run(_awaited_double(3))) == 6


# ---------------------------------------------------------------------------------------- embedding


@pytest.mark.anyio
async def test_the_host_is_the_same_after_as_before(tmp_path: Path) -> None:
    def look() -> list[Any]:
        root = logging.getLogger()
        return [
            root.level,
            list(root.handlers),
            [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGALRM)],
            anyio.to_thread.current_default_thread_limiter().total_tokens,
            anyio.to_thread.current_default_thread_limiter().borrowed_tokens,
        ]

    before = look()
    async with Engine(database=tmp_path / "mine.db"):
        await total(3)
        inside = look()
    assert before == inside == look()


def build(framework: str, engine: Engine, asynchronous: Any, plain: Any) -> Any:
    """Make an application with one endpoint of each colour and the engine as its lifespan."""
    if framework == "starlette":
        from starlette.applications import Starlette
        from starlette.concurrency import run_in_threadpool
        from starlette.responses import JSONResponse
        from starlette.routing import Route

        async def async_page(request: Any) -> JSONResponse:
            return JSONResponse(await asynchronous(3))

        async def sync_page(request: Any) -> JSONResponse:
            return JSONResponse(await run_in_threadpool(plain, 3))

        routes = [Route("/async", async_page), Route("/sync", sync_page)]
        return Starlette(routes=routes, lifespan=engine.lifespan)
    if framework == "fastapi":
        from fastapi import FastAPI

        app = FastAPI(lifespan=engine.lifespan)

        @app.get("/async")
        async def async_answer() -> int:
            return await asynchronous(3)

        @app.get("/sync")
        def sync_answer() -> int:
            return plain(3)

        return app
    from litestar import Litestar, get

    @get("/async")
    async def litestar_async() -> int:
        return await asynchronous(3)

    @get("/sync", sync_to_thread=True)
    def litestar_sync() -> int:
        return plain(3)

    return Litestar([litestar_async, litestar_sync], lifespan=[engine.lifespan])


async def ask(app: Any, path: str) -> bytes:
    """Send one request to an application, as a server does, and give the body of its answer."""
    sent: list[Any] = []
    scope = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "GET", "scheme": "http",
        "path": path, "raw_path": path.encode(), "root_path": "", "query_string": b"", "headers": [],
        "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 80), "state": {},
    }  # fmt: skip
    received = iter([{"type": "http.request", "body": b"", "more_body": False}])

    async def receive() -> Any:
        message = next(received, None)
        if message is None:
            await anyio.sleep_forever()
        return message

    async def send(message: Any) -> None:
        sent.append(message)

    await app(scope, receive, send)
    assert sent[0]["status"] == 200, sent
    return b"".join(message.get("body", b"") for message in sent[1:])


@pytest.mark.parametrize("framework", ["starlette", "fastapi", "litestar"])
@pytest.mark.anyio
async def test_as_the_lifespan_of_an_application(framework: str, tmp_path: Path, callsheet_home: Path) -> None:
    pytest.importorskip(framework)

    @flow
    async def asynchronous(n: int) -> int:
        return sum(double.map(range(n)).result())

    @flow
    def plain(n: int) -> int:
        return sum(plain_double.map(range(n)).result()) + double.submit(0).result()

    engine = Engine(database=tmp_path / "app.db")
    app = build(framework, engine, asynchronous, plain)
    to_app, from_app = anyio.create_memory_object_stream[Any](5), anyio.create_memory_object_stream[Any](5)
    with to_app[0], to_app[1], from_app[0], from_app[1]:
        async with anyio.create_task_group() as group:
            scope = {"type": "lifespan", "asgi": {"version": "3.0"}, "state": {}}
            group.start_soon(app, scope, to_app[1].receive, from_app[0].send)
            await to_app[0].send({"type": "lifespan.startup"})
            assert (await from_app[1].receive())["type"] == "lifespan.startup.complete"
            answers: list[bytes] = []

            async def client(path: str) -> None:
                answers.append(await ask(app, path))

            async with anyio.create_task_group() as clients:
                for index in range(8):
                    clients.start_soon(client, "/sync" if index % 2 else "/async")
            assert answers == [b"6"] * 8
            await to_app[0].send({"type": "lifespan.shutdown"})
            assert (await from_app[1].receive())["type"] == "lifespan.shutdown.complete"
    assert not engine.usable
    found = history(tmp_path / "app.db")
    assert found["asynchronous"] == found["plain"] == ["Completed"] * 4
    assert not callsheet_home.exists()


@pytest.mark.anyio
async def test_names_of_runs_in_several_engines_do_not_matter_to_each_other() -> None:
    @flow(flow_run_name="same")
    async def named() -> str:
        return runtime.flow_run.name

    async with Engine(database=":memory:"):
        assert await named() == "same"
        async with Engine(database=":memory:"):
            assert await named() == "same"
