"""The mailbox: a row a letter, there from its sending until its sender has read the answer."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Any, Final
from uuid import UUID

import msgspec

from callsheet._model.letters import Letter
from callsheet._model.records import LetterAnswered, LetterDropped, LetterSent
from callsheet._store.queries import Query

LetterEntry = LetterSent | LetterAnswered | LetterDropped
_DAY: Final = 24 * 3600 * 1_000_000

_SEND: Final = (
    "INSERT INTO mailbox (reply_to, to_engine, to_run, name, body, at) SELECT ?, ?, ?, ?, ?, ?"
    " WHERE NOT EXISTS (SELECT 1 FROM mailbox WHERE to_run = ? AND name = ? AND reply_to = ?)"
)
_ANSWER: Final = "UPDATE mailbox SET answered = ?, answer = ? WHERE reply_to = ? AND answered IS NULL"
_DROP: Final = "DELETE FROM mailbox WHERE reply_to = ?"
_SWEEP: Final = "DELETE FROM mailbox WHERE at < ?"  # of senders that died before they read the answer
_COLUMNS: Final = "id, reply_to, to_engine, to_run, name, body, at, answered, answer"
_ARRIVED: Final = f"SELECT {_COLUMNS} FROM mailbox WHERE to_engine = ? AND id > ? AND answered IS NULL ORDER BY id"


def write(connection: sqlite3.Connection, entries: Sequence[LetterEntry]) -> None:
    """Write what was sent, answered and dropped. Writing it again changes nothing."""
    for entry in entries:
        token = entry.token.bytes
        match entry:
            case LetterSent():
                run = entry.to_run.bytes
                row = (token, entry.to_engine.bytes, run, entry.name, entry.body, entry.at, run, entry.name, token)
                connection.execute(_SEND, row)
            case LetterAnswered(answer=None):
                connection.execute(_DROP, (token,))
            case LetterAnswered():
                connection.execute(_ANSWER, (entry.at, entry.answer, token))
                connection.execute(_SWEEP, (entry.at - _DAY,))
            case LetterDropped():
                connection.execute(_DROP, (token,))


def arrived(connection: sqlite3.Connection, engine_id: UUID, after: int) -> tuple[Letter, ...]:
    """Give the letters to an engine that wait for it, in order of arrival."""
    return decoded(connection.execute(_ARRIVED, (engine_id.bytes, after)).fetchall())


def by_token(tokens: Sequence[UUID]) -> Query:
    """Give the statement for letters that somebody has sent. The mailbox is small."""
    marks = ",".join("?" * len(tokens))
    return Query(f"SELECT {_COLUMNS} FROM mailbox WHERE reply_to IN ({marks})", tuple(one.bytes for one in tokens))


def decoded(rows: Sequence[Sequence[Any]]) -> tuple[Letter, ...]:
    """Turn rows into letters."""
    return tuple(
        Letter(
            number=number,
            token=UUID(bytes=token),
            to_engine=UUID(bytes=to_engine),
            to_run=UUID(bytes=to_run),
            name=name,
            body=body,
            at=at,
            answered=answered,
            answer=answer,
        )
        for number, token, to_engine, to_run, name, body, at, answered, answer in rows
    )


class Letters:
    """The mailbox of a history in memory."""

    def __init__(self) -> None:
        self._numbers = 0
        self._letters: dict[UUID, Letter] = {}

    def note(self, entry: LetterEntry) -> None:
        """Keep what was sent, answered or dropped."""
        known = self._letters.get(entry.token)
        match entry:
            case LetterSent() if known is None:
                self._numbers += 1
                self._letters[entry.token] = Letter(
                    number=self._numbers,
                    token=entry.token,
                    to_engine=entry.to_engine,
                    to_run=entry.to_run,
                    name=entry.name,
                    body=entry.body,
                    at=entry.at,
                )
            case LetterAnswered() if known is not None and entry.answer is not None:
                if known.answered is None:
                    answered = msgspec.structs.replace(known, answered=entry.at, answer=entry.answer)
                    self._letters[entry.token] = answered
            case LetterAnswered(answer=None) | LetterDropped():
                self._letters.pop(entry.token, None)
            case _:
                pass

    def arrived(self, engine_id: UUID, after: int) -> tuple[Letter, ...]:
        """Give the letters to an engine that wait for it, in order of arrival."""
        waiting = [one for one in self._letters.values() if one.to_engine == engine_id and one.answered is None]
        return tuple(one for one in waiting if one.number > after)

    def by_token(self, tokens: Sequence[UUID]) -> tuple[Letter, ...]:
        """Give letters that somebody has sent."""
        return tuple(self._letters[token] for token in tokens if token in self._letters)
