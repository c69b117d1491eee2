"""Labels that can never work are refused by the API; what may only be misspelt is not."""

import pytest

from essaim.api.control.gateway_labels import check_gateway_labels
from essaim.cluster.errors import InvalidArgument
from tests.gateway.hostile import OWN, VALUES


@pytest.mark.parametrize(
    ("label", "value", "said"),
    [
        ("essaim.retries", "\u00b2", "label essaim.retries='²': must be a whole number from 0 to 100"),
        ("essaim.timeout.idle", "1e999", "is not a duration"),
        ("essaim.timeout.idle", "20000000h", "a year at most"),
        ("essaim.balance.weights", "latest=" + "9" * 400, "whole number from 0 to 1000000"),
        ("essaim.healthcheck.port", "65536", "from 1 to 65535"),
        ("essaim.trusted", "10.0.0.0/99", "10.0.0.0/99"),
        ("x", "y" * (1 << 20), "more than the 1048576 allowed"),
    ],
)
def test_label_that_can_never_work_is_refused_with_the_reason(label: str, value: str, said: str) -> None:
    with pytest.raises(InvalidArgument, match=r"\S") as refused:
        check_gateway_labels({label: value, "other": "x"})
    assert said in str(refused.value)
    assert len(str(refused.value)) < 400


@pytest.mark.parametrize(
    "labels",
    [
        None,
        {},
        {"essaim.retires": "many"},
        {"traefik.http.services.x.loadbalancer.server.port": "\u00b2"},
        {"traefik.http.routers.x.rule": "PathRegexp(`a{99999999999}`)"},
        {"traefik.http.services.x.loadbalancer.healthcheck.interval": "soon"},
        {"essaim.retries": "3", "essaim.timeout.idle": "1h"},
    ],
)
def test_label_that_may_be_for_somebody_else_is_taken(labels: dict[str, str] | None) -> None:
    check_gateway_labels(labels)


def test_label_of_ours_with_any_hostile_value_is_taken_or_refused() -> None:
    refused = [said for label in OWN for value in VALUES if (said := refusal({label: value}))]
    assert len(refused) > len(OWN)
    assert all(said.isprintable() for said in refused)


def refusal(labels: dict[str, str]) -> str:
    try:
        check_gateway_labels(labels)
    except InvalidArgument as error:
        return str(error)
    return ""
