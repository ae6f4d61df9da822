"""Schedules of deployments. Not available yet."""

from callsheet._later import later

__getattr__ = later(__name__, "create_deployment_schedule_create")
