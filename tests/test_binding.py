"""Binding is `inspect.Signature.bind` with defaults, only faster; calls get back exactly what was bound."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callsheet._engine.binding import Binder
from callsheet.exceptions import ParameterBindError, SignatureMismatchError
from callsheet.utilities.callables import get_call_parameters

NAMES = ["a", "b", "c", "keys", "self", "args", "kwargs", "fn"]


@st.composite
def functions(draw: st.DrawFn) -> Callable[..., Any]:
    """Functions of every shape that Python allows."""
    names = iter(draw(st.permutations(NAMES)))
    only, plain, keyword = (draw(st.integers(0, 2)) for _ in range(3))
    parts: list[str] = []
    defaults = False
    for index in range(only + plain):
        defaults = defaults or draw(st.booleans())
        parts.append(next(names) + (f"='d{index}'" if defaults else ""))
        if only and index == only - 1:
            parts.append("/")
    star = draw(st.booleans())
    if star or keyword:
        parts.append("*" + next(names) if star else "*")
    parts += [next(names) + ("='k'" if draw(st.booleans()) else "") for _ in range(keyword)]
    if draw(st.booleans()):
        parts.append("**" + next(names))
    return eval(f"lambda {', '.join(parts)}: dict(locals())")


@st.composite
def calls(draw: st.DrawFn) -> tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]:
    """Functions with arguments that often fit and often do not."""
    fn = draw(functions())
    names = [*inspect.signature(fn).parameters, "other"]
    args = draw(st.lists(st.integers(0, 9), max_size=5).map(tuple))
    return fn, args, draw(st.dictionaries(st.sampled_from(names), st.integers(10, 19), max_size=5))


def expected(fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any] | str:
    try:
        bound = inspect.signature(fn).bind(*args, **kwargs)
    except TypeError as error:
        return str(error)
    try:
        fn(*args, **kwargs)
    except TypeError:
        return "missing a required positional-only argument"  # overlooked by `inspect` of Python 3.13
    bound.apply_defaults()
    return dict(bound.arguments)


@given(calls())
def test_equals_inspect_errors_included(call: Any) -> None:
    fn, args, kwargs = call
    wanted = expected(fn, args, kwargs)
    binder = Binder(fn)
    if isinstance(wanted, str):
        with pytest.raises(ParameterBindError) as caught:
            binder.bind(args, kwargs)
        assert f"': {wanted}" in str(caught.value)
        with pytest.raises(ParameterBindError):
            binder.bind_partial_defaults_off(args, kwargs)
    else:
        assert list(binder.bind(args, kwargs).items()) == list(wanted.items())


@given(calls())
def test_call_arguments_call_what_was_bound(call: Any) -> None:
    fn, args, kwargs = call
    if isinstance(expected(fn, args, kwargs), str):
        return
    binder = Binder(fn)
    bound_args, bound_kwargs = binder.call_arguments(binder.bind(args, kwargs))
    assert fn(*bound_args, **bound_kwargs) == fn(*args, **kwargs)
    given_only = binder.bind_partial_defaults_off(args, kwargs)
    assert set(given_only) <= set(binder.names)
    assert binder.with_defaults(given_only) == binder.bind(args, kwargs)
    bound_args, bound_kwargs = binder.call_arguments(given_only)
    assert fn(*bound_args, **bound_kwargs) == fn(*args, **kwargs)


def test_message() -> None:
    def f(x): ...

    with pytest.raises(TypeError) as caught:
        Binder(f).bind((), {})
    assert isinstance(caught.value, ParameterBindError)
    assert str(caught.value) == (
        "Error binding parameters for function 'f': missing a required argument: 'x'.\n"
        "Function 'f' has signature 'x' but received args: () and kwargs: []."
    )
    with pytest.raises(ParameterBindError, match="multiple values for argument 'x'"):
        Binder(f).bind((1,), {"x": 2})
    with pytest.raises(ParameterBindError, match=r"received args: \(1, 2\) and kwargs: \['y'\]"):
        Binder(f).bind((1, 2), {"y": 2})


def test_values_are_passed_by_identity() -> None:
    default: list[int] = []
    value = [1]
    bound = Binder(lambda x, y=default: None).bind((value,), {})
    assert bound["x"] is value
    assert bound["y"] is default


def test_parameters_in_another_order() -> None:
    assert Binder(lambda a, b: None).call_arguments({"b": 2, "a": 1}) == ((1, 2), {})


@pytest.mark.parametrize("parameters", [{"a": 1}, {"a": 1, "c": 2}, {"a": 1, "b": 2, "c": 3}])
def test_names_that_do_not_fit(parameters: dict[str, Any]) -> None:
    with pytest.raises(SignatureMismatchError, match="expects parameters"):
        Binder(lambda a, b: None).call_arguments(parameters)


def test_callable_objects_and_partials() -> None:
    class Adder:
        def __call__(self, x: int, y: int = 1) -> int:
            return x + y

    assert Binder(Adder()).bind((1,), {}) == {"x": 1, "y": 1}
    assert Binder(functools.partial(lambda x, y: None, 1)).bind((2,), {}) == {"y": 2}


def test_get_call_parameters() -> None:
    def f(x, *rest, y=3, **more): ...

    assert get_call_parameters(f, (1, 2), {"z": 4}) == {"x": 1, "rest": (2,), "y": 3, "more": {"z": 4}}
    assert get_call_parameters(f, (1,), {}, apply_defaults=False) == {"x": 1}
