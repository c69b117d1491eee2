"""Where an auth server is: the address that `forwardAuth` names.

Stack files name a service as its containers would, which are in its networks; the gateway is in none. A host is
therefore looked up among the services of the route table first: the service of that name in the stack of the labels,
then the one with this very name (`tasks.NAME` is `NAME`); which has the name and the port is asked for each question,
as services come and go. Any other host is outside. TLS is spoken with the outside only: a host over https is asked
there, and a warning says so where a service has its name.

Pure: text in, values out.
"""

import re
from dataclasses import dataclass
from urllib.parse import urlsplit

NAMESPACE = "com.docker.stack.namespace"
"""The service label that says of which stack it is."""
TARGET = re.compile(r"/[!-~]*")
HOST = re.compile(r"[A-Za-z0-9._-]+|[0-9A-Fa-f:.]+")


@dataclass(frozen=True, slots=True)
class AuthServer:
    """`names`: what the service would be called, the likeliest first, in lower case, as names of hosts are; none for
    a host that can be no service's.

    `authorities`: PEM, whose certificates are believed instead of the system's; `unverified`: any certificate is.
    """

    scheme: str
    host: str
    port: int
    target: str
    names: tuple[str, ...] = ()
    authorities: str = ""
    unverified: bool = False

    @property
    def authority(self) -> str:
        """As a Host field has it."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == (443 if self.scheme == "https" else 80) else f"{host}:{self.port}"

    @property
    def url(self) -> str:
        return f"{self.scheme}://{self.authority}{self.target}"


def read_server(address: str, stack: str, authorities: str = "", *, unverified: bool = False) -> AuthServer:
    """Raises ValueError."""
    said = f"address {address!r} is not http(s)://HOST[:PORT][/PATH]"
    try:
        parts = urlsplit(address)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        raise ValueError(said) from None
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    if parts.scheme not in ("http", "https") or "@" in parts.netloc or not HOST.fullmatch(host):
        raise ValueError(said)
    if not TARGET.fullmatch(target) or port == 0:
        raise ValueError(said)
    if authorities and "-----BEGIN CERTIFICATE-----" not in authorities:
        raise ValueError("tls.ca must be the certificates themselves (PEM): the gateway reads no files")
    if port is None:
        port = 443 if parts.scheme == "https" else 80
    return AuthServer(parts.scheme, host, port, target, _names(host, stack), authorities, unverified)


def _names(host: str, stack: str) -> tuple[str, ...]:
    if ":" in host or re.fullmatch(r"[0-9.]+", host):
        return ()
    name = host.removeprefix("tasks.")
    return (f"{stack.lower()}_{name}", name) if stack else (name,)
