"""Faults that come together: something is lost in the middle of a change, or too much at once."""

import asyncio
from collections.abc import Sequence

from tests.lab.host import Host
from tests.soak.judge import Permit, to
from tests.soak.world import blocking

from .changes import set_number
from .fault import Fault
from .hosts import HostCrashed
from .programs import DaemonKilled


class LeaderKilledInUpdate(DaemonKilled):
    """The leader's daemon dies while a service is updated: the next leader carries it on."""

    async def choose(self) -> None:
        self.host = await self.world.leader()
        self.target = f"leader {self.host.name}, soak_web updated"

    async def inject(self) -> None:
        await self.world.change("services", "soak_web", set_number)
        await super().inject()


class HostCrashedInUpdate(HostCrashed):
    """A host is lost while a service is updated."""

    async def inject(self) -> None:
        await self.world.change("services", "soak_web", set_number)
        await super().inject()


class QuorumLost(Fault):
    """Two of three managers' daemons are killed: nothing can be changed meanwhile, and everything is served on."""

    hold = 8.0
    settle = 90.0
    lost: Sequence[Host] = ()

    async def choose(self) -> None:
        leader = await self.world.leader()
        self.lost = [leader, self.chance.choice(await self.world.followers())]
        self.target = " and ".join(host.name for host in self.lost)

    def permits(self) -> Sequence[Permit]:
        # Names are not served on a node whose daemon is away.
        return [to("probe")]

    async def inject(self) -> None:
        names = {host.name for host in self.lost}
        self.world.away |= names
        self.world.doubted |= names
        await asyncio.gather(*(blocking(self.world.cluster.daemons[name].kill) for name in names))

    async def heal(self) -> None:
        for host in self.lost:
            if self.world.cluster.daemons[host.name].poll() is not None:
                await blocking(self.world.cluster.start_daemon, host)
        for host in self.lost:
            await self.world.wait_answers(host)
        self.world.away.clear()
