"""File descriptors: what a process may open, and how many connections that is good for.

- Systems start programs with 1,024 (for `select`, which nothing here uses) and allow hundreds of thousands: a worker
  takes what is allowed, the supervisor as much as its listening sockets need (what it starts inherits its limit).
- A worker with too many connections refuses new ones at once, and keeps a quarter of its descriptors for connections to
  replicas: clients that it has let in should reach them.
- A connection that cannot be made for want of descriptors, ports or memory here is no failure of the replica.
"""

import asyncio
import errno
import resource
from typing import cast

RESERVED = 1024
"""For listening sockets and everything else, at least."""
OURS = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.EADDRNOTAVAIL})


def allow(count: int | None = None) -> int:
    """Have at least so many descriptors allowed (None: as many as can be); returns how many are."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = hard if count is None else min(count, hard)
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    return max(soft, wanted)


def connections_for(descriptors: int) -> int:
    """With how many open connections, of clients and to replicas, a new client is refused."""
    return max(16, descriptors - max(RESERVED, descriptors // 4))


def is_ours(error: OSError) -> bool:
    """Whether a connection failed for want of something on this side."""
    return error.errno in OURS


class Full(asyncio.Protocol):
    """A connection for which there is no room."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        cast("asyncio.Transport", transport).abort()
