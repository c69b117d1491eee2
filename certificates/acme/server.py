"""One ACME server as one account sees it (RFC 8555), by certbot's `acme` library. All methods block: call them in a
thread, one at a time.

Rejected: the library's own polling (it sleeps in the thread and cannot be resumed by another leader); a protocol
implementation of our own.
"""

import re
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import requests
from acme import challenges, client, errors, messages
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from josepy.errors import DeserializationError
from josepy.jwa import ES256
from josepy.jwk import JWK, JWKEC
from requests.adapters import HTTPAdapter

from essaim.cluster.acme import HTTP, TLS_ALPN, Resolver

from .challenge_keys import load_key

TIMEOUT = 15
"""Seconds for one request."""
TYPES = {HTTP: "http-01", TLS_ALPN: "tls-alpn-01"}
USER_AGENT = "essaim"


class AcmeFailure(Exception):
    """The message is for a user. `is_limited`: too many requests; `no_account`: the server forgot the account."""

    def __init__(self, reason: str, *, is_limited: bool = False, no_account: bool = False) -> None:
        super().__init__(reason)
        self.is_limited = is_limited
        self.no_account = no_account


@challenges.ChallengeResponse.register
class TlsAlpnResponse(challenges.KeyAuthorizationChallengeResponse):
    """The library has no TLS-ALPN-01 of its own any more."""

    typ = "tls-alpn-01"


@challenges.Challenge.register
class TlsAlpn(challenges.KeyAuthorizationChallenge):
    typ = "tls-alpn-01"
    response_cls = TlsAlpnResponse

    def validation(self, account_key: JWK, **_: Any) -> str:
        return self.key_authorization(account_key)


class _Trusting(HTTPAdapter):
    """Trusts these authorities (PEM), and no others."""

    def __init__(self, authorities: str) -> None:
        self._context = ssl.create_default_context(cadata=authorities)
        super().__init__()

    def init_poolmanager(self, *arguments: Any, **options: Any) -> None:
        super().init_poolmanager(*arguments, **options, ssl_context=self._context)

    def cert_verify(self, conn: Any, url: Any, verify: Any, cert: Any) -> None:
        """The context decides; requests would add its own bundle here."""
        conn.cert_reqs = "CERT_REQUIRED"


@dataclass(frozen=True, slots=True)
class Proof:
    """One name of an order. `token` and `authorization` (the key authorization) are of the challenge to answer; a name
    that needs none, or cannot be proved, has none. `error`: why it is not proved."""

    domain: str
    status: str
    token: str = ""
    authorization: str = ""
    error: str = ""
    challenge: messages.ChallengeBody | None = None


@dataclass(frozen=True, slots=True)
class OrderState:
    """`status` as in RFC 8555, 7.1.6: pending, ready, processing, valid or invalid."""

    status: str
    body: messages.Order
    error: str = ""


class AcmeServer:
    """`close` it in the end; that does not block."""

    def __init__(self, resolver: Resolver) -> None:
        self._resolver = resolver
        self._key = JWKEC(key=load_key(resolver.account_key))
        self._client: client.ClientV2 | None = None
        self._network: client.ClientNetwork | None = None

    def close(self) -> None:
        """Also while a call is on its way: what it has open is closed when it ends."""
        self._client = None
        if self._network is not None:
            self._network.session.close()

    def _connect(self) -> client.ClientV2:
        if self._client is None:
            self.close()
            network = client.ClientNetwork(self._key, alg=ES256, user_agent=USER_AGENT, timeout=TIMEOUT)
            self._network = network
            if self._resolver.spec.ca_certificate:
                network.session.mount("https://", _Trusting(self._resolver.spec.ca_certificate))
            if self._resolver.account_url:
                network.account = messages.RegistrationResource(
                    uri=self._resolver.account_url, body=messages.Registration()
                )
            directory = client.ClientV2.get_directory(self._resolver.spec.directory, network)
            self._client = client.ClientV2(directory, network)
        return self._client

    def register(self) -> str:
        """The account's URL; the same again for a key that the server knows."""
        with _told():
            connected, spec = self._connect(), self._resolver.spec
            binding = None
            if spec.eab_kid and spec.eab_key:
                binding = messages.ExternalAccountBinding.from_data(
                    self._key.public_key(), spec.eab_kid, spec.eab_key, connected.directory
                )
            elif connected.external_account_required():
                raise AcmeFailure(
                    "the server takes only accounts that are bound to one it has given out: essaim certificate "
                    "resolver update --eab-kid and --eab-key"
                )
            asked = messages.NewRegistration.from_data(
                email=spec.email or None, terms_of_service_agreed=True, external_account_binding=binding
            )
            try:
                return str(connected.new_account(asked).uri)
            except errors.ConflictError as known:
                return str(known.location)

    def new_order(self, request: bytes) -> str:
        """The URL of a new order for the names of a request (PEM)."""
        with _told():
            return str(self._connect().new_order(request).uri)

    def order(self, url: str) -> OrderState:
        with _told():
            body = messages.Order.from_json(self._fetch(url).json())
            return OrderState(str(body.status.name), body, _text(body.error) if body.error is not None else "")

    def proofs(self, state: OrderState) -> list[Proof]:
        """Each name of the order, with the challenge of the resolver's kind."""
        with _told():
            return [self._proof(str(url)) for url in state.body.authorizations]

    def _proof(self, url: str) -> Proof:
        body = messages.Authorization.from_json(self._fetch(url).json())
        domain, status = str(body.identifier.value), str(body.status.name)
        wanted = TYPES[self._resolver.spec.challenge]
        offered = {str(one.chall.typ): one for one in body.challenges}
        failures = [_text(one.error) for one in body.challenges if one.error is not None]
        if status != "pending":
            return Proof(domain, status, error="; ".join(failures))
        found = offered.get(wanted)
        if found is None:
            kinds = ", ".join(sorted(offered)) or "none"
            raise AcmeFailure(f"the server offers no {wanted} challenge for {domain} (it offers: {kinds})")
        if found.status.name != "pending":
            return Proof(domain, "processing", error="; ".join(failures))
        return Proof(domain, status, found.chall.encode("token"), found.chall.key_authorization(self._key), "", found)

    def answer(self, proof: Proof) -> None:
        """The challenge is answered everywhere: have the server look."""
        assert proof.challenge is not None
        with _told():
            self._connect().answer_challenge(proof.challenge, proof.challenge.chall.response(self._key))

    def finalize(self, url: str, state: OrderState, request: bytes) -> None:
        with _told():
            order = messages.OrderResource(body=state.body, uri=url, csr_pem=request)
            self._connect().begin_finalization(order)

    def download(self, state: OrderState) -> str:
        """The chain of a valid order, PEM, leaf first."""
        with _told():
            if state.body.certificate is None:
                raise AcmeFailure("the server calls the order valid, and gives no certificate")
            return self._fetch(str(state.body.certificate)).text

    def advice(self, chain: str) -> tuple[float, float]:
        """When to renew (0: the server does not say), and when to ask again; seconds since 1970."""
        leaf = x509.load_pem_x509_certificates(chain.encode())[0]
        with _told():
            try:
                at, again = self._connect().renewal_time(leaf.public_bytes(Encoding.PEM))
            except errors.ARIError as error:
                return 0, error.retry_after.timestamp()
            return at.timestamp() if at is not None else 0, again.timestamp()

    def _fetch(self, url: str) -> requests.Response:
        """POST-as-GET (RFC 8555, 6.3)."""
        connected = self._connect()
        return connected.net.post(url, None, new_nonce_url=connected.directory["newNonce"])


@contextmanager
def _told() -> Iterator[None]:
    """Whatever goes wrong becomes an AcmeFailure with a reason for a user."""
    try:
        yield
    except messages.Error as error:
        raise AcmeFailure(
            _text(error), is_limited=error.code == "rateLimited", no_account=error.code == "accountDoesNotExist"
        ) from error
    except requests.RequestException as error:
        raise AcmeFailure(f"the ACME server cannot be reached: {_cause(error)}") from error
    except (errors.Error, DeserializationError, ValueError, TypeError, LookupError, AttributeError) as error:
        raise AcmeFailure(f"the ACME server's answer cannot be understood: {_short(str(error))}") from error


def _text(error: messages.Error) -> str:
    parts = [error.detail or error.title or error.description or str(error.typ)]
    parts += [_text(one) for one in error.subproblems or ()]
    return _short("; ".join(parts)) + (f" ({error.code})" if error.code else "")


def _cause(error: requests.RequestException) -> str:
    """The part of requests' nested messages that says what happened."""
    text = str(error)
    for pattern in (
        r"certificate verify failed: [^(\[]+",
        r"\[Errno -?\d+\] ([^')\"\]]+)",
        r"Name or service not known",
    ):
        if (found := re.search(pattern, text)) is not None:
            return (found[1] if found.groups() else found[0]).strip()
    if isinstance(error, requests.Timeout):
        return f"no answer within {TIMEOUT} s"
    return _short(text) or type(error).__name__


def _short(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= 500 else text[:497] + "..."
