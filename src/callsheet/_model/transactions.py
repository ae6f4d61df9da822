"""The vocabulary of transactions, which cache policies, result stores and lock managers share."""

from __future__ import annotations

from enum import Enum


class IsolationLevel(str, Enum):
    """What other transactions of the same key may do meanwhile.

    Attributes:
        READ_COMMITTED: anything; each sees what was committed.
        SERIALIZABLE: they wait: one at a time holds the lock of the key.
    """

    READ_COMMITTED = "READ_COMMITTED"
    SERIALIZABLE = "SERIALIZABLE"


class CommitMode(str, Enum):
    """When a transaction commits what was staged in it.

    Attributes:
        EAGER: when its own block ends.
        LAZY: when the outermost block ends.
        OFF: only if it is told to, or if a parent commits; an outermost one rolls back.
    """

    EAGER = "EAGER"
    LAZY = "LAZY"
    OFF = "OFF"


class TransactionState(str, Enum):
    """How far a transaction has come."""

    PENDING = "PENDING"
    ACTIVE = "ACTIVE"
    STAGED = "STAGED"
    COMMITTED = "COMMITTED"
    ROLLED_BACK = "ROLLED_BACK"
