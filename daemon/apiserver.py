"""The API's listeners: the unix socket, and TCP when asked for."""

import asyncio
import contextlib
import ipaddress
from pathlib import Path

from aiohttp import web

from essaim.cluster.errors import InvalidArgument

from .addresses import split_host_port
from .settings import DEFAULT_API_PORT


class SocketTaken(Exception):
    """Another daemon answers on the socket; the message names it."""


class ApiServer:
    """Serves one aiohttp application. Use `start()` and `stop()`."""

    def __init__(self, app: web.Application) -> None:
        self._app = app
        self._runner: web.AppRunner | None = None
        self._socket: Path | None = None

    async def start(self, socket: Path, tcp: str = "") -> None:
        """Raises SocketTaken, OSError, or InvalidArgument for a TCP address that may not be served in plain."""
        await _free(socket)
        self._runner = web.AppRunner(self._app, access_log=None, shutdown_timeout=2.0)
        await self._runner.setup()
        await asyncio.to_thread(socket.parent.mkdir, parents=True, exist_ok=True)
        await web.UnixSite(self._runner, str(socket)).start()
        await asyncio.to_thread(socket.chmod, 0o660)
        self._socket = socket
        if tcp:
            host, port = split_host_port(tcp, DEFAULT_API_PORT)
            if not ipaddress.ip_address(host).is_loopback:
                raise InvalidArgument(f"--api-addr {tcp}: without TLS the API is served on loopback addresses only")
            await web.TCPSite(self._runner, host, port).start()

    async def stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None
        if self._socket is not None:
            await asyncio.to_thread(self._socket.unlink, missing_ok=True)
            self._socket = None


async def _free(socket: Path) -> None:
    """Remove a socket file that a killed daemon left. Raises SocketTaken when one still answers on it."""
    if not await asyncio.to_thread(socket.exists):
        return
    try:
        _, writer = await asyncio.wait_for(asyncio.open_unix_connection(str(socket)), 2)
    except (ConnectionRefusedError, FileNotFoundError):
        await asyncio.to_thread(socket.unlink, missing_ok=True)
        return
    except TimeoutError:
        pass
    else:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
    raise SocketTaken(f"another daemon already answers on {socket}; stop it, or choose another with --socket")
