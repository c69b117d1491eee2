"""Labels: what they ask for, and what is said about those that cannot be honoured."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from essaim.cluster.durations import seconds
from essaim.gateway.protocol.options import HealthOptions, ServiceOptions, read_options


def test_options_without_labels_are_the_defaults() -> None:
    assert read_options({}) == (ServiceOptions(), [])


def test_options_labels_of_others_are_not_ours_to_judge() -> None:
    assert read_options({"com.example": "x", "traefik.enable": "true", "essaim.rebalance": "never"})[1] == []


def test_options_health_check_by_our_labels_and_by_traefiks() -> None:
    ours, _ = read_options({"essaim.healthcheck.path": "/up", "essaim.healthcheck.interval": "500ms"})
    assert ours.health == HealthOptions(kind="http", path="/up", interval=0.5)
    prefix = "traefik.http.services.Web.loadBalancer.healthCheck."
    theirs, _ = read_options({prefix + "path": "/up", prefix + "status": "204", prefix + "headers.X-Probe": "1"})
    assert theirs.health == HealthOptions(kind="http", path="/up", status=(204, 204), headers={"X-Probe": "1"})


def test_options_sticky_cookie_by_traefiks_labels() -> None:
    prefix = "traefik.http.services.web.loadbalancer.sticky.cookie"
    found, warnings = read_options({prefix: "true", prefix + ".name": "lb", prefix + ".httponly": "true"})
    assert (found.sticky_cookie, found.sticky_http_only, warnings) == ("lb", True, [])


@pytest.mark.parametrize(
    ("label", "value", "said"),
    [
        ("essaim.balance", "fastest", "must be one of round_robin"),
        ("essaim.balance.key", "body", "must be source, path"),
        ("essaim.balance.weights", "5%", "must be a list such as latest=5"),
        ("essaim.timeout.idle", "soon", "is not a duration"),
        ("essaim.retries", "-1", "whole number from 0 to 100"),
        ("essaim.healthcheck.status", "2xx", "ignored"),
        ("essaim.healthcheck.rise", "0", "from 1 to"),
        ("essaim.balance.panic", "101", "percentage from 0 to 100"),
        ("essaim.eject.share", "200", "percentage from 0 to 100"),
        ("essaim.eject.rate", "101", "percentage from 0 to 100"),
        ("essaim.eject.window", "0s", "from 1s to 1h"),
        ("essaim.eject.least", "0", "from 1 to"),
        ("essaim.timeout.header", "0", "longer than 0s"),
        ("essaim.timeout.connect", "0s", "longer than 0s"),
        ("essaim.timeout.udp", "0s", "longer than 0s"),
        ("essaim.timeout.keepalive", "0s", "longer than 0s"),
        ("essaim.healthcheck.interval", "0s", "longer than 0s"),
        ("essaim.healthcheck.timeout", "0s", "longer than 0s"),
        ("essaim.trusted", "10.0.0.0/99", "ignored"),
        ("essaim.sticky.cookie", "a b", "cookie's name"),
        ("essaim.timeout.idel", "1s", "the closest that is: essaim.timeout.idle"),
        ("essaim.proxyprotocol.accept", "true", "no effect without essaim.trusted"),
    ],
)
def test_options_bad_label_keeps_the_default_and_is_a_warning(label: str, value: str, said: str) -> None:
    options, warnings = read_options({label: value})
    assert options in (ServiceOptions(), ServiceOptions(accept_proxy=True))
    assert len(warnings) == 1
    assert label in warnings[0]
    assert said in warnings[0]


@pytest.mark.parametrize(
    ("text", "value"), [("2s", 2.0), ("500ms", 0.5), ("1m30s", 90.0), ("1h", 3600.0), ("15", 15.0), ("1.5s", 1.5)]
)
def test_durations_as_docker_and_traefik_write_them(text: str, value: float) -> None:
    assert seconds(text) == value


@given(st.text(max_size=8))
def test_durations_anything_else_is_a_value_error(text: str) -> None:
    try:
        value = seconds(text)
    except ValueError:
        return
    assert 0 <= value < float("inf")


@given(st.dictionaries(st.sampled_from(["essaim.balance", "essaim.retries", "essaim.limit.body"]), st.text()))
def test_options_any_value_is_read_or_warned_about(labels: dict[str, str]) -> None:
    read_options(labels)
