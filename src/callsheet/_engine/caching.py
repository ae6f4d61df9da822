"""Which cache policy a task has, and whether its results are persisted: decided once, when it is defined."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any, cast

from callsheet._unset import NotSet

if TYPE_CHECKING:
    from callsheet.cache_policies import CachePolicy
    from callsheet.logging.loggers import EngineAdapter

    Policy = CachePolicy | None | type[NotSet]


class Kept:
    """A policy that `with_options` hands on untouched; nobody wants to be warned of it again."""

    __slots__ = ("policy",)

    def __init__(self, policy: Policy) -> None:
        self.policy = policy


def check_caching(policy: object, expires: object, storage_key: object) -> None:
    """Refuse options of caching that no run could use.

    Raises:
        TypeError: One is of a wrong type.
    """
    given = policy.policy if isinstance(policy, Kept) else policy
    if given is not None and given is not NotSet:
        _expect(
            callable(getattr(given, "compute_key", None)) and not isinstance(given, type),
            "a cache policy",
            "cache_policy",
            given,
        )
    _expect(expires is None or isinstance(expires, timedelta), "a timedelta", "cache_expiration", expires)
    _expect(storage_key is None or isinstance(storage_key, str), "a string", "result_storage_key", storage_key)


def _expect(met: bool, what: str, option: str, given: object) -> None:
    if not met:
        shown = f"the class {given.__name__}" if isinstance(given, type) else type(given).__name__
        raise TypeError(f"Expected {what} for '{option}'; got {shown} instead.")


def decide_persistence(
    task: Any, given: Policy | Kept, persist: bool | None
) -> tuple[Policy, CachePolicy | None, bool | None]:
    """Decide about a task under construction, whose other options are set.

    Args:
        task: The task.
        given: The cache policy that was passed.
        persist: The `persist_result` that was passed.

    Returns:
        The policy as it was passed, and the values of `cache_policy` and `persist_result`.
    """
    from callsheet.cache_policies import DEFAULT, NONE, CacheKeyFnPolicy

    quiet = isinstance(given, Kept)
    raw: Policy = given.policy if isinstance(given, Kept) else given
    policy = raw
    if task.cache_key_fn is not None:
        if not quiet and policy is not NotSet and policy is not None:
            _log().warning(
                "Both `cache_policy` and `cache_key_fn` are set on task %s. `cache_key_fn` will be used.", task
            )
        policy = CacheKeyFnPolicy(cache_key_fn=task.cache_key_fn)
    # Compared, not identified: a policy may have been pickled.
    real = policy is not None and policy != NONE and policy is not NotSet
    stored = (task.result_storage_key, task.result_storage, task.result_serializer)
    if persist is None and (real or any(option is not None for option in stored)):
        persist = True
    if persist is False:
        if real and not quiet:
            _log().warning("Ignoring `cache_policy` because `persist_result` is False")
        return raw, None if policy is None else NONE, persist
    if task.result_storage_key is not None:
        return raw, None, persist
    if policy is NotSet:
        return raw, DEFAULT, persist
    return raw, cast("CachePolicy | None", policy), persist


def _log() -> EngineAdapter:
    from callsheet.logging.loggers import engine_log  # a quarter of what a program's start costs

    return engine_log("callsheet.tasks")
