"""Record stores: what transactions committed, by key."""
