"""What the run journal keeps of a task's outcome inside a flow run: its form, its place, and what cannot be kept."""

from __future__ import annotations

import logging
import pickle
import threading
from pathlib import Path
from typing import Any

import msgspec

from callsheet import flow, task
from callsheet._engine.ambient import ambient_core
from callsheet._engine.recording import INLINE_LIMIT
from callsheet._kernel.ports import step
from callsheet._model.records import OutcomeRecord
from callsheet.settings import temporary_settings
from callsheet.states import StateType


def outcomes_of(*values: Any) -> list[OutcomeRecord]:
    """Run a flow with a task for each value, and give what was recorded of them, in order."""

    @task
    def give(index: int) -> Any:
        if isinstance(values[index], BaseException):
            raise values[index]
        return values[index]

    @flow
    def giving() -> None:
        for index in range(len(values)):
            give(index, return_state=True)

    flow_run_id = giving(return_state=True).state_details.flow_run_id
    core = ambient_core()
    core.journal.flush()
    reader = core.store.blocking_reader()
    try:
        found = step(reader.read_outcomes(flow_run_id))
    finally:
        step(reader.aclose())
    return sorted(found, key=lambda outcome: outcome.run_id)


def folder() -> Path:
    return Path(f"{ambient_core().store.location}-results")


def test_small_results_stand_in_their_rows():
    def local() -> int:
        return 7

    none, number, text, huge, listed, closure = outcomes_of(None, 3, "über", 2**80, [1, {"a": 2}], local)
    assert none.recorded
    assert none.result is None
    assert [number.result.codec, text.result.codec, huge.result.codec] == ["msgpack", "msgpack", "pickle"]
    assert msgspec.msgpack.decode(number.result.inline) == 3
    assert msgspec.msgpack.decode(text.result.inline) == "über"
    assert pickle.loads(huge.result.inline) == 2**80
    assert pickle.loads(listed.result.inline) == [1, {"a": 2}]
    assert closure.result.codec == "cloudpickle"
    assert pickle.loads(closure.result.inline)() == 7
    assert len({none.identity, number.identity, text.identity}) == 3


def test_failures_are_recorded_with_what_was_raised():
    (failed,) = outcomes_of(ValueError("too hot"))
    assert failed.status is StateType.FAILED
    assert str(pickle.loads(failed.result.inline)) == "too hot"


def test_what_cannot_be_serialized_is_noted_as_such():
    (lock,) = outcomes_of(threading.Lock())
    assert lock.status is StateType.COMPLETED
    assert not lock.recorded
    assert lock.result is None


def test_a_large_result_has_a_file_of_its_own():
    value = b"x" * (INLINE_LIMIT + 1)
    (large,) = outcomes_of(value)
    assert large.result.inline is None
    assert large.result.uri == str(large.run_id)
    body = (folder() / large.result.uri).read_bytes()
    assert len(body) == large.result.size
    assert msgspec.msgpack.decode(body) == value
    assert [path.name for path in folder().iterdir()] == [large.result.uri]


def test_a_history_in_memory_keeps_large_results_too():
    with temporary_settings({"CALLSHEET_DATABASE": ":memory:"}):
        (large,) = outcomes_of(b"x" * (INLINE_LIMIT + 1))
        assert large.result.uri is None
        assert large.result.size == len(large.result.inline)


def test_a_result_that_has_no_room_is_told_and_not_recorded(caplog):
    ambient_core()
    folder().write_text("in the way")
    with caplog.at_level(logging.WARNING, logger="callsheet.results"):
        (large,) = outcomes_of(b"x" * (INLINE_LIMIT + 1))
    assert not large.recorded
    assert large.status is StateType.COMPLETED
    assert "could not be written" in caplog.text
