"""A client of the Docker Engine API, asynchronous and small: the calls of this room and nothing else.

The API's version is negotiated with the first call: the older of the Engine's and ours. Errors come in two kinds:
`EngineError` is the Engine's answer, `RuntimeUnavailable` is no answer, or one that cannot be read: whether the Engine
has done what it was asked is then unknown. Rejected: the docker SDK, which blocks. The API's proxy has another client
(`api/streams/exchange.py`), which passes raw streams on and hands connections over; this one decodes and pools.
"""

import asyncio
import json
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, Self

import aiohttp

from essaim.agent.runtime.interface import RuntimeUnavailable
from essaim.cluster.engine_address import parse_engine

NEWEST = (1, 51)
"""The newest version of the API that this client speaks."""
CONNECT_WITHIN = 5.0
ANSWER_WITHIN = 120.0
"""Seconds; creating and starting a container may wait for disks."""
LOOK_WITHIN = 20.0
"""Seconds for calls that change nothing."""

Version = tuple[int, int]


class EngineError(Exception):
    """The Engine refused: the HTTP status, and its message."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


def parse_version(text: str) -> Version:
    """`1.41` as numbers. Raises ValueError."""
    major, _, minor = text.partition(".")
    return int(major), int(minor)


class Engine:
    """`url` is an Engine's address (`cluster/engine_address.py`); any other raises ValueError. Use it with
    `async with`."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._where = parse_engine(url)
        self._session: aiohttp.ClientSession | None = None
        self._version: Version | None = None
        self._negotiating = asyncio.Lock()

    async def __aenter__(self) -> Self:
        self.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    def open(self) -> None:
        """Needs a running loop. Nothing is sent yet."""
        if self._session is None:
            socket = self._where.socket
            connector = aiohttp.UnixConnector(socket, limit=0) if socket else aiohttp.TCPConnector(limit=0)
            self._session = aiohttp.ClientSession(connector=connector)

    async def close(self) -> None:
        if self._session is not None:
            session, self._session = self._session, None
            await session.close()

    async def version(self) -> Version:
        """The version spoken with this Engine. Raises RuntimeUnavailable."""
        async with self._negotiating:
            if self._version is None:
                async with self._send("GET", self._address("/_ping"), _timeout(LOOK_WITHIN), {}) as response:
                    # An Engine that is still starting refuses this call: its silence on versions says nothing then.
                    if response.status != 200:
                        raise self._unreadable(f"it answers a ping with status {response.status}")
                    try:
                        spoken = parse_version(response.headers.get("Api-Version", "1.24"))
                    except ValueError:
                        raise self._unreadable("it names no API version") from None
                    self._version = min(spoken, NEWEST)
            return self._version

    def forget_version(self) -> None:
        """The Engine was restarted, maybe as another version."""
        self._version = None

    async def call(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, str] | None = None,
        body: Any = None,
        headers: Mapping[str, str] | None = None,
        timeout: float | None = ANSWER_WITHIN,
    ) -> Any:
        """The decoded answer, None for an empty one. Raises EngineError, RuntimeUnavailable."""
        async with self.stream(method, path, params=params, body=body, headers=headers, timeout=timeout) as response:
            data = await response.read()
        try:
            return json.loads(data) if data.strip() else None
        except ValueError:
            raise self._unreadable(f"its answer to {method} {path} is no JSON") from None

    @asynccontextmanager
    async def stream(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, str] | Sequence[tuple[str, str]] | None = None,
        body: Any = None,
        data: Any = None,
        headers: Mapping[str, str] | None = None,
        timeout: float | None = None,
    ) -> AsyncGenerator[aiohttp.ClientResponse, None]:
        """The open response, its status checked. Raises EngineError, RuntimeUnavailable."""
        major, minor = await self.version()
        options: dict[str, Any] = {"params": params, "json": body, "data": data, "headers": headers}
        url = self._address(f"/v{major}.{minor}{path}")
        async with self._send(method, url, _timeout(timeout), options) as response:
            if response.status >= 400:
                raise EngineError(response.status, _message(await response.read()))
            yield response

    def _unreadable(self, why: str) -> RuntimeUnavailable:
        return RuntimeUnavailable(f"the Docker Engine at {self.url} is not usable: {why}")

    def _address(self, path: str) -> str:
        return f"http://{self._where.authority}{path}"

    @asynccontextmanager
    async def _send(
        self, method: str, url: str, timeout: aiohttp.ClientTimeout, options: dict[str, Any]
    ) -> AsyncGenerator[aiohttp.ClientResponse, None]:
        if self._session is None:
            raise RuntimeUnavailable("the connection to the Docker Engine is closed")
        try:
            async with self._session.request(method, url, timeout=timeout, **options) as response:
                yield response
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise RuntimeUnavailable(
                f"the Docker Engine at {self.url} does not answer: {str(error) or 'no answer in time'}"
            ) from error


def _timeout(seconds: float | None) -> aiohttp.ClientTimeout:
    return aiohttp.ClientTimeout(total=seconds, sock_connect=CONNECT_WITHIN)


def _message(data: bytes) -> str:
    try:
        found = json.loads(data)
    except ValueError:
        return data.decode(errors="replace").strip() or "no reason given"
    return str(found.get("message", found)) if isinstance(found, dict) else str(found)


async def json_lines(response: aiohttp.ClientResponse) -> AsyncGenerator[dict[str, Any], None]:
    """The objects of a stream of JSON, one a line."""
    async for line in response.content:
        if line.strip():
            yield json.loads(line)
