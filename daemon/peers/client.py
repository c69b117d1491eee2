"""Port 2377 from the client's side: requests from one daemon to a manager.

Every request is bounded in time; what another daemon answers in error comes back as the same `ClusterError`. Every
connection is TLS, by this node's certificate, to a server that proves to be a manager of the same cluster; only a host
that joins has none yet. Connections are not kept: each shows the certificate of the moment.
"""

import asyncio
import os
import ssl
from collections.abc import AsyncIterator, Sequence
from typing import Any
from urllib.parse import quote, unquote

import aiohttp
import msgspec

from essaim.cluster import errors
from essaim.cluster.wire import LogChunk, LogRequest
from essaim.daemon.keys.keyring import Keyring
from essaim.daemon.keys.tls import trusting_context
from essaim.secrets.holder import MANAGER

from .channel import MAX_MESSAGE, PEERS, PEERS_VERSION, REASON, SocketChannel, StreamChannel, watched

CONNECT_TIMEOUT = 3.0
REQUEST_TIMEOUT = 20.0


def error_of(status: int, message: str) -> errors.ClusterError:
    """The error that a peer reported, as raised there."""
    kinds: Sequence[type[errors.ClusterError]] = (
        errors.InvalidArgument, errors.Unauthorized, errors.Forbidden, errors.NotFound, errors.AlreadyExists,
        errors.NotYet, errors.Unavailable,
    )  # fmt: skip
    for kind in kinds:
        if kind.status == status:
            return kind(message)
    return errors.ClusterError(message)


def _why(error: BaseException) -> str:
    """In the system's words; aiohttp's name objects of ours."""
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return f"there is no host named {error.host}"
    if isinstance(error, aiohttp.ClientConnectorError) and error.os_error.errno:
        return os.strerror(error.os_error.errno).lower()
    return str(error) or "no answer in time"


def _unproven(address: str, error: Exception) -> str:
    return (
        f"the connection to the manager at {address} is not trusted: {error}. Is it a manager of this cluster, is this "
        "node's certificate still good, and are both hosts' clocks right?"
    )


class PeerClient:
    """Requests to managers. Use `start()` and `close()`."""

    def __init__(self, keyring: Keyring) -> None:
        self._keyring = keyring
        self._http: aiohttp.ClientSession | None = None

    async def start(self) -> None:
        self._http = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(force_close=True), headers={PEERS: str(PEERS_VERSION)}
        )

    async def close(self) -> None:
        if self._http is not None:
            await self._http.close()
            self._http = None

    @property
    def http(self) -> aiohttp.ClientSession:
        assert self._http is not None, "the client has not been started"
        return self._http

    async def call(
        self,
        address: str,
        path: str,
        body: Any,
        *,
        kind: type[Any] | None = None,
        timeout: float = REQUEST_TIMEOUT,
        context: ssl.SSLContext | None = None,
    ) -> Any:
        """POST a MessagePack body. Raises ClusterError; Unavailable when the manager cannot be reached."""
        data = await self._exchange("POST", address, path, msgspec.msgpack.encode(body), timeout, context)
        try:
            return msgspec.msgpack.decode(data, type=kind) if kind else None
        except msgspec.DecodeError as error:
            raise errors.Unavailable(f"{address} answered, but not as an essaim manager does ({error})") from error

    async def root(self, address: str) -> bytes:
        """The root certificate (PEM) that a manager, or whoever answers there, says to be the cluster's."""
        context = await asyncio.to_thread(trusting_context)
        return await self._exchange("GET", address, "/cluster/ca", None, REQUEST_TIMEOUT, context)

    async def _exchange(
        self, method: str, address: str, path: str, body: bytes | None, timeout: float, context: ssl.SSLContext | None
    ) -> bytes:
        limit = aiohttp.ClientTimeout(total=timeout, connect=CONNECT_TIMEOUT)
        try:
            async with self.http.request(
                method, f"https://{address}{path}", data=body, timeout=limit, **self._tls(context)
            ) as response:
                data = await response.read()
                if response.status != 200:
                    raise error_of(response.status, data.decode(errors="replace"))
                return data
        except (aiohttp.ClientSSLError, ssl.SSLError) as error:
            raise errors.Unavailable(_unproven(address, error)) from error
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise errors.Unavailable(
                f"could not reach the manager at {address}: {_why(error)}. Is essaimd running there, and the port open?"
            ) from error

    def _tls(self, context: ssl.SSLContext | None = None) -> dict[str, Any]:
        """The server must be a manager of the cluster whose root the context trusts."""
        return {"ssl": context or self._keyring.calling, "server_hostname": MANAGER}

    async def session(self, address: str) -> SocketChannel:
        """Open an agent's session. Raises ConnectionError."""
        try:
            timeout = aiohttp.ClientWSTimeout(ws_close=2.0)
            connecting = self.http.ws_connect(
                f"https://{address}/cluster/session",
                max_msg_size=MAX_MESSAGE,
                timeout=timeout,
                compress=0,
                **self._tls(),
            )
            async with asyncio.timeout(CONNECT_TIMEOUT):
                return SocketChannel(await connecting)
        except aiohttp.WSServerHandshakeError as error:
            reason = unquote(error.headers.get(REASON, "") if error.headers else "") or error.message
            raise ConnectionError(f"no session with the manager at {address}: {reason}") from error
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise ConnectionError(f"no session with the manager at {address}: {_why(error)}") from error

    async def tunnel(self, address: str, key: str) -> StreamChannel:
        """Connect this node's Engine to the manager that asked for it with `key`. Raises ClusterError."""
        return await self._stream(address, "/cluster/tunnel", key)

    async def engine(self, address: str, node_id: str) -> StreamChannel:
        """A stream to a node's Engine through the leading manager. Raises ClusterError."""
        return await self._stream(address, f"/cluster/engine/{quote(node_id, safe='')}")

    async def _stream(self, address: str, path: str, key: str = "") -> StreamChannel:
        try:
            async with asyncio.timeout(REQUEST_TIMEOUT):
                socket = await self.http.ws_connect(
                    f"https://{address}{path}",
                    headers={"Authorization": f"Bearer {key}"} if key else None,
                    timeout=aiohttp.ClientWSTimeout(ws_close=2.0),
                    compress=0,
                    **self._tls(),
                )
        except aiohttp.WSServerHandshakeError as error:
            reason = unquote(error.headers.get(REASON, "") if error.headers else "") or error.message
            raise error_of(error.status, reason) from error
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise errors.Unavailable(f"could not reach the manager at {address}: {_why(error)}") from error
        return StreamChannel(socket).watch()

    async def logs(self, address: str, request: LogRequest) -> AsyncIterator[LogChunk]:
        """A task's output through the leading manager. Raises Unavailable."""
        timeout = aiohttp.ClientTimeout(total=None, connect=CONNECT_TIMEOUT)
        decoder = msgspec.msgpack.Decoder(LogChunk)
        try:
            async with self.http.ws_connect(
                f"https://{address}/cluster/logs",
                max_msg_size=MAX_MESSAGE,
                timeout=aiohttp.ClientWSTimeout(ws_close=timeout.connect),
                **self._tls(),
            ) as socket:
                await socket.send_bytes(msgspec.msgpack.encode(request))
                with watched(socket):
                    while (message := await socket.receive()).type is aiohttp.WSMsgType.BINARY:
                        yield decoder.decode(message.data)
                if message.type is not aiohttp.WSMsgType.CLOSE:
                    raise ConnectionResetError("the connection broke")
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise errors.Unavailable(f"lost the manager at {address} while reading logs: {error}") from error
