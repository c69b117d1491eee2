"""The output of tasks, as their nodes send it to the leading manager."""

from collections.abc import AsyncGenerator, Mapping

import msgspec

from essaim.cluster.store import Store
from essaim.cluster.wire import LogChunk, LogRequest

from .session import Session


class TaskLogs:
    """`sessions` are the live ones by node id."""

    def __init__(self, store: Store, sessions: Mapping[str, Session]) -> None:
        self._store = store
        self._sessions = sessions

    async def read(self, request: LogRequest) -> AsyncGenerator[LogChunk, None]:
        """One task's output; the last chunk has `end` or `error`."""
        task = self._store.tasks.get(request.task_id)
        session = self._sessions.get(task.node_id or "") if task is not None else None
        if task is None or session is None:
            why = "task not found" if task is None else f"node {task.node_id or '(none)'} is not connected"
            yield LogChunk(request.request, request.task_id, end=True, error=why, lost=task is not None)
            return
        number, reader = session.logs.open(request)
        try:
            ended = False
            while not ended:
                chunk = await reader.next()
                ended = chunk.end
                yield msgspec.structs.replace(chunk, request=request.request)
        finally:
            session.logs.close_one(number)
