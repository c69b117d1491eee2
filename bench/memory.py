"""Memory of a manager while tasks come and go: `python bench/memory.py [--seconds 120] [--replicas 300]`.

One real daemon; a service that fits no node is scaled up and down, so that thousands of tasks are made, written to the
log, shown in events and forgotten, without a process each. Every ten seconds a line: tasks so far, the daemon's
resident memory, its log on disk. Memory has to reach a plateau: the last third may not be above the second by more
than 5 MiB.
"""

import argparse
import asyncio
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from essaim.api.client import Client
from tests.daemon.processes import daemons, init
from tests.daemon.test_memory import resident

REPORT = 10.0
SPEC = {
    "Name": "churn",
    "TaskTemplate": {
        "ContainerSpec": {"Image": "essaim/whoami", "Env": [f"VARIABLE_{n}={'x' * 30}" for n in range(20)]},
        "Placement": {"Constraints": ["node.labels.nowhere==yes"]},
    },
}


async def scale(client: Client, replicas: int) -> None:
    """Ask for so many, and wait until there are."""
    service = await client.get("/services/churn")
    spec = {**service["Spec"], "Mode": {"Replicated": {"Replicas": replicas}}}
    await client.post(f"/services/{service['ID']}/update", spec, {"version": str(service["Version"]["Index"])})
    while len(await client.get("/tasks")) != replicas:
        await asyncio.sleep(0.05)


async def measure(seconds: float, replicas: int) -> list[float]:
    found: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        async with daemons(Path(folder), tasks=False) as (one,):
            await init(one)
            print(f"{resident(one):.0f} MiB at the start")
            async with Client(one.host) as client:
                await client.post("/services/create", {**SPEC, "Mode": {"Replicated": {"Replicas": 0}}})
                began = reported = time.monotonic()
                tasks = 0
                while time.monotonic() - began < seconds:
                    await scale(client, replicas)
                    await scale(client, 0)
                    tasks += replicas
                    if time.monotonic() - reported >= REPORT:
                        reported += REPORT
                        found.append(resident(one))
                        disk = sum(path.stat().st_size for path in (one.state / "raft").glob("*")) >> 20
                        print(
                            f"{reported - began:4.0f} s, {tasks} tasks: {found[-1]:.0f} MiB, log {disk} MiB", flush=True
                        )
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description="Memory of a manager while tasks come and go.")
    parser.add_argument("--seconds", type=float, default=120.0)
    parser.add_argument("--replicas", type=int, default=300)
    given = parser.parse_args()
    found = asyncio.run(measure(given.seconds, given.replicas))
    third = len(found) // 3
    growth = max(found[2 * third :]) - max(found[third : 2 * third])
    print(f"the last third is {growth:+.1f} MiB above the second (limit 5)")
    return 1 if growth > 5 else 0


if __name__ == "__main__":
    sys.exit(main())
