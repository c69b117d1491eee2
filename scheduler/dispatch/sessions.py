"""Who is connected: the live sessions, one a node.

A node that connects anew takes the place of its older session. A session that is to end is closed beside whatever asks
for it, since the other side may be gone or not read; `close` waits for these, but not for ever.
"""

import asyncio
from collections.abc import Callable, Mapping

from essaim.cluster.errors import Unavailable
from essaim.cluster.wire import ToAgent
from essaim.scheduler.loop import Logger

from .session import Session

CLOSE_SECONDS = 3.0
"""How long `close` waits for the sessions to end."""


class Sessions:
    """`on_end` hears the node's id whenever a session has ended."""

    def __init__(self, log: Logger, on_end: Callable[[str], None]) -> None:
        self._log = log
        self._on_end = on_end
        self._live: dict[str, Session] = {}
        self.live: Mapping[str, Session] = self._live
        """By node id."""
        self._closing: set[asyncio.Task[None]] = set()

    @property
    def connected(self) -> frozenset[str]:
        """Ids of the nodes that have a session."""
        return frozenset(self._live)

    def is_live(self, session: Session) -> bool:
        """It is its node's session, and no newer one has taken its place."""
        return self._live.get(session.node_id) is session

    def ask(self, node_id: str, request: ToAgent) -> None:
        """Send a request to a node. Raises Unavailable when it is not connected."""
        session = self._live.get(node_id)
        if session is None:
            raise Unavailable(f"node {node_id} is not connected to the leading manager: is it up (essaim node ls)?")
        session.send_soon(request)

    # -- life ---------------------------------------------------------------------------------------------------

    def add(self, session: Session) -> None:
        """The node has connected; an older session of it ends."""
        older = self._live.get(session.node_id)
        self._live[session.node_id] = session
        if older is not None:
            self._end(older)

    def remove(self, session: Session) -> bool:
        """The session has ended; False when another one had taken its place, or it was dropped."""
        was_live = self.is_live(session)
        if was_live:
            del self._live[session.node_id]
        self._on_end(session.node_id)
        return was_live

    def drop(self, node_id: str) -> bool:
        """End the node's session: it counts as connected no more from now on. False when it has none."""
        session = self._live.pop(node_id, None)
        if session is not None:
            self._end(session)
        return session is not None

    async def close(self) -> None:
        """End all of them, and wait up to CLOSE_SECONDS."""
        for session in list(self._live.values()):
            self._end(session)
        if self._closing:
            await asyncio.wait(list(self._closing), timeout=CLOSE_SECONDS)

    def _end(self, session: Session) -> None:
        session.end()
        closing = asyncio.create_task(session.close(), name=f"closing {session.node_id}")
        self._closing.add(closing)
        closing.add_done_callback(self._closed)

    def _closed(self, closing: asyncio.Task[None]) -> None:
        self._closing.discard(closing)
        if not closing.cancelled() and (error := closing.exception()) is not None:
            self._log.debug("a session did not close", error=repr(error))
