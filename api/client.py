"""An asynchronous client of the daemon's HTTP API: the Docker Engine's swarm part and the native one.

A host is `unix:///path`, `tcp://host:port`, `http://host:port` or `https://host:port`. Paths carry no version prefix:
the newest API that the daemon speaks is meant. Replies of 400 and above raise `ApiError` with the daemon's own words.
"""

import ssl
from collections.abc import AsyncIterator, Iterable, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote

import aiohttp
import msgspec
from yarl import URL

CONNECT_TIMEOUT = 10.0
"""Seconds until a connection must stand. Replies have no limit: following logs or events takes as long as it takes."""


class ClientError(Exception):
    """A request did not succeed; the message is fit for a user."""


class Unreachable(ClientError):
    """No daemon answers at the host."""


class ApiError(ClientError):
    """The daemon refused: `status` is HTTP's, the message is the daemon's."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True, slots=True)
class Address:
    """Where a daemon listens: a base URL, and the socket to reach it through when it is not TCP."""

    url: str
    socket: str | None = None


def parse_host(host: str, *, tls: bool = False) -> Address:
    """Raises ClientError for what is no host."""
    scheme, separator, rest = host.partition("://")
    if not separator:
        scheme, rest = "tcp", host
    if scheme == "unix":
        if not rest:
            raise ClientError(f'unable to parse the host "{host}": a socket\'s path must follow unix://')
        return Address("http://essaim", rest)
    if scheme not in ("tcp", "http", "https") or not rest.strip("/"):
        raise ClientError(
            f'unable to parse the host "{host}": expected unix:///path, tcp://host:port, http://... or https://...'
        )
    secure = scheme == "https" or (scheme == "tcp" and tls)
    return Address(f"{'https' if secure else 'http'}://{rest.rstrip('/')}")


def encode_filters(filters: Mapping[str, Iterable[str]]) -> str:
    """The `filters` parameter as the docker CLI writes it: `{"name":{"web":true}}`, sorted."""
    ordered = {key: dict.fromkeys(sorted(filters[key]), True) for key in sorted(filters)}
    return msgspec.json.encode(ordered).decode()


def path_of(*segments: str) -> str:
    """A path of segments, each quoted; slashes and colons inside a segment stay (image names have them)."""
    return "/" + "/".join(quote(segment, safe="/:@") for segment in segments)


class Client:
    """One daemon. Use it as a context manager, or call `start()` and `close()`."""

    def __init__(self, host: str, *, tls: ssl.SSLContext | None = None) -> None:
        self.host = host
        self.warning = ""
        """What the daemon last warned of beside an answer (reads without a leader)."""
        self._tls = tls
        self._address = parse_host(host, tls=tls is not None)
        self._session: aiohttp.ClientSession | None = None

    async def start(self) -> None:
        """Make the session; nothing is connected before the first request."""
        if self._session is not None:
            return
        socket = self._address.socket
        connector: aiohttp.BaseConnector = (
            aiohttp.UnixConnector(path=socket)
            if socket
            else aiohttp.TCPConnector(ssl=self._tls if self._tls is not None else True)
        )
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_TIMEOUT)
        self._session = aiohttp.ClientSession(connector=connector, timeout=timeout)

    async def close(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def get(self, path: str, query: Mapping[str, str] | None = None, **options: Any) -> Any:
        """The decoded JSON reply."""
        return decode(await self.request("GET", path, query, **options))

    async def get_raw(self, path: str, query: Mapping[str, str] | None = None) -> bytes:
        """The reply's body as it came."""
        return await self.request("GET", path, query)

    async def post(self, path: str, body: Any = None, query: Mapping[str, str] | None = None, **options: Any) -> Any:
        """Send `body` (a Shape, or what JSON can hold) and return the decoded JSON reply, or None for an empty one."""
        return decode(await self.request("POST", path, query, body=body, **options))

    async def delete(self, path: str, query: Mapping[str, str] | None = None) -> None:
        await self.request("DELETE", path, query)

    async def request(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None = None,
        *,
        body: Any = None,
        headers: Mapping[str, str] | None = None,
        timeout: float | None = None,
    ) -> bytes:
        """One request. Raises Unreachable or ApiError. `timeout` is in seconds, for the whole exchange."""
        async for chunk in self._exchange(method, path, query, body, headers, timeout, whole=True):
            return chunk
        return b""

    def stream(self, path: str, query: Mapping[str, str] | None = None) -> AsyncIterator[bytes]:
        """The body of a GET in pieces, as they arrive."""
        return self._exchange("GET", path, query, None, None, None, whole=False)

    async def _exchange(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None,
        body: Any,
        headers: Mapping[str, str] | None,
        timeout: float | None,
        *,
        whole: bool,
    ) -> AsyncIterator[bytes]:
        if self._session is None:
            raise RuntimeError("the client is not started")
        url = URL(self._address.url + path, encoded=True).with_query(dict(query or {}))
        sent = dict(headers or {})
        data = None
        if body is not None:
            data = msgspec.json.encode(body)
            sent["Content-Type"] = "application/json"
        limit = aiohttp.ClientTimeout(total=timeout, sock_connect=CONNECT_TIMEOUT)
        try:
            async with self._session.request(method, url, data=data, headers=sent, timeout=limit) as response:
                self.warning = response.headers.get("Essaim-Warning", self.warning)
                if response.status >= 400:
                    raise ApiError(response.status, error_message(await response.read(), response.status))
                if whole:
                    yield await response.read()
                    return
                async for chunk in response.content.iter_any():
                    yield chunk
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise Unreachable(self._explain(error)) from error

    def _explain(self, error: BaseException) -> str:
        cause: BaseException | None = error
        while cause is not None:
            if isinstance(cause, PermissionError):
                return (
                    f"permission denied while trying to connect to the essaim daemon at {self.host}: "
                    "run as root, or as a user who may open that socket"
                )
            cause = cause.__cause__ or getattr(cause, "os_error", None)
        if isinstance(error, aiohttp.ServerDisconnectedError | aiohttp.ClientPayloadError | ConnectionResetError):
            return f"the essaim daemon at {self.host} closed the connection before it had answered"
        if isinstance(error, aiohttp.ClientConnectorCertificateError | aiohttp.ClientSSLError):
            return f"cannot make a TLS connection to the essaim daemon at {self.host}: {error}"
        return f"Cannot connect to the essaim daemon at {self.host}. Is essaimd running?"


def decode(data: bytes) -> Any:
    """JSON, None for nothing, and text for what is not JSON."""
    if not data.strip():
        return None
    try:
        return msgspec.json.decode(data)
    except msgspec.DecodeError:
        return data.decode(errors="replace")


def error_message(data: bytes, status: int) -> str:
    """The `message` of an error reply, or the best that can be said."""
    try:
        found = msgspec.json.decode(data)
    except msgspec.DecodeError:
        found = None
    if isinstance(found, dict) and isinstance(found.get("message"), str):
        return str(found["message"]).strip()
    return data.decode(errors="replace").strip() or f"the daemon answered with status {status} and no message"
