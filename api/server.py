"""Listening for API clients: on a unix socket, on TCP with TLS, and on plain TCP at loopback only."""

import asyncio
import ipaddress
import resource
import socket
import ssl
from collections.abc import Collection
from pathlib import Path
from typing import Any

from aiohttp import web

from essaim.api.listen.admission import Limits
from essaim.api.listen.doors import Doors, door_for, limits, unix_socket
from essaim.api.listen.tls import TlsListener, server_context
from essaim.cluster.errors import InvalidArgument

from .context import API

__all__ = ["ApiServer", "server_context"]

KEEP_ALIVE_SECONDS = 75.0
SHUTDOWN_SECONDS = 1.0
MAX_LINE = 64 << 10
"""Filters of the stock clients travel in the query string."""
RUNNER: dict[str, Any] = {
    "handler_cancellation": True,
    "keepalive_timeout": KEEP_ALIVE_SECONDS,
    "shutdown_timeout": SHUTDOWN_SECONDS,
    "max_line_size": MAX_LINE,
    "max_field_size": MAX_LINE,
}
"""What a runner of this application needs: followed logs and events end when their client goes."""


class ApiServer:
    """Serves one application on any number of addresses. A handler is cancelled when its client has gone.

    Use it as a context manager, or `start` and `stop`; `listen_*` in between.
    """

    def __init__(self, app: web.Application, *, names: Collection[str] = (), bounds: Limits | None = None) -> None:
        """`names`: what TCP clients may call the API beside loopback names and its addresses. `bounds`: of each
        listener's connections; by the process's descriptors by default."""
        self._log = app[API].log
        self._doors = Doors(app, self._log, **RUNNER)
        self._names = frozenset(name.lower() for name in names)
        self._bounds = bounds or limits(resource.getrlimit(resource.RLIMIT_NOFILE)[0])
        self._sockets: list[Path] = []
        self._tls: list[TlsListener] = []

    async def start(self) -> None:
        await self._doors.start()

    async def stop(self) -> None:
        for listener in self._tls:
            await listener.stop()
        await self._doors.stop()
        for path in self._sockets:
            await asyncio.to_thread(path.unlink, missing_ok=True)

    async def __aenter__(self) -> "ApiServer":
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def listen_unix(self, path: Path, *, mode: int = 0o660) -> None:
        """A socket file left behind by a daemon that was killed is replaced; one that answers is not."""
        await asyncio.to_thread(self._prepare, path)
        listening = await asyncio.to_thread(unix_socket, path)
        await asyncio.to_thread(path.chmod, mode)
        self._sockets.append(path)
        self.listen_at(listening, str(path))

    def listen_at(self, listening: socket.socket, name: str) -> None:
        """At a Unix socket that listens already, whose file is another's business."""
        total = self._bounds.total  # one process may speak for many: a proxy in front of the socket
        self._doors.listen(listening, door_for(name, Limits(total, total)))

    @staticmethod
    def _prepare(path: Path) -> None:
        if not path.parent.exists():
            path.parent.mkdir(parents=True)
            path.parent.chmod(0o755)  # whatever the umask is: the socket's own mode says who may
        if not path.is_socket():
            return
        with socket.socket(socket.AF_UNIX) as probe:
            probe.settimeout(1)
            try:
                probe.connect(str(path))
            except OSError:
                path.unlink(missing_ok=True)
                return
        raise InvalidArgument(f"another daemon answers at {path}: stop it, or choose another --socket")

    async def listen_tls(self, host: str, port: int, context: ssl.SSLContext, names: Collection[str] = ()) -> int:
        """The port that it listens on. The context demands client certificates (see `tls.server_context`); `names` are
        those that its own certificate shows."""
        door = door_for(f"{host}:{port} (TLS)", self._bounds, hosts=self._names | {name.lower() for name in names})
        listener = TlsListener(context, self._doors, door, self._bounds, self._log)
        self._tls.append(listener)
        return await listener.start(host, port)

    async def listen_plain(self, host: str, port: int) -> int:
        """Raises InvalidArgument for any address but loopback: whoever reaches this port owns the cluster."""
        if host != "localhost" and not ipaddress.ip_address(host).is_loopback:
            raise InvalidArgument(f"plain TCP is for loopback only, not {host}: use TLS (port 2376)")
        return await self._doors.listen_tcp(host, port, door_for(f"{host}:{port}", self._bounds, hosts=self._names))
