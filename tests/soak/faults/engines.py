"""Faults of a host's Engine and of what it holds: killed, frozen, restarted, emptied behind the agent's back."""

import signal
from collections.abc import Sequence
from typing import ClassVar

from tests.lab.host import Host
from tests.soak.invariants import TASK_LABEL
from tests.soak.judge import Permit, to
from tests.soak.world import Object, blocking, command_line, signal_all

from .fault import Fault
from .hosts import REPLICAS_LOST

PORTS_OF = {"store": ("probe",), "echo": ("echo", "echo-udp")}
"""Ports that a service serves, where they are not called like it."""


class EngineFault(Fault):
    settle = 90.0
    host: Host

    async def choose(self) -> None:
        self.host = await self.any_host()

    def permits(self) -> Sequence[Permit]:
        return [REPLICAS_LOST]

    async def heal(self) -> None:
        self.world.doubted.discard(self.host.name)


class EngineKilled(EngineFault):
    """kill -9 of dockerd and containerd; the Engine that is started later ends the containers."""

    hold = 5.0

    async def inject(self) -> None:
        self.world.doubted.add(self.host.name)
        await blocking(self.host.kill_engine)

    async def heal(self) -> None:
        await blocking(self.host.restart_engine)


class EngineRestarted(EngineFault):
    """As an upgrade of Docker does it: containers are stopped with it."""

    hold = 0.0

    async def inject(self) -> None:
        self.world.doubted.add(self.host.name)
        await blocking(self.host.restart_engine)


class EngineFrozen(EngineFault):
    """SIGSTOP of dockerd: no call is answered. Containers go on, no request may fail."""

    hold = 8.0
    frozen: Sequence[int] = ()

    def permits(self) -> Sequence[Permit]:
        return ()

    async def inject(self) -> None:
        self.world.doubted.add(self.host.name)
        self.frozen = [p for p in self.host.cgroup.below("system").pids() if command_line(p).startswith("dockerd ")]
        assert self.frozen, f"{self.host.name} has no dockerd"
        signal_all(list(self.frozen), signal.SIGSTOP)

    async def heal(self) -> None:
        signal_all(list(self.frozen), signal.SIGCONT)


class ContainerFault(Fault):
    """One container of the stack, gone behind the agent's back."""

    hold = 0.0
    request: ClassVar[tuple[str, str]]
    host: Host
    container: Object

    async def choose(self) -> None:
        found = [
            (host, container)
            for host in self.world.hosts
            for container in await self.world.containers(host)
            if TASK_LABEL in container["Labels"]
        ]
        found.sort(key=lambda pair: pair[1]["Labels"]["com.docker.swarm.task.name"].rsplit(".", 1)[0])
        self.host, self.container = self.chance.choice(found)
        self.target = f"{self.container['Names'][0].lstrip('/')} on {self.host.name}"

    def permits(self) -> Sequence[Permit]:
        service = self.container["Labels"]["com.docker.swarm.service.name"].partition("_")[2]
        # What the gateways can ask again elsewhere does not fail.
        return [] if service == "web" else [to(*PORTS_OF.get(service, (service,)))]

    async def inject(self) -> None:
        method, path = self.request
        await self.world.engine(self.host).request(method, path.format(self.container["Id"]))


class ContainerKilled(ContainerFault):
    request = ("POST", "/containers/{}/kill")


class ContainerRemoved(ContainerFault):
    request = ("DELETE", "/containers/{}?force=1")


class ContainersRemoved(EngineFault):
    """Everything on a host at once: `docker rm --force $(docker ps -aq)`."""

    hold = 0.0

    async def inject(self) -> None:
        await blocking(
            self.host.docker, "rm", "--force", *[c["Id"] for c in await self.world.containers(self.host, "all")]
        )


class NetworksPruned(EngineFault):
    """All containers of a host and its unused networks: `docker system prune` after an unlucky `docker rm`."""

    hold = 0.0

    async def inject(self) -> None:
        ids = [c["Id"] for c in await self.world.containers(self.host, "all")]
        await blocking(self.host.docker, "rm", "--force", *ids)
        await blocking(self.host.docker, "network", "prune", "--force")


class OverlayLinkRemoved(EngineFault):
    """The link between a network's bridges is taken away, as by a restart of the host's own network service."""

    hold = 0.0

    def permits(self) -> Sequence[Permit]:
        return [to("probe")]

    async def inject(self) -> None:
        await blocking(
            self.host.run,
            ["sh", "-c", "for n in $(ip -o link | grep -o 'esvx[0-9]*' | sort -u); do ip link delete $n; done"],
        )
