"""How states tell a result that was kept from a plain value. The classes themselves are in `callsheet.results`."""

from __future__ import annotations

from typing import Any, Protocol


class Kept:
    """Base of records: a value, and where it is kept."""

    __slots__ = ()
    result: Any
    metadata: Any


class KeptElsewhere:
    """Base of what is known of a record whose value is not here."""

    __slots__ = ()


class Bytes(Protocol):
    """What can give itself as JSON."""

    def dump_bytes(self) -> bytes:
        """Give it."""
        ...


def metadata_of(data: object) -> Bytes | None:
    """Give the metadata of what a state holds, or `None` where that is a plain value."""
    if isinstance(data, Kept):
        return data.metadata
    return data if isinstance(data, KeptElsewhere) else None  # type: ignore[return-value] # pyright: ignore[reportReturnType]
