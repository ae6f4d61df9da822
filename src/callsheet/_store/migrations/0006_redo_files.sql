-- Batches that are durable and not in the tables yet are in a file of each process: see redo.py. Here is how far each of
-- these is settled, and how many transactions its owner has made.
CREATE TABLE redo_log (
    owner INTEGER PRIMARY KEY,
    name TEXT NOT NULL,
    settled INTEGER NOT NULL,
    epoch INTEGER NOT NULL
);
-- A program that does not know of these files would take over runs without what they hold.
INSERT OR REPLACE INTO meta VALUES ('min_writer', 6);
