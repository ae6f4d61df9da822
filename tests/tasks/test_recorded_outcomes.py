"""What the run journal keeps of a task's outcome inside a flow run: its form, its place, and what cannot be kept."""

from __future__ import annotations

import logging
import threading
from pathlib import Path
from typing import Any

import msgspec
import pytest

from callsheet import flow, task
from callsheet._engine.ambient import ambient_core
from callsheet._engine.recording import INLINE_LIMIT, _in_row, _serialize, _short_record
from callsheet._kernel.ports import step
from callsheet._model.records import OutcomeRecord
from callsheet._results.journalled import recall
from callsheet._results.parts import join
from callsheet._results.ways import blocking
from callsheet._results.wires import Wire, frame
from callsheet.exceptions import MissingResult, ResultDamaged, ResultNotFound, SerializationError
from callsheet.filesystems import LocalFileSystem
from callsheet.results import ResultRecord, ResultStore
from callsheet.serializers import EncryptedSerializer
from callsheet.settings import temporary_settings
from callsheet.states import StateType


def outcomes_of(*values: Any, **options: Any) -> list[OutcomeRecord]:
    """Run a flow with a task for each value, and give what was recorded of them, in order."""

    @task(**options)
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


def recalled(outcome: OutcomeRecord, **changes: Any) -> ResultRecord[Any]:
    """Read what was recorded, or what would have been if its entry were another one."""
    blob = outcome.result and msgspec.structs.replace(outcome.result, **changes)
    return step(recall(blocking(), blob, ambient_core().blobs, run_id=outcome.run_id, run="task run 'give'"))


def test_small_results_stand_in_their_rows():
    def local() -> int:
        return 7

    values = [None, 3, "über", "\ud800", b"\0", 2**80, [1, {"a": 2}]]
    *outcomes, closure = outcomes_of(*values, local)
    assert all(outcome.recorded for outcome in outcomes)
    assert outcomes[0].result is None
    assert {outcome.result.codec for outcome in outcomes[1:]} == {"record"}
    records = [recalled(outcome) for outcome in outcomes]
    assert [record.result for record in records] == values
    assert [record.metadata.storage_key for record in records] == [str(outcome.run_id) for outcome in outcomes]
    assert [record.serializer.type for record in records[1:]] == ["msgpack"] * 2 + ["pickle"] * 4
    assert recalled(closure).result() == 7
    assert len({outcome.identity for outcome in outcomes}) == len(values)


def test_a_result_in_the_journal_is_a_record_like_those_in_storages(tmp_path):
    """One form of bytes: what the journal has of a result can be put into a storage, and is read from there."""
    (outcome,) = outcomes_of([1, 2])
    storage = LocalFileSystem(tmp_path)
    storage.write_path("moved", outcome.result.inline)
    store = ResultStore(result_storage=storage)
    assert store.exists("moved")
    assert store.read("moved").result == [1, 2]
    assert ResultRecord.deserialize(outcome.result.inline).metadata.callsheet_version


def test_a_persisted_result_is_recalled_from_its_storage(tmp_path):
    (outcome,) = outcomes_of({"a": 1}, result_storage=tmp_path, result_storage_key="kept", result_serializer="json")
    assert outcome.result.codec == "metadata"
    record = recalled(outcome)
    assert (record.result, record.serializer.type) == ({"a": 1}, "json")
    (tmp_path / "kept").unlink()
    with pytest.raises(
        ResultNotFound, match=rf"The result of task run 'give' cannot be read.*{tmp_path}.*Run it again"
    ):
        recalled(outcome)


def test_the_journal_encrypts_where_results_are_encrypted_by_default():
    key = EncryptedSerializer.generate_key()
    settings = {"results_default_serializer": "encrypted/json", "results_encryption_keys": key}
    with temporary_settings(settings):
        secret, large = outcomes_of("a secret", "a secret" * 10_000)
        assert b"secret" not in secret.result.inline
        assert b"secret" not in (folder() / large.result.uri).read_bytes()
        assert recalled(secret).result == "a secret"
        assert recalled(large).result == "a secret" * 10_000
    with pytest.raises(SerializationError, match=r"The result of task run 'give' cannot be read.*no key"):
        recalled(secret)
    with temporary_settings(settings | {"results_encryption_keys": None}):
        (unkept,) = outcomes_of("a secret")
    assert not unkept.recorded
    assert unkept.result is None


def test_failures_are_recorded_with_what_was_raised():
    (failed,) = outcomes_of(ValueError("too hot"))
    assert failed.status is StateType.FAILED
    assert repr(recalled(failed).result) == "ValueError('too hot')"


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
    assert recalled(large).result == value
    assert [path.name for path in folder().iterdir()] == [large.result.uri]


def test_a_history_in_memory_keeps_large_results_too():
    with temporary_settings({"CALLSHEET_DATABASE": ":memory:"}):
        (large,) = outcomes_of(b"x" * (INLINE_LIMIT + 1))
        assert large.result.uri is None
        assert large.result.size == len(large.result.inline)
        assert recalled(large).result == b"x" * (INLINE_LIMIT + 1)


def test_a_result_that_has_no_room_is_told_and_not_recorded(caplog):
    ambient_core()
    folder().write_text("in the way")
    with caplog.at_level(logging.WARNING, logger="callsheet.results"):
        (large,) = outcomes_of(b"x" * (INLINE_LIMIT + 1))
    assert not large.recorded
    assert large.status is StateType.COMPLETED
    assert "could not be written" in caplog.text


def test_what_cannot_be_recalled_says_whose_it_is_and_what_to_do():
    large, small = outcomes_of(b"x" * (INLINE_LIMIT + 1), "small")
    file = folder() / large.result.uri
    whole = file.read_bytes()
    wrong = {
        "torn": whole[:-1],
        "damaged": whole[:-1] + b"y",
        "something else": b"GIF89a",
        "another result": small.result.inline,
        "no metadata": b'{"a": 1}',
    }
    for what, content in wrong.items():
        file.write_bytes(content)
        with pytest.raises(ResultDamaged, match=f"The result of task run 'give' .*{what}") as caught:
            recalled(large)
        assert str(large.run_id) in str(caught.value)
        assert str(folder()) in str(caught.value)
        assert "Run it again" in str(caught.value)
    file.unlink()
    with pytest.raises(ResultNotFound, match="task run 'give'"):
        recalled(large)
    with pytest.raises(ResultDamaged, match=r"torn.*in the run journal"):
        recalled(small, inline=small.result.inline[:-1])
    with pytest.raises(MissingResult, match="the form 'msgpack'"):
        recalled(small, codec="msgpack")
    unknown = join(frame(Wire(None, {"type": "unknown-to-all"}, "1.0"), [b"?"]))
    with pytest.raises(SerializationError, match=r"task run 'give'.*'unknown-to-all'"):
        recalled(small, inline=unknown)


@pytest.mark.parametrize(
    "value", [0, -7, 2**63, 1.5, True, "", "text", "half \ud800", "x" * INLINE_LIMIT, "%s %d", 2**64]
)
def test_records_of_short_values_are_those_of_all_others(value):
    assert _short_record(value) in (None, _in_row(*_serialize(value)))
    assert (_short_record(value) is None) == (value in (2**64, "half \ud800", "x" * INLINE_LIMIT))
