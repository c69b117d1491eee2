"""Replicas whose host has vanished: the kernel finds out, and the connection ends instead of standing for a quarter of
an hour or more.

Probes find a silent host on a connection that rests, after half a minute. They say nothing while bytes wait to be
acknowledged: there, layer 7 sets a limit of a minute, the same that it has for a replica which takes nothing. Layer 4
sets none: a replica may well stop reading for longer.
"""

import asyncio
import socket

IDLE, INTERVAL, PROBES = 15, 5, 3
UNACKNOWLEDGED_MS = 60_000


def keep_alive(transport: asyncio.BaseTransport, *, limit: bool) -> None:
    """`limit`: also for bytes that are not acknowledged."""
    sock = transport.get_extra_info("socket")
    if sock is None:  # no kernel behind it
        return
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, IDLE)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, INTERVAL)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, PROBES)
    if limit:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, UNACKNOWLEDGED_MS)
