"""Digests of inputs, by property."""

from __future__ import annotations

import dataclasses
import enum
import inspect
import subprocess
import sys
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from fractions import Fraction
from hashlib import blake2b
from http import HTTPStatus
from pathlib import Path, PosixPath, PurePosixPath, PureWindowsPath
from typing import Any
from uuid import UUID

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from callsheet._rules import digest
from callsheet._rules.digest import DEPTH, LIMIT, PARTS, inputs_digest

scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary()
values = st.recursive(
    scalars | st.decimals(allow_nan=False) | st.uuids() | st.datetimes(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.tuples(inner, inner)
        | st.dictionaries(st.text(max_size=3) | st.integers(), inner, max_size=3)
    ),
    max_leaves=8,
)


def strict(value: Any) -> Any:
    """Give a form that is equal only for values of equal types too."""
    if isinstance(value, dict):
        return (dict, frozenset((strict(key), strict(item)) for key, item in value.items()))
    if isinstance(value, (list, tuple)):
        return (type(value), tuple(strict(item) for item in value))
    return (type(value), repr(value))


@given(one=values, other=values)
def test_digests_differ_where_values_do(one: Any, other: Any) -> None:
    same = strict(one) == strict(other)
    assert (inputs_digest({"x": one}) == inputs_digest({"x": other})) is same


@given(st.dictionaries(st.text(max_size=4), values, max_size=5), st.randoms())
def test_digests_do_not_depend_on_the_order_of_dicts(parameters: dict[str, Any], random: Any) -> None:
    items = list(parameters.items())
    random.shuffle(items)
    assert inputs_digest(dict(items)) == inputs_digest(parameters)
    assert inputs_digest({"x": dict(items)}) == inputs_digest({"x": parameters})


@given(values)
def test_digests_do_not_depend_on_being_asked_for_the_origin(value: Any) -> None:
    assert inputs_digest({"x": value}) == inputs_digest({"x": value}, lambda _: None)


class Colour(enum.IntEnum):
    RED = 1


@dataclasses.dataclass
class Point:
    x: int
    inner: Any = None


@dataclasses.dataclass
class OtherPoint:
    x: int
    inner: Any = None


class Row(msgspec.Struct):
    x: int
    inner: Any = None


PINNED: list[Any] = [
    None, True, 1, -1.5, "text", b"bytes", [1, "a", None], [1, []], (1, 2), {3}, frozenset({"a"}), {"k": 1, 2: "v"},
    2**70, "\ud800", ["\ud800", 1], HTTPStatus.OK, datetime(2026, 1, 2, 3, 4), datetime(2026, 1, 2, tzinfo=UTC),
    date(2026, 1, 2), time(3, 4), timedelta(seconds=5), timezone(timedelta(hours=1)), Decimal("1.50"), Fraction(1, 3),
    UUID(int=7), 1 + 2j, range(3), bytearray(b"b"), PurePosixPath("/a"), PureWindowsPath("c:/a"), PosixPath("/a"),
]  # fmt: skip


def test_digests_are_those_of_earlier_releases_and_other_pythons() -> None:
    found = [inputs_digest({"x": value}) for value in PINNED]
    assert None not in found
    folded = [blake2b(one or b"", digest_size=4).hexdigest() for one in found]
    assert (
        " ".join(folded).split()
        == """
        f5f13dd8 251575b0 56b130e6 ef74fa3f a46d46b2 316433e3 9f334f8d 15323847 f2cad598 51644c89 d2e781a2 e56f4602
        662b6621 e4c4b1ec 1942f623 42c268bf 215dd45a 69ea889b 734863bc 11a4ec0f 9f0e6529 2347abe1 d7e51ac1 5f95efab
        d9afdfdc c222fcfc cdb95639 5b6745a2 ef5dcd9b ca903fc0 bc204fe6
    """.split()
    ), "inputs on record would count as changed"
    assert (LIMIT, PARTS, DEPTH) == (1_048_576, 20_000, 64)
    of_a_run = inputs_digest({"x": [1], "y": 2}, lambda value: b"run" if value == [1] else None)
    assert (of_a_run or b"").hex() == "c6311565dafa153893fd23268127a6fd"


def test_where_a_python_keeps_pathlib_does_not_matter() -> None:
    def place(module: str) -> Any:
        kind = dataclasses.make_dataclass("Place", ["x"])
        kind.__module__ = module  # 3.12 overrides one in the namespace
        return kind(1)

    there, elsewhere, other = map(place, ("pathlib", "pathlib._local", "elsewhere"))
    assert inputs_digest({"x": there}) == inputs_digest({"x": elsewhere}) != inputs_digest({"x": other})


def test_values_of_different_types_are_told_apart() -> None:
    alike: list[Any] = [
        1, True, 1.0, "1", b"1", Decimal(1), Colour.RED, [1], (1,), {1}, frozenset({1}), {1: None},
        Point(1), OtherPoint(1), Row(1), {"x": 1, "inner": None}, range(1), Path("1"), 2**70, hex(2**70),
        datetime(1, 1, 1), datetime(1, 1, 1, tzinfo=UTC), "\ud800",
    ]  # fmt: skip
    digests = [inputs_digest({"x": value}) for value in alike]
    assert None not in digests
    assert len(set(digests)) == len(alike)


def test_pydantic_models_are_digested_by_their_fields() -> None:
    import pydantic

    class Model(pydantic.BaseModel):
        x: int

    assert inputs_digest({"m": Model(x=1)}) == inputs_digest({"m": Model(x=1)}) != inputs_digest({"m": Model(x=2)})


def test_what_has_no_canonical_form_has_no_digest() -> None:
    loop: list[Any] = []
    loop.append(loop)
    deep: Any = 1
    for _ in range(DEPTH + 1):
        deep = [deep]
    for value in (object(), [object()], {"k": object()}, Point, len, loop, deep, Point(1, object())):
        assert inputs_digest({"x": value}) is None


def test_what_is_too_large_has_no_digest() -> None:
    for value in ("x" * (LIMIT + 1), b"x" * (LIMIT + 1), [0] * (LIMIT + 1), ["x" * LIMIT, "x"], [[]] * PARTS):
        assert inputs_digest({"x": value}) is None
    assert inputs_digest({"x": [0.5] * 50_000}) is not None
    assert inputs_digest({"x": [2**70] * 3}) is not None


def test_an_input_from_another_run_is_digested_as_that_run() -> None:
    sources: dict[int, bytes] = {}
    value = {"rows": [1, 2]}
    sources[id(value)] = b"run 1"

    def origin(item: Any) -> bytes | None:
        return sources.get(id(item))

    before = inputs_digest({"x": [value]}, origin)
    value["rows"].append(3)
    assert inputs_digest({"x": [value]}, origin) == before != inputs_digest({"x": [value]})
    sources[id(value)] = b"run 2"
    assert inputs_digest({"x": [value]}, origin) != before
    assert inputs_digest({"x": "text"}, lambda _: b"run") == inputs_digest({"x": object()}, lambda _: b"run")


@pytest.mark.parametrize("seed", ["1", "2"])
def test_digests_are_the_same_in_other_processes(seed: str) -> None:
    program = (
        "from callsheet._rules.digest import inputs_digest as d;"
        "print(d({'x': {'a', 'b', 'c'}, 'y': {'k': frozenset({'p', 'q'})}, 'z': [1.5, None]}).hex())"
    )
    source = str(Path(inspect.getfile(digest)).parents[2])
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={"PYTHONHASHSEED": seed, "PYTHONPATH": source},
        capture_output=True,
        text=True,
        check=True,
    )
    here = inputs_digest({"x": {"a", "b", "c"}, "y": {"k": frozenset({"p", "q"})}, "z": [1.5, None]})
    assert here is not None
    assert done.stdout.strip() == here.hex()


def test_limits_are_kept_to_the_byte_and_to_the_value() -> None:
    assert inputs_digest({"x": "y"}, limit=4) is None is not inputs_digest({"x": "y"}, limit=5)
    assert inputs_digest({"x": []}, parts=1) is None is not inputs_digest({"x": []}, parts=2)
    assert inputs_digest({"x": [[], []]}, parts=3) is None is not inputs_digest({"x": [[], []]}, parts=4)
    deep: Any = []
    for _ in range(DEPTH - 1):
        deep = [deep]
    assert inputs_digest({"x": [deep]}) is None is not inputs_digest({"x": deep})


def test_the_order_of_a_set_does_not_matter() -> None:
    one, other = {0, 8}, {8, 0}
    assert [*one] != [*other], "this Python orders sets in another way, and the test needs other numbers"
    assert inputs_digest({"x": one}) == inputs_digest({"x": other})


def test_every_parameter_is_asked_for_its_origin_and_neither_names_nor_scalars_inside() -> None:
    def origin(item: Any) -> bytes | None:
        return b"run" if item in ("a", "b", "c") else None

    plain: dict[str, Any] = {"a": 1, "b": 2, "c": 3, "d": ["a", []]}
    assert inputs_digest(plain, origin) == inputs_digest(plain)
    for name in plain:
        asked = {**plain, name: "a"}
        assert inputs_digest(asked, origin) != inputs_digest(asked)
