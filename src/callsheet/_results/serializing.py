"""What every serializer has: a type by which it is named, and the register of all types."""

from __future__ import annotations

import abc
import warnings
from importlib import import_module
from typing import Any, ClassVar, Generic, TypeVar, cast, get_args

from pydantic import BaseModel, ConfigDict, GetCoreSchemaHandler
from pydantic_core import PydanticCustomError, ValidationError, core_schema

from callsheet._results.parts import Parts

D = TypeVar("D")

_register: dict[str, type[Serializer[Any]]] = {}


def _name(cls: type[Any]) -> str:
    return f"{cls.__module__}.{cls.__qualname__}"


def _type_of(cls: Any) -> str | None:
    """Give the type by which a class is known; what only has an annotation for it is a base of others."""
    field = getattr(cls, "__pydantic_fields__", {}).get("type")
    if field is None:
        return None
    if isinstance(field.default, str):
        return field.default
    literals = get_args(field.annotation)
    return literals[0] if len(literals) == 1 and isinstance(literals[0], str) else None


class Serializer(BaseModel, abc.ABC, Generic[D]):
    """Turns values into bytes and back. The class itself makes the serializer of a type.

    A subclass is known by the default of its field `type` as soon as it is defined, so that a program can name it
    where it names those that exist: ``@task(result_serializer="mine")``. Its fields are kept with what it wrote;
    only fields that are declared may be given.

    Args:
        type: name of the kind of serializer, such as ``pickle``, ``json``, ``msgpack`` or ``compressed/json``.

    Raises:
        ValidationError: no serializer has this type, or a field is unknown or has a wrong value.

    Example:
        >>> Serializer(type="pickle")
        PickleSerializer(type='pickle', picklelib=None, picklelib_version=None)
    """

    model_config = ConfigDict(extra="forbid")
    by_prefix: ClassVar[str | None] = None
    """A class that serves every type which begins so (``compressed``: all of ``compressed/…``) names that here."""

    type: str

    def __new__(cls, **fields: Any) -> Serializer[Any]:  # pyright: ignore[reportInconsistentConstructor]
        """Give an instance of the class that a type names."""
        kind = fields.get("type")
        if kind is not None and _type_of(cls) is None:
            return super().__new__(cast("Any", serializer_class(kind)))
        return super().__new__(cls)

    @classmethod
    def __pydantic_init_subclass__(cls, **_: Any) -> None:
        """Enter a class into the register."""
        kind = _type_of(cls)
        if kind is None or cls.__pydantic_generic_metadata__["origin"] is not None:
            return
        known = _register.get(kind)
        if known is not None and _name(known) != _name(cls):
            warnings.warn(
                f"The serializer type {kind!r} of {_name(known)} is taken over by {_name(cls)}.", stacklevel=3
            )
        _register[kind] = cls

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> core_schema.CoreSchema:
        """Let fields of this type take an instance, a type's name or a mapping."""
        if _type_of(cls) is None:
            return core_schema.no_info_plain_validator_function(lambda value: _from_any(value))  # noqa: PLW0108 - defined below
        return handler(source)

    @abc.abstractmethod
    def dumps(self, obj: D) -> bytes:
        """Give the bytes of a value."""

    @abc.abstractmethod
    def loads(self, blob: bytes) -> D:
        """Give the value of bytes that `dumps` made."""

    def dump_parts(self, obj: D) -> Parts:
        """Give the bytes of a value in parts, some of which may be the value's own memory.

        Args:
            obj: The value. It must not change before the parts are written.

        Returns:
            Parts that, joined, are what `dumps` gives or what `loads` reads as well.
        """
        return [self.dumps(obj)]

    def describe(self) -> dict[str, Any]:
        """Give what is needed to make this serializer again, as JSON can carry it; secrets are left out."""
        return self.model_dump(mode="json", exclude_defaults=True) | {"type": self.type}


def serializer_class(kind: Any) -> type[Serializer[Any]]:
    """Give the class of a type.

    Raises:
        ValidationError: there is none.
    """
    found = _registered(kind) if isinstance(kind, str) else None
    if found is None:
        raise ValidationError.from_exception_data(
            "Serializer",
            [
                {
                    "type": PydanticCustomError(
                        "serializer_type",
                        "no serializer has the type {kind}; known are {known}. A class of your own is known once "
                        "the module that defines it is imported",
                        {"kind": repr(kind), "known": ", ".join(sorted(_register))},
                    ),
                    "loc": ("type",),
                    "input": kind,
                }
            ],
        )
    return found


def _registered(kind: str) -> type[Serializer[Any]] | None:
    if kind not in _register:
        import_module("callsheet._results.wrappers")  # and with it all of ours
    first, slash, _ = kind.partition("/")
    by_prefix = (cls for cls in _register.values() if slash and cls.by_prefix == first)
    return _register.get(kind) or next(by_prefix, None)


def _from_any(value: Any) -> Serializer[Any]:
    if isinstance(value, Serializer):
        return cast("Serializer[Any]", value)
    if isinstance(value, str):
        return Serializer(type=value)  # pyright: ignore[reportAbstractUsage]
    if isinstance(value, dict):
        fields = cast("dict[str, Any]", value)
        return serializer_class(fields.get("type"))(**fields)
    raise ValueError("expected a serializer, the type of one, or a mapping with its fields")


def resolve_serializer(given: Serializer[Any] | str | dict[str, Any]) -> Serializer[Any]:
    """Give the serializer that an option names.

    Args:
        given: a serializer, the type of one, or a mapping with its fields.

    Raises:
        ValidationError: no serializer has this type.
        TypeError: it is something else.

    Example:
        >>> resolve_serializer("compressed/json").type
        'compressed/json'
    """
    if isinstance(given, Serializer):
        return given
    if isinstance(cast("object", given), (str, dict)):
        return _from_any(given)
    raise TypeError(
        f"Result serializer must be one of the following types: Serializer, str. Got {type(given).__name__} instead."
    )
