"""From a key to the name of a file."""

from __future__ import annotations

from typing import Final

from callsheet.utilities.hashing import stable_hash

_LONGEST: Final = 200  # bytes of one part; file systems take 255, and an ending is added


def file_name(key: str) -> str:
    """Give the path of a key's file below a folder. It never leads out of it.

    Args:
        key: The key; slashes part folders.

    Returns:
        The key itself, or a digest of it where the key is no usable path.

    Example:
        >>> file_name("nightly/report")
        'nightly/report'
        >>> file_name("../report")[:4]
        'key-'
    """
    parts = key.split("/")
    usable = all(
        part and not part.startswith(".") and "\0" not in part and len(part.encode()) <= _LONGEST for part in parts
    )
    return key if usable and "\\" not in key else f"key-{stable_hash(key)}"
