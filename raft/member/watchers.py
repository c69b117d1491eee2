"""Callbacks on leadership: each hears the newest view, in order, and never two at a time."""

import asyncio
from collections.abc import Awaitable, Callable

import structlog

from essaim.raft.interface import Leadership

Callback = Callable[[Leadership], Awaitable[None] | None]
_log = structlog.get_logger("raft")


class LeadershipWatchers:
    """Views that arrive while an async callback still runs are merged into the newest."""

    def __init__(self) -> None:
        self.current = Leadership(0, 0, "", is_local=False)
        self._callbacks: dict[int, Callback] = {}
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._next = 0

    def add(self, callback: Callback) -> Callable[[], None]:
        number = self._next
        self._next += 1
        self._callbacks[number] = callback
        self._tell(number)

        def remove() -> None:
            self._callbacks.pop(number, None)

        return remove

    def set(self, view: Leadership) -> None:
        if view != self.current:
            self.current = view
            for number in list(self._callbacks):
                self._tell(number)

    async def stop(self) -> None:
        """Cancel what still runs; nothing is called afterwards."""
        self._callbacks.clear()
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _tell(self, number: int) -> None:
        if number in self._tasks:
            return  # it looks at `current` again when it is done
        view = self.current
        try:
            waiting = self._callbacks[number](view)
        except Exception:
            _log.exception("a leadership callback failed")
            return
        if waiting is not None:
            self._tasks[number] = asyncio.ensure_future(self._finish(number, view, waiting))

    async def _finish(self, number: int, view: Leadership, waiting: Awaitable[None]) -> None:
        try:
            await waiting
        except Exception:
            _log.exception("a leadership callback failed")
        finally:
            self._tasks.pop(number, None)
            if number in self._callbacks and self.current != view:
                self._tell(number)
