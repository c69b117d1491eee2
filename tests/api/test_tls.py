"""The API over TLS with client certificates, as a Docker context expects it; plain TCP at loopback only."""

import socket
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
import structlog

from essaim.api.app import create_app
from essaim.api.listen.tls import server_context
from essaim.api.server import ApiServer
from essaim.cluster.errors import InvalidArgument
from tests.api import docker_cli
from tests.api.certificates import Certificates
from tests.api.fakes import FakeNode, utc_now

pytestmark = pytest.mark.blocking_allowed


@pytest.fixture
def certificates(tmp_path: Path) -> Certificates:
    return Certificates(tmp_path)


@pytest.fixture
async def server() -> AsyncIterator[ApiServer]:
    node = FakeNode()
    async with ApiServer(create_app(node, chance=node.chance, now=utc_now, log=structlog.get_logger())) as server:
        yield server


async def tls(server: ApiServer, certificates: Certificates) -> int:
    context = server_context(certificates.server, certificates.server_key, certificates.ca)
    return await server.listen_tls("127.0.0.1", 0, context)


async def test_client_with_a_certificate_is_served(server: ApiServer, certificates: Certificates) -> None:
    port = await tls(server, certificates)
    context = ssl.create_default_context(cafile=certificates.ca)
    context.load_cert_chain(certificates.client, certificates.client_key)
    url = f"https://127.0.0.1:{port}/_ping"
    async with aiohttp.ClientSession() as session, session.get(url, ssl=context) as reply:
        assert reply.status == 200


async def test_client_without_a_certificate_is_refused(server: ApiServer, certificates: Certificates) -> None:
    port = await tls(server, certificates)
    context = ssl.create_default_context(cafile=certificates.ca)
    async with aiohttp.ClientSession() as session:
        with pytest.raises(aiohttp.ClientError):
            await session.get(f"https://127.0.0.1:{port}/_ping", ssl=context)


async def test_client_of_another_root_is_refused(
    server: ApiServer, certificates: Certificates, tmp_path_factory: pytest.TempPathFactory
) -> None:
    port = await tls(server, certificates)
    stranger = Certificates(tmp_path_factory.mktemp("stranger"))
    context = ssl.create_default_context(cafile=certificates.ca)
    context.load_cert_chain(stranger.client, stranger.client_key)
    async with aiohttp.ClientSession() as session:
        with pytest.raises(aiohttp.ClientError):
            await session.get(f"https://127.0.0.1:{port}/_ping", ssl=context)


@pytest.mark.root
async def test_docker_context_works_over_tls(server: ApiServer, certificates: Certificates, tmp_path: Path) -> None:
    port = await tls(server, certificates)
    host = f"tcp://127.0.0.1:{port}"
    files = f"ca={certificates.ca},cert={certificates.client},key={certificates.client_key}"
    config = tmp_path / "cli"
    create = ["context", "create", "cluster", "--docker", f"host={host},{files}"]
    await docker_cli.docker(host, config, *create)
    shown = await docker_cli.docker("", config, "swarm", "init", context="cluster")
    assert "Swarm initialized" in shown
    assert "Leader" in await docker_cli.docker("", config, "node", "ls", context="cluster")


async def test_plain_tcp_is_for_loopback_only(server: ApiServer) -> None:
    with pytest.raises(InvalidArgument, match="loopback"):
        await server.listen_plain("0.0.0.0", 0)
    port = await server.listen_plain("127.0.0.1", 0)
    async with aiohttp.ClientSession() as session, session.get(f"http://127.0.0.1:{port}/_ping") as reply:
        assert reply.status == 200


async def test_socket_left_by_a_killed_daemon_is_replaced_and_a_live_one_is_not(tmp_path: Path) -> None:
    path = tmp_path / "run" / "api.sock"

    def made() -> ApiServer:
        node = FakeNode()
        return ApiServer(create_app(node, chance=node.chance, now=utc_now, log=structlog.get_logger()))

    async with made() as first:
        await first.listen_unix(path)
        async with made() as second:
            with pytest.raises(InvalidArgument, match="another daemon answers"):
                await second.listen_unix(path)
    assert not path.exists()

    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(path))
    async with made() as third:
        await third.listen_unix(path)
        assert path.stat().st_mode & 0o777 == 0o660
