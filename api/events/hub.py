"""Hands the cluster's events to their followers: 500 of them cost a write nothing that can be measured.

One watch on the store feeds a log of encoded events, bounded in number and bytes; a follower is a place in that log.
What has gathered for `GATHER` seconds is joined and framed once for each filter, and these bytes are written straight
into the connections, a few at a time (`SLICE`, `REST`), so that the answer to the write leaves first and no follower's
task is woken. A follower whose connection is full is left to its own handler, which writes at the client's pace until
it has caught up. One that falls off the log's end is cut off with a reason in the daemon's log (the client sees its
stream break, and may come back with `since`): neither memory nor writers depend on readers.

Rejected: a queue and a wake-up for each follower. With 500 followers, writes took twice as long.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from itertools import islice
from typing import Any, Protocol

from essaim.api.query import Filters
from essaim.cluster.store import Store
from essaim.cluster.watch import Lagged, Watch

from .cluster_events import NOUNS, Message, describe, matches
from .engine_events import time_of

KEPT = 10_000
"""Events in the log, some 400 bytes each."""
KEPT_BYTES = 8 << 20
"""Bytes of all events in the log: an error's text may be long, and each event of a task that fails has it."""
GATHER = 0.02
SLICE = 8
REST = 0.001
"""Seconds between two slices: 500 followers are told within 80 ms, each slice taking the loop for some 50 µs."""
FULL = 64 << 10
"""Bytes that wait in a connection above which nothing more is put into it, and the most that is taken at a time."""
LOOK = 5.0
"""Seconds between two looks whether the node has become a manager."""


class Sink(Protocol):
    """A connection whose answer has begun (`asyncio.Transport`)."""

    def write(self, data: bytes) -> None: ...
    def get_write_buffer_size(self) -> int: ...
    def is_closing(self) -> bool: ...
    def abort(self) -> None: ...


@dataclass(slots=True, eq=False)
class Follower:
    """One reader. `place`: the number of the next event for it. `until`: the last second of interest, 0 for no end.

    `direct`: it has caught up, and its connection is written to by the hub; otherwise it takes for itself.
    """

    filters: Filters
    key: str
    place: int
    until: float
    sink: Sink
    chunked: bool
    direct: bool = False
    ended: bool = False
    wake: asyncio.Event = field(default_factory=asyncio.Event)

    def end(self) -> None:
        self.ended = True
        self.wake.set()


class EventHub:
    """Follows the store that `store` names at each `look`, until `stop`."""

    def __init__(
        self,
        now: Callable[[], datetime],
        log: Any,
        store: Callable[[], Store | None],
        *,
        kept: int = KEPT,
        kept_bytes: int = KEPT_BYTES,
        sleep: Callable[[float], Awaitable[Any]] = asyncio.sleep,
    ) -> None:
        self._now = now
        self._log = log
        self._current = store
        self._sleep = sleep
        self._store: Store | None = None
        self._reading: asyncio.Task[None] | None = None
        self._handing: asyncio.Task[None] | None = None
        self._followers: dict[Follower, None] = {}
        self._limit = kept
        self._limit_bytes = kept_bytes
        self._bytes = 0
        self._kept: list[Message] = []
        self._end = 0
        self._grown = asyncio.Event()

    def look(self) -> None:
        """Events come from the store of the moment; cheap when it is the same as before."""
        store = self._current()
        if store is self._store:
            return
        self._store = store
        if self._reading is not None:
            self._reading.cancel()
            self._reading = None
        self._kept.clear()
        self._bytes = 0
        for follower in self._followers:
            follower.place = self._end
        if store is not None:
            watch = store.watch(*NOUNS)
            watch.__enter__()
            self._reading = self._begin(self._read(watch), "api events")
            self._reading.add_done_callback(lambda _: watch.__exit__())

    async def stop(self) -> None:
        tasks = [task for task in (self._reading, self._handing) if task is not None]
        self._reading = self._handing = self._store = None
        for follower in self._followers:
            follower.end()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def subscribe(self, filters: Filters, since: float, until: float, sink: Sink, *, chunked: bool) -> Follower:
        """A follower from the first kept event at or after `since` on (0: from now on). Its handler is to `take`."""
        place = self._end
        if since:
            place -= len(self._kept)
            place += next((n for n, m in enumerate(self._kept) if m.time >= since), len(self._kept))
        key = repr(sorted((name, sorted(values)) for name, values in filters.items()))
        follower = Follower(filters, key, place, until, sink, chunked)
        self._followers[follower] = None
        if self._handing is None:
            self._handing = self._begin(self._hand_out(), "api events, handed out")
        return follower

    def unsubscribe(self, follower: Follower) -> None:
        """Nothing is written to its connection from now on."""
        follower.direct = False
        self._followers.pop(follower, None)

    def past(self, follower: Follower, known: float) -> list[Message]:
        """Kept events for it, which have been given to it with that; of the Engine's, those after `known` seconds."""
        kept = [m for m in self._after(follower.place) if _concerns(m, follower) and (not m.only or m.time > known)]
        follower.place = self._end
        return kept

    def tell(self, key: str, line: bytes) -> None:
        """An event of the Engine's, for the followers of one filter."""
        self._keep(Message("", "", "", {}, time_of(line), line, only=key))

    async def take(self, follower: Follower) -> bytes:
        """What the follower has not been given by the hub itself, unframed; empty when its stream is to end."""
        while not follower.ended:
            follower.direct = False
            if data := self._next(follower):
                return data
            follower.direct = follower.chunked and not follower.until
            try:
                async with asyncio.timeout(self._left(follower)):
                    await follower.wake.wait()
            except TimeoutError:
                return self._next(follower)
            follower.wake.clear()
        return b""

    def _left(self, follower: Follower) -> float | None:
        """Seconds until the last one of interest."""
        return max(follower.until - self._now().timestamp(), 0) if follower.until else None

    def _begin(self, work: Coroutine[Any, Any, None], name: str) -> "asyncio.Task[None]":
        """Should it fail, nobody is to wait for events that do not come."""

        def ended(task: "asyncio.Task[None]") -> None:
            if not task.cancelled() and (error := task.exception()) is not None:
                self._cut(list(self._followers), f"internal error: {error!r}")

        task = asyncio.get_running_loop().create_task(work, name=name)
        task.add_done_callback(ended)
        return task

    # -- inside -------------------------------------------------------------------------------------------------

    async def _read(self, watch: Watch) -> None:
        while True:
            try:
                batch = await watch.next()
            except Lagged:
                self._cut(list(self._followers), "changes came faster than events could be made of them")
                continue
            for event in batch:
                if (message := describe(event, self._now())) is not None:
                    self._keep(message)

    def _keep(self, message: Message) -> None:
        self._kept.append(message)
        self._bytes += len(message.data)
        self._end += 1
        if len(self._kept) > self._limit * 5 // 4 or self._bytes > self._limit_bytes * 5 // 4:
            self._forget()
        self._grown.set()

    def _forget(self) -> None:
        """Drop the oldest events until the rest is within the limits."""
        drop = max(len(self._kept) - self._limit, 0)
        self._bytes -= sum(len(message.data) for message in self._kept[:drop])
        while self._bytes > self._limit_bytes:
            self._bytes -= len(self._kept[drop].data)
            drop += 1
        del self._kept[:drop]

    def _after(self, place: int) -> Iterator[Message]:
        """Events from that place on."""
        first = self._end - len(self._kept)
        return (self._kept[index] for index in range(max(place - first, 0), len(self._kept)))

    def _next(self, follower: Follower) -> bytes:
        """The next events for it, up to `FULL` bytes or one."""
        parts: list[bytes] = []
        size = 0
        for message in self._after(follower.place):
            if size >= FULL:
                break
            follower.place += 1
            if _concerns(message, follower):
                parts.append(message.data)
                size += len(message.data)
        return b"".join(parts)

    async def _hand_out(self) -> None:
        while True:
            try:
                async with asyncio.timeout(LOOK):
                    await self._grown.wait()
            except TimeoutError:
                self.look()
                continue
            await self._sleep(GATHER)
            self._grown.clear()
            await self._round()

    async def _round(self) -> None:
        """Everyone gets what has come until now; who has caught up gets the same bytes as the others of its filter."""
        end, first = self._end, self._end - len(self._kept)
        self._cut([f for f in self._followers if f.place < first], f"it fell more than {len(self._kept)} events behind")
        framed: dict[tuple[str, int], bytes] = {}
        followers = list(self._followers)
        for start in range(0, len(followers), SLICE):
            if start:
                await self._sleep(REST)
            for follower in followers[start : start + SLICE]:
                if not follower.direct or follower.sink.get_write_buffer_size() > FULL:
                    follower.direct = False
                    follower.wake.set()
                elif follower.place < end and not follower.sink.is_closing():
                    key = (follower.key, follower.place)
                    if key not in framed:
                        framed[key] = self._frame(follower, end)
                    follower.place = end
                    if framed[key]:
                        follower.sink.write(framed[key])

    def _frame(self, follower: Follower, end: int) -> bytes:
        """One chunk (RFC 9112, 7.1) of the events before that place; nothing when none concerns this filter."""
        messages = islice(self._after(follower.place), end - follower.place)
        data = b"".join(m.data for m in messages if _concerns(m, follower))
        return b"%x\r\n%b\r\n" % (len(data), data) if data else b""

    def _cut(self, followers: list[Follower], reason: str) -> None:
        for follower in followers:
            self._log.warning("a follower of events was cut off", reason=reason, filters=follower.filters)
            self.unsubscribe(follower)
            follower.sink.abort()
            follower.end()


def _concerns(message: Message, follower: Follower) -> bool:
    if follower.until and message.time > follower.until:
        return False
    return message.only == follower.key if message.only else matches(message, follower.filters)
