"""The wrappers around arguments."""

from __future__ import annotations

import pickle
from itertools import islice
from typing import Any

import pytest

import callsheet.annotations
from callsheet.utilities.annotations import BaseAnnotation, NotSet, allow_failure, quote, unmapped


@pytest.mark.parametrize("wrapper", [unmapped, allow_failure, quote])
def test_wrappers_keep_the_object_itself(wrapper: Any) -> None:
    value = [1]
    wrapped = wrapper(value)
    assert wrapped.unwrap() is wrapped.value is value
    assert isinstance(wrapped, BaseAnnotation)
    assert wrapped.rewrap(2) == wrapper(2)
    assert repr(wrapped) == f"{wrapper.__name__}([1])"
    assert pickle.loads(pickle.dumps(wrapped)) == wrapped
    with pytest.raises(AttributeError):
        wrapped.value = 3


def test_wrappers_of_different_kinds_are_not_equal() -> None:
    assert unmapped(1) == unmapped(1) != allow_failure(1)
    assert hash(quote(1)) == hash(quote(1))


def test_unmapped_is_an_endless_sequence_of_its_value() -> None:
    value = object()
    wrapped: Any = unmapped(value)
    assert wrapped[0] is wrapped[10**9] is wrapped["any"] is value
    assert list(islice(iter(wrapped), 3)) == [value] * 3


def test_quote_is_unquoted() -> None:
    value = object()
    assert quote(value).unquote() is value


def test_the_modules_agree() -> None:
    assert callsheet.annotations.NotSet is NotSet
    assert isinstance(NotSet, type)
