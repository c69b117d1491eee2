"""A configuration for an external NGINX (1.18 or newer, with the stream module) in front of the gateways.

Health: NGINX's free edition has passive checks only: a gateway that refuses twice is left alone for two seconds, and
the request goes to the next one. With no gateway known a port is left out, as NGINX accepts no empty upstream.

Pure: the same table gives the same bytes.
"""

from essaim.gateway.routes import RouteTable

from .balanced import balanced_ports, servers
from .rendering import render

MODULES = "/usr/lib/nginx/modules"
"""Where Debian's libnginx-mod-stream puts its module."""


def render_nginx(table: RouteTable, *, bind: str = "", modules: str = MODULES) -> str:
    """The whole nginx.conf. `bind`: the address for NGINX's own ports; "" is all addresses, IPv4 and IPv6."""
    ports, remarks = balanced_ports(table)
    gateways = servers(table)
    if not gateways:
        remarks += [f"{port.service} port {port.port} (no gateway is known)" for port in ports]
        ports = []
    binds = ["0.0.0.0", "[::]"] if bind == "" else [f"[{bind}]" if ":" in bind else bind]
    return render(
        "nginx.conf.j2",
        webs=[port for port in ports if port.mode == "http"],
        streams=[port for port in ports if port.mode != "http"],
        servers=gateways,
        remarks=remarks,
        binds=binds,
        modules=modules,
    )
