"""Digests of inputs: equal in every process, hash seed and version of Python; never equal for what differs."""

from __future__ import annotations

import copy
import dataclasses
import enum
import itertools
import os
import shutil
import subprocess
import sys
import threading
import time
import zoneinfo
from collections import OrderedDict, namedtuple
from datetime import datetime, tzinfo
from decimal import Decimal
from io import BytesIO
from pathlib import Path
from types import MappingProxyType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from callsheet import flow, task
from callsheet.utilities.cache_keys import hash_by_name
from callsheet.utilities.canonical import OverBudget, at_most
from callsheet.utilities.hashing import hash_objects

HERE = Path(__file__).parent
SOURCE = HERE.parent.parent / "src"


def interpreters() -> list[str]:
    """What may be other interpreters on this machine: on the path, or kept by pyenv."""
    kept = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    found = [shutil.which(f"python3.{minor}") for minor in (11, 12, 13)]
    found += [str(path) for minor in (11, 12, 13) for path in kept.glob(f"3.{minor}.*/bin/python")]
    return sorted({path for path in found if path})


def works(interpreter: str) -> bool:
    """Tell interpreters from the stand-ins that version managers put on the path."""
    return subprocess.run([interpreter, "-c", ""], capture_output=True, timeout=20, check=False).returncode == 0


def keys_of(interpreter: str, seed: str) -> list[str]:
    environment = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": str(SOURCE), "PYTHONIOENCODING": "utf-8"}
    command = [interpreter, str(HERE / "everywhere.py")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=50, check=False)
    if interpreter != sys.executable and "ModuleNotFoundError" in done.stderr:
        pytest.skip(f"{interpreter} lacks a module: {done.stderr.splitlines()[-1]}")
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@pytest.fixture(scope="module")
def expected() -> list[str]:
    return keys_of(sys.executable, "1")


def test_hash_seeds_do_not_matter(expected):
    assert keys_of(sys.executable, "2") == expected
    assert len(set(expected)) == len(expected), "all those values differ"


@pytest.mark.parametrize("interpreter", interpreters())
def test_versions_of_python_do_not_matter(interpreter, expected):
    if not works(interpreter):
        pytest.skip(f"{interpreter} only stands in for one")
    assert keys_of(interpreter, "3") == expected


# ---------------------------------------------------------------------------------- never a wrong equality


class Color(enum.Enum):
    RED = 1


class Number(enum.IntEnum):
    ONE = 1


@dataclasses.dataclass
class Point:
    x: Any


@dataclasses.dataclass
class Spot:
    x: Any


class MyInt(int):
    pass


class MyList(list):
    pass


class Zone(tzinfo):
    def __init__(self, name: str = "") -> None:
        self.name = name

    def utcoffset(self, when: Any) -> None:
        return None

    def __repr__(self) -> str:
        return "Zone()"


class Marked(type(Path())):
    pass


def marked(path: str, mark: str) -> Any:
    made = Marked(path)
    made.mark = mark
    return made


Two = namedtuple("Two", "a b")

DIFFERENT = [
    1, True, 1.0, "1", b"1", Decimal(1), MyInt(1), Number.ONE, Color.RED, 1 + 0j, np.int64(1), np.float64(1),
    [1], (1,), {1}, frozenset({1}), {1: None}, [True], [1.0], MyList([1]), [[1]], ["1"], [b"1"], [1, 1],
    {1: 1}, {True: 1}, {1: True}, OrderedDict({1: 1}), MappingProxyType({1: 1}), 0.0, -0.0, "", b"", [], (), {}, set(),
    None, "None", ..., Point(1), Spot(1), Point(True), Point(Point(1)), SimpleNamespace(x=1),
    Two(1, 2), (1, 2), [1, 2], ["1", "2"], ["12"], ["1, 2"], "a\ud800", "a\\ud800", Point("\ud800"),
    datetime(2024, 1, 1, tzinfo=Zone("a")), datetime(2024, 1, 1, tzinfo=Zone("b")),
    datetime(2024, 1, 1, fold=1), datetime(2024, 1, 1), datetime(2024, 1, 1, tzinfo=zoneinfo.ZoneInfo("UTC")),
    Decimal("1.0"), Decimal("1.00"), Path("/a"), Marked("/a"), marked("/a", "x"), marked("/a", "y"), "/a",
    np.arange(4), np.arange(4).reshape(2, 2), np.arange(4, dtype="i4"), np.arange(4.0),
    np.arange(4, dtype=">i8"), np.arange(8)[::2], np.array([]), np.array(1),
    np.array([(1, 2)], dtype=[("a", "i4"), ("b", "i4")]), np.array([(1, 2)], dtype=[("b", "i4"), ("a", "i4")]),
    range(3), [0, 1, 2],
]  # fmt: skip


def test_no_two_of_these_share_a_key():
    keys = [hash_objects(value, raise_on_failure=True) for value in DIFFERENT]
    shared = [
        (DIFFERENT[a], DIFFERENT[b]) for a, b in itertools.combinations(range(len(keys)), 2) if keys[a] == keys[b]
    ]
    assert shared == []


COPIED = [value for value in DIFFERENT if not isinstance(value, MappingProxyType | Marked)]


@pytest.mark.parametrize("value", COPIED, ids=lambda value: type(value).__name__)
def test_a_copy_has_the_same_key(value):
    assert hash_objects(copy.deepcopy(value)) == hash_objects(value)


def test_shared_references_do_not_show():
    text, other = "ab", str(b"ab", "ascii")
    assert text is not other
    assert hash_objects([text, text]) == hash_objects([text, other])
    inner = [object, 1]
    assert hash_objects(Point([inner, inner])) == hash_objects(Point([[object, 1], [object, 1]]))


def test_arrays_go_by_content_not_by_layout():
    square = np.arange(6).reshape(2, 3)
    assert hash_objects(square) == hash_objects(np.asfortranarray(square))
    assert hash_objects(np.array([{"a", "b"}, 1], dtype=object)) == hash_objects(
        np.array([{"b", "a"}, 1], dtype=object)
    )


def test_what_holds_itself():
    one: list[Any] = [1]
    one.append(one)
    other: list[Any] = [1]
    other.append(other)
    longer: list[Any] = [1, [1]]
    longer[1].append(longer)
    assert hash_objects(one) == hash_objects(other) != hash_objects(longer)


# ----------------------------------------------------------------------- what could agree by accident has no key


class Shown:
    """Pickled by its description, which holds an address that another object may have later."""

    def __reduce__(self) -> Any:
        return Shown, (object.__repr__(self),)


class Refusing:
    def __reduce__(self) -> Any:
        raise RuntimeError("not today")


def tangle() -> Any:
    value: Any = "x"
    for _ in range(60):
        value = [value, value]
    return value


def deep() -> Any:
    value: Any = 1
    for _ in range(100_000):
        value = [value]
    return value


@pytest.mark.parametrize(
    "make",
    [
        object, threading.Lock, BytesIO, lambda: iter([1]), lambda: (x for x in ()), lambda: sys, Shown, Refusing, deep,
        lambda: Point(threading.Lock()), lambda: {"a": [threading.Lock()]}, lambda: map(str, [1]),
        lambda: zoneinfo.ZoneInfo.from_file((Path(zoneinfo.TZPATH[0]) / "UTC").open("rb"))
        if zoneinfo.TZPATH and (Path(zoneinfo.TZPATH[0]) / "UTC").exists()
        else object(),
    ],
)  # fmt: skip
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_no_key(make):
    assert hash_objects(make()) is None


def test_a_tangle_of_references_ends():
    began = time.monotonic()
    with at_most(10_000, 10_000_000), pytest.raises(OverBudget):
        hash_objects(tangle())
    assert time.monotonic() - began < 30


def local_class(number: int) -> Any:
    class Local:
        def value(self) -> int:
            return number

    return Local


def test_classes_that_share_a_name_are_told_apart():
    one, other = local_class(1), local_class(2)
    assert hash_objects(one()) == hash_objects(one())
    assert hash_objects(one()) != hash_objects(other())


def adder(number: Any) -> Any:
    def add(x: int) -> int:
        return x + number

    return add


def test_functions_go_by_source_defaults_and_closure():
    assert hash_objects(adder(1)) == hash_objects(adder(1))
    assert hash_objects(adder(1)) != hash_objects(adder(2))
    assert hash_objects(adder(threading.Lock())) is None
    assert hash_objects(lambda x: 1) != hash_objects(lambda x: 2)  # fmt: skip
    assert hash_objects(Point(1).__eq__) != hash_objects(Point(2).__eq__)


def test_flows_and_tasks_go_by_their_source():
    @task
    def a() -> int:
        return 1

    @task(name="a")
    def b() -> int:
        return 1

    @flow
    def c() -> int:
        return 1

    assert hash_objects(a) == hash_objects(a.with_options(retries=2))
    assert len({hash_objects(a), hash_objects(b), hash_objects(c), hash_objects(a.with_options(name="z"))}) == 4


values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.text(), st.binary(), st.floats(allow_nan=False)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.tuples(inner, inner),
        st.dictionaries(st.text(), inner, max_size=3),
        st.builds(Point, inner),
    ),
    max_leaves=8,
)


def told(value: Any) -> Any:
    """Write a value so that everything that counts shows, and nothing else."""
    if isinstance(value, Point):
        return ("Point", told(value.x))
    if isinstance(value, dict):
        return ("dict", sorted((key, told(item)) for key, item in value.items()).__repr__())
    if isinstance(value, list | tuple):
        return (type(value).__name__, [told(item) for item in value].__repr__())
    return (type(value).__name__, repr(value))


@given(values, values)
def test_keys_are_equal_if_and_only_if_values_are(a, b):
    assert (hash_objects(a) == hash_objects(b)) == (told(a) == told(b))


def test_the_budget_counts_bytes_too():
    with at_most(10, 100):
        hash_objects(b"x" * 50)
    with at_most(10, 100), pytest.raises(OverBudget):
        hash_objects(b"x" * 200)


_SHORT = st.one_of(
    st.none(), st.booleans(), st.integers(-3, 3), st.floats(), st.text(max_size=3), st.binary(max_size=3),
    st.sampled_from(["x" * 256, "x" * 257, b"x" * 257, 2**1024, 2**1025, "1", "True", "None", 1.0, -0.0, 0.0]),
)  # fmt: skip


@given(
    st.dictionaries(st.sampled_from("abc"), _SHORT, max_size=3),
    st.dictionaries(st.sampled_from("abc"), _SHORT, max_size=3),
)
def test_short_plain_values_are_told_apart_by_name_type_and_value(one: dict[str, Any], other: dict[str, Any]) -> None:
    def spelled(values: dict[str, Any]) -> list[tuple[str, str, str]]:
        return sorted((name, type(value).__name__, repr(value)) for name, value in values.items())

    keys = [hash_by_name(values, "inputs") for values in (one, other)]
    assert (keys[0] == keys[1]) == (spelled(one) == spelled(other))
    assert keys[0] == hash_by_name(dict(reversed(one.items())), "inputs")
