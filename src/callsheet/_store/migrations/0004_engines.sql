-- Engines that own root runs. `beat` counts signs of life while any of those is alive; no time of day is compared. `file` is
-- the engine's lock file, which means something to processes of the same `machine`. `flows` is JSON: the keys of the flows
-- whose runs the engine takes up. An engine whose row is `lost`, or gone, commits nothing any more.
CREATE TABLE engine (
    id BLOB PRIMARY KEY,
    beat INTEGER NOT NULL,
    lease_us INTEGER NOT NULL,
    machine TEXT NOT NULL,
    file TEXT NOT NULL,
    pid INTEGER NOT NULL,
    host TEXT NOT NULL,
    started INTEGER NOT NULL,
    lost INTEGER NOT NULL DEFAULT 0,
    flows TEXT NOT NULL DEFAULT '[]'
) WITHOUT ROWID;
-- Root runs belong to an engine until they have ended or are suspended; what is below them belongs to the same one.
ALTER TABLE run ADD COLUMN owner BLOB;
ALTER TABLE run ADD COLUMN recoveries INTEGER NOT NULL DEFAULT 0;
CREATE INDEX run_by_owner ON run (owner, id) WHERE owner IS NOT NULL;
-- Orders and signals. They go to the engine that owns the root run, which answers in the same row. Numbers do not come back.
CREATE TABLE mailbox (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    to_engine BLOB NOT NULL,
    to_run BLOB,
    name TEXT NOT NULL,
    body BLOB,
    at INTEGER NOT NULL,
    reply_to BLOB,
    answered INTEGER,
    answer BLOB
);
CREATE INDEX mailbox_by_engine ON mailbox (to_engine, id);
CREATE INDEX mailbox_by_run ON mailbox (to_run, name, id) WHERE to_run IS NOT NULL;
