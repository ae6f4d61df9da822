"""Does a JSON value fit a JSON schema? Pure, and for the schemas that pydantic writes for models.

Who resumes a run in another process has the schema of what it waits for, not the type. Keywords that say nothing
here (formats, titles, examples) are passed over; the run itself validates by the type again.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, cast

Schema = Mapping[str, Any]
_TYPES: Final[dict[str, Callable[[Any], bool]]] = {
    "object": lambda value: isinstance(value, dict),
    "array": lambda value: isinstance(value, list),
    "string": lambda value: isinstance(value, str),
    "boolean": lambda value: isinstance(value, bool),
    "null": lambda value: value is None,
    "number": lambda value: isinstance(value, int | float) and not isinstance(value, bool),
    "integer": lambda value: (
        not isinstance(value, bool) and (isinstance(value, int) or (isinstance(value, float) and value.is_integer()))
    ),
}
_BOUNDS: Final[dict[str, tuple[str, Callable[[Any, Any], bool]]]] = {
    "minimum": ("must be at least", lambda value, bound: value >= bound),
    "maximum": ("must be at most", lambda value, bound: value <= bound),
    "exclusiveMinimum": ("must be greater than", lambda value, bound: value > bound),
    "exclusiveMaximum": ("must be less than", lambda value, bound: value < bound),
}
_SIZES: Final[dict[str, tuple[type, str, Callable[[int, int], bool]]]] = {
    "minLength": (str, "must have a length of at least", lambda size, bound: size >= bound),
    "maxLength": (str, "must have a length of at most", lambda size, bound: size <= bound),
    "minItems": (list, "must have a length of at least", lambda size, bound: size >= bound),
    "maxItems": (list, "must have a length of at most", lambda size, bound: size <= bound),
    "minProperties": (dict, "must have a length of at least", lambda size, bound: size >= bound),
    "maxProperties": (dict, "must have a length of at most", lambda size, bound: size <= bound),
}
_DEPTH: Final = 100


def misfit(value: Any, schema: Schema) -> str | None:
    """Say why a value does not fit, in a few words, or give `None` where it does.

    Args:
        value: What JSON decodes to.
        schema: The schema, with what it refers to under ``$defs``.

    Example:
        >>> misfit({"n": "x"}, {"type": "object", "properties": {"n": {"type": "integer"}}})
        "'n': 'x' is not of type integer"
        >>> misfit({"n": 1}, {"type": "object", "required": ["n"]}) is None
        True
    """
    return next(_reasons(value, schema, schema, "", 0), None)


def _reasons(value: Any, schema: Schema | bool, root: Schema, where: str, depth: int) -> Iterator[str]:
    if isinstance(schema, bool):
        if not schema:
            yield f"{where}{value!r} is not allowed"
        return
    if depth > _DEPTH:
        yield f"{where}the value is nested too deeply"
        return
    if "$ref" in schema:
        yield from _reasons(value, _referred(schema["$ref"], root), root, where, depth + 1)
    yield from _of_itself(value, schema, where)
    if isinstance(value, dict):
        yield from _of_properties(cast("dict[str, Any]", value), schema, root, where, depth)
    if isinstance(value, list):
        yield from _of_items(cast("list[Any]", value), schema, root, where, depth)
    for branch in schema.get("allOf", ()):
        yield from _reasons(value, branch, root, where, depth + 1)
    for word in ("anyOf", "oneOf"):
        branches = schema.get(word)
        if branches:
            found = [next(_reasons(value, branch, root, where, depth + 1), None) for branch in branches]
            if None not in found:
                yield " and ".join(dict.fromkeys(reason for reason in found if reason))


def _of_itself(value: Any, schema: Schema, where: str) -> Iterator[str]:
    types = schema.get("type")
    if types is not None:
        names = [types] if isinstance(types, str) else list(types)
        if not any(_TYPES.get(name, lambda _: True)(value) for name in names):
            yield f"{where}{value!r} is not of type {' or '.join(names)}"
            return
    if "const" in schema and not _same(value, schema["const"]):
        yield f"{where}{value!r} is not {schema['const']!r}"
    if "enum" in schema and not any(_same(value, one) for one in schema["enum"]):
        yield f"{where}{value!r} is not one of {list(schema['enum'])!r}"
    if _TYPES["number"](value):
        for word, (said, holds) in _BOUNDS.items():
            if word in schema and not holds(value, schema[word]):
                yield f"{where}{value!r} {said} {schema[word]!r}"
    for word, (kind, said, fits) in _SIZES.items():
        if word in schema and isinstance(value, kind) and not fits(len(value), schema[word]):
            yield f"{where}{value!r} {said} {schema[word]}"
    pattern = schema.get("pattern")
    if pattern is not None and isinstance(value, str) and not _matches(pattern, value):
        yield f"{where}{value!r} does not match {pattern!r}"


def _of_properties(value: dict[str, Any], schema: Schema, root: Schema, where: str, depth: int) -> Iterator[str]:
    known: Schema = schema.get("properties", {})
    for name in schema.get("required", ()):
        if name not in value:
            yield f"{where}{name!r} is a required property"
    others = schema.get("additionalProperties", True)
    for name, item in value.items():
        if name in known:
            yield from _reasons(item, known[name], root, f"{where}{name!r}: ", depth + 1)
        elif others is False:
            yield f"{where}{name!r} was unexpected"
        else:
            yield from _reasons(item, others, root, f"{where}{name!r}: ", depth + 1)


def _of_items(value: list[Any], schema: Schema, root: Schema, where: str, depth: int) -> Iterator[str]:
    first = schema.get("prefixItems", ())
    for index, item in enumerate(value):
        one = first[index] if index < len(first) else schema.get("items", True)
        yield from _reasons(item, one, root, f"{where}[{index}]: ", depth + 1)


def _referred(reference: str, root: Schema) -> Schema:
    found: Any = root
    for part in reference.removeprefix("#").strip("/").split("/"):
        found = found.get(part.replace("~1", "/").replace("~0", "~"), {}) if part else found
    return found


def _same(one: Any, other: Any) -> bool:
    return one == other and isinstance(one, bool) == isinstance(other, bool)


def _matches(pattern: str, text: str) -> bool:
    try:
        return re.search(pattern, text) is not None
    except re.error:  # another dialect's
        return True
