"""The one place that makes pydantic's type adapters. Imports pydantic: import this module only where it is needed."""

from __future__ import annotations

from typing import Any, NewType

from pydantic import ConfigDict, PydanticSchemaGenerationError, PydanticUserError, TypeAdapter

_ARBITRARY = ConfigDict(arbitrary_types_allowed=True)


def adapter_for(hint: Any) -> TypeAdapter[Any]:
    """Make an adapter that checks classes pydantic knows nothing of by `isinstance`.

    Args:
        hint: A type or annotation.

    Returns:
        The adapter.

    Raises:
        PydanticUserError: The annotation is no type.
    """
    try:
        return TypeAdapter(hint, config=_ARBITRARY)
    except PydanticUserError as error:
        if error.code != "type-adapter-config-unused":
            raise
    try:
        return TypeAdapter(hint)  # models, dataclasses and typed dicts bring a configuration of their own
    except PydanticSchemaGenerationError:
        if isinstance(hint, type) and hasattr(hint, "__pydantic_decorators__"):
            raise
        # Plain dataclasses need not: by another name, such a one takes ours, for the classes of its fields.
        named: Any = NewType("Checked", hint)  # pyright: ignore[reportGeneralTypeIssues] - known at run time only
        return TypeAdapter(named, config=_ARBITRARY)
