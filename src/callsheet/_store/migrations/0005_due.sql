-- Runs that were suspended, by when they are to be looked at: they go on then, or have waited for too long.
CREATE INDEX run_to_wake ON run (due_at) WHERE state_type = 7 AND due_at IS NOT NULL;
