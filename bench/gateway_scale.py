"""What a big mesh costs the gateway: look-ups, changes, stalls, memory, idle CPU, idle connections.

    python bench/gateway_scale.py [--services 5000] [--endpoints 10] [--gateways 100] [--json] [--base-port 18080]

Two gateways of one worker each stand side by side, one with a service, one with all of them; the worker, the backend
and wrk are placed as in `gateway.py`. Stalls are given in CPU time, which other load does not stretch: a loop that
turned after so much CPU of its own cannot have stood still for longer on a core of its own.

- `look-up`: CPU per request with all services over that with one; by published port, and by a router's host.
- `change`: one endpoint more or less; `reach` is wall time until every worker serves by it, `worker` the CPU that it
  costs a worker, which bounds its stall, `supervisor` the longest turn of the daemon's loop meanwhile.
- `gateway joins`: as before, and who checks what is worked out anew.
"""

import argparse
import asyncio
import contextlib
import json
import logging
import socket
import statistics
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path

import structlog

import gateway as bench
from essaim.cluster.routes import RouteEndpoint, RouteGateway, RoutePort, RouteService, RouteTable
from essaim.daemon.collector import tune_collector
from essaim.gateway.control.plan import endpoint_key
from essaim.gateway.control.supervisor import Gateway
from essaim.gateway.protocol.entry_points import EntryPoint

CHANGES = 20
ROUNDS = 9
IDLE_SECONDS = 5
CONNECTIONS = 10_000


def served(port: int, backend: int) -> RouteService:
    """What wrk asks for: by a published port, and by the host of a router."""
    replica = RouteEndpoint(task_id="t", task_name="t", node_id="n0", address="127.0.0.1", port=backend)
    ports = [
        RoutePort(protocol="tcp", target_port=80, published_port=port, app_protocol="http", endpoints=[replica])
    ]  # fmt: skip
    labels = {"traefik.http.routers.bench.rule": "Host(`bench.example`)"}
    return RouteService(id="bench", name="bench", labels=labels, ports=ports)


def others(count: int, endpoints: int, gateways: int, backend: int) -> list[RouteService]:
    """Services with a router each; not published, so nothing is bound, but every worker holds them."""

    def replica(service: int, number: int) -> RouteEndpoint:
        task, node = f"t{service}-{number}", f"n{(service + number) % gateways}"
        return RouteEndpoint(task_id=task, task_name=task, node_id=node, address="127.0.0.1", port=backend)

    def one(service: int) -> RouteService:
        replicas = [replica(service, number) for number in range(endpoints)]
        port = RoutePort(protocol="tcp", target_port=80, published_port=0, app_protocol="http", endpoints=replicas)
        labels = {f"traefik.http.routers.r{service}.rule": f"Host(`s{service}.example`)"}
        return RouteService(id=f"s{service}", name=f"s{service}", labels=labels, ports=[port])

    return [one(service) for service in range(count)]


class Turns:
    """The longest turn of this loop, in milliseconds of this thread's CPU; 0 while it is not `on`."""

    def __init__(self) -> None:
        self.longest = 0.0
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> "Turns":
        self._task = asyncio.get_running_loop().create_task(self._watch())
        await asyncio.sleep(0)
        return self

    async def __aexit__(self, *_: object) -> None:
        # What the change set going in the background is part of it.
        await asyncio.sleep(0.5)
        assert self._task is not None
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def _watch(self) -> None:
        last = time.thread_time()
        while True:
            await asyncio.sleep(0)
            now = time.thread_time()
            self.longest, last = max(self.longest, (now - last) * 1000), now


class Mesh:
    """A gateway of one worker on core 0, with its table."""

    def __init__(self, directory: Path, port: int, gateways: int) -> None:
        self.port, self.entry = port, port + 1
        self.gateway = Gateway(
            mesh_addr="127.0.0.1",
            state_dir=directory,
            node_id="n0",
            workers=1,
            entry_points={"web": EntryPoint(self.entry)},
        )
        self.pid = 0
        self.services: list[RouteService] = []
        self._nodes = [RouteGateway(node_id=f"n{n}", hostname=f"n{n}", address="127.0.0.1") for n in range(gateways)]
        self._version = 0

    async def start(self, services: list[RouteService]) -> float:
        await self.gateway.start()
        self.services = services
        took = await self.apply(self._nodes)
        # A leader that has told of everything, as there is one: without, this gateway would check all itself.
        self.gateway.health.session(True)
        keys = [endpoint_key(one) for service in services for port in service.ports for one in port.endpoints]
        self.gateway.health.take_verdicts(True, {"n1": dict.fromkeys(keys, "")}, [])
        self.pid = (await self.gateway.status())["workers"][0]["pid"]
        bench.pin(self.pid, 0)
        return took

    async def apply(self, nodes: list[RouteGateway] | None = None) -> float:
        """Milliseconds until the worker serves by the table."""
        self._nodes = self._nodes if nodes is None else nodes
        self._version += 1
        began = time.perf_counter()
        await self.gateway.apply(
            RouteTable(version=self._version, services=list(self.services), gateways=list(self._nodes))
        )
        return (time.perf_counter() - began) * 1000

    def change(self, number: int) -> None:
        """One service with an endpoint less, or with all again."""
        service = self.services[number]
        port = service.ports[0]
        last = RouteEndpoint(task_id=f"new-{number}", task_name="x", node_id="n1", address="127.0.0.1", port=9)
        replicas = port.endpoints[:-1] if port.endpoints[-1].task_id == last.task_id else [*port.endpoints, last]
        changed = RoutePort(
            protocol="tcp", target_port=80, published_port=0, app_protocol="http", endpoints=replicas
        )  # fmt: skip
        self.services[number] = RouteService(
            id=service.id, name=service.name, labels=service.labels, ports=[changed]
        )  # fmt: skip

    async def join_or_leave(self) -> None:
        await self.apply(self._nodes[:-1])

    @property
    def worker_memory(self) -> float:
        """MiB."""
        return bench.memory_kib(self.pid) / 1024


@contextlib.asynccontextmanager
async def backend(directory: Path) -> AsyncIterator[None]:
    bench.write_configurations(directory)
    process = subprocess.Popen(["nginx", "-p", ".", "-c", "backend.conf"], cwd=directory)
    try:
        await bench.until_open(bench.PORTS["backend"], process)
        bench.pin(process.pid, 1)
        yield
    finally:
        process.terminate()
        process.wait()


async def look_ups(few: Mesh, many: Mesh) -> dict[str, float]:
    """CPU per request of the big table over that of the small one, by published port and by router."""
    found: dict[str, float] = {}
    for name, offset in (("port", 0), ("host", 1)):
        case = bench.Case(name, 0, "/", ("-H", "Host: bench.example"))
        pairs = []
        for _ in range(ROUNDS):
            small, big = [(await bench.load(case, mesh.port + offset, mesh.pid, 1)).cpu for mesh in (few, many)]
            pairs.append((small, big))
        found[f"look-up by {name}: ratio"] = statistics.median(big / small for small, big in pairs)
        found[f"look-up by {name}: ratio of the least"] = min(b for _, b in pairs) / min(s for s, _ in pairs)
        found[f"look-up by {name}: CPU us"] = statistics.median(big for _, big in pairs)
    return found


async def changes(mesh: Mesh) -> dict[str, float]:
    reach, worker, supervisor = [], [], []
    for number in range(CHANGES):
        mesh.change(1 + number * (len(mesh.services) // CHANGES - 1))
        used = bench.cpu_seconds(mesh.pid)
        async with Turns() as turns:
            reach.append(await mesh.apply())
        worker.append((bench.cpu_seconds(mesh.pid) - used) * 1000)
        supervisor.append(turns.longest)
    async with Turns() as turns:
        await mesh.join_or_leave()
    return {
        "change: reach ms": statistics.median(reach),
        "change: reach ms, longest": max(reach),
        "change: worker CPU ms": statistics.median(worker),
        "change: worker CPU ms, most": max(worker),
        "change: supervisor's longest turn ms": statistics.median(supervisor),
        "gateway joins: supervisor's longest turn ms": turns.longest,
    }


async def idle_cpu(mesh: Mesh) -> float:
    """Percent of a core."""
    used = bench.cpu_seconds(mesh.pid)
    await asyncio.sleep(IDLE_SECONDS)
    return (bench.cpu_seconds(mesh.pid) - used) / IDLE_SECONDS * 100


async def idle_connections(mesh: Mesh) -> float:
    """KiB for each."""
    lines = "".join(f"{line}\r\n" for line in bench.BROWSER)
    request = f"GET / HTTP/1.1\r\nHost: bench.example\r\n{lines}\r\n".encode()
    before = bench.memory_kib(mesh.pid)
    loop = asyncio.get_running_loop()
    sockets: list[socket.socket] = []
    for _ in range(CONNECTIONS):
        sock = socket.socket()
        sock.setblocking(False)
        sockets.append(sock)
        await loop.sock_connect(sock, ("127.0.0.1", mesh.port))
        await loop.sock_sendall(sock, request)
        await loop.sock_recv(sock, 65536)
    each = (bench.memory_kib(mesh.pid) - before) / CONNECTIONS
    for sock in sockets:
        sock.close()
    return each


async def measure(services: int, endpoints: int, gateways: int) -> dict[str, float]:
    backend_port, base = bench.PORTS["backend"], bench.PORTS["essaim"] + 10
    with contextlib.ExitStack() as stack:
        places = [Path(stack.enter_context(tempfile.TemporaryDirectory())) for _ in range(3)]
        for place in places:
            place.chmod(0o755)
        async with backend(places[0]):
            few, many = (Mesh(place, base + 2 * n, gateways) for n, place in enumerate(places[1:]))
            try:
                await few.start([served(few.port, backend_port)])
                found = {"worker memory MiB, one service": few.worker_memory, "idle CPU %": await idle_cpu(few)}
                table = [served(many.port, backend_port), *others(services, endpoints, gateways, backend_port)]
                found["whole table: reach ms"] = await many.start(table)
                found["worker memory MiB"] = many.worker_memory
                found |= await look_ups(few, many)
                found |= await changes(many)
                found["idle CPU %, all services"] = await idle_cpu(many)
                found["idle connection KiB"] = await idle_connections(few)
            finally:
                await few.gateway.stop(0.2)
                await many.gateway.stop(0.2)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--services", type=int, default=5000)
    parser.add_argument("--endpoints", type=int, default=10, help="of each service")
    parser.add_argument("--gateways", type=int, default=100)
    parser.add_argument("--base-port", type=int, default=bench.BASE_PORT)
    parser.add_argument("--json", action="store_true")
    chosen = parser.parse_args()
    bench.use_ports(chosen.base_port)
    # What the gateway says of its checks is not the bench's answer; the collector is set as in essaimd.
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    tune_collector()
    found = asyncio.run(measure(chosen.services, chosen.endpoints, chosen.gateways))
    if chosen.json:
        print(json.dumps(found))
        return
    for name, value in found.items():
        print(f"{name:46} {value:10.2f}")


if __name__ == "__main__":
    main()
