"""Result stores over every storage: round trips, faults, several writers and processes, memory and the loop."""

from __future__ import annotations

import errno
import os
import signal
import threading
import tracemalloc
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import anyio
import numpy as np
import obstore.store
import pytest
from pydantic import ValidationError

import warm
from callsheet import flow, task
from callsheet._results import files
from callsheet._store import values as value_files
from callsheet.exceptions import (
    ConfigurationError,
    MissingResult,
    ObjectNotFound,
    ResultDamaged,
    ResultNotFound,
    SerializationError,
    StorageError,
    StorageFull,
    StorageUnavailable,
)
from callsheet.filesystems import (
    DatabaseStorage,
    LocalFileSystem,
    MemoryStorage,
    NullFileSystem,
    RemoteFileSystem,
    WritableFileSystem,
)
from callsheet.results import (
    ResultRecord,
    ResultRecordMetadata,
    ResultStore,
    get_default_result_storage,
    get_result_store,
    should_persist_result,
)
from callsheet.serializers import EncryptedSerializer, JSONSerializer
from callsheet.settings import temporary_settings


class Blocking(WritableFileSystem):
    """A user's storage, sync."""

    def __init__(self) -> None:
        self.kept: dict[str, bytes] = {}
        self.error: BaseException | None = None

    def read_path(self, path: str) -> bytes:
        if self.error is not None:
            raise self.error
        return self.kept[path]

    def write_path(self, path: str, content: bytes) -> None:
        if self.error is not None:
            raise self.error
        self.kept[path] = content


class Suspending:
    """A user's storage, async, that inherits from nothing of ours."""

    def __init__(self) -> None:
        self.kept: dict[str, bytes] = {}

    async def read_path(self, path: str) -> bytes:
        await anyio.sleep(0)
        return self.kept[path]

    async def write_path(self, path: str, content: bytes) -> None:
        await anyio.sleep(0)
        self.kept[path] = content


STORAGES: dict[str, Callable[[Path], Any]] = {
    "local": lambda folder: LocalFileSystem(folder / "local"),
    "database": lambda folder: DatabaseStorage(folder / "database"),
    "memory": lambda _: MemoryStorage(),
    "fsspec": lambda folder: RemoteFileSystem(f"memory://{folder.name}-{os.getpid()}"),
    "obstore": lambda _: RemoteFileSystem(store=obstore.store.MemoryStore()),
    "obstore on disk": lambda folder: RemoteFileSystem("results", store=obstore.store.LocalStore(str(folder))),
    "blocking": lambda _: Blocking(),
    "suspending": lambda _: Suspending(),
}


@pytest.fixture(params=list(STORAGES))
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Any]:
    made = STORAGES[request.param](tmp_path)
    yield made
    if isinstance(made, DatabaseStorage):
        made.close()


@pytest.fixture
def store(storage: Any) -> ResultStore:
    return ResultStore(result_storage=storage, cache_result_in_memory=False)


SMALL, LARGE = {"a": (1, 2)}, b"x" * 200_000


@pytest.mark.parametrize("value", [SMALL, LARGE, None], ids=["small", "large", "nothing"])
def test_what_is_written_is_read(store: ResultStore, value: Any) -> None:
    assert not store.exists("folder/key")
    store.write(value, key="folder/key")
    assert store.exists("folder/key")
    record = store.read("folder/key")
    assert record.result == value
    assert record == store.create_result_record(value, key="folder/key")
    store.write("other", key="folder/key")
    assert store.read("folder/key").result == "other"


@pytest.mark.anyio
async def test_what_is_written_is_read_in_async_code(store: ResultStore) -> None:
    for value in (SMALL, LARGE):
        await store.awrite(value, key="key")
        assert await store.aexists("key")
        assert (await store.aread("key")).result == value
    record = store.create_result_record("by hand", key="other")
    await store.apersist_result_record(record)
    assert await store.aread("other") == record


def test_what_is_not_there(store: ResultStore) -> None:
    with pytest.raises(ResultNotFound, match=r"(?s)none.*does not exist") as raised:
        store.read("none")
    assert isinstance(raised.value, (ValueError, MissingResult))


def test_what_has_expired_does_not_exist(store: ResultStore) -> None:
    now = datetime.now(UTC)
    for expiration, is_there in ((now - timedelta(1), False), (now + timedelta(1), True), (None, True)):
        store.write(1, key="key", expiration=expiration)
        assert store.exists("key") is is_there
        assert store.read("key").expiration == expiration
    assert store.create_result_record(1, expiration=datetime(2024, 1, 1)).expiration == datetime(2024, 1, 1, tzinfo=UTC)


def test_metadata_may_be_kept_apart(storage: Any, tmp_path: Path) -> None:
    keys = LocalFileSystem(tmp_path / "keys")
    store = ResultStore(result_storage=storage, metadata_storage=keys, serializer="json", cache_result_in_memory=False)
    store.write([1], key="a/b")
    assert store.exists("a/b")
    assert store.read("a/b").result == [1]
    metadata = ResultRecordMetadata.load_bytes((tmp_path / "keys" / "a" / "b").read_bytes())
    assert metadata == store.read("a/b").metadata
    assert "callsheet_version" in (tmp_path / "keys" / "a" / "b").read_text()
    (tmp_path / "keys" / "a" / "b").write_bytes(b"torn")
    assert not store.exists("a/b")
    with pytest.raises(ResultDamaged, match="no metadata"):
        store.read("a/b")


# -------------------------------------------------------------------------------------------- faults


def content_of(storage: Any, key: str) -> bytes:
    return storage.kept[key] if isinstance(storage, (Blocking, Suspending)) else storage.get(key)


def put(storage: Any, key: str, content: bytes) -> None:
    if isinstance(storage, (Blocking, Suspending)):
        storage.kept[key] = content
    else:
        storage.put(key, [content])


@pytest.mark.parametrize("value", [SMALL, LARGE], ids=["small", "large"])
def test_a_torn_or_foreign_record_is_never_a_result(store: ResultStore, storage: Any, value: Any) -> None:
    store.write(value, key="key")
    whole = content_of(storage, "key")
    torn = [whole[:length] for length in (0, 3, 8, 40, len(whole) - 1)] + [whole + b"x"]
    for content in [*torn, b"\x80\x04N.", b"{}", b"[1]", b"{", b"CSRR1\n\xff\xff\xff\xff"]:
        put(storage, "key", content)
        assert not store.exists("key"), content[:20]
        with pytest.raises(ResultDamaged, match="Key 'key' in"):
            store.read("key")
    put(storage, "key", whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(ResultDamaged, match="digest"):
        store.read("key")
    put(storage, "key", whole)
    assert store.read("key").result == value


@pytest.mark.parametrize("error", [TimeoutError("10 s"), ConnectionRefusedError("no"), RuntimeError("odd")])
def test_a_storage_that_refuses_is_one_clear_error(error: Exception, caplog: pytest.LogCaptureFixture) -> None:
    storage = Blocking()
    store = ResultStore(result_storage=storage)
    store.write(1, key="earlier")
    store.cache.clear()
    storage.error = error
    with pytest.raises(StorageUnavailable, match=r"Blocking.*'key'") as raised:
        store.write(2, key="key")
    assert raised.value.__cause__ is not None
    with pytest.raises(StorageUnavailable, match=r"in time" if isinstance(error, TimeoutError) else "refused"):
        store.read("earlier")
    assert not store.exists("earlier")
    assert "cannot be known" in caplog.text
    storage.error = None
    assert store.read("earlier").result == 1


@pytest.mark.parametrize("kind", ["local", "database"])
def test_a_full_disk_keeps_what_was_there(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    storage = STORAGES[kind](tmp_path)
    store = ResultStore(result_storage=storage, cache_result_in_memory=False)
    store.write("earlier", key="key")

    def full(*_: Any) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(files.os, "writev", full)
    with pytest.raises(StorageFull, match="no room left"):
        store.write(LARGE, key="key")
    assert store.read("key").result == "earlier"
    assert not list(tmp_path.rglob("*.part"))
    if kind == "database":
        storage.close()


def test_a_database_that_is_something_else_says_so(tmp_path: Path) -> None:
    (tmp_path / "results.db").write_bytes(b"something else" * 100)
    with pytest.raises(StorageUnavailable, match="damaged"):
        ResultStore(result_storage=DatabaseStorage(tmp_path)).write(1, key="a")


def test_a_folder_that_cannot_be_made_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageUnavailable, match="cannot be written"):
        ResultStore(result_storage=tmp_path / "file" / "below").write(1, key="a")
    with pytest.raises(StorageError, match="shorter key"):
        ResultStore(result_storage=tmp_path).write(1, key="a" * 300)


def test_a_database_that_was_removed_is_made_anew(tmp_path: Path) -> None:
    import shutil

    storage = DatabaseStorage(tmp_path / "database")
    store = ResultStore(result_storage=storage, cache_result_in_memory=False)
    store.write(1, key="a")
    shutil.rmtree(tmp_path / "database")
    assert not store.exists("a")
    store.write(2, key="a")
    assert store.read("a").result == 2
    storage.close()


def test_keys_do_not_lead_out_of_their_folder(tmp_path: Path) -> None:
    storage = LocalFileSystem(tmp_path / "in")
    for key in ("../out", "/etc/passwd", "a/../../out"):
        with pytest.raises(ValueError, match="outside of the base path"):
            storage.write_path(key, b"")
    assert storage.write_path(str(tmp_path / "in" / "a"), b"1") == str(tmp_path / "in" / "a")
    assert storage.read_path("a") == b"1"
    with pytest.raises(ValueError, match="outside of the base path"):
        RemoteFileSystem("memory://base").read_path("../out")


KILLED = """
import os, signal, sys
from pathlib import Path
from callsheet._results import files
from callsheet.filesystems import DatabaseStorage, LocalFileSystem
from callsheet.results import ResultStore

kind, folder, where = sys.argv[1:]
storage = LocalFileSystem(folder) if kind == "local" else DatabaseStorage(folder)
store = ResultStore(result_storage=storage)
store.write("earlier", key="key")

def die(*_, **__):
    os.kill(os.getpid(), signal.SIGKILL)

if where == "half":
    whole = os.writev
    files.os.writev = lambda descriptor, views: (whole(descriptor, [bytes(views[-1])[:1000]]), die())
elif where == "unsynced":
    files.os.fsync = die
else:
    files._sync_folder = die
store.write(b"x" * 200_000, key="key")
"""


@pytest.mark.parametrize("kind", ["local", "database"])
@pytest.mark.parametrize("where", ["half", "unsynced", "renamed"])
def test_a_kill_while_writing_loses_no_earlier_record(kind: str, where: str, tmp_path: Path) -> None:
    done = warm.run(KILLED, kind, tmp_path, where, check=False)
    assert done.returncode == -signal.SIGKILL
    storage = LocalFileSystem(tmp_path) if kind == "local" else DatabaseStorage(tmp_path)
    store = ResultStore(result_storage=storage)
    found = store.read("key").result
    assert found == ("earlier" if where != "renamed" or kind == "database" else b"x" * 200_000)
    store.write("later", key="key")
    assert store.read("key").result == "later"
    if isinstance(storage, DatabaseStorage):
        storage.close()


def test_files_that_nobody_names_are_removed_after_a_day(tmp_path: Path) -> None:
    (tmp_path / "files").mkdir()
    for name, age in (("old", 100_000), ("young", 10)):
        file = tmp_path / "files" / name
        file.write_bytes(b"")
        os.utime(file, (file.stat().st_mtime - age,) * 2)
    storage = DatabaseStorage(tmp_path)
    store = ResultStore(result_storage=storage, cache_result_in_memory=False)
    store.write(LARGE, key="a")
    assert sorted(file.name for file in (tmp_path / "files").iterdir() if len(file.name) < 10) == ["young"]
    assert store.read("a").result == LARGE
    storage.close()


WRITER = """
import sys
from callsheet.filesystems import DatabaseStorage, LocalFileSystem
from callsheet.results import ResultStore

kind, folder, letter = sys.argv[1:]
storage = LocalFileSystem(folder) if kind == "local" else DatabaseStorage(folder)
store = ResultStore(result_storage=storage, cache_result_in_memory=False)
for turn in range(30):
    store.write(letter * (200_000 if turn % 2 else 100), key="key")
    found = store.read("key").result
    assert len(set(found)) == 1 and len(found) in (100, 200_000), found[:10]
"""


@pytest.mark.parametrize("kind", ["local", "database"])
def test_writers_of_one_key_in_several_processes(kind: str, tmp_path: Path) -> None:
    writers = [warm.start(WRITER, kind, tmp_path, letter, strict=True) for letter in "abc"]
    assert [writer.wait(50) for writer in writers] == [0, 0, 0]
    assert not list(tmp_path.rglob("*.part"))


def test_writers_of_one_key_in_several_threads(store: ResultStore) -> None:
    wrong: list[object] = []

    def write(letter: str) -> None:
        try:
            for turn in range(10):
                store.write(letter * (100_000 if turn % 2 else 100), key="key")
                if len(set(store.read("key").result)) != 1:
                    wrong.append(letter)
        except BaseException as error:
            wrong.append(error)

    threads = [threading.Thread(target=write, args=(letter,)) for letter in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_a_forked_child_opens_the_database_anew(tmp_path: Path) -> None:
    storage = DatabaseStorage(tmp_path)
    storage.write_path("a", b"1")
    program = (
        "import os, sys\n"
        "from callsheet.filesystems import DatabaseStorage\n"
        "storage = DatabaseStorage(sys.argv[1])\n"
        "storage.read_path('a')\n"
        "child = os.fork()\n"
        "if not child:\n"
        "    storage.write_path('a', b'child'); os._exit(0)\n"
        "assert os.waitpid(child, 0)[1] == 0 and storage.read_path('a') == b'child'\n"
    )
    warm.run(program, tmp_path)
    assert storage.read_path("a") == b"child"
    storage.close()


# ----------------------------------------------------------------------------------- memory, the loop


@pytest.mark.parametrize("kind", ["local", "database"])
def test_a_large_array_is_written_without_a_copy(kind: str, tmp_path: Path) -> None:
    storage = STORAGES[kind](tmp_path)
    store = ResultStore(result_storage=storage)
    array = np.ones(20 * 1024 * 1024 // 8)
    store.write(1, key="warm")
    tracemalloc.start()
    try:
        store.write(array, key="array")
        assert tracemalloc.get_traced_memory()[1] < array.nbytes * 0.2
    finally:
        tracemalloc.stop()
    assert np.array_equal(store.read("array").result, array)
    if kind == "database":
        storage.close()


@pytest.mark.anyio
async def test_the_loop_goes_on_while_a_result_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written, went_on = threading.Event(), threading.Event()
    sync = os.fsync

    def slow(descriptor: int) -> None:
        written.set()
        assert went_on.wait(20)
        sync(descriptor)

    monkeypatch.setattr(files.os, "fsync", slow)
    store = ResultStore(result_storage=tmp_path)

    async def tick() -> None:
        while not written.is_set():
            await anyio.sleep(0.001)
        went_on.set()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(tick)
        await store.awrite("value", key="key")
    assert store.read("key").result == "value"


# -------------------------------------------------------------------------------------------- stores


def test_the_last_records_stay_in_memory(tmp_path: Path) -> None:
    store = ResultStore(result_storage=tmp_path)
    value = ["the same object"]
    store.write(value, key="a")
    assert store.read("a").result is value
    other = ResultStore(result_storage=tmp_path)
    other.write("newer", key="a")  # as another process would
    assert store.exists("a")
    assert store.read("a").result == "newer"
    without = ResultStore(result_storage=tmp_path, cache_result_in_memory=False)
    assert without.read("a") is not without.read("a")
    assert len(without.cache) == 0


def test_a_store_that_encrypts_reads_nothing_else(tmp_path: Path) -> None:
    store = ResultStore(
        result_storage=tmp_path, serializer=EncryptedSerializer(keys=[EncryptedSerializer.generate_key()])
    )
    ResultStore(result_storage=tmp_path).write("planted", key="a")
    with pytest.raises(SerializationError, match="somebody else may have put it there"):
        store.read("a")


def test_stores_are_compared_by_what_they_are_given(tmp_path: Path) -> None:
    assert ResultStore() == ResultStore()
    assert ResultStore(result_storage=tmp_path) == ResultStore(result_storage=str(tmp_path))
    assert ResultStore(serializer="json") != ResultStore()
    assert ResultStore().model_copy(update={"serializer": JSONSerializer()}) == ResultStore(serializer="json")
    assert "serializer=JSON" in repr(ResultStore(serializer="json"))


def test_a_deep_copy_remembers_records_of_its_own(tmp_path: Path) -> None:
    store = ResultStore(result_storage=tmp_path)
    store.write([1], key="a")
    shallow, deep = store.model_copy(), store.model_copy(deep=True)
    assert shallow.cache is store.cache
    assert deep == store
    store.read("a").result.append(2)
    assert shallow.read("a").result == [1, 2]
    assert deep.read("a").result == [1]
    deep.cache.clear()
    assert store.read("a").result == [1, 2]
    own = type(store.cache)(maxsize=1)
    assert store.model_copy(update={"cache": own}, deep=True).cache is own
    with pytest.raises(TypeError, match="no field storage; it has result_storage, metadata_storage"):
        store.model_copy(update={"storage": tmp_path})


def test_locks_are_asked_of_the_lock_manager(tmp_path: Path) -> None:
    from callsheet.locking.memory import MemoryLockManager

    store = ResultStore(result_storage=tmp_path, lock_manager=MemoryLockManager())
    assert store.acquire_lock("key", holder="me", timeout=1)
    assert store.is_locked("key")
    assert store.is_lock_holder("key", "me")
    with pytest.raises(
        RuntimeError, match="Cannot write to result record with key key because it is locked by another"
    ):
        store.write(1, key="key", holder="you")
    store.write(1, key="key", holder="me")
    assert store.read("key", holder="me").result == 1
    store.release_lock("key", "me")
    assert store.wait_for_lock("key", timeout=1)
    assert store.supports_isolation_level("SERIALIZABLE")
    assert not ResultStore().supports_isolation_level("SERIALIZABLE")
    with pytest.raises(ConfigurationError, match="no lock manager"):
        ResultStore().acquire_lock("key")


def test_what_flow_and_task_say_of_their_own(tmp_path: Path) -> None:
    @flow(result_storage=tmp_path / "flow", result_serializer="json", cache_result_in_memory=False)
    def around() -> None: ...

    @task(result_storage=tmp_path / "task", result_serializer="msgpack", result_storage_key="fixed")
    def inside() -> None: ...

    @task
    def plain() -> None: ...

    of_flow = ResultStore().update_for_flow(around)
    assert of_flow.result_storage == LocalFileSystem(tmp_path / "flow")
    assert (of_flow.serializer.type, of_flow.cache_result_in_memory) == ("json", False)
    assert isinstance(of_flow.metadata_storage, NullFileSystem)
    of_task = of_flow.update_for_task(inside)
    assert of_task.result_storage == LocalFileSystem(tmp_path / "task")
    assert (of_task.serializer.type, of_task.cache_result_in_memory) == ("msgpack", True)
    assert of_task.metadata_storage is None
    assert of_task.create_result_record(1).metadata.storage_key == str(tmp_path / "task" / "fixed")
    inherited = of_flow.update_for_task(plain)
    assert (inherited.result_storage, inherited.serializer.type) == (of_flow.result_storage, "json")
    assert ResultStore().update_for_task(plain).result_storage == get_default_result_storage()


@pytest.mark.anyio
async def test_updating_follows_the_rule_of_dual_functions() -> None:
    @task
    def plain() -> None: ...

    assert (await ResultStore().update_for_task(plain)).serializer.type == "pickle"
    assert await get_default_result_storage() is await get_default_result_storage()


def test_which_storage_is_meant(tmp_path: Path) -> None:
    assert ResultStore(result_storage=(tmp_path / "a b").as_uri()).result_storage == LocalFileSystem(tmp_path / "a b")
    assert ResultStore(result_storage="s3://bucket/x").result_storage == RemoteFileSystem("s3://bucket/x")
    for slug in ("local-file-system/mine", "s3/results"):
        with pytest.raises(ObjectNotFound, match=r"nothing is saved.*'\./"):
            ResultStore(result_storage=slug)
    with pytest.raises(TypeError, match="Result storage must be"):
        ResultStore(result_storage=3)
    with pytest.raises(TypeError, match="Result serializer must be"):
        ResultStore(serializer=3)  # type: ignore[arg-type]
    with pytest.raises(ValidationError):
        ResultStore(serializer="nothing")
    with pytest.raises(ValueError, match="scheme"):
        RemoteFileSystem("no/scheme")
    with pytest.raises(ValueError, match="LocalFileSystem"):
        RemoteFileSystem("file:///a")
    with pytest.raises(ValueError, match="`settings` are options of fsspec"):
        RemoteFileSystem(settings={"key": "x"}, store=obstore.store.MemoryStore())


def test_the_default_storage(tmp_path: Path, callsheet_home: Path) -> None:
    assert get_default_result_storage() == DatabaseStorage(callsheet_home / "callsheet.db-results")
    with temporary_settings({"local_storage_path": tmp_path}):
        assert get_default_result_storage() == LocalFileSystem(tmp_path)
        with temporary_settings({"default_result_storage": str(tmp_path / "x")}):
            assert get_default_result_storage() == LocalFileSystem(tmp_path / "x")
    with temporary_settings({"database": ":memory:"}):
        assert isinstance(get_default_result_storage(), MemoryStorage)
        assert get_default_result_storage() is get_default_result_storage()
    ResultStore().write(1, key="a")
    assert (callsheet_home / "callsheet.db-results" / "results.db").exists()


def test_outside_of_runs_the_settings_hold() -> None:
    assert get_result_store() == ResultStore()
    assert not should_persist_result()
    with temporary_settings({"results_persist_by_default": True, "results_default_serializer": "json"}):
        assert should_persist_result()
        assert get_result_store().serializer == JSONSerializer()


def test_records_need_metadata() -> None:
    for metadata in (None, 3):
        with pytest.raises(ValidationError):
            ResultRecord(result=1, metadata=metadata)  # type: ignore[arg-type]
    with pytest.raises(ValidationError):
        ResultRecord.deserialize(b'{"result": 1}')
    made = ResultRecord(result=1, metadata={"storage_key": "a", "serializer": "json"})
    assert made.serializer == JSONSerializer()
    apart = ResultRecord.deserialize_from_result_and_metadata(made.serialize_result(), made.serialize_metadata())
    assert apart == made
    assert made.model_copy(update={"result": 2}) != made
    assert made.metadata.model_dump()["serializer"] == {"type": "json"}


def test_a_serializer_that_is_not_known_here_says_so() -> None:
    metadata = b'{"storage_key":"a","serializer":{"type":"gone"},"callsheet_version":"0"}'
    with pytest.raises(SerializationError, match="Import the module"):
        ResultRecord.deserialize_from_result_and_metadata(b"[1]", metadata)
    backup = ResultRecord.deserialize_from_result_and_metadata(b"[1]", metadata, JSONSerializer())
    assert backup.result == [1]


def test_a_file_of_values_holds_nothing_of_others(tmp_path: Path) -> None:
    import sqlite3

    connection = sqlite3.connect(tmp_path / "results.db")
    connection.execute("CREATE TABLE theirs (a)")
    connection.close()
    with pytest.raises(StorageUnavailable):
        DatabaseStorage(tmp_path).write_path("a", b"")
    assert value_files.APPLICATION_ID


@pytest.mark.anyio
async def test_storages_follow_the_rule_of_dual_functions(storage: Any) -> None:
    if isinstance(storage, (Blocking, Suspending)):
        return
    await storage.write_path("a", b"1")
    assert await storage.read_path("a") == b"1"
    assert await storage.exists("a")
    await storage.delete("a")
    await storage.delete("a")
    assert not await storage.exists("a")


def test_a_store_of_obstore_is_taken_as_it_is() -> None:
    bucket = obstore.store.MemoryStore()
    ResultStore(result_storage=bucket).write(5, key="five")
    assert ResultStore(result_storage=bucket).read("five").result == 5
    with pytest.raises(ValueError, match=r"does not exist.*MemoryStore"):
        ResultStore(result_storage=bucket).read("six")
