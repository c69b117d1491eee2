"""Real daemons order certificates from a real ACME server, answer it at any gateway, and serve what they got.

The names lead to one gateway or another by pebble's own DNS; the leader of the moment is somebody else.
"""

import asyncio
import json
import re
import signal
import ssl
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from essaim.api.client import ApiError, Client
from tests.certificates.pebble import Pebble, pebble
from tests.daemon.processes import Daemon, init, join
from tests.lab.wait import eventually_async
from tests.ports import free_port

pytestmark = [
    pytest.mark.timeout(180),
    pytest.mark.blocking_allowed,
    pytest.mark.root,
    pytest.mark.asyncio(loop_scope="module"),
]
NODES = 3


def port_free_everywhere() -> int:
    """A port that is free on every node's address."""
    return free_port(*(f"127.0.0.{number}" for number in range(1, NODES + 1)))


@dataclass(slots=True)
class Cluster:
    nodes: list[Daemon]
    server: Pebble
    trust: ssl.SSLContext

    async def essaim(self, *arguments: str, on: int = 0) -> str:
        done = await asyncio.to_thread(self.nodes[on].essaim, *arguments)
        assert done.returncode == 0, done.stderr
        return done.stdout

    async def resolver(self, name: str, *flags: str) -> None:
        line = ("certificate", "resolver", "create", name, "--directory", self.server.directory)
        await self.essaim(*line, "--ca-file", str(self.server.ca_file), *flags)

    async def service(self, name: str, rule: str, resolver: str, on: int = 0) -> None:
        router = f"traefik.http.routers.{name}"
        labels = {
            f"{router}.rule": rule,
            f"{router}.entrypoints": "websecure",
            f"{router}.tls.certresolver": resolver,
            f"traefik.http.services.{name}.loadbalancer.server.port": "80",
        }
        flags = [part for key, value in labels.items() for part in ("--label", f"{key}={value}")]
        line = ("service", "create", "--detach", "--no-resolve-image", "--name", name, *flags, "essaim/whoami")
        await self.essaim(*line, on=on)

    async def certificates(self, on: int = 0) -> dict[str, dict[str, Any]]:
        async with Client(self.nodes[on].host) as client:
            found = await client.get("/essaim/v1/certificates")
        return {one["Name"]: one for one in found}

    async def issued(self, name: str, on: int = 0, *, since: float = 0) -> dict[str, Any]:
        seen: dict[str, Any] = {}

        async def is_issued() -> bool:
            seen.update((await self.certificates(on)).get(name, {}))
            return seen.get("State") == "issued" and seen["NotBefore"] > since

        try:
            await eventually_async(is_issued, 60, f"a certificate for {name}")
        except AssertionError as error:
            raise AssertionError(f"{error}\n{seen}") from None
        return seen

    async def fetch(self, name: str, gateway: int) -> tuple[str, int]:
        """The answer's text over TLS from a gateway, and the serial number of the certificate that it showed."""
        opened = asyncio.open_connection(
            f"127.0.0.{gateway}", self.server.tls_port, ssl=self.trust, server_hostname=name
        )
        reader, writer = await asyncio.wait_for(opened, 10)
        try:
            shown = writer.get_extra_info("peercert")
            writer.write(f"GET / HTTP/1.1\r\nHost: {name}\r\nConnection: close\r\n\r\n".encode())
            text = (await asyncio.wait_for(reader.read(), 10)).decode()
        finally:
            writer.close()
        return text, int(shown["serialNumber"], 16)

    async def served(self, name: str, gateway: int) -> int:
        """The serial number of the certificate by which the service answers there."""
        serial: list[int] = []

        async def answers() -> bool:
            try:
                text, number = await self.fetch(name, gateway)
            except (OSError, ssl.SSLError, TimeoutError):
                return False
            serial[:] = [number]
            return text.startswith("HTTP/1.1 200") and f"Host: {name}" in text

        await eventually_async(answers, 30, f"{name} answers over TLS at gateway {gateway}")
        return serial[0]

    async def warnings(self, words: str, on: int = 0) -> str:
        """The row of `lb status` that has the words."""

        async def row() -> str:
            shown = await self.essaim("lb", "status", on=on)
            return next((line for line in shown.splitlines() if words in line), "")

        return await eventually_async(row, 30, f"a warning: {words}")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("acme")


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[Pebble]:
    settings = {"domainBlocklist": ["blocked.example.org"]}
    ports = {"http_port": port_free_everywhere(), "tls_port": port_free_everywhere()}
    with pebble(folder / "pebble", **ports, **settings) as made:
        yield made


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def cluster(folder: Path, server: Pebble) -> AsyncIterator[Cluster]:
    """One for all tests of this module: the last one kills its leader."""
    points = ("--entrypoint", f"web={server.http_port}", "--entrypoint", f"websecure={server.tls_port}")
    nodes = [Daemon(folder, number, ("--runtime", "process", *points)) for number in range(1, NODES + 1)]
    try:
        for node in nodes:
            await node.start()
        await init(nodes[0])
        for node in nodes[1:]:
            await join(node, nodes[0], "Manager")
        yield Cluster(nodes, server, ssl.create_default_context(cadata=server.root()))
    finally:
        for node in reversed(nodes):
            await node.remove()


async def test_certificates_are_ordered_served_renewed_and_refused_with_reasons(cluster: Cluster) -> None:
    server = cluster.server
    await cluster.resolver("le")
    await cluster.resolver("alpn", "--challenge", "tls-alpn")
    for number, (name, resolver) in enumerate((("http", "le"), ("alpn", "alpn"))):
        await asyncio.to_thread(server.resolve, f"{name}.example.org", f"127.0.0.{NODES - number}")
        await cluster.service(name, f"Host(`{name}.example.org`)", resolver)
    await cluster.service("wild", "Host(`*.example.org`)", "le")
    await cluster.service("blocked", "Host(`blocked.example.org`)", "le")
    first = {name: await cluster.issued(f"{name}.example.org") for name in ("http", "alpn")}
    serials = {
        (name, gateway): await cluster.served(f"{name}.example.org", gateway)
        for name in first
        for gateway in range(1, NODES + 1)
    }
    assert len(set(serials.values())) == 2

    assert "DNS-01" in await cluster.warnings("wildcard", on=1)
    assert "blocked.example.org" in await cluster.warnings("rejectedIdentifier", on=2)
    listed = await cluster.essaim("certificate", "ls")
    assert re.search(r"blocked\.example\.org +acme le +failed .*\(rejectedIdentifier\) \(again at", listed), listed

    await cluster.essaim("certificate", "renew", "http.example.org", on=1)

    async def renewed() -> bool:
        found = [(await cluster.fetch("http.example.org", gateway))[1] for gateway in range(1, NODES + 1)]
        return len(set(found)) == 1 and found[0] not in serials.values()

    await eventually_async(renewed, 60, "every gateway serves the renewed certificate; none refuses meanwhile")

    async with Client(cluster.nodes[0].host) as client:
        with pytest.raises(ApiError, match=r"is in use by the following services: blocked, http$"):
            await client.delete("/essaim/v1/resolvers/le")
        shown = json.dumps(
            [await client.get("/essaim/v1/resolvers"), await client.get("/essaim/v1/certificates/http.example.org")]
        )
    assert "PRIVATE KEY" not in shown
    for node in cluster.nodes:
        for folder in ("raft", "agent", "gateway"):
            files = [path for path in (node.state / folder).rglob("*") if path.is_file()]
            assert not any(b"PRIVATE KEY" in path.read_bytes() for path in files), f"{node.name}: {folder}"


async def test_order_is_finished_by_the_next_leader(cluster: Cluster) -> None:
    """One gateway is frozen, so that the server is not asked to look; meanwhile the leader is killed."""
    await cluster.resolver("other")
    await asyncio.to_thread(cluster.server.resolve, "a.example.org", "127.0.0.2")

    async def is_registered() -> bool:
        shown = await cluster.essaim("certificate", "resolver", "ls", "--format", "{{.Name}} {{.State}}")
        return "other ready" in shown

    await eventually_async(is_registered, 30, "the resolver has its account")
    log = cluster.server.folder / "pebble.log"
    before = log.read_text().count("Added order")
    frozen = cluster.nodes[2]
    frozen.kill(signal.SIGSTOP)
    await cluster.service("a", "Host(`a.example.org`)", "other")

    async def is_ordering() -> bool:
        return (await cluster.certificates(1)).get("a.example.org", {}).get("State") == "ordering"

    await eventually_async(is_ordering, 10, "the order has begun")
    cluster.nodes[0].kill()
    frozen.kill(signal.SIGCONT)
    await cluster.issued("a.example.org", 1)
    await cluster.served("a.example.org", 3)
    assert log.read_text().count("Added order") == before + 1
    await cluster.nodes[0].start()
