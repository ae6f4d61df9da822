"""Workers that run tasks which were left to them. Not available yet."""

from callsheet._later import later

__getattr__ = later(__name__, "TaskWorker", "serve")
