"""Letters from one engine to another: orders for its runs, and news of them."""

from __future__ import annotations

from uuid import UUID

import msgspec


class Letter(msgspec.Struct, frozen=True, kw_only=True):
    """A letter in the mailbox of an engine.

    Attributes:
        number: Its place in the order of arrival; numbers do not come back.
        token: By which its sender knows it.
        to_engine: Whose it is.
        to_run: The run that it is about.
        name: What kind of letter it is.
        body: What it says; the kind knows how to read it.
        at: When it was sent, in microseconds since the epoch.
        answered: When it was answered.
        answer: What the engine said.
    """

    number: int
    token: UUID
    to_engine: UUID
    to_run: UUID
    name: str
    body: bytes
    at: int
    answered: int | None = None
    answer: bytes | None = None
