"""A census of the Python standard library: one task for every source file of the interpreter that runs this.

    python examples/library_census.py [--root FOLDER] [--backend trio] [--top 10]

Some files of the library do not parse, on purpose: they are the test data of its own parser. Their tasks fail, the census
goes on, and the report says so. Everything in the report is read back from the history, not from memory.
"""

from __future__ import annotations

import argparse
import ast
import re
import sys
import sysconfig
import tokenize
import uuid
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import anyio

from callsheet import State, Task, allow_failure, flow, get_client, get_run_logger, runtime, tags, task
from callsheet.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterTags,
    TaskRunFilter,
    TaskRunFilterName,
    TaskRunFilterState,
    TaskRunFilterStateType,
    TaskRunFilterTags,
)
from callsheet.client.schemas.objects import StateType, TaskRun
from callsheet.settings import get_current_settings
from callsheet.states import Completed
from callsheet.task_runners import ThreadPoolTaskRunner

Advance = Callable[[object], None]


@dataclass(frozen=True)
class Module:
    """What was counted in one file."""

    path: str
    lines: int
    functions: int
    classes: int
    imports: int

    def __str__(self) -> str:
        return f"{self.lines} lines, {self.functions} functions, {self.classes} classes, {self.imports} imports"


@dataclass(frozen=True)
class Package:
    """What was counted in the files of one top-level package."""

    name: str
    measured: int
    lines: int
    refused: tuple[str, ...]


# ------------------------------------------------------------------------------------------------- tasks


def decoding_may_help(_task: Task[Any, Any], _run: TaskRun, state: State[Any]) -> bool:
    """Retry only what another decoding can mend; a syntax error stays one."""
    return isinstance(state.result(raise_on_failure=False), UnicodeDecodeError)


@task(task_run_name="measure {path}", retries=1, retry_condition_fn=decoding_may_help)
def measure(root: Path, path: str) -> State[Module]:
    """Parse one file and count. A sync task: its submitted runs work on threads.

    The first attempt reads UTF-8, as nearly every file is. The second believes the file's own encoding line.
    """
    file = root / path
    if runtime.task_run.run_count > 1:
        with tokenize.open(file) as handle:
            text = handle.read()
    else:
        text = file.read_text(encoding="utf-8-sig")
    kinds: dict[type, int] = defaultdict(int)
    for node in ast.walk(ast.parse(text, filename=path)):
        kinds[type(node)] += 1
    module = Module(
        path,
        lines=text.count("\n"),
        functions=kinds[ast.FunctionDef] + kinds[ast.AsyncFunctionDef],
        classes=kinds[ast.ClassDef],
        imports=kinds[ast.Import] + kinds[ast.ImportFrom],
    )
    return Completed(message=str(module), data=module)


@task(task_run_name="sum up {name}")
async def sum_up(name: str, paths: Sequence[str], modules: Sequence[Module | Exception]) -> Package:
    """Add up a package. `allow_failure` hands over the exception where a file could not be measured."""
    measured = [module for module in modules if isinstance(module, Module)]
    refused = [path for path, module in zip(paths, modules, strict=True) if not isinstance(module, Module)]
    if refused:
        get_run_logger().warning("%s: %d of %d files refused", name, len(refused), len(paths))
    return Package(name, len(measured), sum(module.lines for module in measured), tuple(refused))


@task(retries=2, retry_delay_seconds=0.1)
def find_sources(root: Path) -> dict[str, list[str]]:
    """List the library's files by top-level package; single modules form one of their own."""
    packages: dict[str, list[str]] = defaultdict(list)
    for file in sorted(root.rglob("*.py")):
        parts = file.relative_to(root).parts
        if not {"site-packages", "dist-packages"} & set(parts):
            packages[parts[0] if len(parts) > 1 else "(single modules)"].append("/".join(parts))
    return dict(packages)


# ------------------------------------------------------------------------------------------------- flows


@flow(flow_run_name="census of {name}", task_runner=ThreadPoolTaskRunner(max_workers=8), validate_parameters=False)
async def census_of_package(root: Path, name: str, paths: list[str], advance: Advance) -> Package:
    """Measure every file of one package, however many of them refuse."""
    futures = measure.map(root, paths)
    for future in futures:
        future.add_done_callback(advance)
    return await sum_up(name, paths, allow_failure(futures))


@flow(name="library-census", validate_parameters=False)
async def library_census(root: Path, watch: Callable[[int], Any]) -> list[Package]:
    """Walk the library, one subflow for each top-level package."""
    packages = find_sources(root)
    counted: list[Package] = []
    with watch(sum(map(len, packages.values()))) as (advance, tell):
        for name, paths in packages.items():
            with tags(f"package:{name}"):
                package = await census_of_package(root, name, paths, advance)
            tell(f"{name}: {package.measured} of {len(paths)} files, {package.lines} lines")
            counted.append(package)
    return counted


# ---------------------------------------------------------------------------------------------- progress


@contextmanager
def plain_lines(total: int) -> Iterator[tuple[Advance, Callable[[str], None]]]:
    """One line for each package: for pipes, logs and machines without rich."""
    print(f"{total} source files")
    yield (lambda _: None), print


@contextmanager
def progress_bar(total: int) -> Iterator[tuple[Advance, Callable[[str], None]]]:
    """A bar that every finished task moves, whichever thread it finished on."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description:<28}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns) as progress:
        bar = progress.add_task("library census", total=total)
        yield (lambda _: progress.advance(bar)), (lambda text: progress.update(bar, description=text.split(":")[0]))


def choose_display() -> Callable[[int], Any]:
    """Take the bar on a terminal where rich is installed, plain lines elsewhere."""
    return progress_bar if sys.stdout.isatty() and find_spec("rich") else plain_lines


# ------------------------------------------------------------------------------------------------ report


async def read_all(**filters: Any) -> list[TaskRun]:
    """Read the matching task runs from the history, page by page."""
    runs: list[TaskRun] = []
    async with get_client() as client:
        while page := await client.read_task_runs(**filters, limit=200, offset=len(runs)):
            runs += page
    return runs


def reason(message: str | None) -> str:
    """Give what a failed run's message says of the exception, in a line."""
    return (message or "").removeprefix("Task run encountered an exception ").splitlines()[0][:80]


def table(title: str, head: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print rows under a title, columns aligned."""
    cells = [list(head), *([str(cell) for cell in row] for row in rows)]
    widths = [max(len(row[i]) for row in cells) for i in range(len(head))]
    print(f"\n{title}")
    for first, *rest in cells:
        print("  ", first.ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(rest, widths[1:], strict=True)))


async def report(mark: str, top: int) -> None:
    """Print what the history knows about the runs that carry this tag."""
    of_this_census = FlowRunFilter(tags=FlowRunFilterTags(all_=[mark]))
    of_files = TaskRunFilter(tags=TaskRunFilterTags(all_=[mark]), name=TaskRunFilterName(like_="measure "))
    async with get_client() as client:
        states = await client.count_task_runs_by_state(flow_run_filter=of_this_census)
    measured = [
        (run.name.removeprefix("measure "), *map(int, re.findall(r"\d+", run.state.message or "")))
        for run in await read_all(task_run_filter=of_files)
        if run.state is not None and run.state.is_completed()
    ]
    failed = await read_all(
        task_run_filter=TaskRunFilter(
            tags=TaskRunFilterTags(all_=[mark]),
            state=TaskRunFilterState(type=TaskRunFilterStateType(any_=[StateType.FAILED])),
        )
    )
    largest = sorted(measured, key=lambda row: -int(row[1]))[:top]
    table("Largest modules", ("module", "lines", "functions", "classes", "imports"), largest)
    if failed:
        rows = [(run.name.removeprefix("measure "), reason(run.state.message)) for run in failed if run.state]
        table("Files that refused", ("module", "why"), sorted(rows))
    table("Task runs by state", ("state", "task runs"), sorted(states.items()))
    print(f"\nHistory: {get_current_settings().database}")


async def main(root: Path, top: int) -> None:
    """Take the census under a tag of its own, then report on what carries that tag."""
    mark = f"census-{uuid.uuid4().hex[:8]}"
    with tags(mark, f"python-{sys.version_info.major}.{sys.version_info.minor}"):
        await library_census(root, choose_display())
    await report(mark, top)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Take a census of the Python standard library.")
    parser.add_argument("--root", type=Path, default=Path(sysconfig.get_path("stdlib")), help="folder to walk")
    parser.add_argument("--backend", choices=("asyncio", "trio"), default="asyncio")
    parser.add_argument("--top", type=int, default=10, help="how many modules the table shows")
    arguments = parser.parse_args()
    # Old test data is full of escapes that the compiler remarks on; they are the library's business.
    warnings.simplefilter("ignore", SyntaxWarning)
    warnings.simplefilter("ignore", DeprecationWarning)
    anyio.run(main, arguments.root, arguments.top, backend=arguments.backend)
