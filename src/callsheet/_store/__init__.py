"""Where history is kept: the protocol, SQLite, and memory."""
