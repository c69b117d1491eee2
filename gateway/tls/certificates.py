"""A worker's certificates: what it was sent, and the contexts made of it when somebody asks for them.

Rules:
- A context is made when its first client comes, and dropped when its certificate, or an authority, changes. Connections
  that are there keep the one they were made with.
- Session tickets are a context's own: a session is resumed in the same worker, by the same certificate and policy only,
  so that nobody gets past a client certificate that is demanded by resuming a session where none was.
"""

import ssl
from collections.abc import Sequence

from essaim.cluster.certificates import AlpnChallenge, Authority, Certificate, CertificateBook, HttpChallenge
from essaim.gateway.protocol.tls_policy import TlsPolicy

from .contexts import CannotUse, NotNow, make_context
from .selection import Index

ACME = b"acme-tls/1"
DEFAULT = ""
"""The key of the gateway's self-signed certificate."""
Key = tuple[str, TlsPolicy, tuple[str, ...]]
"""Of a context: the certificate's name, the policy, and the protocols that are spoken."""


class CertificateStore:
    def __init__(self) -> None:
        self._certificates: dict[str, Certificate] = {}
        self._authorities: dict[str, str] = {}
        self._index = Index()
        self._contexts: dict[Key, ssl.SSLContext] = {}
        self._broken: dict[Key, str] = {}
        self._alpn: dict[str, AlpnChallenge] = {}
        # Answers to HTTP-01 by token.
        self.answers: dict[bytes, bytes] = {}

    def change(self, put: Sequence[Certificate], drop: Sequence[str], *, anew: bool = False) -> None:
        """Take certificates in and others (with `anew` all) out. The gateway's own has the name ""."""
        gone = {*drop, *(one.name for one in put), *(self._certificates if anew else ())}
        for name in gone:
            self._certificates.pop(name, None)
        self._certificates |= {one.name: one for one in put}
        self._index = Index(one for one in self._certificates.values() if one.name != DEFAULT)
        self._contexts = {key: context for key, context in self._contexts.items() if key[0] not in gone}
        self._broken.clear()

    def trust(self, authorities: Sequence[Authority]) -> None:
        """Whom client certificates may be of, all of them."""
        changed = {one.name: one.chain for one in authorities}
        if changed != self._authorities:
            self._authorities = changed
            self._contexts = {key: context for key, context in self._contexts.items() if not key[1].client_mode}
            self._broken.clear()

    def challenge(self, http: Sequence[HttpChallenge], alpn: Sequence[AlpnChallenge]) -> None:
        """The open questions of ACME servers, all of them."""
        self.answers = {one.token.encode(): one.answer.encode() for one in http}
        self._alpn = {one.domain.lower(): one for one in alpn}

    def book(self) -> CertificateBook:
        """Certificates and authorities, for the next supervisor. The gateway's own is not among them."""
        certificates = [one for _, one in sorted(self._certificates.items()) if one.name != DEFAULT]
        authorities = [Authority(name=name, chain=chain) for name, chain in self._authorities.items()]
        return CertificateBook(certificates=certificates, authorities=authorities)

    @property
    def is_challenged(self) -> bool:
        """Whether a TLS-ALPN-01 question may come."""
        return bool(self._alpn)

    def answer(self, name: str, protocols: tuple[bytes, ...]) -> ssl.SSLContext | None:
        """TLS-ALPN-01 (RFC 8737): the context for a client that offers that protocol alone, for a name that is asked.

        Raises CannotUse.
        """
        found = self._alpn.get(name) if protocols == (ACME,) else None
        if found is None:
            return None
        return make_context(found.chain, found.key, TlsPolicy(), [], (ACME.decode(),))

    def context(self, asked: str, policy: TlsPolicy, protocols: tuple[str, ...]) -> ssl.SSLContext:
        """For a client that asks for this name. Raises CannotUse."""
        key = (self._index.choose(asked, policy.certificates), policy, protocols)
        found = self._contexts.get(key)
        if found is None:
            if key in self._broken:
                raise CannotUse(self._broken[key])
            try:
                found = self._contexts[key] = self._make(*key)
            except NotNow:
                raise
            except CannotUse as error:
                self._broken[key] = str(error)
                raise
        return found

    def _make(self, name: str, policy: TlsPolicy, protocols: tuple[str, ...]) -> ssl.SSLContext:
        certificate = self._certificates.get(name)
        if certificate is None:
            raise CannotUse("there is no certificate")
        trusted = [self._authorities[one] for one in policy.client_ca if one in self._authorities]
        return make_context(certificate.chain, certificate.key, policy, trusted, protocols)
