"""Record stores: what transactions committed, by key."""

from callsheet._lazy import modules_of

__getattr__ = modules_of(__name__, "base", "filesystem", "memory", "result_store")
