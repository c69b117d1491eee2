"""What the supervisor and its workers say to each other: MessagePack messages over one unix stream socket.

A frame is a 4-byte big-endian length and a body. A listening socket travels as ancillary data of the frame that
announces it, and whose length has the highest bit; the kernel keeps descriptors in order with the bytes they were sent
with, so a receiver takes them first in, first out.

Rules:
- The supervisor's messages are applied in order; `Version(n)` closes the changes of table `n`, and the worker answers
  `Applied(n)` once it routes by it. Everything between two versions is small (a service at most), so that a worker
  never stops serving for long while it applies a table.
- A message that cannot be decoded, or with which nothing can be done, costs this message: the frames after it are read
  as they are.
- A lost connection ends neither side's duties: the worker goes on serving (for its linger time), the supervisor
  starts or adopts another.
"""

import asyncio
import os
import socket
import struct
from collections import deque
from collections.abc import Callable

import msgspec

from essaim.cluster.certificates import AlpnChallenge, Authority, Certificate, HttpChallenge

from .entry_points import NO_ENTRY_POINT, EntryPoint
from .options import ServiceOptions
from .tls_policy import TlsPolicy

LATENCY_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Upper bounds of `PortCounts.latency`, seconds."""


class EndpointPlan(msgspec.Struct, frozen=True, array_like=True):
    """One replica's port as a worker needs it. `usable`: may get new traffic, as far as the cluster knows."""

    key: str
    task_id: str
    node_id: str
    address: str
    port: int
    usable: bool
    draining: bool
    zone: str | None
    version: int


class PortPlan(msgspec.Struct, frozen=True, array_like=True):
    """One port of a service. `mode`: tcp, udp or http. `turn`: its slot in the shared round-robin counters.
    `tls`: clients speak TLS on it, which is ended here. `target_port`: the replicas' own.
    """

    key: str
    mode: str
    turn: int
    published_port: int
    endpoints: list[EndpointPlan]
    tls: bool = False
    target_port: int = 0


class MiddlewarePlan(msgspec.Struct, frozen=True, array_like=True):
    """A middleware of a router, with its options as the labels spell them; both are checked already."""

    kind: str
    options: dict[str, str]


class RouterPlan(msgspec.Struct, frozen=True, array_like=True):
    """A rule under which requests at some entry points go to the port `port_key`; `tls`: requests behind TLS only."""

    name: str
    entry_points: list[str]
    rule: str
    priority: int
    port_key: str
    chain: list[MiddlewarePlan]
    tls: TlsPolicy | None = None


class TcpRouterPlan(msgspec.Struct, frozen=True, array_like=True):
    """A rule under which connections go to the port `port_key`: those in the clear, or (`secure`) those that begin with
    TLS, which is ended by the policy `tls`, or passed through if that is None.
    """

    name: str
    entry_points: list[str]
    rule: str
    priority: int
    port_key: str
    secure: bool = False
    tls: TlsPolicy | None = None
    chain: list[MiddlewarePlan] = []


class ServicePlan(msgspec.Struct, frozen=True, array_like=True):
    id: str
    name: str
    options: ServiceOptions
    ports: list[PortPlan]
    routers: list[RouterPlan] = []
    tcp_routers: list[TcpRouterPlan] = []

    @property
    def all_routers(self) -> list[RouterPlan | TcpRouterPlan]:
        return [*self.routers, *self.tcp_routers]


class Welcome(msgspec.Struct, frozen=True, tag="welcome", array_like=True):
    """First message. Carries one descriptor: the memory that all workers share (`shared_memory.py`).

    `linger`: seconds to serve on without a supervisor.
    """

    node_id: str
    zone: str | None
    linger: float
    # The worker's row in the shared counters, and how many there are.
    row: int = 0
    rows: int = 1


class Listen(msgspec.Struct, frozen=True, tag="listen", array_like=True):
    """Serve the port `port_key` on the bound socket that travels with this message. Same key again: route anew.

    `key` is the binding's key, `#` and the number of the socket (a binding has one for each worker). `entry_point`:
    whose routers are asked first; what none of them takes goes to the port, or is a 404 if `port_key` is "". `point`:
    what is known of it.
    """

    key: str
    port_key: str
    has_socket: bool
    entry_point: str = ""
    point: EntryPoint = NO_ENTRY_POINT


class Unlisten(msgspec.Struct, frozen=True, tag="unlisten", array_like=True):
    key: str


class PutService(msgspec.Struct, frozen=True, tag="put", array_like=True):
    service: ServicePlan


class DropService(msgspec.Struct, frozen=True, tag="drop", array_like=True):
    id: str


class Verdicts(msgspec.Struct, frozen=True, tag="verdicts", array_like=True):
    """Active checks' outcome by endpoint key; an endpoint without a verdict is taken as up."""

    up: dict[str, bool]


class Certificates(msgspec.Struct, frozen=True, tag="certificates", array_like=True):
    """Certificates that are new or changed, and names of those that are no more; `anew`: all that were there are not.
    Never logged: it holds keys.
    """

    put: list[Certificate]
    drop: list[str]
    anew: bool = False


class Authorities(msgspec.Struct, frozen=True, tag="authorities", array_like=True):
    """All of them."""

    authorities: list[Authority]


class Challenges(msgspec.Struct, frozen=True, tag="challenges", array_like=True):
    """All open questions of ACME servers, with the answers. `number` comes back in `Booked`."""

    number: int
    http: list[HttpChallenge]
    alpn: list[AlpnChallenge]


class LogFile(msgspec.Struct, frozen=True, tag="log-file", array_like=True):
    """Write the access log to the file that travels with this message, from now on."""


class NextSupervisor(msgspec.Struct, frozen=True, tag="next-supervisor", array_like=True):
    """The listening unix socket that travels with this message is where the next supervisor will be awaited, should
    this one be lost."""


class Version(msgspec.Struct, frozen=True, tag="version", array_like=True):
    version: int


class Stop(msgspec.Struct, frozen=True, tag="stop", array_like=True):
    """Take no new connection, finish what is open for at most `grace` seconds, exit."""

    grace: float


class Ready(msgspec.Struct, frozen=True, tag="ready", array_like=True):
    """`problems`: what the worker could not give up of the daemon's privileges (`confinement.py`)."""

    pid: int
    problems: list[str] = []


class Handed(msgspec.Struct, frozen=True, tag="handed", array_like=True):
    """A lingering worker's listening socket, which travels with this message, for the next supervisor."""

    key: str


class HandedBook(msgspec.Struct, frozen=True, tag="handed-book", array_like=True):
    """A part of what a lingering worker ends TLS with: over a socket that is the daemon's user's alone, like the keys
    before it."""

    certificates: list[Certificate]
    authorities: list[Authority]


class Applied(msgspec.Struct, frozen=True, tag="applied", array_like=True):
    version: int


class Booked(msgspec.Struct, frozen=True, tag="booked", array_like=True):
    """The worker serves by all that was said of certificates up to `Challenges(number)`."""

    number: int


class Open(msgspec.Struct, frozen=True, tag="open", array_like=True):
    """Open requests (L7) and connections (L4) of every task that drains; sent when they change."""

    counts: dict[str, int]


class Faulty(msgspec.Struct, frozen=True, tag="faulty", array_like=True):
    """What the worker cannot do of what it was told of a service, in words for a user; "" once it can. `service` "":
    it cannot be told whose it is."""

    service: str
    reason: str


class Trouble(msgspec.Struct, frozen=True, tag="trouble", array_like=True):
    """Traffic failed at an endpoint (its key, what happened): the supervisor checks it at once."""

    endpoint: str
    reason: str


class EndpointCounts(msgspec.Struct, frozen=True, array_like=True):
    """What one worker counted at one endpoint since it knows it.

    `codes`: requests by status (0: connections of layer 4); `latency`: requests by bucket of
    `LATENCY_BUCKETS`, not cumulated, and `seconds` their sum.
    """

    task_id: str
    codes: dict[int, int]
    latency: list[int]
    seconds: float
    bytes_in: int
    bytes_out: int
    connect_errors: int
    retries: int
    ejections: int
    open: int
    ejected: bool
    # Why, while it is.
    ejection: str = ""
    # Kept-alive connections that carry no request.
    idle: int = 0


class PortCounts(msgspec.Struct, frozen=True, array_like=True):
    """`gone`: the sum over endpoints that are no more (so that a service's counters never fall)."""

    port_key: str
    waiting: int
    refused: int
    endpoints: list[EndpointCounts]
    gone: EndpointCounts
    # Requests that the gateway answered itself, by status; connections (flows) of clients.
    answers: dict[int, int] = {}
    clients: int = 0
    # UDP flows that were refused, or ended to make room, by the reason.
    lost_flows: dict[str, int] = {}


class Collect(msgspec.Struct, frozen=True, tag="collect", array_like=True):
    """Ask for all counters; `Counts` with the same number answers."""

    number: int


class Counts(msgspec.Struct, frozen=True, tag="counts", array_like=True):
    number: int
    ports: list[PortCounts]
    # TLS handshakes that failed, or took too long.
    refused_handshakes: int = 0
    # Connections that were refused, or ended to make room, by the reason (`admission.py`).
    refused_connections: dict[str, int] = {}


ToWorker = (
    Welcome | Listen | Unlisten | PutService | DropService | Verdicts | Certificates | Authorities | Challenges
    | LogFile | NextSupervisor | Version | Collect | Stop
)  # fmt: skip
FromWorker = Ready | Handed | HandedBook | Applied | Booked | Open | Faulty | Trouble | Counts
Message = ToWorker | FromWorker

LENGTH = struct.Struct(">I")
WITH_FD = 1 << 31
MAX_FRAME = 64 << 20
READ_SIZE = 32 << 10
FDS_PER_READ = 64
READS_PER_WAKE = 1
"""A reader gives the loop back after this much, so that a flood of changes never starves the traffic."""


class Channel:
    """One end of the socket. `on_message(message, take_fd)` is called in order; `on_close()` once, at the end.

    `on_fault(message, error)`: a message was decoded to nothing (None), or made `on_message` raise.
    """

    def __init__(
        self,
        sock: socket.socket,
        receives: type | object,
        on_message: Callable[[Message, Callable[[], int]], None],
        on_close: Callable[[], None],
        on_fault: Callable[[Message | None, Exception], None] | None = None,
    ) -> None:
        self._on_fault = on_fault or _report
        self._socket = sock
        self._decoder: msgspec.msgpack.Decoder[Message] = msgspec.msgpack.Decoder(receives)
        self._encoder = msgspec.msgpack.Encoder()
        self._on_message = on_message
        self._on_close = on_close
        self._loop: asyncio.AbstractEventLoop | None = None
        self._input = bytearray()
        self._fds: deque[int] = deque()
        self._output: deque[tuple[bytes, int | None]] = deque()
        self._writing = False

    def start(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._socket.setblocking(False)
        self._loop.add_reader(self._socket.fileno(), self._read)

    @property
    def closed(self) -> bool:
        return self._loop is None

    def close(self) -> None:
        """Close without calling `on_close`. Descriptors that nobody took are closed too."""
        if self._loop is None:
            return
        self._loop.remove_reader(self._socket.fileno())
        if self._writing:
            self._loop.remove_writer(self._socket.fileno())
        self._loop = None
        self._socket.close()
        for fd in self._fds:
            os.close(fd)
        for _, owned in self._output:
            if owned is not None:
                os.close(owned)
        self._fds.clear()
        self._output.clear()

    def send(self, message: Message, fd: int | None = None) -> None:
        """Queue a message; `fd` is duplicated now, so that the caller may close its own at once."""
        if self._loop is None:
            return
        body = self._encoder.encode(message)
        length = len(body) if fd is None else len(body) | WITH_FD
        self._output.append((LENGTH.pack(length) + body, None if fd is None else os.dup(fd)))
        if not self._writing:
            self._write()

    def _write(self) -> None:
        assert self._loop is not None
        while self._output:
            data, fd = self._output[0]
            try:
                sent = self._socket.send(data) if fd is None else socket.send_fds(self._socket, [data], [fd])
            except (BlockingIOError, InterruptedError):
                self._watch_writable(True)
                return
            except OSError:
                self._lost()
                return
            if fd is not None:
                os.close(fd)
            if sent < len(data):
                self._output[0] = (data[sent:], None)
            else:
                self._output.popleft()
        self._watch_writable(False)

    def _watch_writable(self, wanted: bool) -> None:
        if wanted == self._writing or self._loop is None:
            return
        self._writing = wanted
        if wanted:
            self._loop.add_writer(self._socket.fileno(), self._write)
        else:
            self._loop.remove_writer(self._socket.fileno())

    def _read(self) -> None:
        for _ in range(READS_PER_WAKE):
            try:
                data, fds, _, _ = socket.recv_fds(self._socket, READ_SIZE, FDS_PER_READ)
            except (BlockingIOError, InterruptedError):
                return
            except OSError:
                data, fds = b"", []
            self._fds.extend(fds)
            if not data:
                self._lost()
                return
            self._input += data
            self._deliver()
            if self._loop is None or len(data) < READ_SIZE:
                return

    def _deliver(self) -> None:
        start, buffer = 0, self._input
        try:
            while len(buffer) - start >= LENGTH.size and self._loop is not None:
                (length,) = LENGTH.unpack_from(buffer, start)
                carries, length = bool(length & WITH_FD), length & ~WITH_FD
                end = start + LENGTH.size + length
                if length > MAX_FRAME:
                    self._lost()
                    return
                if len(buffer) < end:
                    break
                body, start = bytes(buffer[start + LENGTH.size : end]), end
                self._take(body, carries)
        finally:
            # No message is taken twice.
            del buffer[:start]

    def _take(self, body: bytes, carries: bool) -> None:
        """One message. Its descriptor must go with it, or the next message would get it."""
        left = len(self._fds) - carries
        message: Message | None = None
        try:
            message = self._decoder.decode(body)
            self._on_message(message, self._fds.popleft)
        except Exception as error:
            while carries and len(self._fds) > left:
                os.close(self._fds.popleft())
            self._on_fault(message, error)

    def _lost(self) -> None:
        if self._loop is not None:
            self.close()
            self._on_close()


def _report(message: Message | None, error: Exception) -> None:
    said = f"a message cannot be {'decoded' if message is None else 'taken in'}: {type(message).__name__}"
    asyncio.get_running_loop().call_exception_handler({"message": said, "exception": error})
