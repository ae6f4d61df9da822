"""A process that runs what is due. Not available yet."""

from callsheet._later import later

__getattr__ = later(__name__, "Runner")
