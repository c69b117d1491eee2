"""What starting containers through the agent costs: our own CPU a container, from assignment to `running`, on the real
Engine of a lab host (root).

    PYTHONPATH=. python bench/containers.py [--containers 40] [--rounds 3] [--json]

Beside it, in turns: the same containers by bare create and start calls, 4 at a time as the agent does, for the wall
time that the Engine alone takes. Our CPU is that of this process, all threads: the test's manager is in it.
The exit code is 1 at 10 ms a container or more.
"""

import argparse
import asyncio
import json
import os
import random
import shutil
import statistics
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

import uvloop

from essaim.agent.agent import Agent
from essaim.agent.runtime.docker.runtime import DockerRuntime
from essaim.api.client import Client
from tests.agent.doubles import LOG, MEMORY, NODE, FakeManager, ingress, make_task, until
from tests.lab.host import Host
from tests.lab.images import busybox_image
from tests.lab.lab import Lab

LIMIT = 10.0
"""Milliseconds of CPU a container."""
LOOK_EVERY = 0.1
AT_A_TIME = 4
IMAGE = "box:1"


async def through_the_agent(host: Host, count: int) -> tuple[float, float]:
    """Seconds of CPU and of wall time."""
    runtime = DockerRuntime(
        engine_url=host.engine_url,
        data_addr=host.address,
        environment=dict(os.environ),
        memory_dirs=[MEMORY],
        log=LOG,
    )
    manager = FakeManager()
    with tempfile.TemporaryDirectory() as folder:
        agent = Agent(
            runtime=runtime,
            node_id=NODE.id,
            dial=manager.dial,
            state_dir=Path(folder),
            now=lambda: datetime.now(UTC),
            monotonic=time.monotonic,
            log=LOG,
            chance=random.random,
        )
        await agent.start()
        try:
            return await assigned(manager, count)
        finally:
            await agent.stop(keep_tasks=True)
            await runtime.close()
            await manager.close()


async def assigned(manager: FakeManager, count: int) -> tuple[float, float]:
    """From the assignment until all run."""
    await until(lambda: manager.hellos)
    tasks = [make_task(f"t{n}", image=IMAGE, env=[f"N={n}"], ports=[ingress(80)]) for n in range(count)]
    cpu, wall = time.process_time(), time.perf_counter()
    await manager.assign(*tasks)
    async with asyncio.timeout(300):
        # Seldom: looking every few milliseconds, as tests do, was a quarter of all that was measured.
        while not all(manager.state(task.id) == "running" for task in tasks):
            await asyncio.sleep(LOOK_EVERY)
    return time.process_time() - cpu, time.perf_counter() - wall


async def by_bare_calls(host: Host, count: int) -> float:
    left = iter(range(count))
    began = time.perf_counter()
    async with Client(host.engine_url) as client:

        async def work() -> None:
            for number in left:
                made = await client.post("/containers/create", {"Image": IMAGE}, {"name": f"bare-{number}"})
                await client.post(f"/containers/{made['Id']}/start")

        await asyncio.gather(*(work() for _ in range(AT_A_TIME)))
    return time.perf_counter() - began


async def measure(lab: Lab, rounds: int, count: int) -> dict[str, float]:
    host = lab.hosts[0]
    cpu, wall, bare = [], [], []
    for _ in range(rounds):
        spent = await through_the_agent(host, count)
        cpu.append(spent[0] / count * 1000)
        wall.append(spent[1])
        await asyncio.to_thread(lab.reset)
        bare.append(await by_bare_calls(host, count))
        await asyncio.to_thread(lab.reset)
    return {
        "containers": count,
        "CPU ms a container": round(statistics.median(cpu), 2),
        "agent s": round(statistics.median(wall), 2),
        "bare calls s": round(statistics.median(bare), 2),
        "limit ms": LIMIT,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--containers", type=int, default=40)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    MEMORY.mkdir()
    try:
        with Lab(hosts=1) as lab:
            lab.load_image(busybox_image(IMAGE))
            result = uvloop.run(measure(lab, options.rounds, options.containers))
    finally:
        shutil.rmtree(MEMORY)
    print(json.dumps(result) if options.json else "  ".join(f"{name} {value}" for name, value in result.items()))
    sys.exit(result["CPU ms a container"] >= LIMIT)


if __name__ == "__main__":
    main()
