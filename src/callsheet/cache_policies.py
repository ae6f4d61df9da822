"""Cache policies: what decides that a task's recorded result is used instead of a run.

A policy makes a key of the task, its inputs and its surroundings. Runs with equal keys share one result. Keys are equal
in all processes and versions of Python. Where a policy cannot make a key that is certain, it raises, and the run is
not cached.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self, cast

from callsheet.utilities.cache_keys import check_key, closed_constants, hash_by_name
from callsheet.utilities.functions import source_digest
from callsheet.utilities.hashing import hash_objects, stable_hash

if TYPE_CHECKING:
    from callsheet.context import TaskRunContext

    Isolation = Literal["READ_COMMITTED", "SERIALIZABLE"]

__all__ = [
    "DEFAULT",
    "FLOW_PARAMETERS",
    "INPUTS",
    "NONE",
    "RUN_ID",
    "TASK_SOURCE",
    "CacheKeyFnPolicy",
    "CachePolicy",
    "CompoundCachePolicy",
    "FlowParameters",
    "Inputs",
    "NoCaching",
    "RunId",
    "TaskSource",
]


@dataclass
class CachePolicy:
    """How a task's cache key is made, and where keys are kept. Subclasses say how, in `compute_key`.

    Policies are combined: `INPUTS + TASK_SOURCE` needs both to agree, `INPUTS - "debug"` leaves an input out.

    Args:
        key_storage: Where keys are kept: a folder, a URL or a storage object. Default: with the results.
        isolation_level: "SERIALIZABLE" makes runs with one key wait for each other.
        lock_manager: What they wait by.

    Example:
        >>> class ByName(CachePolicy):
        ...     def compute_key(self, task_ctx, inputs, flow_parameters, **kwargs):
        ...         return inputs["name"]
        >>> ByName().compute_key(task_ctx=None, inputs={"name": "ada"}, flow_parameters={})
        'ada'
    """

    key_storage: Any = field(default=None, kw_only=True)
    isolation_level: Any = field(default=None, kw_only=True)
    lock_manager: Any = field(default=None, kw_only=True)

    @classmethod
    def from_cache_key_fn(
        cls, cache_key_fn: Callable[[TaskRunContext, dict[str, Any]], str | None]
    ) -> CacheKeyFnPolicy:
        """Make a policy of a function.

        Args:
            cache_key_fn: Called with the task run's context and its parameters; gives the key, or `None` for none.

        Returns:
            The policy.

        Example:
            >>> policy = CachePolicy.from_cache_key_fn(lambda context, parameters: parameters["x"])
            >>> policy.compute_key(task_ctx=None, inputs={"x": "key"}, flow_parameters={})
            'key'
        """
        return CacheKeyFnPolicy(cache_key_fn=cache_key_fn)

    def configure(
        self, key_storage: Any = None, lock_manager: Any = None, isolation_level: Isolation | Any | None = None
    ) -> Self:
        """Give a copy that keeps its keys elsewhere, or lets runs with one key wait for each other.

        Args:
            key_storage: Where keys are kept: a folder, a URL or a storage object.
            lock_manager: What runs wait by; needed for "SERIALIZABLE".
            isolation_level: "READ_COMMITTED" or "SERIALIZABLE", or a member of `IsolationLevel`.

        Returns:
            The copy; what is left out stays as it is.

        Example:
            >>> INPUTS.configure(isolation_level="SERIALIZABLE").isolation_level
            'SERIALIZABLE'
        """
        made = copy.copy(self)
        for name, value in vars(self).items():
            if type(value) is list:  # of its own, as its author may add to it
                setattr(made, name, copy.copy(value))  # pyright: ignore[reportUnknownArgumentType]
        if key_storage is not None:
            made.key_storage = key_storage
        if lock_manager is not None:
            made.lock_manager = lock_manager
        if isolation_level is not None:
            made.isolation_level = isolation_level
        return made

    def compute_key(
        self, task_ctx: Any, inputs: dict[str, Any], flow_parameters: dict[str, Any], **kwargs: Any
    ) -> str | None:
        """Make the key of a run.

        Args:
            task_ctx: The task run's context.
            inputs: The task's parameters, resolved.
            flow_parameters: The parameters of the flow run around it.
            **kwargs: What later versions may add.

        Returns:
            The key, or `None` where this policy has nothing to say.

        Raises:
            Exception: The key cannot be made; the run is not cached.
        """
        raise NotImplementedError(f"{type(self).__name__} does not say how keys are made: define `compute_key`.")

    def __add__(self, other: CachePolicy | None) -> CachePolicy:
        """Give a policy whose keys are equal where those of both are."""
        if other is None or isinstance(other, NoCaching):
            return self
        if isinstance(self, NoCaching):
            return other
        if not isinstance(cast("object", other), CachePolicy):
            return NotImplemented
        return CompoundCachePolicy(policies=[*_parts(self), *_parts(other)], **_shared((self, other)))

    def __sub__(self, other: str) -> CachePolicy:
        """Give a policy for which the input of this name does not matter.

        Raises:
            TypeError: It is no name.
        """
        name = _name(other)
        return CompoundCachePolicy(policies=[self, Inputs(exclude=[name])], **_settings(self))


@dataclass
class CacheKeyFnPolicy(CachePolicy):
    """Makes the key by a function of the user's.

    Args:
        cache_key_fn: Called with the task run's context and its parameters.
    """

    cache_key_fn: Callable[[Any, dict[str, Any]], str | None] | None = None

    def compute_key(
        self, task_ctx: Any, inputs: dict[str, Any], flow_parameters: dict[str, Any], **kwargs: Any
    ) -> str | None:
        del flow_parameters, kwargs
        return None if self.cache_key_fn is None else self.cache_key_fn(task_ctx, inputs)


@dataclass
class CompoundCachePolicy(CachePolicy):
    """Makes the key of several policies' keys. Parts that have none are left out; without any part there is no key.

    Args:
        policies: The parts.

    Raises:
        ValueError: Parts keep their keys in different places, or are isolated differently.
    """

    policies: list[CachePolicy] = field(default_factory=list[CachePolicy])

    def __post_init__(self) -> None:
        self.policies = list(self.policies)
        for name, value in _shared((self, *self.policies)).items():
            setattr(self, name, value)

    def compute_key(
        self, task_ctx: Any, inputs: dict[str, Any], flow_parameters: dict[str, Any], **kwargs: Any
    ) -> str | None:
        parts: list[str] = []
        for position, policy in enumerate(self.policies):
            key = policy.compute_key(task_ctx=task_ctx, inputs=inputs, flow_parameters=flow_parameters, **kwargs)
            if key is not None:
                parts += (str(position), check_key(key))
        return stable_hash(*parts) if parts else None

    def __sub__(self, other: str) -> CachePolicy:
        name = _name(other)
        parts = [part - name if _has_inputs(part) else part for part in self.policies]
        if not any(map(_has_inputs, parts)):
            parts.append(Inputs(exclude=[name]))
        return CompoundCachePolicy(policies=parts, **_settings(self))


@dataclass
class Inputs(CachePolicy):
    """Makes the key of the task's inputs. A task without inputs has no such key.

    Args:
        exclude: Names of inputs that do not matter.

    Example:
        >>> key = Inputs(exclude=["debug"]).compute_key(None, {"x": 1, "debug": True}, {})
        >>> key == Inputs(exclude=["debug"]).compute_key(None, {"debug": False, "x": 1}, {})
        True
    """

    exclude: list[str] = field(default_factory=list[str])

    def __post_init__(self) -> None:
        excluded = cast("Iterable[str] | None", self.exclude)
        self.exclude = [excluded] if isinstance(excluded, str) else list(excluded or ())

    def compute_key(
        self, task_ctx: Any, inputs: dict[str, Any], flow_parameters: dict[str, Any], **kwargs: Any
    ) -> str | None:
        del task_ctx, flow_parameters, kwargs
        if not inputs:
            return None
        return hash_by_name({name: value for name, value in inputs.items() if name not in self.exclude}, "task inputs")

    def __sub__(self, other: str) -> CachePolicy:
        return Inputs(exclude=[*self.exclude, _name(other)], **_settings(self))


class TaskSource(CachePolicy):
    """Makes the key of the task's source: a changed task does not find its former results.

    Where there is no source to read, the byte code takes its place. Plain constants that the function takes from the
    scope around it count too, unless the function itself changes them.
    """

    def compute_key(
        self, task_ctx: Any, inputs: dict[str, Any], flow_parameters: dict[str, Any], **kwargs: Any
    ) -> str | None:
        del inputs, flow_parameters, kwargs
        if not task_ctx:
            return None
        task = task_ctx.task
        fn = getattr(task, "fn", task)
        own = getattr(task, "_digest", None)  # a task reads its source once
        digest = source_digest(fn) if own is None else own()
        if not digest:
            raise ValueError(f"{fn!r} has neither source nor byte code that could be compared.")
        constants = closed_constants(fn)
        return stable_hash(digest, hash_objects(constants, raise_on_failure=True) or "") if constants else digest


class RunId(CachePolicy):
    """Makes the key of the flow run's id, or outside of flows the task run's: nothing is shared between runs."""

    def compute_key(
        self, task_ctx: Any, inputs: dict[str, Any], flow_parameters: dict[str, Any], **kwargs: Any
    ) -> str | None:
        del inputs, flow_parameters, kwargs
        if not task_ctx:
            return None
        run = task_ctx.task_run
        return str(run.id if run.flow_run_id is None else run.flow_run_id)


class FlowParameters(CachePolicy):
    """Makes the key of the flow run's parameters. A flow without parameters has no such key."""

    def compute_key(
        self, task_ctx: Any, inputs: dict[str, Any], flow_parameters: dict[str, Any], **kwargs: Any
    ) -> str | None:
        del task_ctx, inputs, kwargs
        return hash_by_name(flow_parameters, "flow parameters") if flow_parameters else None


class NoCaching(CachePolicy):
    """Makes no key: nothing is cached. Added to another policy it changes nothing."""

    def compute_key(
        self, task_ctx: Any, inputs: dict[str, Any], flow_parameters: dict[str, Any], **kwargs: Any
    ) -> str | None:
        del task_ctx, inputs, flow_parameters, kwargs
        return None


# ------------------------------------------------------------------------------------------- combining


_SHARED = {
    "key_storage": "storage locations",
    "isolation_level": "isolation levels",
    "lock_manager": "lock implementations",
}


def _settings(policy: CachePolicy) -> dict[str, Any]:
    return {name: getattr(policy, name) for name in _SHARED}


def _shared(policies: Iterable[CachePolicy]) -> dict[str, Any]:
    """Give what several policies agree on about keys and locks.

    Raises:
        ValueError: They do not agree.
    """
    found: dict[str, Any] = dict.fromkeys(_SHARED)
    for policy in policies:
        for name, plural in _SHARED.items():
            given = getattr(policy, name)
            if given is None:
                continue
            if found[name] is None:
                found[name] = given
            elif _comparable(found[name]) != _comparable(given):
                raise ValueError(f"Cannot add CachePolicies with different {plural}.")
    return found


def _comparable(value: Any) -> Any:
    if isinstance(value, Path):
        return str(value)
    return getattr(value, "name", value) if not isinstance(value, str) else value


def _parts(policy: CachePolicy) -> list[CachePolicy]:
    return policy.policies if type(policy) is CompoundCachePolicy else [policy]


def _has_inputs(policy: CachePolicy) -> bool:
    if isinstance(policy, CompoundCachePolicy):
        return any(map(_has_inputs, policy.policies))
    return isinstance(policy, Inputs)


def _name(given: object) -> str:
    if not isinstance(given, str):
        raise TypeError(f"Only the name of an input can be taken from a cache policy; got {type(given).__name__}.")
    return given


INPUTS = Inputs()
TASK_SOURCE = TaskSource()
RUN_ID = RunId()
FLOW_PARAMETERS = FlowParameters()
NONE = NoCaching()
DEFAULT = INPUTS + TASK_SOURCE + RUN_ID
