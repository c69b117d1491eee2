"""State machines and helper processes that the Raft tests share."""

import asyncio
import contextlib
import sys
from collections.abc import Callable
from pathlib import Path

import msgspec

from essaim.raft.member.found import AlreadyFounded, found_cluster
from essaim.raft.member.node import Options, RaftLog
from essaim.raft.member.policy import SnapshotPolicy

ALONE = "127.0.0.1:1"  # nobody calls there


class Journal:
    """Keeps every command with its index."""

    def __init__(self) -> None:
        self.items: list[tuple[int, bytes]] = []

    @property
    def commands(self) -> list[bytes]:
        return [command for _, command in self.items]

    def apply(self, index: int, command: bytes) -> int:
        self.items.append((index, command))
        return len(self.items)

    def snapshot(self) -> Callable[[], bytes]:
        frozen = list(self.items)
        return lambda: msgspec.msgpack.encode(frozen)

    def restore(self, index: int, data: bytes) -> None:
        self.items = msgspec.msgpack.decode(data, type=list[tuple[int, bytes]])


async def write_forever(directory: Path) -> None:
    """Child process, a cluster of one: propose 1, 2, 3, ... from 32 tasks, print each number once acknowledged."""
    journal = Journal()
    with contextlib.suppress(AlreadyFounded):
        await asyncio.to_thread(found_cluster, directory, {1: ALONE})
    options = Options(policy=lambda: SnapshotPolicy(entries=200, share=0), keep_entries=10)
    async with RaftLog(directory, journal, member_id=1, address=ALONE, options=options) as log:
        await log.read_barrier()
        next_number = len(journal.items)

        async def client() -> None:
            nonlocal next_number
            while True:
                next_number += 1
                number = next_number
                await log.propose(b"%d" % number)
                sys.stdout.write(f"{number}\n")
                sys.stdout.flush()

        await asyncio.gather(*(client() for _ in range(32)))


if __name__ == "__main__":
    asyncio.run(write_forever(Path(sys.argv[1])))
