"""The one place that makes pydantic's type adapters. Imports pydantic: import this module only where it is needed."""

from __future__ import annotations

from typing import Any

from pydantic import ConfigDict, PydanticUserError, TypeAdapter

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
        return TypeAdapter(hint)  # models, dataclasses and typed dicts bring a configuration of their own
