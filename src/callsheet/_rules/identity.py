"""Which task run of an earlier life of a flow run is which: identities that survive a crash.

An identity is made of the parent's identity, the branch of the parent's body that made the call, the task's
key, and the ordinal of that key in the branch. Branches are named by what is the same in every life:

* the parent's own body is `ROOT`;
* an element of `map` or `submit` is (call, index);
* any other task of an event loop that the user started is named by the first call made in it (key, digest of
  the inputs, and the how-manieth such branch it is).

So neither the order in which concurrent branches happen to run nor inputs that differ every time (a clock, a
random number) give a call another identity, except where such inputs belong to a branch's first call.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from hashlib import blake2b
from struct import Struct
from typing import Final

ROOT: Final = b""
_SIZE: Final = 16
_begun: Final = blake2b(digest_size=_SIZE).copy  # to begin by a copy takes two thirds of the time
_PROBED: Final = 4  # first elements, one of which is known of any `map` that counts
_LENGTHS: Final = Struct("<HHIQ").pack  # lengths before contents: "ab"+"c" is not "a"+"bc"


def task_identity(parent: bytes, branch: bytes | str, key: str, ordinal: int) -> bytes:
    """Give the identity of a call.

    Args:
        parent: identity of the run whose body calls; of a flow run, the bytes of its id.
        branch: the branch of that body.
        key: of the task or flow.
        ordinal: how many calls of this key came before it in the branch.

    Returns:
        16 bytes.

    Example:
        >>> task_identity(b"run", ROOT, "load", 0) == task_identity(b"run", ROOT, "load", 1)
        False
    """
    where = branch.encode() if isinstance(branch, str) else branch
    what = key.encode()
    lengths = _LENGTHS(len(parent), len(where), len(what), ordinal)
    digest = _begun()
    digest.update(lengths + parent + where + what)
    return digest.digest()


def keyed_identity(parent: bytes, journal_key: str) -> bytes:
    """Give the identity of a call that the user named (`with_options(journal_key=…)`), in whatever branch."""
    return blake2b(journal_key.encode() + parent, digest_size=_SIZE, person=b"journal key").digest()


class Branches:
    """Counts the calls of one run's body, branch by branch, and names them.

    Memory: one integer for each key in each branch that lives, and one for each different first call of a
    foreign branch. What a run's elements or sequential calls are many of costs nothing more.

    Args:
        parent: identity of the run.

    Example:
        >>> branches = Branches(b"run")
        >>> branches.identify(ROOT, "load") == task_identity(b"run", ROOT, "load", 0)
        True
        >>> branches.identify(ROOT, "load") == task_identity(b"run", ROOT, "load", 1)
        True
    """

    __slots__ = ("_again", "_ordinals", "_seen", "parent")

    def __init__(self, parent: bytes) -> None:
        self.parent = parent
        self._ordinals: dict[bytes, dict[str, int]] = {}
        self._seen: set[int] = set()
        self._again: dict[int, int] = {}

    def is_fresh(self) -> bool:
        """Tell whether nothing was counted yet."""
        return not (self._ordinals or self._seen)

    def identify(self, branch: bytes, key: str) -> bytes:
        """Give the identity of the next call of `key` in a branch. A `submit` or `map` is one call."""
        counts = self._ordinals.get(branch)
        if counts is None:
            counts = self._ordinals[branch] = {}
        ordinal = counts.get(key, 0)
        counts[key] = ordinal + 1
        return task_identity(self.parent, branch, key, ordinal)

    def anchor(self, key: str, digest: bytes | None) -> bytes:
        """Name a foreign branch by its first call: of `key`, with these inputs. Call it once a branch."""
        parts = _LENGTHS(len(key), len(digest or b""), 0, 0) + key.encode() + (digest or b"")
        name = blake2b(parts, digest_size=_SIZE, person=b"anchor").digest()
        # Half of the name is enough to tell first calls apart: two that share it are merely numbered.
        short = int.from_bytes(name[:8], "little")
        if short not in self._seen:
            self._seen.add(short)
            return name
        occurrence = self._again[short] = self._again.get(short, 0) + 1
        return element(name, occurrence)

    def forget(self, branch: bytes) -> None:
        """Drop the counts of a branch that has ended and makes no more calls."""
        self._ordinals.pop(branch, None)


def element(call: bytes, index: int) -> bytes:
    """Give the identity of one element of a `map` or `submit` call.

    Example:
        >>> element(b"call", 0) == element(b"call", 1)
        False
    """
    return blake2b(call + index.to_bytes(8, "little"), digest_size=_SIZE, person=b"element").digest()


def calls_of_body(parent: bytes, known: Iterable[tuple[str, bytes]]) -> dict[bytes, bytes]:
    """Tell which identities are calls that a body itself has made, in no branch.

    Args:
        parent: identity of the run whose body it is.
        known: key and identity of every call that is known, in whatever branch.

    Returns:
        For each such identity that of the call: the same, or for an element of a `map`, that of the `map`.

    Example:
        >>> one = task_identity(b"run", ROOT, "load", 1)
        >>> calls_of_body(b"run", [("load", one), ("load", task_identity(b"run", "a branch", "load", 0))]) == {one: one}
        True
    """
    identities = list(known)
    wanted, often = {identity for _, identity in identities}, Counter(key for key, _ in identities)
    found: dict[bytes, bytes] = {}
    for key, number in often.items():
        left = number
        for ordinal in range(_PROBED + number):
            call = task_identity(parent, ROOT, key, ordinal)
            some = [call] if call in wanted else [one for one in _elements(call, number, wanted) if one in wanted]
            found.update((one, call) for one in some)
            left -= len(some)
            if left <= 0:
                break
    return found


def _elements(call: bytes, number: int, wanted: set[bytes]) -> Iterable[bytes]:
    first = [element(call, index) for index in range(_PROBED)]
    if wanted.isdisjoint(first):
        return ()
    return (*first, *(element(call, index) for index in range(_PROBED, _PROBED + number)))
