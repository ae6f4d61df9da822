"""What workers have in common. Not available yet."""

from callsheet._later import later

__getattr__ = later(__name__, "BaseWorker", "BaseJobConfiguration", "BaseVariables")
