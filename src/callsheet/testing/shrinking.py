"""Making the plan of a failed simulation smaller."""

from __future__ import annotations

from callsheet.testing.faults import Fault
from callsheet.testing.simulations import SimulationFailed, simulate

__all__ = ["shrink"]


def shrink(failure: SimulationFailed) -> SimulationFailed:
    """Find a smaller plan of faults with which a simulation still fails, by leaving out more and more.

    Args:
        failure: What `simulate` raised.

    Returns:
        The failure with the fewest faults that was found: each of them is needed. It may be another error than the
        first one.
    """
    pieces = 2
    while failure.faults:
        plan = failure.faults
        size = max(1, len(plan) // pieces)
        for start in range(0, len(plan), size):
            smaller = _fails(failure, plan[:start] + plan[start + size :])
            if smaller is not None:
                failure, pieces = smaller, max(2, pieces - 1)
                break
        else:
            if size == 1:
                break
            pieces *= 2
    return failure


def _fails(failure: SimulationFailed, plan: tuple[Fault, ...]) -> SimulationFailed | None:
    try:
        simulate(failure.scenario, seed=failure.seed, faults=plan)
    except SimulationFailed as smaller:
        return smaller
    return None
