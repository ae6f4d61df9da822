"""The form of records as bytes: ``CSRR1``, the length of the head, the head as JSON, and the payload."""

from __future__ import annotations

import struct
from datetime import datetime
from functools import cache
from hashlib import blake2b
from typing import Any, Final

import msgspec

from callsheet._results.parts import Parts, size_of
from callsheet.exceptions import ResultDamaged

RECORD: Final = "record"  # what the run journal has of a result: all of it
METADATA: Final = "metadata"  # or where a storage keeps it
APART: Final = "apart:"  # begins the address of a storage whose results have their metadata elsewhere
MAGIC: Final = b"CSRR1\n"
LENGTH: Final = struct.Struct("<I")
START: Final = len(MAGIC) + LENGTH.size
LONGEST: Final = 1 << 24  # bytes of a head; a longer one is not ours


class Wire(msgspec.Struct, omit_defaults=True):
    """Metadata as JSON has it."""

    storage_key: str | None
    serializer: dict[str, Any]
    callsheet_version: str
    expiration: datetime | None = None
    storage_block_id: str | None = None
    storage: str | None = None
    size: int | None = None
    digest: str | None = None


encode: Final = msgspec.json.Encoder().encode
decode: Final = msgspec.json.Decoder(Wire).decode


def head_length(data: bytes) -> int:
    """Give how many bytes of a record the head needs, from its beginning; 0 where it is none."""
    if data[: len(MAGIC)] != MAGIC or len(data) < START:
        return 0
    return START + min(LENGTH.unpack_from(data, len(MAGIC))[0], LONGEST)


def seal(payload: Parts) -> tuple[int, str]:
    """Give size and digest of a payload."""
    digest = blake2b(payload[0] if payload else b"", digest_size=16)
    for part in payload[1:]:
        digest.update(part)
    return size_of(payload), digest.hexdigest()


def frame(wire: Wire, payload: Parts) -> Parts:
    """Give a record.

    Args:
        wire: its metadata, in which size and digest are filled in.
        payload: what the serializer made.

    Returns:
        The record's bytes in parts, the payload's as they are.
    """
    wire.size, wire.digest = seal(payload)
    head = encode(wire)
    return [MAGIC + LENGTH.pack(len(head)) + head, *payload]


def frame_short(kind: str, version: str, payload: bytes) -> bytes:
    """Give the record of a short payload: the same as `frame` gives, for less than half of the price.

    Args:
        kind: type of the serializer.
        version: of this package.
        payload: what the serializer made.

    Returns:
        The record's bytes.

    Example:
        >>> frame_short("json", "1.0", b"7") == b"".join(frame(Wire(None, {"type": "json"}, "1.0"), [b"7"]))
        True
    """
    head = _head(kind, version) % (len(payload), blake2b(payload, digest_size=16).hexdigest().encode())
    return MAGIC + LENGTH.pack(len(head)) + head + payload


@cache
def _head(kind: str, version: str) -> bytes:
    """Give a head in which size and digest are to be filled in."""
    head = encode(Wire(None, {"type": kind}, version, size=0, digest="?"))
    return head.replace(b"%", b"%%").replace(b'"size":0', b'"size":%d').replace(b'"digest":"?"', b'"digest":"%s"')


def verify(payload: memoryview, wire: Wire) -> None:
    """Compare a payload with what its head says.

    Raises:
        ResultDamaged: it is not the one that was written.
    """
    if payload.nbytes != wire.size:
        raise ResultDamaged(f"A result is torn: {wire.size} bytes were written, {payload.nbytes} are there.")
    if blake2b(payload, digest_size=16).hexdigest() != wire.digest:
        raise ResultDamaged("A result is damaged: its digest is not the one of what was written.")
