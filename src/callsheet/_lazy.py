"""Modules as attributes of their package, imported when they are first used."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from types import ModuleType


def modules_of(package: str, *names: str) -> Callable[[str], ModuleType]:
    """Make the `__getattr__` of a package.

    Programs that import only the top package go on from there by attributes, without an import for each module.

    Args:
        package: The package's full name.
        names: Its modules that programs use.

    Returns:
        A function that imports the module of a name.

    Example:
        >>> modules_of("callsheet", "states")("states").__name__
        'callsheet.states'
    """

    def __getattr__(name: str) -> ModuleType:  # noqa: N807 - it becomes a module's own
        if name not in names:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return import_module(f"{package}.{name}")

    return __getattr__
