"""How long to wait before the next attempt. Chance comes in as a number, so that the choice is pure."""

from __future__ import annotations

from collections.abc import Sequence


def retry_delay(
    delays: float | Sequence[float] | None, attempt: int, jitter: float | None = None, u: float = 0.0
) -> float:
    """Choose the delay before a retry.

    Args:
        delays: seconds for every retry, or a list with one for each; its last entry repeats.
        attempt: how many attempts have been made, from 1.
        jitter: up to which share of it the delay may grow.
        u: a random number, at least 0 and below 1.

    Returns:
        Seconds: the delay, made longer by an even draw from [0, jitter × delay). It is never made shorter,
        so that a delay is a promise to the other side.

    Example:
        >>> retry_delay([1, 10], 1), retry_delay([1, 10], 7), retry_delay(10, 1, jitter=0.5, u=0.5)
        (1.0, 10.0, 12.5)
    """
    if delays is None:
        return 0.0
    if isinstance(delays, (int, float)):
        delay = float(delays)
    elif delays:
        delay = float(delays[min(max(attempt, 1), len(delays)) - 1])
    else:
        return 0.0
    if jitter:
        delay += delay * jitter * u
    return max(delay, 0.0)
