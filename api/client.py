"""An asynchronous client of the daemon's HTTP API: the Docker Engine's swarm part and the native one.

A host is `unix:///path`, `tcp://host:port`, `http://host:port` or `https://host:port`. Paths carry no version prefix:
the newest API that the daemon speaks is meant. Replies of 400 and above raise `ApiError` with the daemon's own words.
"""

import asyncio
import contextlib
import re
import ssl
from collections.abc import AsyncIterator, Iterable, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote, urlencode, urlsplit

import msgspec

from essaim.api.explain import Peer, explain
from essaim.api.streams.exchange import EngineUnavailable, Exchange, Head, Streams

CONNECT_TIMEOUT = 10.0
"""Seconds until a connection must stand. Replies have no limit: following logs or events takes as long as it takes."""
REUSE_SECONDS = 5.0
"""For how long an idle connection is used again: far less than the daemon keeps one, so that none is closed by it just
when a request is sent."""
FIT = re.compile(r"[A-Za-z0-9._~:/%\[\]-]+")
"""What host, port and path of a daemon's address are written with."""


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
    """Where a daemon listens: by name and port, or at a socket. `authority` is what `Host` says; every path is below
    `base`."""

    authority: str
    name: str = ""
    port: int = 0
    base: str = ""
    is_secure: bool = False
    socket: str | None = None


def parse_host(host: str, *, tls: bool = False) -> Address:
    """Raises ClientError for what is no host."""
    scheme, separator, rest = host.partition("://")
    if not separator:
        scheme, rest = "tcp", host
    if scheme == "unix":
        if not rest:
            raise ClientError(f'unable to parse the host "{host}": a socket\'s path must follow unix://')
        return Address("essaim", socket=rest)
    is_secure = scheme == "https" or (scheme == "tcp" and tls)
    parts = urlsplit(f"//{rest}") if scheme in ("tcp", "http", "https") and FIT.fullmatch(rest) else None
    with contextlib.suppress(ValueError):  # of a port that is none
        if parts and parts.hostname:
            port = parts.port or (443 if is_secure else 80)
            return Address(parts.netloc, parts.hostname, port, parts.path.rstrip("/"), is_secure)
    raise ClientError(
        f'unable to parse the host "{host}": expected unix:///path, tcp://host:port, http://... or https://...'
    )


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
        self._address = parse_host(host, tls=tls is not None)
        self._tls = tls
        # Connections that nothing is asked on now, and when each was last used, in seconds of the loop's clock.
        self._idle: list[tuple[Streams, float]] = []
        self._is_started = False

    async def start(self) -> None:
        """Nothing is connected before the first request."""
        self._is_started = True

    async def close(self) -> None:
        self._is_started = False
        idle, self._idle = self._idle, []
        for (_, writer), _ in idle:
            writer.close()
        for (_, writer), _ in idle:
            with contextlib.suppress(OSError):
                await writer.wait_closed()

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
        try:
            async with asyncio.timeout(timeout):
                async with self._exchange(method, path, query, body, headers) as exchange:
                    return b"".join([piece async for piece in exchange.body()])
        except TimeoutError:
            raise Unreachable(f"the essaim daemon at {self.host} has not answered for {timeout:g} s") from None

    async def stream(self, path: str, query: Mapping[str, str] | None = None) -> AsyncIterator[bytes]:
        """The body of a GET in pieces, as they arrive."""
        async with self._exchange("GET", path, query, None, None) as exchange:
            async for piece in exchange.body():
                yield piece

    @contextlib.asynccontextmanager
    async def _exchange(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None,
        body: Any,
        headers: Mapping[str, str] | None,
    ) -> AsyncIterator[Exchange]:
        """A request sent, its answer's head read and found to be no error."""
        if not self._is_started:
            raise RuntimeError("the client is not started")
        target = self._address.base + (f"{path}?{urlencode(query)}" if query else path)
        sent, data = dict(headers or {}), b""
        if body is not None:
            data = msgspec.json.encode(body)
            sent["Content-Type"] = "application/json"
        streams = await self._connection()
        exchange = Exchange(streams, f"the essaim daemon at {self.host}")
        try:
            head = await self._ask(exchange, method, target, sent, data)
            self.warning = head.get("essaim-warning") or self.warning
            if head.status >= 400:
                said = b"".join([piece async for piece in exchange.body()])
                raise ApiError(head.status, error_message(said, head.status))
            yield exchange
        except (OSError, EngineUnavailable) as error:
            raise Unreachable(self._explain(error)) from error
        finally:
            if exchange.may_be_followed and self._is_started:
                self._idle.append((streams, asyncio.get_running_loop().time()))
            else:
                exchange.close()

    async def _ask(self, exchange: Exchange, method: str, target: str, headers: Mapping[str, str], body: bytes) -> Head:
        fields = [("Host", self._address.authority), ("Accept", "*/*"), ("User-Agent", "essaim"), *headers.items()]
        if body or method in ("POST", "PUT", "PATCH"):
            fields.append(("Content-Length", str(len(body))))
        await exchange.send_head(method, target, fields)
        if body:
            await exchange.send_body(one_piece(body), chunked=False)
        return await exchange.head()

    async def _connection(self) -> Streams:
        """One that is open already and was used a moment ago, else a new one. Raises Unreachable."""
        while self._idle:
            streams, used = self._idle.pop()
            reader, writer = streams
            if asyncio.get_running_loop().time() - used < REUSE_SECONDS and not reader.at_eof():
                return streams
            writer.transport.abort()
        address = self._address
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT):
                if address.socket is not None:
                    return await asyncio.open_unix_connection(address.socket)
                tls = (self._tls or ssl.create_default_context()) if address.is_secure else None
                return await asyncio.open_connection(address.name, address.port, ssl=tls)
        except (OSError, TimeoutError, ValueError) as error:
            raise Unreachable(self._explain(error)) from error

    def _explain(self, error: BaseException) -> str:
        return explain(error, Peer(self.host, self._address.name, self._address.is_secure))


async def one_piece(body: bytes) -> AsyncIterator[bytes]:
    yield body


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
