"""Addresses of alerts are secrets, and no settings."""

import pytest

from optduel.components.core import ExperimentError
from optduel.components.settings import ALERT_VARIABLES, Alerts, parse_deployment

FIELDS = {"image": "registry/optduel:1", "root": "s3://bucket/runs"}


def test_all_events_are_told_unless_some_are_named() -> None:
    deployment = parse_deployment([FIELDS, {"alerts": {"secret_name": "optduel-alerts"}}], "d.yaml")
    assert deployment.alerts == Alerts(secret_name="optduel-alerts")
    assert len(Alerts(secret_name="s").events) == 6
    with pytest.raises(ExperimentError, match="must be one of optduel.run.failed"):
        parse_deployment([FIELDS, {"alerts": {"secret_name": "s", "events": ["run.failed"]}}], "d.yaml")


@pytest.mark.parametrize("variable", ALERT_VARIABLES.values())
def test_an_address_in_the_environment_of_a_deployment_is_refused_and_not_shown(variable: str) -> None:
    with pytest.raises(ExperimentError, match=f"environment: holds credentials in {variable}") as refusal:
        parse_deployment([FIELDS, {"environment": {variable: "https://chat/canary"}}], "d.yaml")
    assert "canary" not in str(refusal.value)


def test_an_address_in_place_of_a_secret_is_refused_and_not_shown() -> None:
    for address in ("https://chat/services/canary", "mailto://canary"):
        with pytest.raises(ExperimentError, match="alerts.secret_name: must be the name of a") as refusal:
            parse_deployment([FIELDS, {"alerts": {"secret_name": address}}], "d.yaml")
        assert "canary" not in str(refusal.value)
