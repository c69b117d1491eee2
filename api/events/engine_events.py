"""The local Engine's events: followed once for all clients that ask with the same filters, and read from its past.

The Engine does the filtering; what it says is handed to the hub, whose followers get it like the cluster's own events.

Rejected: a stream to the Engine for each client. With 500 of them, each container's start woke 2,500 tasks.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any
from urllib.parse import urlencode

import msgspec

from essaim.api.streams.exchange import EngineUnavailable, Exchange, Streams

Connect = Callable[[], Awaitable[Streams]]
RETRY = 1.0
"""Seconds from the end of a stream, as when the Engine restarts, to the next attempt."""


class NoSuchFilter(Exception):
    """The Engine does not know it, so none of its events is meant."""


class _Stamp(msgspec.Struct, rename={"nanoseconds": "timeNano"}):
    nanoseconds: int = 0


def time_of(line: bytes) -> float:
    """When an event happened, in seconds since 1970; 0 when it does not say."""
    try:
        return msgspec.json.decode(line, type=_Stamp).nanoseconds / 1e9
    except msgspec.DecodeError:
        return 0.0


async def lines(connect: Connect, query: Mapping[str, str]) -> AsyncIterator[list[bytes]]:
    """Whole lines as they come; an empty list first, when the Engine has begun to tell. Raises
    EngineUnavailable, NoSuchFilter."""
    exchange = Exchange(await connect())
    try:
        target = f"/events?{urlencode(query)}" if query else "/events"
        await exchange.send_head("GET", target, [("Host", "docker"), ("Connection", "close")])
        head = await exchange.head()
        if head.status == 400:
            raise NoSuchFilter
        if head.status != 200:
            return
        yield []
        left = b""
        async for piece in exchange.body():
            *whole, left = (left + piece).split(b"\n")
            if whole:
                yield [line + b"\n" for line in whole]
    finally:
        exchange.close()


class EngineEvents:
    """`tell(key, line)` is called for each event of a filter that somebody has joined."""

    def __init__(self, connect: Connect, tell: Callable[[str, bytes], None], log: Any) -> None:
        self._connect = connect
        self._tell = tell
        self._log = log
        self._users: Counter[str] = Counter()
        self._streams: dict[str, tuple[asyncio.Task[None], asyncio.Future[None]]] = {}

    def join(self, key: str, query: Mapping[str, str]) -> "asyncio.Future[None]":
        """Done when the stream flows, or cannot for now."""
        self._users[key] += 1
        if key not in self._streams:
            flowing = asyncio.get_running_loop().create_future()
            task = asyncio.create_task(self._follow(key, query, flowing), name="events of the Engine")
            self._streams[key] = task, flowing
        return self._streams[key][1]

    def leave(self, key: str) -> None:
        self._users[key] -= 1
        if not self._users[key]:
            del self._users[key]
            self._streams.pop(key)[0].cancel()

    async def stop(self) -> None:
        tasks = [task for task, _ in self._streams.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _follow(self, key: str, query: Mapping[str, str], flowing: "asyncio.Future[None]") -> None:
        """For as long as somebody is there, through restarts of the Engine."""
        told_so = False
        try:
            while True:
                try:
                    async for told in lines(self._connect, query):
                        _set(flowing)
                        told_so = False
                        for line in told:
                            self._tell(key, line)
                except NoSuchFilter:
                    return
                except (EngineUnavailable, OSError) as error:
                    if not told_so:
                        self._log.warning("the Engine's events broke off", error=str(error), retry_seconds=RETRY)
                    told_so = True
                _set(flowing)
                await asyncio.sleep(RETRY)
        finally:
            _set(flowing)


def _set(flowing: "asyncio.Future[None]") -> None:
    if not flowing.done():
        flowing.set_result(None)
