"""Layer 4, UDP: datagrams of one client go to one replica while the flow lives, and its answers back to the client.

Rules:
- A flow is a client's address and port on one listening socket; it ends after the service's UDP time without a
  datagram in either direction, and much sooner while no replica has answered on it: it may be a made-up address.
- Flows are bounded, in all over the ports of a worker and by source (`flows.py`); the bound is a part of the
  worker's descriptors and of the host's local ports, so that a flood leaves room for connections and for the host.
- An answer leaves from the address that the client wrote to (packet info), also where the socket is bound to all.
- A replica that refuses (ICMP) ends the flow; the client's next datagram goes to another one. Any other error concerns
  the datagram, not the replica: one that is too long for the way is dropped, as by a router.
- A replica that leaves: flows that rest for the service's drain time end; those to one that is gone end at once. Who
  sends without a pause would otherwise send into the void for ever.

Each flow has a socket of its own towards its replica. Rejected: one for many flows. A replica answers to an address and
a port, and nothing else says which client is meant: without reading the protocol (an id in it), two flows to one
replica need two ports. Flows to different replicas could share one, but the kernel tells only connected sockets that a
replica refuses (ICMP).
"""

import asyncio
import errno
import socket
from collections.abc import Callable
from typing import Any

from essaim.gateway.protocol.addresses import plain_address
from essaim.gateway.runtime.deadlines import NEVER, Deadlines
from essaim.gateway.runtime.hashing import hash_key
from essaim.gateway.runtime.sources import source_of
from essaim.gateway.upstream.backend import Backend, Endpoint

from .flows import FlowTable

READS_PER_WAKE = 64
REFUSALS = frozenset({errno.ECONNREFUSED, errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EHOSTDOWN, errno.ENETDOWN})
MAX_DATAGRAM = 65_535
IPV6_RECVPKTINFO, IPV6_PKTINFO = 49, 50
IP_PKTINFO = 8
ANCILLARY = socket.CMSG_SPACE(20) + socket.CMSG_SPACE(12)

Ancillary = list[tuple[int, int, bytes]]


class Flow:
    """One client's datagrams to one replica, over a connected socket."""

    __slots__ = ("answered", "client", "deadline", "endpoint", "info", "port", "sock", "used")

    def __init__(self, port: "UdpPort", client: Any, endpoint: Endpoint, sock: socket.socket) -> None:
        self.port = port
        self.client = client
        self.endpoint = endpoint
        self.sock = sock
        self.info: Ancillary = []
        self.deadline = 0.0
        # Whether the replica has; when the table of flows was last told that the flow is in use.
        self.answered = False
        self.used = 0.0

    def expire(self) -> None:
        self.port.end(self)

    def moved(self) -> None:
        """A datagram went either way."""
        self.deadline = self.port.deadline(self)
        now = self.port.now
        if self.answered and self.used != now:
            self.used = now
            self.port.table.answered(self)

    def drain(self) -> None:
        self.deadline = min(self.deadline, self.port.deadline(self))

    def forsake(self) -> None:
        self.port.end(self)

    def answer(self) -> None:
        for _ in range(READS_PER_WAKE):
            try:
                data = self.sock.recv(MAX_DATAGRAM)
            except (BlockingIOError, InterruptedError):
                return
            except OSError as error:
                self.port.failed(self, error)
                return
            self.answered = True
            self.moved()
            self.endpoint.bytes_out += len(data)
            self.port.send(data, self.info, self.client)


class UdpPort:
    """A listening socket and its flows. `backend()` is asked for each new flow: the port may be re-routed. `table` is
    that of all flows of the worker."""

    def __init__(
        self, sock: socket.socket, backend: Callable[[], Backend], deadlines: Deadlines, table: FlowTable[Flow]
    ) -> None:
        self.table = table
        self._socket = sock
        self._backend = backend
        self._deadlines = deadlines
        self._flows: dict[Any, Flow] = {}
        self._loop = asyncio.get_running_loop()
        sock.setblocking(False)
        if sock.family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, IPV6_RECVPKTINFO, 1)
        else:
            sock.setsockopt(socket.IPPROTO_IP, IP_PKTINFO, 1)
        self._loop.add_reader(sock.fileno(), self._read)

    def close(self) -> None:
        self._loop.remove_reader(self._socket.fileno())
        for flow in list(self._flows.values()):
            self.end(flow)
        self._socket.close()

    @property
    def now(self) -> float:
        return self._deadlines.now

    def deadline(self, flow: Flow) -> float:
        """Of a flow that has just seen a datagram."""
        options = self._backend().options
        rest = options.drain_idle if flow.endpoint.draining else 0.0
        idle = options.udp_timeout if flow.answered else min(options.udp_timeout, options.udp_first)
        return self._deadlines.now + min(idle, rest or NEVER)

    def _read(self) -> None:
        for _ in range(READS_PER_WAKE):
            try:
                data, info, _, client = self._socket.recvmsg(MAX_DATAGRAM, ANCILLARY)
            except (BlockingIOError, InterruptedError):
                return
            except OSError:
                # The kernel reports an unreachable client on the next call: nothing to do here.
                continue
            flow = self._flows.get(client) or self._begin(client)
            if flow is None:
                continue
            flow.info = [_reply_from(item) for item in info]
            flow.moved()
            flow.endpoint.bytes_in += len(data)
            try:
                flow.sock.send(data)
            except (BlockingIOError, InterruptedError):
                continue
            except OSError as error:
                self.failed(flow, error)

    def _begin(self, client: Any) -> Flow | None:
        backend = self._backend()
        address = plain_address(client[0])
        source = source_of(address)
        if not self.table.admits(source, backend.key, backend.options.max_per_source):
            backend.count_flow("source_limit")
            return None
        endpoint = backend.pick(hash_key(address.encode()) if backend.options.hash_key else 0)
        sock = _connected(endpoint) if endpoint else None
        if endpoint is None or sock is None:
            backend.count_flow("no_replica" if endpoint is None else "no_socket")
            return None
        flow = self._flows[client] = Flow(self, client, endpoint, sock)
        victim = self.table.enter(flow, source, backend.key)
        if victim is not None:
            victim.port.evict(victim)
        endpoint.open += 1
        self._deadlines.add(flow)
        flow.moved()
        self._loop.add_reader(sock.fileno(), flow.answer)
        return flow

    def send(self, data: bytes, info: Ancillary, client: Any) -> None:
        try:
            self._socket.sendmsg([data], info, 0, client)
        except OSError:
            # As on any UDP path, a datagram that cannot be sent now is lost.
            return

    def failed(self, flow: Flow, error: OSError) -> None:
        if error.errno not in REFUSALS:
            return
        self.end(flow)
        flow.endpoint.failed((error.strerror or "refused").lower(), self._deadlines.now)

    def evict(self, flow: Flow) -> None:
        """Another one takes its place."""
        self._backend().count_flow("evicted" if flow.answered else "evicted_unanswered")
        self.end(flow)

    def end(self, flow: Flow) -> None:
        if self._flows.pop(flow.client, None) is None:
            return
        self.table.leave(flow)
        self._loop.remove_reader(flow.sock.fileno())
        self._deadlines.members.discard(flow)
        flow.sock.close()
        flow.endpoint.codes[0] = flow.endpoint.codes.get(0, 0) + 1
        flow.endpoint.released()


def _connected(endpoint: Endpoint) -> socket.socket | None:
    """None where there is no way to it, or no descriptor left."""
    family = socket.AF_INET6 if ":" in endpoint.address else socket.AF_INET
    try:
        sock = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
    except OSError:
        return None
    try:
        sock.connect((endpoint.address, endpoint.port))
    except OSError:
        sock.close()
        return None
    return sock


def _reply_from(item: tuple[int, int, bytes]) -> tuple[int, int, bytes]:
    """Packet info as received, turned into what sends from the same address (by whatever interface)."""
    level, kind, data = item
    if level == socket.IPPROTO_IP:
        # struct in_pktinfo: interface, address to send from, address in the header.
        return level, kind, b"\0\0\0\0" + data[8:12] + b"\0\0\0\0"
    return level, kind, data[:16] + b"\0\0\0\0"
