"""When deployments run. Not available yet."""

from callsheet._later import later

__getattr__ = later(__name__, "IntervalSchedule", "CronSchedule", "RRuleSchedule", "NoSchedule", "construct_schedule")
