"""Prints the keys of many values. Run by interpreters of several versions, which must agree."""

import collections
import dataclasses
import datetime as dt
import decimal
import enum
import fractions
import functools
import ipaddress
import pathlib
import re
import uuid

from callsheet.cache_policies import FLOW_PARAMETERS, INPUTS, TASK_SOURCE
from callsheet.utilities.hashing import hash_objects


class Flags(enum.Flag):
    A = 1
    B = 2


@dataclasses.dataclass
class Point:
    x: int
    tags: set[str]


class Slotted:
    __slots__ = ("a", "b")

    def __init__(self) -> None:
        self.a, self.b = {"z", "y", "x"}, 1


class Money(decimal.Decimal):
    pass


Pair = collections.namedtuple("Pair", "a b")


def function(a, b={"x", "y"}):
    return a in {"p", "q", "r"}, b


class Context:
    task = function


VALUES = [
    None, True, 1, 1.0, -0.0, float("nan"), 10**30, "é\U0001fae8\ud800", b"x", bytearray(b"x"), 1j, ..., range(3),
    [1, 2, 3], (1, 2, 3), [1.5, 2.5], [True, False], [1, True, "a"], [10**20], [], {}, {"b": {3, 1, "x"}, "a": {}},
    {1: "a", "1": "b"}, {(1, 2): {frozenset({"a", "b"})}}, slice(1, 2), [[1], [[2]]],
    dt.datetime(2024, 1, 1, tzinfo=dt.UTC), dt.datetime(2024, 1, 1), dt.time(1),
    dt.date(2024, 1, 1), dt.timedelta(1, 2, 3),
    dt.timezone(dt.timedelta(hours=1)), decimal.Decimal("1.0e5"), Money("3"), fractions.Fraction(1, 3),
    pathlib.Path("/a/b"), pathlib.PureWindowsPath("x"), uuid.UUID(int=5), Flags.A, Flags.A | Flags.B, Flags(0),
    Point(1, {"a", "b", "c"}), Slotted(), Pair(1, 2), ValueError("x"), re.compile("a"), ipaddress.ip_address("1.2.3.4"),
    collections.Counter("abca"), collections.deque([1, 2], 3), collections.OrderedDict(a=1, b=2),
    collections.defaultdict(list, {"a": [1]}), function, functools.partial(function, 1, b=3), Point, ValueError, len,
    [].append, "x".upper,
]  # fmt: skip

if __name__ == "__main__":
    for value in VALUES:
        print(hash_objects(value, raise_on_failure=True))
    print(INPUTS.compute_key(None, {"b": VALUES[3:9], "a": {"x", "y"}}, {}))
    print(FLOW_PARAMETERS.compute_key(None, {}, {"z": 1, "y": Point(1, {"a", "b"})}))
    print(TASK_SOURCE.compute_key(Context, {}, {}))
