"""The shape of the house: sizes, import contracts, one handler a message, threads and backends in their one place."""

from __future__ import annotations

import ast
import functools
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import pytest

ROOT = Path(__file__).parent.parent
SRC = ROOT / "src" / "callsheet"
FILES = sorted(SRC.rglob("*.py"))
OWN_PROGRAMS = sorted([*(ROOT / "benchmarks").rglob("*.py"), *(ROOT / "examples").rglob("*.py")])

MAX_FILE = 400
MAX_FUNCTION = 40

# What is over, by how much it may be, and why. An entry that is no longer needed fails the test too.
LONG_FILES: dict[str, tuple[int, str]] = {}
LONG_FUNCTIONS: dict[str, tuple[int, str]] = {}

# The modules that may start threads, and those that may name a backend (asyncio, trio). Everything else asks them.
THREAD_STARTERS = {"_kernel/spawning.py", "_kernel/alarms.py", "_kernel/host.py"}


@functools.cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


def name_of(path: Path) -> str:
    return path.relative_to(SRC).as_posix() if path.is_relative_to(SRC) else path.relative_to(ROOT).as_posix()


def functions(tree: ast.Module) -> Iterator[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef]]:
    def walk(node: ast.AST, prefix: str) -> Iterator[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef]]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
                yield prefix + child.name, child
                yield from walk(child, f"{prefix}{child.name}.")
            elif isinstance(child, ast.stmt | ast.ExceptHandler | ast.match_case):  # no expression holds a `def`
                yield from walk(child, f"{prefix}{child.name}." if isinstance(child, ast.ClassDef) else prefix)

    return walk(tree, "")


def last_name(node: ast.expr) -> str:
    """Give the `name` of `name` and of `any.thing.name`."""
    return node.id if isinstance(node, ast.Name) else node.attr if isinstance(node, ast.Attribute) else ""


def is_docstring(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def length(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines from `def` to the end, the docstring left out. A signature of many parameters counts as its body does."""
    first = function.body[0]
    docstring = first.end_lineno - first.lineno + 1 if is_docstring(first) else 0
    return function.end_lineno - function.lineno + 1 - docstring


def long_files() -> dict[str, int]:
    sizes = {name_of(path): len(path.read_text().splitlines()) for path in [*FILES, *OWN_PROGRAMS]}
    return {name: size for name, size in sizes.items() if size > MAX_FILE}


def long_functions() -> dict[str, int]:
    return {
        f"{name_of(path)}::{name}": length(function)
        for path in [*FILES, *OWN_PROGRAMS]
        for name, function in functions(parsed(path))
        if length(function) > MAX_FUNCTION
    }


@pytest.mark.parametrize(
    ("found", "allowed"),
    [
        pytest.param(long_files, LONG_FILES, id="files"),
        pytest.param(long_functions, LONG_FUNCTIONS, id="functions"),
    ],
)
def test_what_is_long_is_listed_with_a_reason(found, allowed):
    sizes = found()
    unlisted = {name: size for name, size in sizes.items() if size > allowed.get(name, (0, ""))[0]}
    assert not unlisted, "over the limit: find the seam, or list it with its reason"
    assert not set(allowed) - set(sizes), "listed, but no longer over the limit"
    assert all(len(why) > 20 for _, why in allowed.values())


def test_import_contracts_hold():
    command = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run([command, "--no-logo", "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_every_message_has_a_handler():
    from callsheet._kernel import messages

    tree = ast.parse((SRC / "_kernel" / "orchestrator.py").read_text())
    handled = {
        node.pattern.cls.id
        for node in ast.walk(tree)
        if isinstance(node, ast.match_case)
        and isinstance(node.pattern, ast.MatchClass)
        and isinstance(node.pattern.cls, ast.Name)
    }
    assert handled >= {message.__name__ for message in get_args(messages.Message)}
    assert any(isinstance(node, ast.Name) and node.id == "assert_never" for node in ast.walk(tree))


def calls_of(*names: str) -> Iterator[tuple[Path, ast.Call]]:
    """Give what calls a function whose name, or the last part of it, is one of these."""
    for path in FILES:
        text = path.read_text()
        if any(name in text for name in names):  # trees are made and walked only where it may be
            for node in ast.walk(parsed(path)):
                if isinstance(node, ast.Call) and last_name(node.func) in names:
                    yield path, node


def test_threads_are_started_in_their_own_modules_only():
    names = ("Thread", "Timer", "ThreadPoolExecutor", "start_new_thread", "to_thread", "run_in_executor")
    starters = {name_of(path) for path, _ in calls_of(*names)}
    assert starters
    assert starters <= THREAD_STARTERS


def test_every_thread_has_our_name():
    """By it a host's operator knows the thread, and the tests know what was left behind."""
    unnamed = [
        f"{name_of(path)}:{node.lineno}"
        for path, node in calls_of("Thread")
        if ast.unparse(node.func) in {"threading.Thread", "Thread"}
        and not any(keyword.arg == "name" for keyword in node.keywords)
    ]
    assert not unnamed


def test_no_line_of_ours_sets_global_state_of_the_host():
    """The root logger, the loop policy and the thread limiter belong to the host."""
    forbidden = (
        "logging.basicConfig",
        "set_event_loop_policy",
        "current_default_thread_limiter",
        "logging.root",
        "logging.captureWarnings",
    )
    assert [
        (name_of(path), word)
        for path in FILES
        for word in forbidden
        if word.rpartition(".")[2] in path.read_text()  # to write the tree out again takes long
        for node in ast.walk(parsed(path))
        if isinstance(node, ast.Call) and word in ast.unparse(node.func)
    ] == []


def test_a_module_says_what_it_is_for():
    """It begins with that."""
    assert [name_of(path) for path in FILES if not ast.get_docstring(parsed(path))] == []
