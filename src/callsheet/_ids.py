"""Run ids (UUID version 7, RFC 9562) and readable run names."""

from __future__ import annotations

import os
import random
import threading
from collections.abc import Generator
from contextlib import contextmanager
from itertools import count
from uuid import UUID, SafeUUID, uuid5

from callsheet._clock import machine

_lock = threading.Lock()
_counted = count()  # ids of the latest millisecond in which there was one
_time = -1  # that millisecond
_random = random.Random(os.urandom(32))  # ids are unique, not secret: urandom a call costs 1.5 µs
_MASK_61 = (1 << 61) - 1
_VERSION_AND_VARIANT = (0x7 << 76) | (0x2 << 62)
_SEVEN_TO_EIGHT = (0x7 ^ 0x8) << 76
_new = object.__new__
# UUID.__init__ parses its many spellings for 1.5 µs; the two slots are all it sets.
_set_int = UUID.int.__set__  # type: ignore[attr-defined]
_set_is_safe = UUID.is_safe.__set__  # type: ignore[attr-defined]
_UNKNOWN = SafeUUID.unknown


def new_id() -> UUID:
    """Make an id whose order is the order of creation in this process (thread-safe).

    Example:
        >>> a, b = new_id(), new_id()
        >>> a < b, a.version
        (True, 7)
    """
    time_ns = machine.time_ns
    if time_ns() // 1_000_000 > _time:
        _begin_millisecond()
    # A clock that stands still or jumps back must not reorder ids: they count on, by a step that nobody else has. (So
    # RFC 9562, 6.2. New random bits for each id of a millisecond, under a lock, cost twice as much.)
    value = next(_counted)
    made = _new(UUID)
    _set_int(made, value)
    _set_is_safe(made, _UNKNOWN)
    return made


def _begin_millisecond() -> None:
    global _counted, _time
    with _lock:
        now = machine.time_ns() // 1_000_000
        if now <= _time:
            return  # another thread was quicker
        bits = _random.getrandbits(73)
        # 48 bits of time, the version, 12 random bits, the variant, a 0 that counting on has room in, 61 random bits.
        first = now << 80 | bits >> 61 << 64 | bits & _MASK_61 | _VERSION_AND_VARIANT
        _counted, _time = count(first, _random.getrandbits(32) + 1), now


@contextmanager
def repeatable(seed: int) -> Generator[None, None, None]:
    """Make the same ids, names and tokens for the same seed inside a block, in the whole process."""
    global _counted, _time
    before, state = (_counted, _time), _random.getstate()
    _random.seed(seed)
    _time = -1
    try:
        yield
    finally:
        _random.setstate(state)
        _counted, _time = before


def key_of_id(run_id: UUID) -> str:
    """Tell a run apart from others around it by twelve hexadecimal digits.

    Those that differ between runs of one millisecond come first: names of runs end with three of them.

    Example:
        >>> key_of_id(UUID(int=0xABCD_0123_4567))
        '01234567abcd'
    """
    return f"{run_id.int & 0xFFFF_FFFF:08x}{run_id.int >> 32 & 0xFFFF:04x}"


def new_token() -> str:
    """Make 32 hexadecimal digits that nobody else has."""
    return f"{_random.getrandbits(128):032x}"


def forget_after_fork() -> None:
    """Give a forked child its own lock (its parent's may have been held) and its own random bits."""
    global _lock, _time
    _lock = threading.Lock()
    _random.seed(os.urandom(32))
    _time = -1  # its parent counts on from where it was


os.register_at_fork(after_in_child=forget_after_fork)

_FIRST = [
    "able", "agile", "amber", "ample", "apt", "arctic", "azure", "bold", "brave", "breezy", "bright", "brisk",
    "calm", "candid", "cheery", "civil", "clear", "clever", "cosmic", "crisp", "curious", "dapper", "daring",
    "deft", "eager", "earnest", "easy", "elegant", "fair", "fancy", "festive", "fleet", "fluent", "frank", "fresh",
    "gentle", "gifted", "glad", "golden", "grand", "hardy", "honest", "humble", "ideal", "jolly", "keen", "kind",
    "lively", "loyal", "lucid", "lunar", "mellow", "merry", "mighty", "modest", "neat", "nimble", "noble", "novel",
    "olive", "patient", "placid", "plucky", "polite", "prime", "proud", "quick", "quiet", "rapid", "ready", "rosy",
    "royal", "rustic", "sage", "serene", "sharp", "silver", "sleek", "smart", "snug", "solar", "solid", "spry",
    "steady", "sturdy", "sunny", "supple", "swift", "tidy", "tranquil", "true", "upbeat", "valiant", "vivid",
    "warm", "wise", "witty", "zesty",
]  # fmt: skip
_SECOND = [
    "albatross", "alpaca", "antelope", "badger", "beaver", "bison", "bobcat", "buffalo", "camel", "caribou",
    "cheetah", "chipmunk", "cicada", "condor", "cormorant", "coyote", "crane", "cricket", "curlew", "dingo",
    "dolphin", "dragonfly", "eagle", "egret", "falcon", "ferret", "finch", "firefly", "flamingo", "gannet",
    "gazelle", "gecko", "gibbon", "goose", "grouse", "gull", "hare", "harrier", "hawk", "hedgehog", "heron",
    "hornet", "ibex", "ibis", "impala", "jackal", "jaguar", "kestrel", "kingfisher", "kite", "koala", "lapwing",
    "lark", "lemur", "leopard", "lizard", "llama", "lynx", "magpie", "mallard", "manatee", "mantis", "marlin",
    "marmot", "marten", "meerkat", "mole", "mongoose", "moose", "narwhal", "newt", "ocelot", "oriole", "osprey",
    "otter", "owl", "panther", "partridge", "pelican", "petrel", "pheasant", "plover", "puffin", "puma", "quail",
    "rabbit", "raven", "robin", "salmon", "seal", "shrike", "skylark", "sparrow", "starling", "stork", "swallow",
    "swan", "swift", "tapir", "tern", "thrush", "toucan", "trout", "turtle", "viper", "vole", "walrus", "warbler",
    "weasel", "whale", "wolf", "wombat", "woodpecker", "wren", "zebra",
]  # fmt: skip


def new_name() -> str:
    """Make a readable name for a flow run, such as ``plucky-otter``."""
    number = int(_random.random() * len(_FIRST) * len(_SECOND))  # a third of the price of two choices
    return f"{_FIRST[number // len(_SECOND)]}-{_SECOND[number % len(_SECOND)]}"


def state_id(run_id: UUID, seq: int) -> UUID:
    """Derive the id of a run's state from the run's id and the state's sequence number (version 8).

    Three random ids a run would cost more than the messages that carry them. The sequence number goes
    into the twelve bits beside the version, where two runs never differ alone.

    Example:
        >>> run = new_id()
        >>> state_id(run, 1) == state_id(run, 1), state_id(run, 1) == state_id(run, 2)
        (True, False)
    """
    made = _new(UUID)
    _set_int(made, run_id.int ^ _SEVEN_TO_EIGHT ^ ((seq & 0xFFF) << 64))
    _set_is_safe(made, _UNKNOWN)
    return made


_FLOWS = UUID("6b7c0f5e-5c1d-4c39-9d0c-3f6f6f0d7a51")


def flow_id(name: str) -> UUID:
    """Derive a flow's id from its name: every process and every database knows the same flow by the same id.

    Example:
        >>> flow_id("census") == flow_id("census"), flow_id("census").version
        (True, 5)
    """
    return uuid5(_FLOWS, name)
