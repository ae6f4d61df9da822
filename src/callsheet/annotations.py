"""Wrappers that say how an argument is to be treated: `unmapped`, `allow_failure`, `quote`."""

from __future__ import annotations

from typing import Any, Generic, Self, TypeVar

import msgspec

from callsheet._unset import NotSet

__all__ = ["BaseAnnotation", "NotSet", "allow_failure", "quote", "unmapped"]

T = TypeVar("T")


class BaseAnnotation(msgspec.Struct, Generic[T], frozen=True):
    """Base of the wrappers. Two of one class are equal if their values are."""

    value: T

    def unwrap(self) -> T:
        """Give the value inside.

        Example:
            >>> allow_failure(1).unwrap()
            1
        """
        return self.value

    def rewrap(self, value: Any) -> Self:
        """Give a wrapper of the same class around another value.

        Example:
            >>> quote(1).rewrap(2)
            quote(2)
        """
        return type(self)(value)

    def __repr__(self) -> str:
        """Show class and value."""
        return f"{type(self).__name__}({self.value!r})"


class unmapped(BaseAnnotation[T], frozen=True):  # noqa: N801 - the name that programs write
    """Hand a value as it is to every run that `map` makes, although it could be iterated.

    Args:
        value: anything.

    Example:
        >>> unmapped([1, 2])[5]
        [1, 2]
    """

    def __getitem__(self, _: object) -> T:
        """Give the value for any index, as an endless sequence of it would."""
        return self.value


class allow_failure(BaseAnnotation[T], frozen=True):  # noqa: N801
    """Let a run start although the run behind this input failed; it is given the exception instead.

    Args:
        value: a future or state, or a collection of them.

    Example:
        >>> allow_failure([1])
        allow_failure([1])
    """


class quote(BaseAnnotation[T], frozen=True):  # noqa: N801
    """Hand a value on untouched: it is not searched for futures and states.

    Args:
        value: anything.

    Example:
        >>> quote({"big": "data"}).unquote()
        {'big': 'data'}
    """

    def unquote(self) -> T:
        """Give the value inside."""
        return self.value
