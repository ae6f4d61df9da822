"""Where the engine reaches `callsheet.utilities.collections`, which futures and visualisation below it use too."""

from callsheet.utilities.collections import find, replace, trace

__all__ = ["find", "replace", "trace"]
