"""What users do while a cluster serves: updates, scaling, drains, changed roles, rotated secrets."""

import asyncio
import base64
import itertools
from collections.abc import Sequence

from essaim.api.client import ApiError, Unreachable
from tests.lab.host import Host
from tests.lab.wait import eventually_async
from tests.soak.judge import Permit, through, to
from tests.soak.world import Object

from .fault import Fault
from .hosts import REPLICAS_LOST

NUMBERS = itertools.count(1)


def set_number(spec: Object) -> None:
    """A new version of a service, for whose sake its tasks are replaced."""
    container = spec["TaskTemplate"]["ContainerSpec"]
    others = [line for line in container.get("Env") or () if not line.startswith("ROUND=")]
    container["Env"] = [*others, f"ROUND={next(NUMBERS)}"]


class ServiceUpdated(Fault):
    hold = 1.0

    async def choose(self) -> None:
        self.target = self.chance.choice(["soak_web", "soak_echo", "soak_store", "soak_probe"])

    def permits(self) -> Sequence[Permit]:
        # The probe has one replica a node, which is stopped before its successor starts.
        return [to("probe")] if self.target == "soak_probe" else []

    async def inject(self) -> None:
        await self.world.change("services", self.target, set_number)


class ServiceRolledBack(ServiceUpdated):
    """An update, and its roll-back in the middle."""

    hold = 0.0

    async def choose(self) -> None:
        self.target = "soak_web"

    async def inject(self) -> None:
        await super().inject()
        await asyncio.sleep(2)
        await self.world.change("services", self.target, lambda spec: None, rollback=True)


class ServiceScaled(Fault):
    hold = 6.0

    async def choose(self) -> None:
        self.target = "soak_web"

    async def inject(self) -> None:
        await self._scale(9)

    async def heal(self) -> None:
        await self._scale(4)

    async def _scale(self, replicas: int) -> None:
        def edit(spec: Object) -> None:
            spec["Mode"]["Replicated"]["Replicas"] = replicas

        await self.world.change("services", self.target, edit)


class NodeDrained(Fault):
    """Drained until it is empty, then active again."""

    hold = 6.0
    host: Host

    async def choose(self) -> None:
        self.host = await self.any_host()

    def permits(self) -> Sequence[Permit]:
        return [to("db", "probe")]

    async def inject(self) -> None:
        await self._set("drain")

    async def heal(self) -> None:
        await self._set("active")

    async def _set(self, availability: str) -> None:
        node = (await self.world.nodes())[self.host.name]
        await self.world.change("nodes", node["ID"], lambda spec: spec.update({"Availability": availability}))


class RoleChanged(Fault):
    """A manager is demoted and promoted again, after `hold`."""

    host: Host

    async def choose(self) -> None:
        self.host = self.chance.choice(await self.world.followers())
        self.target = f"follower {self.host.name}"

    async def inject(self) -> None:
        self.world.managers.discard(self.host.name)
        await self._set("worker")

    async def heal(self) -> None:
        await self._set("manager")
        self.world.managers.add(self.host.name)

    async def _set(self, role: str) -> None:
        node = (await self.world.nodes())[self.host.name]
        await self.world.change("nodes", node["ID"], lambda spec: spec.update({"Role": role}))


class RoleChangedAtOnce(RoleChanged):
    hold = 0.0


class LeaderDemoted(RoleChanged):
    async def choose(self) -> None:
        self.host = await self.world.leader()
        self.target = f"leader {self.host.name}"


class NodeLeft(Fault):
    """A worker leaves, is removed, and joins again."""

    host: Host

    async def choose(self) -> None:
        self.host = self.chance.choice(await self.world.workers())
        self.target = f"worker {self.host.name}"

    def permits(self) -> Sequence[Permit]:
        return [through(self.host.name), REPLICAS_LOST]

    async def inject(self) -> None:
        node = (await self.world.nodes())[self.host.name]
        self.world.away.add(self.host.name)
        await self.world.daemon(self.host).post("/swarm/leave", query={"force": "1"}, timeout=60)
        await self.world.wait_node(self.host, "down")
        leader = self.world.daemon(await self.world.leader())
        await leader.request("DELETE", f"/nodes/{node['ID']}", {"force": "1"})

    async def heal(self) -> None:
        leader = await self.world.leader()
        token = (await self.world.read("/swarm"))["JoinTokens"]["Worker"]

        async def joined() -> bool:
            body = {"RemoteAddrs": [f"{leader.address}:2377"], "JoinToken": token}
            try:
                await self.world.daemon(self.host).post("/swarm/join", body, timeout=60)
            except ApiError as error:
                if "already part of a swarm" not in str(error):
                    raise
            return True

        await eventually_async(joined, 60, f"{self.host.name} joins again", retry_on=(Unreachable,))


class SecretRotated(Fault):
    """A new secret takes the old one's place in the store; the old one is removed."""

    hold = 2.0

    async def choose(self) -> None:
        self.target = "soak_store"

    async def inject(self) -> None:
        name = f"soak-token-{next(NUMBERS)}"
        data = base64.b64encode(name.encode()).decode()
        made = await self.world.write("/secrets/create", {"Name": name, "Data": data})

        def edit(spec: Object) -> None:
            (used,) = spec["TaskTemplate"]["ContainerSpec"]["Secrets"]
            used["SecretID"], used["SecretName"] = made["ID"], name

        await self.world.change("services", self.target, edit)

    async def heal(self) -> None:
        """Remove the secrets that no service uses any more."""
        service = await self.world.read(f"/services/{self.target}")
        used = service["Spec"]["TaskTemplate"]["ContainerSpec"]["Secrets"][0]["SecretID"]
        for secret in await self.world.read("/secrets"):
            if secret["Spec"]["Name"].startswith("soak-token-") and secret["ID"] != used:
                await self.world.daemon(await self.world.leader()).delete(f"/secrets/{secret['ID']}")
