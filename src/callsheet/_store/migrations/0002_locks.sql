-- Locks by name that processes share: see locks.py. `beat` counts signs of life of the holder.
CREATE TABLE named_lock (
    key TEXT PRIMARY KEY,
    token TEXT NOT NULL,
    beat INTEGER NOT NULL,
    body BLOB NOT NULL
) WITHOUT ROWID;
