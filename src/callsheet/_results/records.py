"""A result and what is known of it, and their form as bytes.

A record is ``CSRR1``, the length of its head, the head as JSON, and the payload that the serializer made. The head
holds the metadata, with length and digest of the payload: a torn or foreign file is noticed before it is read.
"""

from __future__ import annotations

import struct
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, Final, Generic, Self, TypeVar, cast
from uuid import UUID

import msgspec
from pydantic_core import ValidationError

from callsheet._model.kept import Kept, KeptElsewhere
from callsheet._results.parts import Parts, join
from callsheet._results.pickles import PickleSerializer
from callsheet._results.serializing import Serializer, resolve_serializer
from callsheet._results.wires import APART, LENGTH, LONGEST, MAGIC, START, Wire, decode, encode, frame, seal, verify
from callsheet._version import __version__
from callsheet.exceptions import ResultDamaged, SerializationError

R = TypeVar("R")


class ResultRecordMetadata(KeptElsewhere):
    """What is known of a result without reading it.

    Args:
        storage_key: under which the result is kept.
        expiration: when it must no longer be used; without a time zone it is taken as UTC.
        serializer: what turned it into bytes: a serializer, its type, or a mapping with its fields.
        callsheet_version: which wrote it; by default this one.
        storage_block_id: of a storage that was saved elsewhere; nothing of ours sets it.
        storage: address of the storage, by which the result is found from this metadata alone.

    Raises:
        ValidationError: the serializer is unknown.

    Example:
        >>> metadata = ResultRecordMetadata(storage_key="a", serializer="json")
        >>> ResultRecordMetadata.load_bytes(metadata.dump_bytes()) == metadata
        True
    """

    __slots__ = ("callsheet_version", "expiration", "seal", "serializer", "storage", "storage_block_id", "storage_key")

    def __init__(
        self,
        *,
        storage_key: str | None = None,
        expiration: datetime | None = None,
        serializer: Serializer[Any] | str | dict[str, Any] | None = None,
        callsheet_version: str = __version__,
        storage_block_id: UUID | str | None = None,
        storage: str | None = None,
    ) -> None:
        self.storage_key = storage_key
        self.expiration = expiration.replace(tzinfo=UTC) if expiration and expiration.tzinfo is None else expiration
        self.serializer = _PICKLE if serializer is None else resolve_serializer(serializer)
        self.callsheet_version = callsheet_version
        self.storage_block_id = storage_block_id
        self.storage = storage
        self.seal: tuple[int, str] | None = None
        """Size and digest of a payload that is kept apart from its metadata."""

    def is_expired(self, now: datetime) -> bool:
        """Tell whether the result must no longer be used at a time."""
        return self.expiration is not None and self.expiration <= now

    def dump_bytes(self) -> bytes:
        """Give this metadata as JSON."""
        return encode(wire_of(self))

    @classmethod
    def load_bytes(cls, data: bytes) -> ResultRecordMetadata:
        """Give the metadata of JSON that `dump_bytes` made.

        Raises:
            ResultDamaged: it is something else.
        """
        try:
            return metadata_of(decode(data))
        except (msgspec.MsgspecError, RecursionError) as error:
            raise ResultDamaged(f"This is no metadata of a result: {error}.") from error

    def model_dump(self) -> dict[str, Any]:
        """Give the metadata as a dict of what JSON has."""
        fields = msgspec.json.decode(self.dump_bytes())
        fields = {name: value for name, value in fields.items() if name not in ("size", "digest")}
        return {"expiration": None, "storage_block_id": None, "storage": None} | fields

    def model_copy(self, *, update: dict[str, Any] | None = None) -> Self:
        """Give a copy with other fields.

        Args:
            update: the fields.
        """
        return type(self)(**{name: getattr(self, name) for name in _FIELDS} | (update or {}))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, ResultRecordMetadata):
            return NotImplemented
        return all(getattr(self, name) == getattr(other, name) for name in _FIELDS)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        shown = ", ".join(f"{name}={value!r}" for name in _FIELDS if (value := getattr(self, name)) is not None)
        return f"ResultRecordMetadata({shown})"


_FIELDS: Final = tuple(name for name in ResultRecordMetadata.__slots__ if name != "seal")


def wire_of(metadata: ResultRecordMetadata) -> Wire:
    """Give the form for JSON, with what is known of a payload that is kept apart."""
    size, digest = metadata.seal or (None, None)
    block = metadata.storage_block_id
    return Wire(
        metadata.storage_key,
        metadata.serializer.describe(),
        metadata.callsheet_version,
        metadata.expiration,
        None if block is None else str(block),
        metadata.storage,
        size,
        digest,
    )


def metadata_of(wire: Wire, backup: Serializer[Any] | None = None) -> ResultRecordMetadata:
    """Give the metadata of a form for JSON.

    Raises:
        SerializationError: the serializer is not known in this program.
    """
    made = ResultRecordMetadata(
        storage_key=wire.storage_key,
        expiration=wire.expiration,
        serializer=_serializer_of(wire.serializer, backup),
        callsheet_version=wire.callsheet_version,
        storage_block_id=wire.storage_block_id,
        storage=wire.storage,
    )
    if wire.size is not None and wire.digest is not None and (wire.storage or "").startswith(APART):
        made.seal = wire.size, wire.digest
    return made


_PICKLE: Final[Serializer[Any]] = PickleSerializer()


def _serializer_of(described: dict[str, Any], backup: Serializer[Any] | None) -> Serializer[Any]:
    if len(described) == 1 and described.get("type") == "pickle":
        return _PICKLE
    try:
        return _made(encode(described))
    except ValidationError as error:
        if backup is not None:
            return backup
        raise SerializationError(
            f"The serializer {described.get('type')!r} that wrote this result is not known here. Import the module "
            f"that defines it before the result is read."
        ) from error


@lru_cache(maxsize=64)
def _made(described: bytes) -> Serializer[Any]:
    return resolve_serializer(msgspec.json.decode(described))


class ResultRecord(Kept, Generic[R]):
    """A result with its metadata.

    Args:
        result: the value.
        metadata: what is known of it: an object or a mapping of its fields.

    Raises:
        ValidationError: there is no metadata, or it is something else.

    Example:
        >>> record = ResultRecord(result=[1], metadata=ResultRecordMetadata(storage_key="a", serializer="json"))
        >>> ResultRecord.deserialize(record.serialize()) == record
        True
    """

    __slots__ = ("metadata", "result")

    def __init__(self, result: R, metadata: ResultRecordMetadata | dict[str, Any] | None = None) -> None:
        self.metadata = _check(metadata)
        self.result = result

    @property
    def expiration(self) -> datetime | None:
        """When the result must no longer be used."""
        return self.metadata.expiration

    @property
    def serializer(self) -> Serializer[Any]:
        """What turns the result into bytes."""
        return self.metadata.serializer

    def serialize(self) -> bytes:
        """Give the record as bytes.

        Raises:
            SerializationError: the serializer refuses the result.
        """
        return join(self.serialize_parts())

    def serialize_parts(self) -> Parts:
        """Give the record as parts, some of which may be the result's own memory.

        Raises:
            SerializationError: the serializer refuses the result.
        """
        return frame(wire_of(self.metadata), self._payload())

    def serialize_metadata(self) -> bytes:
        """Give the metadata as JSON, for a storage of its own."""
        return self.metadata.dump_bytes()

    def serialize_result(self) -> bytes:
        """Give the result's bytes without metadata.

        Raises:
            SerializationError: the serializer refuses the result.
        """
        return join(self.seal_parts())

    def seal_parts(self) -> Parts:
        """Give the same as parts, and have the metadata say what they are.

        Raises:
            SerializationError: the serializer refuses the result.
        """
        payload = self._payload()
        self.metadata.seal = seal(payload)
        return payload

    def _payload(self) -> Parts:
        serializer = self.metadata.serializer
        try:
            return serializer.dump_parts(self.result)
        except SerializationError:
            raise
        except Exception as error:  # a serializer of the user's may raise anything
            raise SerializationError(
                f"The serializer {serializer.type!r} refuses a result of type {type(self.result).__qualname__}: "
                f"{type(error).__name__}: {error}"
            ) from error

    @classmethod
    def deserialize(cls, data: bytes, backup_serializer: Serializer[Any] | None = None) -> ResultRecord[Any]:
        """Give the record of bytes that `serialize` made.

        Args:
            data: the bytes.
            backup_serializer: to use where the one that wrote them is not known here.

        Returns:
            The record.

        Raises:
            ResultDamaged: the bytes are torn, were changed, or are something else.
            ValidationError: they are a JSON object without metadata.
            SerializationError: the serializer cannot read them.
        """
        wire, start = parse_head(data)
        payload = memoryview(data)[start:]
        verify(payload, wire)
        return _load(metadata_of(wire, backup_serializer), payload)

    @classmethod
    def deserialize_from_result_and_metadata(
        cls, result: bytes, metadata: bytes, backup_serializer: Serializer[Any] | None = None
    ) -> ResultRecord[Any]:
        """Give the record of a result and metadata that were kept apart.

        Args:
            result: what `serialize_result` gave.
            metadata: what `serialize_metadata` gave.
            backup_serializer: to use where the one that wrote the result is not known here.

        Returns:
            The record.

        Raises:
            ResultDamaged: the metadata is something else, or of another result.
            SerializationError: the serializer cannot read the result.
        """
        try:
            wire = decode(metadata)
        except (msgspec.MsgspecError, RecursionError) as error:
            raise ResultDamaged(f"This is no metadata of a result: {error}.") from error
        if wire.digest is not None:
            verify(memoryview(result), wire)
        return _load(metadata_of(wire, backup_serializer), memoryview(result))

    def model_copy(self, *, update: dict[str, Any] | None = None) -> ResultRecord[R]:
        """Give a copy with other fields.

        Args:
            update: the fields: `result`, `metadata`.
        """
        return ResultRecord(**{"result": self.result, "metadata": self.metadata} | (update or {}))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, ResultRecord):
            return NotImplemented
        theirs = cast("ResultRecord[Any]", other)
        return self.metadata == theirs.metadata and bool(self.result == theirs.result)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"ResultRecord(result={self.result!r}, metadata={self.metadata!r})"


def parse_head(data: bytes) -> tuple[Wire, int]:
    """Give the metadata at the beginning of a record, and where its payload begins.

    Raises:
        ResultDamaged: it is torn, or something else.
        ValidationError: it is a JSON object without metadata.
    """
    if data[: len(MAGIC)] != MAGIC:
        if data[:1] == b"{":
            _refuse_json(data)
        raise ResultDamaged("This is no result of callsheet: it was written by something else, or it is damaged.")
    try:
        length = LENGTH.unpack_from(data, len(MAGIC))[0]
        end = START + length
        if length > LONGEST or len(data) < end:
            raise ResultDamaged("A result is torn: it ends within its head.")
        wire = decode(memoryview(data)[START:end])
    except (struct.error, msgspec.MsgspecError, RecursionError) as error:
        raise ResultDamaged(f"The head of a result is damaged: {error}.") from error
    return wire, end


def _refuse_json(data: bytes) -> None:
    try:
        found = msgspec.json.decode(data)
    except (msgspec.MsgspecError, RecursionError):
        return
    if "metadata" not in found:
        _check(None)


def _load(metadata: ResultRecordMetadata, payload: memoryview) -> ResultRecord[Any]:
    serializer = metadata.serializer
    # Serializers of users are promised bytes; those of ours take a view, and do not copy what is large.
    blob: Any = payload if type(serializer).__module__.startswith("callsheet.") else bytes(payload)
    try:
        return ResultRecord(serializer.loads(blob), metadata)
    except SerializationError:
        raise
    except Exception as error:  # a serializer of the user's may raise anything
        raise SerializationError(
            f"The serializer {serializer.type!r} cannot read a result: {type(error).__name__}: {error}"
        ) from error


def _check(metadata: Any) -> ResultRecordMetadata:
    if isinstance(metadata, ResultRecordMetadata):
        return metadata
    if isinstance(metadata, dict):
        return ResultRecordMetadata(**cast("dict[str, Any]", metadata))
    kind: Any = "missing" if metadata is None else "dict_type"
    raise ValidationError.from_exception_data("ResultRecord", [{"type": kind, "loc": ("metadata",), "input": metadata}])
