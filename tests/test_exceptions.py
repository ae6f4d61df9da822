"""Every error: its place in the tree, its text, and that it survives being sent to another process."""

from __future__ import annotations

import copy
import inspect
import pickle
import re
from collections.abc import Iterator
from typing import Any

import pytest

from callsheet import exceptions
from callsheet.exceptions import (
    MissingDependency,
    ObjectAlreadyExists,
    ObjectNotFound,
    ParameterBindError,
    Pause,
    PausedRun,
    ScriptError,
    Signal,
    SignatureMismatchError,
    TerminationSignal,
)

ERRORS = [
    error
    for _, error in inspect.getmembers(exceptions, inspect.isclass)
    if issubclass(error, BaseException) and error.__module__ == exceptions.__name__
]


def examples(error: Any) -> Iterator[BaseException]:
    if error is MissingDependency:
        yield error("rich", "progress")
    elif error is ScriptError:
        yield error(ValueError("x"), "/a/b.py")
    elif error is TerminationSignal:
        yield error(15)
    elif error in (ObjectNotFound, ObjectAlreadyExists):
        yield error()
        yield error(ValueError("404"))
        yield error(help_message="Look elsewhere.")
    elif error in (PausedRun, Pause):
        yield error("m", state={"type": "PAUSED"})
        yield error()
    else:
        yield error("message")
        yield error()


def told(error: BaseException) -> Any:
    return type(error), str(error), {key: repr(value) for key, value in vars(error).items()}


@pytest.mark.parametrize("error", ERRORS)
@pytest.mark.parametrize("protocol", [2, pickle.HIGHEST_PROTOCOL])
def test_every_error_survives_pickling(error: type[BaseException], protocol: int) -> None:
    for example in examples(error):
        example.add_note("while testing")
        assert told(pickle.loads(pickle.dumps(example, protocol))) == told(example)
        assert told(copy.copy(example)) == told(example)


def test_the_docstring_draws_every_error() -> None:
    drawn = set(re.findall(r"\b[A-Z]\w+\b", exceptions.__doc__ or ""))
    assert {error.__name__ for error in ERRORS} <= drawn


@pytest.mark.parametrize("error", ERRORS)
def test_signals_pass_by_and_errors_do_not(error: type[BaseException]) -> None:
    assert issubclass(error, Exception) is not issubclass(error, Signal)
    assert error.__doc__


def test_errors_are_what_programs_catch() -> None:
    for error, base in [
        ("MissingContextError", RuntimeError),
        ("ParameterBindError", TypeError),
        ("SignatureMismatchError", TypeError),
        ("ReservedArgumentError", TypeError),
        ("InvalidNameError", ValueError),
        ("BlockingWaitError", RuntimeError),
        ("EngineClosed", RuntimeError),
        ("MissingDependency", ImportError),
        ("PausedRun", exceptions.UnfinishedRun),
    ]:
        assert issubclass(getattr(exceptions, error), base)


def test_a_binding_error_says_what_was_expected_and_given() -> None:
    def f(x: int, *, y: str = "") -> int:
        return x

    error = ParameterBindError.from_bind_failure(f, TypeError("missing a required argument: 'x'"), (), {"z": 1})
    assert str(error) == (
        "Error binding parameters for function 'f': missing a required argument: 'x'.\n"
        "Function 'f' has signature 'x: 'int', *, y: 'str' = ''' but received args: () and kwargs: ['z']."
    )


def test_a_signature_mismatch_says_both_sides() -> None:
    error = SignatureMismatchError.from_bad_params(["a"], ["b"])
    assert str(error) == "Function expects parameters ['a'] but was provided with parameters ['b']"


def test_texts_name_what_to_do() -> None:
    assert str(MissingDependency("rich", "progress")) == (
        "'rich' is not installed. Install it with: pip install 'callsheet[progress]'"
    )
    assert str(ScriptError(ValueError("x"), "/a.py")) == "Script at '/a.py' encountered an exception: ValueError('x')"
    assert str(ObjectAlreadyExists(http_exc=ValueError("409"))) == "409"
    assert ObjectAlreadyExists(help_message="taken").help_message == "taken"
    assert str(ObjectNotFound()) == "Object not found"
    assert str(ObjectNotFound(ValueError("404"))) == "404"
