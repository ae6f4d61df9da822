"""Serializers: how results become bytes. `Serializer(type="…")` gives one by its name.

Reading a pickle runs code that is in it, and reading JSON imports the classes that it names: read only from storage
that nobody writes whom you would not let run code.
"""

from __future__ import annotations

from callsheet._results.jsons import JSONSerializer, MsgpackSerializer, json_object_decoder, json_object_encoder
from callsheet._results.pickles import PickleSerializer
from callsheet._results.serializing import Serializer
from callsheet._results.wrappers import (
    CompressedJSONSerializer,
    CompressedPickleSerializer,
    CompressedSerializer,
    EncryptedSerializer,
)

__all__ = [
    "CompressedJSONSerializer",
    "CompressedPickleSerializer",
    "CompressedSerializer",
    "EncryptedSerializer",
    "JSONSerializer",
    "MsgpackSerializer",
    "PickleSerializer",
    "Serializer",
    "json_object_decoder",
    "json_object_encoder",
]
