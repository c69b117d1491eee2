"""The present view of every task that a runtime holds, for any number of watchers."""

import asyncio
from collections.abc import AsyncGenerator, Iterator

from .interface import Phase, UnknownTask, View


class _Entry:
    __slots__ = ("changed", "view")

    def __init__(self, view: View) -> None:
        self.view = view
        self.changed = asyncio.Event()


class Views:
    """A watcher may miss views that lasted shorter than its turn of the loop, never the last one."""

    def __init__(self) -> None:
        self._entries: dict[str, _Entry] = {}

    def __contains__(self, task_id: str) -> bool:
        return task_id in self._entries

    def __iter__(self) -> Iterator[str]:
        return iter(list(self._entries))

    def get(self, task_id: str) -> View | None:
        entry = self._entries.get(task_id)
        return entry.view if entry else None

    def put(self, task_id: str, view: View) -> None:
        entry = self._entries.get(task_id)
        if entry is None:
            self._entries[task_id] = _Entry(view)
        elif entry.view != view:
            entry.view = view
            self._wake(entry)

    def drop(self, task_id: str) -> None:
        """Whoever watches it gets UnknownTask."""
        entry = self._entries.pop(task_id, None)
        if entry is not None:
            self._wake(entry)

    async def watch(self, task_id: str) -> AsyncGenerator[View, None]:
        """The present view and every change of it, up to the first that says EXITED. Raises UnknownTask."""
        while True:
            entry = self._entries.get(task_id)
            if entry is None:
                raise UnknownTask(f"task {task_id} is not on this node")
            view, changed = entry.view, entry.changed
            yield view
            if view.phase is Phase.EXITED:
                return
            if entry.view is view and not changed.is_set():
                await changed.wait()

    async def until_exited(self, task_id: str) -> View:
        """Raises UnknownTask when it is removed meanwhile."""
        async for view in self.watch(task_id):
            last = view
        return last

    async def until_running(self, task_id: str) -> None:
        """Returns when its view says RUNNING; never, when it is removed before."""
        while (entry := self._entries.get(task_id)) is not None and entry.view.phase is not Phase.RUNNING:
            await entry.changed.wait()
        if entry is None:
            await asyncio.Event().wait()

    @staticmethod
    def _wake(entry: _Entry) -> None:
        entry.changed.set()
        entry.changed = asyncio.Event()
