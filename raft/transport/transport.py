"""Messages between members over long-lived streams, and snapshots beside them.

One stream a direction: this member connects to every peer it has something for, and accepts theirs. What cannot be
sent now is dropped (Raft repeats it): a slow or dead peer costs a bounded buffer and nothing else. Snapshots travel as
requests of their own, in chunks, so that heartbeats never queue behind one.
"""

import asyncio
import contextlib
import random
import ssl
from collections.abc import AsyncIterator, Sequence
from enum import Enum
from pathlib import Path
from typing import Protocol

import aiohttp
import structlog
from aiohttp import web

from essaim.raft.core.messages import InstallSnapshot, Message
from essaim.raft.disk.snapshots import Incoming, Snapshots, parse_snapshot_name, plain_snapshot
from essaim.raft.interface import Unusable

from . import streams
from .contacts import Contacts
from .streams import ADDRESS, FROM, PROTOCOL, TO, VERSION, Access, HandshakeFailed, Inbound, Outbound, open_stream
from .wire import WireMessage, encode_frame

SNAPSHOT_PATH = "/raft/snapshot"
CHUNK = 256 << 10
RETRY_SECONDS = (0.05, 1.0)  # first and longest pause between attempts to connect
SNAPSHOT_SECONDS = 60.0  # for a snapshot to arrive, and besides what its size takes at the slowest
SNAPSHOT_SLOWEST = 1 << 20  # bytes a second; a peer that stopped reading would hold its snapshot for ever
GONE, BUSY = 410, 503
_log = structlog.get_logger("raft")


class Reach(Enum):
    """What the transport learned about a peer."""

    CONNECTED = "connected"
    LOST = "lost"  # what was sent may not have arrived
    REFUSED = "refused"  # nobody listens there
    REMOVED = "removed"  # it says that this member is no longer one


class Receiver(Protocol):
    """The node, as the transport sees it. All calls come from the event loop."""

    def on_messages(self, messages: Sequence[WireMessage]) -> None: ...

    def on_reach(self, member: int, reach: Reach) -> None: ...

    async def on_snapshot(self, message: InstallSnapshot, path: Path) -> None: ...


class Peer:
    """The stream to one member, kept open."""

    def __init__(self, transport: "HttpTransport", member: int, address: str) -> None:
        self._transport, self.member, self.address = transport, member, address
        self._stream: Outbound | None = None
        self._task = asyncio.create_task(self._run(), name=f"stream to {address}")

    def send(self, messages: Sequence[Message]) -> bool:
        """Whether the messages are on their way."""
        stream = self._stream
        if stream is None or not stream.writable:
            return False
        stream.write(encode_frame(messages))
        return True

    @property
    def connected(self) -> bool:
        return self._stream is not None

    async def stop(self) -> None:
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task

    async def _run(self) -> None:
        pause, longest = RETRY_SECONDS
        access = self._transport.access
        while True:
            try:
                self._stream = await open_stream(
                    self.address, self._transport.headers(self.member), access, self.member
                )
            except (OSError, TimeoutError) as error:
                self._report(error)
                await asyncio.sleep(pause * random.uniform(0.75, 1.25))  # noqa: S311 - not a secret
                pause = min(longest, pause * 2)
                continue
            pause = RETRY_SECONDS[0]
            await self._hold(self._stream)

    async def _hold(self, stream: Outbound) -> None:
        receiver = self._transport.receiver
        receiver.on_reach(self.member, Reach.CONNECTED)
        try:
            await stream.closed
        finally:
            self._stream = None
            stream.close()
        receiver.on_reach(self.member, Reach.LOST)

    def _report(self, error: OSError | TimeoutError) -> None:
        if isinstance(error, ConnectionRefusedError):
            self._transport.receiver.on_reach(self.member, Reach.REFUSED)
        elif isinstance(error, HandshakeFailed) and error.status == GONE:
            self._transport.receiver.on_reach(self.member, Reach.REMOVED)
        elif isinstance(error, ssl.SSLError):
            _log.warning("no member of this cluster answers there", address=self.address, error=str(error))
        elif isinstance(error, HandshakeFailed) and error.status != BUSY:
            _log.warning("a member refuses our stream", address=self.address, error=str(error))


class HttpTransport:
    """All peers of a member. `start` before use; `routes` belong on the server that peers reach at `address`."""

    def __init__(self, member: int, address: str, snapshots: Snapshots, access: Access | None = None) -> None:
        self.member, self.address, self.access = member, address, access or Access()
        self._snapshots = snapshots
        self.contacts = Contacts(member)
        self._peers: dict[int, Peer] = {}
        self._inbound: dict[Inbound, int] = {}  # who sends there
        self._ending: set[asyncio.Task[None]] = set()
        self._session: aiohttp.ClientSession | None = None
        self.receiver: Receiver

    def start(self, receiver: Receiver) -> None:
        self.receiver = receiver
        self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=None, sock_connect=3, sock_read=60))

    async def stop(self) -> None:
        session, self._session = self._session, None
        for inbound in list(self._inbound):
            inbound.close()
        peers, self._peers = list(self._peers.values()), {}
        await asyncio.gather(*(peer.stop() for peer in peers), *self._ending)
        if session is not None:
            await session.close()

    def routes(self) -> list[web.RouteDef]:
        return [web.get(streams.PATH, self._accept), web.post(SNAPSHOT_PATH, self._receive_snapshot)]

    def headers(self, to: int) -> dict[str, str]:
        own = {FROM: str(self.member), ADDRESS: self.address, TO: str(to), PROTOCOL: str(VERSION)}
        return {**self.access.headers(), **own}

    def follow_contacts(self) -> None:
        """Whom to talk to has changed: connect to all of them, leave others."""
        wanted = self.contacts.wanted()
        for member in [member for member in self._peers if member not in wanted]:
            self._drop(member)
        for member in wanted:
            self._peer(member)
        for inbound, sender in list(self._inbound.items()):
            if self.contacts.is_removed(sender):
                inbound.close()  # it comes back, and is told then

    def connected(self, member: int) -> bool:
        return member in self._peers and self._peers[member].connected

    def send(self, messages: Sequence[Message]) -> set[int]:
        """Hand messages to the streams; the members that they cannot be sent to now."""
        by_member: dict[int, list[Message]] = {}
        for message in messages:
            by_member.setdefault(message.to, []).append(message)
        failed = set()
        for member, batch in by_member.items():
            peer = self._peer(member)
            if peer is None or not peer.send(batch):
                failed.add(member)
        return failed

    async def send_snapshot(self, message: InstallSnapshot) -> bool:
        """Send the file that the message is about; whether it arrived."""
        address = self.contacts.address(message.to)
        path = self._snapshots.path(message.meta)
        if address is None or self._session is None:
            return False
        context = self.access.client_ssl()
        url = f"{'https' if context else 'http'}://{address}{SNAPSHOT_PATH}"
        headers = {**self.headers(message.to), "Essaim-Term": str(message.term), "Essaim-Snapshot": path.name}
        try:
            meta, data = await asyncio.to_thread(self._snapshots.read, path)
            plain = await asyncio.to_thread(plain_snapshot, meta, data)
            patience = SNAPSHOT_SECONDS + len(plain) / SNAPSHOT_SLOWEST
            body = _chunks(plain)
            async with (
                asyncio.timeout(patience),
                self._session.post(
                    url,
                    data=body,
                    headers=headers,
                    ssl=context or True,
                    server_hostname=self.access.server_name(message.to),
                ) as response,
            ):
                if response.status == web.HTTPOk.status_code:
                    return True
                reason = (await response.text()).strip()
        except (aiohttp.ClientError, OSError, TimeoutError, Unusable) as error:
            reason = str(error) or type(error).__name__
        _log.warning("cannot send a snapshot", address=address, index=message.meta.index, error=reason)
        return False

    def _peer(self, member: int) -> Peer | None:
        address = self.contacts.address(member)
        peer = self._peers.get(member)
        if peer is not None and peer.address != address:
            self._drop(member)
            peer = None
        if peer is None and address and self._session is not None:
            peer = self._peers[member] = Peer(self, member, address)
        return peer

    def _drop(self, member: int) -> None:
        task = asyncio.create_task(self._peers.pop(member).stop())
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)

    def _check(self, request: web.Request) -> int:
        """The sender of a request; raises the answer to one that is not welcome."""
        if self._session is None:
            raise web.HTTPServiceUnavailable(text="this member does not run")
        try:
            sender, to = int(request.headers[FROM]), int(request.headers[TO])
            version = int(request.headers.get(PROTOCOL, VERSION))
        except (KeyError, ValueError):
            raise web.HTTPBadRequest(text=f"{FROM} and {TO} must name members") from None
        if not self.access.allows(request, sender):
            raise web.HTTPForbidden(text="the credentials are not those of this member")
        if version > VERSION:
            reason = f"version {version} of the log's messages is not known here, {VERSION} is: upgrade essaim"
            raise web.HTTPUpgradeRequired(reason=reason, text=reason)
        if to != self.member:
            raise web.HTTPConflict(text=f"this is not member {to:x}")
        if self.contacts.is_removed(sender):
            raise web.HTTPGone(text="this member was removed from the cluster")
        if address := request.headers.get(ADDRESS):
            self.contacts.called(sender, address)
        return sender

    async def _accept(self, request: web.Request) -> web.StreamResponse:
        sender = self._check(request)
        if request.headers.get("Upgrade", "").lower() != streams.UPGRADE or request.transport is None:
            raise web.HTTPUpgradeRequired(text=f"Upgrade: {streams.UPGRADE} is expected")
        response = web.StreamResponse(status=101, headers={"Connection": "Upgrade", "Upgrade": streams.UPGRADE})
        await response.prepare(request)
        inbound = Inbound(request.protocol, self.receiver.on_messages)
        self._inbound[inbound] = sender
        try:
            inbound.take_over(request.transport)
            await inbound.closed
        finally:
            self._inbound.pop(inbound, None)
            inbound.close()
        return response

    async def _receive_snapshot(self, request: web.Request) -> web.Response:
        sender = self._check(request)
        try:
            term = int(request.headers["Essaim-Term"])
            index, _ = parse_snapshot_name(request.headers["Essaim-Snapshot"])
        except (KeyError, ValueError):
            raise web.HTTPBadRequest(text="which snapshot?") from None
        incoming = Incoming(self._snapshots, index)
        async for chunk in request.content.iter_chunked(CHUNK):
            incoming.write(chunk)
        try:
            meta, path = await asyncio.to_thread(incoming.finish)
            await self.receiver.on_snapshot(InstallSnapshot(self.member, sender, term, meta), path)
        except (OSError, ValueError, Unusable) as error:
            raise web.HTTPInsufficientStorage(text=str(error)) from None
        return web.Response()


async def _chunks(data: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(data), CHUNK):
        yield data[start : start + CHUNK]
