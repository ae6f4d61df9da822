"""What deployments raise."""

from callsheet.exceptions import CallsheetError

__all__ = ["DeploymentApplyError"]


class DeploymentApplyError(CallsheetError, RuntimeError):
    """A deployment could not be applied."""
