"""Digests: the same for the same, different for what differs, whatever the process and its hash seed."""

from __future__ import annotations

import enum
import hashlib
import os
import subprocess
import sys
import threading
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callsheet.exceptions import SerializationError
from callsheet.utilities.hashing import file_hash, hash_objects, stable_hash


class Color(enum.Enum):
    RED = "red"


class Point:
    def __init__(self, x: int) -> None:
        self.x = x


scalars = st.one_of(st.none(), st.booleans(), st.integers(), st.text(), st.binary(), st.floats(allow_nan=False))
values = st.recursive(
    scalars,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.tuples(inner, inner), st.dictionaries(st.text(), inner, max_size=3)
    ),
    max_leaves=6,
)


@given(values, values)
def test_equal_if_and_only_if_equal_in_type_and_value(a: Any, b: Any) -> None:
    assert (hash_objects(a) == hash_objects(b)) == (repr(a) == repr(b) or same(a, b))
    assert hash_objects(a) == hash_objects(a)


def same(a: Any, b: Any) -> bool:
    """Tell equality that sees types, the sign of zero, and no order in dicts."""
    if type(a) is not type(b):
        return False
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    return repr(a) == repr(b)


def test_neither_order_nor_position_of_names_matters() -> None:
    assert hash_objects({1, "a", 2.5}) == hash_objects({2.5, "a", 1})
    assert hash_objects(a=1, b=2) == hash_objects(b=2, a=1)
    assert hash_objects(1, 2) != hash_objects((1, 2))


@pytest.mark.parametrize(
    "value",
    [Color.RED, datetime(2024, 1, 1, tzinfo=UTC), timedelta(1), Decimal("1.0"), Path("/a"), 1j, ..., float("nan")],
)
def test_other_values(value: Any) -> None:
    assert hash_objects(value) == hash_objects(value)
    assert hash_objects(value) != hash_objects(str(value))


def test_the_same_in_another_process() -> None:
    code = (
        "from callsheet.utilities.hashing import hash_objects\n"
        "print(hash_objects({'b', 'a', 'c'}, [1, 2.5, None], k={'x': (1,), 'y': b'z'}))"
    )
    runs = [
        subprocess.run(
            [sys.executable, "-c", code], env={**os.environ, "PYTHONHASHSEED": seed}, check=True, capture_output=True
        ).stdout
        for seed in ("1", "2")
    ]
    assert runs[0] == runs[1]


def test_objects_go_by_their_pickled_form() -> None:
    assert hash_objects(Point(1)) == hash_objects(Point(1))
    assert hash_objects(Point(1)) != hash_objects(Point(2))


def test_what_has_no_digest() -> None:
    assert hash_objects(threading.Lock()) is None
    with pytest.raises(SerializationError, match=r"(?s)JSON error: .*lock.*Pickle error: .*lock"):
        hash_objects(threading.Lock(), raise_on_failure=True)


def test_the_algorithm_can_be_chosen() -> None:
    assert len(stable_hash("a", hash_algo=hashlib.sha256)) == 64
    assert stable_hash("a") != stable_hash(b"a")


def test_files(tmp_path: Path) -> None:
    file = tmp_path / "a"
    file.write_text("one")
    first = file_hash(file)
    assert first == file_hash(str(file))
    file.write_text("other")
    assert file_hash(file) != first
    with pytest.raises(FileNotFoundError):
        file_hash(tmp_path / "none")
