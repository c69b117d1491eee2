"""A node's way between worker and manager: one step after the other, each carried to its end.

The newest object of the node that the cluster has told is what it is to be; its identity is what it is. One task brings
the second to the first, looks again after each step, and tries again what failed. So it does not matter how fast the
role goes back and forth, nor where in between the daemon was killed.

- A manager whose member number is not that of its object any more has lost its membership, whatever its role is by
  now: it becomes a worker first. Member numbers are never used again.
- A worker that is to be a manager asks for a member number: a new one each time.
- A manager that is to be a worker waits: its membership ends first, and that takes its number from the object.

Rejected: a task for each change of the role (a change that came while another was under way was compared with what the
node was before both).
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Any, Literal

from essaim.cluster.errors import ClusterError
from essaim.cluster.node import Node
from essaim.daemon.keys.identity import Identity
from essaim.raft.interface import Unusable

Step = Literal["", "resign", "enlist"]
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 15.0
"""Seconds before a step that failed is tried again; a change of the node's object cuts them short."""


def next_step(identity: Identity, node: Node) -> Step:
    """What a node does next that is `identity` and is to be `node`."""
    member = (node.manager_status.raft_id if node.manager_status else None) or 0
    if identity.role == "manager":
        return "resign" if member != identity.raft_id else ""
    return "enlist" if node.spec.role == "manager" else ""


class Transitions:
    """`told` of the node's object; `take` carries out a step and raises ClusterError, OSError or
    Unusable. `stop` at the end."""

    def __init__(
        self,
        identity: Callable[[], Identity | None],
        take: Callable[[Step], Awaitable[None]],
        turn: asyncio.Lock,
        log: Any,
    ) -> None:
        self._identity, self._take, self._turn, self._log = identity, take, turn, log
        self._node: Node | None = None
        self._since = 0
        self._news = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def told(self, node: Node) -> None:
        """What is older than what the node has seen of itself already is late, and no news."""
        if node.version.index < self._since:
            return
        self._node, self._since = node, node.version.index
        self._news.set()
        if self._due() and (self._task is None or self._task.done()):
            self._task = asyncio.create_task(self._run(), name="changes of this node's role")

    def seen(self, version: int) -> None:
        """The node's object at this version of the store is known: objects from before are late."""
        self._since = max(self._since, version)
        if self._node is not None and self._node.version.index < self._since:
            self._node = None

    async def stop(self) -> None:
        """Not while a step is under way: whoever holds the lock calls it."""
        task, self._task = self._task, None
        self._node, self._since = None, 0
        if task is not None and task is not asyncio.current_task():
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    def _due(self) -> Step:
        identity, node = self._identity(), self._node
        if identity is None or node is None or identity.node_id != node.id:
            return ""
        return next_step(identity, node)

    async def _run(self) -> None:
        failed = 0
        while True:
            async with self._turn:
                step = self._due()
                if not step:
                    return
                self._news.clear()
                try:
                    await self._take(step)
                except (ClusterError, OSError, Unusable) as error:
                    failed += 1
                    self._log.error("this node could not change its role yet", step=step, reason=str(error))
                else:
                    failed = 0
            if failed:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(min(LONGEST_PAUSE, FIRST_PAUSE * 2.0 ** min(failed - 1, 10))):
                        await self._news.wait()
