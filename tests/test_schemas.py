"""Whether JSON fits a schema: the validator agrees with the types that the schemas were written for."""

from __future__ import annotations

import enum
from typing import Annotated, Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, Field, TypeAdapter, ValidationError

from callsheet._rules.schemas import misfit


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Leaf(BaseModel):
    n: Annotated[int, Field(ge=0, lt=10)]


class Tree(BaseModel):
    leaf: Leaf | None = None
    more: list[Tree] = []


TYPES: list[Any] = [
    int,
    float,
    str,
    bool,
    None,
    list[int],
    dict[str, int],
    int | None,
    str | list[str],
    Literal["a", "ab"],  # not of numbers: pydantic takes True for a literal 1
    Colour,
    Leaf,
    Tree,
    tuple[int, str],
    Annotated[str, Field(min_length=2, max_length=3, pattern="^[a-z]*$")],
    Annotated[list[int], Field(min_length=1, max_length=2)],
    Annotated[int, Field(gt=0, le=5)],
    Any,
]
values = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 12) | st.sampled_from(["", "a", "ab", "AB", "red", "abcd"]),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["n", "leaf", "more", "x"]), inner, max_size=3)
    ),
    max_leaves=6,
)


@pytest.mark.parametrize("kind", TYPES, ids=str)
@settings(derandomize=True)
@given(value=values)
def test_what_pydantic_takes_strictly_fits(kind: Any, value: Any) -> None:
    adapter: TypeAdapter[Any] = TypeAdapter(kind)
    schema = adapter.json_schema()
    import json

    try:
        adapter.validate_json(json.dumps(value), strict=True)
    except ValidationError:
        assert misfit(value, schema) is not None
    else:
        assert misfit(value, schema) is None


@pytest.mark.parametrize(
    ("value", "schema", "reason"),
    [
        (1, False, "1 is not allowed"),
        ({"a": 1, "b": 2}, {"properties": {"a": {}}, "additionalProperties": False}, "'b' was unexpected"),
        ([1, "x"], {"items": {"type": "integer"}}, "[1]: 'x' is not of type integer"),
        ("b", {"const": "a"}, "'b' is not 'a'"),
        (True, {"enum": [1, 2]}, "True is not one of [1, 2]"),
        (2, {"allOf": [{"minimum": 1}, {"maximum": 1}]}, "2 must be at most 1"),
        (
            "x",
            {"anyOf": [{"type": "integer"}, {"type": "null"}]},
            "'x' is not of type integer and 'x' is not of type null",
        ),
        ({}, {"minProperties": 1}, "{} must have a length of at least 1"),
        ("x", {"pattern": "("}, None),
        ("x", {"type": "of the future"}, None),
        (1.0, {"type": "integer"}, None),
        ({"a": 1}, {"$defs": {"x/y": {"type": "object"}}, "$ref": "#/$defs/x~1y"}, None),
        (1, {"$ref": "#"}, "the value is nested too deeply"),
    ],
)
def test_reasons(value: Any, schema: Any, reason: str | None) -> None:
    assert misfit(value, {"allOf": [schema]} if isinstance(schema, bool) else schema) == reason


def test_a_truth_value_is_no_number() -> None:
    assert misfit(True, {"enum": ["a", 1]}) is not None
    assert misfit(1, {"enum": ["a", 1]}) is None
