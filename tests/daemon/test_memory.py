"""What a manager holds in memory does not grow with what was written to it, only with what is there."""

import base64
from pathlib import Path

from essaim.api.client import Client

from .processes import Daemon, daemons, init

ROUNDS = 500
SIZE = 400 << 10
"""Bytes of a config. The rounds write 200 MB, far more than a manager may hold for followers that are late."""
GROWTH = 90.0
"""MiB: what follows a snapshot (16 MiB and a write that goes on meanwhile), what is kept before it, and the snapshot
itself, in plain and sealed."""


def resident(daemon: Daemon) -> float:
    """MiB."""
    lines = Path(f"/proc/{daemon.pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS:")) / 1024


async def test_manager_under_many_large_writes_grows_by_what_it_keeps_only(tmp_path: Path) -> None:
    data = base64.b64encode(bytes(SIZE)).decode()
    async with daemons(tmp_path, tasks=False) as (one,):
        await init(one)
        before = resident(one)
        async with Client(one.host) as client:
            for number in range(ROUNDS):
                made = await client.post("/configs/create", {"Name": f"c{number}", "Data": data})
                await client.delete(f"/configs/{made['ID']}")
        grown = resident(one) - before
    print(f"grew by {grown:.0f} MiB after {ROUNDS * SIZE >> 20} MiB of writes")
    assert grown < GROWTH
