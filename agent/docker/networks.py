"""The overlay networks of a node: for each one a bridge of the Engine, a VXLAN link to the peers, and a DNS server.

- The Engine's network has the cluster's id as its name and in its labels, by which leftovers are found and removed.
- A task that needs a network waits for the table that names it: both come by the same session.
- A network that is no longer named goes once the Engine lets it (its containers have ended).
"""

import asyncio
import contextlib
import errno
from functools import partial
from typing import Any

import msgspec
import structlog
from pyroute2.netlink.exceptions import NetlinkError

from essaim.agent.runtime import Rejected, RuntimeUnavailable
from essaim.cluster.overlay import BRIDGE_LABEL, OverlayNetwork
from essaim.cluster.task import Task
from essaim.network import links
from essaim.network.links import Link
from essaim.network.responder import Responder, node_resolvers

from .balancing import Balancer
from .engine import Engine, EngineError

VXLAN_LABEL = "essaim.network.vxlan"
WAIT = 20.0
RETRY = 1.0
MTU = 1500 - links.OVERHEAD


class Overlays:
    """`offer` takes what the leader sends; `ready` waits until a task's networks are there."""

    def __init__(self, engine: Engine, data_addr: str, log: structlog.typing.FilteringBoundLogger) -> None:
        self._engine = engine
        self._data_addr = data_addr
        self._log = log
        self.balancer = Balancer(log)
        self._wanted: dict[str, OverlayNetwork] | None = None
        self._links: dict[str, Link] = {}
        self._responders: dict[str, Responder] = {}
        self._made: set[str] = set()
        self._holds: dict[str, set[str]] = {}
        self._changed = asyncio.Event()
        self._applied = asyncio.Condition()
        self._running: asyncio.Task[None] | None = None
        self._problem = "the leading manager has not told of it"

    def offer(self, networks: list[OverlayNetwork]) -> None:
        self._wanted = {network.id: network for network in networks}
        self.balancer.offer(networks)
        self._changed.set()
        if self._running is None:
            self._running = asyncio.create_task(self._run(), name="overlay networks")

    async def close(self) -> None:
        """Bridges, links and rules stay for the tasks that run on."""
        await self.balancer.close()
        if self._running is not None:
            self._running.cancel()
            await asyncio.gather(self._running, return_exceptions=True)
        for responder in self._responders.values():
            await responder.stop()

    async def clear(self) -> None:
        """The node leaves, and its containers are gone: so go bridges and links."""
        if self._running is not None:
            self._running.cancel()
            await asyncio.gather(self._running, return_exceptions=True)
            await self._apply({})

    async def ready(self, task: Task) -> list[OverlayNetwork]:
        """The task's networks, there to be joined. Raises Rejected when the leader does not tell of one in time."""
        ids = [a.network_id or "" for a in task.networks_attachments or []]
        try:
            async with asyncio.timeout(WAIT), self._applied:
                await self._applied.wait_for(lambda: self._are_there(ids))
        except TimeoutError:
            missing = ", ".join(i for i in ids if i not in self._made)
            raise Rejected(
                f"network {missing} could not be made on this node within {WAIT:g} s: {self._problem}"
            ) from None
        # From here on none of them goes, though the container is not started yet and the Engine would let it.
        self._holds[task.id] = set(ids)
        return [(self._wanted or {})[i] for i in ids]

    def release(self, task_id: str) -> None:
        """The task's container has been started (the Engine keeps its networks from now on), or will not be."""
        if self._holds.pop(task_id, None):
            self._changed.set()

    def _are_there(self, ids: list[str]) -> bool:
        return all(i in self._made and i in (self._wanted or {}) for i in ids)

    async def _run(self) -> None:
        while True:
            await self._changed.wait()
            self._changed.clear()
            try:
                done = await self._apply(dict(self._wanted or {}))
            except (RuntimeUnavailable, EngineError, NetlinkError, OSError) as problem:
                self._problem = reason_of(problem)
                self._log.warning("an overlay network could not be set up; trying again", reason=self._problem)
                done = False
            if not done:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._changed.wait(), RETRY)
                self._changed.set()

    async def _apply(self, wanted: dict[str, OverlayNetwork]) -> bool:
        """Bring the node to what is wanted; False when something has yet to go."""
        for network in wanted.values():
            if network.id not in self._made:
                await self._make_bridge(network)
            await self._wire(network)
            await self._serve(network)
            async with self._applied:
                self._made.add(network.id)
                self._applied.notify_all()
        filters = msgspec.json.encode({"label": [BRIDGE_LABEL]}).decode()
        present = await self._engine.call("GET", "/networks", params={"filters": filters})
        gone = [await self._remove(entry) for entry in present if entry["Name"] not in wanted]
        return all(gone)

    async def _make_bridge(self, network: OverlayNetwork) -> None:
        body: dict[str, Any] = {
            "Name": network.id,
            "Driver": "bridge",
            "CheckDuplicate": True,
            "Internal": network.internal,
            "IPAM": {"Driver": "default", "Config": [{"Subnet": network.subnet, "Gateway": network.gateway}]},
            "Options": {
                "com.docker.network.bridge.name": links.bridge_name(network.id),
                "com.docker.network.driver.mtu": str(MTU),
            },
            "Labels": {BRIDGE_LABEL: network.name, VXLAN_LABEL: str(network.vxlan)},
        }
        try:
            await self._engine.call("POST", "/networks/create", body=body)
        except EngineError as error:
            if error.status != 409:
                raise

    async def _wire(self, network: OverlayNetwork) -> None:
        link = Link(network.id, network.vxlan, self._data_addr, frozenset(network.peers) - {self._data_addr})
        before = self._links.get(network.id)
        if link == before or not link.is_needed:
            return
        if before is None:
            await asyncio.to_thread(links.lay, link)
        else:
            await asyncio.to_thread(
                links.change_peers, link.vxlan, before.peers - link.peers, link.peers - before.peers
            )
        self._links[network.id] = link

    async def _serve(self, network: OverlayNetwork) -> None:
        if network.id in self._responders:
            return
        lookup = partial(self.balancer.directory.lookup, network.id)
        responder = Responder(lookup, await asyncio.to_thread(node_resolvers))
        try:
            await responder.start(network.gateway)
        except OSError as error:
            # Another node of this machine serves the same bridge, or this daemon may not: containers still run.
            self._log.warning("names are not served here", network=network.name, reason=str(error))
        self._responders[network.id] = responder

    async def _remove(self, entry: dict[str, Any]) -> bool:
        network_id = entry["Name"]
        if any(network_id in held for held in self._holds.values()):
            return False
        known = network_id in self._made
        # No task may count on it from now on: it waits until the network is made anew.
        self._made.discard(network_id)
        try:
            await self._engine.call("DELETE", f"/networks/{network_id}")
        except EngineError as error:
            if error.status != 404:
                self._made |= {network_id} if known else set()
                return False
        self._links.pop(network_id, None)
        if (responder := self._responders.pop(network_id, None)) is not None:
            await responder.stop()
        await asyncio.to_thread(links.cut, int(entry["Labels"].get(VXLAN_LABEL) or 0))
        return True


def reason_of(problem: Exception) -> str:
    """What to tell a user; a daemon without the right to make links is told what it lacks."""
    if isinstance(problem, NetlinkError) and problem.code == errno.EPERM:
        return "essaimd may not make network links: run it as root (or with CAP_NET_ADMIN)"
    return str(problem) or type(problem).__name__


def join(body: dict[str, Any], task: Task, networks: list[OverlayNetwork]) -> list[tuple[str, dict[str, Any]]]:
    """Have the container begin on the first network; the networks (id, end point) to connect it to before its start."""
    host = body.setdefault("HostConfig", {})
    if not networks or host.get("NetworkMode"):
        return []
    points = [
        (a.network_id or "", {"IPAMConfig": {"IPv4Address": (a.addresses or [""])[0].partition("/")[0]}})
        for a in task.networks_attachments or []
    ]
    host["NetworkMode"] = points[0][0]
    host["Dns"] = [*(network.gateway for network in networks), *(host.get("Dns") or [])]
    body["NetworkingConfig"] = {"EndpointsConfig": dict(points[:1])}
    return points[1:]
