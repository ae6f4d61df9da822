-- History, version 1. Ids are the 16 bytes of a UUID (version 7: their order is the order of creation), times are
-- microseconds since the epoch, state types are numbers (0 SCHEDULED, 1 PENDING, 2 RUNNING, 3 COMPLETED, 4 FAILED,
-- 5 CANCELLED, 6 CRASHED, 7 PAUSED, 8 CANCELLING). A state_name that is NULL is the type's own name.
-- Migrations only add: an older program keeps working on a newer file until min_reader or min_writer says otherwise.

CREATE TABLE meta (
    key TEXT PRIMARY KEY,
    value INTEGER NOT NULL
) WITHOUT ROWID;

-- The id is a digest of the other columns, so that writers need no look-up and processes agree on it.
CREATE TABLE definition (
    id INTEGER PRIMARY KEY,
    kind INTEGER NOT NULL,
    key TEXT NOT NULL,
    name TEXT NOT NULL,
    code TEXT NOT NULL
);
CREATE INDEX definition_by_name ON definition (name, kind);

-- One row a run with the state it is in. What is never filtered is in `extra`; when a run ended is its state_at.
CREATE TABLE run (
    id BLOB PRIMARY KEY,
    kind INTEGER NOT NULL,
    definition_id INTEGER NOT NULL,
    parent_id BLOB,
    flow_run_id BLOB,
    root_id BLOB,
    parent_task_run_id BLOB,
    name TEXT NOT NULL,
    created INTEGER NOT NULL,
    due_at INTEGER,
    seq INTEGER NOT NULL,
    state_type INTEGER,
    state_name TEXT,
    state_at INTEGER,
    started INTEGER,
    attempt INTEGER NOT NULL,
    usual INTEGER NOT NULL DEFAULT 0, -- 1: entered Pending when it was created, 2: then Running, at `started`
    completed INTEGER, -- when it entered Completed as its third state
    extra BLOB,
    fence INTEGER NOT NULL DEFAULT 0,
    -- NULL for what completed, so that the many uneventful runs have no entry in the index below.
    notable INTEGER AS (nullif(state_type, 3)) VIRTUAL
) WITHOUT ROWID;
CREATE INDEX run_by_flow_run ON run (flow_run_id, id) WHERE flow_run_id IS NOT NULL;
CREATE INDEX run_notable ON run (kind, notable, id) WHERE notable IS NOT NULL;
CREATE INDEX run_of_flow ON run (id, definition_id) WHERE kind = 0;
CREATE INDEX run_tracked ON run (parent_task_run_id) WHERE parent_task_run_id IS NOT NULL;

-- Apart from the three states that nearly all runs go through: see every_state.
CREATE TABLE state (
    run_id BLOB NOT NULL,
    seq INTEGER NOT NULL,
    type INTEGER NOT NULL,
    name TEXT,
    at INTEGER NOT NULL,
    id BLOB, -- left out where it is derived from run and number
    message TEXT,
    details BLOB,
    PRIMARY KEY (run_id, seq)
) WITHOUT ROWID;

-- Every state of every run, also those of which nothing but the time is known.
CREATE VIEW every_state AS
    SELECT run_id, seq, type, name, at, id, message, details FROM state
    UNION ALL SELECT id, 1, 1, NULL, created, NULL, NULL, NULL FROM run
        WHERE usual & 1 AND NOT EXISTS (SELECT 1 FROM state WHERE run_id = run.id AND seq = 1)
    UNION ALL SELECT id, 2, 2, NULL, started, NULL, NULL, NULL FROM run
        WHERE usual & 2 AND NOT EXISTS (SELECT 1 FROM state WHERE run_id = run.id AND seq = 2)
    UNION ALL SELECT id, 3, 3, NULL, completed, NULL, NULL, NULL FROM run
        WHERE completed IS NOT NULL AND NOT EXISTS (SELECT 1 FROM state WHERE run_id = run.id AND seq = 3);

-- What finished inside a flow run, by the identity of the call. Rows are in order of runs (identities are random and
-- would dirty a page each); of several runs with one identity the newest counts.
CREATE TABLE outcome (
    flow_run_id BLOB NOT NULL,
    run_id BLOB NOT NULL,
    identity BLOB NOT NULL,
    status INTEGER NOT NULL,
    recorded INTEGER NOT NULL,
    inputs_digest BLOB,
    codec TEXT,
    size INTEGER,
    digest BLOB,
    uri TEXT,
    inline BLOB,
    PRIMARY KEY (flow_run_id, run_id)
) WITHOUT ROWID;

CREATE TABLE run_tag (
    run_id BLOB NOT NULL,
    tag TEXT NOT NULL,
    PRIMARY KEY (run_id, tag)
) WITHOUT ROWID;
CREATE INDEX run_tag_by_tag ON run_tag (tag, run_id);

-- Which runs' results went into a parameter; an empty source_id says that the parameter took none.
CREATE TABLE input (
    run_id BLOB NOT NULL,
    parameter TEXT NOT NULL,
    source_id BLOB NOT NULL,
    PRIMARY KEY (run_id, parameter, source_id)
) WITHOUT ROWID;

-- Apart from `run`, whose row is written again at every state.
CREATE TABLE parameters (
    run_id BLOB PRIMARY KEY,
    body BLOB NOT NULL
) WITHOUT ROWID;

CREATE TABLE run_key (
    definition TEXT NOT NULL,
    key TEXT NOT NULL,
    run_id BLOB NOT NULL,
    expires INTEGER,
    PRIMARY KEY (definition, key)
) WITHOUT ROWID;

-- scope_id is the flow run, or the task run of a task outside of flows, or empty. `n` tells apart what one process
-- logged in one microsecond.
CREATE TABLE log (
    scope_id BLOB NOT NULL,
    at INTEGER NOT NULL,
    n INTEGER NOT NULL,
    task_run_id BLOB,
    level INTEGER NOT NULL,
    logger TEXT NOT NULL,
    message TEXT NOT NULL,
    PRIMARY KEY (scope_id, at, n)
) WITHOUT ROWID;
CREATE INDEX log_by_task_run ON log (task_run_id, at, n) WHERE task_run_id IS NOT NULL;

-- Batches that are durable and not in the tables yet: see redo.py. Empty most of the time.
CREATE TABLE redo (
    id INTEGER PRIMARY KEY,
    owner INTEGER NOT NULL,
    body BLOB NOT NULL
);
