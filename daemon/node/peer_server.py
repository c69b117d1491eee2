"""Port 2377 from the server's side: agents' sessions, joins, managers' messages.

It listens while the node is a manager, and speaks TLS only. The root certificate is
told to everybody; a join needs a token; everything else a certificate of a node that is still in the cluster, and what
managers ask of each other that of a manager (see `tls.py`).
"""

import asyncio
import contextlib
import resource
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import quote

import aiohttp
import msgspec
from aiohttp import web

from essaim.api.listen.admission import Admission, Limits
from essaim.api.listen.connections import CONNECTION, Connection
from essaim.api.listen.doors import Doors, door_for, limits
from essaim.cluster.errors import ClusterError, InvalidArgument, NotFound, Unauthorized
from essaim.cluster.wire import LogRequest
from essaim.daemon.keys.keyring import Keyring
from essaim.daemon.keys.tls import NO_CERTIFICATE, holder_behind, holder_from
from essaim.daemon.membership.joins import BecomeManager, JoinMessage, RenewMessage
from essaim.daemon.peers.channel import (
    MAX_MESSAGE,
    PEERS,
    PEERS_VERSION,
    REASON,
    SocketChannel,
    StreamChannel,
    watched,
)
from essaim.daemon.peers.tunnels import bridge
from essaim.secrets.holder import Holder

from .manager import ManagerRole

MAX_BODY = 1024 * 1024
STRANGERS_BODY = 64 * 1024
"""Bytes of a host's request to join: a description of its Engine, and a certificate request."""
HEADS = {"max_headers": 32, "max_line_size": 2048, "max_field_size": 2048}
"""Of requests between daemons; whoever may not ask at all can make a manager keep so much for 10 s."""
KEEP_ALIVE_SECONDS = 30.0
HELLO_TIMEOUT = 10.0

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class PeerServer:
    """Serves one manager. Use `start()` and `stop()`."""

    def __init__(self, manager: ManagerRole, keyring: Keyring, log: Any) -> None:
        self._manager = manager
        self._keyring = keyring
        self._log = log
        self._doors: Doors | None = None
        self._sessions: set[web.WebSocketResponse] = set()

    async def start(self, host: str, port: int) -> None:
        """Raises OSError when the address cannot be had."""
        app = web.Application(middlewares=[self._errors], client_max_size=MAX_BODY)
        app.add_routes(
            [
                web.get("/cluster/ca", self._root),
                web.post("/cluster/join", self._join),
                web.post("/cluster/renew", self._renew),
                web.post("/cluster/manager", self._become_manager),
                web.post("/cluster/leave", self._leave),
                web.post("/cluster/withdraw", self._withdraw),
                web.get("/cluster/session", self._session),
                web.get("/cluster/logs", self._logs),
                web.get("/cluster/tunnel", self._tunnel),
                web.get("/cluster/engine/{node}", self._engine),
                *self._manager.log_routes(),
            ]
        )
        self._doors = Doors(app, self._log, shutdown_timeout=1.0, keepalive_timeout=KEEP_ALIVE_SECONDS, **HEADS)
        await self._doors.start()
        bounds = limits(resource.getrlimit(resource.RLIMIT_NOFILE)[0])
        nodes = Admission[Connection](Limits(2 * bounds.total, bounds.total))
        door = door_for(f"{host}:{port}", bounds, context=self._keyring.listening, proof=self._prove, known=nodes)
        try:
            await self._doors.listen_tcp(host, port, door)
        except OSError:
            await self._doors.stop()
            raise

    async def close_sessions(self) -> None:
        await asyncio.gather(*(socket.close() for socket in list(self._sessions)), return_exceptions=True)

    async def stop(self) -> None:
        await self.close_sessions()
        if self._doors is not None:
            await self._doors.stop()
            self._doors = None

    @web.middleware
    async def _errors(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            _require_known(request)
            return await handler(request)
        except ClusterError as error:
            # In a header too: a client that asked for a WebSocket is not shown the body.
            return web.Response(status=error.status, text=str(error), headers={REASON: quote(str(error))})
        except msgspec.DecodeError as error:
            return web.Response(status=400, text=f"not a message of this version of essaim: {error}")
        except (web.HTTPException, asyncio.CancelledError):
            raise
        except Exception:
            self._log.exception("request from a peer failed", path=request.path)
            return web.Response(status=500, text="internal error; the manager's log has the details")

    def _prove(self, transport: asyncio.BaseTransport) -> str:
        """The node behind a connection; empty for a stranger. Whether it is in the cluster still, requests show."""
        try:
            holder = holder_behind(transport)
        except Unauthorized:
            return ""
        return holder.node_id if holder.cluster_id == self._manager.identity.cluster_id else ""

    def _holder(self, request: web.Request) -> Holder:
        """The node of this cluster that asks. Raises Unauthorized."""
        holder = holder_from(request)
        if holder.cluster_id != self._manager.identity.cluster_id:
            raise Unauthorized(f"{NO_CERTIFICATE}: this one is of cluster {holder.cluster_id}")
        return holder

    def _node(self, request: web.Request) -> str:
        """Its id, once it is known to be in the cluster still."""
        return self._manager.issuer.require_node(self._holder(request).node_id).id

    def _require_manager(self, request: web.Request) -> None:
        self._manager.issuer.require_manager(self._holder(request))

    async def _root(self, _: web.Request) -> web.Response:
        return web.Response(body=self._manager.issuer.root(), content_type="application/x-pem-file")

    async def _join(self, request: web.Request) -> web.Response:
        message = msgspec.msgpack.decode(await _small_body(request), type=JoinMessage)
        connection = request.get(CONNECTION)
        with connection.served() if connection is not None else contextlib.nullcontext():
            return _answer(await self._manager.admission.join(message))

    async def _become_manager(self, request: web.Request) -> web.Response:
        node_id = self._node(request)
        message = msgspec.msgpack.decode(await request.read(), type=BecomeManager)
        return _answer(await self._manager.admission.become_manager(node_id, message))

    async def _renew(self, request: web.Request) -> web.Response:
        node_id = self._node(request)
        message = msgspec.msgpack.decode(await request.read(), type=RenewMessage)
        return _answer(self._manager.issuer.renew(node_id, message.request))

    async def _leave(self, request: web.Request) -> web.Response:
        await self._manager.admission.left(self._node(request))
        return web.Response()

    async def _withdraw(self, request: web.Request) -> web.Response:
        await self._manager.admission.withdrawn(self._node(request))
        return web.Response()

    async def _session(self, request: web.Request) -> web.WebSocketResponse:
        # The dispatcher looks whether the node is in the cluster: its agent is to be told in the session if not.
        peer = self._holder(request).node_id
        socket = await self._open(request)
        try:
            await self._manager.dispatcher.serve(SocketChannel(socket), peer, hello_timeout=HELLO_TIMEOUT)
        finally:
            self._sessions.discard(socket)
            await socket.close()
        return socket

    async def _tunnel(self, request: web.Request) -> web.WebSocketResponse:
        """A node connects its Engine, as it was asked to."""
        self._node(request)
        key = _shown(request)
        if not self._manager.tunnels.expects(key):
            raise NotFound("nobody expects this connection (any more)")
        socket = await self._open(request)
        try:
            await self._manager.tunnels.hold(key, StreamChannel(socket).watch())
        finally:
            self._sessions.discard(socket)
            await socket.close()
        return socket

    async def _engine(self, request: web.Request) -> web.WebSocketResponse:
        """Another manager wants a stream to a node's Engine."""
        self._require_manager(request)
        far = await self._manager.tunnels.open(request.match_info["node"])
        try:
            socket = await self._open(request)
            try:
                await bridge(StreamChannel(socket).watch(), far)
            finally:
                self._sessions.discard(socket)
        finally:
            await far.close()
        return socket

    async def _logs(self, request: web.Request) -> web.WebSocketResponse:
        self._require_manager(request)
        socket = await self._open(request)
        try:
            message = await socket.receive(timeout=HELLO_TIMEOUT)
            if message.type is not aiohttp.WSMsgType.BINARY:
                raise InvalidArgument("a log request was expected")
            wanted = msgspec.msgpack.decode(message.data, type=LogRequest)
            with watched(socket):
                await self._pump(socket, wanted)
        finally:
            self._sessions.discard(socket)
            await socket.close()
        return socket

    async def _pump(self, socket: web.WebSocketResponse, wanted: LogRequest) -> None:
        """Send chunks until the end, or until the other side goes."""

        async def send() -> None:
            async with contextlib.aclosing(self._manager.dispatcher.logs.read(wanted)) as chunks:
                async for chunk in chunks:
                    await socket.send_bytes(msgspec.msgpack.encode(chunk))

        sending = asyncio.ensure_future(send())
        gone = asyncio.ensure_future(socket.receive())
        await asyncio.wait({sending, gone}, return_when=asyncio.FIRST_COMPLETED)
        for task in (sending, gone):
            task.cancel()
        for result in await asyncio.gather(sending, gone, return_exceptions=True):
            if isinstance(result, Exception) and not isinstance(result, ConnectionError):
                self._log.warning("a log stream ended early", error=str(result))

    async def _open(self, request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse(max_msg_size=MAX_MESSAGE, compress=False)
        await socket.prepare(request)
        self._sessions.add(socket)
        return socket


async def _small_body(request: web.Request) -> bytes:
    """Raises InvalidArgument."""
    data = b""
    while chunk := await request.content.readany():
        data += chunk
        if len(data) > STRANGERS_BODY:
            raise InvalidArgument(f"a request to join has at most {STRANGERS_BODY} bytes")
    return data


def _require_known(request: web.Request) -> None:
    """Raises InvalidArgument for messages of a newer version."""
    version = request.headers.get(PEERS, "1")
    if not version.isdecimal() or int(version) > PEERS_VERSION:
        raise InvalidArgument(
            f"this manager speaks version {PEERS_VERSION} of the messages between nodes, and was asked in {version!r}: "
            "upgrade essaim on the managers first"
        )


def _shown(request: web.Request) -> str:
    return request.headers.get("Authorization", "").removeprefix("Bearer ")


def _answer(value: Any) -> web.Response:
    return web.Response(body=msgspec.msgpack.encode(value), content_type="application/msgpack")
