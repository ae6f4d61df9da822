"""Nothing is accepted and ignored: every parameter and every setting is read by something, or is named here with the reason."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import callsheet
from callsheet.settings import Settings

ROOT = Path(callsheet.__file__).parent
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)

# Where what programs call is defined, besides the modules whose names are public.
WITHIN = (
    "_engine/engine.py _engine/flow_calls.py _engine/task_calls.py _engine/futures.py _results/store.py client/_*.py"
)

# Parameters that somebody else's protocol asks for.
ASKED_FOR = {
    "Engine.lifespan": "app",  # frameworks pass themselves
    "CacheKeyFnPolicy.compute_key": "flow_parameters kwargs",  # policies are asked alike, and each takes what it needs
    "Inputs.compute_key": "task_ctx flow_parameters kwargs",
    "TaskSource.compute_key": "inputs flow_parameters kwargs",
    "RunId.compute_key": "inputs flow_parameters kwargs",
    "FlowParameters.compute_key": "task_ctx inputs kwargs",
    "NoCaching.compute_key": "task_ctx inputs flow_parameters kwargs",
    "SharedStore.try_commit": "settled",  # stores are asked alike
    "Body.interrupt": "exc_type",  # and so are threads
}

# Settings of what is not there yet (docs/differences.md).
IDLE_SETTINGS = {"api_key", "default_work_pool_name"}


def sources() -> Iterator[Path]:
    for path in sorted(ROOT.rglob("*.py")):
        if not any(part.startswith("_") and part != "__init__.py" for part in path.relative_to(ROOT).parts):
            yield path
    for pattern in WITHIN.split():
        found = sorted(ROOT.glob(pattern))
        assert found, pattern
        yield from found


def public_functions(node: ast.AST, path: str = "") -> Iterator[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef]]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.ClassDef) and not child.name.startswith("_"):
            yield from public_functions(child, f"{path}{child.name}.")
        elif isinstance(child, FUNCTIONS) and not child.name.startswith("_"):
            yield f"{path}{child.name}", child


def is_body(function: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    """Tell whether there is anything that could read: overloads, protocols and refusals of everything do not."""
    rest = [one for one in function.body if not (isinstance(one, ast.Expr) and isinstance(one.value, ast.Constant))]
    return not all(isinstance(one, (ast.Raise, ast.Pass)) for one in rest)


def idle_parameters(function: ast.FunctionDef | ast.AsyncFunctionDef) -> list[str]:
    given = function.args
    every = [*given.posonlyargs, *given.args, *given.kwonlyargs, given.vararg, given.kwarg]
    names = [one.arg for one in every if one is not None and one.arg not in ("self", "cls") and one.arg.strip("_")]
    read = {one.id for one in ast.walk(function) if isinstance(one, ast.Name) and isinstance(one.ctx, ast.Load)}
    return [] if "locals" in read else [name for name in names if name not in read]


def test_every_parameter_is_read() -> None:
    idle: dict[str, str] = {}
    for source in sources():
        for name, function in public_functions(ast.parse(source.read_text())):
            # What is looked at and refused is not ignored.
            if is_body(function) and "NoReturn" not in ast.unparse(function.returns or ast.Constant(None)):
                idle |= {name: " ".join(found) for found in [idle_parameters(function)] if found}
    assert idle == ASKED_FOR


def names_read() -> Iterator[str]:
    for path in ROOT.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())) if path.name != "settings.py" else ():
            if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load):
                yield node.attr
            elif isinstance(node, ast.Name) and node.id.startswith("CALLSHEET_"):
                yield node.id.removeprefix("CALLSHEET_").lower()


def test_every_setting_is_read() -> None:
    assert set(Settings.__struct_fields__) - {*names_read(), "explicit"} == IDLE_SETTINGS
