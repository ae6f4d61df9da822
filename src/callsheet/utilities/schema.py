"""The schema of a function's parameters, in the form in which OpenAPI describes objects."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import msgspec

from callsheet.utilities.docstrings import parameter_descriptions
from callsheet.utilities.functions import is_pydantic_field, type_hints
from callsheet.utilities.jsonable import to_jsonable

_EMPTY = inspect.Parameter.empty
_TEMPLATE = "#/definitions/{model}"
_PLAIN: dict[object, dict[str, Any]] = {
    Any: {},
    int: {"type": "integer"},
    float: {"type": "number"},
    str: {"type": "string"},
    bool: {"type": "boolean"},
}


class ParameterSchema(msgspec.Struct):
    """What the parameters of a function look like.

    Attributes:
        title: Always "Parameters".
        type: Always "object".
        properties: A schema for each parameter, in order.
        required: The parameters without a default.
        definitions: What `properties` refer to.
    """

    title: str = "Parameters"
    type: str = "object"
    properties: dict[str, Any] = msgspec.field(default_factory=dict[str, Any])
    required: list[str] = msgspec.field(default_factory=list[str])
    definitions: dict[str, Any] = msgspec.field(default_factory=dict[str, Any])

    def model_dump(self) -> dict[str, Any]:
        """Give the schema as a dict."""
        return {name: getattr(self, name) for name in self.__struct_fields__}

    def model_dump_for_openapi(self) -> dict[str, Any]:
        """Give the schema as a dict, without `required` if nothing is."""
        dumped = self.model_dump()
        if not self.required:
            del dumped["required"]
        return dumped


def parameter_schema(
    fn: Callable[..., Any], *, skip_first: bool = False, names: dict[str, Any] | None = None
) -> ParameterSchema:
    """Describe the parameters of a function.

    Descriptions come from its docstring. Parameters whose type has no schema get one without a type.

    Args:
        fn: The function.
        skip_first: Whether its first parameter is already bound.
        names: Names that its annotations use and only the scope of its definition knew.

    Returns:
        The schema.

    Raises:
        NameError: An annotation names something that does not exist.

    Example:
        >>> def area(width: int, height: int = 1): ...
        >>> parameter_schema(area).properties["height"]
        {'type': 'integer', 'default': 1, 'title': 'height', 'position': 1}
    """
    parameters = list(inspect.signature(fn).parameters.values())[1 if skip_first else 0 :]
    hints = type_hints(fn, names)
    descriptions = parameter_descriptions(inspect.getdoc(fn))
    types = {p.name: _whole_type(p, hints.get(p.name, Any)) for p in parameters}
    schemas, definitions = _type_schemas(types)
    schema = ParameterSchema(definitions=definitions)
    for position, parameter in enumerate(parameters):
        entry = dict(schemas[parameter.name])
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            pass
        elif parameter.default is _EMPTY:
            schema.required.append(parameter.name)
        else:
            _add_default(schema, entry, parameter)
        entry |= {"title": parameter.name, "position": position}
        if parameter.name in descriptions:
            entry["description"] = descriptions[parameter.name]
        schema.properties[parameter.name] = entry
    return schema


def _whole_type(parameter: inspect.Parameter, hint: Any) -> Any:
    if is_pydantic_field(parameter.default):
        from typing import Annotated

        return Annotated[hint, parameter.default]
    if parameter.kind is parameter.VAR_POSITIONAL:
        return list[hint]
    if parameter.kind is parameter.VAR_KEYWORD:
        return dict[str, hint]
    return hint


def _add_default(schema: ParameterSchema, entry: dict[str, Any], parameter: inspect.Parameter) -> None:
    default = parameter.default
    if is_pydantic_field(default):
        if default.is_required():
            schema.required.append(parameter.name)
            return
        if default.default_factory is not None:
            return
        default = default.default
    try:
        entry["default"] = to_jsonable(default)
    except (TypeError, ValueError):
        return  # still optional; what it defaults to cannot be told


def _type_schemas(types: dict[str, Any]) -> tuple[dict[str, dict[str, Any]], dict[str, Any]]:
    found = {name: _PLAIN[hint] for name, hint in types.items() if _is_plain(hint)}
    complex_types = {name: hint for name, hint in types.items() if name not in found}
    if not complex_types:
        return found, {}
    from pydantic import TypeAdapter
    from pydantic.errors import PydanticUserError
    from pydantic_core import SchemaError

    from callsheet.utilities.pydantic_types import adapter_for

    adapters: dict[str, Any] = {}
    for name, hint in complex_types.items():
        found[name] = {}
        try:
            adapter = adapter_for(hint)
            adapter.json_schema(ref_template=_TEMPLATE)
        except (PydanticUserError, SchemaError, TypeError, ValueError):
            continue  # arbitrary classes, callables, …: they are validated but have no schema
        adapters[name] = adapter
    # All at once, so that different types of one name get definitions of different names.
    made, shared = TypeAdapter.json_schemas(
        [(name, "validation", adapter) for name, adapter in adapters.items()], ref_template=_TEMPLATE
    )
    found.update({name: schema for (name, _), schema in made.items()})
    return found, shared.get("$defs", {})


def _is_plain(hint: object) -> bool:
    try:
        return hint in _PLAIN
    except TypeError:  # unhashable metadata
        return False
