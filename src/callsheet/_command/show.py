"""How the command writes: JSON, tables for people, and lines with tabs for other programs."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from datetime import datetime, timedelta
from importlib.util import find_spec
from typing import Any

import msgspec


def as_json(value: Any) -> None:
    """Write a value as one line of JSON."""
    print(msgspec.json.encode(value, enc_hook=str).decode())


def table(titles: Sequence[str], rows: Sequence[Sequence[str]], *, heading: str | None = None) -> None:
    """Write a table: with tabs and without titles where the output is not a terminal."""
    if not sys.stdout.isatty():
        for row in rows:
            print("\t".join(cell.replace("\t", " ").replace("\n", " ") for cell in row))
        return
    if find_spec("rich") is not None:
        _rich(titles, rows, heading)
        return
    if heading is not None:
        print(heading)
    widths = [max(map(len, column)) for column in zip(titles, *rows, strict=True)]
    for row in (titles, *rows):
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def _rich(titles: Sequence[str], rows: Sequence[Sequence[str]], heading: str | None) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    made = Table(title=heading, title_justify="left", box=None, pad_edge=False)
    for title in titles:
        made.add_column(title, overflow="fold", no_wrap=title == "ID")
    for row in rows:
        made.add_row(*map(Text, row))
    Console().print(made)


def moment(at: datetime | None) -> str:
    """Write a time as people read it, in their own zone; to the second."""
    return "-" if at is None else at.astimezone().strftime("%Y-%m-%d %H:%M:%S")


def duration(took: timedelta) -> str:
    """Write a duration."""
    seconds = took.total_seconds()
    if seconds < 60:
        return f"{seconds:.2f}s"
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes:02d}m{seconds:02d}s" if hours else f"{minutes}m{seconds:02d}s"
