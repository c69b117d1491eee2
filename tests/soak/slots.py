"""Watches all Engines for slots that run twice; see `judge.Slots` for what is certain."""

import asyncio
import time

from essaim.api.client import ClientError

from .judge import Slots
from .world import World

EVERY = 0.5
STRICT = {"soak_db", "soak_probe"}
"""Services of which never two may run in a slot; of others, one more is right while it is exchanged."""
EXCHANGE = 45.0
"""Seconds that an exchange may take: the drain (10 s), the time to stop (10 s), and a busy machine's share."""
NAME = "com.docker.swarm.task.name"


class SlotWatch:
    def __init__(self, world: World) -> None:
        self._world = world
        self._slots = Slots()
        self._found: dict[tuple[str, str], str] = {}

    async def run(self) -> None:
        while True:
            for host in self._world.hosts:
                if host.name in self._world.doubted:
                    self._slots.doubt(host.name)
                    continue
                asked = time.monotonic()
                try:
                    containers = await self._world.containers(host)
                except (ClientError, TimeoutError):
                    continue
                running = {c["Id"]: c["Labels"][NAME].rpartition(".")[0] for c in containers if NAME in c["Labels"]}
                if host.name not in self._world.doubted:
                    self._slots.seen(host.name, running, asked, time.monotonic())
            self._note()
            await asyncio.sleep(EVERY)

    def findings(self) -> list[str]:
        """What was found since the last call."""
        found = list(self._found.values())
        self._found.clear()
        return found

    def _note(self) -> None:
        for one, other, seconds in self._slots.twice():
            service = one.slot.partition(".")[0]
            if seconds > (0.0 if service in STRICT else EXCHANGE):
                where = f"{one.container[:12]} on {one.host} and {other.container[:12]} on {other.host}"
                self._found[one.container, other.container] = f"slot {one.slot} ran twice for {seconds:.1f} s: {where}"
