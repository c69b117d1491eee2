"""One table for the whole-file tests, and the real programs."""

import shutil
from pathlib import Path

import pytest

from essaim.gateway.routes import RouteEndpoint, RouteGateway, RoutePort, RouteService, RouteTable


def port(published: int, protocol: str = "tcp", app_protocol: str = "tcp", host_ip: str | None = None) -> RoutePort:
    endpoint = RouteEndpoint(task_id="t1", task_name="web.1", node_id="n1", address="10.0.0.1", port=32768)
    return RoutePort(
        protocol=protocol, target_port=80, published_port=published, app_protocol=app_protocol, host_ip=host_ip,
        endpoints=[endpoint],
    )  # fmt: skip


@pytest.fixture
def table() -> RouteTable:
    """Three gateways (one IPv6, two of one hostname); an HTTP, two TCP, a UDP port and one that is on one address."""
    return RouteTable(
        version=7,
        services=[
            RouteService(id="s1", name="course_web", ports=[port(4000, app_protocol="http")]),
            RouteService(id="s2", name="db", ports=[port(5432), port(5433), port(5434, host_ip="10.0.0.5")]),
            RouteService(id="s3", name="dns", ports=[port(53, "udp"), port(9999, "sctp")]),
        ],
        gateways=[
            RouteGateway(node_id="abc123", hostname="one", address="10.0.0.1"),
            RouteGateway(node_id="def456", hostname="two", address="fd00::2"),
            RouteGateway(node_id="ghi789", hostname="two", address="10.0.0.3"),
        ],
    )


@pytest.fixture
def golden() -> Path:
    return Path(__file__).parent / "golden"


def program(name: str) -> str:
    """The path of a real program; the test is skipped where Debian's package is not installed."""
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed (tools/debian.sh)")
    return found
