"""One form of bytes for equal values, in every process, and another for every other value.

Numbers, texts, dates, collections and such go by what they are; functions by their source, defaults and closures;
other objects by what they give to `pickle`, taken apart and written here, so that neither shared references, nor the
order of sets and dicts, nor the version of Python show. What cannot be told apart in this way has no form at all:
no key is better than one that two different values share.
"""

from __future__ import annotations

import copyreg
import re
import struct
import sys
from collections import OrderedDict
from collections.abc import Callable, Iterable
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from fractions import Fraction
from hashlib import blake2b
from pathlib import PurePath
from types import BuiltinFunctionType, FunctionType, MappingProxyType, MethodType, ModuleType
from typing import TYPE_CHECKING, Any, Final, cast
from uuid import UUID, uuid4
from weakref import WeakKeyDictionary

from callsheet.utilities.functions import code_digest

if TYPE_CHECKING:
    from collections.abc import Generator

_LENGTH: Final = 32
_LONG: Final = 4096  # bytes of a part that is digested where it is
_PARTS: Final = 2_000_000  # values looked at one by one; more are a tangle of shared references without end
_SCALARS: Final = frozenset({bool, int, float, str, bytes, type(None)})
_ADDRESS: Final = re.compile(r"<[^<>]+ at 0x[0-9a-fA-F]+>")
_MAKERS: Final = frozenset({"__newobj__", "__newobj_ex__", "_reconstructor"})
_PACKED: Final = {int: "q", float: "d", bool: "?"}  # whole sequences of one of these go fast


class NoForm(TypeError):
    """A value that cannot be told apart from others."""


class OverBudget(BaseException):
    """A digest took longer than the place where it was asked for can wait. It passes through `except Exception`."""


class _Budget:
    __slots__ = ("bytes", "parts")

    def __init__(self, parts: int, bytes: int) -> None:
        self.parts = parts
        self.bytes = bytes


_budget: ContextVar[_Budget | None] = ContextVar("callsheet_digest_budget", default=None)


@contextmanager
def at_most(parts: int, bytes: int) -> Generator[None]:
    """Let digests inside the block look at so many values and bytes.

    Raises:
        OverBudget: They would have to look at more.
    """
    token = _budget.set(_Budget(parts, bytes))
    try:
        yield
    finally:
        _budget.reset(token)


def digest(value: object) -> bytes:
    """Digest a value.

    Args:
        value: Anything.

    Returns:
        32 bytes, the same for equal values of one type in every process.

    Raises:
        NoForm: The value, or something inside of it, has no canonical form.
        Exception: What the value's own methods raised while it was taken apart.

    Example:
        >>> digest({"a": {1, 2}, "b": 3}) == digest({"b": 3, "a": {2, 1}})
        True
        >>> digest(1) == digest(True)
        False
    """
    writer = _Writer(_budget.get() or _Budget(_PARTS, sys.maxsize), {})
    writer.write(value)
    return writer.done()


class _Writer:
    """Writes one value into one digest. Every part says how long it is, so that no two values run into each other."""

    __slots__ = ("_budget", "_hash", "_inside", "_path", "_waiting")

    def __init__(self, budget: _Budget, path: dict[int, int], *, inside: bool = False) -> None:
        self._hash = blake2b(digest_size=_LENGTH)
        self._waiting: list[bytes] = []  # short parts, which are digested together
        self._budget = budget
        self._path = path  # the containers around the current value, by address
        self._inside = inside  # of an object's own state, which its author has made, not the caller

    def done(self) -> bytes:
        self._hash.update(b"".join(self._waiting))
        self._waiting.clear()
        return self._hash.digest()

    def write(self, value: Any) -> None:
        """Write a value of any type."""
        self.spend(0)
        kind = cast("type[Any]", type(value))
        writer = _WRITERS.get(kind)
        if writer is not None:
            writer(self, value)
        else:
            self.around(value, lambda: self.anything(value, kind))

    def part(self, tag: str, data: bytes | memoryview = b"") -> None:
        name = tag.encode("utf-8", "surrogatepass")
        self._waiting.append(b"%d %s %d " % (len(name), name, len(data)))
        if len(data) < _LONG:
            self._waiting.append(bytes(data))
        else:
            self.done()
            self._hash.update(data)

    def spend(self, bytes: int) -> None:
        budget = self._budget
        budget.parts -= 1
        budget.bytes -= bytes
        if budget.parts < 0 or budget.bytes < 0:
            if _budget.get() is budget:
                raise OverBudget
            raise NoForm("it has too many parts to be looked at one by one")

    def apart(self, value: Any) -> bytes:
        """Digest a part by itself, where its place among others must not show."""
        writer = _Writer(self._budget, self._path, inside=self._inside)
        writer.write(value)
        return writer.done()

    def around(self, value: Any, write: Callable[[], None]) -> None:
        """Write something that may hold itself."""
        place = self._path.get(id(value))
        if place is not None:
            self.part("again", str(len(self._path) - place).encode())
            return
        self._path[id(value)] = len(self._path)
        try:
            write()
        finally:
            del self._path[id(value)]

    # ------------------------------------------------------------------------------------- plain values

    def text(self, value: str) -> None:
        if self._inside and " at 0x" in value and _ADDRESS.search(value):
            raise NoForm(f"it is described by an address: {value!r}")
        data = value.encode("utf-8", "surrogatepass")
        self.spend(len(data))
        self.part("str", data)

    def raw(self, value: bytes | bytearray) -> None:
        self.spend(len(value))
        self.part(type(value).__name__, bytes(value))

    def by(self, tag: str, *parts: Any) -> None:
        self.part(tag, str(len(parts)).encode())
        for part in parts:
            self.write(part)

    # -------------------------------------------------------------------------------------- collections

    def sequence(self, value: list[Any] | tuple[Any, ...]) -> None:
        name = type(value).__name__
        kinds = set(map(type, value))
        pack = _PACKED.get(kinds.pop()) if len(kinds) == 1 else None
        if pack is not None:
            self.spend(8 * len(value))
            try:
                packed = struct.pack(f"<{len(value)}{pack}", *value)
            except struct.error:  # integers over 64 bits
                pass
            else:
                self.part(f"{name} of {pack}", packed)
                return
        self.around(value, lambda: self.by(name, *value))

    def members(self, value: set[Any] | frozenset[Any]) -> None:
        self.part(type(value).__name__, b"".join(sorted(self.apart(item) for item in value)))

    def mapping(self, tag: str, value: Iterable[tuple[Any, Any]]) -> None:
        pairs = list(value)
        if all(type(key) is str for key, _ in pairs):
            self.part(f"{tag} by name", b"%d" % len(pairs))
            for key, item in sorted(pairs, key=_first):
                self.text(key)
                self.write(item)
        else:
            self.part(tag, b"".join(sorted(self.apart(key) + self.apart(item) for key, item in pairs)))

    # ------------------------------------------------------------------------------------ everything else

    def anything(self, value: Any, kind: type[Any]) -> None:
        if isinstance(value, Enum):
            self.by("enum", class_name(kind), value._name_)
            if type(value._value_) in _SCALARS:
                self.write(value._value_)
        elif isinstance(value, PurePath):
            self.by("path", _path_class(kind), str(value), dict(getattr(value, "__dict__", {})))
        elif isinstance(value, type):
            self.by("class", class_name(cast("type[Any]", value)), _class_source(cast("type[Any]", value)))
        elif hasattr(kind, "__canonical__"):
            self.by(class_name(kind), *value.__canonical__())
        elif kind.__name__ == "ndarray" and kind.__module__ == "numpy" and not value.dtype.hasobject:
            self.array(value)
        else:
            self.taken_apart(value, kind)

    def array(self, value: Any) -> None:
        self.by("array", repr(value.dtype.descr), tuple(map(int, value.shape)))
        rows = value if value.flags.c_contiguous else value.copy("C")
        data = memoryview(rows.reshape(-1).view("u1")) if rows.size and rows.itemsize else memoryview(b"")
        self.spend(data.nbytes)
        self.part("rows", data)

    def function(self, value: FunctionType) -> None:
        closure = [_content(cell) for cell in value.__closure__ or ()]
        self.around(
            value,
            lambda: self.by(
                "function", value.__module__, value.__qualname__, code_digest(value.__code__),
                value.__defaults__, value.__kwdefaults__, closure,
            ),
        )  # fmt: skip

    def builtin(self, value: BuiltinFunctionType) -> None:
        owner: Any = value.__self__
        if owner is None or isinstance(owner, ModuleType):
            self.by("builtin", value.__module__, value.__qualname__)
        else:
            self.around(value, lambda: self.by("builtin", value.__qualname__, owner))

    def taken_apart(self, value: Any, kind: type[Any]) -> None:
        """Write what an object would give to pickle."""
        if kind is object or hasattr(kind, "__next__") or isinstance(value, ModuleType):
            raise NoForm(f"a {class_name(kind)} has no value by which it could be told from others")
        reduce = copyreg.dispatch_table.get(kind)
        given: Any = reduce(value) if reduce is not None else value.__reduce_ex__(4)
        if isinstance(given, str):
            self.by("named", value.__module__ if hasattr(value, "__module__") else "", given)
            return
        parts: tuple[Any, ...] = (*given, None, None, None)
        make, args, state, items, pairs = parts[:5]
        self.part("object " + class_name(kind), _name_of(make).encode())
        inside, self._inside = self._inside, True
        try:
            if _name_of(make).rpartition(".")[2] in _MAKERS:  # it is named already
                args = args[1:]
            self.write(args)
            self.write(state)
            if items is not None:
                self.by("items", *items)
            if pairs is not None:
                self.mapping("pairs", pairs)
        finally:
            self._inside = inside


def _first(pair: tuple[Any, Any]) -> Any:
    return pair[0]


def _content(cell: Any) -> Any:
    try:
        return (cell.cell_contents,)
    except ValueError:  # assigned later
        return None


def _path_class(kind: type[Any]) -> str:
    # Where pathlib keeps its classes differs between versions of Python.
    return f"pathlib.{kind.__name__}" if kind.__module__.startswith("pathlib") else class_name(kind)


def _name_of(make: Any) -> str:
    return f"{getattr(make, '__module__', '')}.{getattr(make, '__qualname__', type(make).__qualname__)}"


_tokens: WeakKeyDictionary[type[Any], str] = WeakKeyDictionary()
_sources: WeakKeyDictionary[type[Any], str] = WeakKeyDictionary()


def class_name(kind: type[Any]) -> str:
    """Name a class. One that cannot be imported by its name may share it with others, so it gets a random mark.

    Example:
        >>> class_name(Fraction)
        'fractions.Fraction'
    """
    name = f"{kind.__module__}.{kind.__qualname__}"
    found: Any = sys.modules.get(kind.__module__)
    for part in kind.__qualname__.split("."):
        found = getattr(found, part, None)
    if found is kind:
        return name
    return f"{name} {_tokens.setdefault(kind, uuid4().hex)}"


def _class_source(kind: type[Any]) -> str:
    """Give the source of a class that is an input itself; empty where there is none to read."""
    source = _sources.get(kind)
    if source is None:
        import inspect

        try:
            source = inspect.getsource(kind)
        except (OSError, TypeError):
            source = ""
        _sources[kind] = source
    return source


def _float(writer: _Writer, value: float) -> None:
    writer.part("float", value.hex().encode())


def _time(writer: _Writer, value: time | datetime) -> None:
    writer.by(type(value).__name__, value.replace(tzinfo=None).isoformat(), value.fold, value.tzinfo)


_WRITERS: Final[dict[type[Any], Callable[[_Writer, Any], None]]] = {
    type(None): lambda w, _: w.part("None"),
    type(...): lambda w, _: w.part("..."),
    type(NotImplemented): lambda w, _: w.part("NotImplemented"),
    bool: lambda w, v: w.part("bool", b"1" if v else b"0"),
    int: lambda w, v: w.part("int", b"%x" % v),
    float: _float,
    complex: lambda w, v: w.by("complex", v.real, v.imag),
    str: _Writer.text,
    bytes: _Writer.raw,
    bytearray: _Writer.raw,
    list: _Writer.sequence,
    tuple: _Writer.sequence,
    set: lambda w, v: w.around(v, lambda: w.members(v)),
    frozenset: lambda w, v: w.around(v, lambda: w.members(v)),
    dict: lambda w, v: w.around(v, lambda: w.mapping("dict", v.items())),
    MappingProxyType: lambda w, v: w.around(v, lambda: w.mapping("mappingproxy", v.items())),
    OrderedDict: lambda w, v: w.around(v, lambda: w.by("OrderedDict", *v.items())),
    range: lambda w, v: w.by("range", v.start, v.stop, v.step),
    datetime: _time,
    time: _time,
    date: lambda w, v: w.part("date", v.isoformat().encode()),
    timedelta: lambda w, v: w.by("timedelta", v.days, v.seconds, v.microseconds),
    Decimal: lambda w, v: w.by("Decimal", *map(str, v.as_tuple())),
    Fraction: lambda w, v: w.by("Fraction", v.numerator, v.denominator),
    UUID: lambda w, v: w.part("UUID", v.bytes),
    FunctionType: _Writer.function,
    BuiltinFunctionType: _Writer.builtin,
    MethodType: lambda w, v: w.around(v, lambda: w.by("method", v.__func__, v.__self__)),
}
