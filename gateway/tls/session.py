"""What layer 7 knows of the TLS that it is behind: the rules a connection came in by, and who its client is."""

from typing import TYPE_CHECKING
from urllib.parse import quote_plus

from essaim.gateway.protocol.tls_policy import TlsPolicy

if TYPE_CHECKING:
    from .transport import TlsTransport

HEADER = b"X-Forwarded-Tls-Client-Cert-Info"
"""Traefik's name for it, and its form: `Subject="..."`, percent-encoded, so that no name can break out of the line."""
SHORT = {
    "domainComponent": "DC", "countryName": "C", "stateOrProvinceName": "ST", "localityName": "L",
    "organizationName": "O", "organizationalUnitName": "OU", "commonName": "CN", "serialNumber": "SN",
    "emailAddress": "emailAddress",
}  # fmt: skip
Name = tuple[tuple[tuple[str, str], ...], ...]


class Secured:
    """`lines`: field lines for the replica, each ended by CRLF."""

    __slots__ = ("lines", "policy")

    def __init__(self, policy: TlsPolicy, lines: bytes) -> None:
        self.policy = policy
        self.lines = lines


def secured(transport: "TlsTransport", policy: TlsPolicy) -> Secured:
    """After the handshake."""
    if not policy.client_mode:
        return Secured(policy, b"")
    certificate = transport.tls.getpeercert()
    return Secured(policy, subject_line(certificate["subject"]) if certificate else b"")  # type: ignore[arg-type]


def subject_line(subject: Name) -> bytes:
    pairs = [f"{SHORT.get(key, key)}={value}" for part in subject for key, value in part]
    return HEADER + b": " + quote_plus(f'Subject="{",".join(pairs)}"').encode() + b"\r\n"
