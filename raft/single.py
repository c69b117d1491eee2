"""A `Log` of one member: the same disk as a Raft member, no peers, always the leader.

Commands that arrive while a write is under way share the next one (group commit). A command is applied after its
record is durable, in the order of `propose`.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import structlog

from .entries import Entry, HardState, SnapshotMeta, entries_size
from .interface import Leadership, StateMachine, Stopped, Uncertain
from .policy import SnapshotPolicy
from .storage import Storage
from .wal import RECORD_MAX
from .watchers import LeadershipWatchers

TERM = 1
MEMBER = 1
BATCH_BYTES = 1 << 20  # a record grows to about this; the last command may exceed it
_log = structlog.get_logger("raft")


class _Pending(NamedTuple):
    command: bytes
    answer: asyncio.Future[Any]


class SingleLog:
    """A durable log in `directory` without replication. Use `start()` and `stop()`, or `async with`."""

    def __init__(
        self, directory: Path, machine: StateMachine, *, address: str = "", policy: SnapshotPolicy | None = None
    ) -> None:
        self._storage = Storage(directory)
        self._machine = machine
        self._address = address
        self._policy = policy or SnapshotPolicy()
        self._watchers = LeadershipWatchers()
        self._index = 0  # of the newest durable and applied entry
        self._pending: list[_Pending] = []
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._snapshot: asyncio.Task[None] | None = None
        self._disk: ThreadPoolExecutor | None = None
        self._reason = "the log has not been started"

    async def __aenter__(self) -> "SingleLog":
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def start(self) -> None:
        self._disk = ThreadPoolExecutor(1, "raft-disk")
        try:
            found = await self._in_thread(self._storage.open)
        except BaseException:
            self._disk.shutdown()
            raise
        self._index = found.snapshot.index
        if found.snapshot.index:
            self._machine.restore(found.snapshot.index, found.data)
        for entry in found.entries:
            self._machine.apply(entry.index, entry.data)
            self._index = entry.index
        self._policy.applied(len(found.entries), entries_size(found.entries))
        self._policy.written(len(found.data))
        self._reason = ""
        self._task = asyncio.create_task(self._run(), name="single log")
        self._watchers.set(Leadership(TERM, MEMBER, self._address, is_local=True))

    async def stop(self) -> None:
        if self._task is None or self._disk is None:
            return
        self._fail(self._reason or "the log was stopped")
        self._wake.set()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task
        if self._snapshot is not None:
            await asyncio.gather(self._snapshot, return_exceptions=True)
        await self._watchers.stop()
        await self._in_thread(self._storage.close)
        self._disk.shutdown()
        self._task = None

    async def propose(self, command: bytes, *, timeout: float | None = None) -> Any:
        if self._reason:
            raise Stopped(self._reason)
        if len(command) > RECORD_MAX // 2:
            raise ValueError(f"a command of {len(command)} bytes; {RECORD_MAX // 2} is the limit")
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._pending.append(_Pending(command, answer))
        self._wake.set()
        try:
            return await asyncio.wait_for(answer, timeout)
        except TimeoutError:
            raise Uncertain(f"no answer from the disk within {timeout} s") from None

    async def read_barrier(self, *, timeout: float | None = None) -> None:
        # What was acknowledged has been applied here before it was acknowledged.
        if self._reason:
            raise Stopped(self._reason)

    @property
    def leadership(self) -> Leadership:
        return self._watchers.current

    def on_leadership(self, callback: Callable[[Leadership], Awaitable[None] | None]) -> Callable[[], None]:
        return self._watchers.add(callback)

    async def _in_thread(self, call: Callable[..., Any], *args: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._disk, call, *args)

    async def _run(self) -> None:
        while not self._reason:
            await self._wake.wait()
            self._wake.clear()
            while self._pending and not self._reason:
                batch = self._take()
                entries = [Entry(self._index + 1 + i, TERM, data=p.command) for i, p in enumerate(batch)]
                try:
                    await self._in_thread(self._storage.save, HardState(TERM, MEMBER, entries[-1].index), entries)
                except OSError as error:
                    self._fail(f"cannot write to {self._storage.directory}: {error}", batch)
                    return
                self._apply(entries, batch)
        self._fail(self._reason)

    def _take(self) -> list[_Pending]:
        size = count = 0
        for pending in self._pending:
            size += len(pending.command)
            count += 1
            if size > BATCH_BYTES:
                break
        batch = self._pending[:count]
        del self._pending[:count]
        return batch

    def _apply(self, entries: list[Entry], batch: list[_Pending]) -> None:
        for entry, pending in zip(entries, batch, strict=True):
            self._index = entry.index
            result = self._machine.apply(entry.index, entry.data)
            if not pending.answer.done():
                pending.answer.set_result(result)
        self._policy.applied(len(entries), entries_size(entries))
        if self._policy.due and (self._snapshot is None or self._snapshot.done()):
            self._policy.begun()
            self._snapshot = asyncio.create_task(self._save_snapshot(), name="snapshot")

    async def _save_snapshot(self) -> None:
        """Serialised in a thread of its own, so that writes go on meanwhile."""
        meta, serialise = SnapshotMeta(self._index, TERM), self._machine.snapshot()
        try:
            data = await asyncio.to_thread(serialise)
            await asyncio.to_thread(self._storage.snapshots.write, meta, data)
            await self._in_thread(self._storage.compact)
        except OSError as error:
            _log.error("cannot write a snapshot", directory=str(self._storage.directory), error=str(error))
            return
        self._policy.written(len(data))

    def _fail(self, reason: str, batch: list[_Pending] | None = None) -> None:
        self._reason = reason
        for pending in [*(batch or []), *self._pending]:
            if not pending.answer.done():
                pending.answer.set_exception(Stopped(reason))
        self._pending.clear()
        self._watchers.set(Leadership(TERM, 0, "", is_local=False))
