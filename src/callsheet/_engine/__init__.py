"""Runs: how a call becomes one, the one loop that drives it, and the engine that owns them."""
