"""How much the journal takes at once, and how long it waits: figures that were measured, and what with others."""

from __future__ import annotations

from typing import Final

GATHER: Final = 0.015
"""Seconds that entries wait for company, unless somebody waits for them."""
SETTLE_AFTER: Final = 0.1
"""Seconds that batches stay in the redo log while more of them come, unless somebody waits to read them. (With 0.03, the tables
were written in pieces a third as long, and runs under load took a third longer.)"""
ON_THE_SPOT: Final = 256
"""Entries that a caller commits itself at most; more is left to the thread."""
MOST_ROWS: Final = 10_000
"""Entries that wait for their commit above which acknowledgements wait, too."""
MOST_BYTES: Final = 64 << 20
"""Bytes of the large ones among them, for the same."""
MOST_PER_COMMIT: Final = 2_000
"""Entries in one transaction: 8 ms for which other processes wait. (With 1,000, a map took a twentieth longer; 5,000 were
no faster, and took 3 MB more.)"""
MOST_LOGGED: Final = 5_000
"""Entries in the redo log above which the tables are written without waiting for more. (A full log makes callers wait.)"""
SETTLED_AT_ONCE: Final = 1_000
"""Entries of the redo log, about, that are written to the tables in one transaction: 5 ms in which no caller commits.
(With fewer, one run at a time became a quarter slower; in one go, callers waited for 60 ms.)"""
BEHIND: Final = 2_000
"""Entries that wait for their tables, about 20 ms of work for the journal's thread, above which whoever brings more lets it
have the interpreter's lock. Else it would have it every 5 ms for a moment, and fall behind by seconds."""
GIVE_WAY: Final = 32
"""Entries between two moments of that: it costs some microseconds, wanted or not, and the thread waits for half of these.
(`python -m benchmarks --only giving_way` measures what both are for.)"""
RETRY_LONGEST: Final = 2.0
"""Seconds between two attempts at a commit that fails, at most."""
