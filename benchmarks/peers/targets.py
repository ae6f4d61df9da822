"""What this engine is to reach, in one run: beside others, so many times as good at least; by itself, at most so much."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

from benchmarks.peers.catalogue import WORKLOADS
from benchmarks.peers.figures import Figure, Figures

DEFAULT: Final = "callsheet"
RELAXED: Final = "callsheet-relaxed"


class Beside(NamedTuple):
    """`ours` is to be at least `times` as good as `other` at a workload (below 1: at most so many times as slow).

    With `complete`, both are measured until their history is.
    """

    workload: str
    ours: str
    other: str
    times: float
    complete: bool = False


class Within(NamedTuple):
    """A figure of ours that is to be at most (or at least) so much, at both levels of durability."""

    workload: str
    what: str  # a key of `_OWN`
    bound: float


class Verdict(NamedTuple):
    """A target, what there is at both levels, and whether it is reached where it has to be; `None`: not measured."""

    workload: str
    wanted: str
    default: str
    relaxed: str
    decided_by: str
    reached: bool | None


TARGETS: Final = (
    Beside("sequential", RELAXED, "prefect", 100),
    Beside("sequential", RELAXED, "prefect", 300, complete=True),
    Beside("sequential", RELAXED, "taskiq", 10),
    Beside("sequential", RELAXED, "asyncio", 1 / 10),
    Beside("sequential", DEFAULT, "dbos", 25),
    Beside("sequential", DEFAULT, "asyncio", 1 / 16),
    Beside("map", RELAXED, "prefect", 80),
    Beside("map", DEFAULT, "dbos", 30),
    Beside("map", RELAXED, "taskiq", 0.8),
    Beside("map", RELAXED, "anyio", 1 / 3),
    Beside("flows", RELAXED, "prefect", 200),
    Beside("flows", DEFAULT, "dbos", 8),
    Beside("flows_at_once", RELAXED, "prefect", 1000),
    Beside("flows_at_once", DEFAULT, "dbos", 12),
    Beside("sync_called", RELAXED, "prefect", 50),
    Beside("sync_called", DEFAULT, "dbos", 10),
    Beside("sync_submitted", RELAXED, "prefect", 40),
    Beside("sync_submitted", DEFAULT, "dbos", 10),
    Beside("retry", RELAXED, "prefect", 100),
    Beside("retry", DEFAULT, "dbos", 40),
    Beside("web", RELAXED, "prefect", 500),
    Beside("cold", DEFAULT, "prefect", 40),
    Beside("import", DEFAULT, "prefect", 12),
)
OWN_TARGETS: Final = (
    Within("web", "p99 beside p50", 5),
    Within("map", "share in the history 50 ms after the end", 1),
    Within("held", "bytes a task run", 4096),
)
_AT_LEAST: Final = ("share in the history 50 ms after the end",)


def verdicts(found: Figures) -> Iterator[Verdict]:
    """Give every target whose sides were measured."""
    for target in TARGETS:
        some = found.get(target.workload, {})
        ratios = {level: _ratio(target, some.get(level), some.get(target.other)) for level in (DEFAULT, RELAXED)}
        if ratios[target.ours] is not None:
            yield Verdict(
                target.workload, _wanted(target), times(ratios[DEFAULT]), times(ratios[RELAXED]), target.ours,
                (ratios[target.ours] or 0) >= target.times,
            )  # fmt: skip
    for limit in OWN_TARGETS:
        some = found.get(limit.workload, {})
        values = {level: _own(limit.what, some.get(level)) for level in (DEFAULT, RELAXED)}
        known = [value for value in values.values() if value is not None]
        if known:
            least = limit.what in _AT_LEAST
            reached = all(value >= limit.bound if least else value <= limit.bound for value in known)
            wanted = f"{limit.what}: at {'least' if least else 'most'} {limit.bound:,g}"
            yield Verdict(limit.workload, wanted, _plain(values[DEFAULT]), _plain(values[RELAXED]), "both", reached)


def _wanted(target: Beside) -> str:
    until = " until the history is complete" if target.complete else ""
    if target.times < 0.75:
        return f"at most {1 / target.times:.3g} × {target.other}'s time{until}"
    return f"{target.times:,g} × {target.other}{until}"


def _ratio(target: Beside, ours: Figure | None, other: Figure | None) -> float | None:
    if ours is None or other is None:
        return None
    if target.complete:
        return ours.complete / other.complete if ours.complete and other.complete else None
    return ours.beside(other, per_second=WORKLOADS[target.workload].per_second)


def _own(what: str, figure: Figure | None) -> float | None:
    if figure is None:
        return None
    if what == "p99 beside p50":
        return figure.p99 / figure.p50 if figure.p50 and figure.p99 else None
    return figure.recorded if what.startswith("share") else figure.middle


def times(value: float | None) -> str:
    """Write a ratio."""
    if value is None:
        return ""
    return f"{_plain(value)} ×" if value >= 0.75 else f"1/{1 / value:.3g} ×"


def _plain(value: float | None) -> str:
    return "" if value is None else f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
