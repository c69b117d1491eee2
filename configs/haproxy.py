"""A configuration for an external HAProxy (2.4 or newer) that balances every published TCP port and every entry
point over the gateways.

Health: HAProxy connects to each gateway's port every two seconds; a gateway accepts only where it serves.
HAProxy does not balance UDP: such ports are listed as left out.

Pure: the same table gives the same bytes.
"""

from collections.abc import Sequence

from essaim.gateway.protocol.routes import RouteTable, ServedPoint

from .balanced import CLAIMS, balanced_ports, servers
from .rendering import render


def render_haproxy(table: RouteTable, points: Sequence[ServedPoint] = (), *, bind: str = "") -> str:
    """The whole file. `bind`: the address for HAProxy's own ports; "" is all addresses, IPv4 and IPv6."""
    ports, remarks = balanced_ports(table, points)
    remarks += [
        f"left out: {port.what} port {port.port}/udp (HAProxy balances no UDP)" for port in ports if port.mode == "udp"
    ]
    served = [port for port in ports if port.mode != "udp"]
    # HAProxy writes all addresses as "::" with v4v6, and one IPv6 address in brackets.
    host, options = ("::", " v4v6") if bind == "" else (f"[{bind}]" if ":" in bind else bind, "")
    # What NGINX sets anew, HAProxy would pass on.
    claims = ("X-Real-IP", "X-Forwarded-Proto", *CLAIMS)
    return render(
        "haproxy.cfg.j2",
        ports=served,
        remarks=remarks,
        servers=servers(table),
        host=host,
        options=options,
        claims=claims,
    )
