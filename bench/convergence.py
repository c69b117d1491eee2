"""How long 60 replicas take from `service create` until all run, on three hosts with a real Engine each (root).

    PYTHONPATH=. python bench/convergence.py [--rounds 3] [--replicas 60] [--json]

Beside essaim, in turns on the same hosts: the Engines alone (the same containers created and started by direct calls,
4 at a time on each: the floor), and Docker Swarm (the Engines' own). Each turn has a fresh cluster of three managers
that was ready before, and no container of an earlier one. The image is there and is asked for by its ID, for Swarm
would ask a registry for a name. Printed are medians in seconds, and ratios of medians.
"""

import argparse
import asyncio
import json
import statistics
import time
from collections.abc import Awaitable, Callable
from typing import Any

from essaim.api.client import Client, encode_filters
from tests.lab.cluster import Cluster
from tests.lab.host import Host
from tests.lab.images import busybox_image
from tests.lab.lab import Lab
from tests.lab.wait import eventually, eventually_async

COMMAND = ["sleep", "infinity"]
AT_A_TIME = 4
EVERY = 0.1
"""Seconds between two looks at the tasks, for both orchestrators: looking costs them time too."""
WITHIN = 300.0
NAME = "bench"


class Bench:
    def __init__(self, lab: Lab, replicas: int) -> None:
        self._lab = lab
        self._replicas = replicas
        self._image = load_image(lab)

    async def engines_alone(self) -> float:
        began = time.perf_counter()
        shares = [len(range(number, self._replicas, len(self._lab.hosts))) for number in range(len(self._lab.hosts))]
        await asyncio.gather(*map(self._start_directly, self._lab.hosts, shares))
        return time.perf_counter() - began

    async def essaim(self) -> float:
        cluster = Cluster(self._lab, shared_sockets=True)
        try:
            await asyncio.to_thread(cluster.start)
            return await self._create_service(cluster.url(cluster.first))
        finally:
            await asyncio.to_thread(cluster.stop)

    async def swarm(self) -> float:
        try:
            await asyncio.to_thread(start_swarm, self._lab)
            return await self._create_service(self._lab.hosts[0].engine_url)
        finally:
            for host in self._lab.hosts:
                await asyncio.to_thread(host.docker, "swarm", "leave", "--force", check=False)

    async def _start_directly(self, host: Host, count: int) -> None:
        """`AT_A_TIME` workers share the host's containers."""
        left = iter(range(count))
        async with Client(host.engine_url) as client:

            async def work() -> None:
                for number in left:
                    spec = {"Image": self._image, "Cmd": COMMAND}
                    made = await client.post("/containers/create", spec, {"name": f"{NAME}-{number}"}, timeout=WITHIN)
                    await client.post(f"/containers/{made['Id']}/start", timeout=WITHIN)

            await asyncio.gather(*(work() for _ in range(AT_A_TIME)))

    async def _create_service(self, url: str) -> float:
        """Seconds until the last replica is reported to run."""
        spec = {
            "Name": NAME,
            "TaskTemplate": {"ContainerSpec": {"Image": self._image, "Args": COMMAND}},
            "Mode": {"Replicated": {"Replicas": self._replicas}},
        }
        query = {"filters": encode_filters({"service": [NAME]})}
        async with Client(url) as client:
            began = time.perf_counter()
            await client.post("/services/create", spec)

            async def all_run() -> bool:
                tasks: list[dict[str, Any]] = await client.get("/tasks", query)
                return len([t for t in tasks if t["Status"]["State"] == "running"]) == self._replicas

            await eventually_async(all_run, WITHIN, f"{self._replicas} replicas run", every=EVERY)
            return time.perf_counter() - began


def load_image(lab: Lab) -> str:
    """Give all hosts one image with the same ID; the ID."""
    first, *others = lab.hosts
    tag = lab.load_image(busybox_image(f"{NAME}:1", COMMAND), [first])
    archive = lab.directory / "image.tar"
    first.docker("save", "--output", archive, tag)
    for host in others:
        host.docker("load", "--input", archive)
    return first.docker("image", "inspect", "--format", "{{.Id}}", tag)


def start_swarm(lab: Lab) -> None:
    """All hosts are managers of one Docker Swarm, and ready."""
    first, *others = lab.hosts
    first.docker("swarm", "init", "--advertise-addr", first.address)
    token = first.docker("swarm", "join-token", "--quiet", "manager")
    for host in others:
        host.docker("swarm", "join", "--token", token, "--advertise-addr", host.address, f"{first.address}:2377")
    eventually(
        lambda: first.docker("node", "ls", "--format", "{{.Status}}").split() == ["Ready"] * len(lab.hosts),
        60,
        "all nodes of the swarm are ready",
    )


async def measure(lab: Lab, rounds: int, replicas: int) -> dict[str, list[float]]:
    bench = Bench(lab, replicas)
    turns: dict[str, Callable[[], Awaitable[float]]] = {
        "engines": bench.engines_alone,
        "essaim": bench.essaim,
        "swarm": bench.swarm,
    }
    seconds: dict[str, list[float]] = {name: [] for name in turns}
    for number in range(rounds):
        # Each in each place of a round, so that what the machine does meanwhile hits all.
        shift = number % len(turns)
        for name in [*turns][shift:] + [*turns][:shift]:
            seconds[name].append(await turns[name]())
            await asyncio.to_thread(lab.reset)
    return seconds


def summary(seconds: dict[str, list[float]], replicas: int) -> dict[str, float]:
    middle = {name: statistics.median(values) for name, values in seconds.items()}
    return {
        "replicas": replicas,
        "rounds": len(seconds["essaim"]),
        **{f"{name} s": round(value, 2) for name, value in middle.items()},
        "essaim to engines": round(middle["essaim"] / middle["engines"], 3),
        "essaim to swarm": round(middle["essaim"] / middle["swarm"], 3),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--replicas", type=int, default=60)
    parser.add_argument("--json", action="store_true", help="with the figures of each round")
    options = parser.parse_args()
    with Lab(hosts=3) as lab:
        seconds = asyncio.run(measure(lab, options.rounds, options.replicas))
    result = summary(seconds, options.replicas)
    if options.json:
        print(json.dumps(result | {"each": {name: [round(s, 2) for s in each] for name, each in seconds.items()}}))
    else:
        print("  ".join(f"{name} {value}" for name, value in result.items()))


if __name__ == "__main__":
    main()
