"""What the cluster keeps of ACME (RFC 8555): resolvers, and the certificates that are ordered by them.

A resolver is an account at an ACME server, under the name that services' labels use (`tls.certresolver`). A
certificate's identifier is made of its resolver and its names, so that there is one of each set in the cluster.

Pure: data only. Times are in seconds since 1970.
"""

import hashlib
from collections.abc import Iterable

from .certificates import AlpnChallenge, HttpChallenge
from .ids import ID_LENGTH, base36
from .shape import Shape, StoredObject, always

HTTP, TLS_ALPN = "http", "tls-alpn"
CHALLENGES = (HTTP, TLS_ALPN)


class ResolverSpec(Shape):
    """`directory` is the ACME server's URL. `ca_certificate` (PEM) is whom to trust instead of the usual authorities.

    `eab_kid` and `eab_key` bind the account to one that the server's owner has given out (base64url, RFC 8555 7.3.4).
    """

    name: str = always("")
    email: str | None = None
    directory: str = always("")
    challenge: str = always(HTTP)
    ca_certificate: str | None = None
    eab_kid: str | None = None
    eab_key: str | None = None


class Failure(Shape):
    """Why the last attempt came to nothing. `attempts` in a row; none is made before `retry_at`."""

    reason: str
    attempts: int
    at: float
    retry_at: float


class Resolver(StoredObject, kw_only=True):
    """`account_key` (PEM) is made with the resolver, `account_url` is set once the server knows the account; `failure`
    says why it does not."""

    spec: ResolverSpec
    account_key: str = ""
    account_url: str | None = None
    failure: Failure | None = None


class Order(Shape):
    """An order in progress: a new leader goes on with it. `key` is the certificate's, PEM.

    While the challenges are here, every gateway answers them.
    """

    url: str
    key: str
    begun_at: float
    http_challenges: list[HttpChallenge] = []
    alpn_challenges: list[AlpnChallenge] = []


class OrderedCertificate(StoredObject, kw_only=True):
    """`domains` are sorted. `chain` (PEM, leaf first), `key` and the times are empty until the first is issued.

    `advised_at`: when the server advises to renew it (RFC 9773; 0: it does not say), to be asked again at `ask_at`.
    `is_forced`: a user wants it renewed now.
    """

    resolver_id: str
    domains: list[str]
    chain: str = ""
    key: str = ""
    not_before: float = 0
    not_after: float = 0
    advised_at: float = 0
    ask_at: float = 0
    is_forced: bool = False
    order: Order | None = None
    failure: Failure | None = None


def certificate_id(resolver_id: str, domains: Iterable[str]) -> str:
    """The identifier of a resolver's certificate for a set of names."""
    digest = hashlib.sha256("\n".join([resolver_id, *sorted(domains)]).encode()).digest()
    return base36(int.from_bytes(digest[:16]), ID_LENGTH)
