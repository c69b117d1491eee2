"""Answers the leader's question whether anything lives on a node that has fallen silent: the gateway here looks.

One look a node at a time; asked again meanwhile, the look that is under way is the answer.
"""

import asyncio
from collections.abc import Awaitable, Callable

from essaim.cluster.wire import Answered, Ask, FromAgent

from .session import SessionEnded

Look = Callable[[str], Awaitable[bool | None]]
"""Whether any replica on the node answers this gateway; None: it knows of none there."""


class Witness:
    """`look` None: there is no gateway here, which knows of no replicas."""

    def __init__(self, look: Look | None, send: Callable[[FromAgent], Awaitable[None]]) -> None:
        self._look = look
        self._send = send
        self._looking: dict[str, asyncio.Task[None]] = {}

    def ask(self, message: Ask) -> None:
        node_id = message.node_id
        if node_id not in self._looking:
            self._looking[node_id] = asyncio.create_task(self._answer(node_id), name=f"a look at node {node_id}")
            self._looking[node_id].add_done_callback(lambda _: self._looking.pop(node_id, None))

    async def close(self) -> None:
        looking = list(self._looking.values())
        for task in looking:
            task.cancel()
        await asyncio.gather(*looking, return_exceptions=True)

    async def _answer(self, node_id: str) -> None:
        answers = await self._look(node_id) if self._look is not None else None
        try:
            await self._send(Answered(node_id, answers))
        except SessionEnded:
            return
