"""Entry points: the ports at which Traefik's routers are asked, and the proxies in front of them that are believed.

They are a node's, not a service's: who has connected must be known before it is known for whom.

Pure: text in, values out.
"""

import re
from ipaddress import ip_network

import msgspec

from .numbers import is_port


class EntryPoint(msgspec.Struct, frozen=True):
    """`trusted`: addresses and networks of proxies; what they say of earlier hops is believed. With `proxy_protocol`
    each of their connections must begin with a PROXY header, and the client is who it names."""

    port: int
    trusted: tuple[str, ...] = ()
    proxy_protocol: bool = False


class ServedPoint(msgspec.Struct, frozen=True):
    """An entry point that routers use. `mode`: http, or tcp where some of what comes is TLS or for a TCP router."""

    name: str
    point: EntryPoint
    mode: str


NO_ENTRY_POINT = EntryPoint(0)
ENTRY_POINTS = {"web": EntryPoint(80), "websecure": EntryPoint(443)}
"""Where Traefik's routers listen, unless it is said otherwise."""
FORM = "NAME=PORT[,trusted=NETWORK]...[,proxyprotocol]"


def read_entry_points(texts: tuple[str, ...]) -> dict[str, EntryPoint]:
    """The usual entry points, changed by `NAME=off` and by texts of `FORM`. Raises ValueError."""
    points = dict(ENTRY_POINTS)
    for text in texts:
        name, sign, rest = (part.strip() for part in text.partition("="))
        if not sign or not re.fullmatch(r"[A-Za-z0-9_-]+", name):
            raise ValueError(f"{text!r} is not {FORM}, such as web=8080")
        if rest == "off":
            points.pop(name.lower(), None)
        else:
            points[name.lower()] = _read(text, rest)
    taken: dict[int, str] = {}
    for name, point in points.items():
        if point.port in taken:
            raise ValueError(f"the entry points {taken[point.port]} and {name} have the same port {point.port}")
        taken[point.port] = name
    return points


def _read(text: str, rest: str) -> EntryPoint:
    port, *options = (part.strip() for part in rest.split(","))
    if not is_port(port):
        raise ValueError(f"{text!r}: {port!r} is neither a port nor off")
    trusted: list[str] = []
    proxy_protocol = False
    for option in options:
        key, sign, value = option.partition("=")
        if key == "trusted" and sign:
            trusted.append(_network(text, value))
        elif option == "proxyprotocol":
            proxy_protocol = True
        else:
            raise ValueError(f"{text!r}: {option!r} is neither trusted=NETWORK nor proxyprotocol")
    if proxy_protocol and not trusted:
        raise ValueError(f"{text!r}: proxyprotocol needs trusted=NETWORK, the proxies that send its headers")
    return EntryPoint(int(port), tuple(trusted), proxy_protocol)


def _network(text: str, value: str) -> str:
    try:
        return str(ip_network(value, strict=False))
    except ValueError:
        raise ValueError(f"{text!r}: {value!r} is neither an address nor a network, such as 10.0.0.0/8") from None
