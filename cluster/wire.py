"""The session between a node's agent and the leading manager: messages over one WebSocket on port 2377.

MessagePack, one tagged struct a message. Sequence: the agent sends `Hello`; a manager that does not lead answers
`Redirect` and closes; the leader answers `Welcome`, then one full `Assignments`, the route table, and changes of both
from then on. The agent sends `Heartbeat` every `Welcome.heartbeat` seconds, and the manager answers each with
`HeartbeatAck`. On silence the agent gives up first (`agent_patience`) and looks for a manager anew; only then does the
manager call the node down (`manager_patience`), so that a session that breaks unseen costs a session, and not a node.

- A full `Assignments` names everything the node shall have: the agent stops what it runs beside it. The agent never
  acts on the lack of a message: without a manager, tasks and gateway carry on untouched.
- Secrets and configs come only with the tasks that use them; certificates of services go to every gateway.
- Either side says in `Hello` and `Welcome` how much it understands (`version`): what came later than version 0 is sent
  only to a side that knows it, since a message that cannot be decoded ends the session.
- Fields of a task's report that the leader does not know go into the log with it: the end of a task is taken in once,
  and not again by a newer leader. All else that an agent tells it tells each leader from the start.
- Output of tasks flows by credit: no more bytes of a stream are on their way than its reader asked for, so that a
  reader who pauses holds up nothing but its own stream.

Pure: data only.
"""

from typing import Protocol

import msgspec

from .certificate_parts import BookPart
from .kept import Kept, kept_of_items
from .node import Node, NodeDescription, TLSInfo
from .objects import Config, Secret
from .overlay import OverlayNetwork
from .route_delta import RouteDelta
from .routes import RouteTable
from .task import Task, TaskEndpoint, TaskStatus

SESSION = 1
"""The `version` of this release. 1: Goodbye and Farewell, Ask and Answered, LogCredit."""

AGENT_BEATS = 2.5
MANAGER_BEATS = 3.0
LEAST = 0.1
"""Heartbeat periods of silence after which each end gives up, and the least period in seconds that counts. Half a
period is enough to dial anew."""


def agent_patience(period: float) -> float:
    """Seconds of silence after which an agent takes its session for broken."""
    return max(period, LEAST) * AGENT_BEATS


def manager_patience(period: float) -> float:
    """Seconds of silence after which the leader takes a node for lost; always more than the agent's."""
    return max(period, LEAST) * MANAGER_BEATS


# -- agent to manager -----------------------------------------------------------------------------------------------


class Hello(msgspec.Struct, tag="hello", frozen=True):
    """`node_id` must be the one that the certificate of the connection names. `problem`: why no task can start on the
    node at present (its Engine does not answer); its description may then be a guess."""

    node_id: str
    description: NodeDescription
    version: int = 0
    problem: str = ""


class Goodbye(msgspec.Struct, tag="bye", frozen=True):
    """This node's daemon stops in order and means to come back; its tasks run on. Answered with `Farewell`."""


class Heartbeat(msgspec.Struct, tag="beat", frozen=True):
    pass


class TaskReport(msgspec.Struct, frozen=True):
    """`kept`: what this version does not know of a newer agent's report."""

    task_id: str
    status: TaskStatus
    endpoints: list[TaskEndpoint] | None = None
    kept: Kept | msgspec.UnsetType = msgspec.UNSET


class Reports(msgspec.Struct, tag="reports", frozen=True):
    """Observed states, oldest first; several of one task may be merged to the last."""

    reports: list[TaskReport]


class Describe(msgspec.Struct, tag="describe", frozen=True):
    """The node's description has changed, or its problem (as in `Hello`)."""

    description: NodeDescription
    problem: str = ""


class RoutesApplied(msgspec.Struct, tag="routed", frozen=True):
    """This node's gateway serves by table `version`. `open_requests`: per draining task, what is still open here.

    `unfit`: the table's tasks on this node that the gateway's own checks do not find fit for traffic (or not yet);
    None: this gateway does not say. Sent again whenever one of them changes.
    """

    version: int
    open_requests: dict[str, int] = {}
    unfit: list[str] | None = None


class Findings(msgspec.Struct, tag="findings", frozen=True):
    """What this node's gateway found by its share of the health checks: by endpoint (task@address:port) the reason why
    it is down, or "" when it is up. `dropped`: there is no finding of these any more. `full`: there are no others.
    """

    full: bool
    found: dict[str, str] = {}
    dropped: list[str] = []


class Answered(msgspec.Struct, tag="answered", frozen=True):
    """Answer to `Ask`. None: this gateway sends nothing to that node, so it has nothing to ask there."""

    node_id: str
    answers: bool | None


class NetworksApplied(msgspec.Struct, tag="netted", frozen=True):
    """The node's containers have rules by its networks' tables of this version (or cannot have any)."""

    version: int


class CertificatesApplied(msgspec.Struct, tag="certified", frozen=True):
    """This node's gateway ends TLS by the certificate book of that version, and answers its challenges."""

    version: int


class LogChunk(msgspec.Struct, tag="log", frozen=True):
    """Answer to `LogRequest`. `stream`: 1 stdout, 2 stderr; `timestamp` is RFC 3339 with nanoseconds. `end` closes;
    `lost`: because the connection to the node broke, and not because there is no more to read.
    """

    request: int
    task_id: str
    stream: int = 1
    timestamp: str = ""
    line: bytes = b""
    end: bool = False
    error: str = ""
    lost: bool = False

    @property
    def cost(self) -> int:
        """Bytes of credit that it takes."""
        return len(self.line) + CHUNK_COST


CHUNK_COST = 64
"""Bytes that a chunk of output counts for beside its line."""


# -- manager to agent -----------------------------------------------------------------------------------------------


class Redirect(msgspec.Struct, tag="redirect", frozen=True):
    """Another manager leads; `leader` is its address, or empty when none is known. Try again there, or later."""

    leader: str
    managers: list[str]


class Welcome(msgspec.Struct, tag="welcome", frozen=True):
    """`heartbeat` in seconds. `managers` are the addresses to remember (host:port)."""

    heartbeat: float
    node: Node
    managers: list[str]
    version: int = 0


class Refused(msgspec.Struct, tag="refused", frozen=True):
    """The node is unknown (it was removed from the cluster), or not who its certificate says. It stops its tasks."""

    reason: str


class HeartbeatAck(msgspec.Struct, tag="ack", frozen=True):
    pass


class Farewell(msgspec.Struct, tag="farewell", frozen=True):
    """Answer to `Goodbye`: the cluster knows that the node means to come back."""


class Ask(msgspec.Struct, tag="ask", frozen=True):
    """That node is silent: does any replica on it answer this node's gateway?"""

    node_id: str


class Managers(msgspec.Struct, tag="managers", frozen=True):
    """The managers' addresses have changed."""

    managers: list[str]


class NodeChanged(msgspec.Struct, tag="node", frozen=True):
    """The node's own object (role, availability, labels) has changed."""

    node: Node


class Trust(msgspec.Struct, tag="trust", frozen=True):
    """What the node is to trust, and whom its certificate is to be of: if that is not so, it asks for a new one."""

    tls_info: TLSInfo


class Assignments(msgspec.Struct, tag="assign", frozen=True):
    """Tasks (new or changed) with what they use. `removed` are ids of tasks to forget, once stopped.

    `full`: tasks, secrets and configs are all there are, whatever was sent before. `registry_auth`: by service id,
    what an Engine takes as X-Registry-Auth to pull the service's image; never shown to anybody.
    """

    full: bool
    tasks: list[Task] = []
    removed: list[str] = []
    secrets: list[Secret] = []
    configs: list[Config] = []
    registry_auth: dict[str, str] = {}


class Routes(msgspec.Struct, tag="routes", frozen=True):
    table: RouteTable


class RoutesChanged(msgspec.Struct, tag="reroute", frozen=True):
    """A change of the table that was last sent in this session; the first one comes whole."""

    delta: RouteDelta


class Verdicts(msgspec.Struct, tag="verdicts", frozen=True):
    """What the gateways together found: by node whose gateway found it, endpoints as in `Findings`.

    `unknown`: nobody tells of these any more. `full`: there are no others. Soft state: the leader rebuilds it from the
    sessions, and a gateway keeps what it heard last.
    """

    full: bool
    found: dict[str, dict[str, str]] = {}
    unknown: list[str] = []


class Certificates(msgspec.Struct, tag="certs", frozen=True):
    """A change of the certificate book that was last sent in this session; the first one comes whole. Private keys are
    in it: a node keeps them in memory alone.
    """

    part: BookPart


class Networks(msgspec.Struct, tag="nets", frozen=True):
    """The overlay networks that the node has tasks on; always the whole. `version` grows with each change, for this
    node and this leader."""

    networks: list[OverlayNetwork]
    version: int = 0


class OpenTunnel(msgspec.Struct, tag="tunnel", frozen=True):
    """Open a connection to this node's Engine for the manager at `address` (host:port), which knows it by `key`."""

    address: str
    key: str


class LogRequest(msgspec.Struct, tag="logs", frozen=True):
    """Send the task's output. `tail` -1 is all; `since` and `until` in seconds since 1970, 0 for no limit.

    `credit`: bytes (`LogChunk.cost`) that may be sent before a `LogCredit` allows more; 0 for no limit.
    """

    request: int
    task_id: str
    stdout: bool = True
    stderr: bool = True
    follow: bool = False
    tail: int = -1
    since: float = 0
    until: float = 0
    credit: int = 0


class LogCredit(msgspec.Struct, tag="credit", frozen=True):
    """The reader has taken that many bytes: as many more may be sent."""

    request: int
    bytes: int


class LogCancel(msgspec.Struct, tag="nolog", frozen=True):
    request: int


FromAgent = (
    Hello
    | Goodbye
    | Heartbeat
    | Reports
    | Describe
    | RoutesApplied
    | Findings
    | Answered
    | CertificatesApplied
    | NetworksApplied
    | LogChunk
)
ToAgent = (
    Redirect
    | Welcome
    | Refused
    | HeartbeatAck
    | Farewell
    | Ask
    | Managers
    | NodeChanged
    | Trust
    | Assignments
    | Routes
    | RoutesChanged
    | Verdicts
    | Certificates
    | Networks
    | OpenTunnel
    | LogRequest
    | LogCredit
    | LogCancel
)

_encoder = msgspec.msgpack.Encoder()
_from_agent: msgspec.msgpack.Decoder[FromAgent] = msgspec.msgpack.Decoder(FromAgent)
_to_agent: msgspec.msgpack.Decoder[ToAgent] = msgspec.msgpack.Decoder(ToAgent)


def encode(message: FromAgent | ToAgent) -> bytes:
    return _encoder.encode(message)


def decode_from_agent(data: bytes) -> FromAgent:
    """Raises msgspec.DecodeError."""
    message = _from_agent.decode(data)
    if isinstance(message, Reports) and (known := _encoder.encode(message)) != data:
        for place, kept in kept_of_items(data, known, "reports").items():
            message.reports[place] = msgspec.structs.replace(message.reports[place], kept=kept)
    return message


def decode_to_agent(data: bytes) -> ToAgent:
    """Raises msgspec.DecodeError."""
    return _to_agent.decode(data)


class Channel(Protocol):
    """One session's transport: whole messages, in order. It knows nothing of what they mean."""

    async def send(self, data: bytes) -> None:
        """Raises OSError when the other side is gone."""

    async def receive(self) -> bytes | None:
        """The next message, or None once the session has ended (by either side, or by a failure)."""

    async def close(self) -> None:
        """End the session; may be called more than once, and while others send or receive."""
