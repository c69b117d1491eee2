"""Questions to auth servers: to the replicas of a service of the cluster, or to a host outside.

At most MAX_OPEN at a time in a worker, each answered within ANSWER_SECONDS.
"""

import asyncio
from collections.abc import Callable, Sequence

from essaim.gateway.http.held_body import Held, Room
from essaim.gateway.routing.call import Verdict
from essaim.gateway.routing.middlewares.forward_auth import Question
from essaim.gateway.runtime.deadlines import Deadlines
from essaim.gateway.upstream.backend import Backend

from .cluster import ClusterRequest
from .outside import OutsideRequest

MAX_OPEN = 1024
Find = Callable[[Sequence[str], int], Backend | None]
"""The port of the first service with one of these names that has it."""


class AuthServers:
    def __init__(self, deadlines: Deadlines, find: Find = lambda names, port: None) -> None:
        self.room = Room()
        self.open = 0
        self._deadlines = deadlines
        self._find = find
        self._outside = OutsideRequest()

    def ask(self, question: Question, then: Callable[[], None]) -> Callable[[], None] | None:
        """Ask, settle, and call `then`, later on. What is returned gives it up; None: there are too many."""
        if self.open >= MAX_OPEN:
            return None
        self.open += 1
        held = Held(self.room)
        over = False

        def end() -> None:
            nonlocal over
            if not over:
                over = True
                self.open -= 1
                held.release()

        def answered(verdict: Verdict) -> None:
            if over:
                return
            question.settle(verdict)
            end()
            then()

        server = question.server
        backend = self._find(server.names, server.port) if server.scheme == "http" else None
        if backend is not None:
            inquiry = ClusterRequest(question, backend, self._deadlines, held, answered)
            asyncio.get_running_loop().call_soon(inquiry.begin)
            stop: Callable[[], object] = inquiry.cancel
        else:
            stop = self._outside.ask(question, held, answered)

        def cancel() -> None:
            end()
            stop()

        return cancel

    async def close(self) -> None:
        await self._outside.close()
