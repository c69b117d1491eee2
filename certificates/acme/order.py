"""One certificate's order, from its beginning, or from where a former leader left it, to the end.

Each step is taken by what the server says of the order, so that it can be resumed: only the order's URL and the key are
kept. A challenge is answered in this sequence: it is written to the store with the order, comes into the certificate
book, every live gateway serves by that book, and only then the server is asked to look. It leaves the book with the
write that ends the order, however it ends.

A gateway that does not follow within GATEWAY_SECONDS is waited for no longer, as long as any other one does. That is
safe: a server that happens to ask the one behind is given no answer, calls the order invalid, and it is tried again
later; nothing is issued that should not be. The order's failure then names the nodes that were behind.
"""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Any, Protocol

from msgspec.structs import replace

from essaim.certificates.pem import BadCertificate, read_pair
from essaim.cluster.acme import HTTP, Order, OrderedCertificate, Resolver
from essaim.cluster.certificates import HttpChallenge
from essaim.cluster.changes import Change, put
from essaim.cluster.store import Store
from essaim.cluster.walls import words
from essaim.cluster.writer import Writer

from .challenge_keys import alpn_answer, new_key, request_for
from .renewal import failed
from .server import AcmeFailure, AcmeServer, OrderState, Proof
from .threads import in_thread

Sleep = Callable[[float], Awaitable[None]]

GATEWAY_SECONDS = 10.0
"""How long an order waits for gateways to serve its challenge before it goes on with those that do."""
ORDER_SECONDS = 300.0
"""How long an order may take as a whole."""
LOOK_FIRST, LOOK_MOST = 0.2, 5.0
"""Pauses between looks at an order that the server works on, doubling."""


class Served(Protocol):
    """The part of the dispatcher that is used here."""

    async def certificates_served(self, version: int) -> None: ...

    def gateways_behind(self, version: int) -> list[str]: ...

    def gateways_following(self, version: int) -> int: ...


class Gone(Exception):
    """The certificate or its resolver was removed meanwhile, or somebody else works on it."""


class Ordering:
    """Accounts, orders and advice; what a server or a gateway does never raises, but ends as a failure in the store.
    `now` is the wall clock in UTC.
    """

    def __init__(
        self,
        store: Store,
        writer: Writer,
        gateways: Served,
        now: Callable[[], datetime],
        sleep: Sleep,
        log: Any,
    ) -> None:
        self._store = store
        self._writer = writer
        self._gateways = gateways
        self._now = now
        self._sleep = sleep
        self._log = log

    # -- accounts -----------------------------------------------------------------------------------------------

    async def register(self, resolver: Resolver) -> None:
        """Have the server know the resolver's account."""
        server = AcmeServer(resolver)
        try:
            url = await in_thread(server.register)
        except AcmeFailure as error:
            failure = failed(resolver.failure, str(error), self._seconds(), is_limited=error.is_limited)
            await self._change_resolver(resolver.id, failure=failure)
            self._log.warning("a resolver has no account", resolver=resolver.spec.name, reason=str(error))
        else:
            await self._change_resolver(resolver.id, account_url=url, failure=None)
            self._log.info("a resolver has its account", resolver=resolver.spec.name, account=url)
        finally:
            server.close()

    # -- orders -------------------------------------------------------------------------------------------------

    async def order(self, row_id: str) -> None:
        """Carry the certificate's order to its end. Raises Gone, or ClusterError when the store cannot be written."""
        row, resolver = self._found(row_id)
        server = AcmeServer(resolver)
        name = ", ".join(row.domains)
        try:
            async with asyncio.timeout(ORDER_SECONDS):
                await self._carry_out(row_id, server)
        except Gone:
            self._log.info("an order is given up: its certificate is not wanted any more", names=name)
        except (AcmeFailure, TimeoutError) as error:
            await self._failed(row_id, error)
        else:
            self._log.info("a certificate was issued", names=name, resolver=resolver.spec.name)
        finally:
            server.close()

    async def ask(self, row_id: str) -> None:
        """Hear the server's advice on when to renew."""
        row, resolver = self._found(row_id)
        server = AcmeServer(resolver)
        try:
            advised_at, ask_at = await in_thread(server.advice, row.chain)
        except AcmeFailure as error:
            self._log.info("a server was asked in vain when to renew", names=row.domains, reason=str(error))
            advised_at, ask_at = row.advised_at, self._seconds() + 6 * 3600
        finally:
            server.close()
        await self._change(row_id, lambda now: replace(now, advised_at=advised_at, ask_at=ask_at))

    async def _carry_out(self, row_id: str, server: AcmeServer) -> None:
        order = await self._begin(row_id, server)
        behind: list[str] = []
        pause, before, answered = LOOK_FIRST, "", set[str]()
        while True:
            state = await in_thread(server.order, order.url)
            if state.status == "pending":
                proofs = await in_thread(server.proofs, state)
                # Some servers call a challenge pending until they have looked: none is answered twice.
                wanted = [one for one in proofs if one.challenge is not None and one.token not in answered]
                behind = await self._prove(row_id, server, wanted) or behind
                answered.update(one.token for one in wanted)
            elif state.status == "ready":
                row, _ = self._found(row_id)
                request = request_for(order.key, row.domains)
                await in_thread(server.finalize, order.url, state, request)
            elif state.status == "valid":
                await self._issued(row_id, order, server, state)
                return
            elif state.status == "invalid":
                raise AcmeFailure(await self._why(server, state) + _besides(behind))
            pause = LOOK_FIRST if state.status != before else min(pause * 2, LOOK_MOST)
            before = state.status
            await self._sleep(pause)

    async def _begin(self, row_id: str, server: AcmeServer) -> Order:
        row, _ = self._found(row_id)
        if row.order is not None:
            return row.order
        key = new_key()
        url = await in_thread(server.new_order, request_for(key, row.domains))
        order = Order(url=url, key=key, begun_at=self._seconds())
        await self._change(row_id, lambda now: replace(now, order=order))
        return order

    async def _prove(self, row_id: str, server: AcmeServer, wanted: list[Proof]) -> list[str]:
        """Answer these challenges; the nodes whose gateways do not."""
        if not wanted:
            return []
        _, resolver = self._found(row_id)
        if resolver.spec.challenge == HTTP:
            http = [HttpChallenge(token=proof.token, answer=proof.authorization) for proof in wanted]
            behind = await self._publish(row_id, lambda order: replace(order, http_challenges=http, alpn_challenges=[]))
        else:
            alpn = [alpn_answer(proof.domain, proof.authorization, self._now()) for proof in wanted]
            behind = await self._publish(row_id, lambda order: replace(order, http_challenges=[], alpn_challenges=alpn))
        for proof in wanted:
            await in_thread(server.answer, proof)
        return behind

    async def _publish(self, row_id: str, with_challenges: Callable[[Order], Order]) -> list[str]:
        """Have every live gateway answer the challenges; the nodes whose gateways are left behind."""
        row, _ = self._found(row_id)
        version = row.version.index
        if row.order is None or with_challenges(row.order) != row.order:
            version = await self._change(row_id, lambda now: replace(now, order=with_challenges(_of(now))))
        try:
            async with asyncio.timeout(GATEWAY_SECONDS):
                await self._gateways.certificates_served(version)
        except TimeoutError as error:
            behind = self._gateways.gateways_behind(version)
            if not self._gateways.gateways_following(version):
                raise AcmeFailure(
                    f"no gateway served the challenge within {GATEWAY_SECONDS:.0f} s, so the server was not asked to "
                    f"look; behind: {', '.join(behind)} (essaim node ls)"
                ) from error
            self._log.warning("an order goes on without gateways that do not follow", names=row.domains, behind=behind)
            return behind
        return []

    async def _why(self, server: AcmeServer, state: OrderState) -> str:
        proofs = await in_thread(server.proofs, state)
        reasons = [f"{proof.domain}: {proof.error}" for proof in proofs if proof.error]
        return "; ".join(reasons) or state.error or "the server calls the order invalid, and does not say why"

    async def _issued(self, row_id: str, order: Order, server: AcmeServer, state: OrderState) -> None:
        chain = await in_thread(server.download, state)
        row, _ = self._found(row_id)
        try:
            pair = read_pair(chain.encode(), order.key.encode())
        except BadCertificate as error:
            raise AcmeFailure(f"the server issued what cannot be served: {error}") from error
        if missing := set(row.domains) - set(pair.names):
            raise AcmeFailure(f"the server issued a certificate without {', '.join(sorted(missing))}")
        await self._change(
            row_id,
            lambda now: replace(
                now,
                chain=pair.chain,
                key=pair.key,
                not_before=pair.not_before,
                not_after=pair.not_after,
                advised_at=0.0,
                ask_at=0.0,
                is_forced=False,
                order=None,
                failure=None,
            ),
        )

    async def _failed(self, row_id: str, error: Exception) -> None:
        reason = str(error) or f"the order was not done within {ORDER_SECONDS:.0f} s"
        is_limited = isinstance(error, AcmeFailure) and error.is_limited
        if isinstance(error, AcmeFailure) and error.no_account:
            reason = f"{reason}; the resolver is registered anew"
        try:
            row, resolver = self._found(row_id)
            if isinstance(error, AcmeFailure) and error.no_account:
                await self._change_resolver(resolver.id, account_url=None)
            failure = failed(row.failure, reason, self._seconds(), is_limited=is_limited)
            await self._change(row_id, lambda now: replace(now, order=None, failure=failure))
        except Gone:
            return
        self._log.warning("a certificate could not be had", names=", ".join(row.domains), reason=reason)

    async def broke(self, key: str, error: Exception) -> None:
        """Work on a certificate or resolver ended in a way that is no answer of a server: it is tried again later."""
        resolver = self._store.resolvers.get(key)
        if resolver is None:
            await self._failed(key, AcmeFailure(words(error)))
        else:
            await self._change_resolver(key, failure=failed(resolver.failure, words(error), self._seconds()))

    # -- the store ----------------------------------------------------------------------------------------------

    def _seconds(self) -> float:
        return self._now().timestamp()

    def _found(self, row_id: str) -> tuple[OrderedCertificate, Resolver]:
        """Raises Gone."""
        row = self._store.certificates.get(row_id)
        resolver = self._store.resolvers.get(row.resolver_id) if row is not None else None
        if row is None or resolver is None:
            raise Gone
        return row, resolver

    async def _change(self, row_id: str, make: Callable[[OrderedCertificate], OrderedCertificate]) -> int:
        """The version of the write. Raises Gone."""

        def decide(store: Store) -> list[Change]:
            return [put("certificates", make(self._found(row_id)[0]))]

        return await self._writer.update(decide)

    async def _change_resolver(self, resolver_id: str, **fields: Any) -> None:
        def decide(store: Store) -> list[Change]:
            resolver = store.resolvers.get(resolver_id)
            return [put("resolvers", replace(resolver, **fields))] if resolver is not None else []

        await self._writer.update(decide)


def _of(row: OrderedCertificate) -> Order:
    if row.order is None:
        raise Gone
    return row.order


def _besides(behind: list[str]) -> str:
    """What may be at the bottom of a failure."""
    return f"; the gateways of {', '.join(behind)} did not serve the challenge (essaim node ls)" if behind else ""
