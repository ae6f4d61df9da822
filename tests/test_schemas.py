"""Whether JSON fits a schema: the validator agrees with the types that the schemas were written for."""

from __future__ import annotations

import enum
import json
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
ADAPTERS = [(kind, adapter, adapter.json_schema()) for kind in TYPES for adapter in [TypeAdapter(kind)]]
values = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 12) | st.sampled_from(["", "a", "ab", "AB", "red", "abcd"]),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["n", "leaf", "more", "x"]), inner, max_size=3)
    ),
    max_leaves=6,
)


# All types look at the same values: making these takes much longer than looking at them.
@settings(derandomize=True, max_examples=200)
@given(value=values)
def test_what_pydantic_takes_strictly_fits(value: Any) -> None:
    text = json.dumps(value)
    for kind, adapter, schema in ADAPTERS:
        try:
            adapter.validate_json(text, strict=True)
        except ValidationError:
            assert misfit(value, schema) is not None, kind
        else:
            assert misfit(value, schema) is None, kind


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
        (1.5, {"type": "integer"}, "1.5 is not of type integer"),
        (
            "x",
            {"oneOf": [{"type": "integer"}, {"type": "null"}]},
            "'x' is not of type integer and 'x' is not of type null",
        ),
        ("x", {"type": ["integer", "null"]}, "'x' is not of type integer or null"),
        (None, {"type": ["integer", "null"]}, None),
        ("a", {"const": "a"}, None),
        (5, {"pattern": "a"}, None),
        (5, {"minLength": 2, "minItems": 2, "minProperties": 2}, None),
        ({"a": 1}, {"$defs": {"x/y": {"type": "object"}}, "$ref": "#/$defs/x~1y"}, None),
        (1, {"$defs": {"x/y": {"type": "object"}}, "$ref": "#/$defs/x~1y"}, "1 is not of type object"),
        (1, {"$defs": {"x~y": {"type": "object"}}, "$ref": "#/$defs/x~0y"}, "1 is not of type object"),
        (1, {"$ref": "#"}, "the value is nested too deeply"),
    ],
)
def test_reasons(value: Any, schema: Any, reason: str | None) -> None:
    assert misfit(value, {"allOf": [schema]} if isinstance(schema, bool) else schema) == reason


@pytest.mark.parametrize(
    ("word", "inside", "outside"),
    [
        ("minimum", 2, 1),
        ("maximum", 2, 3),
        ("exclusiveMinimum", 3, 2),
        ("exclusiveMaximum", 1, 2),
        ("minLength", "ab", "a"),
        ("maxLength", "ab", "abc"),
        ("minItems", [1, 1], [1]),
        ("maxItems", [1, 1], [1, 1, 1]),
        ("minProperties", {"a": 1, "b": 1}, {"a": 1}),
        ("maxProperties", {"a": 1, "b": 1}, {"a": 1, "b": 1, "c": 1}),
    ],
)
def test_a_bound_is_kept_to_the_value(word: str, inside: Any, outside: Any) -> None:
    assert misfit(inside, {word: 2}) is None
    assert misfit(outside, {word: 2}) is not None


@pytest.mark.parametrize(
    ("wrap", "value"),
    [
        (lambda inner: {"items": inner}, lambda inner: [inner]),
        (lambda inner: {"prefixItems": [inner]}, lambda inner: [inner]),
        (lambda inner: {"properties": {"a": inner}}, lambda inner: {"a": inner}),
        (lambda inner: {"additionalProperties": inner}, lambda inner: {"a": inner}),
        (lambda inner: {"allOf": [inner]}, lambda inner: inner),
        (lambda inner: {"anyOf": [inner]}, lambda inner: inner),
        (lambda inner: {"oneOf": [inner]}, lambda inner: inner),
    ],
)
def test_a_hundred_levels_and_no_more(wrap: Any, value: Any) -> None:
    schema: Any = {}
    given: Any = 1
    for _ in range(100):
        schema, given = wrap(schema), value(given)
    assert misfit(given, schema) is None
    assert "nested too deeply" in str(misfit(value(given), wrap(schema)))


def test_a_hundred_references_and_no_more() -> None:
    names = {str(number): {"$ref": f"#/$defs/{number - 1}"} for number in range(1, 102)}
    assert misfit(1, {"$defs": {"0": {}, **names}, "$ref": "#/$defs/99"}) is None
    assert misfit(1, {"$defs": {"0": {}, **names}, "$ref": "#/$defs/100"}) == "the value is nested too deeply"


def test_a_truth_value_is_no_number() -> None:
    assert misfit(True, {"enum": ["a", 1]}) is not None
    assert misfit(1, {"enum": ["a", 1]}) is None
