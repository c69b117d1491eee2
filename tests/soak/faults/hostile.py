"""Users and peers that mean no good, or know no better: nobody else may notice them."""

import asyncio
import contextlib
import socket
from collections.abc import Sequence
from typing import ClassVar

import aiohttp

from essaim.api.client import ApiError
from tests.lab.host import Host
from tests.soak.stack import IMAGE
from tests.soak.world import Object

from .fault import Fault

POISONS: dict[str, dict[str, str]] = {
    "port=²": {"traefik.http.services.x.loadbalancer.server.port": "²"},
    "repeat count": {"traefik.http.routers.x.rule": "PathRegexp(`^/a{99999999999}$`)"},
    "backtracking": {"traefik.http.routers.x.rule": "PathRegexp(`^(a+)+$`)"},
    "drain": {"essaim.drain": "9" * 400 + "h"},
    "schedule deadline": {"essaim.schedule": "* * * * *", "essaim.schedule.deadline": "20000000h"},
    "deep rule": {"traefik.http.routers.x.rule": "(" * 500 + "Host(`a`)" + ")" * 500},
    "NUL": {"traefik.http.routers.x.rule": "Host(`a\0b`)"},
}


class HostileService(Fault):
    """A service of the stack's image that is made and removed again."""

    hold = 6.0
    name: ClassVar[str] = "hostile"

    def spec(self) -> Object:
        raise NotImplementedError

    async def inject(self) -> None:
        try:
            await self.world.write("/services/create", {"Name": self.name, **self.spec()})
        except ApiError as error:
            if error.status not in (400, 409):
                raise
            self.target += " (refused)" if error.status == 400 else " (exists)"

    async def heal(self) -> None:
        leader = self.world.daemon(await self.world.leader())
        for service in await self.world.read("/services"):
            if service["Spec"]["Name"].startswith(self.name):
                await leader.delete(f"/services/{service['ID']}")


class PoisonedLabels(HostileService):
    """Labels that no one can make sense of."""

    async def choose(self) -> None:
        self.target = self.chance.choice(sorted(POISONS))

    def spec(self) -> Object:
        labels = {"traefik.enable": "true", **POISONS[self.target]}
        job = "essaim.schedule" in labels
        return {
            "Labels": labels,
            "TaskTemplate": {"ContainerSpec": {"Image": IMAGE, "Command": ["sleep", "60"]}},
            "Mode": {"ReplicatedJob": {}} if job else {"Replicated": {"Replicas": 1}},
        }


class ImageRejected(HostileService):
    """An image that nobody has, tried again and again."""

    hold = 8.0

    async def choose(self) -> None:
        self.target = "nosuch:1"

    def spec(self) -> Object:
        return {
            "TaskTemplate": {"ContainerSpec": {"Image": "nosuch:1"}, "RestartPolicy": {"Condition": "any", "Delay": 0}},
            "Mode": {"Replicated": {"Replicas": 3}},
        }


class LogReaderStalled(HostileService):
    """A follower of many log lines that does not read them."""

    hold = 8.0
    session: aiohttp.ClientSession | None = None

    async def choose(self) -> None:
        self.target = "logs of a loud service"

    def spec(self) -> Object:
        loud = "yes 'a line that nobody reads, one of very many' | head -n 400000; sleep 600"
        return {
            "TaskTemplate": {"ContainerSpec": {"Image": IMAGE, "Command": ["sh", "-c", loud], "StopGracePeriod": 1}},
            "Mode": {"Replicated": {"Replicas": 2}},
        }

    async def inject(self) -> None:
        await super().inject()
        leader = await self.world.leader()
        path = self.world.cluster.url(leader).removeprefix("unix://")
        self.session = aiohttp.ClientSession(connector=aiohttp.UnixConnector(path=path), read_bufsize=1024)
        query = {"follow": "1", "stdout": "1", "stderr": "1"}
        # The answer's head is read, its body is not.
        await self.session.get(f"http://essaim/services/{self.name}/logs", params=query)

    async def heal(self) -> None:
        session, self.session = self.session, None
        if session:
            await session.close()
        await super().heal()


class Flood(Fault):
    """Connections to a manager's port 2377, of someone without a certificate."""

    hold = 8.0
    count: ClassVar[int] = 400
    greeting: ClassVar[bytes] = b""
    host: Host
    sockets: Sequence[socket.socket] = ()

    async def choose(self) -> None:
        self.host = await self.host_of(self.chance.choice(["leader", "follower"]))
        self.target = f"{self.count} connections to {self.host.name}:2377"

    async def inject(self) -> None:
        self.sockets = [socket.socket() for _ in range(self.count)]
        loop = asyncio.get_running_loop()
        for one in self.sockets:
            one.setblocking(False)
        async with asyncio.timeout(30):
            await asyncio.gather(*(self._connect(loop, one) for one in self.sockets))

    async def _connect(self, loop: asyncio.AbstractEventLoop, one: socket.socket) -> None:
        # A manager that turns strangers away is right.
        with contextlib.suppress(OSError, TimeoutError):
            async with asyncio.timeout(10):
                await loop.sock_connect(one, (self.host.address, 2377))
                if self.greeting:
                    await loop.sock_sendall(one, self.greeting)

    async def heal(self) -> None:
        for one in self.sockets:
            one.close()


class IdleFlood(Flood):
    """They say nothing."""


class HalfHelloFlood(Flood):
    """They begin a TLS handshake and stop in the middle."""

    greeting = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"


class DatagramFlood(Fault):
    """One datagram each from many ports, none of which waits for its answer."""

    hold = 5.0
    host: Host

    async def choose(self) -> None:
        self.host = await self.any_host()
        self.target += ", 500 ports"

    async def inject(self) -> None:
        for _ in range(500):
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
                one.setblocking(False)
                one.sendto(b"x", (self.host.address, 8002))
            await asyncio.sleep(0.002)
