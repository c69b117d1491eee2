"""How published ports are balanced, whatever the balancer."""

import pytest

from essaim.configs.balanced import balanced_ports
from essaim.gateway.routes import RouteService, RouteTable

from .conftest import port


@pytest.mark.parametrize(
    ("labels", "modes"),
    [({}, ["http", "http"]), ({"essaim.tls": "8443"}, ["http", "tcp"]), ({"essaim.tls": "true"}, ["tcp", "tcp"])],
)
def test_port_whose_tls_the_gateways_end_is_passed_on_as_it_is(labels: dict[str, str], modes: list[str]) -> None:
    ports = [port(8080, app_protocol="http"), port(8443, app_protocol="http")]
    table = RouteTable(version=1, services=[RouteService(id="s", name="shop", labels=labels, ports=ports)])
    assert [one.mode for one in balanced_ports(table)[0]] == modes
