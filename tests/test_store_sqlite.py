"""The SQLite driver: places that are wrong, other processes, disks that refuse, and what keeps it quick."""

from __future__ import annotations

import os
import re
import shutil
import signal
import sqlite3
import subprocess
import textwrap
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest

import warm
from callsheet._ids import new_id
from callsheet._kernel.ports import step
from callsheet._model.kinds import Kind, StateType
from callsheet._model.records import Entry, LogFilter, RunFilter
from callsheet._store import migrate, mishaps, places, queries, readers, sqlite, statements
from callsheet._store.patience import pauses
from callsheet._store.sqlite import SqliteStore
from callsheet.exceptions import (
    StoreError,
    StoreFull,
    StoreLocked,
    StoreNotADatabase,
    StoreReadOnly,
    StoreTooNew,
    StoreUnavailable,
)
from store_helpers import at, finished, logged, readers_are_closed, run_now, started

__all__ = ["readers_are_closed"]  # a fixture that every test here uses

pytestmark = pytest.mark.usefixtures("made_anew")

SOURCE = Path(sqlite.__file__).parents[2]
TESTS = Path(__file__).parent


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "history.db"


@pytest.fixture
def store(path: Path) -> Iterator[SqliteStore]:
    made = SqliteStore(path, patience=0.3)
    made.open()
    yield made
    made.close()


def process(code: str, *arguments: object) -> Any:
    """Run code in another process that can import what this test can."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join((str(SOURCE), str(TESTS)))}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    return warm.start(textwrap.dedent(code), *arguments, env=environment, strict=True, **pipes)


def output(running: Any, *, code: int = 0) -> str:
    said, _ = running.communicate(timeout=60)
    assert running.returncode == code, said
    return said


def count(path: Path) -> int:
    connection = sqlite3.connect(path)
    try:
        return int(connection.execute("SELECT count(*) FROM run").fetchone()[0])
    finally:
        connection.close()


def many(number: int) -> list[Entry]:
    """Give the entries of finished runs."""
    return [entry for run in [new_id() for _ in range(number)] for entry in (started(run), *finished(run, 0))]


def sql(path: Path, *statements_: str) -> None:
    connection = sqlite3.connect(path, isolation_level=None)
    try:
        for statement in statements_:
            connection.execute(statement)
    finally:
        connection.close()


# --------------------------------------------------------------------------------------- wrong places


def test_a_file_that_is_something_else(path: Path) -> None:
    path.write_text("These are the notes of a person. " * 100)
    with pytest.raises(StoreNotADatabase, match="Move it away") as caught:
        SqliteStore(path).open()
    assert str(path) in str(caught.value)
    assert path.read_text().startswith("These")


def test_a_database_of_another_program(path: Path) -> None:
    sql(path, "CREATE TABLE bookmarks (url TEXT)")
    with pytest.raises(StoreNotADatabase, match="CALLSHEET_HOME"):
        SqliteStore(path).open()


def test_a_damaged_file(store: SqliteStore, path: Path) -> None:
    store.commit(many(300))
    store.close()
    body = bytearray(path.read_bytes())
    for page in range(4096, len(body) - 4096, 4096):
        body[page : page + 200] = os.urandom(200)
    path.write_bytes(body)
    with pytest.raises(StoreNotADatabase, match="damaged"):
        store.open()
        store.commit([started(new_id())])
        run_now(store.blocking_reader().read_runs(RunFilter()))


def test_a_folder(tmp_path: Path) -> None:
    with pytest.raises(StoreNotADatabase, match="is a folder"):
        SqliteStore(tmp_path).open()


def test_a_folder_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StoreUnavailable, match="CALLSHEET_HOME"):
        SqliteStore(tmp_path / "file" / "history.db").open()


def test_the_folder_is_made(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "a" / "b" / "history.db")
    store.open()
    store.close()
    assert store.path.exists()


AS_NOBODY = """
    import os, sys, tempfile
    from callsheet._store.sqlite import SqliteStore
    from callsheet.exceptions import StoreError
    with tempfile.TemporaryDirectory() as folder:  # afterwards nothing more can be imported
        first = SqliteStore(folder + "/x.db")
        first.open()
        first.close()
    if os.getuid() == 0:
        os.setgid(65534), os.setuid(65534)
    store = SqliteStore(sys.argv[1])
    try:
        store.open()
        store.commit([])
        print("written")
    except StoreError as error:
        print(type(error).__name__, error)
    store.close()
"""


@pytest.mark.parametrize("what", ["file", "folder", "folder that is not there"])
def test_a_place_that_cannot_be_written(what: str) -> None:
    import tempfile

    folder = Path(tempfile.mkdtemp())  # tmp_path may be closed to other users
    path = folder / "history.db"
    try:
        if what == "file":
            store = SqliteStore(path)
            store.open()
            store.close()
            path.chmod(0o444)
        elif what == "folder that is not there":
            path = folder / "missing" / "history.db"
        folder.chmod(0o555)
        said = output(process(AS_NOBODY, path))
        assert said.startswith("StoreReadOnly"), said
        assert str(path) in said
        assert "write access" in said
    finally:
        folder.chmod(0o755)
        shutil.rmtree(folder)


def test_a_network_file_system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mounts = tmp_path / "mounts"
    mounts.write_text(f"odd line\n/dev/sda / ext4 rw 0 0\nserver:/x {tmp_path}/with\\040space nfs4 rw 0 0\n")
    monkeypatch.setattr(places, "MOUNTS", mounts)
    with pytest.raises(StoreUnavailable, match=r"nfs4.*Set CALLSHEET_HOME"):
        SqliteStore(tmp_path / "with space" / "deep" / "history.db").open()
    assert places.network_kind(tmp_path) is None
    assert places.is_surely_local(tmp_path)
    assert not places.is_surely_local(tmp_path / "with space")
    mounts.write_text("portal / fuse.portal rw 0 0\n")
    assert not places.is_surely_local(tmp_path)
    monkeypatch.setattr(places, "MOUNTS", tmp_path / "none")
    assert places.network_kind(tmp_path / "with space") is None
    assert not places.is_surely_local(tmp_path)


def test_a_newer_version_at_open(store: SqliteStore, path: Path) -> None:
    store.close()
    sql(path, "UPDATE meta SET value = 99 WHERE key IN ('schema', 'min_writer')")
    with pytest.raises(StoreTooNew, match="Upgrade callsheet"):
        store.open()
    assert run_now(store.blocking_reader().count_runs(RunFilter())) == 0
    sql(path, "UPDATE meta SET value = 99 WHERE key = 'min_reader'")
    with pytest.raises(StoreTooNew):
        run_now(store.blocking_reader().count_runs(RunFilter()))


def test_a_newer_version_that_lets_us_write(store: SqliteStore, path: Path) -> None:
    store.close()
    sql(path, "UPDATE meta SET value = 99 WHERE key = 'schema'")
    store.open()
    store.commit([started(new_id())])
    store.close()
    connection = sqlite3.connect(path)
    assert connection.execute("SELECT value FROM meta WHERE key = 'schema'").fetchone() == (99,)
    connection.close()


def test_a_newer_version_that_comes_while_we_run(store: SqliteStore, path: Path) -> None:
    store.commit([started(new_id())])
    sql(path, "UPDATE meta SET value = 99 WHERE key = 'min_writer'")
    with pytest.raises(StoreTooNew):
        store.commit([started(new_id())])
    assert count(path) == 1


# ------------------------------------------------------------------------------------ it is held, full, gone


def test_held_by_another_for_too_long(store: SqliteStore, path: Path) -> None:
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    assert store.try_commit([started(new_id())]) is None
    with pytest.raises(StoreLocked, match="Another process has held") as caught:
        store.commit([started(new_id())])
    assert "database is locked" not in str(caught.value)
    other.execute("ROLLBACK")
    other.close()
    assert store.commit([started(new_id())]) == []


def test_who_waits_for_a_moment_only_says_so(store: SqliteStore, path: Path) -> None:
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreLocked, match=r"has held the history in .* for 1 s"):
        store.engines.sweep()
    other.execute("ROLLBACK")
    other.close()
    store.engines.sweep()


def test_opening_waits_for_another(path: Path) -> None:
    other = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    other.execute("BEGIN EXCLUSIVE")
    with pytest.raises(StoreLocked, match=str(path)):
        SqliteStore(path, patience=0.1).open()
    letting_go = threading.Timer(0.1, other.execute, ("ROLLBACK",))
    letting_go.start()
    store = SqliteStore(path)
    store.open()
    letting_go.join()
    other.close()
    store.close()


def test_a_reader_waits_for_an_exclusive_moment(store: SqliteStore) -> None:
    error = sqlite3.OperationalError("database is locked")
    error.sqlite_errorcode = sqlite3.SQLITE_BUSY
    assert isinstance(mishaps.translate(error, store.path, 1), StoreLocked)
    assert len(list(pauses(0))) == 0


def test_a_full_disk_says_so_and_goes_on_when_there_is_room(store: SqliteStore) -> None:
    connection: Any = store._connection
    pages = connection.execute("PRAGMA page_count").fetchone()[0]
    connection.execute(f"PRAGMA max_page_count = {pages}")
    batch = many(300)
    with pytest.raises(StoreFull, match="Free some space"):
        store.commit(batch)
    connection.execute("PRAGMA max_page_count = 1000000")
    assert store.commit(batch) == []
    assert run_now(store.blocking_reader().count_runs(RunFilter())) == 300


def test_a_limit_on_file_sizes() -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        said = output(
            process(
                """
                import resource, sys
                from callsheet._ids import new_id
                from callsheet._store.sqlite import SqliteStore
                from callsheet.exceptions import StoreFull
                from store_helpers import started
                store = SqliteStore(sys.argv[1])
                store.open()
                resource.setrlimit(resource.RLIMIT_FSIZE, (600_000, resource.RLIM_INFINITY))
                done = 0
                try:
                    while True:
                        store.commit([started(new_id()) for _ in range(100)])
                        done += 100
                except StoreFull as error:
                    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
                    store.close()
                    store.open()
                    store.commit([started(new_id())])
                    print(done + 1)
                store.close()
                """,
                Path(folder) / "history.db",
            )
        )
        assert count(Path(folder) / "history.db") == int(said)


@pytest.mark.parametrize("replaced", [False, True])
def test_a_file_that_is_removed_or_replaced_under_us(
    store: SqliteStore, path: Path, monkeypatch: pytest.MonkeyPatch, replaced: bool
) -> None:
    monkeypatch.setattr(sqlite, "_LOOK", 0.0)
    store.commit([started(new_id())])
    path.rename(path.with_suffix(".old"))
    if replaced:
        path.touch()
    with pytest.raises(StoreUnavailable, match="removed or replaced"):
        store.commit([started(new_id())])


def test_a_file_that_is_gone_stays_gone_at_the_next_attempt(store: SqliteStore, path: Path) -> None:
    """Between two looks nobody looks, but what a look has found holds."""
    store.commit([started(new_id())])
    path.rename(path.with_suffix(".old"))
    time.sleep(0.11)
    for _ in range(3):
        with pytest.raises(StoreUnavailable, match="removed or replaced"):
            store.commit([started(new_id())])
    path.with_suffix(".old").rename(path)
    store.commit([started(new_id())])


def test_what_went_with_a_removed_file_is_told(
    store: SqliteStore, path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store.commit([started(new_id())])
    path.unlink()
    store.commit([started(new_id())])  # before anybody has looked again
    store.close()
    assert "What was saved in the last moments went with it" in caplog.text
    caplog.clear()
    store.open()
    assert "A new history is begun" in caplog.text


def test_a_file_that_is_removed_after_the_last_write_was_seen_there_says_nothing(
    store: SqliteStore, path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store.commit([started(new_id())])
    time.sleep(0.11)
    store.changed_outside()  # looks
    path.unlink()
    store.close()
    assert not caplog.text


def test_reading_a_file_that_is_not_there(path: Path) -> None:
    reader = SqliteStore(path).blocking_reader()
    with pytest.raises(StoreUnavailable, match=str(path)):
        run_now(reader.count_runs(RunFilter()))
    assert not path.exists()


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (sqlite3.SQLITE_CORRUPT, StoreNotADatabase),
        (sqlite3.SQLITE_READONLY, StoreReadOnly),
        (1032, StoreUnavailable),
        (sqlite3.SQLITE_FULL, StoreFull),
        (sqlite3.SQLITE_IOERR, StoreUnavailable),
        (778, StoreUnavailable),
        (sqlite3.SQLITE_CANTOPEN, StoreUnavailable),
        (sqlite3.SQLITE_PROTOCOL, StoreLocked),
    ],
)
def test_every_error_names_place_and_fix(path: Path, code: int, kind: type[StoreError]) -> None:
    error = sqlite3.OperationalError("something internal")
    error.sqlite_errorcode = code
    said = mishaps.translate(error, path, 60)
    assert type(said) is kind
    assert str(path) in str(said)
    assert "CALLSHEET_HOME" in str(said) or "restart" in str(said)


def test_what_cannot_be_opened_is_looked_at(tmp_path: Path) -> None:
    error = sqlite3.OperationalError()
    error.sqlite_errorcode = sqlite3.SQLITE_CANTOPEN
    assert isinstance(mishaps.translate(error, tmp_path, 60), StoreNotADatabase)
    assert "folder does not exist" in str(mishaps.translate(error, tmp_path / "no" / "x.db", 60))
    assert isinstance(mishaps.translate(PermissionError(), tmp_path, 60), StoreReadOnly)
    assert "Input" in str(mishaps.translate(OSError(5, "Input/output error"), tmp_path, 60))


# ---------------------------------------------------------------------------------- several processes

OPENER = """
    import sys
    from callsheet._ids import new_id
    from callsheet._store.sqlite import SqliteStore
    from store_helpers import started
    sys.stdin.readline()
    store = SqliteStore(sys.argv[1])
    store.open()
    store.commit([started(new_id())])
    store.close()
"""


def test_eight_processes_open_one_new_file_at_once(path: Path) -> None:
    openers = [process(OPENER, path) for _ in range(8)]
    for opener in openers:
        assert opener.stdin is not None
        opener.stdin.write("go\n")
        opener.stdin.flush()
    for opener in openers:
        output(opener)
    assert count(path) == 8


WRITER = """
    import sys, threading, time
    from callsheet._ids import new_id
    from callsheet._store.sqlite import SqliteStore
    from store_helpers import started
    store = SqliteStore(sys.argv[1])
    store.open()
    print("ready", flush=True)
    sys.stdin.readline()
    enough, over = int(sys.argv[2]), threading.Event()
    threading.Thread(target=lambda: (sys.stdin.readline(), over.set()), daemon=True).start()
    longest = done = 0
    while not over.is_set():
        begin = time.monotonic()
        store.commit([started(new_id()) for _ in range(20)])
        longest = max(longest, time.monotonic() - begin)
        done += 20
        if done == enough:
            print("enough", flush=True)
        store.tend()
    store.close()
    print(done, longest)
"""


def test_eight_writers_each_get_their_turn(path: Path) -> None:
    """None of them stops before every one has had a dozen turns: no writer lives on what the others leave over."""
    writers = [process(WRITER, path, 12 * 20) for _ in range(8)]
    for writer in writers:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "ready\n"
    for writer in writers:
        assert writer.stdin is not None
        writer.stdin.write("go\n")
        writer.stdin.flush()
    for writer in writers:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "enough\n"
    for writer in writers:
        assert writer.stdin is not None
        writer.stdin.write("stop\n")
        writer.stdin.flush()
    said = [output(writer).split() for writer in writers]
    assert sum(int(done) for done, _ in said) == count(path)
    # Under a second on a machine of its own; on a busy one the scheduler takes longer than the database does.
    assert max(float(longest) for _, longest in said) < 20, said


def test_commits_of_another_process_are_noticed(store: SqliteStore, path: Path) -> None:
    assert store.changed_outside() is False
    store.commit([started(new_id())])
    assert store.changed_outside() is False
    sql(path, "INSERT INTO meta VALUES ('x', 1)")
    assert store.changed_outside() is True
    assert store.changed_outside() is False


def test_waiting_ends_when_somebody_commits(store: SqliteStore) -> None:
    found: list[object] = []
    ready = threading.Event()

    def stopped() -> bool:
        ready.set()
        return False

    waiter = threading.Thread(
        target=lambda: found.append(store.wait(["history"], time.monotonic() + 10, stopped=stopped))
    )
    waiter.start()
    ready.wait()
    store.commit([started(new_id())])
    waiter.join()
    assert found == [("history",)]
    assert store.wait(["history"], time.monotonic() + 10, stopped=lambda: True) == ()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_leaves_the_parents_file_alone(store: SqliteStore, path: Path) -> None:
    reader = store.blocking_reader()
    store.commit([started(new_id())])
    assert run_now(reader.count_runs(RunFilter())) == 1
    child = os.fork()
    if child == 0:
        status = 1
        try:
            store.open()
            store.commit([started(new_id())])
            status = 0 if run_now(reader.count_runs(RunFilter())) == 2 else 2
            store.close()
        finally:
            os._exit(status)
    assert os.waitpid(child, 0)[1] == 0
    store.commit([started(new_id())])
    assert run_now(reader.count_runs(RunFilter())) == 3
    run_now(reader.aclose())


# ------------------------------------------------------------------------------------------- upkeep


def test_the_file_is_set_up_as_the_design_says(store: SqliteStore, path: Path) -> None:
    connection: Any = store._connection

    def pragma(name: str) -> Any:
        return connection.execute(f"PRAGMA {name}").fetchone()[0]

    assert pragma("journal_mode") == "wal"
    assert pragma("auto_vacuum") == 2
    assert pragma("busy_timeout") == 0
    assert pragma("wal_autocheckpoint") == 0
    assert pragma("journal_size_limit") == 32 << 20
    assert pragma("application_id") == migrate.APPLICATION_ID
    assert pragma("synchronous") == 1
    store.commit([started(new_id())], sync=True)
    assert pragma("synchronous") == 2
    store.commit([started(new_id())])
    assert pragma("synchronous") == 1


def test_the_log_is_copied_home_and_cut(store: SqliteStore, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = path.with_name(path.name + "-wal")
    monkeypatch.setattr(sqlite, "_TEND", 0.0)
    monkeypatch.setattr(sqlite, "CHECKPOINT_ABOVE", 50_000)
    monkeypatch.setattr(sqlite, "TRUNCATE_ABOVE", 200_000)
    store.tend()
    before = path.stat().st_size
    while log.stat().st_size < 180_000:
        store.commit([started(new_id()) for _ in range(50)])
    store.tend()
    assert path.stat().st_size > before
    high = 0
    for _ in range(100):
        store.commit([started(new_id()) for _ in range(50)])
        store.tend()
        high = max(high, log.stat().st_size)
    assert high < 400_000
    store.close()
    store.tend()


def test_upkeep_never_disturbs(store: SqliteStore, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite, "CHECKPOINT_ABOVE", 0)
    monkeypatch.setattr(sqlite, "TRUNCATE_ABOVE", 0)
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    store.tend()
    other.execute("ROLLBACK")
    other.close()


PLANS: list[tuple[RunFilter, str]] = [
    (RunFilter(ids=(new_id(),)), "SEARCH run USING PRIMARY KEY"),
    (RunFilter(kind=Kind.FLOW), "run_of_flow"),
    (RunFilter(kind=Kind.TASK, state_types=(StateType.FAILED,)), "run_notable"),
    (RunFilter(state_types=(StateType.FAILED, StateType.CRASHED)), "run_notable"),
    (RunFilter(flow_run_ids=(new_id(),)), "run_by_flow_run"),
    (RunFilter(kind=Kind.TASK, flow_run_ids=(new_id(),)), "run_by_flow_run"),
    (RunFilter(parent_task_run_ids=(new_id(),)), "run_tracked"),
    (RunFilter(tags_all=("a",)), "run_tag_by_tag"),
    (RunFilter(kind=Kind.TASK, created_after=at(0)), "SEARCH run USING PRIMARY KEY"),
]


@pytest.mark.parametrize(("where", "index"), PLANS)
@pytest.mark.parametrize("newest_first", [False, True])
def test_common_questions_use_an_index(store: SqliteStore, where: RunFilter, index: str, newest_first: bool) -> None:
    connection: Any = store._connection
    query = queries.page_of_runs(where, 100, None, newest_first, 0)
    plan = "\n".join(row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {query.sql}", query.params))
    assert index in plan, plan


@pytest.mark.parametrize(
    "where",
    [
        LogFilter(flow_run_ids=(new_id(),)),
        LogFilter(task_run_ids=(new_id(),), after=at(0)),
        LogFilter(flow_run_ids=(new_id(),), level_at_least=20),
    ],
)
def test_logs_of_one_run_are_found_by_key(store: SqliteStore, where: LogFilter) -> None:
    connection: Any = store._connection
    query = queries.page_of_logs(where, 100, None, False, 0)
    plan = "\n".join(row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {query.sql}", query.params))
    assert "SEARCH log" in plan, plan
    assert "TEMP B-TREE" not in plan, plan


def test_another_clock_than_that_of_ids_loses_nothing(store: SqliteStore) -> None:
    run = new_id()  # its id says now; at(0) is years ago
    store.commit([started(run)])
    found = run_now(store.blocking_reader().read_runs(RunFilter(created_after=at(0), created_before=at(1))))
    assert [one.id for one in found.items] == [run]


def test_more_values_than_a_statement_holds(store: SqliteStore) -> None:
    with pytest.raises(ValueError, match="30,000"):
        run_now(store.blocking_reader().count_runs(RunFilter(names=("x",) * 30_001)))


def test_sizes_of_statements_waste_little() -> None:
    for rows in range(1, 513):
        size = statements.padded(rows)
        assert rows <= size <= rows * 1.25
    assert len({statements.padded(rows) for rows in range(1, 513)}) < 40


# ---------------------------------------------------------------------------------------- long reads


def fill(store: SqliteStore) -> None:
    store.commit(many(3000))


@pytest.mark.parametrize("kind", ["blocking", "event loop"])
@pytest.mark.anyio
async def test_a_long_read_is_stopped(store: SqliteStore, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(store)
    monkeypatch.setattr(readers, "_STEPS", 10)
    reader: Any
    if kind == "blocking":
        reader = readers.BlockingReader(store.path, longest_read=0.0)
    else:
        outer: Any = store.reader()
        reader = outer._inner = outer._choose()
        reader._longest = 0.0
    with pytest.raises(StoreUnavailable, match="Ask for less"):
        await reader.read_runs(RunFilter(name_like="nobody"))
    reader._longest = 10.0
    assert await reader.count_runs(RunFilter()) == 3000
    await reader.aclose()


def test_a_read_of_one_moment_is_not_stopped(store: SqliteStore, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(store)
    monkeypatch.setattr(readers, "_STEPS", 10)
    reader = readers.BlockingReader(store.path, longest_read=0.0)
    with reader.snapshot():
        assert step(reader.read_runs(RunFilter(name_like="nobody"))).items == ()
    with pytest.raises(StoreUnavailable, match="Ask for less"):
        step(reader.read_runs(RunFilter(name_like="nobody")))
    reader.close()


@pytest.mark.anyio
async def test_a_reader_leaves_no_thread_and_may_never_be_used(store: SqliteStore) -> None:
    before = set(threading.enumerate())
    unused = store.reader()
    await unused.aclose()
    used = store.reader()
    await used.count_runs(RunFilter())
    await used.aclose()
    left = [
        thread
        for thread in threading.enumerate()
        if thread not in before and "AnyIO" not in thread.name and "Trio" not in thread.name
    ]
    assert left == []


@pytest.mark.anyio
async def test_many_reads_at_once_and_one_that_is_cancelled(store: SqliteStore) -> None:
    fill(store)
    reader = store.reader()
    counts: list[int] = []

    async def read() -> None:
        counts.append(await reader.count_runs(RunFilter()))

    with anyio.move_on_after(0):
        await reader.count_runs(RunFilter(name_like="x"))
    async with anyio.create_task_group() as group:
        for _ in range(10):
            group.start_soon(read)
    assert counts == [3000] * 10
    await reader.aclose()


@pytest.mark.anyio
async def test_a_hop_can_be_given(path: Path) -> None:
    hops: list[str] = []

    async def hop(function: Any) -> Any:
        hops.append("hop")
        return await anyio.to_thread.run_sync(function)

    store = SqliteStore(path, hop=hop)
    store.open()
    reader = store.reader()
    assert await reader.count_runs(RunFilter()) == 0
    assert hops == ["hop"]
    await reader.aclose()
    store.close()


@pytest.mark.anyio
async def test_a_reader_that_cannot_open_leaves_nothing(path: Path) -> None:
    reader = SqliteStore(path).reader()
    with pytest.raises(StoreUnavailable):
        await reader.count_runs(RunFilter())
    await reader.aclose()


def test_a_killed_writer_leaves_a_good_file(path: Path) -> None:
    writer = process(WRITER, path, 0)
    assert writer.stdin is not None
    assert writer.stdout is not None
    writer.stdout.readline()
    writer.stdin.write("go\n")
    writer.stdin.flush()
    time.sleep(0.3)
    writer.send_signal(signal.SIGKILL)
    writer.communicate()
    connection = sqlite3.connect(path)
    assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    assert connection.execute("SELECT count(*) % 20 FROM run").fetchone() == (0,)
    connection.close()


def test_a_batch_that_is_prepared_meanwhile_takes_no_others_place(path: Path) -> None:
    mine, other = [logged(None, None, 1, "mine")], [logged(None, None, 2, "other")]

    class Raced(SqliteStore):
        """Has another thread's `prepare` come just after a commit has encoded its own batch."""

        @property
        def _encoded(self) -> Any:
            return self.__dict__.get("kept")

        @_encoded.setter
        def _encoded(self, kept: Any) -> None:
            self.__dict__["kept"] = kept
            if kept is not None and kept[0] is mine:
                self.prepare(other)

    store = Raced(path)
    store.open()
    store.commit(mine)
    store.close()
    assert [log.message for log in run_now(SqliteStore(path).blocking_reader().read_logs(LogFilter())).items] == [
        "mine"
    ]


@pytest.mark.parametrize("rows", [1, 8, 128])
def test_what_is_written_walks_over_no_table(path: Path, rows: int) -> None:
    """The price of a batch must not grow with the history."""
    tables = [one for one in vars(statements).values() if isinstance(one, statements.Table)]
    assert len(tables) > 10
    connection = sqlite3.connect(path, isolation_level=None)
    try:
        migrate.migrate(connection, path)
        ours = [row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        for table, shared in [(table, shared) for table in tables for shared in {(), table.shared}]:
            values = [0] * ((table.width - len(shared)) * rows + len(shared))
            if table.blobs:
                values = [b"", *values]
            plan = connection.execute(f"EXPLAIN QUERY PLAN {statements.text(table, rows, shared)}", values).fetchall()
            walks = [step[3] for step in plan if step[3].removeprefix("SCAN ").split()[0] in ours]
            assert not walks, (table.before, walks)
    finally:
        connection.close()


def test_many_tags_are_written_in_the_order_of_their_index(store: SqliteStore) -> None:
    """In any other order, the pages of the index would be read and written anew for nearly every row."""
    connection: Any = store._connection
    said: list[str] = []
    connection.set_trace_callback(said.append)
    tags = [f"tag-{number * 7919 % 1000:03}" for number in range(1000)]
    store.commit([started(new_id(), tags=tuple(tags))])
    connection.set_trace_callback(None)
    written = [tag for sql in said if "INTO run_tag" in sql for tag in re.findall(r"tag-\d+", sql)]
    assert list(dict.fromkeys(written)) == sorted(tags)
