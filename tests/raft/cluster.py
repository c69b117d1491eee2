"""Clusters of real `RaftLog`s on loopback: in one process (`Local`), or one process each (`member_process`)."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from aiohttp import web
from raft_machines import Journal

from essaim.raft.member.found import found_cluster
from essaim.raft.member.node import Options, RaftLog
from tests.ports import free_port

DEADLINE = 30.0


async def eventually(condition: Callable[[], object], what: str) -> None:
    """Poll until `condition` holds; the deadline is far beyond what a slow machine needs."""
    loop = asyncio.get_running_loop()
    end = loop.time() + DEADLINE
    while not condition():
        assert loop.time() < end, f"still not: {what}"
        await asyncio.sleep(0.01)


class Host:
    """One member with the server that others reach it at."""

    def __init__(
        self,
        directory: Path,
        member: int,
        port: int,
        options: Options | None = None,
        server_ssl: ssl.SSLContext | None = None,
    ) -> None:
        self.directory, self.id, self.port, self.server_ssl = directory, member, port, server_ssl
        self.address = f"127.0.0.1:{port}"
        self.options = options
        self.journal = Journal()
        self.log: RaftLog | None = None
        self._runner: web.AppRunner | None = None

    async def start(self) -> RaftLog:
        self.journal = Journal()
        self.log = RaftLog(self.directory, self.journal, member_id=self.id, address=self.address, options=self.options)
        application = web.Application()
        application.add_routes(self.log.routes())
        await self.log.start()
        self._runner = web.AppRunner(application, access_log=None)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self.port, ssl_context=self.server_ssl).start()
        return self.log

    async def stop(self) -> None:
        if self.log is not None:
            await self.log.stop()
            self.log = None
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None


class Local:
    """Members in this process, by id from 1."""

    def __init__(self, hosts: dict[int, Host]) -> None:
        self.hosts = hosts

    @property
    def logs(self) -> dict[int, RaftLog]:
        return {i: host.log for i, host in self.hosts.items() if host.log is not None}

    async def leader(self) -> int:
        """The id of a member that leads, and that all running ones follow."""

        def agreed() -> bool:
            views = [log.leadership for log in self.logs.values()]
            first = views[0]
            known = first.leader_id in self.logs and self.logs[first.leader_id].leadership.is_local
            return known and all((v.term, v.leader_id) == (first.term, first.leader_id) for v in views)

        await eventually(agreed, "all follow one leader")
        return next(iter(self.logs.values())).leadership.leader_id

    async def same(self, *members: int) -> list[bytes]:
        """The commands of all (or these) members, once they are equal."""
        chosen = [self.hosts[i] for i in members or self.hosts]
        await eventually(lambda: all(h.journal.items == chosen[0].journal.items for h in chosen), "all are equal")
        return chosen[0].journal.commands


@asynccontextmanager
async def local_cluster(
    directory: Path, count: int, options: Options | None = None, server_ssl: ssl.SSLContext | None = None
) -> AsyncIterator[Local]:
    ports = [free_port() for _ in range(count)]
    hosts = {i: Host(directory / str(i), i, port, options, server_ssl) for i, port in enumerate(ports, 1)}
    addresses = {i: host.address for i, host in hosts.items()}
    for host in hosts.values():
        await asyncio.to_thread(found_cluster, host.directory, addresses)
    try:
        for host in hosts.values():
            await host.start()
        yield Local(hosts)
    finally:
        for host in hosts.values():
            await host.stop()
