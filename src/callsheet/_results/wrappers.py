"""Serializers around another one: compressed, encrypted."""

from __future__ import annotations

import base64
import hashlib
import importlib
import os
from typing import Any, ClassVar, Final, cast

from pydantic import Field, SerializeAsAny, field_validator, model_validator

from callsheet._results.jsons import JSONSerializer
from callsheet._results.pickles import PickleSerializer
from callsheet._results.serializing import Serializer
from callsheet.exceptions import ConfigurationError, MissingDependency, SerializationError
from callsheet.settings import CALLSHEET_RESULTS_ENCRYPTION_KEYS

_MAGIC: Final = b"CSE1"
_ID: Final = 8
_NONCE: Final = 12


def _inner_of(kind: type[Serializer[Any]], fields: Any) -> Any:
    """Fill in the inner serializer that a type such as ``compressed/json`` names."""
    if not isinstance(fields, dict):
        return cast("object", fields)
    given = cast("dict[str, Any]", fields)
    first, _, rest = str(given.get("type", "")).partition("/")
    if rest and first == kind.by_prefix and "serializer" not in given and kind.model_fields["serializer"].is_required():
        return {**given, "serializer": rest}
    return given


class CompressedSerializer(Serializer[Any]):
    """Compresses what another serializer makes. ``compressed/json`` names one around ``json``, and so on.

    Args:
        type: ``compressed``, or ``compressed/`` and the type of the serializer inside.
        serializer: the serializer inside: itself, its type, or a mapping with its fields.
        compressionlib: a module with `compress` and `decompress`: ``lzma``, ``zlib``, ``bz2``, ``gzip`` …

    Raises:
        ValidationError: `compressionlib` cannot be imported or lacks a function, or the serializer is unknown.

    Example:
        >>> serializer = CompressedSerializer(serializer="pickle", compressionlib="zlib")
        >>> len(serializer.dumps("a" * 10_000)) < 200
        True
    """

    by_prefix: ClassVar[str | None] = "compressed"
    type: str = "compressed"
    serializer: SerializeAsAny[Serializer[Any]]
    compressionlib: str = "lzma"

    @model_validator(mode="before")
    @classmethod
    def _fill_in(cls, fields: Any) -> Any:
        return _inner_of(cls, fields)

    @field_validator("compressionlib")
    @classmethod
    def _check_library(cls, value: str) -> str:
        try:
            module = importlib.import_module(value)
        except ImportError as error:
            raise ValueError(f"Failed to import requested compression library: {value!r}.") from error
        for name in ("compress", "decompress"):
            if not callable(getattr(module, name, None)):
                raise ValueError(f"Compression library at {value!r} does not have a {name!r} method.")
        return value

    def dumps(self, obj: Any) -> bytes:
        return importlib.import_module(self.compressionlib).compress(self.serializer.dumps(obj))

    def loads(self, blob: bytes) -> Any:
        try:
            inside = importlib.import_module(self.compressionlib).decompress(blob)
        except Exception as error:  # each library has errors of its own
            raise SerializationError(
                f"The bytes cannot be decompressed by {self.compressionlib!r}: {type(error).__name__}: {error}"
            ) from error
        return self.serializer.loads(inside)

    def describe(self) -> dict[str, Any]:
        return super().describe() | {"serializer": self.serializer.describe()}


class CompressedPickleSerializer(CompressedSerializer):
    """Compresses pickles: ``compressed/pickle``.

    Args:
        type: always ``compressed/pickle``.
        serializer: the serializer inside.
        compressionlib: a module with `compress` and `decompress`.

    Example:
        >>> CompressedPickleSerializer().serializer.type
        'pickle'
    """

    by_prefix: ClassVar[str | None] = None
    type: str = "compressed/pickle"
    serializer: SerializeAsAny[Serializer[Any]] = Field(default_factory=PickleSerializer)


class CompressedJSONSerializer(CompressedSerializer):
    """Compresses JSON: ``compressed/json``.

    Args:
        type: always ``compressed/json``.
        serializer: the serializer inside.
        compressionlib: a module with `compress` and `decompress`.

    Example:
        >>> CompressedJSONSerializer().serializer.type
        'json'
    """

    by_prefix: ClassVar[str | None] = None
    type: str = "compressed/json"
    serializer: SerializeAsAny[Serializer[Any]] = Field(default_factory=JSONSerializer)


class EncryptedSerializer(Serializer[Any]):
    """Encrypts what another serializer makes, with AES-256-GCM; needs the extra ``encryption``.

    ``encrypted`` is around ``pickle``, ``encrypted/json`` around ``json``, and so on. The keys come from the setting
    ``CALLSHEET_RESULTS_ENCRYPTION_KEYS`` (several parted by commas) and are never written anywhere. The first one
    encrypts, any of them decrypts: to change the key, put a new one before the old.

    Args:
        type: ``encrypted``, or ``encrypted/`` and the type of the serializer inside.
        serializer: the serializer inside: itself, its type, or a mapping with its fields.
        keys: the keys, instead of those of the setting.

    Raises:
        ValidationError: the serializer inside is unknown.

    Example:
        >>> key = EncryptedSerializer.generate_key()
        >>> serializer = EncryptedSerializer(serializer="json", keys=[key])
        >>> b"secret" in serializer.dumps("secret")
        False
    """

    by_prefix: ClassVar[str | None] = "encrypted"
    type: str = "encrypted"
    serializer: SerializeAsAny[Serializer[Any]] = Field(default_factory=PickleSerializer)
    keys: list[str] | None = Field(default=None, repr=False, exclude=True)

    @model_validator(mode="before")
    @classmethod
    def _fill_in(cls, fields: Any) -> Any:
        if isinstance(fields, dict) and "serializer" not in fields:
            given = cast("dict[str, Any]", fields)
            rest = str(given.get("type", "")).partition("/")[2]
            return {**given, "serializer": rest} if rest else given
        return cast("object", fields)

    @staticmethod
    def generate_key() -> str:
        """Make a new key: 32 random bytes as URL-safe base64."""
        return base64.urlsafe_b64encode(os.urandom(32)).decode("ascii")

    def dumps(self, obj: Any) -> bytes:
        key = self._all_keys()[0]
        nonce = os.urandom(_NONCE)
        head = _MAGIC + _id_of(key)
        return head + nonce + _cipher(key).encrypt(nonce, self.serializer.dumps(obj), head)

    def loads(self, blob: bytes) -> Any:
        view = memoryview(blob)
        head = bytes(view[: len(_MAGIC) + _ID])
        if len(head) < len(_MAGIC) + _ID or head[: len(_MAGIC)] != _MAGIC:
            raise SerializationError("The value is not encrypted, or its beginning is damaged.")
        wanted = head[len(_MAGIC) :]
        key = next((key for key in self._all_keys() if _id_of(key) == wanted), None)
        if key is None:
            raise SerializationError(
                f"The value was encrypted with another key (its fingerprint is {wanted.hex()}). Add that key to "
                f"{CALLSHEET_RESULTS_ENCRYPTION_KEYS.name}, behind the one that encrypts."
            )
        nonce = bytes(view[len(head) : len(head) + _NONCE])
        try:
            inside = _cipher(key).decrypt(nonce, view[len(head) + _NONCE :], head)
        except Exception as error:  # its own kind of error, or a ValueError for bytes that are too short
            raise SerializationError("The encrypted value is damaged, or somebody has changed it.") from error
        return self.serializer.loads(inside)

    def describe(self) -> dict[str, Any]:
        return super().describe() | {"serializer": self.serializer.describe()}

    def _all_keys(self) -> list[bytes]:
        given = self.keys
        if given is None:
            given = [part for part in (CALLSHEET_RESULTS_ENCRYPTION_KEYS.value() or "").split(",") if part.strip()]
        if not given:
            raise ConfigurationError(
                "Results are to be encrypted, but there is no key. Set CALLSHEET_RESULTS_ENCRYPTION_KEYS to one "
                "(`EncryptedSerializer.generate_key()` makes one), or pass `keys`."
            )
        return [_decode_key(key) for key in given]


def _decode_key(text: str) -> bytes:
    try:
        key = base64.urlsafe_b64decode(text.strip())
    except ValueError:
        key = b""
    if len(key) != 32:
        raise ConfigurationError(
            "A key for encrypted results is not 32 bytes in URL-safe base64. `EncryptedSerializer.generate_key()` "
            "makes one."
        )
    return key


def _id_of(key: bytes) -> bytes:
    return hashlib.blake2b(key, digest_size=_ID, person=b"callsheet-key").digest()


def _cipher(key: bytes) -> Any:
    try:
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM
    except ImportError as error:
        raise MissingDependency("cryptography", "encryption") from error
    return AESGCM(key)
