"""Hands the route table to this node's gateway and tells the manager what the gateway made of it.

- The manager sends a table whole at first, then what changes.
- The newest table is also kept on disk: after a restart the gateway serves by it although no manager can be reached.
- A table that cannot be applied stays what is wanted: `run` raises, and tries it again when it is begun anew; the
  gateway serves by the last one that it took.
- While a task of the table drains, what is still open towards it is reported whenever it changes: at 0 on every
  gateway the manager stops the task.
- Which of the node's own tasks the gateway's checks do not find fit is reported whenever it changes: a replica counts
  as up once it is none of them.
"""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import structlog

from essaim.agent.session.session import SessionEnded
from essaim.cluster.route_delta import RouteDelta, WrongBase, apply_delta
from essaim.cluster.routes import RouteTable
from essaim.cluster.wire import FromAgent, RoutesApplied

from .route_file import RouteFile

LOOK_EVERY = 0.1
"""Seconds between looks at the open requests of draining tasks."""


class RouteKeeper:
    """`on_routes` applies a table and returns the version served by from then on; None: there is no gateway."""

    def __init__(
        self,
        path: Path,
        on_routes: Callable[[RouteTable], Awaitable[int]] | None,
        open_requests: Callable[[], dict[str, int]],
        *,
        unfit: Callable[[], list[str]] | None = None,
        sleep: Callable[[float], Awaitable[None]],
        log: structlog.typing.FilteringBoundLogger,
    ) -> None:
        self._file = RouteFile(path)
        self._path = path
        self._on_routes = on_routes
        self._open_requests = open_requests
        self._unfit = unfit
        self._sleep = sleep
        self._log = log
        self._newest: RouteTable | None = None
        # What made the newest table out of the one on disk, if it did.
        self._changes: list[RouteDelta] = []
        self._arrived = asyncio.Event()
        self._served: RouteTable | None = None
        self._version = 0

    @property
    def newest(self) -> RouteTable | None:
        """What is to be applied."""
        return self._newest

    async def recover(self) -> None:
        """Serve by the table of the last run, if there is one."""
        table = await asyncio.to_thread(self._file.load)
        if table is not None and self._on_routes is not None:
            await self._on_routes(table)

    def offer(self, table: RouteTable) -> None:
        """A table from the manager. Only the newest of several that wait is applied."""
        self._newest = table
        self._changes = []
        self._arrived.set()

    def change(self, delta: RouteDelta) -> None:
        """A change of the last table. Raises SessionEnded when it does not fit: a new session begins with the whole."""
        try:
            self._newest = apply_delta(self._newest or RouteTable(version=-1), delta)
        except WrongBase as error:
            raise SessionEnded(str(error)) from error
        self._changes.append(delta)
        self._arrived.set()

    def poke(self) -> None:
        """The gateway's verdicts may have changed."""
        self._arrived.set()

    async def run(self, send: Callable[[FromAgent], Awaitable[None]]) -> None:
        """Apply and report; lives as long as a session."""
        said: RoutesApplied | None = None
        while True:
            await self._next()
            table = self._newest
            if table is not None and table is not self._served:
                await self._apply(table)
                said = None
            if self._served is None:
                continue
            word = self._word(self._served)
            if word != said:
                await send(word)
                said = word

    async def _next(self) -> None:
        """A new table, or, while tasks drain or have yet to pass a check, the time for another look."""
        if self._newest is not None and self._newest is not self._served:
            pass
        elif self._served is None or not self._is_moving(self._served):
            await self._arrived.wait()
        elif not self._arrived.is_set():
            await self._sleep(LOOK_EVERY)
        self._arrived.clear()

    async def _apply(self, table: RouteTable) -> None:
        version = table.version
        changes, self._changes = self._changes, []
        if self._on_routes is not None:
            version = await self._on_routes(table)
        self._served = table
        self._version = version
        try:
            await asyncio.to_thread(self._file.save, table, changes)
        except OSError as error:
            self._log.warning("the route table could not be kept on disk", path=str(self._path), error=str(error))

    def _word(self, table: RouteTable) -> RoutesApplied:
        tasks = draining(table)
        still_open = self._open_requests() if tasks else {}
        unfit = self._unfit() if self._unfit is not None else None
        return RoutesApplied(self._version, {task: still_open.get(task, 0) for task in tasks}, unfit)

    def _is_moving(self, table: RouteTable) -> bool:
        return bool(draining(table)) or bool(self._unfit is not None and self._unfit())


def draining(table: RouteTable) -> list[str]:
    """Ids of the tasks that finish what they have, sorted."""
    ports = (port for service in table.services for port in service.ports)
    return sorted({endpoint.task_id for port in ports for endpoint in port.endpoints if endpoint.state == "draining"})
