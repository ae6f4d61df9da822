"""The machinery under the engine: mailbox and orchestrator, journal, scopes, threads, driver and hosts."""
