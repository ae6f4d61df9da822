"""How long a retry waits, by property."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from callsheet._rules.retry import retry_delay


@given(
    delays=st.floats(0, 1e6) | st.lists(st.floats(0, 1e6), max_size=50),
    attempt=st.integers(1, 100),
    jitter=st.none() | st.floats(0, 10),
    u=st.floats(0, 1, exclude_max=True),
)
def test_a_delay_is_never_shorter_than_asked_and_at_most_its_jitter_longer(
    delays: float | list[float], attempt: int, jitter: float | None, u: float
) -> None:
    base = retry_delay(delays, attempt)
    chosen = retry_delay(delays, attempt, jitter, u)
    assert base <= chosen <= base * (1 + (jitter or 0)) + 1e-9
    if isinstance(delays, list):
        assert base == (delays[min(attempt, len(delays)) - 1] if delays else 0)


def test_no_delay_is_zero_and_none_is_negative() -> None:
    assert retry_delay(None, 1) == retry_delay([], 1) == retry_delay(-3, 1, 2.0, 0.5) == 0


def test_without_chance_the_delay_is_what_was_asked() -> None:
    assert retry_delay(10, 1, jitter=0.5) == 10
