"""What is simulated."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import TYPE_CHECKING, Any

from callsheet.testing.faults import Fault, Faults

if TYPE_CHECKING:
    from callsheet.testing.simulations import Simulation

__all__ = ["Scenario", "scenario"]


class Scenario:
    """What is simulated; made by `scenario`.

    Attributes:
        body: The function.
        flows: The flows that the processes know, and go on with after a crash.
        processes: How many processes there are beside the one in which the scenario itself runs.
        durability: What they promise.
        lease_seconds: How long a process may give no sign of life.
        seconds: How long the scenario may take by its own clock.
        faults: How much may go wrong.
    """

    def __init__(
        self,
        body: Callable[[Simulation], Awaitable[object]],
        flows: tuple[Any, ...] = (),
        processes: int = 2,
        durability: str = "results",
        lease_seconds: float = 10.0,
        seconds: float = 3600.0,
        faults: Faults | None = None,
    ) -> None:
        self.body, self.flows, self.processes = body, flows, processes
        self.durability, self.lease_seconds, self.seconds = durability, lease_seconds, seconds
        self.faults = faults or Faults()
        self.name = f"{body.__module__}:{getattr(body, '__qualname__', 'scenario')}"

    def __repr__(self) -> str:
        return f"<Scenario {self.name}>"

    def command(self, seed: int, faults: Iterable[Fault]) -> str:
        """Give the command that simulates this with a seed.

        Args:
            seed: The seed.
            faults: What goes wrong. Left out where they are those of the seed.
        """
        planned = tuple(faults)
        is_drawn = planned == self.faults.draw(seed)
        said = " ".join(map(str, planned))
        if "<locals>" in self.name or self.name.startswith("__main__:"):
            rest = "" if is_drawn else f", faults=[Fault.parse(text) for text in {said.split()!r}]"
            return f"simulate({self.name.rpartition('.')[2].rpartition(':')[2]}, seed={seed}{rest})"
        return f"python -m callsheet.testing {self.name} --seed {seed}" + ("" if is_drawn else f" --faults '{said}'")


def scenario(
    *,
    flows: Iterable[Any] = (),
    processes: int = 2,
    durability: str = "results",
    lease_seconds: float = 10.0,
    seconds: float = 3600.0,
    faults: Faults | None = None,
) -> Callable[[Callable[[Simulation], Awaitable[object]]], Scenario]:
    """Make a scenario of an async function that takes a `Simulation`.

    Args:
        flows: Flows that are started in it. Their runs go on in another process when theirs dies.
        processes: How many processes run them.
        durability: What they promise: ``relaxed``, ``results`` or ``strict``.
        lease_seconds: How long a process may give no sign of life before the others take it for dead, in seconds.
        seconds: How long the scenario may take by its own clock, in seconds.
        faults: How much may go wrong in a simulation that is not told.

    Example:
        >>> from callsheet import flow
        >>> from callsheet.testing import Simulation, simulate
        >>> @flow
        ... async def greet(name: str) -> str:
        ...     return f"hello {name}"
        >>> @scenario(flows=[greet])
        ... async def greeting(sim: Simulation) -> None:
        ...     state = await sim.run(greet, "marvin")
        ...     assert state.is_final()
        >>> simulate(greeting, seed=1).digest == simulate(greeting, seed=1).digest
        True
    """
    known = tuple(flows)
    return lambda body: Scenario(body, known, processes, durability, lease_seconds, seconds, faults)
