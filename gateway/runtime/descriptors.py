"""File descriptors: what a process may open, and how many connections that is good for.

- Systems start programs with 1,024 (for `select`, which nothing here uses) and allow hundreds of thousands: a worker
  takes what is allowed, the supervisor as much as its listening sockets need (what it starts inherits its limit).
- A worker with too many connections refuses new ones at once, and keeps a quarter of its descriptors for connections to
  replicas: clients that it has let in should reach them.
- Flows of UDP have a quarter of what connections have at most, so that TCP keeps its room; those of all workers have
  half of the host's local ports at most: each flow takes one, and every other program needs them, too.
- A connection that cannot be made for want of descriptors, ports or memory here is no failure of the replica.
"""

import asyncio
import errno
import resource
from pathlib import Path
from typing import cast

RESERVED = 1024
"""For listening sockets and everything else, at least."""
PORT_RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")
USUAL_PORTS = 28_232
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


def flows_for(connections: int, workers: int, ports: int) -> int:
    """How many UDP flows a worker may have, with room for so many connections, one of so many workers of a host with
    so many local ports."""
    return max(16, min(connections // 4, ports // 2 // workers))


def local_ports() -> int:
    """How many ports the kernel gives to sockets that do not ask for one."""
    try:
        first, last = PORT_RANGE.read_text().split()
        return int(last) - int(first) + 1
    except (OSError, ValueError):
        return USUAL_PORTS


def is_ours(error: OSError) -> bool:
    """Whether a connection failed for want of something on this side."""
    return error.errno in OURS


class Full(asyncio.Protocol):
    """A connection for which there is no room."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        cast("asyncio.Transport", transport).abort()
