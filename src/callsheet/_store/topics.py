"""What another process can be waited for."""

from __future__ import annotations

from collections.abc import Sequence

TOPICS = frozenset({"history"})
"""``history``: something was committed."""


def check_topics(topics: Sequence[str]) -> None:
    """Refuse topics that nothing announces yet.

    Raises:
        NotImplementedError: naming the topic.
    """
    for topic in topics:
        if topic not in TOPICS:
            raise NotImplementedError(f"wait for {topic!r}: nothing announces this topic yet")
