"""Faults of hosts and of the network between them."""

from collections.abc import Sequence

from tests.lab.host import Host
from tests.soak.judge import Permit, through, to
from tests.soak.world import blocking

from .fault import Fault

REPLICAS_LOST = to("echo", "echo-udp", "probe", "db")
"""Ports whose requests cannot be tried again elsewhere: what a lost replica was asked, fails."""


UNNOTICED = 5.0
"""Seconds in which gateways may still choose a replica that stands still."""


class HostFault(Fault):
    hold = 10.0
    settle = 90.0
    host: Host

    async def choose(self) -> None:
        self.host = await self.any_host()

    def permits(self) -> Sequence[Permit]:
        return [through(self.host.name), REPLICAS_LOST]

    def lose(self) -> None:
        self.world.away.add(self.host.name)
        self.world.doubted.add(self.host.name)


class HostCrashed(HostFault):
    """Power loss and boot: its replicas run elsewhere meanwhile."""

    async def inject(self) -> None:
        self.lose()
        await blocking(self.host.crash)

    async def heal(self) -> None:
        if not self.host.is_up:
            await blocking(self.host.boot)
        await self.world.start_daemon(self.host)


class HostFrozen(HostFault):
    """Every process of a host stands still; its kernel goes on to acknowledge what peers send."""

    def permits(self) -> Sequence[Permit]:
        # A request that a replica there has taken may have been carried out: no gateway may ask another.
        return [*super().permits(), to("web", within=UNNOTICED)]

    async def inject(self) -> None:
        self.lose()
        await blocking(self.host.pause)

    async def heal(self) -> None:
        await blocking(self.host.resume)


class HostIsolated(HostFault):
    """No other host is reached; clients still reach its gateway, which has only its own replicas."""

    async def inject(self) -> None:
        self.lose()
        await blocking(self.world.lab.isolate, self.host)

    async def heal(self) -> None:
        await blocking(self.world.lab.heal)


class HostUnplugged(HostIsolated):
    """The cable is pulled."""

    async def inject(self) -> None:
        self.lose()
        await blocking(self.host.unplug)

    async def heal(self) -> None:
        await blocking(self.host.plug)


class LinkOneWay(HostFault):
    """What one host sends to another is lost; what comes back is not."""

    other: Host

    async def choose(self) -> None:
        self.host = await self.any_host()
        self.other = self.chance.choice([h for h in self.world.hosts if h is not self.host])
        self.target += f" to {self.other.name}"

    def permits(self) -> Sequence[Permit]:
        return [through(self.host.name, self.other.name), REPLICAS_LOST]

    async def inject(self) -> None:
        self.world.doubted |= {self.host.name, self.other.name}
        await blocking(self.world.lab.cut, self.host, self.other)

    async def heal(self) -> None:
        await blocking(self.world.lab.heal)


class LinkCut(LinkOneWay):
    """Two hosts do not reach each other; all others do."""

    async def inject(self) -> None:
        self.world.doubted |= {self.host.name, self.other.name}
        await blocking(self.world.lab.partition, self.host, self.other)
