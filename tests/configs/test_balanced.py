"""How published ports are balanced, whatever the balancer."""

import pytest

from essaim.configs.balanced import Balanced, balanced_ports
from essaim.gateway.protocol.entry_points import EntryPoint, ServedPoint
from essaim.gateway.protocol.routes import RouteService, RouteTable

from .conftest import port


@pytest.mark.parametrize(
    ("labels", "modes"),
    [({}, ["http", "http"]), ({"essaim.tls": "8443"}, ["http", "tcp"]), ({"essaim.tls": "true"}, ["tcp", "tcp"])],
)
def test_port_whose_tls_the_gateways_end_is_passed_on_as_it_is(labels: dict[str, str], modes: list[str]) -> None:
    ports = [port(8080, app_protocol="http"), port(8443, app_protocol="http")]
    table = RouteTable(version=1, services=[RouteService(id="s", name="shop", labels=labels, ports=ports)])
    assert [one.mode for one in balanced_ports(table, [])[0]] == modes


def shop(labels: dict[str, str] | None = None) -> RouteTable:
    published = [port(80, app_protocol="http"), port(5432), port(53, "udp")]
    return RouteTable(services=[RouteService(id="s", name="shop", labels=labels or {}, ports=published)])


@pytest.mark.parametrize("labels", [{}, {"essaim.tls": "80"}])
def test_entry_point_takes_the_place_of_the_port_that_is_published_there(labels: dict[str, str]) -> None:
    points = [ServedPoint("web", EntryPoint(80), "http"), ServedPoint("websecure", EntryPoint(443), "tcp")]
    found = {(one.name, one.port, one.mode) for one in balanced_ports(shop(labels), points)[0]}
    assert found == {
        ("shop-53-udp", 53, "udp"),
        ("entrypoint.web-80", 80, "tcp" if labels else "http"),
        ("entrypoint.websecure-443", 443, "tcp"),
        ("shop-5432", 5432, "tcp"),
    }


@pytest.mark.parametrize(
    ("mode", "point", "said"),
    [
        ("http", EntryPoint(80), "--entrypoint web=80,trusted=ADDRESS (its own)"),
        ("tcp", EntryPoint(80), "--entrypoint web=80,trusted=ADDRESS,proxyprotocol (its own)"),
        ("tcp", EntryPoint(80, ("10.0.0.9/32",)), "--entrypoint web=80,trusted=ADDRESS,proxyprotocol (its own)"),
        ("http", EntryPoint(80, ("10.0.0.9/32",)), ""),
        ("tcp", EntryPoint(80, ("10.0.0.9/32",), True), ""),
    ],
)
def test_it_is_said_where_clients_addresses_get_lost(mode: str, point: EntryPoint, said: str) -> None:
    ports, remarks = balanced_ports(RouteTable(), [ServedPoint("web", point, mode)])
    assert [one.proxy for one in ports] == [point.proxy_protocol]
    assert len(remarks) == bool(said)
    assert all(remark.endswith(said) for remark in remarks)


def test_proxy_headers_are_sent_where_a_service_takes_them_from_anybody_that_it_trusts() -> None:
    def sent(labels: dict[str, str]) -> list[Balanced]:
        return [one for one in balanced_ports(shop(labels), [])[0] if one.proxy]

    assert sent({"essaim.proxyprotocol.accept": "true"}) == []
    assert sent({"essaim.proxyprotocol.accept": "false", "essaim.trusted": "10.0.0.9"}) == []
    both = sent({"essaim.proxyprotocol.accept": "true", "essaim.trusted": "10.0.0.9"})
    assert [one.port for one in both] == [80, 5432]
