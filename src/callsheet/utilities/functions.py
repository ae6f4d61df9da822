"""What functions tell about themselves: their names, their source, and what their annotations mean."""

from __future__ import annotations

import inspect
import re
import sys
import types
import typing
from collections.abc import Callable
from functools import lru_cache
from typing import Any

from callsheet.utilities.hashing import stable_hash


def callable_name(fn: Callable[..., Any]) -> str:
    """Give a function's name, or its class's if it is an object that can be called.

    Example:
        >>> callable_name(len), callable_name(type("Adder", (), {"__call__": len})())
        ('len', 'Adder')
    """
    name = getattr(fn, "__name__", None)
    return name if isinstance(name, str) else type(fn).__name__


def qualified_name(fn: Callable[..., Any]) -> str:
    """Give a function's qualified name, or its class's if it is an object that can be called."""
    name = getattr(fn, "__qualname__", None)
    return name if isinstance(name, str) else type(fn).__qualname__


def source_digest(fn: Callable[..., Any]) -> str:
    """Digest a function's source, or its byte code where there is no source to read.

    Args:
        fn: A function or an object that can be called.

    Returns:
        Thirty-two hexadecimal digits; empty if there is neither source nor byte code.
    """
    code = getattr(inspect.unwrap(fn), "__code__", None) or getattr(type(fn).__call__, "__code__", None)
    return _code_digest(code) if isinstance(code, types.CodeType) else ""


@lru_cache(maxsize=1024)
def _code_digest(code: types.CodeType) -> str:
    try:
        source = inspect.getsource(code)
    except (OSError, TypeError, IndexError, SyntaxError):
        source = ""
    if source and code.co_name != "<lambda>":
        return stable_hash(source)
    # Of lambdas only whole lines can be read, which may hold several.
    constants = repr([constant for constant in code.co_consts if not _is_code(constant)])
    return stable_hash(source, code.co_code, repr(code.co_names), constants)


def _is_code(value: object) -> bool:
    return isinstance(value, types.CodeType)


def local_names(fn: Callable[..., Any]) -> dict[str, Any]:
    """Find the names in a function's postponed annotations that only the scope around it knows.

    A class that is defined in a function is out of reach when annotations are read later. Must be called while that
    scope is still on the stack, which it is while the function is decorated.

    Args:
        fn: The function, just defined.

    Returns:
        Values of the names that are neither globals nor built-in.
    """
    code = getattr(fn, "__code__", None)
    annotations = getattr(fn, "__annotations__", None)
    if code is None or not annotations or "<locals>" not in getattr(fn, "__qualname__", ""):
        return {}
    known = getattr(fn, "__globals__", {})
    builtins: dict[str, Any] = vars(sys.modules["builtins"])
    missing = {
        name
        for annotation in annotations.values()
        if isinstance(annotation, str)
        for name in re.findall(r"[^\W\d]\w*", annotation)
        if name not in known and name not in builtins
    }
    found: dict[str, Any] = {}
    frame = inspect.currentframe()
    while missing and frame is not None:
        if frame.f_code.co_filename == code.co_filename:
            found.update((name, frame.f_locals[name]) for name in missing.intersection(frame.f_locals))
            missing -= found.keys()
        frame = frame.f_back
    return found


def type_hints(fn: Callable[..., Any], names: dict[str, Any] | None = None) -> dict[str, Any]:
    """Read a function's annotations, postponed ones too, without what it returns.

    Args:
        fn: A function or an object that can be called.
        names: Names that only the scope of its definition knew, from `local_names`.

    Returns:
        Annotations by parameter, with their metadata.

    Raises:
        NameError: An annotation names something that does not exist.
    """
    target = fn if hasattr(fn, "__annotations__") or inspect.isclass(fn) else type(fn).__call__
    hints: dict[str, Any] = dict(getattr(inspect.unwrap(target), "__annotations__", {}))
    hints.pop("return", None)
    if not any(isinstance(hint, str) for hint in hints.values()) and not names:
        return hints
    # `get_type_hints` resolves nested quotes too; a stand-in keeps it from the return annotation, which is no input.
    stand_in = types.SimpleNamespace(__annotations__=hints)
    space = dict(getattr(inspect.unwrap(target), "__globals__", {}))
    return typing.get_type_hints(stand_in, globalns=space, localns=names or None, include_extras=True)


def module_or_file(fn: Callable[..., Any]) -> str:
    """Give the module that a function can be imported from, or the file of a script."""
    module = getattr(fn, "__module__", None) or type(fn).__module__
    if module != "__main__":
        return module
    try:
        return inspect.getfile(fn)
    except TypeError:
        return module
