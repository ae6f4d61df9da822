"""Checks and conversions of options that flows and tasks share."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final, Literal, TypeVar, cast

from callsheet._unset import NotSet
from callsheet.exceptions import InvalidNameError, ReservedArgumentError

Kind = Literal["flow", "task"]
Hook = TypeVar("Hook", bound=Callable[..., Any])
Delays = float | list[float]

MAX_RETRY_DELAYS: Final = 50
FORBIDDEN_IN_NAMES: Final = ("/", "%", "&", ">", "<")
RESERVED_PARAMETERS: Final = ("return_state", "wait_for")


def check_function(fn: object, kind: Kind) -> None:
    """Refuse what cannot be called, and the wrappers that belong above the decorator.

    Raises:
        TypeError: It is one of them.
    """
    if isinstance(fn, (classmethod, staticmethod)):
        name = cast("Any", fn).__class__.__name__
        raise TypeError(f"@{name} should be applied on top of @{kind}")
    if not callable(fn):
        raise TypeError("'fn' must be callable")


def check_name(name: object, kind: Kind) -> None:
    """Refuse a name that is no string.

    Raises:
        TypeError: It is something else; the message has a hint if that can be called.
    """
    if name is None or isinstance(name, str):
        return
    hint = f"Perhaps you meant to call it? e.g. '@{kind}(name=get_{kind}_run_name())'" if callable(name) else ""
    raise TypeError(f"Expected string for {kind} parameter 'name'; got {type(name).__name__} instead. {hint}")


def check_characters(name: str) -> None:
    """Refuse a name with characters that addresses cannot carry.

    Raises:
        InvalidNameError: It has one of them.

    Example:
        >>> check_characters("a/b")
        Traceback (most recent call last):
        callsheet.exceptions.InvalidNameError: Name 'a/b' contains an invalid character. Must not contain any of: / % & > <
    """
    if any(character in name for character in FORBIDDEN_IN_NAMES):
        raise InvalidNameError(
            f"Name {name!r} contains an invalid character. Must not contain any of: {' '.join(FORBIDDEN_IN_NAMES)}"
        )


def check_parameters(names: Iterable[str]) -> None:
    """Refuse parameters with names that calls use themselves.

    Raises:
        ReservedArgumentError: There is one.
    """
    for name in names:
        if name in RESERVED_PARAMETERS:
            raise ReservedArgumentError(f"{name!r} is a reserved argument name and cannot be used.")


def check_hooks(hooks: object, option: str, kind: Kind) -> list[Any]:
    """Give a definition's own list of hooks.

    Args:
        hooks: What was passed: any iterable of callables, or `None`.
        option: The option's name, for messages.
        kind: What is being defined, for messages.

    Returns:
        A new list.

    Raises:
        TypeError: It is not iterable, or a member is not callable.
    """
    if hooks is None:
        return []
    example = (
        f"Please provide a list of hooks to '{option}':\n\n@{kind}({option}=[hook1, hook2])\ndef my_{kind}():\n\tpass"
    )
    if not isinstance(hooks, Iterable):
        raise TypeError(f"Expected iterable for '{option}'; got {type(hooks).__name__} instead. {example}")
    own = list(cast("Iterable[Any]", hooks))
    for hook in own:
        if not callable(hook):
            raise TypeError(f"Expected callables in '{option}'; got {type(hook).__name__} instead. {example}")
    return own


def check_retries(retries: object) -> int:
    """Give the number of retries.

    Raises:
        TypeError: It is no whole number.
        ValueError: It is negative.
    """
    if not isinstance(retries, int):
        raise TypeError(f"Expected an integer for 'retries'; got {type(retries).__name__} instead.")
    if retries < 0:
        raise ValueError("`retries` must be >= 0.")
    return retries


def check_delay(delay: object) -> float:
    """Give one retry delay in seconds.

    Raises:
        TypeError: It is no number.
        ValueError: It is negative.
    """
    if isinstance(delay, bool) or not isinstance(delay, (int, float)):
        raise TypeError(f"Expected a number of seconds for 'retry_delay_seconds'; got {type(delay).__name__} instead.")
    if not delay >= 0:  # also refuses NaN
        raise ValueError("`retry_delay_seconds` must be >= 0.")
    return delay


def resolve_delays(delays: object, retries: int) -> Delays:
    """Give the delays before retries: one for all, or one for each.

    Args:
        delays: A number, an iterable of numbers, or a callable that gives one of these for a number of retries.
        retries: That number.

    Returns:
        A number, or a new list.

    Raises:
        TypeError: It is none of these.
        ValueError: There are more than fifty, or one is negative.

    Example:
        >>> resolve_delays(lambda retries: [2.0**n for n in range(retries)], 3)
        [1.0, 2.0, 4.0]
    """
    if callable(delays):
        delays = delays(retries)
    if isinstance(delays, str) or not isinstance(delays, Iterable):
        return check_delay(delays)
    own = [check_delay(delay) for delay in cast("Iterable[object]", delays)]
    if len(own) > MAX_RETRY_DELAYS:
        raise ValueError(f"Can not configure more than {MAX_RETRY_DELAYS} retry delays per task.")
    return own


def exponential_backoff(backoff_factor: float) -> Callable[[int], list[float]]:
    """Make a `retry_delay_seconds` whose delays double.

    Args:
        backoff_factor: The first delay, in seconds.

    Returns:
        A callable that gives the delays for a number of retries, at most fifty.

    Example:
        >>> exponential_backoff(10)(3)
        [10, 20, 40]
    """

    def delays(retries: int) -> list[float]:
        return [backoff_factor * 2**n for n in range(min(retries, MAX_RETRY_DELAYS))]

    return delays


def check_jitter(factor: float | None) -> float | None:
    """Refuse a jitter that would shorten delays below nothing.

    Raises:
        ValueError: It is negative.
    """
    if factor is not None and not factor >= 0:
        raise ValueError("`retry_jitter_factor` must be >= 0.")
    return factor


def check_timeout(seconds: float | None) -> float | None:
    """Give a deadline in seconds; nothing and zero mean none.

    Raises:
        TypeError: It is no number.
        ValueError: It is negative, or a text that is no number.
    """
    if not seconds:
        return None
    try:
        converted = float(seconds)
    except (TypeError, ValueError) as error:
        raise type(error)(f"Expected a number of seconds for 'timeout_seconds'; got {seconds!r} instead.") from None
    if not converted >= 0:
        raise ValueError("`timeout_seconds` must be >= 0.")
    return converted


def check_callable(fn: object, option: str) -> None:
    """Refuse a function among the options that cannot be called.

    Raises:
        TypeError: It cannot.
    """
    if fn is not None and not callable(fn):
        raise TypeError(f"Expected `{option}` to be callable, got {type(fn).__name__} instead.")


def keep_falsy(given: Any, current: Any) -> Any:
    """Choose an option of `with_options` where everything falsy means "keep"."""
    return given or current


def keep_none(given: Any, current: Any) -> Any:
    """Choose an option of `with_options` where only `None` means "keep"."""
    return current if given is None else given


def keep_unset(given: Any, current: Any) -> Any:
    """Choose an option of `with_options` where only leaving it out means "keep"."""
    return current if given is NotSet else given


def check_tags(given: Iterable[str] | None) -> set[str]:
    """Give tags as a set.

    Raises:
        TypeError: It is a text, whose letters would become tags, or a member is no text.
    """
    if isinstance(given, str):
        raise TypeError("Expected an iterable of strings for 'tags'; got str instead.")
    own = set(given or ())
    for tag in own:
        if not isinstance(tag, str):  # pyright: ignore[reportUnnecessaryIsInstance] - as users may pass anything
            raise TypeError(f"Expected an iterable of strings for 'tags'; got the member {tag!r}.")
    return own


def check_on_change(given: str) -> str:
    """Check what a run does whose calls are not those that it has recorded.

    Raises:
        ValueError: It is none of the three.
    """
    if given not in ("rerun", "fail", "ignore"):
        raise ValueError(f"`on_change` must be 'rerun', 'fail' or 'ignore', not {given!r}.")
    return given
