"""The leader: all control loops and the dispatcher, for as long as this manager leads."""

import asyncio
from collections.abc import Callable, Sequence
from datetime import datetime

from essaim.cluster.ids import Chance
from essaim.cluster.store import Store
from essaim.cluster.walls import Faults
from essaim.cluster.writer import Writer
from essaim.scheduler.allocate.address_loop import Addressing
from essaim.scheduler.allocate.auth_server_ports import AskedPorts
from essaim.scheduler.allocate.port_loop import Allocation
from essaim.scheduler.dispatch.dispatcher import Dispatcher
from essaim.scheduler.orchestrate.cron import Cron
from essaim.scheduler.orchestrate.faults import Marking
from essaim.scheduler.orchestrate.orchestrator import Orchestrator
from essaim.scheduler.orchestrate.reaper import Reaper
from essaim.scheduler.orchestrate.rebalance import Rebalancer
from essaim.scheduler.place.placement_loop import Placer

from .loop import Driver, Logger, Loop


def all_loops(chance: Chance, faults: Faults) -> list[Loop]:
    """Every control loop, in the order in which a change usually passes through them."""
    placer = Placer(faults)
    first: list[Loop] = [
        Allocation(faults),
        AskedPorts(faults),
        Cron(faults),
        Orchestrator(chance, faults),
        Addressing(faults),
    ]
    return [*first, placer, Rebalancer(placer.view, chance, faults), Reaper(faults), Marking(faults)]


class Leader:
    """`start` when this manager becomes the leader, `stop` when it no longer is; it may be started again later.

    `now` is the wall clock in UTC, `monotonic` the one to measure by, in seconds.
    """

    def __init__(
        self,
        store: Store,
        writer: Writer,
        dispatcher: Dispatcher,
        chance: Chance,
        now: Callable[[], datetime],
        monotonic: Callable[[], float],
        log: Logger,
        *,
        loops: Callable[[Chance, Faults], Sequence[Loop]] = all_loops,
    ) -> None:
        self._store = store
        self._writer = writer
        self._dispatcher = dispatcher
        self._chance = chance
        self._now = now
        self._monotonic = monotonic
        self._log = log
        self._loops = loops
        self._running: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Run the dispatcher and all loops; does nothing when they run already."""
        if self._running:
            return
        await self._dispatcher.start()
        for loop in self._loops(self._chance, self._dispatcher.faults):
            driver = Driver(loop, self._store, self._writer, self._now, self._monotonic, self._log)
            self._running.append(asyncio.create_task(driver.run(), name=f"loop {loop.name}"))

    async def stop(self) -> None:
        """Stop them; sessions with agents end, and the agents look for the new leader."""
        running, self._running = self._running, []
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        await self._dispatcher.stop()
