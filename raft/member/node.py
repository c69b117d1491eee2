"""A Raft member as a `Log` and `Membership`: what the rest of essaim starts, asks and stops."""

import asyncio
import shutil
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any

import structlog
from aiohttp import web

from essaim.raft.disk.wal import RECORD_MAX
from essaim.raft.interface import Leadership, MemberView, StateMachine, Unusable

from .driver import REMOVED, Driver
from .found import force_new_cluster
from .inbox import Inbox
from .membership import Controls
from .options import Options, Timing
from .watchers import Callback

__all__ = ["COMMAND_MAX", "Options", "RaftLog", "Timing"]

COMMAND_MAX = RECORD_MAX // 4
_log = structlog.get_logger("raft")


class RaftLog:
    """One member in `directory`. A new cluster is made with `found.found_cluster`; a member of none waits for a
    leader that has added it. Use `start()` and `stop()`, or `async with`; `routes()` belong on the server at `address`.
    """

    def __init__(
        self, directory: Path, machine: StateMachine, *, member_id: int, address: str, options: Options | None = None
    ) -> None:
        self._address = address
        self._driver = Driver(directory, machine, member_id, address, options or Options())
        self._controls = Controls(self._driver)
        self._inbox = Inbox(self._driver, self._controls)
        self._driver.on_pump, self._driver.on_halt = self._controls.check, self._controls.fail
        self._driver.on_passing_error = self._reopen_when_there_is_room
        self._started = False

    async def __aenter__(self) -> "RaftLog":
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def start(self) -> None:
        """Recover and take part. Raises `Unusable` or `OSError`; then it is stopped.

        A member whose disk is in order but whose state machine `CannotApply` what is on it starts `halted`.
        """
        self._driver.disk.start()
        self._driver.transport.start(self._inbox)
        self._started = True
        try:
            await self._driver.open()
        except BaseException:
            await self.stop()
            raise

    async def stop(self) -> None:
        if self._started:
            self._started = False
            await self._driver.stop()

    def routes(self) -> list[web.RouteDef]:
        """For the server that other members reach at `address`."""
        return self._driver.transport.routes()

    # Log.

    async def propose(self, command: bytes, *, timeout: float | None = None) -> Any:
        return await self.submit(command, timeout=timeout)

    def submit(self, command: bytes, *, timeout: float | None = None) -> "asyncio.Future[Any]":
        """`propose` for who has many at a time: the answer as a future, without a task for each (3 us of CPU)."""
        if len(command) > COMMAND_MAX:
            raise ValueError(f"a command of {len(command)} bytes; {COMMAND_MAX} is the limit")
        driver = self._driver
        driver.require_leader()
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Any] = loop.create_future()
        driver.proposals.add(command, answer, loop.time() + timeout if timeout is not None else float("inf"))
        driver.wake()
        return answer

    async def read_barrier(self, *, timeout: float | None = None) -> None:
        driver = self._driver
        driver.require_leader()
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[None] = loop.create_future()
        driver.reads.add(answer, loop.time() + timeout if timeout is not None else float("inf"))
        driver.wake()
        await answer

    @property
    def halted(self) -> str:
        """Why this member takes no part, if that lasts until somebody does something about it; else empty."""
        return self._driver.reason if self._driver.running is None and self._driver.lasting else ""

    @property
    def is_removed(self) -> bool:
        """Whether this member knows that it was taken out of the cluster."""
        return self._driver.running is None and self._driver.reason == REMOVED

    @property
    def leadership(self) -> Leadership:
        return self._driver.watchers.current

    def on_leadership(self, callback: Callback) -> Callable[[], None]:
        return self._driver.watchers.add(callback)

    # Membership.

    @property
    def member_id(self) -> int:
        return self._driver.id

    def members(self) -> Sequence[MemberView]:
        return self._controls.views()

    def removed(self) -> Collection[int]:
        return self._driver.core.members.removed

    async def add_learner(self, member_id: int, address: str, *, timeout: float | None = None) -> None:
        await self._controls.add_learner(member_id, address, timeout)

    async def promote(self, member_id: int, *, timeout: float | None = None) -> None:
        await self._controls.promote(member_id, timeout)

    async def demote(self, member_id: int, *, force: bool = False, timeout: float | None = None) -> None:
        await self._controls.demote(member_id, force, timeout)

    async def remove(self, member_id: int, *, force: bool = False, timeout: float | None = None) -> None:
        await self._controls.remove(member_id, force, timeout)

    async def transfer(self, member_id: int, *, timeout: float | None = None) -> None:
        await self._controls.transfer(member_id, timeout)

    async def force_new_cluster(self) -> None:
        driver = self._driver
        driver.halt("the cluster is being made anew")
        await driver.disk.run(driver.storage.close)
        await driver.disk.run(
            lambda: force_new_cluster(driver.directory, driver.id, self._address, driver.options.codecs)
        )
        await driver.open()

    async def _reopen_when_there_is_room(self) -> None:
        """For a disk, a quota, or a table of descriptors that was full."""
        driver, options = self._driver, self._driver.options
        await driver.disk.run(driver.storage.close)
        while True:
            await asyncio.sleep(options.timing.disk_retry)
            try:
                free = (await asyncio.to_thread(shutil.disk_usage, driver.directory)).free
                if free < 2 * options.segment_bytes:
                    continue
                await driver.open()
            except Unusable as error:
                driver.halt(str(error), lasting=True)
                _log.error("this member stops", reason=str(error))
                return
            except OSError as error:
                await driver.disk.run(driver.storage.close)
                _log.warning("cannot start again yet", directory=str(driver.directory), error=str(error))
                continue
            _log.info("this member takes part again", directory=str(driver.directory))
            return
