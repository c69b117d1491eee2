"""How long a member with 100,000 objects of 256 bytes takes from start to its first answered read, and its memory.

python bench/restart.py [--objects 100000]
"""

import argparse
import asyncio
import json
import signal
import tempfile
import time
from pathlib import Path

import uvloop
from raft_cluster import Client, Cluster


def resident(pid: int) -> int:
    """Bytes of memory that a process holds."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError(f"no memory figures for process {pid}")


async def measure(objects: int) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as name:
        cluster = Cluster(Path(name), 1, snapshot_entries=objects * 6 // 10)
        cluster.start(1)
        try:
            await cluster.leader()
            empty = resident(cluster.processes[1].pid)
            client = await Client.open(cluster.client_ports[1])
            for start in range(0, objects, 1000):
                await asyncio.gather(
                    *(client.call("write", b"%256d" % i) for i in range(start, min(objects, start + 1000)))
                )
            client.close()
            cluster.signal(1, signal.SIGKILL)
            began = time.perf_counter()
            cluster.start(1)
            await cluster.leader()
            client = await Client.open(cluster.client_ports[1])
            length = await client.call("read")
            elapsed = time.perf_counter() - began
            client.close()
            if length != objects:
                raise RuntimeError(f"{length} of {objects} objects came back")
            grown = resident(cluster.processes[1].pid) - empty
            return {"objects": objects, "ready s": round(elapsed, 2), "bytes per object": round(grown / objects)}
        finally:
            cluster.stop_all()


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--objects", type=int, default=100_000)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    result = uvloop.run(measure(options.objects))
    print(json.dumps(result) if options.json else "  ".join(f"{name} {value}" for name, value in result.items()))


if __name__ == "__main__":
    main()
