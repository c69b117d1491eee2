"""The cluster under test as the faults and the checks see it: hosts, daemons, managers' APIs and Engines.

Three managers and a worker, each on a host of its own with a real Engine, with one stack of every kind of service. What
a fault takes away it notes in `away`, so that nobody waits for a host that is not to answer.
"""

import asyncio
import os
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from essaim.api.client import ApiError, Client, ClientError, Unreachable
from tests.lab.cluster import Cluster
from tests.lab.host import Host
from tests.lab.lab import Lab
from tests.lab.wait import eventually_async
from tools.engine_proxy import EngineProxy

from . import stack

HOSTS = 4
MANAGERS = 3
PATIENCE = 15.0
"""Seconds that a request to a manager or an Engine may take, on a machine of two busy cores."""
NODE_DOWN = 30.0
READ_ERRORS = (ApiError, Unreachable, TimeoutError)

Object = dict[str, Any]


@dataclass
class World:
    cluster: Cluster
    proxies: dict[str, EngineProxy]
    """Host name -> what stands between its daemon and its Engine. The checks ask the Engine itself."""
    away: set[str] = field(default_factory=set)
    """Hosts that the present fault has taken away: their daemons are not to be asked."""
    doubted: set[str] = field(default_factory=set)
    """Hosts whose containers the manager cannot know of at present."""
    managers: set[str] = field(default_factory=set)
    """Hosts that are meant to be managers."""
    _clients: AsyncExitStack = field(default_factory=AsyncExitStack)
    _managers: dict[str, Client] = field(default_factory=dict)
    _engines: dict[str, Client] = field(default_factory=dict)

    @property
    def lab(self) -> Lab:
        return self.cluster.lab

    @property
    def hosts(self) -> list[Host]:
        return self.lab.hosts

    def host(self, name: str) -> Host:
        return next(host for host in self.hosts if host.name == name)

    async def __aenter__(self) -> "World":
        for host in self.hosts:
            self._managers[host.name] = await self._clients.enter_async_context(Client(self.cluster.url(host)))
            self._engines[host.name] = await self._clients.enter_async_context(Client(host.engine_url))
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._clients.aclose()

    # -- managers ---------------------------------------------------------------------------------------------------

    def daemon(self, host: Host) -> Client:
        return self._managers[host.name]

    def engine(self, host: Host) -> Client:
        return self._engines[host.name]

    async def read(self, path: str, query: dict[str, str] | None = None, *, host: Host | None = None) -> Any:
        """A fresh answer of one manager, or of any that is not away. Raises the last one's error."""
        asked = [host] if host else [h for h in self.hosts if h.name not in self.away]
        error: Exception = Unreachable("every host is away")
        for one in asked:
            client = self.daemon(one)
            client.warning = ""
            try:
                found = await client.get(path, query, timeout=PATIENCE)
            except READ_ERRORS as problem:
                error = problem
                continue
            if not client.warning:
                return found
            error = Unreachable(f"{one.name} answers {path} with a warning: {client.warning}")
        raise error

    async def write(self, path: str, body: Any = None, query: dict[str, str] | None = None) -> Any:
        """A change through any manager that is not away; tried again while there is no leader. For changes that may be
        made twice."""

        async def once() -> list[Any]:
            error: Exception = Unreachable("every host is away")
            for host in self.hosts:
                if host.name in self.away:
                    continue
                try:
                    return [await self.daemon(host).post(path, body, query, timeout=PATIENCE)]
                except ApiError as problem:
                    if problem.status not in (500, 503):
                        raise
                    error = problem
                except (Unreachable, TimeoutError) as problem:
                    error = problem
            raise Unreachable(str(error)) from error

        return (await eventually_async(once, 60, f"a manager takes {path}", retry_on=(Unreachable,)))[0]

    async def change(self, kind: str, name: str, edit: Callable[[Object], None], *, rollback: bool = False) -> None:
        """Edit the Spec of a service or node (`kind`: services, nodes); again when somebody was faster."""

        async def once() -> bool:
            shown = await self.read(f"/{kind}/{name}")
            edit(shown["Spec"])
            query = {"version": str(shown["Version"]["Index"])} | ({"rollback": "previous"} if rollback else {})
            try:
                await self.write(f"/{kind}/{shown['ID']}/update", shown["Spec"], query)
            except ApiError as problem:
                if "out of sequence" not in str(problem):
                    raise
                return False
            return True

        await eventually_async(once, 60, f"{name} is changed", retry_on=(Unreachable, TimeoutError))

    async def nodes(self, *, host: Host | None = None) -> dict[str, Object]:
        """Host name -> node; of a host that left and joined again, the one that is not down."""
        found: dict[str, Object] = {}
        for node in await self.read("/nodes", host=host):
            name = node["Description"]["Hostname"]
            if name not in found or node["Status"]["State"] != "down":
                found[name] = node
        return found

    async def leader(self) -> Host:
        """Raises DeadlinePassed when none is seen in time."""

        async def found() -> Host | None:
            nodes = await self.nodes()
            names = [n for n, node in nodes.items() if (node.get("ManagerStatus") or {}).get("Leader")]
            return self.host(names[0]) if names else None

        leader = await eventually_async(found, NODE_DOWN, "a leader is known", retry_on=READ_ERRORS)
        assert leader is not None
        return leader

    async def followers(self) -> list[Host]:
        leader = await self.leader()
        nodes = await self.nodes()
        return [h for h in self.hosts if h is not leader and nodes[h.name]["Spec"]["Role"] == "manager"]

    async def workers(self) -> list[Host]:
        nodes = await self.nodes()
        return [h for h in self.hosts if nodes[h.name]["Spec"]["Role"] == "worker"]

    async def wait_node(self, host: Host, state: str) -> None:
        async def shown() -> bool:
            return bool((await self.nodes())[host.name]["Status"]["State"] == state)

        await eventually_async(shown, NODE_DOWN, f"{host.name} is {state}", retry_on=READ_ERRORS)

    # -- programs ---------------------------------------------------------------------------------------------------

    async def start_daemon(self, host: Host) -> None:
        await asyncio.to_thread(self.cluster.start_daemon, host)
        await self.wait_answers(host)

    async def wait_answers(self, host: Host) -> None:
        async def answers() -> bool:
            return await self.daemon(host).get_raw("/_ping") is not None

        await eventually_async(answers, 60, f"essaimd on {host.name} answers", retry_on=(ClientError,))

    async def containers(self, host: Host, query: str = "") -> list[Object]:
        """The Engine's containers that run (or `all=1`)."""
        found: list[Object] = await self.engine(host).get(
            "/containers/json", {"all": "1"} if query == "all" else None, timeout=PATIENCE
        )
        return found

    def gateway_workers(self, host: Host) -> list[int]:
        """Process ids as the machine counts."""
        return [pid for pid in host.cgroup.pids() if "essaim.gateway.worker" in command_line(pid)]


def command_line(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return ""


def signal_all(pids: list[int], number: int) -> None:
    for pid in pids:
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            continue


async def blocking(work: Callable[..., Any], *arguments: Any) -> Any:
    return await asyncio.to_thread(work, *arguments)


def proxy_of(host: Host) -> EngineProxy:
    """What stands between a host's daemon and its Engine."""
    return EngineProxy(host.engine_url, host.directory / "engine.sock")


def made(lab: Lab) -> Cluster:
    """The daemons, started and joined, each with the proxy before its Engine; blocks."""
    lab.load_image(stack.image())
    cluster = Cluster(
        lab,
        managers=MANAGERS,
        flags=("--gateway-workers", "1"),
        flags_of=lambda host: ("--runtime", "docker", "--engine", f"unix://{host.directory / 'engine.sock'}"),
        shared_sockets=True,
    )
    cluster.start()
    cluster.essaim("secret", "create", "soak-token-0", "-", text="secret 0")
    cluster.essaim("config", "create", "soak-settings-0", "-", text="settings 0")
    cluster.deploy(stack.NAME, stack.STACK)
    return cluster


Check = Callable[[World], Awaitable[list[str]]]
