import asyncio
import contextlib
import ssl
import sys
from pathlib import Path

import aiohttp
import pytest
import trustme

from essaim.raft.core.entries import Entry
from essaim.raft.core.messages import Append, Heartbeat, InstallSnapshot
from essaim.raft.member.node import Options, Timing
from essaim.raft.member.policy import SnapshotPolicy
from essaim.raft.transport import transport
from essaim.raft.transport.streams import Access, HandshakeFailed, open_stream
from essaim.raft.transport.wire import FRAME_MAX, FrameReader, encode_frame
from tests.ports import free_port

sys.path.insert(0, str(Path(__file__).parent))
from cluster import Host, eventually, local_cluster

PATIENT = Timing(leaderless=30.0)


def with_token(token: str) -> Options:
    access = Access(
        headers=lambda: {"Authorization": token},
        allows=lambda request, member: request.headers.get("Authorization") == token and member in range(1, 4),
    )
    return Options(timing=PATIENT, access=access, policy=lambda: SnapshotPolicy(entries=50, share=0), keep_entries=5)


def test_frames_cut_anywhere_are_put_together() -> None:
    messages = [Append(1, 2, 3, 4, 3, 2, [Entry(5, 3, 0, 9, b"data")]), Heartbeat(1, 2, 3, 4, 5)]
    raw = bytes(encode_frame(messages) + encode_frame(messages[:1]))
    for step in (1, 3, 7, len(raw)):
        reader, found = FrameReader(), []
        for at in range(0, len(raw), step):
            found += reader.feed(raw[at : at + step])
        assert found == [*messages, messages[0]]


@pytest.mark.parametrize("raw", [(FRAME_MAX + 1).to_bytes(4, "little"), b"\x03\0\0\0\xc1\xc1\xc1", b"\x01\0\0\0\x01"])
def test_frames_of_nonsense_are_refused(raw: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - msgspec's own, or ours
        FrameReader().feed(raw)


async def test_transport_with_a_token_works_and_without_it_is_refused(tmp_path: Path) -> None:
    async with local_cluster(tmp_path, 3, with_token("secret")) as cluster:
        await cluster.leader()
        await cluster.logs[2].propose(b"x", timeout=20)
        address = cluster.hosts[1].address
        own = {"Essaim-From": "2", "Essaim-To": "1", "Essaim-Address": "127.0.0.1:1"}
        with pytest.raises(HandshakeFailed) as caught:
            await open_stream(address, own, Access(), 1)
        assert caught.value.status == 403
        with pytest.raises(HandshakeFailed) as caught:
            await open_stream(address, {**own, "Essaim-To": "7", "Authorization": "secret"}, Access(), 7)
        assert caught.value.status == 409
        with pytest.raises(HandshakeFailed) as caught:
            await open_stream(address, {**own, "Essaim-From": "9", "Authorization": "secret"}, Access(), 1)
        assert caught.value.status == 403
        with pytest.raises(HandshakeFailed) as caught:
            await open_stream(address, {"Authorization": "secret"}, Access(), 1)
        assert caught.value.status == 400
        async with aiohttp.ClientSession() as session:
            async with session.post(f"http://{address}/raft/snapshot", data=b"x", headers=own) as response:
                assert response.status == 403
            headers = {**own, "Authorization": "secret", "Essaim-Term": "9", "Essaim-Snapshot": "5-2.snap"}
            async with session.post(f"http://{address}/raft/snapshot", data=b"damaged", headers=headers) as response:
                assert response.status == 507
            assert not list(cluster.hosts[1].directory.glob("*.tmp"))


async def test_transport_over_tls_replicates_and_sends_snapshots(tmp_path: Path) -> None:
    authority = trustme.CA()
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    certificate = authority.issue_cert("member-1", "member-2", "member-3")
    certificate.configure_cert(server)
    client = ssl.create_default_context()
    authority.configure_trust(client)
    certificate.configure_cert(client)
    authority.configure_trust(server)
    server.verify_mode = ssl.CERT_REQUIRED
    options = Options(
        timing=PATIENT,
        access=Access(client_ssl=lambda: client, server_name=lambda member: f"member-{member}"),
        policy=lambda: SnapshotPolicy(entries=50, share=0),
        keep_entries=5,
    )
    async with local_cluster(tmp_path, 3, options, server) as cluster:
        leader = await cluster.leader()
        late = next(i for i in cluster.hosts if i != leader)
        await cluster.hosts[late].stop()
        await asyncio.gather(*(cluster.logs[leader].propose(b"%d" % i, timeout=30) for i in range(300)))
        log = cluster.logs[leader]
        await eventually(lambda: log._driver.core.state.log.base > 50, "the log is compacted")
        await cluster.hosts[late].start()
        assert len(await cluster.same()) == 300


async def test_transport_stuck_peer_costs_a_bounded_buffer_and_the_others_nothing(tmp_path: Path) -> None:
    """A peer that accepts and never reads: the cluster of the others works, and nothing piles up for it."""

    async def never_reads(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.readuntil(b"\r\n\r\n")
        except asyncio.IncompleteReadError:
            writer.close()
            return
        writer.write(b"HTTP/1.1 101 Switching Protocols\r\n\r\n")
        handlers.append(writer)
        await over.wait()
        writer.transport.abort()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()

    handlers: list[asyncio.StreamWriter] = []
    over = asyncio.Event()
    async with local_cluster(tmp_path, 3, Options(timing=PATIENT)) as cluster:
        leader = await cluster.leader()
        port = free_port()
        server = await asyncio.start_server(never_reads, "127.0.0.1", port)
        async with server:
            log = cluster.logs[leader]
            await log.add_learner(9, f"127.0.0.1:{port}")
            for _ in range(40):
                await log.propose(bytes(500_000), timeout=30)
            peer = log._driver.transport._peers[9]
            stream = peer._stream
            pending = stream._transport.get_write_buffer_size() if stream and stream._transport else 0
            assert pending < 24 << 20
            await log.remove(9)
            over.set()
            await eventually(lambda: all(w.transport.is_closing() for w in handlers), "all are closed")
        assert (await cluster.same())[-1] == bytes(500_000)


async def test_transport_member_that_was_removed_is_told_when_it_comes_back(tmp_path: Path) -> None:
    async with local_cluster(tmp_path, 3, Options(timing=PATIENT)) as cluster:
        leader = await cluster.leader()
        away = next(i for i in cluster.hosts if i != leader)
        await cluster.hosts[away].stop()
        await cluster.logs[leader].remove(away)
        host: Host = cluster.hosts[away]
        log = await host.start()
        await eventually(lambda: "removed" in log._driver.reason, "it was told")


async def test_transport_stream_of_a_newer_version_is_refused_in_clear_words(tmp_path: Path) -> None:
    async with local_cluster(tmp_path, 1, Options(timing=PATIENT)) as cluster:
        await cluster.leader()
        headers = {"Essaim-From": "2", "Essaim-To": "1", "Essaim-Address": "127.0.0.1:1", "Essaim-Raft": "2"}
        with pytest.raises(HandshakeFailed, match="version 2 of the log's messages is not known here"):
            await open_stream(cluster.hosts[1].address, headers, Access(), 1)


async def test_transport_peer_that_stops_reading_a_snapshot_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    over, asked = asyncio.Event(), asyncio.Event()

    async def never_reads(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if (await reader.readline()).startswith(b"POST /raft/snapshot"):
            asked.set()
        await over.wait()
        writer.transport.abort()

    monkeypatch.setattr(transport, "SNAPSHOT_SECONDS", 0.2)
    monkeypatch.setattr(transport, "SNAPSHOT_SLOWEST", 1 << 30)
    options = Options(timing=PATIENT, policy=lambda: SnapshotPolicy(entries=50, share=0), keep_entries=5)
    async with local_cluster(tmp_path, 1, options) as cluster:
        await cluster.leader()
        log, port = cluster.logs[1], free_port()
        await asyncio.gather(*(log.propose(bytes(300_000), timeout=30) for _ in range(60)))
        driver = log._driver
        await eventually(lambda: driver.core.state.snapshot.index > 0, "there is a snapshot")
        async with await asyncio.start_server(never_reads, "127.0.0.1", port):
            driver.transport.contacts.called(9, f"127.0.0.1:{port}")
            message = InstallSnapshot(9, 1, driver.core.term, driver.core.state.snapshot)
            assert not await asyncio.wait_for(driver.transport.send_snapshot(message), 20)
            assert asked.is_set()
            await log.propose(b"it goes on", timeout=20)
            over.set()
