"""Cache policies. They can be chosen and combined into constants; a task that uses one cannot run yet."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec


class CachePolicy(msgspec.Struct, frozen=True, kw_only=True):
    """How a task's cache key is made."""

    def compute_key(self, **_: Any) -> str | None:
        """Make the key. Not implemented yet."""
        raise NotImplementedError("cache_policy")


class CacheKeyFnPolicy(CachePolicy, frozen=True, kw_only=True):
    """Makes the key by a function of the user's."""

    cache_key_fn: Callable[..., str | None]


class CompoundCachePolicy(CachePolicy, frozen=True, kw_only=True):
    """Makes the key of several policies' keys."""

    policies: tuple[CachePolicy, ...]


class Inputs(CachePolicy, frozen=True, kw_only=True):
    """Makes the key of the task's inputs."""

    exclude: tuple[str, ...] = ()


class TaskSource(CachePolicy, frozen=True, kw_only=True):
    """Makes the key of the task's source."""


class RunId(CachePolicy, frozen=True, kw_only=True):
    """Makes the key of the flow run's id."""


class FlowParameters(CachePolicy, frozen=True, kw_only=True):
    """Makes the key of the flow run's parameters."""


class NoCaching(CachePolicy, frozen=True, kw_only=True):
    """Makes no key: nothing is cached."""


INPUTS = Inputs()
TASK_SOURCE = TaskSource()
RUN_ID = RunId()
FLOW_PARAMETERS = FlowParameters()
NONE = NoCaching()
DEFAULT = CompoundCachePolicy(policies=(INPUTS, TASK_SOURCE, RUN_ID))
