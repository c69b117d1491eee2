"""The supervisor's side of certificates: the book as it is, what workers are told of a new one, what is wrong with it.

Rules:
- Workers are sent what changed. What OpenSSL cannot use is not sent, and its reason is shown: `essaim lb status` has it
  at the certificate, and at each service whose labels mean it. (What is missing the book says itself.)
- Nothing here says a key: reasons come from `contexts.py`, which gives them without.
"""

import asyncio
from collections.abc import Iterable

from msgspec.structs import replace

from essaim.cluster.certificates import Authority, Certificate, CertificateBook
from essaim.gateway.protocol.messages import Authorities, Certificates, Challenges, Message, ServicePlan
from essaim.gateway.protocol.tls_policy import TlsPolicy
from essaim.gateway.protocol.wall import walled
from essaim.gateway.routing.rules import parse_rule
from essaim.gateway.tls.contexts import CannotUse, check_authority, check_certificate, check_ciphers
from essaim.gateway.tls.selection import Index, is_called

AT_ONCE = 50
"""Certificates in one message, so that no worker stops serving for long while it reads it."""


class Keeper:
    """`own`: the gateway's self-signed certificate."""

    def __init__(self, own: Certificate) -> None:
        self._own = own
        self._book = CertificateBook(version=-1)
        self._usable: dict[str, Certificate] = {}
        self._authorities: list[Authority] = []
        # By the certificate's, or the authority's, name.
        self._problems: dict[str, str] = {}
        self._untrusted: dict[str, str] = {}
        self.number = 0

    @property
    def questioned(self) -> frozenset[str]:
        """The entry points that an ACME server will ask."""
        return frozenset(
            point
            for point, asked in (("web", self._book.http_challenges), ("websecure", self._book.alpn_challenges))
            if asked
        )

    async def take(self, book: CertificateBook) -> list[Message] | None:
        """What workers that know the last book are to be told; None for a book that is older. One at a time.

        A certificate takes a millisecond to check; the loop is given back after each that is new.
        """
        if book.version < self._book.version:
            return None
        usable: dict[str, Certificate] = {}
        problems: dict[str, str] = {}
        before = self._usable
        for one in book.certificates:
            if before.get(one.name) == one:
                usable[one.name] = before[one.name]
                continue
            try:
                check_certificate(one.chain, one.key)
                usable[one.name] = one
            except CannotUse as error:
                problems[one.name] = str(error)
            except Exception as error:
                problems[one.name] = f"OpenSSL cannot read it ({type(error).__name__})"
            await asyncio.sleep(0)
        self._book, self._usable, self._problems = book, usable, problems
        self._trust(book.authorities)
        put = [one for name, one in usable.items() if before.get(name) is not one]
        drop = [name for name in before if name not in usable]
        return list(self._messages(put, drop))

    async def inherit(self, books: list[CertificateBook]) -> None:
        """What the last daemon's workers served by, until the leader's book is here: a restart is no time without
        certificates. Books of workers are without versions; they differ by what one had not been told yet.
        """
        for book in books:
            if self._book.version < 0 and book.certificates:
                await self.take(book)
                self._book = replace(book, version=-1)

    def everything(self) -> list[Message]:
        """For a worker that knows nothing, or nothing that counts any more."""
        return [Certificates([], [], anew=True), *self._messages([self._own, *self._usable.values()], [])]

    def _trust(self, authorities: list[Authority]) -> None:
        self._authorities, self._untrusted = [], {}
        for one in authorities:
            try:
                check_authority(one.chain)
                self._authorities.append(one)
            except CannotUse as error:
                self._untrusted[one.name] = str(error)
            except Exception as error:
                self._untrusted[one.name] = f"OpenSSL cannot read it ({type(error).__name__})"

    def _messages(self, put: list[Certificate], drop: list[str]) -> Iterable[Message]:
        for start in range(0, len(put), AT_ONCE):
            yield Certificates(put[start : start + AT_ONCE], [])
        if drop:
            yield Certificates([], drop)
        yield Authorities(self._authorities)
        self.number += 1
        yield Challenges(self.number, self._book.http_challenges, self._book.alpn_challenges)

    @property
    def problems(self) -> dict[str, str]:
        """Why certificates and authorities cannot be used, by name."""
        return self._problems | self._untrusted

    # -- what is wrong ----------------------------------------------------------------------------------------------

    def warnings(self, service: ServicePlan) -> list[str]:
        """Why clients of a service will not get the TLS that its labels ask for."""
        return walled(lambda: self._warnings(service), lambda reason: [f"TLS: {reason}"])

    def _warnings(self, service: ServicePlan) -> list[str]:
        policies = {router.tls for router in service.all_routers if router.tls is not None}
        if any(port.tls for port in service.ports):
            policies.add(service.options.tls.policy)
        return [said for policy in policies for said in self._judge(policy)] + self._nameless(service)

    def _judge(self, policy: TlsPolicy) -> Iterable[str]:
        for name, problem in self._problems.items():
            if any(is_called(name, label) for label in policy.certificates):
                yield f"TLS: the certificate {name!r} cannot be used: {problem}"
        for name in policy.client_ca:
            if name in self._untrusted:
                yield f"TLS: {name!r}: {self._untrusted[name]}; clients without another authority are refused"
        if policy.ciphers:
            try:
                check_ciphers(policy.ciphers)
            except CannotUse as error:
                yield f"TLS is refused: {error}"

    def _nameless(self, service: ServicePlan) -> list[str]:
        """Names that routers are for and no certificate is."""
        index = Index(self._usable.values())
        missing = {
            host
            for router in service.routers
            if router.tls is not None
            for host in parse_rule(router.rule).hosts or ()
            if not index.choose(host, router.tls.certificates)
        }
        return [
            f"TLS: no certificate for {host}: clients are shown the gateway's self-signed one"
            for host in sorted(missing)
        ]
