"""What the reference names and this version does not do yet."""

from __future__ import annotations

from typing import NoReturn


def not_yet(name: str) -> NoReturn:
    """Refuse a call.

    Raises:
        NotImplementedError: Always; it names what was called.
    """
    raise NotImplementedError(f"{name} is not implemented yet")
