"""Temporary settings hold for what is called inside their block, whatever engine was opened before."""

from __future__ import annotations

import logging
from contextlib import nullcontext
from typing import Any

import anyio
import pytest

from callsheet import Engine, flow, get_client, get_run_logger, task
from callsheet.settings import (
    CALLSHEET_CANCEL_GRACE_SECONDS,
    CALLSHEET_LOGGING_LOG_PRINTS,
    CALLSHEET_LOGGING_TO_DATABASE,
    temporary_settings,
)


@task
def says() -> None:
    print("by task")


@flow
def speaks() -> None:
    print("by flow")
    says()
    get_run_logger().info("logged")


def kept() -> list[str]:
    with get_client(sync_client=True) as client:
        return [record.message for record in client.read_logs()]


def test_prints_are_logged_inside_the_block(capsys: pytest.CaptureFixture[str]) -> None:
    speaks()
    assert capsys.readouterr().out.split("\n")[:2] == ["by flow", "by task"]
    with temporary_settings({CALLSHEET_LOGGING_LOG_PRINTS: True}):
        speaks()
        says()
    assert not {"by flow", "by task"} & set(capsys.readouterr().out.split("\n"))
    assert sorted(kept()) == sorted(["logged"] * 2 + ["by flow"] + ["by task"] * 2)
    speaks()
    assert capsys.readouterr().out.split("\n")[:2] == ["by flow", "by task"]


def test_logs_are_kept_as_the_block_says() -> None:
    speaks()
    with temporary_settings({CALLSHEET_LOGGING_TO_DATABASE: False}):
        speaks()
    assert kept() == ["logged"]
    speaks()
    assert kept() == ["logged"] * 2


def test_logs_are_kept_in_a_block_of_an_engine_that_keeps_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CALLSHEET_LOGGING_TO_DATABASE", "false")
    speaks()
    assert kept() == []
    with temporary_settings({CALLSHEET_LOGGING_TO_DATABASE: True}):
        speaks()
    assert kept() == ["logged"]


@pytest.mark.anyio
async def test_an_engine_keeps_what_it_was_opened_with() -> None:
    opened, over = anyio.Event(), anyio.Event()

    async def lifespan() -> None:
        with temporary_settings({CALLSHEET_LOGGING_TO_DATABASE: False}):
            async with Engine(database=":memory:"):
                opened.set()
                await over.wait()

    async with anyio.create_task_group() as group:
        group.start_soon(lifespan)
        await opened.wait()
        speaks()
        assert kept() == []
        with temporary_settings({CALLSHEET_LOGGING_TO_DATABASE: True}):
            speaks()
        assert kept() == ["logged"]
        over.set()


@pytest.mark.parametrize("there", [True, False], ids=["in a block", "without"])
@pytest.mark.anyio
async def test_children_that_do_not_end_are_waited_for_as_long_as_the_block_says(
    there: bool, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CALLSHEET_CANCEL_GRACE_SECONDS", "0.02" if not there else "50")
    speaks()
    begun, may_end = anyio.Event(), anyio.Event()

    @task
    async def stubborn() -> None:
        begun.set()
        with anyio.CancelScope(shield=True):
            await may_end.wait()

    @flow
    async def gives_up() -> None:
        stubborn.submit()
        await begun.wait()
        raise ValueError("no")

    block: Any = temporary_settings({CALLSHEET_CANCEL_GRACE_SECONDS: 0.01}) if there else nullcontext()
    with caplog.at_level(logging.WARNING, "callsheet"), block, anyio.fail_after(40):
        with pytest.raises(ValueError, match="no"):
            await gives_up()
    assert f"did not end within {0.01 if there else 0.02} seconds" in caplog.text
    may_end.set()
