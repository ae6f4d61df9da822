"""Values nested in what users pass and return: find them, trace them, replace them.

Entered are lists, tuples, sets, dicts (keys too), their subclasses, dataclasses, msgspec structs, pydantic models and
annotation wrappers. Never entered: `quote`, strings, arrays, generators, mappings that are no dicts, and the records
of this package (a flow run that is passed as an argument is data, the state inside it no input).

Most arguments hold nothing of interest, so that case is the one that must cost nothing: a class is classified once,
and a container is left behind as soon as the classes of its members say that nothing can be in there.
"""

# Values of any type are looked at here, and what pyright narrows of them it calls unknown.
# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false, reportUnknownMemberType=false

from __future__ import annotations

import copy
import dataclasses
import sys
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from typing import Any, Final, TypeVar

import msgspec

from callsheet.annotations import BaseAnnotation, quote
from callsheet.exceptions import NestedTooDeeply

T = TypeVar("T")
Replacer = Callable[[Any], Any]

LEAF: Final = 0  # holds nothing, or nothing that is ours to look at
MATCH: Final = 1
SEQUENCE: Final = 2
MAPPING: Final = 3
OBJECT: Final = 4
WRAPPER: Final = 5
QUOTE: Final = 6

_SEQUENCES: Final = (list, tuple, set, frozenset)
_ABSENT: Final = object()
_FEW: Final = 24  # members, below which asking each is faster than asking for their classes
_REMEMBERED: Final = 4096  # classes; programs that make classes without end must not fill the memory


def find(value: Any, types: tuple[type, ...]) -> list[Any]:
    """Give every instance of `types` in a value, each object once, in the order of appearance.

    An instance found is not looked into.

    Example:
        >>> find({"a": [1, "x", 2.5], 3.5: ("y",)}, (float,))
        [3.5, 2.5]
    """
    kinds = _kinds(types)
    if _is_plain(value, kinds):
        return []
    if kinds[type(value)] == MATCH:
        return [value]
    found: dict[int, Any] = {}
    seen: dict[int, Any] = {}
    todo = [value]
    while todo:
        item = todo.pop()
        kind = kinds[type(item)]
        if kind == MATCH:
            found[id(item)] = item
        elif kind != QUOTE and id(item) not in seen:
            seen[id(item)] = item
            todo += [member for members in _members(item, kind) for member in _loud(members, kinds)][::-1]
    return list(found.values())


def trace(value: Any, known: Mapping[int, T]) -> list[T]:
    """Give what is known, by identity, of a value and of everything nested in it.

    Args:
        value: Anything.
        known: What is known of an object, by its `id`. Whoever fills it keeps those objects alive.

    Returns:
        The entries of `known`, each once, in the order of appearance.

    Example:
        >>> a, b = object(), object()
        >>> trace([a, {"x": (b, a)}], {id(a): "A", id(b): "B"})
        ['A', 'B']
    """
    if not known:
        return []
    kinds = _kinds(())
    hits: dict[int, T] = {}
    seen: dict[int, Any] = {}
    todo = [value]
    while todo:
        item = todo.pop()
        if id(item) in known:
            hits[id(item)] = known[id(item)]
        kind = kinds[type(item)]
        if kind in {LEAF, QUOTE} or id(item) in seen:
            continue
        seen[id(item)] = item
        todo += [found for members in _members(item, kind) for found in _known_or_loud(members, known, kinds)][::-1]
    return list(hits.values())


def replace(
    value: Any,
    types: tuple[type, ...],
    fn: Replacer,
    *,
    inside: Mapping[type, Replacer] | None = None,
    strip: tuple[type, ...] = (),
) -> Any:
    """Give a value with every instance of `types` in it replaced by `fn(instance)`.

    Containers are rebuilt only along the paths that hold an instance: everything else, and a value without any, is
    the same object as before. What is rebuilt keeps its class (lists of this package become plain lists), its
    attributes and its cycles; validation and `__init__` are not run again.

    Args:
        value: Anything.
        types: What to replace. An instance is not looked into.
        fn: Gives the replacement.
        inside: For annotation wrappers: which function gives the replacement inside of such a wrapper, instead of
            `fn`. The innermost wrapper that is named here decides.
        strip: Annotation wrappers to take off. The content of a `quote` stays as it is.

    Returns:
        The value, rebuilt where needed.

    Raises:
        NestedTooDeeply: An instance is too many levels deep to be replaced.

    Example:
        >>> replace({"a": [1, 2.5], "b": [3]}, (float,), str)
        {'a': [1, '2.5'], 'b': [3]}
    """
    kinds = _kinds(types)
    if _is_plain(value, kinds):
        return value
    if kinds[type(value)] == MATCH:
        return fn(value)
    holders = _holders(value, kinds, strip)
    if id(value) not in holders:
        return value
    rebuilding = _Rebuilding(kinds, holders, inside or {}, strip)
    try:
        return rebuilding.build(value, fn)
    except RecursionError as error:
        if error is rebuilding.theirs:
            raise
        raise NestedTooDeeply(
            f"A future or state is too many levels deep in this {type(value).__name__} for its result to be put in its "
            "place. Ask it for its result first, with `future.result()` or `await future`."
        ) from None


# --------------------------------------------------------------------------------------- classification


class _Kinds(dict[type, int]):
    """Which kind of thing the instances of a class are, found out once for a class."""

    __slots__ = ("_types",)

    def __init__(self, types: tuple[type, ...]) -> None:
        super().__init__()
        self._types = types

    def __missing__(self, cls: type) -> int:
        if len(self) >= _REMEMBERED:
            self.clear()
        kind = self[cls] = _classify(cls, self._types)
        return kind


@lru_cache(maxsize=64)
def _kinds(types: tuple[type, ...]) -> _Kinds:
    return _Kinds(types)


def _classify(cls: type, types: tuple[type, ...]) -> int:
    for bases, kind in (
        (types, MATCH),
        (quote, QUOTE),
        (BaseAnnotation, WRAPPER),
        (_SEQUENCES, SEQUENCE),
        (dict, MAPPING),
    ):
        if issubclass(cls, bases):
            return kind
    if _is_ours(cls):
        return LEAF
    return OBJECT if dataclasses.is_dataclass(cls) or _is_struct(cls) or _is_model(cls) else LEAF


def _is_ours(cls: type) -> bool:
    return cls.__module__.partition(".")[0] == "callsheet"


def _is_struct(cls: type) -> bool:
    return issubclass(cls, msgspec.Struct)


def _is_model(cls: type) -> bool:
    """Tell pydantic's models, of both generations, without importing pydantic: a model's class has done that."""
    for module in ("pydantic.main", "pydantic.v1.main"):
        base = getattr(sys.modules.get(module), "BaseModel", None)
        if base is not None and issubclass(cls, base):
            return True
    return False


def _is_plain(value: Any, kinds: _Kinds) -> bool:
    """Tell at once what nearly every value is: a leaf, or a small dict (of parameters) with nothing but leaves."""
    cls: type = type(value)
    if cls is not dict or len(value) > _FEW:
        return not kinds[cls]
    for item in (*value.values(), *value):  # noqa: SIM110 - half as slow as `all` of a generator
        if kinds[type(item)]:
            return False
    return True


def _loud(members: Iterable[Any], kinds: _Kinds) -> list[Any]:
    """Give the members that match or may hold what does."""
    held = list(members)  # in one step: another thread may be adding to them
    if len(held) <= _FEW:
        return [member for member in held if kinds[type(member)]]
    classes = list(map(type, held))
    # Counting the first class is twice as fast as a set of all, and most long lists hold one class.
    first = classes[0]
    distinct = {first} if classes.count(first) == len(classes) else set(classes)
    loud = {cls for cls in distinct if kinds[cls]}
    return [member for member in held if type(member) in loud] if loud else []


def _known_or_loud(members: Iterable[Any], known: Mapping[int, Any], kinds: _Kinds) -> list[Any]:
    held = list(members)
    if known.keys().isdisjoint(map(id, held)):
        return _loud(held, kinds)
    return [member for member in held if id(member) in known or kinds[type(member)]]


def _members(item: Any, kind: int) -> tuple[Iterable[Any], ...]:
    if kind == SEQUENCE:
        return (item,)
    if kind == MAPPING:
        return (item.keys(), item.values())
    if kind == WRAPPER:
        return ((item.unwrap(),),)
    return ([content for _, content in _attributes(item)],)


def _attributes(item: Any) -> list[tuple[str, Any]]:
    if isinstance(item, msgspec.Struct):
        names: Iterable[str] = item.__struct_fields__
    elif dataclasses.is_dataclass(item):
        names = [field.name for field in dataclasses.fields(item)]
    else:
        return [pair for part in _model_parts(item) for pair in part.items()]
    pairs = [(name, getattr(item, name, _ABSENT)) for name in names]
    return [pair for pair in pairs if pair[1] is not _ABSENT]


def _model_parts(model: Any) -> list[dict[str, Any]]:
    """Give the dicts in which a pydantic model keeps its fields, extra fields and private attributes."""
    parts = (model.__dict__, getattr(model, "__pydantic_extra__", None), getattr(model, "__pydantic_private__", None))
    return [part for part in parts if part]


# -------------------------------------------------------------------------------------------- rebuilding


def _holders(value: Any, kinds: _Kinds, strip: tuple[type, ...]) -> dict[int, Any]:
    """Give, by id, the containers from which a match can be reached, and the wrappers to be taken off."""
    parents: dict[int, list[Any]] = {}
    seen: dict[int, Any] = {}  # keeps what was looked at alive, or its id could pass to another object
    dirty: list[Any] = []
    todo = [value]
    while todo:
        item = todo.pop()
        if id(item) in seen:
            continue
        seen[id(item)] = item
        kind = kinds[type(item)]
        if kind in {WRAPPER, QUOTE} and isinstance(item, strip):
            dirty.append(item)
        if kind == QUOTE:
            continue
        for members in _members(item, kind):
            for member in _loud(members, kinds):
                if kinds[type(member)] == MATCH:
                    dirty.append(item)
                else:
                    parents.setdefault(id(member), []).append(item)
                    todo.append(member)
    holders: dict[int, Any] = {}
    while dirty:
        item = dirty.pop()
        if id(item) not in holders:
            holders[id(item)] = item
            dirty += parents.get(id(item), ())
    return holders


class _Rebuilding:
    """One replacement under way. Mutable containers are made empty and then filled, so that cycles close."""

    __slots__ = ("_holders", "_inside", "_kinds", "_made", "_strip", "theirs")

    def __init__(
        self, kinds: _Kinds, holders: dict[int, Any], inside: Mapping[type, Replacer], strip: tuple[type, ...]
    ) -> None:
        self._kinds = kinds
        self._holders = holders
        self._inside = inside
        self._strip = strip
        self._made: dict[tuple[int, int], Any] = {}
        self.theirs: RecursionError | None = None  # raised by a replacer: how a run failed, maybe

    def build(self, value: Any, fn: Replacer) -> Any:
        kind = self._kinds[type(value)]
        if kind == MATCH:
            try:
                return fn(value)
            except RecursionError as error:
                self.theirs = error
                raise
        if not kind or id(value) not in self._holders:
            return value
        key = (id(value), id(fn))
        if key in self._made:
            return self._made[key]
        if kind == SEQUENCE:
            return self._sequence(value, fn, key)
        if kind == MAPPING:
            return self._mapping(value, fn, key)
        if kind == OBJECT:
            return self._object(value, fn, key)
        return self._wrapper(value, fn)

    def _sequence(self, value: Any, fn: Replacer, key: tuple[int, int]) -> Any:
        if issubclass(type(value), list):
            made = self._made[key] = _empty_list(value)
            made.extend([self.build(item, fn) for item in list(value)])
            return made
        items = [self.build(item, fn) for item in list(value)]
        if key not in self._made:  # else a cycle through a mutable member has made it meanwhile
            self._made[key] = _like(value, items)
        return self._made[key]

    def _mapping(self, value: Any, fn: Replacer, key: tuple[int, int]) -> Any:
        made = self._made[key] = {} if type(value) is dict else copy.copy(value)
        made.clear()
        for name, item in list(value.items()):
            made[self.build(name, fn)] = self.build(item, fn)
        return made

    def _object(self, value: Any, fn: Replacer, key: tuple[int, int]) -> Any:
        if _is_model(type(value)):
            # Models of pydantic 1 share their fields with what `copy.copy` makes of them.
            made = self._made[key] = copy.copy(value) if hasattr(value, "__copy__") else value.copy()
            for part in _model_parts(made):
                part.update({name: self.build(item, fn) for name, item in part.items()})
            return made
        made = self._made[key] = copy.copy(value)
        assign = msgspec.structs.force_setattr if isinstance(value, msgspec.Struct) else object.__setattr__
        for name, item in _attributes(value):
            new = self.build(item, fn)
            if new is not item:
                assign(made, name, new)
        return made

    def _wrapper(self, value: Any, fn: Replacer) -> Any:
        content = value.unwrap()
        if not isinstance(value, quote):
            chosen = next((found for kind, found in self._inside.items() if isinstance(value, kind)), fn)
            content = self.build(content, chosen)
        return content if isinstance(value, self._strip) else value.rewrap(content)


def _empty_list(value: list[Any]) -> list[Any]:
    if type(value) is list or _is_ours(type(value)):
        return []
    made = copy.copy(value)
    made.clear()
    return made


def _like(value: Any, items: list[Any]) -> Any:
    cls: Any = type(value)
    if not issubclass(cls, tuple):
        return cls(items)
    make: Callable[[list[Any]], Any] | None = getattr(cls, "_make", None)  # of named tuples
    return tuple.__new__(cls, items) if make is None else make(items)
