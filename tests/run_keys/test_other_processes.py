"""Calls under run keys in several processes on one history."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import keyed_flows
from callsheet._engine import keyed_search
from callsheet.exceptions import RunKeyConflict
from keyed_flows import FOLDER, Caller, RefusedError, Stage, call


@pytest.fixture
def stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stage:
    monkeypatch.setenv(FOLDER, str(tmp_path / "stage"))
    return Stage(tmp_path / "stage")


@pytest.fixture
def other(stage: Stage) -> Iterator[Caller]:
    with Caller() as caller:
        yield caller


@pytest.mark.parametrize(("name", "backend"), [("charge", "asyncio"), ("acharge", "asyncio"), ("acharge", "trio")])
def test_a_call_attaches_to_the_run_of_another_process(stage: Stage, other: Caller, name: str, backend: str) -> None:
    other.tell(f"call({name!r}, 'k', backend={backend!r})")
    stage.await_body()
    with Caller() as third:
        third.tell(f"call({name!r}, 'k', backend={backend!r})")
        with pytest.raises(RunKeyConflict):
            call(name, "k", 2, backend)
        stage.open()
        assert call(name, "k", 1, backend) == "1: first second"
        assert other.hear() == third.hear() == "1: first second"
    assert stage.notes == ["first", "second"]


def test_its_exception_is_raised_here(stage: Stage, other: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
    other.tell("call('refuse', 'k')")
    stage.await_body()
    look = keyed_search._look

    def attached(*args: Any) -> Any:
        found = look(*args)
        opening.start()
        monkeypatch.setattr(keyed_search, "_look", look)
        return found

    opening = threading.Thread(target=stage.open)
    monkeypatch.setattr(keyed_search, "_look", attached)
    with pytest.raises(RefusedError, match="no 1"):
        call("refuse", "k", on_failed="retry")  # it fails while this call is attached
    opening.join()
    assert other.hear() == "RefusedError: no 1"
    assert stage.notes == ["refuse"]
    with pytest.raises(RefusedError):
        call("refuse", "k", on_failed="retry")
    assert stage.notes == ["refuse", "refuse"]


def test_many_callers_in_many_processes_run_one_body(stage: Stage) -> None:
    stage.open_before()
    many = (
        "[*__import__('concurrent.futures').futures.ThreadPoolExecutor(8).map(lambda _: call('charge', 'k'), range(8))]"
    )
    with Caller() as a, Caller() as b, Caller() as c:
        for caller in (a, b, c):
            caller.tell(many)
        for caller in (a, b, c):
            assert caller.hear() == str(["1: first second"] * 8)
    assert stage.notes == ["first", "second"]


@pytest.mark.parametrize("durability", ["relaxed", "results", "strict"])
def test_what_was_answered_is_known_after_a_kill(stage: Stage, durability: str) -> None:
    stage.open_before()
    with Caller(CALLSHEET_DURABILITY=durability) as caller:
        assert caller.ask("call('charge', 'k')") == "1: first second"
        caller.kill()
    assert call("charge", "k") == "1: first second"
    assert stage.notes == ["first", "second"]


def test_two_engines_of_one_process_attach_as_well(stage: Stage) -> None:
    import anyio

    from callsheet import Engine
    from callsheet.settings import refresh_settings

    async def main() -> None:
        results = []

        async def caller(engine: Engine) -> None:
            async with engine:
                with keyed_flows.run_key("k"):
                    results.append(await keyed_flows.acharge(1))

        database = refresh_settings().database
        stage.open_before()
        async with anyio.create_task_group() as group:
            for _ in range(2):
                group.start_soon(caller, Engine(database=database))
        assert results == ["1: first second"] * 2

    anyio.run(main)
    assert stage.notes == ["first", "second"]
