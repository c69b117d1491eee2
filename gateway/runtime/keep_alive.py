"""Replicas whose host has vanished: the kernel finds out, and the connection ends instead of standing for a quarter of
an hour or more.

- Probes find a silent host on a connection that rests, after half a minute.
- They say nothing while bytes wait to be acknowledged. Of HTTP, these may wait for a minute, as a replica may that
  takes nothing of a body. A tunnel and layer 4 have no such limit: the kernel's also ends a connection whose replica is
  there but does not read, which it may well do for longer.
"""

import asyncio
import socket

IDLE, INTERVAL, PROBES = 15, 5, 3
UNACKNOWLEDGED_MS = 60_000


def keep_alive(transport: asyncio.BaseTransport) -> None:
    """Probe while nothing is under way."""
    sock = transport.get_extra_info("socket")
    if sock is None:  # no kernel behind it
        return
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, IDLE)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, INTERVAL)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, PROBES)


def limit_unacknowledged(transport: asyncio.BaseTransport, milliseconds: int) -> None:
    """How long bytes may wait to be acknowledged; 0 for the kernel's own patience."""
    sock = transport.get_extra_info("socket")
    if sock is not None:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, milliseconds)
