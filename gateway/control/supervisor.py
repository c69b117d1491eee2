"""The gateway of a node, as the daemon holds it: listening sockets, worker processes, health checks, status.

Rules:
- The supervisor decides what is served (`plan.py`), binds, checks health; the workers carry the traffic. Nothing on the
  way of a request waits for the supervisor.
- Workers are sent changes, closed by a version; a new worker is sent everything. `apply` returns when every worker that
  lives serves by that version.
- A worker that dies or hangs is replaced (`fleet.py`); its sockets (`sockets.py`) stay open meanwhile.
- A table never ends a session: what is wrong with one service is that service's fault (`wall.py`), and a table that
  cannot be taken in as a whole is reported, and the last one served on.
"""

import asyncio
import os
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import structlog

from essaim.cluster.certificates import CertificateBook
from essaim.gateway.health.board import Board
from essaim.gateway.health.share import Found
from essaim.gateway.health.targets import targets_of
from essaim.gateway.protocol.entry_points import ENTRY_POINTS, EntryPoint, ServedPoint
from essaim.gateway.protocol.messages import DropService, PortCounts, PutService, Verdicts, Version, Welcome
from essaim.gateway.protocol.messages import LogFile as NewLogFile
from essaim.gateway.protocol.routes import RouteTable
from essaim.gateway.routing.names import UNION
from essaim.gateway.runtime.confinement import Identity, workers_identity
from essaim.gateway.runtime.counters import NOTHING
from essaim.gateway.runtime.handover import Predecessor, take_over
from essaim.gateway.runtime.shared_memory import SharedCells, make
from essaim.gateway.tls.self_signed import self_signed

from .certificate_report import exposition as certificate_exposition
from .certificate_report import with_certificates
from .certificates import Keeper
from .fleet import Fleet
from .log_file import LogFile
from .metrics import Checks, Measured, Workers, exposition
from .plan import Planned, Planner
from .process import WorkerProcess
from .sockets import Sockets
from .status import describe
from .united import shared_out

REBIND_SECONDS = 2.0
SERVICES_AT_ONCE = 50
STOP_GRACE = 10.0
HANDOVER_GRACE = 3600.0
"""Seconds for which the last daemon's workers may finish what they have open."""


class Gateway:
    """Serves the published ports of a route table on this node.

    `mesh_addr`: the address to publish on; "" for all (IPv4 and IPv6). `workers`: None is one a core. `linger`: seconds
    for which workers go on serving when the daemon is gone without having stopped them. `entry_points`: Traefik's,
    by name; default `web` on 80 and `websecure` on 443. They are bound once a service's labels have a router, or an
    ACME server's question is to be answered. `health` holds the verdicts on the endpoints. `identity` finds who the
    workers are to be; it is asked at the start.
    """

    def __init__(
        self,
        *,
        mesh_addr: str,
        state_dir: Path,
        node_id: str,
        zone: str | None = None,
        workers: int | None = None,
        linger: float = 0.0,
        entry_points: dict[str, EntryPoint] | None = None,
        on_change: Callable[[], None] | None = None,
        log: structlog.BoundLogger | None = None,
        identity: Callable[[], Identity | None] = workers_identity,
    ) -> None:
        self.on_change = on_change
        self.on_findings: Callable[[], None] | None = None
        self._node_id = node_id
        self._zone = zone
        self._linger = linger
        self._log = log or structlog.get_logger()
        self._identity = identity
        points = ENTRY_POINTS if entry_points is None else entry_points
        self._planner = Planner(mesh_addr, points)
        self._keeper = Keeper(self_signed(datetime.now(UTC)))
        self._booking: asyncio.Task[None] | None = None
        self._table = RouteTable()
        self.certificates = CertificateBook()
        self._planned = Planned(services={}, bindings={}, warnings={})
        self._fleet = Fleet(workers or os.cpu_count() or 1, self._greet, self._trouble, self._changed, self._log)
        self._sockets = Sockets(self._fleet, points, self._log)
        self.health = Board(node_id, self._verdict_turned, self._found, log=self._log)
        self._lock = asyncio.Lock()
        # Why the last table is not the one that is served; "" if it is.
        self._untaken = ""
        self._turns = -1
        self._rebind: asyncio.Task[None] | None = None
        self._turned: dict[str, bool] = {}
        self._directory = state_dir / "gateway"
        self._access_log = LogFile(self._directory, self._new_log, self._log)
        # Workers of the daemon before this one.
        self._predecessors: list[Predecessor] = []

    # -- life -------------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Start the workers. Raises OSError when none can be started."""
        identity = await asyncio.to_thread(self._prepare)
        self._turns = make(self._fleet.count)
        self._predecessors = await take_over(self._directory, self._changed)
        self._sockets.inherit(self._predecessors)
        await self._keeper.inherit([predecessor.book for predecessor in self._predecessors])
        self.health.start()
        self._rebind = asyncio.get_running_loop().create_task(self._bind_again())
        await self._fleet.start(SharedCells(self._turns, self._fleet.count).beats, identity)

    async def stop(self, grace: float = STOP_GRACE, *, leave_workers: bool = False) -> None:
        """Stop listening, let open requests finish for `grace` seconds, end the workers.

        With `leave_workers` (and a linger time) they go on serving, for the next daemon to take over from.
        """
        for task in (self._rebind, self._booking):
            if task:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
        await self.health.stop()
        await self._access_log.stop()
        self._sockets.close()
        for predecessor in self._predecessors:
            predecessor.leave(for_good=not leave_workers)
        await self._fleet.stop(grace, leave=leave_workers)
        if self._turns >= 0:
            os.close(self._turns)
            self._turns = -1

    def _prepare(self) -> Identity | None:
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        return self._identity()

    @property
    def points(self) -> list[ServedPoint]:
        """The entry points that routers use."""
        return self._planned.points

    # -- the table --------------------------------------------------------------------------------------------------

    async def apply(self, table: RouteTable) -> int:
        """Serve by this table; returns the version that is served, once all live workers do: an older table is ignored,
        and one that cannot be taken in leaves the last one. Never raises for what is in a table."""
        async with self._lock:
            if table.version < self._table.version:
                return self._table.version
            try:
                await self._take_in(table)
            except Exception as error:
                self._not_taken(table, error)
                return self._table.version
        await self._fleet.applied(table.version)
        self._retire_predecessors()
        return table.version

    async def _take_in(self, table: RouteTable) -> None:
        """Serve by this table once the workers have followed. Not taken in if it is cancelled, or raises."""
        before, planned = self._planned, self._plan(table)
        # With 5,000 services each step is some milliseconds; the daemon's loop has others to serve in between. Who
        # is cancelled there has not taken the table: the next one is compared with what the workers know for sure.
        if any(service.options.access_log for service in planned.services.values()):
            await self._access_log.need()
        await asyncio.sleep(0)
        changed = [service for key, service in planned.services.items() if before.services.get(key) is not service]
        dropped = [key for key in before.services if key not in planned.services]
        for number, service in enumerate(changed):
            self._fleet.broadcast(PutService(service))
            if number % SERVICES_AT_ONCE == SERVICES_AT_ONCE - 1:
                await asyncio.sleep(0)
        await asyncio.sleep(0)
        self._sockets.change(before.bindings, planned.bindings)
        for key in dropped:
            self._fleet.broadcast(DropService(key))
        self._fleet.broadcast(Version(table.version))
        self._table, self._planned = table, planned
        self._untaken = ""
        targets = {service.id: targets_of(service) for service in changed} | {key: [] for key in dropped}
        self.health.update([gateway.node_id for gateway in table.gateways], targets)

    def _plan(self, table: RouteTable) -> Planned:
        """A node that is to serve nothing knows everything, and checks its own tasks, but listens nowhere."""
        planned = self._planner.plan(table, self._keeper.questioned)
        return msgspec.structs.replace(planned, bindings={}) if self._node_id in table.idle else planned

    def _not_taken(self, table: RouteTable, error: Exception) -> None:
        """A fault of the gateway's own: it serves on by the last table, and says so."""
        self._planner.forget()
        self._untaken = f"table {table.version} cannot be taken in, table {self._table.version} is served: {error!r}"
        self._log.error("a route table cannot be taken in", version=table.version, reason=repr(error), exc_info=error)

    def set_certificates(self, book: CertificateBook) -> "asyncio.Future[None]":
        """Serve by this book from now on; an older one is ignored. Kept in memory alone. What is returned may be
        awaited, as `booked` may: every worker serves by it then.
        """
        if book.version >= self.certificates.version:
            self.certificates = book
        self._booking = asyncio.get_running_loop().create_task(self._book(book, self._booking))
        return asyncio.shield(self._booking)

    async def booked(self) -> None:
        """Return when every live worker serves by the last book, and the entry points of its questions are bound."""
        if self._booking:
            await asyncio.shield(self._booking)

    async def _book(self, book: CertificateBook, before: "asyncio.Task[None] | None") -> None:
        if before:
            await asyncio.gather(before, return_exceptions=True)
        known, asked = self._keeper.problems, self._keeper.questioned
        for message in await self._keeper.take(book) or ():
            self._fleet.broadcast(message)
        number = self._keeper.number
        for name, problem in self._keeper.problems.items():
            if known.get(name) != problem:
                self._log.warning("a certificate cannot be used", certificate=name, reason=problem)
        if self._keeper.questioned != asked:
            async with self._lock:
                try:
                    previous, self._planned = self._planned, self._plan(self._table)
                    self._sockets.change(previous.bindings, self._planned.bindings)
                except Exception as error:
                    self._not_taken(self._table, error)
                self._fleet.broadcast(Version(self._table.version))
        await self._fleet.booked(number)
        self._changed()

    def _retire_predecessors(self) -> None:
        """What the old workers served is served: they may finish; what is published no more is closed."""
        for predecessor in self._predecessors:
            predecessor.retire(HANDOVER_GRACE)
        self._sockets.disinherit()

    def open_requests(self) -> dict[str, int]:
        """Requests (L7) and connections (L4) still open at each task that is leaving, over all workers."""
        counts: dict[str, int] = {
            endpoint.task_id: 0
            for service in self._table.services
            for port in service.ports
            for endpoint in port.endpoints
            if endpoint.state != "up"
        }
        reports = [worker.open for worker in self._fleet.workers] + [one.open for one in self._predecessors]
        for report in reports:
            for task_id, count in report.items():
                if count:
                    counts[task_id] = counts.get(task_id, 0) + count
        return counts

    def unfit(self) -> list[str]:
        """Tasks of this node that its own checks do not find fit for traffic, or not yet, sorted."""
        return sorted(
            {
                endpoint.task_id
                for service in self._planned.services.values()
                for port in service.ports
                for endpoint in port.endpoints
                if endpoint.node_id == self._node_id and endpoint.usable and self._is_unproven(endpoint.key)
            }
        )

    def _is_unproven(self, key: str) -> bool:
        return self.health.is_checked(key) and not self.health.is_proven(key)

    async def status(self) -> dict[str, Any]:
        """Listeners, services and endpoints with verdict and reason, in JSON's types (see `status.py`)."""
        counts = await self._counts()
        workers = [
            {"pid": worker.pid, "version": worker.applied, "problems": worker.problems}
            for worker in self._fleet.workers
        ]
        warnings = {key: self._keeper.warnings(service) for key, service in self._planned.services.items()}
        faults = self._faults()
        served = describe(self._table, self._planned, self._sockets.failed, self.health.found, counts, warnings, faults)
        found = with_certificates(served, self.certificates)
        problems = self._keeper.problems
        for certificate in found["certificates"]:
            certificate["problem"] = problems.get(certificate["name"])
        found["warnings"] += [one for one in (self._untaken, faults.get("")) if one]
        found["warnings"] += [f"certificate {name} cannot be used: {said}" for name, said in sorted(problems.items())]
        found["warnings"] += sorted({problem for worker in self._fleet.workers for problem in worker.problems})
        replaced = dict(self._fleet.replaced)
        if hung := replaced.get("hung"):
            found["warnings"].append(f"gateway workers that hung and were replaced since the daemon's start: {hung}")
        serves = self._node_id not in self._table.idle
        return {
            "node_id": self._node_id, "serves": serves, "workers": workers, "workers_replaced": replaced, **found,
        }  # fmt: skip

    def _faults(self) -> dict[str, str]:
        """By service: why it is not served, or not all of it, by the plan or by what a worker has made of it."""
        found = {key: reason for worker in self._fleet.workers for key, reason in worker.faults.items()}
        return found | self._planned.faults

    async def _counts(self) -> dict[str, PortCounts]:
        return shared_out(await self._fleet.counts(), self._planned.services.values())

    async def traffic(self) -> list[dict[str, Any]]:
        """Every port's counters in JSON's types, since the workers' start: what `lb top` shows the differences of."""
        counts = await self._counts()
        return [
            {
                "service": service.name,
                "published": port.published_port,
                "waiting": found.waiting,
                "refused": found.refused,
                "answers": found.answers,
                "tasks": [msgspec.structs.asdict(one) for one in found.endpoints],
            }
            for service in self._planned.services.values()
            for port in service.ports
            if (found := counts.get(port.key)) is not None
        ]

    async def metrics(self) -> str:
        """The counters and verdicts in Prometheus' text format."""
        counts, is_known = await self._counts(), self.health.is_known
        measured = []
        for service in self._planned.services.values():
            for port in service.ports:
                if UNION in port.key:
                    continue
                found = {one.task_id: self.health.found(one.key) for one in port.endpoints if is_known(one.key)}
                counted = counts.get(port.key) or PortCounts(port.key, 0, 0, [], NOTHING)
                measured.append(Measured(service.name, str(port.published_port), counted, found))
        checks = Checks(self.health.checks, *self.health.shares)
        # A second of CPU for 5,000 replicas that have had traffic, so beside the loop (which waits 5 ms for its turns).
        workers = Workers(len(self._fleet.workers), dict(self._fleet.replaced), self._fleet.refused_connections)
        text = await asyncio.to_thread(exposition, measured, checks, self._fleet.refused_handshakes, workers)
        return text + certificate_exposition(self.certificates)

    async def _bind_again(self) -> None:
        """Ports that were taken may become free."""
        while True:
            await asyncio.sleep(REBIND_SECONDS)
            async with self._lock:
                self._sockets.retry(self._planned.bindings, self._changed)

    # -- workers ----------------------------------------------------------------------------------------------------

    async def _greet(self, worker: WorkerProcess, admit: Callable[[], None]) -> None:
        """Tell a new worker everything; no change may come in between."""
        async with self._lock:
            number = self._keeper.number
            await self._send_everything(worker)
            if self._keeper.number != number + 1:
                # The book changed while the table was being sent.
                for message in self._keeper.everything():
                    worker.send(message)
            admit()

    async def _send_everything(self, worker: WorkerProcess) -> None:
        linger = self._linger
        try:
            if linger:
                worker.let_outlive(self._directory)
        except OSError as error:
            self._log.warning("a gateway worker will not outlive this daemon", reason=str(error))
            linger = 0.0
        worker.send(Welcome(self._node_id, self._zone, linger, worker.index, self._fleet.count), self._turns)
        self._fleet.watch(worker)
        if self._access_log.fd >= 0:
            worker.send(NewLogFile(), self._access_log.fd)
        # Before the sockets: whoever comes first gets the right certificate.
        for message in self._keeper.everything():
            worker.send(message)
        for number, service in enumerate(self._planned.services.values()):
            worker.send(PutService(service))
            if number % SERVICES_AT_ONCE == SERVICES_AT_ONCE - 1:
                await asyncio.sleep(0)
        worker.send(Verdicts(dict.fromkeys(self.health.down(), False)))
        self._sockets.send_all(worker, self._planned.bindings)
        worker.send(Version(self._table.version))

    def _new_log(self, fd: int) -> None:
        self._fleet.broadcast(NewLogFile(), fd)

    # -- health -----------------------------------------------------------------------------------------------------

    def _trouble(self, endpoint_key: str, reason: str) -> None:
        self._log.info("traffic failed at an endpoint", endpoint=endpoint_key, reason=reason)
        self.health.trouble(endpoint_key)

    def _verdict_turned(self, key: str, found: Found) -> None:
        said = "an endpoint is " + ("up" if found.up else "down")
        self._log.info(said, endpoint=key, reason=found.reason, found_by=found.by)
        if not self._turned:
            asyncio.get_running_loop().call_soon(self._send_verdicts)
        self._turned[key] = found.up

    def _send_verdicts(self) -> None:
        turned, self._turned = self._turned, {}
        self._fleet.broadcast(Verdicts(turned))
        self._changed()

    def _found(self) -> None:
        if self.on_findings:
            self.on_findings()

    def _changed(self) -> None:
        if self.on_change:
            self.on_change()
