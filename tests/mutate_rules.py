"""Changes the rules in every small way, one at a time, and tells which changes no test notices.

    make mutate [MODULES="guards table"]

The tests of a module are collected and run once. Each mutant then lives in a process that is forked from there: all rules are
made anew around it, so that what is worked out at import (the table, what is calm) is worked out by the mutant, and
take the place of the old ones wherever those are known by name; the first test that fails ends it. Left alone is what
cannot matter: annotations, docstrings, `__slots__`, and sentences for people (every string with a space in it).
Changes that cannot be noticed are in `EXCUSED`, each with its reason; every other survivor makes the exit code 1, and so
does an excuse that nothing needs any more.
"""

from __future__ import annotations

import ast
import copy
import gc
import importlib
import importlib.util
import os
import signal
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import hypothesis
import pytest

RULES = Path(importlib.util.find_spec("callsheet._rules").origin).parent  # type: ignore[union-attr,arg-type]
HERE = Path(__file__).parent
SECONDS = 60
"""What a mutant may take; one that hangs is noticed."""

_OF_STATES = ("test_rules_of_taking.py", "test_rules.py", "proofs/test_all_orders.py")
TESTS: dict[str, tuple[str, ...]] = {
    # In an order in which each module comes after those that it knows.
    "facts": _OF_STATES,
    "verdicts": _OF_STATES,
    "digest": ("test_rules_of_digests.py",),
    "schemas": ("test_schemas.py",),
    "retry": ("test_rules_of_retry.py",),
    "identity": ("test_rules_of_identity.py",),
    "guards": _OF_STATES,
    "table": _OF_STATES,
    "taking": ("test_rules_of_taking.py",),
    "again": ("test_rules_of_taking.py",),
}

# Why they make no difference, and which they are, as they are printed.
_REASONS: dict[str, tuple[str, ...]] = {
    "It only saves time: the way that is taken instead, or the length of what was encoded, gives the same answer.": (
        (
            "digest.inputs_digest: kind not in _SCALARS or ((kind is str or kind is bytes) and len(value) > limit)"
            " -> kind not in _SCALARS"
        ),
        "digest.inputs_digest: (kind is str or kind is bytes) and len(value) > limit -> kind is str or kind is bytes",
        "digest.inputs_digest: kind is str or kind is bytes -> kind is str and kind is bytes",
        "digest.inputs_digest: kind is str or kind is bytes -> kind is bytes",
        "digest.inputs_digest: kind is str or kind is bytes -> kind is str",
        "digest.inputs_digest: len(value) > limit -> len(value) >= limit",
        "digest.inputs_digest: len(value) > limit -> len(value) <= limit",
        (
            "digest.inputs_digest: flat if plain else _Walk(origin, limit, parts, whole=True).top(flat)"
            " -> _Walk(origin, limit, parts, whole=True).top(flat)"
        ),
        "digest._Walk._scalar: kind is str or kind is bytes -> kind is str",
        "digest._Walk._scalar: len(value) > self._limit -> len(value) >= self._limit",
        "digest._Walk._scalar: raise _NoCanonicalFormError -> pass",
        "digest._Walk._inside: len(items) > self._limit -> len(items) >= self._limit",
        "digest._Walk._inside: raise _NoCanonicalFormError -> pass",
        "digest._Walk._are_scalars: set(map(type, items)) <= _SCALARS -> set(map(type, items)) < _SCALARS",
        "identity.calls_of_body: left -= len(some) -> left += len(some)",
        "identity.calls_of_body: left <= 0 -> left < 0",
        "identity.calls_of_body: break -> pass",
        "table....move not in TABLE or all((judge(*move, Facts(now=0.0... -> ...all((judge(*move, Facts(now=0.0...",
    ),
    "The system on which this runs makes no such paths.": (
        (
            "digest.{PosixPath, PurePosixPath, PureWindowsPath, WindowsPath}"
            " -> {PosixPath, PurePosixPath, PureWindowsPath}"
        ),
    ),
    "It looks for more than there has to be; what is found is the same wherever fewer are enough.": (
        "identity.4 -> 5",
    ),
    "More bits of a name tell apart what fewer tell apart.": ("identity.Branches.anchor: 8 -> 9",),
    "No rule decides by this name alone as yet; it is there for the one that will.": (
        (
            "table.(None, guards.AWAITING_RETRY, guards.RETRYING, guards.SUSPENDED, guards.ROLLED_BACK)"
            " -> (guards.AWAITING_RETRY, guards.RETRYING, guards.SUSPENDED, guards.ROLLED_BACK)"
        ),
        (
            "table.(None, guards.AWAITING_RETRY, guards.RETRYING, guards.SUSPENDED, guards.ROLLED_BACK)"
            " -> (None, guards.AWAITING_RETRY, guards.SUSPENDED, guards.ROLLED_BACK)"
        ),
        (
            "table.(None, guards.AWAITING_RETRY, guards.RETRYING, guards.SUSPENDED, guards.ROLLED_BACK)"
            " -> (None, guards.AWAITING_RETRY, guards.RETRYING, guards.ROLLED_BACK)"
        ),
        (
            "table.(None, guards.AWAITING_RETRY, guards.RETRYING, guards.SUSPENDED, guards.ROLLED_BACK)"
            " -> (None, guards.AWAITING_RETRY, guards.RETRYING, guards.SUSPENDED)"
        ),
    ),
    "What is stripped is any of these characters.": ("schemas._referred: '/' -> '//'",),
    "Any moment will do: the facts name no other to compare it with.": ("table.0.0 -> 1.0",),
    "Only states that there are come here, and no reason is empty: this is for the type checker.": (
        "guards._value: '' if state is None else state.value -> state.value",
        "schemas._reasons: for reason in found if reason -> for reason in found",
    ),
}
EXCUSED = {what: reason for reason, mutants in _REASONS.items() for what in mutants}

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
_ARITHMETIC: dict[type, type] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Add,
    ast.Div: ast.Mult,
    ast.Mod: ast.Mult,
    ast.BitOr: ast.BitAnd,
}
_OTHERS = {"min": "max", "max": "min", "all": "any", "any": "all"}


def changes(node: ast.AST) -> Iterator[ast.AST]:
    """Give what one node may be changed into."""
    match node:
        case ast.expr():
            yield from _of_expression(node)
        case ast.If(test=test) if not isinstance(test, ast.Compare | ast.UnaryOp):  # theirs are changes of their own
            yield _with(node, test=ast.UnaryOp(op=ast.Not(), operand=test))
        case ast.Return(value=value) if value is not None and not _is_none(value):
            yield _with(node, value=ast.Constant(None))
        case ast.Expr() | ast.Raise() | ast.Break():
            yield ast.Pass()
        case ast.AugAssign(op=op) if type(op) in _ARITHMETIC:
            yield _with(node, op=_ARITHMETIC[type(op)]())
        case ast.comprehension(ifs=[_, *_]):
            yield _with(node, ifs=[])


def _of_expression(node: ast.expr) -> Iterator[ast.AST]:
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
        case ast.Constant(value=str() | bytes() as value) if len(value.split()) == 1:
            yield _with(node, value=value * 2)
        case ast.IfExp(body=body, orelse=orelse):
            yield body
            yield orelse
        case ast.Call(func=ast.Name(id=name) as called) if name in _OTHERS:
            yield _with(node, func=_with(called, id=_OTHERS[name]))
        case ast.Call(func=ast.Name(id="sorted"), args=[first]):
            yield _with(node, func=ast.Name("list", ast.Load()), args=[first])
        case ast.Tuple(elts=elts, ctx=ast.Load()) | ast.Set(elts=elts) if len(elts) > 1:
            for index in range(len(elts)):
                yield _with(node, elts=[*elts[:index], *elts[index + 1 :]])
        case ast.Dict(keys=keys, values=values) if len(keys) > 1:
            for index in range(len(keys)):
                yield _with(
                    node, keys=[*keys[:index], *keys[index + 1 :]], values=[*values[:index], *values[index + 1 :]]
                )
        case ast.Attribute(value=ast.Name(id="StateType" | "_S"), attr=attr):
            yield _with(node, attr="CRASHED" if attr != "CRASHED" else "FAILED")


def _with(node: Any, **changed: Any) -> Any:
    new = copy.copy(node)
    for name, value in changed.items():
        setattr(new, name, value)
    return new


def _is_none(node: ast.AST) -> bool:
    return isinstance(node, ast.Constant) and node.value is None


def nodes(part: ast.AST, where: str = "") -> Iterator[tuple[str, ast.AST]]:
    """Give every node that may be changed, with the name of the function or class that it is in."""
    match part:
        case ast.Import() | ast.ImportFrom() | ast.JoinedStr():
            return
        case ast.Subscript(value=ast.Name(id="tuple" | "dict" | "Callable" | "Mapping")):
            return  # another name for a type
        case ast.Expr(value=ast.Constant()) | ast.Assign(targets=[ast.Name(id="__slots__")]):
            return  # a docstring; what only saves memory
        case ast.Call(func=ast.Name(id="cast"), args=[_, value]):
            yield from nodes(value, where)
            return
        case ast.FunctionDef(name=name) | ast.ClassDef(name=name):
            where = f"{where}.{name}".strip(".")
    yield where, part
    for field, value in ast.iter_fields(part):
        if field not in ("annotation", "returns", "decorator_list"):
            for one in value if isinstance(value, list) else [value]:
                if isinstance(one, ast.AST):
                    yield from nodes(one, where)


class _Replace(ast.NodeTransformer):
    def __init__(self, old: ast.AST, new: ast.AST) -> None:
        self._old, self._new = old, new

    def visit(self, node: ast.AST) -> Any:
        return ast.copy_location(self._new, node) if node is self._old else self.generic_visit(node)


def mutants(path: Path) -> Iterator[tuple[str, str]]:
    """Give each mutant of a module: what was changed, in words, and its source."""
    tree = ast.parse(path.read_text("utf-8"))
    often: Counter[str] = Counter()
    seen = {ast.unparse(tree)}
    for where, node in nodes(tree):
        for new in changes(node):
            source = ast.unparse(ast.fix_missing_locations(_replaced(tree, node, new)))
            if source in seen:
                continue
            seen.add(source)
            said = f"{where}: {_said(node, new)}".removeprefix(": ")
            often[said] += 1
            yield said if often[said] == 1 else f"{said} (no. {often[said]})", source


def _said(node: ast.AST, new: ast.AST) -> str:
    """Write down a change; of what is long, only the part that differs."""
    old, after = (" ".join(ast.unparse(one).split()) for one in (node, new))
    if len(old) > 100:
        start = max(_alike(old, after) - 30, 0)
        end = max(_alike(old[:start:-1], after[:start:-1]) - 30, 0)
        old, after = (f"...{one[start : len(one) - end]}..." for one in (old, after))
    return f"{old} -> {after}"


def _alike(one: str, other: str) -> int:
    pairs = zip(one, other, strict=False)
    return next((index for index, (a, b) in enumerate(pairs) if a != b), min(len(one), len(other)))


def _replaced(tree: ast.Module, old: ast.AST, new: ast.AST) -> ast.Module:
    # Copied along the way only: `old` must be found by its identity.
    memo: dict[int, Any] = {}
    fresh = copy.deepcopy(tree, memo)
    return _Replace(memo[id(old)], new).visit(fresh)


# ------------------------------------------------------------------------------------- one mutant


def put_in(module: str, source: str) -> None:
    """Make the rules anew, one of them as it is given, and have everybody who knows the old ones by name know them."""
    known = {f"callsheet._rules.{name}": name for name in TESTS}
    old = {name: sys.modules.pop(name) for name in known if name in sys.modules}
    for name, short in known.items():
        if short == module:
            fresh = sys.modules[name] = ModuleType(name)
            fresh.__file__ = str(RULES / f"{short}.py")
            exec(compile(source, f"mutant of {short}", "exec"), fresh.__dict__)
            setattr(sys.modules["callsheet._rules"], short, fresh)
        elif name in old:
            fresh = importlib.import_module(name)
    for name, stale in old.items():
        fresh = sys.modules[name]
        for other in [*sys.modules.values()]:
            if other not in (fresh, stale) and isinstance(other, ModuleType):
                _rename(vars(other), stale, fresh)


def _rename(names: dict[str, Any], stale: ModuleType, fresh: ModuleType) -> None:
    for name, value in [*names.items()]:
        if value is stale:
            names[name] = fresh
        elif name in vars(stale) and value is vars(stale)[name] and not name.startswith("__"):
            names[name] = getattr(fresh, name, None)


class Mutants:
    """A plugin: in place of running the tests once, runs them once for each mutant, each in a process of its own."""

    def __init__(self, module: str) -> None:
        self.module = module
        self.tried = 0
        self.survivors: list[str] = []
        self.excused: list[str] = []
        self.notes = os.fdopen(os.dup(1), "w", buffering=1)
        self._failed = False
        self._took: defaultdict[str, float] = defaultdict(float)  # seconds

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        path = RULES / f"{self.module}.py"
        self._fails(session)
        session.items.sort(key=lambda item: self._took[item.nodeid])  # most mutants fall to what takes no time
        gc.freeze()
        if self._failed or not self.survives(session, path.read_text("utf-8")):
            print(f"{self.module}: the tests fail without any change", file=self.notes)
            raise session.Failed
        for what, source in mutants(path):
            self.tried += 1
            if self.survives(session, source):
                what = f"{self.module}.{what}"
                (self.excused if what in EXCUSED else self.survivors).append(what)
                if what not in EXCUSED:
                    print(f"{what}: survived", file=self.notes)
        return True

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self._failed |= report.failed
        self._took[report.nodeid] += report.duration

    def survives(self, session: pytest.Session, source: str) -> bool:
        """Run the tests against a mutant, in a process of its own, until one fails."""
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                session.config.pluginmanager.unregister(name="terminalreporter")
                put_in(self.module, source)
                code = int(self._fails(session))
            finally:
                os._exit(code)
        deadline = time.monotonic() + SECONDS
        while time.monotonic() < deadline:
            done, status = os.waitpid(pid, os.WNOHANG)
            if done:
                return os.waitstatus_to_exitcode(status) == 0
            time.sleep(0.002)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        return False

    def _fails(self, session: pytest.Session) -> bool:
        for item, following in zip(session.items, [*session.items[1:], None], strict=True):
            item.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
            if self._failed:
                return True
        return False


OPTIONS = ("-qq", "-n", "0", "--no-header", "--no-summary", "--tb=no", "--import-mode=importlib")
OPTIONS += (f"--rootdir={HERE.parent}", "-W", "ignore:Module already imported")
# The same examples for every mutant; one that fails is not made smaller.
OPTIONS += ("-p", "no:randomly", "-p", "no:cacheprovider", "--timeout", "0", "--hypothesis-profile=mutants")


def tried(module: str) -> int:
    """Try every mutant of a module; give what the process is to end with."""
    few = (hypothesis.Phase.explicit, hypothesis.Phase.generate)
    hypothesis.settings.register_profile("mutants", deadline=None, derandomize=True, database=None, phases=few)
    since = time.monotonic()
    plugin = Mutants(module)
    failed = pytest.main([*OPTIONS, *(str(HERE / one) for one in TESTS[module])], plugins=[plugin])
    needless = [what for what in EXCUSED if what.startswith(f"{module}.") and what not in plugin.excused]
    for what in needless:
        print(f"{what}: is excused, and does not survive")
    excused, bad = len(plugin.excused), len(plugin.survivors)
    print(
        f"{module}: {plugin.tried} mutants, {plugin.tried - excused - bad} noticed, {excused} excused, {bad} survived,"
        f" in {time.monotonic() - since:.0f} s",
        flush=True,
    )
    return 1 if failed or needless or bad else 0


def main() -> int:
    """Try every mutant; the exit code says whether one survived that is not excused."""
    found = {path.stem for path in RULES.glob("[!_]*.py")}
    assert found == set(TESTS), f"modules without a list of tests, or lists without a module: {found ^ set(TESTS)}"
    wrong = 0
    for module in sys.argv[1:] or TESTS:
        pid = os.fork()  # pytest runs once in a process
        if pid == 0:
            os._exit(tried(module))
        wrong |= os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
