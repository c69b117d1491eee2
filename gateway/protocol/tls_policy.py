"""How TLS is to be ended for a service: the `essaim.tls*` labels.

| label | meaning |
|---|---|
| `essaim.tls` | `true`, or the published ports (comma separated) on which TLS is ended |
| `essaim.tls.certificate` | names of certificates, the first one for clients that ask for a name none of them has |
| `essaim.tls.min` | `1.2` or `1.3` |
| `essaim.tls.ciphers` | TLS 1.2's, by OpenSSL's names |
| `essaim.tls.alpn` | protocols that the replicas speak (layer 4), such as `h2` |
| `essaim.tls.client.mode` | `require`, `verify-if-given`: client certificates |
| `essaim.tls.client.ca` | names of the authorities that they must be of |

Rules:
- A bad value never makes TLS weaker than was asked for: the service's TLS is then refused (`refused` says why), not
  served by the defaults.
- `request` (ask for a certificate, but take any) is not offered: Python's ssl can verify, or not ask.

Pure: labels in, a policy and warnings out.
"""

import re
from collections.abc import Callable
from typing import Any

import msgspec

from essaim.cluster.booleans import parse_bool

from .numbers import is_port

PREFIX = "essaim.tls"
MODES = {"require": "require", "verify-if-given": "verify-if-given"}
CIPHERS = re.compile(r"[A-Za-z0-9_+:!@=.-]+")


class TlsPolicy(msgspec.Struct, frozen=True, array_like=True):
    """`refused`: why no handshake may succeed; "" if it may. `client_mode` "" asks for no certificate."""

    certificates: tuple[str, ...] = ()
    minimum: str = "1.2"
    ciphers: str = ""
    client_mode: str = ""
    client_ca: tuple[str, ...] = ()
    refused: str = ""
    alpn: tuple[str, ...] = ()

    @property
    def guard(self) -> tuple[str, str, str, tuple[str, ...], str]:
        """What a connection was let in by. A request on a connection that came in by another guard is refused."""
        return self.minimum, self.ciphers, self.client_mode, self.client_ca, self.refused


class TlsLabels(msgspec.Struct, frozen=True, array_like=True):
    """`everywhere`: on all published TCP ports of the service; else on `ports`."""

    policy: TlsPolicy = TlsPolicy()
    everywhere: bool = False
    ports: tuple[int, ...] = ()

    def on(self, published_port: int) -> bool:
        return published_port > 0 and (self.everywhere or published_port in self.ports)


def _minimum(value: str) -> str:
    if value not in ("1.2", "1.3"):
        raise ValueError("must be 1.2 or 1.3")
    return value


def _ciphers(value: str) -> str:
    if not CIPHERS.fullmatch(value):
        raise ValueError("must be OpenSSL's names of ciphers, separated by colons")
    return value


def _mode(value: str) -> str:
    if value.lower() == "request":
        raise ValueError("request is not offered, as the certificate would not be verified; use verify-if-given")
    if value.lower() not in MODES:
        raise ValueError("must be require or verify-if-given")
    return MODES[value.lower()]


def _names(value: str) -> tuple[str, ...]:
    found = tuple(dict.fromkeys(one.strip() for one in value.split(",") if one.strip()))
    if not found:
        raise ValueError("must be one name or more")
    return found


def _protocols(value: str) -> tuple[str, ...]:
    found = _names(value)
    if any(not one.isascii() or len(one) > 255 for one in found):
        raise ValueError("must be names of protocols such as h2,http/1.1")
    return found


READERS: dict[str, tuple[str, Callable[[str], Any]]] = {
    "certificate": ("certificates", _names),
    "min": ("minimum", _minimum),
    "ciphers": ("ciphers", _ciphers),
    "alpn": ("alpn", _protocols),
    "client.mode": ("client_mode", _mode),
    "client.ca": ("client_ca", _names),
}


def read_tls(labels: dict[str, str]) -> tuple[TlsLabels, list[str]]:
    """What the labels ask for, and warnings for what cannot be honoured."""
    fields: dict[str, Any] = {}
    warnings: list[str] = []
    refused = ""
    everywhere = False
    ports: tuple[int, ...] = ()
    for label in sorted(labels):
        lower, value = label.lower(), labels[label].strip()
        if lower == PREFIX:
            try:
                everywhere, ports = _ports(value)
            except ValueError as error:
                warnings.append(f"label {label}={value!r} is ignored: {error}")
        elif lower.startswith(PREFIX + "."):
            try:
                field, read = READERS[lower.removeprefix(PREFIX + ".")]
                fields[field] = read(value)
            except KeyError:
                known = ", ".join(f"{PREFIX}.{name}" for name in sorted(READERS))
                refused = f"label {label} is not known to the gateway; known are: {known}"
            except ValueError as error:
                refused = f"label {label}={value!r}: {error}"
    mode, authorities = fields.get("client_mode"), fields.get("client_ca")
    if mode and not authorities:
        refused = refused or f"label {PREFIX}.client.mode needs {PREFIX}.client.ca, the authority to verify by"
    if authorities and not mode:
        fields["client_mode"] = "require"
    if refused:
        warnings.append(f"TLS is refused: {refused}")
    return TlsLabels(TlsPolicy(**fields, refused=refused), everywhere, ports), warnings


def _ports(value: str) -> tuple[bool, tuple[int, ...]]:
    if (everywhere := parse_bool(value.strip(" ").lower() or "false")) is not None:
        return everywhere, ()
    parts = [one.strip() for one in value.split(",")]
    if not all(is_port(one) for one in parts):
        raise ValueError("must be true, false, or published ports such as 443,8443")
    return False, tuple(int(one) for one in parts)
