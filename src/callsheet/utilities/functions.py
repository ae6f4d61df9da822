"""What functions tell about themselves: names, source, what annotations mean, and how a call's arguments bind."""

from __future__ import annotations

import inspect
import linecache
import re
import sys
import tokenize
import types
import typing
from collections.abc import Callable, Mapping
from functools import lru_cache, partial
from typing import Any, TypeGuard

from callsheet.exceptions import ParameterBindError

_NAMES_OF_MANY_TEXTS = frozenset({"<string>", "<stdin>"})
"""What is called so came from `exec`, `python -c` or a prompt: from 3.13 on there is a source to read, of the last."""


def callable_name(fn: Callable[..., Any]) -> str:
    """Give a function's name, or its class's if it is an object that can be called.

    Example:
        >>> callable_name(len), callable_name(type("Adder", (), {"__call__": len})())
        ('len', 'Adder')
    """
    name = getattr(fn, "__name__", None)
    return name if isinstance(name, str) else type(fn).__name__


def hook_name(hook: Callable[..., Any]) -> str:
    """Give the name by which logs speak of a hook.

    Example:
        >>> hook_name(partial(print, sep=""))
        'print'
    """
    while isinstance(hook, partial):
        hook = hook.func
    return str(getattr(hook, "__name__", None) or type(hook).__name__)


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
    inner: Any = inspect.unwrap(fn)
    if not hasattr(inner, "__code__"):
        inner = type(fn).__call__
    code = getattr(inner, "__code__", None)
    if type(code) is not types.CodeType:  # also of a mock, which says that it has some
        return ""
    linecache.lazycache(code.co_filename, getattr(inner, "__globals__", {}))  # where a loader has what no file has
    return code_digest(code)


@lru_cache(maxsize=1024)
def code_digest(code: types.CodeType) -> str:
    """Digest a function's source, or its byte code where there is no source that is its own.

    Args:
        code: Of the function.

    Returns:
        Thirty-two hexadecimal digits.
    """
    from callsheet.utilities.hashing import stable_hash

    source = _source_of(code)
    if source and code.co_name != "<lambda>":
        return stable_hash(source)
    # Of lambdas only whole lines can be read, which may hold several.
    return stable_hash(source, *_instructions(code))


def _instructions(code: types.CodeType) -> list[str | bytes]:
    """Give what a function does, without where it stands."""
    from callsheet.utilities.canonical import digest

    constants = [digest(constant) for constant in code.co_consts if not _is_code(constant)]
    parts: list[str | bytes] = [code.co_code, repr(code.co_names), repr(code.co_freevars), *constants]
    for inner in code.co_consts:
        if _is_code(inner):
            parts += ["inside", *_instructions(inner)]
    return parts


def _source_of(code: types.CodeType) -> str:
    """Read a function's lines, with its decorators; empty where there are none to read.

    `inspect.getsource` looks through all modules of the process first, which takes longer than everything else here.
    """
    if code.co_filename in _NAMES_OF_MANY_TEXTS:
        return ""
    linecache.checkcache(code.co_filename)
    lines = linecache.getlines(code.co_filename)
    try:
        return "".join(inspect.getblock(lines[code.co_firstlineno - 1 :]))
    except (SyntaxError, tokenize.TokenError):  # not the file that was loaded
        return ""


def _is_code(value: object) -> TypeGuard[types.CodeType]:
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
    hints: dict[str, Any] = dict(getattr(inspect.unwrap(target), "__annotations__", None) or {})  # mocks have `None`
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


def get_call_parameters(
    fn: Callable[..., Any],
    call_args: tuple[Any, ...],
    call_kwargs: Mapping[str, Any],
    apply_defaults: bool = True,
) -> dict[str, Any]:
    """Bind a call's arguments to a function's parameters.

    Args:
        fn: The function.
        call_args: Positional arguments.
        call_kwargs: Keyword arguments.
        apply_defaults: Whether parameters that were not given get their defaults.

    Returns:
        Parameters by name, `*args` as a tuple and `**kwargs` as a dict under their own names.

    Raises:
        ParameterBindError: The arguments do not fit the signature.

    Example:
        >>> get_call_parameters(lambda x, y=2: None, (1,), {})
        {'x': 1, 'y': 2}
    """
    signature = inspect.signature(fn)
    try:
        bound = signature.bind(*call_args, **call_kwargs)
        for name, parameter in signature.parameters.items():
            # Python 3.13 lets `**kwargs` take the name of a positional-only parameter and forgets that it is missing.
            required = parameter.kind is parameter.POSITIONAL_ONLY and parameter.default is parameter.empty
            if required and name not in bound.arguments:
                raise TypeError(f"missing a required positional-only argument: {name!r}")
    except TypeError as error:
        raise ParameterBindError.from_bind_failure(fn, error, call_args, dict(call_kwargs)) from None
    if apply_defaults:
        bound.apply_defaults()
    return dict(bound.arguments)


def is_pydantic_field(default: object) -> bool:
    """Tell whether a default is pydantic's `Field(…)`, without importing pydantic."""
    kind = type(default)
    return kind.__name__ == "FieldInfo" and kind.__module__.startswith("pydantic.")


@lru_cache(maxsize=1024)
def rebound_names(code: types.CodeType) -> frozenset[str]:
    """Name the variables of the scope around a function that the function, or one inside of it, assigns.

    Args:
        code: Of the function.

    Returns:
        Names among its free variables.
    """
    import dis

    found = {
        instruction.argval
        for instruction in dis.get_instructions(code)
        if instruction.opname in ("STORE_DEREF", "DELETE_DEREF")
    }
    for inner in code.co_consts:
        if _is_code(inner):
            found |= rebound_names(inner)
    return frozenset(found)
