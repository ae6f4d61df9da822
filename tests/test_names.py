from __future__ import annotations

import string
from functools import partial
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callsheet._engine.names import check_run_name, default_task_run_name, format_run_name


def name_of(template, /, **parameters):
    return format_run_name(template, "default", parameters, what="task_run_name")


def test_no_template_gives_the_default():
    assert name_of(None, x=1) == "default"


def test_templates_see_parameters_attributes_and_items():
    user = SimpleNamespace(a="ada")
    assert name_of("{self.a}|{x}", self=user, x=3) == "ada|3"
    assert name_of("{input[number]:>3}-{items[0]}", input={"number": 7}, items=["z"]) == "  7-z"
    assert name_of("plain {{braces}}") == "plain {braces}"


def test_parameters_may_have_any_name():
    assert name_of("{format_string}{template}{kwargs}", format_string=1, template=2, kwargs={}) == "12{}"


def test_an_unknown_field_keeps_its_error_and_says_what_is_known():
    with pytest.raises(KeyError, match="y") as caught:
        name_of("{y}", x=1, z=2)
    assert caught.value.__notes__ == ["'task_run_name' is '{y}'; the run's parameters are: x, z"]
    with pytest.raises(AttributeError) as caught:
        name_of("{x.nothing}", x=1)
    assert "{x.nothing}" in caught.value.__notes__[0]


def test_callables_take_nothing_or_the_parameters():
    assert name_of(lambda: "made") == "made"
    assert name_of(lambda parameters: f"made {parameters['x']}", x=5) == "made 5"
    assert name_of(lambda *, parameters=None, y=2: f"{parameters}{y}", x=5) == "{'x': 5}2"
    assert name_of(partial(lambda suffix: "made " + suffix, "partial")) == "made partial"


def test_a_callable_gets_a_copy_of_the_parameters():
    mine = {"x": 1}
    format_run_name(lambda parameters: parameters.pop("x") or "" or "n", "d", {"x": "v"}, what="flow_run_name")
    assert format_run_name(lambda parameters: str(parameters.clear()), "d", mine, what="flow_run_name") == "None"
    assert mine == {"x": 1}


def test_callables_without_a_signature_are_called_without_arguments():
    assert name_of(str) == ""  # inspect finds no signature for it
    with pytest.raises(TypeError, match="returned type dict"):
        name_of(dict)


@pytest.mark.parametrize("what", ["flow_run_name", "task_run_name"])
def test_a_callable_must_give_a_string(what):
    def nothing():
        pass

    with pytest.raises(TypeError) as caught:
        format_run_name(nothing, "d", {}, what=what)
    assert str(caught.value) == f"Callable {nothing} for '{what}' returned type NoneType but a string is required."


def test_an_async_callable_is_refused_without_a_warning():
    async def later():
        return "name"

    with pytest.raises(TypeError, match="returned type coroutine but a string is required"):
        name_of(later)


def test_errors_of_a_callable_pass_through():
    def broken():
        raise LookupError("mine")

    with pytest.raises(LookupError, match="mine"):
        name_of(broken)


@pytest.mark.parametrize("wrong", [1, [], object()])
def test_wrong_templates_are_refused_at_definition_and_again_at_the_run(wrong):
    text = f"Expected string or callable for 'flow_run_name'; got {type(wrong).__name__} instead."
    with pytest.raises(TypeError) as at_definition:
        check_run_name(wrong, "flow_run_name")
    with pytest.raises(TypeError) as at_run:
        format_run_name(wrong, "d", {}, what="flow_run_name")
    assert str(at_definition.value) == str(at_run.value) == text


def test_right_templates_pass_the_check():
    for right in (None, "", "x{y}", print, lambda: "x"):
        check_run_name(right, "task_run_name")


def test_default_task_run_name():
    assert default_task_run_name("t", "abcdef") == "t-abc"
    assert default_task_run_name("t", "7") == "t-7"


names = st.text(string.ascii_lowercase + "_", min_size=1, max_size=8).filter(str.isidentifier)


@given(st.dictionaries(names, st.integers() | st.text(max_size=5)), st.text(max_size=10))
def test_templates_format_as_python_does(parameters, between):
    between = between.replace("{", "").replace("}", "")
    template = between.join("{" + name + "}" for name in parameters)
    assert name_of(template, **parameters) == between.join(str(value) for value in parameters.values())
