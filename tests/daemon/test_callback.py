"""Who passes for a candidate when a manager calls back, and for a manager when a candidate is called."""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from essaim.api.listen.admission import Limits
from essaim.cluster.changes import put
from essaim.cluster.errors import FailedPrecondition, Unavailable
from essaim.cluster.node import NodeDescription
from essaim.cluster.objects import Secret, SecretSpec
from essaim.daemon.keys import tls
from essaim.daemon.membership.joins import BecomeManager, JoinMessage
from essaim.daemon.peers import callback
from essaim.daemon.peers.callback import answering, call_back
from essaim.secrets.ca import Authority, new_authority
from essaim.secrets.nodekey import new_key, request_for
from tests.daemon.peers import MANAGER, WORKER, Port, certified, now, serving
from tests.lab.wait import eventually_async
from tests.ports import free_port

pytestmark = [pytest.mark.timeout(60), pytest.mark.blocking_allowed]
AUTHORITY = new_authority(now())
KEY = new_key()
REQUEST = request_for(KEY)


def manager_of(authority: Authority = AUTHORITY) -> ssl.SSLContext:
    return tls.calling_back_context(*certified(authority, MANAGER))


@pytest.fixture
def address() -> str:
    return f"127.0.0.1:{free_port()}"


async def test_candidate_that_listens_with_its_key_is_found(address: str) -> None:
    async with answering(address, KEY, AUTHORITY.certificate) as door:
        await call_back(address, REQUEST, manager_of())
    assert door.failure == ""


async def test_candidate_that_does_not_listen_is_refused_in_dockers_words(address: str) -> None:
    with pytest.raises(Unavailable, match=f"prospective new cluster member .*{address}: connection refused.*port open"):
        await call_back(address, REQUEST, manager_of())


async def test_candidate_at_whose_address_another_one_answers_is_refused(address: str) -> None:
    async with answering(address, new_key(), AUTHORITY.certificate):
        with pytest.raises(Unavailable, match="another host answers there"):
            await call_back(address, REQUEST, manager_of())


@pytest.mark.parametrize("caller", ["a worker", "a stranger"])
async def test_candidate_answers_only_managers_of_its_cluster(address: str, caller: str) -> None:
    worker = tls.calling_back_context(*certified(AUTHORITY, WORKER))
    context = worker if caller == "a worker" else manager_of(new_authority(now()))
    async with answering(address, KEY, AUTHORITY.certificate):
        with pytest.raises(Unavailable, match="could not connect to prospective"):
            await call_back(address, REQUEST, context)


async def test_candidate_whose_port_is_taken_says_so(address: str) -> None:
    root = AUTHORITY.certificate
    async with answering(address, KEY, root), answering(address, KEY, root) as second:
        assert "address already in use" in second.failure.lower()


async def test_candidate_answers_a_manager_although_a_crowd_says_nothing(
    address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Idle, or with half a handshake, from its own address and others: the longest waiting make place."""
    monkeypatch.setattr(callback, "PLACES", Limits(16, 4))
    host, _, port = address.rpartition(":")
    half = bytes.fromhex("1603010200010001fc0303")
    async with answering(address, KEY, AUTHORITY.certificate):
        crowd = []
        for number in range(60):
            local = ("127.0.0.1" if number % 2 else f"127.0.1.{number % 20 + 1}", 0)
            reader, writer = await asyncio.open_connection(host, int(port), local_addr=local)
            writer.write(half if number % 3 else b"")
            crowd.append((reader, writer))

        async def put_out() -> bool:
            return sum(reader.at_eof() or reader.exception() is not None for reader, _ in crowd) >= len(crowd) - 16

        await eventually_async(put_out, 10, "no more are kept than there are places")
        await call_back(address, REQUEST, manager_of())
    for _, writer in crowd:
        writer.transport.abort()


async def test_candidate_gives_nobody_more_time_than_a_manager_needs(
    address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(callback, "SECONDS", 0.2)
    host, _, port = address.rpartition(":")
    async with answering(address, KEY, AUTHORITY.certificate):
        reader, writer = await asyncio.open_connection(host, int(port))
        async with asyncio.timeout(10):
            with contextlib.suppress(ConnectionError):
                assert await reader.read() == b""
        writer.transport.abort()


@contextlib.asynccontextmanager
async def silent(address: str) -> AsyncIterator[None]:
    """Somebody who accepts and says nothing."""
    over = asyncio.Event()

    async def hold(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await over.wait()
        writer.close()

    host, _, port = address.rpartition(":")
    server = await asyncio.start_server(hold, host, int(port))
    yield
    over.set()
    server.close()
    await server.wait_closed()


async def test_candidate_that_says_nothing_is_given_up(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(callback, "SECONDS", 0.2)
    async with silent(address):
        with pytest.raises(Unavailable, match="no answer within"):
            await call_back(address, REQUEST, manager_of())


# -- a manager, asked to let somebody in ----------------------------------------------------------------------------


@pytest.fixture
async def port(tmp_path: Path) -> AsyncIterator[Port]:
    async with serving(tmp_path / "manager") as made:
        yield made


async def test_manager_writes_nothing_about_a_candidate_that_it_does_not_reach(port: Port, address: str) -> None:
    store = port.manager.store
    before = [node.id for node in store.nodes]
    message = JoinMessage(port.tokens.manager, address, "127.0.0.1", "active", NodeDescription(), REQUEST)
    with pytest.raises(Unavailable, match="could not connect to prospective"):
        await port.manager.admission.join(message)
    assert [node.id for node in store.nodes] == before
    assert len(port.manager.log.members()) == 1


async def test_manager_gives_no_number_to_a_promoted_node_that_it_does_not_reach(port: Port, address: str) -> None:
    message = BecomeManager(address, REQUEST)
    with pytest.raises(FailedPrecondition, match="promote it first"):
        await port.manager.admission.become_manager(WORKER.node_id, message)
    await port.manager.roles.promote(WORKER.node_id)
    with pytest.raises(Unavailable, match="could not connect to prospective"):
        await port.manager.admission.become_manager(WORKER.node_id, message)
    node = port.manager.store.nodes.get(WORKER.node_id)
    assert node is not None
    assert node.manager_status is None
    async with answering(address, KEY, port.authority.certificate):
        first = await port.manager.admission.become_manager(WORKER.node_id, message)
        second = await port.manager.admission.become_manager(WORKER.node_id, message)
    assert first.raft_id != second.raft_id  # each answer begins with an empty log


async def test_node_whose_joining_failed_leaves_neither_object_nor_member(port: Port, address: str) -> None:
    """It answered when it was called back, and never again: it gets no vote, and withdraws."""
    message = JoinMessage(port.tokens.manager, address, "127.0.0.1", "active", NodeDescription(), REQUEST)
    async with answering(address, KEY, port.authority.certificate):
        answer = await port.manager.admission.join(message)
    members = port.manager.log.members

    async def numbers() -> list[int]:
        return sorted(view.id for view in members())

    async def added() -> bool:
        return len(await numbers()) == 2

    async def taken_out() -> bool:
        return await numbers() == [7]

    await eventually_async(added, 20, "the keeper has made it a learner")
    await port.manager.writer.commit([put("secrets", Secret(id="s", spec=SecretSpec(name="s")), new=True)])
    assert [view.is_voter for view in sorted(members(), key=lambda view: view.id != 7)] == [True, False]
    candidate = tls.calling_context(answer.certificate, KEY, answer.roots)
    async with aiohttp.ClientSession() as session:
        url = f"https://{port.address}/cluster/withdraw"
        async with session.post(url, ssl=candidate, server_hostname="swarm-manager") as response:
            assert response.status == 200
        async with session.post(url, ssl=candidate, server_hostname="swarm-manager") as response:
            assert response.status == 401  # nobody of this cluster any more
    assert port.manager.store.nodes.get(answer.node_id) is None
    await eventually_async(taken_out, 20, "the keeper has taken it out")
