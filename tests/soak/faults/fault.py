"""What a fault is: something that happens to the cluster, how it is undone, and what it may make fail meanwhile."""

from collections.abc import Sequence
from random import Random
from typing import ClassVar

from tests.lab.host import Host
from tests.soak.judge import Permit
from tests.soak.world import World


class Fault:
    """One occurrence. `chance` is its own: the same seed and place in the run choose alike.

    `hold`: seconds between `inject` and `heal`. `target` is told in the report. `permits` are asked for after `inject`
    has chosen its target and hold until all is mended. `inject` notes in `world.away` whom nobody is to ask, and in
    `world.doubted` whose containers nobody can know of; both are emptied by `heal`.
    """

    hold: ClassVar[float] = 3.0
    settle: ClassVar[float] = 60.0
    """Seconds after `heal` until all must be well."""

    excused: ClassVar[str] = r"\A\Z(?<=x)"
    """A pattern of the errors that daemons are right to log because of it."""

    def __init__(self, world: World, chance: Random) -> None:
        self.world = world
        self.chance = chance
        self.target = ""

    @classmethod
    def title(cls) -> str:
        return "".join(f"-{c.lower()}" if c.isupper() else c for c in cls.__name__).lstrip("-")

    async def choose(self) -> None:
        """Find the target, before anything happens."""

    async def inject(self) -> None:
        raise NotImplementedError

    async def heal(self) -> None:
        """Undo it; called also when `inject` failed half-way."""

    def permits(self) -> Sequence[Permit]:
        return ()

    async def host_of(self, role: str) -> Host:
        """A host that is a `leader`, `follower` or `worker` now."""
        if role == "leader":
            return await self.world.leader()
        return self.chance.choice(await (self.world.followers() if role == "follower" else self.world.workers()))

    async def any_host(self) -> Host:
        """Each role equally often."""
        role = self.chance.choice(["leader", "follower", "worker"])
        host = await self.host_of(role)
        self.target = f"{role} {host.name}"
        return host
