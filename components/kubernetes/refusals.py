"""What the API server's refusals mean for whoever made the deployment."""

from optduel.components.core.errors import SetupError
from optduel.components.kubernetes.api import ApiFailure, NotFound


def refused(doing: str, failure: ApiFailure) -> SetupError:
    """The error for an answer that another attempt would not change.

    Args:
        doing: what was tried, for example "TrainJob x cannot be created".
        failure: the answer.
    """
    return SetupError(f"{doing}: {failure.message}; {_remedy(failure)}")


def _remedy(failure: ApiFailure) -> str:
    if failure.code == 401:
        return "this step's service account is not known to the cluster: check the kubeconfig or its token"
    if isinstance(failure, NotFound):
        return "install the operator of the deployment's job.kind, or choose the other one"
    if "unknown field" in failure.message:
        return "install an operator that knows it: Kubeflow Trainer 2.2 or newer, training-operator 1.9"
    if failure.code == 403 and "cannot" in failure.message and "admission" not in failure.message:
        return (
            "bind the Role optduel-launcher to this step's service account: apply optduel's manifests "
            "(`optduel doctor` says what is missing)"
        )
    return "change the deployment, or what the cluster admits"
