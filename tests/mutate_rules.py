"""Changes the rules in every small way, one at a time, and tells which changes no test notices.

    make mutate [MODULES="guards table"]

Each mutant lives in a process forked from this one, in which the rules are imported anew, so that what is worked out
at import (the table, what is calm) is worked out by the mutant. Most fall to the comparison of the table with its model,
which is made with answers that were worked out once; the others meet all tests of the rules. Changes that cannot matter are in
`EXCUSED`, each with its reason; every other survivor makes the exit code 1.
"""

from __future__ import annotations

import ast
import copy
import gc
import importlib
import importlib.util
import itertools
import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hypothesis  # noqa: F401 - before the fork
import pytest

import test_rules

RULES = Path(importlib.util.find_spec("callsheet._rules").origin).parent  # type: ignore[union-attr,arg-type]
HERE = Path(__file__).parent
MODULES = ("guards", "table", "retry", "again", "taking", "identity")
TESTS = ("test_rules_of_taking.py", "test_rules.py", "proofs/test_all_orders.py")
SECONDS = 120

# Module, function, and the mutant as it is printed: why it makes no difference.
EXCUSED: dict[tuple[str, str], str] = {}

_COMPARE: dict[type, tuple[type, ...]] = {
    ast.Lt: (ast.LtE, ast.GtE),
    ast.LtE: (ast.Lt, ast.Gt),
    ast.Gt: (ast.GtE, ast.LtE),
    ast.GtE: (ast.Gt, ast.Lt),
    ast.Eq: (ast.NotEq,),
    ast.NotEq: (ast.Eq,),
    ast.Is: (ast.IsNot,),
    ast.IsNot: (ast.Is,),
    ast.In: (ast.NotIn,),
    ast.NotIn: (ast.In,),
}
_ARITHMETIC: dict[type, type] = {ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Add, ast.Div: ast.Mult}


def changes(node: ast.AST) -> Iterator[ast.AST]:
    """Give what one node may be changed into."""
    match node:
        case ast.Compare(ops=[op]) if type(op) in _COMPARE:
            for other in _COMPARE[type(op)]:
                yield _with(node, ops=[other()])
        case ast.BoolOp(op=op, values=values):
            yield _with(node, op=ast.Or() if isinstance(op, ast.And) else ast.And())
            for index in range(len(values)):
                rest = [*values[:index], *values[index + 1 :]]
                yield rest[0] if len(rest) == 1 else _with(node, values=rest)
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            yield operand
        case ast.BinOp(op=op) if type(op) in _ARITHMETIC:
            yield _with(node, op=_ARITHMETIC[type(op)]())
        case ast.Constant(value=bool() as value):
            yield _with(node, value=not value)
        case ast.Constant(value=int() | float() as value):
            yield _with(node, value=value + 1)
        case ast.If(test=test):
            yield _with(node, test=ast.UnaryOp(op=ast.Not(), operand=test))
        case ast.IfExp(body=body, orelse=orelse):
            yield body
            yield orelse
        case ast.Return(value=value) if value is not None and not _is_none(value):
            yield _with(node, value=ast.Constant(None))
        case ast.Expr(value=ast.Yield() | ast.YieldFrom()):
            yield ast.Pass()
        case ast.Tuple(elts=elts, ctx=ast.Load()) if len(elts) > 1:
            for index in range(len(elts)):
                yield _with(node, elts=[*elts[:index], *elts[index + 1 :]])
        case ast.Attribute(value=ast.Name(id="StateType" | "_S"), attr=attr):
            yield _with(node, attr="CRASHED" if attr != "CRASHED" else "FAILED")


def _with(node: Any, **changed: Any) -> Any:
    new = copy.copy(node)
    for name, value in changed.items():
        setattr(new, name, value)
    return new


def _is_none(node: ast.AST) -> bool:
    return isinstance(node, ast.Constant) and node.value is None


class _Replace(ast.NodeTransformer):
    def __init__(self, old: ast.AST, new: ast.AST) -> None:
        self._old, self._new = old, new

    def visit(self, node: ast.AST) -> Any:
        return ast.copy_location(self._new, node) if node is self._old else self.generic_visit(node)


def mutants(path: Path) -> Iterator[tuple[str, str]]:
    """Give each mutant of a module: what was changed, in words, and its source."""
    tree = ast.parse(path.read_text("utf-8"))
    for function in (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)):
        for node in (one for part in function.body for one in ast.walk(part)):
            for number, new in enumerate(changes(node)):
                changed = ast.fix_missing_locations(_replaced(tree, node, new))
                yield f"{function.name}: {_said(node)} -> {_said(new)} [{number}]", ast.unparse(changed)


def _said(node: ast.AST) -> str:
    return ast.unparse(node).splitlines()[0]


def _replaced(tree: ast.Module, old: ast.AST, new: ast.AST) -> ast.Module:
    # Copied along the way only: `old` must be found by its identity.
    memo: dict[int, Any] = {}
    fresh = copy.deepcopy(tree, memo)
    return _Replace(memo[id(old)], new).visit(fresh)


Question = tuple[Any, Any, Any, Any, Any, Any, tuple[Any, ...]]


def questions() -> list[Question]:
    """Give what the test of the table asks, and what the model answers."""
    return [
        (kind, current, name, proposed, proposed_name, facts, test_rules.expected(kind, (current, name), new, facts))
        for kind, proposed in itertools.product(test_rules.Kind, test_rules.StateType)
        for facts in test_rules.facts_that_matter(proposed)
        for current, name in (old for one in (None, *test_rules.StateType) for old in test_rules.named(one))
        for new in test_rules.named(proposed)
        for _, proposed_name in [new]
    ]


def survives(module: str, source: str, asked: list[Question]) -> bool:
    """Run the tests against a mutant, in a process of its own."""
    pid = os.fork()
    if pid == 0:
        os._exit(_answers(module, source, asked) or _tested(module, source))
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status) == 0
        time.sleep(0.01)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return False


def _answers(module: str, source: str, asked: list[Question]) -> int:
    """Compare the mutant of the table, or of its rules, with the model."""
    if module not in ("guards", "table"):
        return 0
    try:
        for name in ("guards", "table"):
            del sys.modules[f"callsheet._rules.{name}"]
        sys.meta_path.insert(0, _Finder(f"callsheet._rules.{module}", source))
        judge = importlib.import_module("callsheet._rules.table").judge
        for kind, current, name, proposed, proposed_name, facts, wanted in asked:
            verdict = judge(kind, current, proposed, facts, current_name=name, proposed_name=proposed_name)
            if test_rules.as_tuple(verdict) != wanted:
                return 1
        return 0
    except BaseException:
        return 1


def _tested(module: str, source: str) -> int:
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
    try:
        for name in [one for one in sys.modules if one.startswith(_ANEW)]:
            del sys.modules[name]
        sys.meta_path.insert(0, _Finder(f"callsheet._rules.{module}", source))
        options = [
            "-x",
            "-q",
            "-p",
            "no:cacheprovider",
            "-p",
            "no:randomly",
            "-p",
            "no:xdist",
            "-o",
            "addopts=",
            "-o",
            "filterwarnings=default",
        ]
        tests = [str(HERE / one) for one in TESTS if (HERE / one).exists()]
        return int(
            pytest.main([*options, "--import-mode=importlib", f"--rootdir={HERE.parent}", "-k", "not digest", *tests])
        )
    except BaseException:
        return 1


_ANEW = ("callsheet._rules", "callsheet._engine", "test_rules", "rules_model")


class _Finder:
    """Gives the mutant for one module."""

    def __init__(self, name: str, source: str) -> None:
        self._name, self._source = name, source

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        return importlib.util.spec_from_loader(name, self) if name == self._name else None

    def create_module(self, spec: Any) -> None:
        return None

    def exec_module(self, module: Any) -> None:
        exec(compile(self._source, f"mutant of {self._name}", "exec"), module.__dict__)


def main() -> int:
    """Try every mutant; the exit code says whether one survived that is not excused."""
    wanted = sys.argv[1:] or MODULES
    asked = questions()
    gc.freeze()
    bad = tried = 0
    for module in wanted:
        path = RULES / f"{module}.py"
        if not survives(module, path.read_text("utf-8"), asked):
            print(f"{module}: the tests fail without any change")
            return 1
        for what, source in mutants(path):
            tried += 1
            if not survives(module, source, asked):
                continue
            reason = EXCUSED.get((module, what))
            bad += reason is None
            print(f"{module}.{what}: {'survived' if reason is None else f'excused: {reason}'}", flush=True)
    print(f"{tried} mutants of {', '.join(wanted)}: {bad} survived")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
