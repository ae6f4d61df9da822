"""Arguments to parameters and back: once a call, so precomputed once a function.

`inspect.Signature.bind` costs 4 to 10 µs. A `Binder` does the same for plain signatures in well under one, and hands
everything unusual (positional-only parameters, every error) to `inspect`, so that its wording is Python's own.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any, Final

from callsheet.exceptions import SignatureMismatchError
from callsheet.utilities.functions import get_call_parameters

_POSITIONAL_ONLY: Final = inspect.Parameter.POSITIONAL_ONLY
_PLAIN: Final = inspect.Parameter.POSITIONAL_OR_KEYWORD
_VAR_POSITIONAL: Final = inspect.Parameter.VAR_POSITIONAL
_VAR_KEYWORD: Final = inspect.Parameter.VAR_KEYWORD
_EMPTY: Final = inspect.Parameter.empty


class Binder:
    """Binds arguments to the parameters of one function.

    Attributes:
        fn: The function.
        signature: Its signature.
        names: Every parameter's name, in order; `*args` and `**kwargs` under their own names.
        defaults: Defaults by name.
        var_positional: Name of the `*args` parameter.
        var_keyword: Name of the `**kwargs` parameter.

    Example:
        >>> Binder(lambda x, *rest, y=2, **more: None).bind((1, 5), {"z": 3})
        {'x': 1, 'rest': (5,), 'y': 2, 'more': {'z': 3}}
    """

    __slots__ = (
        "_after",
        "_keywords",
        "_positional",
        "_simple",
        "defaults",
        "fn",
        "names",
        "signature",
        "var_keyword",
        "var_positional",
    )

    def __init__(self, fn: Callable[..., Any]) -> None:
        self.fn = fn
        self.signature = signature = inspect.signature(fn)
        parameters = signature.parameters
        kinds = {name: parameter.kind for name, parameter in parameters.items()}
        self.names: tuple[str, ...] = tuple(parameters)
        self.defaults: dict[str, Any] = {n: p.default for n, p in parameters.items() if p.default is not _EMPTY}
        self.var_positional = next((name for name, kind in kinds.items() if kind is _VAR_POSITIONAL), None)
        self.var_keyword = next((name for name, kind in kinds.items() if kind is _VAR_KEYWORD), None)
        self._positional = tuple(name for name, kind in kinds.items() if kind in (_POSITIONAL_ONLY, _PLAIN))
        self._after = tuple(name for name in self.names if name not in self._positional)
        variable = (self.var_positional, self.var_keyword)
        self._keywords = tuple(name for name in self._after if name not in variable)
        # Whether a keyword may take the name of a positional-only parameter has changed between versions of Python.
        self._simple = _POSITIONAL_ONLY not in kinds.values()

    def bind(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
        """Bind a call's arguments and add defaults.

        Args:
            args: Positional arguments.
            kwargs: Keyword arguments.

        Returns:
            Every parameter by name, in the order of the signature.

        Raises:
            ParameterBindError: The arguments do not fit.
        """
        names = self.names
        if not kwargs and len(args) == len(names) and not self._after:
            return dict(zip(names, args))  # noqa: B905 - they are equally many, and looking again costs half as much
        bound = self._bind_simple(args, kwargs) if self._simple else None
        return bound if bound is not None else get_call_parameters(self.fn, args, kwargs)

    def _bind_simple(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any] | None:
        """Bind; `None` leaves the call, which may be wrong, to the slow path."""
        positional = self._positional
        given = len(args)
        count = len(positional)
        if given > count and self.var_positional is None:
            return None
        defaults = self.defaults
        bound: dict[str, Any] = dict(zip(positional, args, strict=False))
        used = 0
        for name in positional[given:]:
            if name in kwargs:
                bound[name] = kwargs[name]
                used += 1
            elif name in defaults:
                bound[name] = defaults[name]
            else:
                return None
        if not self._after:
            return bound if used == len(kwargs) else None
        return self._bind_rest(bound, args[count:], kwargs, used)

    def _bind_rest(
        self, bound: dict[str, Any], extra: tuple[Any, ...], kwargs: Mapping[str, Any], used: int
    ) -> dict[str, Any] | None:
        defaults = self.defaults
        if self.var_positional is not None:
            bound[self.var_positional] = extra
        for name in self._keywords:
            if name in kwargs:
                bound[name] = kwargs[name]
                used += 1
            elif name in defaults:
                bound[name] = defaults[name]
            else:
                return None
        if self.var_keyword is None:
            return bound if used == len(kwargs) else None
        taken = self._positional + self._keywords
        rest = {name: value for name, value in kwargs.items() if name not in taken}
        if used + len(rest) != len(kwargs):
            return None  # a name was given twice
        bound[self.var_keyword] = rest
        return bound

    def bind_partial_defaults_off(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
        """Bind a call's arguments without adding defaults, as `map` needs it: a default is never mapped over.

        Args:
            args: Positional arguments.
            kwargs: Keyword arguments.

        Returns:
            The parameters that were given.

        Raises:
            ParameterBindError: The arguments do not fit.
        """
        return get_call_parameters(self.fn, args, kwargs, apply_defaults=False)

    def with_defaults(self, parameters: Mapping[str, Any]) -> dict[str, Any]:
        """Add the defaults of parameters that are missing.

        Args:
            parameters: Parameters by name.

        Returns:
            A new dict in the order of the signature.
        """
        full: dict[str, Any] = {}
        for name in self.names:
            if name in parameters:
                full[name] = parameters[name]
            elif name in self.defaults:
                full[name] = self.defaults[name]
            elif name == self.var_positional:
                full[name] = ()
            elif name == self.var_keyword:
                full[name] = {}
        return full

    def call_arguments(self, parameters: Mapping[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Turn parameters into the arguments of a call.

        Args:
            parameters: Parameters by name, as `bind` gives them; ones with defaults may be missing.

        Returns:
            Positional and keyword arguments.

        Raises:
            SignatureMismatchError: A name is unknown, or one without a default is missing.

        Example:
            >>> Binder(lambda x, *rest, y=2: None).call_arguments({"x": 1, "rest": (5,), "y": 3})
            ((1, 5), {'y': 3})
        """
        if not self._after and tuple(parameters) == self.names:  # as `bind` gives them
            return tuple(parameters.values()), {}
        full = self.with_defaults(parameters)
        if len(full) != len(self.names) or any(name not in full for name in parameters):
            raise SignatureMismatchError.from_bad_params(self.names, parameters)
        args = [full[name] for name in self._positional]
        if self.var_positional is not None:
            args.extend(full[self.var_positional])
        keywords = {name: full[name] for name in self._keywords}
        if self.var_keyword is not None:
            keywords.update(full[self.var_keyword])
        return tuple(args), keywords
