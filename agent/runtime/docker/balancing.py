"""Virtual addresses on this node: every container's rules follow what the leader says of its networks.

- Rules are loaded into a container's own network namespace: when it has started, when the replicas behind an address
  change, and all anew after a restart of the daemon, whose absence they outlive.
- Until a container has its rules, and where they cannot be loaded, its names stand for the replicas' own addresses
  (`Directory`), as with `endpoint_mode: dnsrr`; the log says why.
"""

import asyncio
import contextlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import structlog

from essaim.cluster.overlay import OverlayNetwork, VirtualService
from essaim.network import namespaces
from essaim.network.balancing import ended, ruleset
from essaim.network.directory import Client, Directory
from essaim.network.namespaces import NamespaceGone, RulesRefused

AT_ONCE = 4
RETRY = 15.0
"""Seconds until rules that were refused are tried again."""


class Kernel(Protocol):
    """What `namespaces` does; blocking."""

    def why_not(self) -> str: ...
    def load(self, pid: int, container_id: str, rules: str) -> None: ...
    def forget_flows(self, pid: int, container_id: str, addresses: set[str]) -> None: ...


@dataclass(frozen=True, slots=True)
class Place:
    """Where a running container is: its process, and its address on each network that it is on."""

    container_id: str
    pid: int
    addresses: Mapping[str, str]


def place_of(inspected: dict[str, Any]) -> Place | None:
    """None for a container that does not run. The Engine's names of overlay networks are their ids."""
    state = inspected["State"]
    if not state.get("Running") or not state.get("Pid"):
        return None
    networks = (inspected.get("NetworkSettings") or {}).get("Networks") or {}
    addresses = {name: point["IPAddress"] for name, point in networks.items() if (point or {}).get("IPAddress")}
    return Place(inspected["Id"], state["Pid"], addresses)


@dataclass(slots=True)
class _Member:
    """`loaded`: what its rules on a network say, once they do."""

    place: Place
    loaded: dict[str, list[VirtualService]] = field(default_factory=dict)
    loads: int = 0

    def client(self) -> Client:
        vips = {network: frozenset(s.vip for s in services) for network, services in self.loaded.items()}
        return Client(self.place.addresses, vips)

    def turn(self, network_id: str) -> int:
        """Differs from container to container and from load to load."""
        return int(self.place.addresses[network_id].rpartition(".")[2]) + self.loads


class Balancer:
    """`offer`, `seen` and `gone` return at once; a task of its own does the work."""

    def __init__(
        self, log: structlog.typing.FilteringBoundLogger, kernel: Kernel = namespaces, *, retry: float = RETRY
    ) -> None:
        self.directory = Directory()
        self._log = log
        self._kernel = kernel
        self._retry = retry
        self._networks: dict[str, OverlayNetwork] = {}
        self._members: dict[str, _Member] = {}
        self._able: bool | None = None
        self._said = ""
        self._changed = asyncio.Event()
        self._offered = self._balanced = 0
        self._settled = asyncio.Condition()
        self._running: asyncio.Task[None] | None = None

    def offer(self, networks: list[OverlayNetwork]) -> None:
        self._offered += 1
        self._networks = {network.id: network for network in networks}
        self._wake()

    def seen(self, place: Place) -> None:
        """A container runs."""
        known = self._members.get(place.container_id)
        if known is None or known.place != place:
            self._members[place.container_id] = _Member(place)
            self._wake()

    def gone(self, container_id: str) -> None:
        if self._members.pop(container_id, None) is not None:
            self._wake()

    async def settled(self) -> None:
        """Until every container has the rules of what was offered last, or it is known that it cannot have them."""
        offered = self._offered
        async with self._settled:
            await self._settled.wait_for(lambda: self._balanced >= offered)

    async def close(self) -> None:
        """Rules stay where they are."""
        if self._running is not None:
            self._running.cancel()
            await asyncio.gather(self._running, return_exceptions=True)

    def _wake(self) -> None:
        self._publish()
        self._changed.set()
        if self._running is None:
            self._running = asyncio.create_task(self._run(), name="virtual addresses")

    def _publish(self) -> None:
        self.directory.replace(self._networks.values(), [member.client() for member in self._members.values()])

    async def _run(self) -> None:
        while True:
            await self._changed.wait()
            self._changed.clear()
            offered = self._offered
            done = await self._balance()
            async with self._settled:
                self._balanced = offered
                self._settled.notify_all()
            if not done:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._changed.wait(), self._retry)
                self._changed.set()

    async def _balance(self) -> bool:
        """Load what is not as it should be; False when something was refused."""
        due = [
            (member, network)
            for member in self._members.values()
            for network_id in member.place.addresses
            if (network := self._networks.get(network_id)) and member.loaded.get(network_id) != network.services
        ]
        if not due:
            return True
        if not await self._is_able():
            return False
        slots = asyncio.Semaphore(AT_ONCE)
        done = await asyncio.gather(*(self._load(member, network, slots) for member, network in due))
        self._publish()
        return all(done)

    async def _is_able(self) -> bool:
        if not self._able:
            why = await asyncio.to_thread(self._kernel.why_not)
            self._able = not why
            self._say(f"virtual addresses cannot be had on this node: {why}" if why else "")
        return bool(self._able)

    async def _load(self, member: _Member, network: OverlayNetwork, slots: asyncio.Semaphore) -> bool:
        place, before = member.place, member.loaded.get(network.id, [])
        turn = member.turn(network.id)
        over = ended(before, network.services)
        async with slots:
            try:
                await asyncio.to_thread(self._load_rules, place, network, turn)
                if over:
                    await asyncio.to_thread(self._kernel.forget_flows, place.pid, place.container_id, over)
            except NamespaceGone:
                # It has ended; the Engine will say so.
                return True
            except RulesRefused as refusal:
                member.loaded.pop(network.id, None)
                self._say(f"a container's rules for virtual addresses were refused: {refusal}")
                return False
        member.loads += 1
        member.loaded[network.id] = network.services
        return True

    def _load_rules(self, place: Place, network: OverlayNetwork, turn: int) -> None:
        """In a thread: the text of a large network takes milliseconds."""
        self._kernel.load(place.pid, place.container_id, ruleset(network.id, network.services, turn))

    def _say(self, problem: str) -> None:
        """Each problem once, until it is another."""
        if problem and problem != self._said:
            self._log.warning("names stand for the replicas' own addresses", reason=problem)
        self._said = problem
