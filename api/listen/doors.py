"""Listening for HTTP, one way for every port and socket of the daemon.

A crowd that connects and says nothing, or says it slowly, must cost neither the descriptors nor the attention that
managers, agents and users need. So each listener holds a bounded number of connections, in all and from one source
(`admission.py`), each with little time to say what it wants (`connections.py`), and running out of descriptors puts
off new connections and nothing else (`accepting.py`).

Rejected: aiohttp's sites, which have no bounds, and whose time limit for a first head is that of an idle connection.
"""

import asyncio
import contextlib
import logging
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from aiohttp import web

from .accepting import SAY_EVERY, Acceptor
from .admission import Admission, Full, Limits
from .connections import (
    BODY_SECONDS,
    CONNECTION,
    HANDSHAKE_SECONDS,
    Connection,
    Door,
    Gate,
    cut_all,
    local_of,
    source_of,
)

BACKLOG = 1024
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def share(descriptors: int) -> int:
    """How many connections one listener holds at most, of a process with so many descriptors: an eighth, so that all
    listeners together leave half of them to the daemon's own work."""
    return min(max(descriptors // 8, 16), 4096)


def limits(descriptors: int) -> Limits:
    """For a listener that anybody may connect to: a source has a quarter of the places."""
    total = share(descriptors)
    return Limits(total, max(total // 4, 8))


class Doors:
    """Serves one application at any number of listeners. Use it as a context manager, or `start` and `stop`."""

    def __init__(self, app: web.Application, log: Any, **runner: Any) -> None:
        """`runner`: options of aiohttp's `AppRunner`."""
        app.middlewares.insert(0, self._met)
        self._runner = web.AppRunner(app, access_log=None, logger=_quiet_logger(log), **runner)
        self._log = log
        self._acceptors: list[Acceptor] = []
        self._connections: dict[web.RequestHandler, Connection] = {}
        self._arriving: set[asyncio.Task[None]] = set()
        self._quiet_until: dict[str, float] = {}

    async def start(self) -> None:
        await self._runner.setup()

    async def stop_listening(self) -> None:
        """No new connections; those that there are stay."""
        acceptors, self._acceptors = self._acceptors, []
        for acceptor in acceptors:
            await acceptor.stop()

    async def stop(self) -> None:
        await self.stop_listening()
        arriving = list(self._arriving)
        for task in arriving:
            task.cancel()
        await asyncio.gather(*arriving, return_exceptions=True)
        await self._runner.cleanup()

    async def __aenter__(self) -> "Doors":
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def listen_tcp(self, host: str, port: int, door: Door) -> int:
        """The port that it listens on. Raises OSError when the address cannot be had."""
        listening = await tcp_sockets(host, port)
        for one in listening:
            self.listen(one, door)
        return int(listening[0].getsockname()[1])

    def listen(self, listening: socket.socket, door: Door) -> None:
        """At a socket that listens already, and is this object's from now on."""

        def welcome(connection: socket.socket, address: Any) -> None:
            with contextlib.suppress(OSError):  # it has gone already
                self.take(connection, door, source_of(connection, address), local_of(connection))

        acceptor = Acceptor(listening, welcome, lambda: self._relieve(door), name=door.name, log=self._log)
        self._acceptors.append(acceptor)
        acceptor.start()

    def take(self, connection: socket.socket, door: Door, source: str, local: str) -> None:
        """Serve a connection, or close it when there is no place."""
        held = Connection(door, source, local, connection.close)
        try:
            held.enter()
        except Full as full:
            self._refuse(connection, door, str(full))
            return
        task = asyncio.get_running_loop().create_task(self._arrive(connection, held), name=f"arriving at {door.name}")
        held.end = task.cancel
        held.expect(HANDSHAKE_SECONDS)
        self._arriving.add(task)
        task.add_done_callback(lambda task: self._arrived(task, connection, held))

    async def _arrive(self, connection: socket.socket, held: Connection) -> None:
        """Up to the end of the TLS handshake."""
        server, context = self._runner.server, held.door.context
        if server is None:
            raise ConnectionAbortedError("the server is stopping")
        inner = server()
        self._connections[inner] = held
        gate = Gate(held, inner, lambda: self._gone(inner))
        handshake: dict[str, Any] = {"ssl": context, "ssl_handshake_timeout": HANDSHAKE_SECONDS} if context else {}
        try:
            await asyncio.get_running_loop().connect_accepted_socket(lambda: gate, connection, **handshake)
        except BaseException:
            self._connections.pop(inner, None)
            raise

    def _arrived(self, task: "asyncio.Task[None]", connection: socket.socket, held: Connection) -> None:
        self._arriving.discard(task)
        error = None if task.cancelled() else task.exception()
        if not task.cancelled() and error is None:
            return
        held.leave()
        connection.close()
        if error is not None and not isinstance(error, OSError | TimeoutError):
            self._log.error("a connection could not be served", listener=held.door.name, error=repr(error))

    def _gone(self, inner: web.RequestHandler) -> None:
        held = self._connections.pop(inner, None)
        if held is not None:
            held.leave()

    @web.middleware
    async def _met(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """A request's head has come."""
        held = self._connections.get(request.protocol)
        if held is None:
            return await handler(request)
        request[CONNECTION] = held
        try:
            if held.trusted:
                with held.served():
                    return await handler(request)
            held.expect(BODY_SECONDS)
            return await self._only_request(request, handler)
        finally:
            if request.transport is None or request.transport.is_closing():
                self._gone(request.protocol)  # whoever took the connection over kept the news

    @staticmethod
    async def _only_request(request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            response = await handler(request)
        except web.HTTPException as error:
            error.force_close()
            raise
        response.force_close()
        return response

    @staticmethod
    def _relieve(door: Door) -> int:
        """All that say nothing give their descriptors back."""
        return cut_all(door.strangers.waiting()) + cut_all(door.known.waiting())

    def _refuse(self, connection: socket.socket, door: Door, why: str) -> None:
        now = asyncio.get_running_loop().time()
        if now >= self._quiet_until.get(door.name, 0.0):
            self._quiet_until[door.name] = now + SAY_EVERY
            self._log.warning("too many connections; more are refused", listener=door.name, reason=why)
        if door.context is None:
            text = b'{"message":"too many connections to the daemon: close some that are not needed"}\n'
            head = b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\nConnection: close\r\n"
            with contextlib.suppress(OSError):
                connection.send(head + b"Content-Length: %d\r\n\r\n" % len(text) + text)
                connection.shutdown(socket.SHUT_WR)
        connection.close()


class _Seldom(logging.Filter):
    """What aiohttp itself complains of is a client's nonsense: a line a minute, without its traces."""

    def __init__(self, log: Any) -> None:
        super().__init__()
        self._log = log
        self._quiet_until = 0.0

    def filter(self, record: logging.LogRecord) -> bool:
        now = asyncio.get_running_loop().time()
        if now >= self._quiet_until:
            self._quiet_until = now + SAY_EVERY
            error = record.exc_info[1] if record.exc_info else None
            self._log.warning("a connection was ended", reason=" ".join(str(error or record.getMessage()).split()))
        return False


def _quiet_logger(log: Any) -> logging.Logger:
    logger = logging.Logger("http")
    logger.addFilter(_Seldom(log))
    return logger


def door_for(name: str, bounds: Limits, **options: Any) -> Door:
    """A door with places of its own. `options`: the other fields of `Door`."""
    return Door(name, Admission(bounds), **options)


async def tcp_sockets(host: str, port: int) -> list[socket.socket]:
    """Listening sockets at every address of the host. Raises OSError."""
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    made: list[socket.socket] = []
    try:
        for family, kind, protocol, _, address in dict.fromkeys(found):
            one = socket.socket(family, kind, protocol)
            made.append(one)
            one.setblocking(False)
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            one.bind(address)
            one.listen(BACKLOG)
    except OSError:
        for one in made:
            one.close()
        raise
    return made


def unix_socket(path: Path) -> socket.socket:
    """A listening socket at a path that is free. Raises OSError."""
    one = socket.socket(socket.AF_UNIX)
    try:
        one.setblocking(False)
        one.bind(str(path))
        one.listen(BACKLOG)
    except OSError:
        one.close()
        raise
    return one
