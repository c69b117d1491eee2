"""What every external balancer needs to know, out of the route table: which published ports, on which gateways.

Rules:
- Every gateway serves every published port, so an external balancer is pointed at gateways, not at replicas: its
  configuration changes when a port or a node does, not with each task.
- A port published on one address of one node (`host_ip`) is left out, and said so: other gateways do not serve it.
- Order: by port, then by service name. Equal tables give equal lists.

Pure: data in, data out.
"""

import re
from dataclasses import dataclass

from essaim.gateway.routes import RoutePort, RouteService, RouteTable, ends_tls


@dataclass(frozen=True, slots=True)
class Server:
    """A gateway node. `name` is unique and fit for every configuration language."""

    name: str
    address: str

    @property
    def host(self) -> str:
        """The address as it is written before `:port`."""
        return f"[{self.address}]" if ":" in self.address else self.address


@dataclass(frozen=True, slots=True)
class Balanced:
    """A published port. `mode`: tcp, udp or http. `check_path`: what an HTTP health check asks for."""

    name: str
    service: str
    port: int
    mode: str


def servers(table: RouteTable) -> list[Server]:
    """The gateways, each under a name made from its hostname (and its id where hostnames repeat)."""
    found: list[Server] = []
    seen: set[str] = set()
    for gateway in sorted(table.gateways, key=lambda one: (one.hostname, one.node_id)):
        name = clean(gateway.hostname)
        if name in seen:
            name = f"{name}-{clean(gateway.node_id)[:12]}"
        seen.add(name)
        found.append(Server(name=name, address=gateway.address))
    return found


def balanced_ports(table: RouteTable) -> tuple[list[Balanced], list[str]]:
    """The published ports, and remarks on those that are left out."""
    ports: list[Balanced] = []
    remarks: list[str] = []
    taken: set[tuple[int, str]] = set()
    everything = [(port, service) for service in table.services for port in service.ports if port.published_port]
    for port, service in sorted(everything, key=lambda one: (one[0].published_port, one[0].protocol, one[1].name)):
        what = f"{service.name} port {port.published_port}/{port.protocol}"
        if port.host_ip not in (None, "", "0.0.0.0", "::"):
            remarks.append(f"{what} is published on {port.host_ip} only")
        elif port.protocol not in ("tcp", "udp"):
            remarks.append(f"{what} is neither tcp nor udp")
        elif (port.published_port, port.protocol) in taken:
            remarks.append(f"{what} is published twice")
        else:
            taken.add((port.published_port, port.protocol))
            mode = _mode(service, port)
            name = f"{clean(service.name)}-{port.published_port}" + ("-udp" if mode == "udp" else "")
            ports.append(Balanced(name=name, service=one_line(service.name), port=port.published_port, mode=mode))
    return ports, remarks


def _mode(service: RouteService, port: RoutePort) -> str:
    """HTTPS that the gateways end is passed on as it is."""
    if port.protocol == "udp":
        return "udp"
    return "http" if port.app_protocol == "http" and not ends_tls(service, port) else "tcp"


def clean(text: str) -> str:
    """Letters, digits, dot, dash and underscore only: a name that no configuration language trips over."""
    return re.sub(r"[^A-Za-z0-9_.-]", "_", text) or "_"


def one_line(text: str) -> str:
    """Fit for a comment: without control characters, that could end it."""
    return re.sub(r"[\x00-\x1f\x7f]", " ", text)
