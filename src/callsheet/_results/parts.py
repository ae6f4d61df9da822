"""Bytes in parts, some of which may be a value's own memory: what is large is not copied."""

from __future__ import annotations

Parts = list[bytes | memoryview]


def size_of(parts: Parts) -> int:
    """Give how many bytes parts are together."""
    size = 0
    for part in parts:
        size += len(part) if isinstance(part, bytes) else part.nbytes
    return size


def join(parts: Parts) -> bytes:
    """Give parts as one."""
    if len(parts) == 1 and isinstance(parts[0], bytes):
        return parts[0]
    return b"".join(parts)
