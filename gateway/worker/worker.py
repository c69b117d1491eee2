"""A data-plane worker: `python -m essaim.gateway.worker FD IDENTITY`, where FD is its end of the supervisor's
socket pair, and IDENTITY who it is to become (`uid:gid`; empty: nobody else).

It holds what it needs to serve (see `messages.py`) and decides nothing about the cluster. It gives up the daemon's
privileges before it says that it is ready (`confinement.py`), so before it reads any byte of the network. It outlives
its supervisor by the linger time it was told, and ends on SIGTERM once its connections are done.
"""

import asyncio
import gc
import os
import signal
import socket
import sys
from collections import Counter
from collections.abc import Callable, Sequence

import uvloop

from essaim.gateway.http.forward_auth.client import AuthServers
from essaim.gateway.http.listener import Listener, RequestIds
from essaim.gateway.protocol.messages import (
    Applied,
    Authorities,
    Booked,
    Certificates,
    Challenges,
    Collect,
    Counts,
    DropService,
    Faulty,
    Handed,
    HandedBook,
    Listen,
    LogFile,
    Message,
    NextSupervisor,
    Open,
    PortCounts,
    PortPlan,
    PutService,
    Ready,
    Stop,
    Trouble,
    Unlisten,
    Verdicts,
    Version,
    Welcome,
)
from essaim.gateway.protocol.wall import fault_of
from essaim.gateway.runtime.access_log import AccessLog
from essaim.gateway.runtime.confinement import close_all_but, confine, read_identity
from essaim.gateway.runtime.deadlines import Deadlines
from essaim.gateway.runtime.descriptors import USUAL_PORTS, allow, connections_for, flows_for, local_ports
from essaim.gateway.runtime.handover import Lingering, control_channel
from essaim.gateway.runtime.heartbeat import PERIOD as BEAT_SECONDS
from essaim.gateway.runtime.shared_memory import TURN_SLOTS, SharedCells
from essaim.gateway.tls.certificates import CertificateStore
from essaim.gateway.tls.handshakes import Handshakes
from essaim.gateway.udp.flows import FlowTable
from essaim.gateway.udp.forward import Flow, UdpPort
from essaim.gateway.upstream.backend import Backend, Endpoint
from essaim.gateway.upstream.shared_limit import ALONE, SharedLimit

from .accepting import Acceptor
from .admission import Admission
from .counts import of_port
from .draining import DrainingEndpoints
from .routers import Routers
from .service_names import ServiceNames

GRACE = 30.0
LOG_SECONDS = 2.0
FREEZE_AFTER = 200
DRAIN_REPORT = 0.02
"""Seconds for which changes of the drain counts are collected before they are reported."""


class Worker:
    """The state of one worker process and the messages that change it."""

    def __init__(
        self, control: socket.socket, room: int, ports: int = USUAL_PORTS, problems: Sequence[str] = ()
    ) -> None:
        self._problems = list(problems)
        self._ports = ports
        self._channel = control_channel(control, self._message, self._supervisor_lost, self._fault)
        # Services of which the supervisor was told that something cannot be done.
        self._faulty: set[str] = set()
        self._lingering: Lingering | None = None
        # Where the next supervisor will be awaited.
        self._reception: socket.socket | None = None
        self._deadlines = Deadlines()
        self._deadlines.on_tick = self._tick
        self._admission = Admission(self._deadlines, room)
        self._certificate_store = CertificateStore()
        self._handshakes = Handshakes(self._deadlines)
        self._arrival = Acceptor(self._deadlines, self._admission, self._certificate_store, self._handshakes)
        self._ids = RequestIds()
        self._turns = memoryview(bytearray(4 * TURN_SLOTS)).cast("I")
        self._shared_limit = ALONE
        self._welcome = Welcome("", None, 0.0)
        self._listeners: dict[str, Listener] = {}
        self._log = AccessLog()
        self._routes = Routers()
        # What stands behind an entry point where no port is published.
        self._nowhere = Backend(
            PortPlan("", "http", 0, 0, []), self._turns, ("", None), self._trouble, self._drain_changed
        )
        # Listeners whose sockets are closed, while they have connections.
        self._closed: list[Listener] = []
        self._flows = FlowTable[Flow](0)
        self._backends: dict[str, Backend] = {}
        self._services: dict[str, list[str]] = {}
        self._names = ServiceNames()
        self._auth_servers = AuthServers(self._deadlines, self._named)
        self._places: dict[str, list[Endpoint]] = {}
        self._verdicts: dict[str, bool] = {}
        self._departing = DrainingEndpoints(self._deadlines)
        # Backends of which time alone changes who is ready.
        self._changing: set[Backend] = set()
        self._report: asyncio.TimerHandle | None = None
        self._end: asyncio.TimerHandle | None = None
        self._stopping = False
        # Whether any service has had a limit as a whole.
        self._limited = False
        # Services that came since the collector was last told that what is there will stay.
        self._brought = 0
        self._done = asyncio.Event()

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, self._stop, GRACE)
        loop.add_signal_handler(signal.SIGINT, lambda: None)
        self._deadlines.start()
        self._channel.start()
        self._channel.send(Ready(os.getpid(), self._problems))
        await self._done.wait()
        await self._log.end(LOG_SECONDS)
        if self._lingering:
            self._lingering.stop()
        await self._auth_servers.close()

    # -- messages ---------------------------------------------------------------------------------------------------

    def _message(self, message: Message, take_fd: Callable[[], int]) -> None:
        now = asyncio.get_running_loop().time()
        match message:
            case PutService():
                self._brought += 1
                self._put(message, now)
            case DropService():
                self._drop(message.id)
            case Verdicts():
                self._judge(message.up, now)
            case Listen():
                fd = take_fd() if message.has_socket else None
                self._listen(message, fd)
            case Unlisten():
                self._unlisten(message.key)
            case Certificates() | Authorities() | Challenges():
                self._book(message)
            case Version():
                self._departing.settle()
                self._send_open()
                self._channel.send(Applied(message.version))
                if self._brought > FREEZE_AFTER:
                    self._brought = 0
                    gc.freeze()
            case Collect():
                refused = self._admission.refused()
                self._channel.send(Counts(message.number, self._counts(now), self._handshakes.failures, refused))
            case Welcome() | LogFile() | NextSupervisor():
                self._given(message, take_fd())
            case Stop():
                self._stop(message.grace)

    def _book(self, message: Certificates | Authorities | Challenges) -> None:
        match message:
            case Certificates():
                self._certificate_store.change(message.put, message.drop, anew=message.anew)
            case Authorities():
                self._certificate_store.trust(message.authorities)
            case Challenges():
                self._certificate_store.challenge(message.http, message.alpn)
                for listener in self._listeners.values():
                    listener.answers = self._certificate_store.answers
                self._channel.send(Booked(message.number))

    def _given(self, message: Welcome | LogFile | NextSupervisor, fd: int) -> None:
        match message:
            case Welcome():
                self._welcome = message
                self._flows.most = flows_for(self._admission.room, message.rows, self._ports)
                self._share(fd)
            case LogFile():
                self._log.hand(fd)
            case NextSupervisor():
                self._reception = socket.socket(fileno=fd)

    def _share(self, fd: int) -> None:
        shared = SharedCells(fd, self._welcome.rows)
        os.close(fd)
        self._turns = shared.turns
        self._shared_limit = SharedLimit(shared.shared_limits, TURN_SLOTS, self._welcome.row)
        self._shared_limit.clear()
        self._beat(shared.beats)

    def _beat(self, beats: memoryview) -> None:
        """Say that the loop turns; for as long as the process lives, also with nobody who looks."""
        row = self._welcome.row
        beats[row] = (beats[row] + 1) % (1 << 32)
        asyncio.get_running_loop().call_later(BEAT_SECONDS, self._beat, beats)

    def _put(self, message: PutService, now: float) -> None:
        service = message.service
        before = self._services.get(service.id, [])
        here = (self._welcome.node_id, self._welcome.zone)
        keys = [plan.key for plan in service.ports]
        # All of them until it is taken in, so that what came half can be taken out (see `_fault`).
        self._services[service.id] = [*keys, *(key for key in before if key not in keys)]
        for plan in service.ports:
            backend = self._backends.get(plan.key)
            if backend is None:
                backend = Backend(plan, self._turns, here, self._trouble, self._drain_changed, self._shared_limit)
                self._backends[plan.key] = backend
            old = list(backend.endpoints.values())
            backend.update(service, plan, self._verdicts, now)
            self._index(old, backend)
            if backend.changing:
                self._changing.add(backend)
                self._deadlines.wake()
        self._limited = self._limited or service.options.max_service > 0
        self._services[service.id] = keys
        self._names.put(service.id, service.name)
        faults = self._routes.replace(service.id, service.routers, service.tcp_routers)
        for key in before:
            if key not in keys:
                self._retire(key)
        if faults or service.id in self._faulty:
            self._say_faulty(service.id, "; ".join(faults))

    def _fault(self, message: Message | None, error: Exception) -> None:
        """A message that nothing can be done with: a service that came half is taken out whole, everything else goes
        on."""
        service_id = message.service.id if isinstance(message, PutService) else ""
        if service_id:
            self._drop(service_id)
        self._say_faulty(service_id, fault_of(error))

    def _say_faulty(self, service_id: str, reason: str) -> None:
        (self._faulty.add if reason else self._faulty.discard)(service_id)
        self._channel.send(Faulty(service_id, reason))

    def _index(self, old: list[Endpoint], backend: Backend) -> None:
        """Keep the endpoints findable by key, and the leaving ones watched."""
        for endpoint in old:
            if not endpoint.present:
                self._forget(endpoint)
        for endpoint in backend.endpoints.values():
            places = self._places.setdefault(endpoint.key, [])
            if endpoint not in places:
                places.append(endpoint)
            if endpoint.draining:
                self._departing.drain(endpoint)
            else:
                self._departing.over(endpoint)

    def _forget(self, endpoint: Endpoint) -> None:
        self._departing.vanish(endpoint)
        places = self._places.get(endpoint.key, [])
        if endpoint in places:
            places.remove(endpoint)
        if not places:
            self._places.pop(endpoint.key, None)
            self._verdicts.pop(endpoint.key, None)

    def _drop(self, service_id: str) -> None:
        self._routes.replace(service_id, [], [])
        self._names.drop(service_id)
        if service_id in self._faulty:
            self._say_faulty(service_id, "")
        for key in self._services.pop(service_id, []):
            self._retire(key)

    def _named(self, names: Sequence[str], port: int) -> Backend | None:
        """The port of the first service with one of these names that has it."""
        for service_id in self._names.find(names):
            for key in self._services.get(service_id, ()):
                backend = self._backends.get(key)
                if backend is not None and backend.target_port == port and backend.mode != "udp":
                    return backend
        return None

    def _retire(self, port_key: str) -> None:
        backend = self._backends.pop(port_key, None)
        if backend:
            old = list(backend.endpoints.values())
            backend.endpoints = {}
            backend.ready, backend.farther = [], []
            backend.retire(old)
            self._index(old, backend)
            for waiter in list(backend.waiting):
                backend.forget(waiter)
                waiter.refuse_waiting("the service was removed")

    def _judge(self, up: dict[str, bool], now: float) -> None:
        changed: set[Backend] = set()
        for key, verdict in up.items():
            if key in self._places:
                self._verdicts[key] = verdict
            for endpoint in self._places.get(key, ()):
                if endpoint.up != verdict or endpoint.failures:
                    endpoint.up = verdict
                    if verdict:
                        endpoint.forgive()
                    else:
                        endpoint.close_idle()
                    changed.add(endpoint.backend)
        for backend in changed:
            self._refresh(backend, now)

    def _refresh(self, backend: Backend, now: float) -> None:
        """A backend for which it fails keeps what it has; it is its service's fault, and no other's."""
        try:
            backend.refresh(now)
        except Exception as error:
            self._changing.discard(backend)
            self._say_faulty(backend.service_id, fault_of(error))

    # -- sockets ----------------------------------------------------------------------------------------------------

    def _listen(self, message: Listen, fd: int | None) -> None:
        backend = self._backends.get(message.port_key) if message.port_key else self._nowhere
        if backend is None:
            if fd is not None:
                os.close(fd)
            return
        listener = self._listeners.get(message.key)
        if listener is not None:
            self._lead(listener, backend, message)
        if fd is None:
            return
        if listener is not None:
            os.close(fd)
            return
        listener = self._listeners[message.key] = Listener(
            message.key, backend, self._deadlines, self._ids, self._backends, self._log, self._auth_servers,
            self._admission.sources(),
        )  # fmt: skip
        self._lead(listener, backend, message)
        sock = socket.socket(fileno=fd)
        if sock.type == socket.SOCK_DGRAM:
            self._deadlines.wake()
            listener.socket = sock
            listener.close_socket = UdpPort(sock, lambda: listener.backend, self._deadlines, self._flows).close
        else:
            listener.accept(sock, self._arrival.take)

    def _lead(self, listener: Listener, backend: Backend, message: Listen) -> None:
        """Where the connections of a socket go."""
        listener.backend = backend
        listener.point = message.point
        listener.alone = not message.port_key
        listener.answers = self._certificate_store.answers
        point = message.entry_point
        listener.router = self._routes.router(point) if point else None
        listener.secure = self._routes.router(point, secure=True) if point else None
        listener.tcp = self._routes.tcp(point) if point else None

    def _unlisten(self, binding: str) -> None:
        """Close all sockets of a binding."""
        for key in [key for key in self._listeners if key.rpartition("#")[0] == binding]:
            self._close_listener(key)

    def _close_listener(self, key: str) -> None:
        listener = self._listeners.pop(key, None)
        if listener:
            listener.close_socket()
            listener.stop()
            self._closed = [one for one in (*self._closed, listener) if one.connections]

    # -- what the supervisor is told --------------------------------------------------------------------------------

    def _trouble(self, endpoint: Endpoint, reason: str) -> None:
        self._changing.add(endpoint.backend)
        self._deadlines.wake()
        self._channel.send(Trouble(endpoint.key, reason))

    def _drain_changed(self) -> None:
        if self._report is None:
            self._report = asyncio.get_running_loop().call_later(DRAIN_REPORT, self._send_open)

    def _send_open(self) -> None:
        if self._report is not None:
            self._report.cancel()
            self._report = None
        counts: dict[str, int] = {}
        for endpoint in self._departing:
            counts[endpoint.task_id] = counts.get(endpoint.task_id, 0) + endpoint.open
            if not endpoint.present and endpoint.open == 0:
                self._departing.over(endpoint)
        self._channel.send(Open(counts))

    def _counts(self, now: float) -> list[PortCounts]:
        clients = Counter[str]()
        for listener in (*self._listeners.values(), *self._closed):
            if not listener.alone:
                clients[listener.backend.key] += len(listener.connections)
        return [of_port(backend, now, clients[backend.key]) for backend in self._backends.values()]

    def _tick(self) -> bool:
        """Ejections that end and weights that grow are followed while there are any; says whether to go on."""
        self._log.flush()
        for backend in self._backends.values() if self._limited else ():
            # Places that became free in another worker.
            if backend.waiting and backend.options.max_service:
                backend.wake()
        for backend in list(self._changing):
            self._refresh(backend, self._deadlines.now)
            if not backend.changing:
                self._changing.discard(backend)
        return bool(self._changing)

    # -- the end ----------------------------------------------------------------------------------------------------

    def _supervisor_lost(self) -> None:
        """Serve on for the linger time, and wait for the next supervisor (see `handover.py`)."""
        if self._stopping or self._lingering:
            return
        linger = self._welcome.linger if self._reception else 0.0
        if self._reception and linger:
            self._lingering = Lingering(self._reception, self._successor)
            self._lingering.start()
        self._end = asyncio.get_running_loop().call_later(linger, self._done.set)

    def _successor(self, connection: socket.socket) -> None:
        """The next supervisor: it is handed the sockets, and is told from now on what the last one was."""
        self._channel.close()
        self._channel = control_channel(connection, self._message, lambda: None, self._fault)
        self._channel.start()
        for key, listener in self._listeners.items():
            if listener.socket is not None:
                self._channel.send(Handed(key), listener.socket.fileno())
        book = self._certificate_store.book()
        self._channel.send(HandedBook([], book.authorities))
        for certificate in book.certificates:
            self._channel.send(HandedBook([certificate], []))
        self._channel.send(Ready(os.getpid()))
        self._send_open()

    def _stop(self, grace: float) -> None:
        if self._stopping:
            return
        self._stopping = True
        for key in list(self._listeners):
            self._close_listener(key)
        loop = asyncio.get_running_loop()
        if self._end:
            self._end.cancel()
        self._end = loop.call_later(grace, self._done.set)
        self._check_done()

    def _check_done(self) -> None:
        known = [endpoint for places in self._places.values() for endpoint in places]
        open_ = any(endpoint.open for endpoint in (*known, *self._departing))
        if open_ or len(self._handshakes) or any(listener.connections for listener in self._closed):
            asyncio.get_running_loop().call_later(0.05, self._check_done)
        else:
            asyncio.get_running_loop().call_later(0.05, self._done.set)


def main() -> None:
    control = socket.socket(fileno=int(sys.argv[1]))
    close_all_but(control.fileno())
    room = connections_for(allow())
    problems = confine(read_identity(sys.argv[2]))
    # A full collection over a big route table takes longer than a request should wait: what a table brought is
    # frozen (see Version), and the rest is mostly freed by reference counts.
    gc.set_threshold(50_000, 20, 100)

    async def run() -> None:
        await Worker(control, room, local_ports(), problems).run()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(run())
