"""What is in the redo logs of a history and not in its tables, found out without writing to either, or closing one."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final

import msgspec

from callsheet._store import logfile

OPEN: Final = "open"
LEFT: Final = "left"
UNKNOWN: Final = "unknown"
NAMELESS: Final = "nameless"
MISSING: Final = "missing"
_PROCESSES: Final = Path("/proc")


class Log(msgspec.Struct, frozen=True, kw_only=True):
    """One redo log.

    `status` is open (a process has it open), left (none has), unknown (that cannot be told here), nameless (a file that no row
    names, and that no process has open) or missing (a row without its file).
    """

    name: str
    status: str
    processes: tuple[int, ...] = ()  # those that are known to have it open
    engines: tuple[str, ...] = ()  # ids of those whose process has it open, where they own runs
    batches: int = 0  # not in the tables yet
    bytes: int = 0  # of these
    unreadable: int = 0  # batches at its end that are left out of history: they are damaged, or follow what is lost
    error: str | None = None  # why the file, or part of it, cannot be read here


class Found(msgspec.Struct, frozen=True):
    """The files as they were, before the rows were read that say what of them is in the tables."""

    contents: Mapping[str, bytes | OSError]
    holders: Mapping[str, tuple[int, ...]]  # processes by file, as far as that can be seen


def find(folder: Path) -> Found:
    """Read every log. To be called before the rows are read: so whatever a file lacks is in the tables by then."""
    contents: dict[str, bytes | OSError] = {}
    for path in folder.glob(f"{logfile.PREFIX}*"):
        try:
            contents[path.name] = path.read_bytes()
        except FileNotFoundError:  # its owner has ended
            continue
        except OSError as error:
            contents[path.name] = error
    return Found(contents, _holders(folder))


def examine(
    folder: Path, found: Found, rows: Mapping[str, tuple[int, int]], engines: Mapping[str, str]
) -> tuple[Log, ...]:
    """Say how each log is doing.

    Args:
        folder: Where they are.
        found: What was there before the rows were read.
        rows: How far each is settled, and how many transactions its owner had made.
        engines: Ids of engines by the names of their proofs of life.
    """
    named = [_named(folder, found, name, settled, epoch, engines) for name, (settled, epoch) in sorted(rows.items())]
    others = [
        Log(name=name, status=NAMELESS)
        for name in sorted(found.contents.keys() - rows.keys())
        if _status(folder / name, found.holders.get(name, ())) != OPEN and (folder / name).exists()
    ]
    return (*(log for log in named if log is not None), *others)


def _named(folder: Path, found: Found, name: str, settled: int, epoch: int, engines: Mapping[str, str]) -> Log | None:
    content = found.contents.get(name)
    if isinstance(content, bytes) and logfile.is_cut_off(content) and _size(folder / name) != len(content):
        content = None  # it was being made just then
    if content is None:  # it may have been begun since
        return None if (folder / name).exists() else Log(name=name, status=MISSING)
    processes = found.holders.get(name, ())
    status = _status(folder / name, processes)
    whose = [id_ for proof, id_ in engines.items() if set(found.holders.get(proof, ())) & set(processes)]
    if isinstance(content, OSError):
        return Log(
            name=name, status=status, processes=processes, engines=tuple(whose), error=content.strerror or str(content)
        )
    batches = logfile.following(logfile.read(content), settled, epoch)
    return Log(
        name=name,
        status=status,
        processes=processes,
        engines=tuple(whose),
        batches=len(batches),
        bytes=sum(len(batch.body) for batch in batches),
        error="it has been cut off" if logfile.is_cut_off(content) else None,
        unreadable=max(0, logfile.newest_in(content) - (batches[-1].number if batches else settled)),
    )


def _status(path: Path, processes: tuple[int, ...]) -> str:
    if processes:
        return OPEN
    in_use = logfile.is_in_use(path)
    return UNKNOWN if in_use is None else OPEN if in_use else LEFT


def _holders(folder: Path) -> dict[str, tuple[int, ...]]:
    """Give the processes that have files of a folder open, by file, as far as they can be seen; on Linux."""
    files: dict[tuple[int, int], str] = {}
    with suppress(OSError):
        for path in folder.iterdir():
            with suppress(OSError):
                files[_identity(path)] = path.name
    found: dict[str, tuple[int, ...]] = {}
    for process in _PROCESSES.glob("[0-9]*"):
        with suppress(OSError):  # it has ended, or is somebody else's
            for name in {files[one] for one in _open_in(process, {*files.values()}) if one in files}:
                found[name] = (*found.get(name, ()), int(process.name))
    return found


def _open_in(process: Path, names: set[str]) -> list[tuple[int, int]]:
    """Give what a process has open under one of these names; it may see the folder under another one (in a container)."""
    found: list[tuple[int, int]] = []
    for link in (process / "fd").iterdir():
        with suppress(FileNotFoundError):
            if os.path.basename(os.readlink(link)) in names:  # noqa: PTH115, PTH119 - thousands of them
                found.append(_identity(link))
    return found


def _size(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except OSError:
        return None


def _identity(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_dev, status.st_ino
