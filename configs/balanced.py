"""What every external balancer needs to know: which published ports and entry points, on which gateways.

Rules:
- An entry point at which some of what comes is TLS, or is for a TCP router, is passed on as it is.
- Where the gateways take PROXY headers from those that they trust, the balancer is to send them.
- Every gateway serves every published port, so an external balancer is pointed at gateways, not at replicas: its
  configuration changes when a port or a node does, not with each task.
- A port published on one address of one node (`host_ip`) is left out, and said so: other gateways do not serve it.
- A service whose labels cannot be read is left out, and said so; the others are there.
- Order: by port, then by service name. Equal tables give equal lists.

Pure: data in, data out.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from essaim.gateway.protocol.routes import (
    RoutePort,
    RouteService,
    RouteTable,
    ServedPoint,
    ends_tls,
    takes_proxy_headers,
)

CLAIMS = (
    "Forwarded", "X-Forwarded-Host", "X-Forwarded-Port", "X-Forwarded-Uri", "X-Forwarded-Method", "X-Forwarded-Prefix",
    "X-Forwarded-Tls-Client-Cert", "X-Forwarded-Tls-Client-Cert-Info", "X-Request-Id",
)  # fmt: skip
"""Fields that the gateways believe a trusted balancer in: one that faces clients must not pass on theirs. To
X-Forwarded-For it appends, which is enough: the gateways read that from its end."""


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
    """A port on every gateway. `what`: a comment on who is behind it. `mode`: tcp, udp or http. `proxy`: connections
    begin with a PROXY header."""

    name: str
    what: str
    port: int
    mode: str
    proxy: bool = False


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


def balanced_ports(table: RouteTable, points: Sequence[ServedPoint]) -> tuple[list[Balanced], list[str]]:
    """What is balanced, and remarks: what is left out, and where clients' addresses get lost."""
    published, unread = _published(table)
    opaque = {port.published_port for port, _, mode, _ in published if mode == "tcp"}
    ports = [_entry_point(point, "tcp" if point.point.port in opaque else point.mode) for point in points]
    remarks = [remark for point, port in zip(points, ports, strict=True) if (remark := _lost(point, port))] + unread
    entered = {point.point.port for point in points}
    taken: set[tuple[int, str]] = set()
    for port, service, mode, proxy in published:
        what = f"{one_line(service.name)} port {port.published_port}/{port.protocol}"
        if port.host_ip not in (None, "", "0.0.0.0", "::"):
            remarks.append(f"left out: {what} is published on {port.host_ip} only")
        elif port.protocol not in ("tcp", "udp"):
            remarks.append(f"left out: {what} is neither tcp nor udp")
        elif (port.published_port, port.protocol) in taken:
            remarks.append(f"left out: {what} is published twice")
        elif port.protocol == "udp" or port.published_port not in entered:
            taken.add((port.published_port, port.protocol))
            name = f"{clean(service.name)}-{port.published_port}" + ("-udp" if mode == "udp" else "")
            ports.append(Balanced(name, one_line(service.name), port.published_port, mode, proxy))
    return sorted(ports, key=lambda one: (one.port, one.mode == "udp")), remarks


Published = tuple[RoutePort, RouteService, str, bool]
"""A published port, its mode, and whether its connections begin with PROXY headers."""


def _published(table: RouteTable) -> tuple[list[Published], list[str]]:
    """All of them in their order, and remarks on those of which that cannot be told."""
    found: list[Published] = []
    remarks: list[str] = []
    for service in table.services:
        for port in service.ports:
            if not port.published_port:
                continue
            try:
                mode = _mode(service, port)
                found.append((port, service, mode, mode != "udp" and takes_proxy_headers(service)))
            except Exception as error:
                what = f"{one_line(service.name)} port {port.published_port}/{port.protocol}"
                remarks.append(f"left out: {what}: its labels cannot be read ({type(error).__name__})")
    found.sort(key=lambda one: (one[0].published_port, one[0].protocol, one[1].name))
    return found, sorted(remarks)


def _entry_point(one: ServedPoint, mode: str) -> Balanced:
    # A dot: no service has one in its name.
    name = f"entrypoint.{clean(one.name)}-{one.point.port}"
    return Balanced(name, f"entry point {one.name}", one.point.port, mode, one.point.proxy_protocol)


def _lost(one: ServedPoint, port: Balanced) -> str:
    """What to do so that replicas see who called."""
    if port.proxy or (port.mode == "http" and one.point.trusted):
        return ""
    wanted = f"--entrypoint {one.name}={port.port},trusted=ADDRESS" + (",proxyprotocol" if port.mode == "tcp" else "")
    return f"entry point {one.name}: replicas see this balancer as the client; start essaimd with {wanted} (its own)"


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
