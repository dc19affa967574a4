"""What several commands share: arguments for experiment, deployment and access, and answers as JSON."""

import argparse
import json
import sys
from typing import TYPE_CHECKING

from optduel.components.redaction import printable
from optduel.components.settings import Deployment, Experiment, cautions

if TYPE_CHECKING:
    from optduel.pipeline.kfp.connection import Access

_EXPERIMENT_HELP = "a shipped experiment (see `optduel list`) or the path of a .yaml file"
_SET_HELP = "set a field, for example training.epochs=3 or arms.adamw.weight_decay=0.1; may be repeated"


def add_experiment_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds what says what to run."""
    parser.add_argument("experiment", metavar="EXPERIMENT", help=_EXPERIMENT_HELP)
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


def tell_cautions(experiment: Experiment) -> None:
    """Says on standard error why the verdict may mislead, as `check` does before anything is spent."""
    for caution in cautions(experiment):
        print(f"caution: {caution}", file=sys.stderr)


def add_deployment_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds what says where the tasks run."""
    parser.add_argument(
        "--deployment",
        default="pod",
        metavar="NAME",
        help="pod, trainjob, tfjob, or the path of a .yaml file (%(default)s)",
    )
    parser.add_argument("--image", metavar="REF", help="image of every task and worker")
    parser.add_argument("--root", metavar="URI", help="place for records, runs and their index")
    parser.add_argument(
        "--deploy",
        action="append",
        default=[],
        metavar="PATH=VALUE",
        help="set a field of the deployment, for example train.memory=16Gi; may be repeated",
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


def add_access_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds what says where Kubeflow Pipelines is, and who asks."""
    group = parser.add_argument_group("Kubeflow Pipelines", "as kfp.Client takes them")
    group.add_argument("--host", metavar="URL", help="address of the API or the UI (KF_PIPELINES_ENDPOINT)")
    group.add_argument(
        "--ui-host", metavar="URL", help="address of the UI, for links (KF_PIPELINES_UI_ENDPOINT)"
    )
    group.add_argument("--namespace", metavar="NAME", help="of your profile, where users have profiles")
    group.add_argument(
        "--token-file", metavar="FILE", help="holds a bearer token (KF_PIPELINES_SA_TOKEN_PATH)"
    )
    group.add_argument("--cookie-file", metavar="FILE", help="holds a session's cookie, NAME=VALUE")
    group.add_argument("--ca-file", metavar="FILE", help="certificates that the server's is checked against")
    group.add_argument("--kube-context", metavar="NAME", help="of the kubeconfig file")


def access_of(options: argparse.Namespace) -> "Access":
    """What the arguments of `add_access_arguments` say."""
    from optduel.pipeline.kfp.connection import Access

    return Access(
        host=options.host,
        ui_host=options.ui_host,
        namespace=options.namespace,
        token_file=options.token_file,
        cookie_file=options.cookie_file,
        ca_file=options.ca_file,
        kube_context=options.kube_context,
    )


def print_json(answer: object) -> None:
    """Prints an answer for machines."""
    print(printable(json.dumps(answer, indent=2, ensure_ascii=False)))
