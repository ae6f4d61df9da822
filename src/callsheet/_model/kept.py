"""How states tell a result that was kept, or was not, from a plain value. The classes themselves are in `callsheet.results`."""

from __future__ import annotations

from typing import Any, Final, Protocol, final


class Kept:
    """Base of records: a value, and where it is kept."""

    __slots__ = ()
    result: Any
    metadata: Any


class KeptElsewhere:
    """Base of what is known of a record whose value is not here."""

    __slots__ = ()


@final
class NotRecorded:
    """What `State.data` holds where a state was read back and the run's value was not kept with it."""

    __slots__ = ()

    def __repr__(self) -> str:
        """Show as a placeholder, not as a value."""
        return "<not recorded>"

    def __reduce__(self) -> str:
        """Stay the one object across pickling and copying."""
        return "NOT_RECORDED"


NOT_RECORDED: Final = NotRecorded()


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
