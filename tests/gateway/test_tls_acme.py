"""Certificates that a real ACME server gives for names which a real gateway proves, and then serves."""

import ssl
from collections.abc import Callable
from pathlib import Path

import pytest

from essaim.cluster.acme import HTTP, TLS_ALPN
from essaim.cluster.certificates import CertificateBook
from essaim.gateway.control.supervisor import Gateway
from tests.certificates.pebble import pebble
from tests.certificates.test_acme import LIFETIME, Cluster
from tests.ports import free_port
from tests.scheduler.agents import until

from .conftest import Backends, entry_points, table
from .test_routing import R, labelled
from .test_tls import ask, router

pytestmark = [pytest.mark.root, pytest.mark.blocking_allowed]


class Serving:
    """A gateway where the orderer's tests have one of their own: it serves by a book once all its workers do."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._book = CertificateBook()
        self.on_served: Callable[[], None] = lambda: None

    @property
    def book(self) -> CertificateBook:
        return self._book

    @book.setter
    def book(self, book: CertificateBook) -> None:
        def served(_: object) -> None:
            self._book = book
            self.on_served()

        self._gateway.set_certificates(book).add_done_callback(served)


async def test_names_are_proved_at_the_gateway_and_their_certificates_served(
    tmp_path: Path, backends: Backends
) -> None:
    """By HTTP-01 past a redirect of everything, and by TLS-ALPN-01 past a pass-through of every name."""
    ports = {"web": free_port(), "websecure": free_port()}
    gateway = Gateway(
        mesh_addr="127.0.0.1", state_dir=tmp_path / "g", node_id="n1", workers=2, entry_points=entry_points(ports)
    )
    await gateway.start()
    settings = {"certificateValidityPeriod": LIFETIME}
    with pebble(tmp_path, http_port=ports["web"], tls_port=ports["websecure"], **settings) as server:
        serving = Serving(gateway)
        cluster = Cluster(server, serving)  # type: ignore[arg-type]
        serving.on_served = cluster.gateway.moved
        try:
            shop = router("shop", "Host(`http.example.org`) || Host(`alpn.example.org`)") | {
                R + "all.rule": "PathPrefix(`/`)",
                R + "all.entrypoints": "web",
                R + "all.middlewares": "secure",
                "traefik.http.middlewares.secure.redirectscheme.scheme": "https",
                "traefik.tcp.routers.rest.rule": "HostSNI(`*`)",
                "traefik.tcp.routers.rest.entrypoints": "websecure",
                "traefik.tcp.routers.rest.tls.passthrough": "true",
            }
            await gateway.apply(table(1, labelled("shop", shop, target=await backends.web("shop"))))
            for challenge, name in ((HTTP, "http.example.org"), (TLS_ALPN, "alpn.example.org")):
                cluster.pebble_resolver(challenge)
                cluster.routed("web", name)
                row = await cluster.issued(but_not=cluster.row().chain if len(cluster.store.certificates) else "")
                assert row.domains == [name]
                await until(lambda name=name: [name] in [one.names for one in gateway.certificates.certificates])
                await gateway.booked()
                context = ssl.create_default_context(cadata=server.root())
                told = await ask(ports["websecure"], name, context)
                assert told.answer.startswith(b"HTTP/1.1 200 ")
                assert told.names == [name]
                cluster.delete("resolvers", "id-le")
                cluster.delete("certificates", row.id)
        finally:
            await cluster.keeper.stop()
            await gateway.stop(grace=0.2)
    assert cluster.quiet.errors == []
