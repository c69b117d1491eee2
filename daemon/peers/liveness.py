"""Whether the host at the other end of a stream is still there, so that a stream ends when a host vanishes unseen.

The kernel is asked, not the peer: a stream may rightly stand still for hours (a reader that is paused, a log without
lines), but a host that is there acknowledges.

- Nothing under way: keep-alive probes, and the kernel ends the connection after `IDLE + COUNT * INTERVAL` seconds.
- Something under way: the kernel would go on trying for a quarter of an hour, so the connection is shut down here once
  nothing has come back for `SILENCE` seconds.

Rejected: WebSocket pings, which stand behind a paused reader's data and so end good streams; TCP_USER_TIMEOUT, which
ends a connection whose peer answers but has had no room for that long.
"""

import asyncio
import contextlib
import os
import socket
import struct
from typing import Any, NamedTuple

SILENCE = 12.0
CHECK = 2.0
IDLE, INTERVAL, COUNT = 5, 3, 3
"""Seconds without traffic before the first probe, between two probes, and how many may stay unanswered."""
CLOSED = 7
_INFO = struct.Struct("=BxxB20xI24xII")
"""The beginning of the kernel's `struct tcp_info`."""


class TcpInfo(NamedTuple):
    """`state` as the kernel numbers them, `probes` unanswered; `unacked` segments; the others in milliseconds."""

    state: int
    probes: int
    unacked: int
    since_data: int
    since_ack: int


def gone(info: TcpInfo) -> bool:
    """Something is under way, and for too long nothing has come back. A full window that is confirmed is no silence,
    however rare the kernel's probes have become."""
    asked = info.unacked > 0 or info.probes > 1
    return asked and min(info.since_data, info.since_ack) >= SILENCE * 1000


class Liveness:
    """Watches over one connection from `start` until `stop`, or until the connection has ended."""

    def __init__(self, connection: Any) -> None:
        """`connection`: a transport's socket. Ours is a duplicate, so that its number cannot become another's."""
        self._socket = socket.socket(fileno=os.dup(connection.fileno()))
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        if self._socket.family in (socket.AF_INET, socket.AF_INET6):
            for option, value in (
                (socket.TCP_KEEPIDLE, IDLE),
                (socket.TCP_KEEPINTVL, INTERVAL),
                (socket.TCP_KEEPCNT, COUNT),
            ):
                self._socket.setsockopt(socket.IPPROTO_TCP, option, value)
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        self._task = asyncio.get_running_loop().create_task(self._watch(), name="liveness of a stream")
        self._task.add_done_callback(lambda _: self._socket.close())

    def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()

    async def _watch(self) -> None:
        while (info := self._info()).state != CLOSED:
            if gone(info):
                with contextlib.suppress(OSError):
                    self._socket.shutdown(socket.SHUT_RDWR)
                return
            await asyncio.sleep(CHECK)

    def _info(self) -> TcpInfo:
        return TcpInfo._make(_INFO.unpack(self._socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _INFO.size)))
