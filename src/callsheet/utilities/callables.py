"""What programs ask about callables: how a call's arguments bind, and the schema of parameters."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from callsheet.exceptions import ParameterBindError
from callsheet.utilities.schema import ParameterSchema, parameter_schema

__all__ = ["ParameterSchema", "get_call_parameters", "parameter_schema"]


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
