"""The certificate book: what every gateway needs to end TLS and to answer an ACME server's questions.

The leader makes it out of secrets and of the certificates that it ordered, and sends it to each node's gateway. It
holds private keys: a gateway keeps it in memory and hands it to its workers, and never writes it to disk as plain text.

Pure: data only. Equal inputs give equal books: lists are sorted by name.
"""

from .shape import Shape


class Certificate(Shape):
    """`name` says where it is from, for users (`secret shop-tls`, `acme le shop.example.org`). `chain` is PEM, the
    leaf first; `key` is PEM, not encrypted. `names` are the DNS names and addresses that the leaf is valid for, in
    lower case, wildcards as `*.example.org`. `not_after` in seconds since 1970.
    """

    name: str
    chain: str
    key: str
    names: list[str] = []
    not_after: float = 0


class Authority(Shape):
    """Whom client certificates may be of, by the name that a service's labels use for it. `chain` is PEM."""

    name: str
    chain: str


class HttpChallenge(Shape):
    """HTTP-01 (RFC 8555, 8.3): port 80 answers `/.well-known/acme-challenge/{token}` with `answer`."""

    token: str
    answer: str


class AlpnChallenge(Shape):
    """TLS-ALPN-01 (RFC 8737): a client that offers `acme-tls/1` for `domain` is shown this certificate."""

    domain: str
    chain: str
    key: str


class CertificateProblem(Shape):
    """What keeps a certificate from being served as asked, for a user. `service_id` "" concerns no single service;
    `service` is the service's name."""

    service_id: str
    text: str
    service: str = ""


class CertificateBook(Shape):
    """`version` grows with each change; a gateway ignores a book older than the one it has.

    Names are unique among the certificates, and among the authorities.
    """

    version: int = 0
    certificates: list[Certificate] = []
    authorities: list[Authority] = []
    http_challenges: list[HttpChallenge] = []
    alpn_challenges: list[AlpnChallenge] = []
    problems: list[CertificateProblem] = []
