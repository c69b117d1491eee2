"""Addresses as users write them (IP, IP:port, interface name) and the address to advertise when they write none."""

import contextlib
import fcntl
import ipaddress
import re
import socket
import struct
from collections.abc import Sequence

from essaim.cluster.errors import InvalidArgument

from .settings import DEFAULT_CLUSTER_PORT, Settings

STOCK_LISTEN = "0.0.0.0:2377"
"""What clients send when their user said nothing; the daemon's own --listen-addr goes before it."""
SIOCGIFADDR = 0x8915

# An address of the documentation range: connecting a datagram socket to it asks the kernel for the route's source
# address and sends nothing.
ANYWHERE = ("192.0.2.1", 9)
ENGINE_BRIDGE = re.compile(r"docker0|docker_gwbridge|br-[0-9a-f]{12}")
"""Names that an Engine gives to its bridges."""


def split_host_port(text: str, default_port: int) -> tuple[str, int]:
    """`10.0.0.1`, `10.0.0.1:2377`, `[::1]:2377`, `eth0` and `eth0:2377`. Raises InvalidArgument."""
    match = re.fullmatch(r"\[([^\]]+)\](?::([0-9]{1,9}))?|([^:]*)(?::([0-9]{1,9}))?", text)
    if match is None:
        try:
            return str(ipaddress.IPv6Address(text)), default_port
        except ValueError:
            raise InvalidArgument(
                f"{text!r} is no address: give an IP or an interface's name, with :PORT if need be"
            ) from None
    host = match[1] or match[3] or ""
    port = int(match[2] or match[4] or default_port)
    if not 0 < port < 65536:
        raise InvalidArgument(f"{text!r}: a port is a number from 1 to 65535")
    return host, port


def join_host_port(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def resolve_ip(host: str) -> str:
    """An IP as it is, an interface's first IPv4 address. Raises InvalidArgument."""
    try:
        return str(ipaddress.ip_address(host))
    except ValueError:
        pass
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            request = struct.pack("256s", host.encode()[:15])
            return socket.inet_ntoa(fcntl.ioctl(probe.fileno(), SIOCGIFADDR, request)[20:24])
        except OSError:
            names = ", ".join(name for _, name in socket.if_nameindex())
            raise InvalidArgument(
                f"could not find the address of {host!r}: it is neither an IP address nor one of this host's "
                f"interfaces ({names})"
            ) from None


def source_ip(host: str, port: int) -> str | None:
    """The address from which this host would reach `host` (an IP); None when it has no route there."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((host, port))
            found: str = probe.getsockname()[0]
            return found
        except OSError:
            return None


def default_advertise_ip() -> str:
    """The address by which this host reaches others. Raises InvalidArgument when there is no telling."""
    if found := source_ip(*ANYWHERE):
        return found
    candidates = []
    for _, name in socket.if_nameindex():
        try:
            candidates.append((name, resolve_ip(name)))
        except InvalidArgument:
            continue
    if (only := the_outward_one(candidates)) is not None:
        return only
    choices = ", ".join(f"{ip} on {name}" for name, ip in candidates) or "none has an address"
    raise InvalidArgument(
        "could not choose an IP address to advertise since this system has no single obvious one "
        f"({choices}) - specify one with --advertise-addr"
    )


def the_outward_one(candidates: Sequence[tuple[str, str]]) -> str | None:
    """Of (interface, IP): the only one that leads out, if it is only one. The Engine's own bridges do not."""
    outward = [
        ip for name, ip in candidates if not ipaddress.ip_address(ip).is_loopback and not ENGINE_BRIDGE.fullmatch(name)
    ]
    return outward[0] if len(outward) == 1 else None


def choose_addresses(
    settings: Settings, advertise: str, listen: str, data_path: str, towards: Sequence[str] = ()
) -> tuple[str, str, str]:
    """(advertised host:port, host:port to listen on, IP of tasks' ports). Raises InvalidArgument.

    What is not given is the address by which this host reaches the managers to join (`towards`), or others. Listening
    anywhere else than at the advertised address has to be asked for.
    """
    advertise = advertise or settings.advertise_addr
    asked = listen not in ("", STOCK_LISTEN) or bool(settings.listen_addr)
    if listen in ("", STOCK_LISTEN):
        listen = settings.listen_addr or listen
    listen_host, listen_port = split_host_port(listen, DEFAULT_CLUSTER_PORT) if listen else ("", DEFAULT_CLUSTER_PORT)
    if advertise:
        host, port = split_host_port(advertise, listen_port)
        ip = resolve_ip(host)
    elif listen_host and resolve_ip(listen_host) not in ("0.0.0.0", "::"):
        ip, port = resolve_ip(listen_host), listen_port
    else:
        ip, port = _towards(towards) or default_advertise_ip(), listen_port
    data_ip = resolve_ip(data_path) if data_path else ip
    listen_ip = resolve_ip(listen_host) if asked and listen_host else ip
    return join_host_port(ip, port), join_host_port(listen_ip, listen_port), data_ip


def is_own(ip: str) -> bool:
    """Whether this host can listen there."""
    family = socket.AF_INET6 if ":" in ip else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind((ip, 0))
        except OSError:
            return False
    return True


def check_addresses(advertise: str, listen: str, data_ip: str) -> None:
    """What `choose_addresses` gave can work on this host. Raises InvalidArgument, in Docker's words where it has some.

    An advertised address that is not this host's (a one-to-one NAT in front of it) is fine where another one to listen
    on was named.
    """
    advertised = split_host_port(advertise, DEFAULT_CLUSTER_PORT)[0]
    listening = split_host_port(listen, DEFAULT_CLUSTER_PORT)[0]
    for what, ip in (("advertise", advertised), ("data path", data_ip)):
        address = ipaddress.ip_address(ip)
        if address.is_unspecified or address.is_multicast or ip == "255.255.255.255":
            raise InvalidArgument(
                f"{what} address must be a non-zero IP address or network interface (with optional port number): "
                f"{ip} is no host's"
            )
    if is_own(listening):
        return
    if listening == advertised:
        raise InvalidArgument(
            "must specify a listening address because the address to advertise is not recognized as a system address: "
            f"no interface of this host has {advertised}. Correct --advertise-addr, or add --listen-addr with an "
            "address of this host if others reach it at that one (NAT)"
        )
    raise InvalidArgument(f"listen address must be an address of this host: no interface of it has {listening}")


def _towards(remotes: Sequence[str]) -> str | None:
    for remote in remotes:
        host, port = split_host_port(remote, DEFAULT_CLUSTER_PORT)
        with contextlib.suppress(ValueError):
            return source_ip(str(ipaddress.ip_address(host)), port)
    return None
