"""Deployments. Not available yet."""

from callsheet._later import deploy, later
from callsheet.deployments.errors import DeploymentApplyError
from callsheet.types.entrypoint import EntrypointType

__all__ = ["DeploymentApplyError", "EntrypointType", "deploy"]

__getattr__ = later(__name__, "RunnerDeployment")
