"""`import callsheet` is cheap. Counted in modules, which are the same on every machine; seconds are in benchmarks/."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

HEAVY = {
    "pydantic", "pydantic_core", "trio", "rich", "graphviz", "dask", "distributed", "ray", "fastapi", "starlette",
    "litestar", "uvicorn", "httpx", "aiosqlite", "structlog", "cloudpickle", "uvloop", "sqlite3", "asyncio",
    "multiprocessing", "concurrent.futures.process",
}  # fmt: skip

PROBE = """
import sys
before = set(sys.modules)
{statement}
import json
print(json.dumps(sorted(set(sys.modules) - before)))
"""


def imported_by(statement: str) -> set[str]:
    done = subprocess.run(
        [sys.executable, "-X", "utf8", "-W", "error", "-c", PROBE.format(statement=statement)],
        capture_output=True,
        text=True,
        check=True,
    )
    return set(json.loads(done.stdout))


@pytest.mark.parametrize(
    ("statement", "at_most"),
    [
        pytest.param("import callsheet", 60, id="package"),
        pytest.param("from callsheet import flow, task", 110, id="decorators"),
        pytest.param("from callsheet import flow, task, State", 320, id="names"),
    ],
)
def test_nothing_heavy_comes_along(statement, at_most):
    modules = imported_by(statement)
    assert not HEAVY & modules
    assert not {name.partition(".")[0] for name in modules} & (HEAVY - {"concurrent.futures.process"})
    assert len(modules) <= at_most, sorted(modules)


def test_defining_flows_and_tasks_stays_light():
    """Decorators run at a program's import: they must not cost it pydantic or a web framework either."""
    program = (
        "from callsheet import flow, task\n"
        "@task\n"
        "def double(x): return 2 * x\n"
        "@flow(validate_parameters=False)\n"
        "def f(x): return double(x)\n"
    )
    # Nor what only a run needs: an event loop, the database.
    assert not HEAVY & imported_by(program)
