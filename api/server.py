"""Listening for API clients: on a unix socket, on TCP with TLS, and on plain TCP at loopback only."""

import asyncio
import ipaddress
import socket
import ssl
from pathlib import Path
from typing import Any

from aiohttp import web

from essaim.cluster.errors import InvalidArgument

from .tls import TlsListener, server_context

__all__ = ["ApiServer", "server_context"]

KEEP_ALIVE_SECONDS = 75.0
SHUTDOWN_SECONDS = 1.0
BACKLOG = 1024
MAX_LINE = 64 << 10
"""Filters of the stock clients travel in the query string."""
RUNNER: dict[str, Any] = {
    "handler_cancellation": True,
    "access_log": None,
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

    def __init__(self, app: web.Application) -> None:
        self._runner = web.AppRunner(app, **RUNNER)
        self._sockets: list[Path] = []
        self._tls: list[TlsListener] = []

    async def start(self) -> None:
        await self._runner.setup()

    async def stop(self) -> None:
        for listener in self._tls:
            await listener.stop()
        await self._runner.cleanup()
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
        await web.UnixSite(self._runner, str(path), backlog=BACKLOG).start()
        await asyncio.to_thread(path.chmod, mode)
        self._sockets.append(path)

    @staticmethod
    def _prepare(path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
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

    async def listen_tls(self, host: str, port: int, context: ssl.SSLContext) -> int:
        """The port that it listens on. The context demands client certificates (see `tls.server_context`)."""
        listener = TlsListener(context, self._accept)
        self._tls.append(listener)
        return await listener.start(host, port, BACKLOG)

    async def _accept(self, connection: socket.socket) -> None:
        server = self._runner.server
        if server is None:
            raise ConnectionAbortedError("the API is stopping")
        await asyncio.get_running_loop().connect_accepted_socket(server, connection)

    async def listen_plain(self, host: str, port: int) -> int:
        """Raises InvalidArgument for any address but loopback: whoever reaches this port owns the cluster."""
        if host != "localhost" and not ipaddress.ip_address(host).is_loopback:
            raise InvalidArgument(f"plain TCP is for loopback only, not {host}: use TLS (port 2376)")
        site = web.TCPSite(self._runner, host, port, backlog=BACKLOG)
        before = set(self._runner.addresses)
        await site.start()
        return next(int(address[1]) for address in self._runner.addresses if address not in before)
