"""How fast the API answers with 1,000 services and 10,000 tasks, and what followers of events cost writers.

    PYTHONPATH=. python bench/api.py [--services 1000] [--replicas 10] [--followers 500] [--swarm]

One process serves (the application on a unix socket, on the daemon's event loop, a store in memory), a second one holds
the followers, this one asks. Times are medians of repeated requests in milliseconds; `stall` is the longest time during
which the server's event loop did not run. `cpu` is the server's processor time for one request, which other work on the
machine does not change; for the whole command the client's too. Writes are timed alone and with followers in turn. With
`--swarm` (root) a real Engine in swarm mode is asked the same at the same size; its tasks stay pending.
"""

import argparse
import asyncio
import os
import resource
import socket
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, cast

import msgspec
import structlog
import uvloop
from aiohttp import ClientSession, UnixConnector, web

from essaim.api.app import create_app
from essaim.api.node import InitRequest
from essaim.api.server import ApiServer
from essaim.cluster.changes import put
from essaim.cluster.ids import new_id
from essaim.cluster.service import Replicated, Service, ServiceMode, ServiceSpec
from essaim.cluster.shape import Version
from essaim.cluster.swarm import default_spec
from essaim.cluster.task import ContainerStatus, Task, TaskStatus
from tests.api.fakes import FakeNode, utc_now
from tests.lab.lab import Lab

SPEC: dict[str, Any] = {
    "Labels": {"com.docker.stack.namespace": "bench"},
    "TaskTemplate": {
        "ContainerSpec": {
            "Image": "registry.test/web:1@sha256:" + "0" * 64,
            "Env": ["A=1", "B=2"],
            "Args": ["serve"],
            "Init": False,
            "DNSConfig": {},
            "Isolation": "default",
        },
        "Resources": {"Limits": {"MemoryBytes": 50 << 20}, "Reservations": {}},
        "RestartPolicy": {"Condition": "any", "Delay": 5 * 10**9},
        "Placement": {},
        "ForceUpdate": 0,
        "Runtime": "container",
    },
}


async def fill(node: FakeNode, services: int, replicas: int) -> None:
    """The store as a scheduler would leave it."""
    await node.init(InitRequest(advertise_addr="127.0.0.1", spec=default_spec()))
    assert node.manager is not None
    spec = msgspec.convert(SPEC, ServiceSpec)
    for number in range(services):
        named = msgspec.structs.replace(
            spec, name=f"web-{number}", mode=ServiceMode(replicated=Replicated(replicas=replicas))
        )
        service = Service(id=new_id(node.chance), spec=named, spec_version=Version(index=1))
        changes = [put("services", service, new=True)]
        for slot in range(1, replicas + 1):
            container = ContainerStatus(container_id=f"{node.chance.getrandbits(256):064x}", pid=4711, exit_code=0)
            status = TaskStatus(timestamp=utc_now(), state="running", message="started", container_status=container)
            task = Task(
                id=new_id(node.chance),
                spec=named.task_template,
                service_id=service.id,
                service_name=named.name,
                slot=slot,
                node_id=node.node_id,
                status=status,
                spec_version=service.spec_version,
            )
            changes.append(put("tasks", task, new=True))
        await node.manager.writer.commit(changes)


class Stall:
    """The longest pause of the loop since it was last asked."""

    def __init__(self) -> None:
        self.longest = 0.0

    async def watch(self) -> None:
        while True:
            before = time.perf_counter()
            await asyncio.sleep(0.001)
            self.longest = max(self.longest, time.perf_counter() - before - 0.001)

    async def ask(self, _: web.Request) -> web.Response:
        longest, self.longest = self.longest, 0.0
        return web.json_response(longest)


async def serve(path: Path, services: int, replicas: int) -> None:
    node = FakeNode()
    await fill(node, services, replicas)
    app = create_app(node, chance=node.chance, now=utc_now, log=structlog.get_logger())
    stall = Stall()
    aside = web.Application()
    aside.router.add_get("/stall", stall.ask)
    async with ApiServer(aside) as watcher, ApiServer(app) as server:
        watching = asyncio.create_task(stall.watch())
        await watcher.listen_unix(aside_of(path))
        await server.listen_unix(path)
        await asyncio.Event().wait()
        watching.cancel()


def aside_of(path: Path) -> Path:
    """Where the server tells its stalls, apart from what is measured."""
    return path.with_suffix(".stall")


class Cpu:
    """The processor time of whoever serves at a socket, all its threads together."""

    def __init__(self, path: Path) -> None:
        with socket.socket(socket.AF_UNIX) as asked:
            asked.connect(str(path))
            (pid,) = struct.unpack("i", asked.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)[:4])
        self._threads = Path(f"/proc/{pid}/task")

    def seconds(self) -> float:
        return sum(int((thread / "schedstat").read_text().split()[0]) for thread in self._threads.iterdir()) / 1e9


async def timed(
    client: ClientSession, aside: ClientSession | None, cpu: Cpu, path: str, repeat: int = 7
) -> tuple[float, float, float, int]:
    """Median milliseconds, the server's on the processor, its longest stall meanwhile, and the answer's size."""
    if aside is not None:
        await (await aside.get("http://essaim/stall")).read()
    took, size, used = [], 0, cpu.seconds()
    for _ in range(repeat):
        before = time.perf_counter()
        async with client.get("http://essaim" + path) as reply:
            size = len(await reply.read())
            assert reply.status == 200, path
        took.append(time.perf_counter() - before)
    used = (cpu.seconds() - used) / repeat
    stall = float("nan")
    if aside is not None:
        async with aside.get("http://essaim/stall") as reply:
            stall = await reply.json()
    return statistics.median(took) * 1000, used * 1000, stall * 1000, size


WRITES = 200


async def write_latency(client: ClientSession, cpu: Cpu, count: int = WRITES) -> tuple[float, float]:
    """Median milliseconds of creating a config, and the server's on the processor."""
    took, used = [], cpu.seconds()
    for number in range(count):
        body = {"Name": f"c{time.monotonic_ns()}-{number}", "Data": "aGk="}
        before = time.perf_counter()
        async with client.post("http://essaim/configs/create", json=body) as reply:
            assert reply.status == 201
            await reply.read()
        took.append(time.perf_counter() - before)
    return statistics.median(took) * 1000, (cpu.seconds() - used) * 1000 / count


class Follow(asyncio.Protocol):
    """Asks for every event there is, and counts what comes."""

    received = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        cast("asyncio.Transport", transport).write(b"GET /events HTTP/1.1\r\nHost: essaim\r\n\r\n")

    def data_received(self, data: bytes) -> None:
        Follow.received += len(data)


async def follow(path: Path, followers: int) -> None:
    """Follows until its standard input ends; then tells how many bytes came."""
    loop = asyncio.get_running_loop()
    for _ in range(followers):
        await loop.create_unix_connection(Follow, str(path))
    await asyncio.sleep(0.5)
    print("following", flush=True)
    await asyncio.to_thread(sys.stdin.read)
    print(Follow.received, flush=True)


async def crowded_latency(client: ClientSession, cpu: Cpu, path: Path, followers: int) -> tuple[float, float]:
    words = [sys.executable, __file__, "--follow", str(path), "--followers", str(followers)]
    shared_limit = await asyncio.create_subprocess_exec(*words, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert shared_limit.stdout is not None
    assert await shared_limit.stdout.readline() == b"following\n"
    measured = await write_latency(client, cpu)
    received, _ = await shared_limit.communicate(b"")
    assert int(received) > followers * WRITES * 50, f"followers got {received!r} bytes only"
    return measured


async def command(path: Path, cpu: Cpu) -> tuple[float, float]:
    """Milliseconds of `docker service ls`, and those on the processor, of server and client together."""
    before, used = time.perf_counter(), cpu.seconds()
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    words = ["docker", "-H", f"unix://{path}", "service", "ls"]
    await asyncio.to_thread(subprocess.run, words, check=True, stdout=subprocess.DEVNULL)
    took, used = time.perf_counter() - before, cpu.seconds() - used
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    used += after.ru_utime + after.ru_stime - children.ru_utime - children.ru_stime
    return took * 1000, used * 1000


async def fill_swarm(client: ClientSession, services: int, replicas: int) -> None:
    """A real swarm of the same size."""
    async with client.post(
        "http://essaim/swarm/init", json={"ListenAddr": "127.0.0.1:2377", "AdvertiseAddr": "127.0.0.1"}
    ):
        pass
    template = SPEC["TaskTemplate"] | {"Placement": {"Constraints": ["node.labels.absent==1"]}}
    for number in range(services):
        body = SPEC | {
            "Name": f"web-{number}",
            "TaskTemplate": template,
            "Mode": {"Replicated": {"Replicas": replicas}},
        }
        async with client.post("http://essaim/services/create", json=body) as reply:
            assert reply.status == 201, await reply.text()
    count = 0
    while count < services * replicas:
        await asyncio.sleep(1)
        async with client.get("http://essaim/tasks") as reply:
            count = len(await reply.json())


async def measure_swarm(services: int, replicas: int, followers: int) -> None:
    with Lab(hosts=1) as lab:
        path = Path(lab.hosts[0].engine_url.removeprefix("unix://"))
        async with ClientSession(connector=UnixConnector(str(path))) as client:
            await fill_swarm(client, services, replicas)
        await measure(path, followers)


async def measure(path: Path, followers: int) -> None:
    watched, cpu = aside_of(path) if aside_of(path).exists() else None, Cpu(path)
    async with (
        ClientSession(connector=UnixConnector(str(path))) as client,
        ClientSession(connector=UnixConnector(str(watched or path))) as aside,
    ):
        print(f"{'request':42} {'median ms':>10} {'cpu ms':>10} {'stall ms':>10} {'bytes':>12}")
        for name in ("/_ping", "/services?status=true", "/services", "/tasks", "/v1.40/tasks", "/nodes", "/info"):
            median, used, stall, size = await timed(client, aside if watched else None, cpu, name)
            print(f"GET {name:38} {median:10.1f} {used:10.1f} {stall:10.1f} {size:12,}")
        _show("docker service ls", [await command(path, cpu) for _ in range(5)])
        pairs = [
            (await write_latency(client, cpu), await crowded_latency(client, cpu, path, followers)) for _ in range(3)
        ]
        _show("POST /configs/create", [alone for alone, _ in pairs])
        _show(f"POST /configs/create, {followers} followers", [crowded for _, crowded in pairs])


def _show(what: str, measured: list[tuple[float, float]]) -> None:
    """Medians of times and processor times."""
    took, used = (statistics.median(values) for values in zip(*measured, strict=True))
    print(f"{what:42} {took:10.2f} {used:10.2f}")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--services", type=int, default=1000)
    parser.add_argument("--replicas", type=int, default=10)
    parser.add_argument("--followers", type=int, default=500)
    parser.add_argument("--swarm", action="store_true", help="a real swarm in place of essaim (needs root)")
    parser.add_argument("--serve", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--follow", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        uvloop.run(serve(options.serve, options.services, options.replicas))
        return
    if options.follow:
        uvloop.run(follow(options.follow, options.followers))
        return
    if options.swarm:
        asyncio.run(measure_swarm(options.services, options.replicas, options.followers))
        return
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        path = Path(folder) / "api.sock"
        words: list[Any] = [__file__, "--serve", path, "--services", options.services, "--replicas", options.replicas]
        with subprocess.Popen([sys.executable, *map(str, words)], env=os.environ) as server:
            try:
                while not path.exists():
                    assert server.poll() is None, "the server ended"
                    time.sleep(0.1)
                asyncio.run(measure(path, options.followers))
            finally:
                server.terminate()


if __name__ == "__main__":
    main()
