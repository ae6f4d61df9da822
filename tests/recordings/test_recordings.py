"""Recordings: what is taken out of a history, and the files that they are saved to."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from cryptography.fernet import Fernet

from callsheet import flow, task
from callsheet._engine.recording import INLINE_LIMIT
from callsheet.exceptions import ObjectNotFound, RecordingError
from callsheet.settings import temporary_settings
from callsheet.testing import MemoryEngine, Recording, ReplayDiffers, harness, record, replay

done: list[Any] = []


@task
def load(size: int) -> bytes:
    """Give so many bytes."""
    done.append(size)
    return bytes(size)


@flow
def whole(size: int = 3) -> int:
    """Count the bytes that are loaded."""
    return len(load(size))


@pytest.fixture(autouse=True)
def _nothing_done() -> Iterator[None]:
    done.clear()
    yield
    done.clear()


def test_a_file_is_replayed_without_naming_the_flow(tmp_path: Path) -> None:
    with MemoryEngine():
        recording = record(whole(return_state=True))
    assert repr(recording) == f"<Recording of 'whole' ({recording.run.name}): 1 runs in it, Completed>"
    path = tmp_path / "recordings" / "whole.json"
    recording.save(path)
    assert Recording.load(path) == recording
    done.clear()
    assert replay(path).result == 3
    assert replay(str(path)).result == 3
    assert done == []
    assert [one.name for one in path.parent.iterdir()] == ["whole.json"]


def test_a_history_in_a_file_and_results_beside_it(tmp_path: Path) -> None:
    """A large result is in a file of its own, and becomes part of the recording."""
    with harness(tmp_path / "history.db") as database:
        state = whole(INLINE_LIMIT + 1, return_state=True)
        run_id = state.state_details.flow_run_id
        recording = record(run_id, database)
        assert not recording.has_result  # that of a root flow is nowhere on record
        assert record(run_id).outcomes == recording.outcomes
    done.clear()
    assert replay(recording).result == INLINE_LIMIT + 1
    assert done == []


def test_what_is_persisted_becomes_part_of_it(tmp_path: Path) -> None:
    settings = {"CALLSHEET_LOCAL_STORAGE_PATH": str(tmp_path / "results")}
    with temporary_settings(settings), MemoryEngine():
        kept = whole.with_options(persist_result=True)
        run_id = kept(return_state=True).state_details.flow_run_id
        recording = record(run_id)
    assert recording.has_result
    for one in (tmp_path / "results").rglob("*"):
        one.unlink()
    done.clear()
    with temporary_settings(settings):
        assert replay(recording, kept).result == 3
    assert done == []
    assert list((tmp_path / "results").rglob("*")) == []  # nothing is kept again


def test_a_persisted_result_that_is_gone(tmp_path: Path) -> None:
    settings = {"CALLSHEET_LOCAL_STORAGE_PATH": str(tmp_path / "results")}
    with temporary_settings(settings), MemoryEngine():
        kept = whole.with_options(persist_result=True)
        run_id = kept(return_state=True).state_details.flow_run_id
        for one in (tmp_path / "results").rglob("*"):
            one.unlink()
        recording = record(run_id)
    assert not recording.has_result
    with pytest.raises(RecordingError, match="what the task 'load' gave is not on record"):
        replay(recording, kept)


def test_encrypted_results_stay_so(tmp_path: Path) -> None:
    key = Fernet.generate_key().decode()
    settings = {"CALLSHEET_RESULTS_DEFAULT_SERIALIZER": "encrypted/pickle", "CALLSHEET_RESULTS_ENCRYPTION_KEYS": key}
    path = tmp_path / "secret.json"
    with temporary_settings(settings), MemoryEngine():
        record(whole(return_state=True)).save(path)
    with temporary_settings(settings):
        assert replay(path).result == 3
    with pytest.raises(ReplayDiffers, match="load, whose result cannot be read any more"):
        replay(path)


def test_no_such_run() -> None:
    with MemoryEngine():
        with pytest.raises(ObjectNotFound):
            record(uuid4())
        state = load(1, return_state=True)
        with pytest.raises(ObjectNotFound, match="not the state of a flow run"):
            record(state)
    with pytest.raises(FileNotFoundError):
        record(uuid4(), "/nowhere/history.db")


def test_files_of_others(tmp_path: Path) -> None:
    path = tmp_path / "one.json"
    with MemoryEngine():
        record(whole(return_state=True)).save(path)
    content = json.loads(path.read_text())
    for broken in ("{}", "no JSON", "[]", json.dumps({**content, "runs": 1}), path.read_text()[:-300]):
        path.write_text(broken)
        with pytest.raises(RecordingError, match="is no recording"):
            replay(path)
    path.write_text(json.dumps({**content, "version": 99, "runs": "of another form"}))
    with pytest.raises(RecordingError, match=r"version 99, made by callsheet .* reads version 1"):
        replay(path)
    with pytest.raises(FileNotFoundError):
        replay(tmp_path / "missing.json")
