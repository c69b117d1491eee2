"""The certificate book: what every gateway needs to end TLS, sent beside the route table.

The leader makes it from the secrets that services name and from what ACME has issued; a gateway keeps it in memory, or
in files in memory, and nowhere else: it holds private keys.

Pure: data only. Lists are sorted, so that equal stores give equal books but for `version`.
"""

from .shape import Shape


class ServerCertificate(Shape):
    """A certificate with its key, both PEM. `source` says where it is from (`secret NAME`, `acme RESOLVER`).

    `names` are the DNS names it is good for (lower case, perhaps with a leading `*.`). `services`: ids of the services
    that asked for it; a listener of a service's own prefers these, an entry point takes any whose name fits.
    """

    source: str
    names: list[str]
    chain: str
    key: str
    services: list[str] = []


class ClientAuthority(Shape):
    """Whose signature a service's clients must show (mutual TLS). `certificates`: PEM, one or more."""

    service: str
    certificates: str


class HttpChallenge(Shape):
    """ACME HTTP-01 (RFC 8555, 8.3): what `/.well-known/acme-challenge/TOKEN` answers on any gateway."""

    name: str
    token: str
    key_authorization: str


class AlpnChallenge(Shape):
    """ACME TLS-ALPN-01 (RFC 8737): the certificate shown to who negotiates `acme-tls/1` for `name`. Both PEM."""

    name: str
    chain: str
    key: str


class CertificateBook(Shape):
    """`version` is the store version it was made at; a gateway ignores a book older than the one it has."""

    version: int = 0
    certificates: list[ServerCertificate] = []
    authorities: list[ClientAuthority] = []
    http_challenges: list[HttpChallenge] = []
    alpn_challenges: list[AlpnChallenge] = []
