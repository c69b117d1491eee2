"""Port 2377 against peers that lie, from both sides."""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web
from msgspec import msgpack

from essaim.api.client import ApiError, Client
from essaim.cluster import wire
from essaim.cluster.changes import Delete
from essaim.cluster.errors import ClusterError, Unavailable
from essaim.cluster.node import NodeDescription
from essaim.daemon.keys import tls
from essaim.daemon.membership.joins import Issued, JoinAnswer, JoinMessage, LeaveMessage, RenewMessage
from essaim.daemon.peers.callback import answering
from essaim.daemon.peers.client import PeerClient
from essaim.raft.transport.streams import Access, HandshakeFailed, open_stream
from essaim.secrets.ca import new_authority
from essaim.secrets.holder import Holder, member_name
from essaim.secrets.nodekey import belongs, new_key, request_for
from essaim.secrets.tokens import generate, root_digest
from tests.daemon.peers import CHANCE, MANAGER, WORKER, Port, certified, context_of, dialled, keyring_of, now, serving
from tests.daemon.processes import daemons
from tests.ports import free_port

pytestmark = [pytest.mark.timeout(60), pytest.mark.blocking_allowed]
OTHER_MANAGER = Holder("o" * 25, "manager", MANAGER.cluster_id, 9)


@pytest.fixture
async def port(tmp_path: Path) -> AsyncIterator[Port]:
    async with serving(tmp_path / "manager") as made:
        yield made


async def ask(port: Port, method: str, path: str, context: ssl.SSLContext, body: bytes = b"") -> tuple[int, bytes]:
    async with aiohttp.ClientSession() as session, session.request(
        method, f"https://{port.address}{path}", ssl=context, server_hostname="swarm-manager", data=body
    ) as response:  # fmt: skip
        return response.status, await response.read()


def renewal() -> bytes:
    return msgpack.encode(RenewMessage(request_for(new_key())))


ENTRANCES = [
    ("POST", "/cluster/manager"), ("POST", "/cluster/renew"), ("POST", "/cluster/leave"), ("POST", "/cluster/withdraw"),
    ("GET", "/cluster/session"), ("GET", "/cluster/tunnel"), ("GET", "/cluster/logs"), ("GET", "/cluster/engine/x"),
]  # fmt: skip
BETWEEN_MANAGERS = [("GET", "/cluster/logs"), ("GET", "/cluster/engine/x")]


async def test_without_a_certificate_there_is_the_root_and_the_join_only(port: Port) -> None:
    nobody = tls.joining_context(port.authority.certificate)
    assert await ask(port, "GET", "/cluster/ca", nobody) == (200, port.authority.certificate)
    for method, path in ENTRANCES:
        status, text = await ask(port, method, path, nobody)
        assert (status, b"certificate" in text) == (401, True), path
    message = JoinMessage("SWMTKN-1-wrong", "a:1", "a", "active", NodeDescription(), request_for(new_key()))
    status, text = await ask(port, "POST", "/cluster/join", nobody, msgpack.encode(message))
    assert (status, b"A valid join token is necessary" in text) == (400, True)


async def test_worker_is_served_as_itself_and_nothing_that_managers_ask_of_each_other(port: Port) -> None:
    worker = context_of(port.authority, WORKER)
    status, text = await ask(port, "POST", "/cluster/renew", worker, renewal())
    assert (status, b"CERTIFICATE" in msgpack.decode(text, type=Issued).certificate) == (200, True)
    for method, path in BETWEEN_MANAGERS:
        status, text = await ask(port, method, path, worker)
        assert (status, b"is not a manager" in text) == (403, True), path
    # Even one whose certificate still says manager: the cluster's state has the last word.
    demoted = context_of(port.authority, Holder(WORKER.node_id, "manager", WORKER.cluster_id, 8))
    for method, path in BETWEEN_MANAGERS:
        assert (await ask(port, method, path, demoted))[0] == 403, path


@pytest.mark.parametrize("why", ["another authority", "expired", "not yet valid"])
async def test_certificate_that_is_not_good_gets_no_answer(port: Port, why: str) -> None:
    ago = {"expired": timedelta(days=100), "not yet valid": timedelta(days=-2)}.get(why, timedelta(0))
    signer = new_authority(now()) if why == "another authority" else port.authority
    context = tls.calling_context(*certified(signer, WORKER, ago), port.authority.certificate)
    with pytest.raises((aiohttp.ClientError, ConnectionError, ssl.SSLError)):
        await ask(port, "POST", "/cluster/renew", context, renewal())


async def test_certificate_of_another_cluster_or_a_removed_node_is_refused(port: Port) -> None:
    stranger = context_of(port.authority, Holder(WORKER.node_id, "worker", "x" * 25))
    status, text = await ask(port, "POST", "/cluster/renew", stranger, renewal())
    assert (status, b"of cluster xxx" in text) == (401, True)
    worker = context_of(port.authority, WORKER)
    assert (await ask(port, "POST", "/cluster/renew", worker, renewal()))[0] == 200
    await port.manager.writer.commit([Delete("nodes", WORKER.node_id)])
    status, text = await ask(port, "POST", "/cluster/renew", worker, renewal())
    assert (status, b"is not of this cluster (any more)" in text) == (401, True)
    assert (await hello(port, worker, WORKER.node_id)) is wire.Refused


async def hello(port: Port, context: ssl.SSLContext, node_id: str) -> type:
    """What a session of the node with the context's certificate is answered first."""
    await _until_leads(port)
    async with aiohttp.ClientSession() as session, session.ws_connect(
        f"https://{port.address}/cluster/session", ssl=context, server_hostname="swarm-manager"
    ) as socket:  # fmt: skip
        await socket.send_bytes(wire.encode(wire.Hello(node_id, NodeDescription())))
        return type(wire.decode_to_agent(await socket.receive_bytes(timeout=10)))


async def _until_leads(port: Port) -> None:
    async with asyncio.timeout(20):
        while not port.manager.dispatcher.is_running:
            await asyncio.sleep(0.02)


async def test_session_is_of_the_node_that_the_certificate_names(port: Port) -> None:
    worker = context_of(port.authority, WORKER)
    assert await hello(port, worker, WORKER.node_id) is wire.Welcome
    assert await hello(port, worker, MANAGER.node_id) is wire.Refused


async def test_stream_of_the_log_is_of_the_member_that_the_certificate_names(port: Port) -> None:
    async def opened(holder: Holder, sender: int, name: str | None = None) -> int:
        access = Access(
            client_ssl=lambda: context_of(port.authority, holder),
            server_name=lambda member: name or member_name(member),
        )
        headers = {"Essaim-From": str(sender), "Essaim-To": "7", "Essaim-Address": "127.0.0.1:1"}
        try:
            stream = await open_stream(port.address, headers, access, 7)
        except HandshakeFailed as error:
            return error.status
        stream.close()
        return 101

    assert await opened(OTHER_MANAGER, 9) == 101
    assert await opened(OTHER_MANAGER, 8) == 403
    assert await opened(replace(OTHER_MANAGER, cluster_id="x"), 9) == 403
    assert await opened(WORKER, 9) == 403
    assert await opened(WORKER, 0) == 403
    with pytest.raises(ssl.SSLCertVerificationError, match="not valid for 'member-0000000000000008'"):
        await opened(OTHER_MANAGER, 9, member_name(8))


async def test_plain_http_and_old_tls_get_no_answer(port: Port) -> None:
    def talk(data: bytes) -> bytes:
        with dialled(port.address) as connection:
            connection.sendall(data)
            with contextlib.suppress(ConnectionError):
                return connection.recv(100)
        return b""

    answer = await asyncio.to_thread(talk, b"GET /cluster/ca HTTP/1.1\r\nHost: x\r\n\r\n")
    assert not answer.startswith(b"HTTP")
    old = context_of(port.authority, WORKER)
    old.minimum_version, old.maximum_version = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_2
    with pytest.raises(aiohttp.ClientError):
        await ask(port, "GET", "/cluster/ca", old)


async def test_join_gives_a_certificate_for_the_role_of_the_token(port: Port, tmp_path: Path) -> None:
    key, address = new_key(), f"127.0.0.1:{free_port()}"
    for token, role in ((port.tokens.worker, "worker"), (port.tokens.manager, "manager")):
        message = JoinMessage(token, address, "127.0.0.1", "active", NodeDescription(), request_for(key))
        nobody = tls.joining_context(port.authority.certificate)
        async with answering(message.address, key, port.authority.certificate):
            status, data = await ask(port, "POST", "/cluster/join", nobody, msgpack.encode(message))
        answer = msgpack.decode(data, type=JoinAnswer)
        assert (status, answer.role, bool(answer.raft_id)) == (200, role, role == "manager")
        assert belongs(key, answer.certificate)
        node = tls.calling_context(answer.certificate, key, answer.roots)
        status, text = await ask(port, "GET", "/cluster/logs", node)
        assert (status, b"is not a manager" in text) == ((403, True) if role == "worker" else (400, False))


# -- the client's side ----------------------------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def impostor(server: ssl.SSLContext, root: bytes) -> AsyncIterator[tuple[str, list[str]]]:
    """Something that listens with that context and shows that root certificate: address, and what it was asked."""
    asked: list[str] = []

    async def answer(request: web.Request) -> web.Response:
        asked.append(request.path)
        return web.Response(body=root if request.path == "/cluster/ca" else msgpack.encode(None))

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    port = free_port("127.0.0.1")
    await web.TCPSite(runner, "127.0.0.1", port, ssl_context=server).start()
    try:
        yield f"127.0.0.1:{port}", asked
    finally:
        # asyncio loses a connection that it has accepted and not set up yet when the server is closed.
        for _ in range(5):
            await asyncio.sleep(0)
        await runner.cleanup()


@pytest.mark.parametrize("why", ["another authority", "a worker's certificate", "expired"])
async def test_client_tells_nothing_to_who_does_not_prove_to_be_a_manager(tmp_path: Path, why: str) -> None:
    ours = new_authority(now())
    signer = new_authority(now()) if why == "another authority" else ours
    holder = WORKER if why == "a worker's certificate" else MANAGER
    ago = timedelta(days=100) if why == "expired" else timedelta(0)
    certificate, key = certified(signer, holder, ago)
    client = PeerClient(keyring_of(tmp_path, ours, WORKER))
    await client.start()
    try:
        async with impostor(tls.serving_context(certificate, key, ours.certificate), b"") as (address, asked):
            with pytest.raises(Unavailable, match="is not trusted"):
                await client.call(address, "/cluster/leave", LeaveMessage())
            with pytest.raises(ConnectionError, match="no session with the manager"):
                await client.session(address)
            with pytest.raises(ClusterError):
                await client.engine(address, "x")
            assert asked == []
    finally:
        await client.close()


async def test_joining_host_shows_its_token_to_the_tokens_cluster_only(tmp_path: Path) -> None:
    """A token of a cluster whose root is public, presented to somebody with a root of his own, or a stolen one."""
    ours, theirs = new_authority(now()), new_authority(now())
    token = str(generate(root_digest(ours.certificate), CHANCE))
    certificate, key = certified(theirs, MANAGER)
    context = tls.serving_context(certificate, key, theirs.certificate)
    async with daemons(tmp_path, tasks=False) as (host,), Client(host.host) as client:
        for shown, words in (
            (theirs.certificate, "remote CA does not match fingerprint. Expected: [0-9a-f]{64}"),
            (ours.certificate, "is not trusted"),
            (b"nonsense", "remote CA does not match fingerprint"),
        ):
            async with impostor(context, shown) as (address, asked):
                with pytest.raises(ApiError, match=words):
                    await client.post("/swarm/join", {"RemoteAddrs": [address], "JoinToken": token})
            assert asked == ["/cluster/ca"]
        assert (await client.get("/info"))["Swarm"]["LocalNodeState"] == "inactive"


async def test_request_of_a_newer_version_is_refused_in_clear_words(port: Port) -> None:
    context = context_of(port.authority, WORKER)
    async with aiohttp.ClientSession(headers={"Essaim-Peers": "2"}) as session:
        for path in ("ca", "session", "renew"):
            method = "POST" if path == "renew" else "GET"
            url = f"https://{port.address}/cluster/{path}"
            async with session.request(method, url, ssl=context, server_hostname="swarm-manager") as response:
                assert (response.status, "upgrade essaim on the managers" in await response.text()) == (400, True)
