"""A configuration for an external NGINX (1.18 or newer, with the stream module) in front of the gateways.

Health: NGINX's free edition has passive checks only: a gateway that refuses twice is left alone for two seconds, and
the request goes to the next one. With no gateway known a port is left out, as NGINX accepts no empty upstream.

Pure: the same table gives the same bytes.
"""

from collections.abc import Sequence

from essaim.gateway.protocol.routes import RouteTable, ServedPoint

from .balanced import CLAIMS, balanced_ports, servers
from .rendering import render

MODULES = "/usr/lib/nginx/modules"
"""Where Debian's libnginx-mod-stream puts its module."""


def render_nginx(
    table: RouteTable, points: Sequence[ServedPoint] = (), *, bind: str = "", modules: str = MODULES
) -> str:
    """The whole nginx.conf. `bind`: the address for NGINX's own ports; "" is all addresses, IPv4 and IPv6."""
    ports, remarks = balanced_ports(table, points)
    gateways = servers(table)
    if not gateways:
        remarks += [f"left out: {port.what} port {port.port} (no gateway is known)" for port in ports]
        ports = []
    binds = ["0.0.0.0", "[::]"] if bind == "" else [f"[{bind}]" if ":" in bind else bind]
    return render(
        "nginx.conf.j2",
        # NGINX sends PROXY headers from its stream module only.
        webs=[port for port in ports if port.mode == "http" and not port.proxy],
        streams=[port for port in ports if port.mode != "http" or port.proxy],
        servers=gateways,
        remarks=remarks,
        binds=binds,
        modules=modules,
        claims=CLAIMS,
    )
