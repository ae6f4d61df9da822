"""Flows that are run from outside, by their name. Not available yet."""

from callsheet._later import deploy, later
from callsheet.deployments.errors import DeploymentApplyError
from callsheet.types.entrypoint import EntrypointType

__all__ = ["DeploymentApplyError", "EntrypointType", "deploy"]

__getattr__ = later(__name__, "run_deployment", "RunnerDeployment", "create_deployment_schedule_create")
