"""What killed writers left is removed by the next writer, and what living ones write is not."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

import pytest

from callsheet._results import leftovers
from callsheet.filesystems import DatabaseStorage, LocalFileSystem
from callsheet.results import ResultStore

OURS = ".0123456789abcdef.part"


def leave(folder: Path, name: str, age: float) -> Path:
    file = folder / name
    file.write_bytes(b"half a res")
    os.utime(file, (file.stat().st_mtime - age,) * 2)
    return file


@pytest.mark.parametrize(("age", "stays"), [(10, True), (3000, True), (4000, False), (10**8, False), (-4000, False)])
def test_an_hour_later_it_is_removed(tmp_path: Path, age: float, stays: bool) -> None:
    file = leave(tmp_path, OURS, age)
    ResultStore(result_storage=LocalFileSystem(tmp_path)).write(1, key="a")
    assert file.exists() is stays
    assert (tmp_path / "a").exists()


def test_in_the_folder_of_a_database_too(tmp_path: Path) -> None:
    (tmp_path / "files").mkdir()
    file = leave(tmp_path / "files", OURS, 4000)
    storage = DatabaseStorage(tmp_path)
    ResultStore(result_storage=storage).write(b"x" * 100_000, key="a")
    assert not file.exists()
    storage.close()


@pytest.mark.parametrize("jump", [7200, -7200])
def test_a_living_writer_keeps_its_file_though_the_clock_jumped(tmp_path: Path, jump: float) -> None:
    file = leave(tmp_path, OURS, jump)
    with file.open("rb") as opened:
        fcntl.flock(opened, fcntl.LOCK_EX)
        ResultStore(result_storage=LocalFileSystem(tmp_path)).write(1, key="a")
        assert file.exists()
    leftovers._swept.clear()
    ResultStore(result_storage=LocalFileSystem(tmp_path)).write(1, key="a")
    assert not file.exists()


def test_a_writer_holds_its_file_until_it_has_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[bool] = []
    replace = Path.replace

    def watched(self: Path, target: Path) -> Path:
        with self.open("rb") as opened:
            try:
                fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
                seen.append(False)
            except BlockingIOError:
                seen.append(True)
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", watched)
    ResultStore(result_storage=LocalFileSystem(tmp_path)).write(1, key="a")
    assert seen == [True]


@pytest.mark.parametrize("name", ["download.part", ".mine.part", f"{OURS}.txt", OURS[1:], ".0123456789ABCDEF.part"])
def test_files_of_others_stay(tmp_path: Path, name: str) -> None:
    file = leave(tmp_path, name, 10**6)
    ResultStore(result_storage=LocalFileSystem(tmp_path)).write(1, key="a")
    assert file.exists()


def test_a_link_leads_nowhere(tmp_path: Path) -> None:
    (tmp_path / "results").mkdir()
    outside = leave(tmp_path, "precious", 10**6)
    (tmp_path / "results" / OURS).symlink_to(outside)
    ResultStore(result_storage=LocalFileSystem(tmp_path / "results")).write(1, key="a")
    assert outside.exists()


def test_a_folder_is_looked_through_once_an_hour(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = ResultStore(result_storage=LocalFileSystem(tmp_path))
    store.write(1, key="a")
    file = leave(tmp_path, OURS, 10**6)
    store.write(2, key="b")
    assert file.exists()
    monkeypatch.setitem(leftovers._swept, str(tmp_path), leftovers._swept[str(tmp_path)] - 3601)
    store.write(3, key="c")
    assert not file.exists()
