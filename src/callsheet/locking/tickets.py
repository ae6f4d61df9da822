"""A lock as it is written down where several processes see it."""

from __future__ import annotations

from hashlib import blake2b
from pathlib import Path
from typing import Final, Protocol

import msgspec

from callsheet._ids import new_token

LEASE: Final = 15.0
"""Seconds without a sign of life after which a lock is anybody's."""


class Ticket(msgspec.Struct, frozen=True, kw_only=True):
    """Who holds a lock, and the last sign of life.

    Attributes:
        holder: The name that the caller chose.
        owner: The process: the name of its file among the owners.
        machine: Where that file's lock can be asked for; empty where it cannot.
        token: Tells this taking of the lock from every other.
        beat: Counts the signs of life. No time of day is compared anywhere: clocks jump.
        lease: Seconds of the watcher's own monotonic clock without a new beat after which the holder counts as dead.
    """

    holder: str
    owner: str
    machine: str
    lease: float
    token: str = msgspec.field(default_factory=new_token)
    beat: int = 0

    def next(self) -> Ticket:
        """Give the ticket with another sign of life."""
        return msgspec.structs.replace(self, beat=self.beat + 1)

    def is_same(self, other: Ticket | None) -> bool:
        """Tell whether another ticket is this one, at the same beat."""
        return other is not None and (other.token, other.beat) == (self.token, self.beat)


_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(Ticket)


def encode(ticket: Ticket) -> bytes:
    """Write a ticket."""
    return _encoder.encode(ticket)


def decode(content: bytes) -> Ticket:
    """Read a ticket. What is none (torn by a crash of the machine, of another program) is a lock of nobody we know."""
    try:
        return _decoder.decode(content)
    except msgspec.MsgspecError:
        token = blake2b(content, digest_size=16).hexdigest()
        return Ticket(holder="", owner="", machine="", lease=LEASE, token=token)


class Place(Protocol):
    """Where tickets are kept. Every method may wait for a disk."""

    name: str
    """Tells the place from all others, in this process."""
    owners: Path
    """Folder of the files by which processes prove that they live."""

    def stay_open(self) -> None:
        """Keep open what is costly to open: it will be used often."""
        ...

    def close(self) -> None:
        """Let go of that. The place can be used as before."""
        ...

    def read(self, key: str) -> Ticket | None:
        """Give the ticket of a lock, or `None` where nobody holds it."""
        ...

    def swap(self, key: str, old: Ticket | None, new: Ticket | None, patience: float) -> bool:
        """Put a ticket in the place of another one, if that is still there; all at once, for all processes.

        Args:
            key: The lock.
            old: What must be there; `None` for nothing.
            new: What is put there; `None` takes the old one away.
            patience: Seconds to wait for others who are writing just now.

        Returns:
            Whether it was done.

        Raises:
            StoreLocked: Others were writing all the time.
            StoreError: The place refuses.
        """
        ...
