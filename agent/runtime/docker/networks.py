"""The overlay networks of a node: for each one a bridge of the Engine, a VXLAN link to the peers, and a DNS server.

- The Engine's network has the cluster's id as its name and in its labels, by which leftovers are found and removed.
- A task that needs a network waits for the table that names it: both come by the same session.
- A network that is no longer named goes once the Engine lets it (its containers have ended).
- What is there is compared with what is wanted at every change and every CHECK_EVERY seconds, as others remove networks
  and links too (`docker network prune`): what is missing is made again. Each network by itself: one that cannot be had
  holds up no other.
"""

import asyncio
import contextlib
import errno
from functools import partial
from typing import Any

import msgspec
import structlog
from pyroute2.netlink.exceptions import NetlinkError

from essaim.agent.runtime.interface import Rejected, RuntimeUnavailable
from essaim.cluster.overlay import BRIDGE_LABEL, MTU_OPTION, OverlayNetwork
from essaim.cluster.task import Task
from essaim.network import links
from essaim.network.links import Link, Seen
from essaim.network.responder import Responder, node_resolvers

from .balancing import Balancer
from .engine import Engine, EngineError

NODE_BRIDGE = "bridge"
VXLAN_LABEL = "essaim.network.vxlan"
WAIT = 20.0
RETRY = 1.0
CHECK_EVERY = 3.0
UNTOLD = "the leading manager has not told of it"
PROBLEMS = (RuntimeUnavailable, EngineError, NetlinkError, OSError)
"""What makes a network fail for now."""


class Overlays:
    """`offer` takes what the leader sends; `ready` waits until a task's networks are there."""

    def __init__(self, engine: Engine, data_addr: str, log: structlog.typing.FilteringBoundLogger) -> None:
        self._engine = engine
        self._data_addr = data_addr
        self._log = log
        self.balancer = Balancer(log)
        self._wanted: dict[str, OverlayNetwork] | None = None
        self._responders: dict[str, Responder] = {}
        self._unserved: set[str] = set()
        self._made: set[str] = set()
        self._holds: dict[str, set[str]] = {}
        self._changed = asyncio.Event()
        self._applied = asyncio.Condition()
        self._running: asyncio.Task[None] | None = None
        self._problems: dict[str, str] = {}

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
        """The node leaves, and its containers are gone: so go bridges and links. It may join again."""
        running, self._running = self._running, None
        if running is not None:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
        self._wanted = None
        self.balancer.offer([])
        if not await self._apply({}):
            raise RuntimeUnavailable("some of the node's overlay networks could not be removed")

    async def ready(self, task: Task) -> list[OverlayNetwork]:
        """The task's networks, there to be joined. Raises Rejected when the leader does not tell of one in time."""
        ids = [a.network_id or "" for a in task.networks_attachments or []]
        try:
            async with asyncio.timeout(WAIT), self._applied:
                await self._applied.wait_for(lambda: self._are_there(ids))
        except TimeoutError:
            missing = [i for i in ids if i not in self._made or i not in (self._wanted or {})]
            reasons = dict.fromkeys(self._problems.get(i, UNTOLD) for i in missing)
            raise Rejected(
                f"network {', '.join(missing)} could not be made on this node within {WAIT:g} s: {'; '.join(reasons)}"
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
            self._changed.clear()
            done = await self._apply(dict(self._wanted or {}))
            with contextlib.suppress(TimeoutError):
                # Not wait_for: it can lose a cancellation that comes with the event.
                async with asyncio.timeout(CHECK_EVERY if done else RETRY):
                    await self._changed.wait()

    async def _apply(self, wanted: dict[str, OverlayNetwork]) -> bool:
        """Bring the node to what is wanted; False when something is missing, or has yet to go."""
        try:
            present = await self._present()
            seen = await asyncio.to_thread(links.look, [link for link in map(self._link, wanted.values()) if link])
        except PROBLEMS as problem:
            for network_id in wanted:
                self._cannot(network_id, problem)
            return False
        done = [await self._bring(network, present, seen.get(network.id)) for network in wanted.values()]
        done += [await self._take_away(entry) for name, entry in present.items() if name not in wanted]
        return all(done)

    async def _present(self) -> dict[str, dict[str, Any]]:
        """The Engine's networks that are ours, by name."""
        filters = msgspec.json.encode({"label": [BRIDGE_LABEL]}).decode()
        listed = await self._engine.call("GET", "/networks", params={"filters": filters})
        return {entry["Name"]: entry for entry in listed}

    async def _bring(self, network: OverlayNetwork, present: dict[str, dict[str, Any]], seen: Seen | None) -> bool:
        """See to it that one network is there."""
        try:
            if network.id not in present:
                self._made.discard(network.id)
                await self._make_bridge(network)
            link = self._link(network)
            if link is not None and seen is not None:
                await self._wire(link, seen, is_new=network.id not in present)
            await self._serve(network)
        except PROBLEMS as problem:
            self._cannot(network.id, problem)
            return False
        except Exception as mistake:
            self._log.error("an overlay network could not be set up", network=network.name, exc_info=mistake)
            self._problems[network.id] = f"internal error of the agent: {mistake!r}"
            return False
        self._problems.pop(network.id, None)
        async with self._applied:
            self._made.add(network.id)
            self._applied.notify_all()
        return True

    def _cannot(self, network_id: str, problem: Exception) -> None:
        """Each problem is said once, until it is another."""
        reason = reason_of(problem)
        if self._problems.get(network_id) != reason:
            self._log.warning("an overlay network could not be set up; trying again", network=network_id, reason=reason)
        self._problems[network_id] = reason

    def _link(self, network: OverlayNetwork) -> Link | None:
        """The network's wire, where it needs one."""
        peers = frozenset(network.peers) - {self._data_addr}
        link = Link(network.id, network.vxlan, self._data_addr, peers, network.port, network.mtu)
        return link if link.is_needed else None

    async def _make_bridge(self, network: OverlayNetwork) -> None:
        body: dict[str, Any] = {
            "Name": network.id,
            "Driver": "bridge",
            "CheckDuplicate": True,
            "Internal": network.internal,
            "IPAM": {"Driver": "default", "Config": [{"Subnet": network.subnet, "Gateway": network.gateway}]},
            "Options": {
                "com.docker.network.bridge.name": links.bridge_name(network.id),
                MTU_OPTION: str(network.mtu),
            },
            "Labels": {BRIDGE_LABEL: network.name, VXLAN_LABEL: str(network.vxlan)},
        }
        try:
            await self._engine.call("POST", "/networks/create", body=body)
        except EngineError as error:
            if error.status != 409:
                raise

    async def _wire(self, link: Link, seen: Seen, *, is_new: bool) -> None:
        """Raises OSError, NetlinkError, EngineError."""
        if not is_new and not seen.has_bridge:
            # The Engine makes a bridge only with its network: that is made again next time, if nothing is on it.
            await self._engine.call("DELETE", f"/networks/{link.network_id}")
            raise OSError("its bridge had been removed from this host")
        await asyncio.to_thread(links.mend, link, seen)

    async def _serve(self, network: OverlayNetwork) -> None:
        if network.id in self._responders:
            return
        lookup = partial(self.balancer.directory.lookup, network.id)
        responder = Responder(lookup, await asyncio.to_thread(node_resolvers))
        try:
            await responder.start(network.gateway)
        except OSError as error:
            # Another node of this machine serves the same bridge, or this daemon may not: containers still run.
            if network.id not in self._unserved:
                self._unserved.add(network.id)
                self._log.warning("names are not served here", network=network.name, reason=str(error))
            return
        self._unserved.discard(network.id)
        self._responders[network.id] = responder

    async def _take_away(self, entry: dict[str, Any]) -> bool:
        """Whether it is gone. The others do not suffer when it cannot go."""
        try:
            return await self._remove(entry)
        except PROBLEMS as problem:
            self._cannot(entry["Name"], problem)
            return False

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
        self._problems.pop(network_id, None)
        self._unserved.discard(network_id)
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
    points: list[tuple[str, dict[str, Any]]] = [
        (a.network_id or "", {"IPAMConfig": {"IPv4Address": (a.addresses or [""])[0].partition("/")[0]}})
        for a in task.networks_attachments or []
    ]
    host["NetworkMode"] = points[0][0]
    host["Dns"] = [*(network.gateway for network in networks), *(host.get("Dns") or [])]
    body["NetworkingConfig"] = {"EndpointsConfig": dict(points[:1])}
    if host.get("PortBindings") and all(network.internal for network in networks):
        # An Engine publishes no port of an internal network.
        points.append((NODE_BRIDGE, {}))
    return points[1:]
