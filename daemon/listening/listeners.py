"""What users and their programs reach a daemon by: the API's socket, its TCP port, the socket for containers, and the
port for Prometheus. (Port 2377 comes and goes with the manager's role: `peer_server.py`.)"""

import asyncio
import resource
import socket
import time
from typing import Any

from aiohttp import web

from essaim.api.listen.doors import Doors, door_for, limits
from essaim.api.listen.tls import names_in
from essaim.api.metrics_page import HEADS, MetricsPage, metrics_app
from essaim.api.node import LocalNode
from essaim.api.server import ApiServer, server_context
from essaim.cluster.errors import InvalidArgument
from essaim.daemon.addresses import split_host_port
from essaim.daemon.settings import DEFAULT_API_PORT, DEFAULT_METRICS_PORT, Settings

from .docker_socket import DEFAULT, DockerSocket, give_up

METRICS_IDLE_SECONDS = 75.0


class Listening:
    """Use `start` and `stop`; `stop` also after a start that failed."""

    def __init__(self, node: LocalNode, app: web.Application, settings: Settings, log: Any) -> None:
        self._node, self._settings, self._log = node, settings, log
        self._api = ApiServer(app, names=[*settings.api_hosts, settings.hostname or socket.gethostname()])
        self._metrics: Doors | None = None
        self._docker: DockerSocket | None = None

    async def start(self) -> None:
        """Raises InvalidArgument, OSError."""
        await self._api.start()
        await self._api.listen_unix(self._settings.socket)
        await self._listen_tcp()
        await self._listen_for_containers()
        await self._listen_metrics()

    async def stop(self) -> None:
        if self._metrics is not None:
            await self._metrics.stop()
        await self._api.stop()
        if self._docker is not None:
            await asyncio.to_thread(self._docker.close)

    async def _listen_tcp(self) -> None:
        """TLS with client certificates where they were given; in plain on loopback only."""
        settings = self._settings
        if not settings.api_addr:
            return
        host, port = split_host_port(settings.api_addr, DEFAULT_API_PORT)
        if settings.tls_ca and settings.tls_cert and settings.tls_key:
            context = await asyncio.to_thread(server_context, settings.tls_cert, settings.tls_key, settings.tls_ca)
            own = await asyncio.to_thread(settings.tls_cert.read_bytes)
            await self._api.listen_tls(host, port, context, names_in(own))
        elif settings.tls_ca or settings.tls_cert or settings.tls_key:
            raise InvalidArgument("--tlscacert, --tlscert and --tlskey belong together: give all three, or none")
        else:
            await self._api.listen_plain(host, port)

    async def _listen_for_containers(self) -> None:
        path = self._settings.docker_socket
        if path != DEFAULT:
            await asyncio.to_thread(give_up)
        if path is None:
            return
        self._docker = DockerSocket(path, self._node.engine_url)
        self._api.listen_at(await asyncio.to_thread(self._docker.open), str(path))

    async def _listen_metrics(self) -> None:
        if not self._settings.metrics_addr:
            return
        host, port = split_host_port(self._settings.metrics_addr, DEFAULT_METRICS_PORT)
        self._metrics = Doors(
            metrics_app(MetricsPage(self._node, time.monotonic)),
            self._log,
            keepalive_timeout=METRICS_IDLE_SECONDS,
            shutdown_timeout=1.0,
            **HEADS,
        )
        await self._metrics.start()
        bounds = limits(resource.getrlimit(resource.RLIMIT_NOFILE)[0])
        await self._metrics.listen_tcp(host, port, door_for(f"{self._settings.metrics_addr} (metrics)", bounds))
