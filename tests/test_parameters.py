"""Parameters of flows: checked and converted, serialized, and described."""

from __future__ import annotations

import dataclasses
import enum
import json
import logging
import pickle
import subprocess
import sys
import threading
from collections import OrderedDict, deque
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal, Protocol, TypedDict
from uuid import UUID

import msgspec
import pydantic
import pydantic.v1
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, Field

from callsheet.exceptions import ParameterTypeError, SignatureMismatchError
from callsheet.flows import flow
from callsheet.states import Completed
from callsheet.utilities.callables import parameter_schema
from callsheet.utilities.docstrings import parameter_descriptions
from callsheet.utilities.jsonable import to_jsonable


class Item(BaseModel):
    price: float
    tags: list[str] = []


class OldItem(pydantic.v1.BaseModel):
    price: float


class Plain:
    def __init__(self, n: int = 0) -> None:
        self.n = n


class Color(enum.Enum):
    RED = "red"
    BLUE = "blue"


@dataclasses.dataclass
class Point:
    x: int
    y: int = 0


def validated(fn: Any, parameters: dict[str, Any]) -> dict[str, Any]:
    return flow(fn).validate_parameters(parameters)


def refused(fn: Any, parameters: dict[str, Any]) -> str:
    with pytest.raises(ParameterTypeError) as caught:
        flow(fn).validate_parameters(parameters)
    assert caught.value.__cause__ is None
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)
    return str(caught.value)


# ------------------------------------------------------------------------------------------- validation


def test_values_are_converted() -> None:
    def f(a: int, b: float, c: str, d: bool, e: bytes, g, h: Any = None): ...

    found = validated(f, {"a": "5", "b": 1, "c": "x", "d": 1, "e": b"y", "g": "raw", "h": [1]})
    assert found == {"a": 5, "b": 1.0, "c": "x", "d": True, "e": b"y", "g": "raw", "h": [1]}
    assert (type(found["b"]), type(found["d"])) == (float, bool)


scalars = st.one_of(
    st.integers(-9, 9), st.floats(), st.booleans(), st.none(), st.text(max_size=3), st.binary(max_size=3)
)


@given(st.sampled_from([int, float, str, bool, bytes, type(None)]), scalars)
def test_the_short_way_gives_what_pydantic_gives(annotation: Any, value: Any) -> None:
    def f(x): ...

    f.__annotations__["x"] = annotation
    try:
        expected = pydantic.TypeAdapter(annotation).validate_python(value)
    except pydantic.ValidationError:
        refused(f, {"x": value})
        return
    found = validated(f, {"x": value})["x"]
    assert type(found) is type(expected)
    assert repr(found) == repr(expected)


def test_message_and_log(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    def f(x: int, item: Item): ...

    monkeypatch.setattr(logging.getLogger("callsheet"), "propagate", True)
    caplog.set_level("ERROR", logger="callsheet.flows")
    assert refused(f, {"x": "five", "item": {"price": "much"}}) == (
        "Flow run received invalid parameters:\n"
        " - x: Input should be a valid integer, unable to parse string as an integer\n"
        " - item.price: Input should be a valid number, unable to parse string as a number"
    )
    assert len(caplog.records) == 1
    assert caplog.messages[0].startswith("Parameter validation failed for flow 'f': x: Input should be")
    assert caplog.messages[0].endswith("Parameters: {'x': 'five', 'item': {'price': 'much'}}")


def test_names_that_models_cannot_have() -> None:
    def f(keys: int, schema: int, model_config: int, model_fields: int, _private: int, self: int, json: int): ...

    names = ["keys", "schema", "model_config", "model_fields", "_private", "self", "json"]
    assert validated(f, dict.fromkeys(names, "1")) == dict.fromkeys(names, 1)


def test_missing_and_unknown() -> None:
    def f(x: int, y: int = 3, *args: int, **kwargs: int): ...

    assert validated(f, {"x": 1}) == {"x": 1}
    assert "x: Field required" in refused(f, {"y": 1})
    with pytest.raises(SignatureMismatchError, match="expects parameters"):
        validated(f, {"x": 1, "z": 2})


def test_variable_arguments() -> None:
    def f(*args: int, **kwargs: int): ...
    def g(*args, **kwargs): ...

    assert validated(f, {"args": ("1", 2), "kwargs": {"a": "3"}}) == {"args": (1, 2), "kwargs": {"a": 3}}
    assert "args.1: " in refused(f, {"args": (1, "x"), "kwargs": {}})
    assert "kwargs.a: " in refused(f, {"args": (), "kwargs": {"a": "x"}})
    assert validated(g, {"args": (1, "x"), "kwargs": {"a": None}}) == {"args": (1, "x"), "kwargs": {"a": None}}


def test_constraints() -> None:
    Positive = Annotated[int, Field(gt=0)]

    def f(n: Positive, kind: Literal["a", "b"] = "a", when: datetime | None = None): ...

    assert validated(f, {"n": "1", "kind": "b", "when": "2024-01-02T03:04:05"})["when"] == datetime(2024, 1, 2, 3, 4, 5)
    assert "n: Input should be greater than 0" in refused(f, {"n": 0})
    assert "kind: Input should be 'a' or 'b'" in refused(f, {"n": 1, "kind": "c"})


def test_fields_as_defaults() -> None:
    @flow
    def f(
        n: int = Field(default=2, ge=1), made: list[int] = Field(default_factory=lambda: [1]), must: int = Field()
    ): ...

    bound = f._binder.bind((), {"must": 3})
    assert f.validate_parameters(bound) == {"n": 2, "made": [1], "must": 3}
    assert f.validate_parameters({"must": 3}) == {"made": [1], "must": 3}
    assert f.validate_parameters({"must": 3})["made"] is not f.validate_parameters({"must": 3})["made"]
    with pytest.raises(ParameterTypeError, match="n: Input should be greater than or equal to 1"):
        f.validate_parameters({"must": 3, "n": 0})
    for missing in ({}, f._binder.bind((), {})):
        with pytest.raises(ParameterTypeError, match="must: Field required"):
            f.validate_parameters(missing)


def test_models() -> None:
    def f(item: Item, items: list[Item] = []): ...

    item = Item(price=1)
    found = validated(f, {"item": item, "items": [{"price": "2"}]})
    assert found["item"] is item
    assert found["items"] == [Item(price=2)]
    assert validated(f, flow(f)._binder.bind(({"price": 3},), {}))["item"] == Item(price=3)


def test_a_default_is_converted_too() -> None:
    @flow
    def f(item: Item = {"price": "5"}): ...

    assert f.validate_parameters(f._binder.bind((), {})) == {"item": Item(price=5)}


def test_arbitrary_types() -> None:
    def f(a: Plain, b: list[Plain], lock: Any, error: type[Exception]): ...

    plain, lock = Plain(), threading.Lock()
    found = validated(f, {"a": plain, "b": [plain], "lock": lock, "error": ValueError})
    assert (found["a"], found["lock"], found["error"]) == (plain, lock, ValueError)
    assert "a: Input should be an instance of Plain" in refused(f, {"a": 1, "b": [], "lock": 1, "error": OSError})


@dataclasses.dataclass
class Job:
    count: int
    plain: Plain
    logger: logging.Logger | None = None


def test_plain_classes_as_fields_of_plain_dataclasses() -> None:
    def f(job: Job, jobs: list[Job] | None = None) -> Any:
        return job

    job = Job(1, Plain(), logging.getLogger("job"))
    assert flow(f)(job).plain is job.plain
    assert flow(f)({"count": "2", "plain": job.plain}) == Job(2, job.plain)  # type: ignore[arg-type]
    assert "job.plain: Input should be an instance of Plain" in refused(f, {"job": {"count": 1, "plain": 1}})
    assert flow(f).parameters.required == ["job"]


def test_a_protocol_that_cannot_be_checked_is_said_to_be_one() -> None:
    class Goes(Protocol):
        def go(self) -> None: ...

    @flow
    def f(thing: Goes) -> None: ...

    assert f.parameters.required == ["thing"]
    with pytest.raises(ValueError, match=r"not compatible with `validate_parameters`.*annotation of 'thing'"):
        f(Plain())  # type: ignore[arg-type]


def test_dataclasses_and_typed_dicts() -> None:
    def f(point: Point): ...

    assert validated(f, {"point": {"x": "1"}}) == {"point": Point(1)}


def test_models_of_version_1() -> None:
    def f(item: OldItem, n: int, other: Plain | None = None, *args: int): ...

    found = validated(f, {"item": {"price": "1"}, "n": "2", "other": None, "args": ("3",)})
    assert found == {"item": OldItem(price=1), "n": 2, "other": None, "args": (3,)}
    assert refused(f, {"item": {"price": "x"}, "n": "y"}) == (
        "Flow run received invalid parameters:\n"
        " - item.price: value is not a valid float\n"
        " - n: value is not a valid integer"
    )


def test_models_of_both_versions() -> None:
    def f(new: Item, old: OldItem): ...
    def g(new, old): ...

    message = "Cannot mix Pydantic v1 and v2 types as arguments to a flow."
    assert refused(f, {"new": Item(price=1), "old": OldItem(price=1)}) == message
    assert refused(g, {"new": Item(price=1), "old": OldItem(price=1)}) == message
    assert refused(g, {"new": pydantic.SecretStr("x"), "old": OldItem(price=1)}) == message
    old = OldItem(price=1)
    assert validated(g, {"new": 1, "old": old})["old"] is old


def test_annotations_that_only_the_scope_around_knows() -> None:
    class Local(BaseModel):
        n: int

    @flow
    def f(x: Local, y: list[Local] | None = None): ...

    assert f.validate_parameters({"x": {"n": "1"}, "y": [{"n": 2}]}) == {"x": Local(n=1), "y": [Local(n=2)]}
    assert f.with_options(name="x").validate_parameters({"x": {"n": "1"}}) == {"x": Local(n=1)}
    assert "Local" in f.parameters.definitions


def test_annotations_that_nobody_knows() -> None:
    def f(x: Unheard): ...  # noqa: F821

    assert "annotations: name 'Unheard' is not defined" in refused(f, {"x": 1})


def test_annotations_that_are_no_types() -> None:
    def f(x: 1 + 1): ...

    with pytest.raises(
        ValueError, match=r"not compatible with `validate_parameters`.* The annotation of 'x' is no type"
    ):
        validated(f, {"x": 1})


@pytest.mark.skipif(sys.version_info >= (3, 12), reason="pydantic refuses these dicts before")
def test_annotations_that_pydantic_refuses_say_why() -> None:
    class Shape(TypedDict):  # not the one of typing_extensions
        sides: int

    def f(x: Shape): ...

    with pytest.raises(ValueError, match=r"The annotation of 'x' cannot be used: .*typing_extensions\.TypedDict"):
        validated(f, {"x": {"sides": 3}})


def test_shadowed_names_are_not_taken_for_built_ins() -> None:
    space: dict[str, Any] = {"str": Point}
    exec("from __future__ import annotations\ndef f(x: str): ...", space)
    assert validated(space["f"], {"x": {"x": 1}}) == {"x": Point(1)}


@pytest.mark.parametrize("value", [{"$ref": "x"}, [{"a": {"$ref": 1}}], ({"b": [1, "x", {"$ref": 1}]},)])
def test_dicts_of_users_pass_unharmed_whatever_their_keys(value: Any) -> None:
    def f(x, y: dict[str, Any] | None = None): ...

    assert validated(f, {"x": value})["x"] is value
    assert validated(f, {"x": 1, "y": {"deep": value}}) == {"x": 1, "y": {"deep": value}}


def test_pydantic_stays_away_until_it_is_needed() -> None:
    code = (
        "import sys\n"
        "from callsheet.flows import flow\n"
        "@flow\n"
        "def f(a: int, b: 'str', c: float = 1.5, *, d: bool = True, e=None): ...\n"
        "assert f.validate_parameters({'a': 1, 'b': 'x', 'c': 2.5, 'd': False, 'e': [1]})['a'] == 1\n"
        "assert f.serialize_parameters({'a': 1, 'b': print})['b'] == '<builtin_function_or_method>'\n"
        "assert f.parameters.required == ['a', 'b']\n"
        "assert 'pydantic' not in sys.modules\n"
        "f.validate_parameters({'a': '1', 'b': 'x', 'c': 2.5, 'd': False, 'e': None})\n"
        "assert 'pydantic' in sys.modules\n"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True)


# ---------------------------------------------------------------------------------------- serialization


def test_serialized_values() -> None:
    @flow
    def f(**kwargs: Any): ...

    class Struct(msgspec.Struct):
        a: int

    class Loud(str):
        __slots__ = ()

    values: dict[str, Any] = {
        "none": (None, None),
        "flag": (True, True),
        "number": (7, 7),
        "real": (1.5, 1.5),
        "text": (Loud("x"), "x"),
        "list": ([1, (2, {3})], [1, [2, [3]]]),
        "deque": (deque([1]), [1]),
        "dict": (OrderedDict({1: {"a": date(2024, 1, 2)}, None: 1, False: 2, Color.RED: 3}),
                 {"1": {"a": "2024-01-02"}, "null": 1, "false": 2, "red": 3}),
        "time": (datetime(2024, 1, 2, tzinfo=UTC), "2024-01-02T00:00:00+00:00"),
        "span": (timedelta(seconds=90), 90.0),
        "id": (UUID(int=1), "00000000-0000-0000-0000-000000000001"),
        "path": (Path("/a"), "/a"),
        "whole": (Decimal("3"), 3),
        "part": (Decimal("3.5"), 3.5),
        "bytes": (b"abc", "abc"),
        "enum": (Color.BLUE, "blue"),
        "point": (Point(1), {"x": 1, "y": 0}),
        "struct": (Struct(1), {"a": 1}),
        "model": (Item(price=1), {"price": 1.0, "tags": []}),
        "old": (OldItem(price=1), {"price": 1.0}),
        "url": (pydantic.TypeAdapter(pydantic.HttpUrl).validate_python("http://x.y"), "http://x.y/"),
        "class": (Plain, "<type>"),
        "object": (Plain(), "<Plain>"),
        "lock": ([threading.Lock()], "<list>"),
        "binary": (b"\xff", "<bytes>"),
        "generator": ((n for n in [1]), "<generator>"),
        "state": (Completed(), "<State>"),
    }  # fmt: skip
    found = f.serialize_parameters({name: value for name, (value, _) in values.items()})
    assert found == {name: expected for name, (_, expected) in values.items()}
    assert type(found["text"]) is str
    json.dumps(found)


def test_what_contains_itself() -> None:
    @flow
    def f(x): ...

    loop: list[Any] = []
    loop.append(loop)
    assert f.serialize_parameters({"x": loop}) == {"x": "<list>"}


def test_refusals_are_logged_quietly(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    @flow
    def f(x): ...

    monkeypatch.setattr(logging.getLogger("callsheet"), "propagate", True)
    caplog.set_level("DEBUG", logger="callsheet.flows")
    f.serialize_parameters({"x": Plain()})
    assert [record.levelname for record in caplog.records] == ["DEBUG"]
    assert all(word in caplog.messages[0] for word in ("'x'", "'f'", "'Plain'"))


@given(st.recursive(scalars, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=8))
def test_jsonable_is_json(value: Any) -> None:
    try:
        converted = to_jsonable(value)
    except ValueError:
        return
    json.loads(json.dumps(converted))


# ---------------------------------------------------------------------------------------------- schemas


def test_schema_of_simple_parameters() -> None:
    @flow
    def f(x, n: int, text: str = "a", *, ratio: float = 1.5, on: bool = False):
        """Do something.

        Args:
            x: Anything.
            n (int): A number
                of things.
        """

    schema = f.parameters
    assert schema.model_dump_for_openapi() == {
        "title": "Parameters",
        "type": "object",
        "properties": {
            "x": {"title": "x", "position": 0, "description": "Anything."},
            "n": {"type": "integer", "title": "n", "position": 1, "description": "A number\nof things."},
            "text": {"type": "string", "default": "a", "title": "text", "position": 2},
            "ratio": {"type": "number", "default": 1.5, "title": "ratio", "position": 3},
            "on": {"type": "boolean", "default": False, "title": "on", "position": 4},
        },
        "required": ["x", "n"],
        "definitions": {},
    }
    assert f.parameters is schema
    assert "required" not in parameter_schema(lambda x=1: None).model_dump_for_openapi()
    assert parameter_schema(lambda x=1: None).model_dump()["required"] == []


def test_schema_of_models_and_more() -> None:
    def f(
        item: Item,
        other: list[Item],
        color: Color = Color.RED,
        when: datetime | None = None,
        plain: Plain = Plain(),
        limited: int = Field(default=1, ge=0, description="from the field"),
        must: int = Field(le=3),
        made: list[int] = Field(default_factory=list),
        *args: int,
        **kwargs: str,
    ): ...

    schema = parameter_schema(f)
    properties = schema.properties
    assert properties["item"] == {"$ref": "#/definitions/Item", "title": "item", "position": 0}
    assert properties["other"]["items"] == {"$ref": "#/definitions/Item"}
    assert properties["color"] == {"$ref": "#/definitions/Color", "default": "red", "title": "color", "position": 2}
    assert properties["when"]["anyOf"] == [{"type": "string", "format": "date-time"}, {"type": "null"}]
    assert properties["when"]["default"] is None
    assert properties["plain"] == {"title": "plain", "position": 4}
    assert properties["limited"]["minimum"] == 0
    assert properties["limited"]["default"] == 1
    assert properties["limited"]["description"] == "from the field"
    assert properties["must"]["maximum"] == 3
    assert "default" not in properties["made"]
    assert properties["args"] == {"type": "array", "items": {"type": "integer"}, "title": "args", "position": 8}
    assert properties["kwargs"]["additionalProperties"] == {"type": "string"}
    assert schema.required == ["item", "other", "must"]
    assert set(schema.definitions) == {"Item", "Color"}


def test_schema_of_types_with_one_name() -> None:
    def one(kind: type) -> Any:
        return pydantic.create_model("Same", a=kind)

    def f(x, y): ...

    f.__annotations__.update(x=one(int), y=one(str))
    schema = parameter_schema(f)
    assert schema.properties["x"]["$ref"] != schema.properties["y"]["$ref"]
    assert len(schema.definitions) == 2


def test_descriptions() -> None:
    google = "Do.\n\nArgs:\n    x: One.\n    *rest: More\n        of it.\n\n    y (str, optional): Two.\n\nReturns:\n    z: no"
    numpy = "Do.\n\nParameters\n----------\nx : int\n    One.\ny\n    Two\n    lines.\n\nReturns\n-------\nz\n    no"
    sphinx = "Do.\n\n:param x: One.\n:param int y: Two\n    lines.\n:returns: no"
    assert parameter_descriptions(google) == {"x": "One.", "rest": "More\nof it.", "y": "Two."}
    assert parameter_descriptions(numpy) == {"x": "One.", "y": "Two\nlines."}
    assert parameter_descriptions(sphinx) == {"x": "One.", "y": "Two\nlines."}
    assert parameter_descriptions(None) == parameter_descriptions("Args:") == {}
    assert parameter_descriptions("Args:\nnot indented: x") == {}
