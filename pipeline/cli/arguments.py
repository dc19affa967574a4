"""What several commands share: arguments for experiment, deployment and access, and answers as JSON."""

import argparse
import json
import os
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from optduel.components.redaction import printable
from optduel.components.settings import Deployment, Experiment, cautions

if TYPE_CHECKING:
    from optduel.pipeline.kfp.connection import Access

_EXPERIMENT_HELP = "a shipped experiment (see `optduel list`) or the path of a .yaml file"
_SET_HELP = (
    "set a field, for example training.epochs=3 or arms.adamw.weight_decay=0.1; may be given several times"
)


def add_experiment_arguments(parser: argparse.ArgumentParser, is_required: bool = True) -> None:
    """Adds the arguments that say what to run."""
    parser.add_argument(
        "experiment", metavar="EXPERIMENT", nargs=None if is_required else "?", help=_EXPERIMENT_HELP
    )
    parser.add_argument(
        "--set", action="append", default=[], metavar="PATH=VALUE", dest="assignments", help=_SET_HELP
    )


def experiment_of(options: argparse.Namespace) -> Experiment:
    """The experiment that the arguments of `add_experiment_arguments` name.

    Raises:
        ExperimentError: there is none, or it breaks a rule.
    """
    from optduel.pipeline.cli.shipped import load_experiment

    return load_experiment(options.experiment, options.assignments)


def refuse_bad_start(experiment: Experiment) -> None:
    """Looks at the file that the model starts from, before anything is written.

    Raises:
        ExperimentError: the model cannot start from it.
        StorageError: it cannot be read.
    """
    from optduel.components.pretrained import check_start

    height, width = experiment.data.image_size
    check_start(experiment.model, (height, width, experiment.data.channels))


def tell_cautions(experiment: Experiment) -> None:
    """Says on standard error why the verdict may mislead, as `check` does before anything is spent."""
    for caution in cautions(experiment):
        print(f"caution: {caution}", file=sys.stderr)


def add_deployment_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments that say where the tasks run, and with what."""
    parser.add_argument(
        "--deployment",
        default="pod",
        metavar="NAME",
        help="pod, trainjob, tfjob, or the path of a .yaml file (default: %(default)s)",
    )
    parser.add_argument("--image", metavar="REF", help="image of all tasks and workers")
    parser.add_argument("--root", metavar="URI", help="where records, runs and their index go, a URI")
    parser.add_argument(
        "--deploy",
        action="append",
        default=[],
        metavar="PATH=VALUE",
        help="set a field of the deployment, for example train.memory=16Gi; may be given several times",
    )


def deployment_of(options: argparse.Namespace) -> Deployment:
    """The deployment that the arguments of `add_deployment_arguments` name.

    Raises:
        ExperimentError: there is none, or it breaks a rule.
    """
    from optduel.pipeline.cli.shipped import load_deployment

    given = {"image": options.image, "root": options.root}
    fields = [f"{name}={json.dumps(value)}" for name, value in given.items() if value is not None]
    return load_deployment(options.deployment, [*options.deploy, *fields])


def authored_by(options: argparse.Namespace) -> dict[str, Any]:
    """What `add_experiment_arguments` and `add_deployment_arguments` were given."""
    given = {
        "experiment": options.experiment,
        "set": options.assignments,
        "deployment": options.deployment,
        "deploy": options.deploy,
        "image": options.image,
        "root": options.root,
    }
    return {name: value for name, value in given.items() if value}


@dataclass(frozen=True)
class KubeflowOption:
    """One of the options that say where Kubeflow Pipelines is, and who asks.

    Attributes:
        flag: on the command line; with underscores it is the field of `Access`.
        value: what stands for its value in the help.
        variable: of the environment, which takes its place; kfp's own where kfp has one.
        meaning: for the help.
    """

    flag: str
    value: str
    variable: str
    meaning: str

    @property
    def field(self) -> str:
        """Of `Access`, and of the parsed arguments."""
        return self.flag.removeprefix("--").replace("-", "_")


KUBEFLOW_OPTIONS = (
    KubeflowOption("--host", "URL", "KF_PIPELINES_ENDPOINT", "address of the API, or of the UI"),
    KubeflowOption(
        "--ui-host",
        "URL",
        "KF_PIPELINES_UI_ENDPOINT",
        "address of the UI, for printed links (default: --host)",
    ),
    KubeflowOption(
        "--namespace", "NAME", "OPTDUEL_NAMESPACE", "your profile's namespace, if this Kubeflow has profiles"
    ),
    KubeflowOption(
        "--token-file",
        "FILE",
        "KF_PIPELINES_SA_TOKEN_PATH",
        "file with a bearer token; it is read for every request",
    ),
    KubeflowOption(
        "--cookie-file", "FILE", "OPTDUEL_COOKIE_FILE", "file with the cookie of your session, NAME=VALUE"
    ),
    KubeflowOption(
        "--ca-file",
        "FILE",
        "OPTDUEL_CA_FILE",
        "file with the certificate authorities to trust",
    ),
    KubeflowOption(
        "--kube-context",
        "NAME",
        "OPTDUEL_KUBE_CONTEXT",
        "context of the kubeconfig file (default: the current one)",
    ),
)


def add_access_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options that say where Kubeflow Pipelines is, and who asks."""
    group = parser.add_argument_group(
        "Kubeflow Pipelines",
        "Each option can come from the environment variable in brackets. Without --host, optduel looks\n"
        "for the service in this cluster, then for the cluster of the kubeconfig file.",
    )
    for option in KUBEFLOW_OPTIONS:
        group.add_argument(option.flag, metavar=option.value, help=f"{option.meaning} [{option.variable}]")


def access_of(options: argparse.Namespace) -> "Access":
    """What the arguments of `add_access_arguments` say, or else their variables, if these are not empty."""
    from optduel.pipeline.kfp.connection import Access

    return Access(
        **{
            option.field: getattr(options, option.field) or os.environ.get(option.variable) or None
            for option in KUBEFLOW_OPTIONS
        }
    )


def print_json(answer: object) -> None:
    """Prints an answer for machines."""
    print(printable(json.dumps(answer, indent=2, ensure_ascii=False)))
