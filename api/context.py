"""What every handler gets: the node, chance and clock, and the way a decision becomes a committed change."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, TypeVar

from aiohttp import HttpVersion11, web

from essaim.api.events.engine_events import EngineEvents
from essaim.api.events.hub import EventHub
from essaim.api.listen.connections import CONNECTION
from essaim.api.streams.exchange import Streams
from essaim.certificates.asked.survey import Survey
from essaim.certificates.book.book import BookMaker
from essaim.cluster.changes import Change
from essaim.cluster.errors import AlreadyExists, ClusterError, OutOfSequence, Unavailable
from essaim.cluster.ids import Chance
from essaim.cluster.routes import RouteTable
from essaim.cluster.store import Store

from . import bodies, present, versions
from .control import swarm as swarm_rules
from .node import DialEngine, LocalNode, Manager
from .remote import Execs

WARNING = "Essaim-Warning"
"""Header of an answer that is right, but not all that its reader may want to know; `essaim` prints it."""

T = TypeVar("T")
Renderer = Callable[[RouteTable, str], str]
"""An external balancer's configuration. The text is the one address that it is to listen at, "" for all."""

BODY_SECONDS = 60.0
"""A client that takes longer to send one JSON body is told off."""
SMALL_BODY = 64 << 10
LARGE_BODIES = 16
"""How many bodies above `SMALL_BODY` bytes are read at a time."""
ATTEMPTS = 5

Decision = Callable[[Store], tuple[Sequence[Change], T]]


@dataclass(slots=True)
class Api:
    """`exclusive` makes this manager decide one at a time about what refers to other objects (ports, secrets). `books`
    and `survey` know the services' certificates that were read before."""

    node: LocalNode
    chance: Chance
    now: Callable[[], datetime]
    log: Any
    hub: EventHub
    engine_events: EngineEvents
    renderers: dict[str, Renderer] = field(default_factory=dict)
    dial_engine: DialEngine | None = None
    engine_versions: dict[str, tuple[versions.Version, float]] = field(default_factory=dict)
    execs: Execs = field(default_factory=Execs)
    large_bodies: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(LARGE_BODIES))
    unfinished: set["asyncio.Task[Any]"] = field(default_factory=set)
    books: BookMaker = field(default_factory=BookMaker)
    survey: Survey = field(default_factory=Survey)
    exclusive: asyncio.Lock = field(default_factory=asyncio.Lock)

    @property
    def manager(self) -> Manager:
        """Raises Unavailable on a node that is not a manager, in the words that fit its state."""
        manager = self.node.manager
        if manager is not None and self.node.swarm_state in ("active", "pending"):
            return manager
        raise Unavailable(self.not_a_manager())

    def dial_to(self, node_id: str) -> Callable[[], Awaitable[Streams]]:
        """Opens streams to the Engine of another node."""
        dial = self.dial_engine
        if dial is None:
            raise Unavailable(f"node {node_id} cannot be reached from here: the daemon has no tunnels between nodes")
        return lambda: dial(node_id)

    def not_a_manager(self) -> str:
        if self.node.swarm_state == "locked":
            return swarm_rules.LOCKED
        if self.node.swarm_state == "error" and self.node.manager is not None:
            return self.node.error
        return swarm_rules.NOT_IN_SWARM if self.node.swarm_state == "inactive" else swarm_rules.WORKER

    @property
    def store(self) -> Store:
        return self.manager.store

    async def commit(self, decide: Decision[T]) -> T:
        """Decide from the current state and commit; when somebody was faster, decide anew, which tells the reason.

        Raises ClusterError.
        """
        manager = self.manager
        for attempt in range(ATTEMPTS):
            changes, result = decide(manager.store)
            try:
                await manager.writer.commit(changes)
            except (OutOfSequence, AlreadyExists):
                if attempt == ATTEMPTS - 1:
                    raise
            else:
                return result
        raise OutOfSequence

    async def finish(self, work: Coroutine[Any, Any, T]) -> T:
        """Carry something out to its end, even if the client that asked for it goes away meanwhile: half a join would
        be worse than either."""
        task = asyncio.create_task(work, name="api change of the node")
        self.unfinished.add(task)
        task.add_done_callback(self._finished)
        return await asyncio.shield(task)

    def _finished(self, task: "asyncio.Task[Any]") -> None:
        self.unfinished.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None and not isinstance(error, ClusterError):
            self.log.error("a change of this node failed", error=repr(error))

    async def stop(self) -> None:
        """Changes under way are given up."""
        for task in list(self.unfinished):
            task.cancel()
        await asyncio.gather(*self.unfinished, return_exceptions=True)
        await self.hub.stop()
        await self.engine_events.stop()

    async def commit_alone(self, decide: Decision[T]) -> T:
        """`commit` for decisions that depend on objects which they do not change."""
        async with self.exclusive:
            return await self.commit(decide)


API = web.AppKey("api", Api)


def api_of(request: web.Request) -> Api:
    return request.app[API]


def version_of(request: web.Request) -> versions.Version:
    """The version in the path, or the newest for a path without one (checked by the middleware)."""
    wanted = request.match_info.get("version")
    return versions.parse(wanted) if wanted else versions.NEWEST


async def read_body(request: web.Request) -> bytes:
    """The whole body, up to `bodies.MAX_BODY`. Raises ClusterError when the client is too slow or stops half-way.

    Large bodies wait for one another, so that a crowd of clients cannot fill the memory.
    """
    length = request.content_length
    large = request.body_exists and (length is None or length > SMALL_BODY)
    connection = request.get(CONNECTION)
    try:
        async with asyncio.timeout(BODY_SECONDS), api_of(request).large_bodies if large else contextlib.nullcontext():
            with connection.reading() if connection is not None else contextlib.nullcontext():
                return await request.read()
    except TimeoutError as error:
        raise RequestTimeout(f"the request's body did not arrive within {BODY_SECONDS:.0f} s") from error


async def read_json(request: web.Request, kind: type[T]) -> T:
    """Raises InvalidArgument."""
    return bodies.decode(await read_body(request), kind)


class RequestTimeout(ClusterError):
    status = 408


async def list_reply(request: web.Request, noun: str, values: Sequence[T], show: Callable[[T], Any]) -> web.Response:
    """A list of objects as this client knows them."""
    data = await present.encode_list(noun, values, show, version_of(request), pause=lambda: asyncio.sleep(0))
    return json_reply(data)


def in_chunks(request: web.Request, response: web.StreamResponse) -> bool:
    """A body of unknown length; a client of HTTP/1.0 gets it as it is, up to the end of the connection."""
    chunked = request.version >= HttpVersion11
    if chunked:
        response.enable_chunked_encoding()
    return chunked


def json_reply(data: bytes, status: int = 200) -> web.Response:
    return web.Response(body=data, status=status, content_type="application/json")
