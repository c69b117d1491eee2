"""kill -9 of the leader until the next write is acknowledged: three members of ours as processes.

    python bench/failover.py [--rounds 20] [--members 3]
    python bench/failover.py --busy 600

The writer talks to a member that survives, which is what a client is left with. `--busy` kills nobody: it keeps every
core busy with two processes each, writes all the time, and counts the elections in so many seconds (none is right).
"""

import argparse
import asyncio
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import uvloop
from raft_cluster import Client, Cluster, LogRefused


async def settled(cluster: Cluster, within: float = 60) -> int:
    """The leader, once all members run, follow it and have the same journal."""
    end = time.monotonic() + within
    while time.monotonic() < end:
        leader = await cluster.leader()
        found = [await cluster.status(member) for member in cluster.ids]
        if None not in found and len({(s[0], s[1], s[3]) for s in found if s}) == 1:
            return leader
        await asyncio.sleep(0.02)
    raise TimeoutError(f"the members do not agree within {within} s; see {cluster.directory}/*.log")


async def one_round(cluster: Cluster) -> float:
    leader = await settled(cluster)
    survivor = next(member for member in cluster.ids if member != leader)
    client = await Client.open(cluster.client_ports[survivor])
    try:
        await client.call("write", b"before")
        began = time.perf_counter()
        cluster.signal(leader, signal.SIGKILL)
        while True:
            try:
                await client.call("write", b"after")
                return time.perf_counter() - began
            except LogRefused:
                await asyncio.sleep(0.01)
    finally:
        client.close()
        if leader not in cluster.processes:
            cluster.start(leader)


async def measure(rounds: int, members: int) -> list[float]:
    with tempfile.TemporaryDirectory() as name:
        cluster = Cluster(Path(name), members)
        cluster.start_all()
        try:
            return [await one_round(cluster) for _ in range(rounds)]
        finally:
            cluster.stop_all()


async def elections_while_busy(seconds: float) -> dict[str, float]:
    burners = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(2 * (os.cpu_count() or 1))]
    with tempfile.TemporaryDirectory() as name:
        cluster = Cluster(Path(name), 3)
        cluster.start_all()
        try:
            leader = await settled(cluster)
            began = await cluster.status(leader)
            client = await Client.open(cluster.client_ports[leader])
            end, writes, slowest = time.monotonic() + seconds, 0, 0.0
            while time.monotonic() < end:
                sent = time.monotonic()
                await asyncio.gather(*(client.call("write", bytes(256)) for _ in range(16)))
                slowest = max(slowest, time.monotonic() - sent)
                writes += 16
            ended = await cluster.status(leader)
            assert began is not None
            assert ended is not None
            return {"elections": ended[0] - began[0], "seconds": seconds, "writes": writes, "slowest s": slowest}
        finally:
            cluster.stop_all()
            for burner in burners:
                burner.kill()
                burner.wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--members", type=int, default=3)
    parser.add_argument("--busy", type=float, default=0, metavar="SECONDS")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    if options.busy:
        print(json.dumps(uvloop.run(elections_while_busy(options.busy))))
        return
    seconds = sorted(uvloop.run(measure(options.rounds, options.members)))
    result = {
        "median s": round(statistics.median(seconds), 3),
        "worst s": round(seconds[-1], 3),
        "rounds": len(seconds),
    }
    print(json.dumps(result) if options.json else "  ".join(f"{name} {value}" for name, value in result.items()))


if __name__ == "__main__":
    main()
