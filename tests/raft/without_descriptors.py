"""A member alone whose process runs out of descriptors at the end of a segment: run by `test_disk_errors.py`.

It takes every descriptor, writes until it is refused, gives the descriptors back, and writes again.
"""

import asyncio
import os
import resource
import sys
import tempfile
from pathlib import Path

from raft_machines import ALONE, Journal

from essaim.raft.interface import LogError
from essaim.raft.member.found import found_cluster
from essaim.raft.member.node import Options, RaftLog, Timing

OPTIONS = Options(segment_bytes=256 * 1024, timing=Timing(disk_retry=0.05))


def take_all() -> list[int]:
    held = []
    try:
        while True:
            held.append(os.open("/dev/null", os.O_RDONLY))
    except OSError:
        return held


async def write(log: RaftLog, data: bytes) -> str:
    try:
        await log.propose(data, timeout=5)
    except LogError as error:
        return str(error)
    return ""


async def main(directory: Path) -> None:
    await asyncio.to_thread(found_cluster, directory, {1: ALONE})
    journal = Journal()
    async with RaftLog(directory, journal, member_id=1, address=ALONE, options=OPTIONS) as log:
        await write(log, b"first")
        held = take_all()
        refused = ""
        while not refused:
            refused = await write(log, b"x" * 50_000)
        for descriptor in held:
            os.close(descriptor)
        async with asyncio.timeout(10):
            while await write(log, b"last"):
                await asyncio.sleep(0.01)
        sys.stdout.write(f"{refused}\n{journal.commands[0].decode()} {journal.commands[-1].decode()}\n")


if __name__ == "__main__":
    resource.setrlimit(resource.RLIMIT_NOFILE, (128, 128))
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(main(Path(folder)))
