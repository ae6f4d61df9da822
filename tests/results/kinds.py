"""Classes at the top of a module, as serializers need them."""

from __future__ import annotations

from collections import namedtuple
from dataclasses import dataclass, field
from enum import Enum, IntFlag
from typing import Any

import msgspec
from pydantic import BaseModel

Pair = namedtuple("Pair", "left right")


class Colour(Enum):
    RED = "red"
    MIXED = (1, 2)


class Flags(IntFlag):
    A = 1
    B = 2


@dataclass(frozen=True)
class Point:
    x: Any
    y: Any = field(default=0, init=False)


class Model(BaseModel):
    name: str
    inner: Any = None


class Record(msgspec.Struct):
    a: Any
    b: Any = None


class Odd(Exception):
    """Its constructor takes something else than it keeps as its arguments."""

    def __init__(self, *, code: int) -> None:
        super().__init__(f"code {code}")
        self.code = code


def shout(obj: Any) -> Any:
    return f"<{type(obj).__name__}>"


def whisper(found: dict[str, Any]) -> Any:
    return sorted(found)
