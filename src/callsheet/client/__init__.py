"""Reading and changing what the history holds, from programs."""

from callsheet._lazy import modules_of

__getattr__ = modules_of(__name__, "orchestration", "schemas")
