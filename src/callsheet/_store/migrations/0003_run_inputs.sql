-- What flow runs were handed while they ran: the schema and the answer of a pause, and what others sent. `value` is JSON.
CREATE TABLE run_input (
    run_id BLOB NOT NULL,
    key TEXT NOT NULL,
    id BLOB NOT NULL,
    at INTEGER NOT NULL,
    value TEXT NOT NULL,
    sender TEXT,
    PRIMARY KEY (run_id, key)
) WITHOUT ROWID;
