"""JSON and msgpack."""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable
from functools import cache
from typing import Any

import msgspec
from pydantic import Field, field_validator

from callsheet._results.pickling import cannot_dump
from callsheet._results.plain import decode_object, encode_object, from_tree, import_class, to_tree
from callsheet._results.serializing import Serializer
from callsheet.exceptions import SerializationError

_ENCODER = "callsheet.serializers.json_object_encoder"
_DECODER = "callsheet.serializers.json_object_decoder"
_to_msgpack = msgspec.msgpack.Encoder().encode
_from_msgpack = msgspec.msgpack.Decoder().decode


def json_object_encoder(obj: Any) -> Any:
    """Give a form that JSON can carry of an object that it cannot: exceptions, dataclasses, models, times and more.

    Args:
        obj: the object.

    Returns:
        A dict that names its class. What is in it may need the encoder again.

    Raises:
        TypeError: it has no such form, or its class cannot be imported by its name.

    Example:
        >>> json_object_encoder({"a"})
        {'__class__': 'builtins.set', 'data': ['a']}
    """
    return encode_object(obj)


def json_object_decoder(result: dict[str, Any]) -> Any:
    """Give the object that `json_object_encoder` was given; a dict that it did not make is given back.

    Args:
        result: the dict.

    Returns:
        The object. Its class is imported, so only read what you trust.

    Raises:
        ImportError: the module of its class is gone.
        AttributeError: its class is gone.
        TypeError: what is named is no class of which JSON carries objects.

    Example:
        >>> json_object_decoder({"__class__": "builtins.set", "data": ["a"]})
        {'a'}
    """
    return decode_object(result)


@cache
def _import(path: str) -> Callable[[Any], Any]:
    return import_class(path)


class JSONSerializer(Serializer[Any]):
    """Serializes to JSON. What JSON has no form for is given one by an encoder.

    Args:
        type: always ``json``.
        jsonlib: ``msgspec``, or a module with `dumps` and `loads`.
        object_encoder: import path of a function that is given each object that JSON has no form for, and gives a
            simpler one; `None` for none. The default carries exceptions, dataclasses, pydantic models, times, bytes,
            sets, tuples and more.
        object_decoder: import path of a function that is given each JSON object, and gives what it stands for.
        dumps_kwargs: keywords for the library's `dumps` (the standard library's, if `jsonlib` is ``msgspec``).
        loads_kwargs: the same for `loads`.

    Raises:
        ValidationError: `jsonlib` cannot be imported, or a keyword would collide with encoder or decoder.

    Example:
        >>> JSONSerializer().dumps({"a": (1, 2)})
        b'{"a":{"__class__":"builtins.tuple","data":[1,2]}}'
    """

    type: str = "json"
    jsonlib: str = "msgspec"
    object_encoder: str | None = _ENCODER
    object_decoder: str | None = _DECODER
    dumps_kwargs: dict[str, Any] = Field(default_factory=dict[str, Any])
    loads_kwargs: dict[str, Any] = Field(default_factory=dict[str, Any])

    @field_validator("jsonlib")
    @classmethod
    def _check_library(cls, value: str) -> str:
        if value == "msgspec":
            return value
        try:
            module = importlib.import_module(value)
        except ImportError as error:
            raise ValueError(f"Failed to import requested JSON library: {value!r}.") from error
        for name in ("dumps", "loads"):
            if not callable(getattr(module, name, None)):
                raise ValueError(f"JSON library at {value!r} does not have a {name!r} method.")
        return value

    @field_validator("dumps_kwargs")
    @classmethod
    def _check_dumps(cls, value: dict[str, Any]) -> dict[str, Any]:
        if "default" in value:
            raise ValueError("`default` cannot be provided. Use `object_encoder` instead.")
        return value

    @field_validator("loads_kwargs")
    @classmethod
    def _check_loads(cls, value: dict[str, Any]) -> dict[str, Any]:
        if "object_hook" in value:
            raise ValueError("`object_hook` cannot be provided. Use `object_decoder` instead.")
        return value

    def dumps(self, obj: Any) -> bytes:
        own = self.object_encoder == _ENCODER
        try:
            encode = _refuse if self.object_encoder is None else encode_object if own else _import(self.object_encoder)
            tree = to_tree(obj, encode, native_tuples=not own)
            if self.jsonlib == "msgspec" and not self.dumps_kwargs and own:
                return msgspec.json.encode(tree)
            library = json if self.jsonlib == "msgspec" else importlib.import_module(self.jsonlib)
            made: Any = library.dumps(tree, **self.dumps_kwargs)
        except Exception as error:  # the user's object and encoder may raise anything
            raise cannot_dump(obj, "JSON", error) from error
        return made.encode("utf-8") if isinstance(made, str) else bytes(made)

    def loads(self, blob: bytes) -> Any:
        try:
            if self.jsonlib == "msgspec" and not self.loads_kwargs:
                tree = msgspec.json.decode(blob) if self.object_encoder == _ENCODER else json.loads(bytes(blob))
            else:
                library = json if self.jsonlib == "msgspec" else importlib.import_module(self.jsonlib)
                tree = library.loads(bytes(blob), **self.loads_kwargs)
            if self.object_decoder is None:
                return tree
            own = self.object_decoder == _DECODER
            return from_tree(tree, decode_object if own else _import(self.object_decoder))
        except Exception as error:  # damaged bytes, a class that is gone, the user's decoder
            raise SerializationError(f"The value cannot be read from JSON: {type(error).__name__}: {error}") from error


class MsgpackSerializer(Serializer[Any]):
    """Serializes to msgpack: as JSON with the default encoder, smaller, and with bytes as they are.

    Args:
        type: always ``msgpack``.

    Example:
        >>> serializer = MsgpackSerializer()
        >>> serializer.loads(serializer.dumps((b"raw", 1.5)))
        (b'raw', 1.5)
    """

    type: str = "msgpack"

    def dumps(self, obj: Any) -> bytes:
        try:
            return _to_msgpack(to_tree(obj, encode_object, native_bytes=True))
        except Exception as error:  # the user's object may raise anything
            raise cannot_dump(obj, "msgpack", error) from error

    def loads(self, blob: bytes) -> Any:
        try:
            return from_tree(_from_msgpack(blob), decode_object)
        except Exception as error:  # damaged bytes, a class that is gone
            message = f"The value cannot be read from msgpack: {type(error).__name__}: {error}"
            raise SerializationError(message) from error


def _refuse(obj: Any) -> Any:
    raise TypeError(f"an object of {type(obj).__module__}.{type(obj).__qualname__} has no form in it")
