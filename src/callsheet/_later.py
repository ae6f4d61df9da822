"""Names of the API that exist so that programs can import them, and that say so when they are used.

Each leaves this file with the feature that it belongs to.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn


class _StandIn(type):
    """The type of what there is not yet: it can be imported, named in annotations and subclassed, but not used."""

    stands_for: str

    def __call__(cls, *_: Any, **__: Any) -> NoReturn:
        raise NotImplementedError(f"{cls.stands_for} is not implemented yet")

    def __getattr__(cls, name: str) -> NoReturn:
        if name.startswith("_"):
            raise AttributeError(name)
        raise NotImplementedError(f"{cls.stands_for}.{name} is not implemented yet")


def later(module: str, *names: str) -> Callable[[str], Any]:
    """Make the `__getattr__` of a module some of whose names there are not yet.

    Args:
        module: The module's full name.
        names: What programs may import from it.

    Returns:
        A function that gives a stand-in for a name; making or calling that raises `NotImplementedError`.

    Example:
        >>> later("callsheet.docker", "DockerImage")("DockerImage")("name", "tag")
        Traceback (most recent call last):
        NotImplementedError: callsheet.docker.DockerImage is not implemented yet
    """
    made: dict[str, Any] = {}

    def __getattr__(name: str) -> Any:  # noqa: N807 - it becomes a module's own
        if name not in names:
            raise AttributeError(f"module {module!r} has no attribute {name!r}")
        if name not in made:
            made[name] = _StandIn(name, (), {"__module__": module, "stands_for": f"{module}.{name}"})
        return made[name]

    return __getattr__


def serve(*_: Any, **__: Any) -> NoReturn:
    """Serve deployments from this process. Not available yet."""
    raise NotImplementedError("serve")


def deploy(*_: Any, **__: Any) -> NoReturn:
    """Deploy flows to a work pool. Not available yet."""
    raise NotImplementedError("deploy")
