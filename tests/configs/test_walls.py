"""A balancer's configuration can be written whatever one service's labels hold."""

from typing import Any

import pytest

from essaim.cluster.routes import RouteGateway, RoutePort, RouteService, RouteTable
from essaim.configs import balanced
from essaim.configs.haproxy import render_haproxy
from essaim.configs.nginx import render_nginx
from essaim.configs.traefik import render_traefik, render_traefik_static
from tests.gateway.hostile import VALUES

RENDER = [render_haproxy, render_nginx, render_traefik, render_traefik_static]
LABELS = ["essaim.tls", "essaim.trusted", "essaim.proxyprotocol.accept", "essaim.healthcheck.port"]


def table(labels: dict[str, str], kind: str = "tcp") -> RouteTable:
    services = [
        RouteService(
            id=name,
            name=name,
            labels=labels if name == "bad" else {},
            ports=[RoutePort(protocol="tcp", target_port=80, published_port=port, app_protocol=kind)],
        )
        for name, port in (("bad", 8001), ("healthy", 8000))
    ]
    gateways = [RouteGateway(node_id="n", hostname="one", address="192.0.2.1")]
    return RouteTable(version=1, services=services, gateways=gateways)


@pytest.mark.parametrize("render", RENDER)
def test_configuration_has_the_healthy_service_whatever_another_ones_labels_hold(render: Any) -> None:
    for label in LABELS:
        for value in VALUES:
            trusted = {"essaim.proxyprotocol.accept": "true", "essaim.trusted": "10.0.0.0/8"}
            text = render(table(trusted | {label: value}))
            assert "healthy-8000" in text
            assert "bad-8001" in text


@pytest.mark.parametrize("render", RENDER)
def test_configuration_leaves_out_a_service_that_cannot_be_read_and_says_so(
    render: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(service: RouteService, port: RoutePort) -> bool:
        if service.name == "bad":
            raise RuntimeError("broken")
        return False

    monkeypatch.setattr(balanced, "ends_tls", broken)
    text = render(table({}, "http"))
    assert "healthy-8000" in text
    assert "bad-8001" not in text
    if render is not render_traefik_static:
        assert "# left out: bad port 8001/tcp: its labels cannot be read (RuntimeError)" in text
