"""Both ends of an exchange, played by a test: a client's stream and a replica's that write down what they are told."""

from typing import Any

from essaim.gateway.codec.interface import Requester
from essaim.gateway.codec.message import Request, Response
from essaim.gateway.http.client import Client
from essaim.gateway.http.exchange import Exchange
from essaim.gateway.runtime.deadlines import NEVER

from .plane import Plane

PEER = "192.0.2.7"


class ScriptedStream:
    """A client's codec: `told` is what the exchange has said, in order."""

    def __init__(self) -> None:
        self.told: list[tuple[Any, ...]] = []
        self.deadline = NEVER
        self.keep_alive = self.reading = True

    def respond(self, response: Response, head: bytes | None, data: bytes, body: int, complete: bool) -> None:
        self.told.append(("respond", response.status, head or response.head, data[body:], complete))

    def write(self, data: bytes) -> None:
        self.told.append(("write", data))

    def interim(self, response: Response) -> None:
        self.told.append(("interim", response.status))

    def switch(self, response: Response, protocol: bytes, rest: bytes) -> None:
        self.told.append(("switch", protocol, rest))

    def trailers(self, fields: bytes) -> None:
        self.told.append(("trailers", fields))

    def end(self, idle_timeout: float) -> None:
        self.told.append(("end",))

    def drop(self) -> None:
        self.told.append(("drop",))

    def reset(self) -> None:
        self.told.append(("reset",))

    def abort(self) -> None:
        self.told.append(("abort",))

    def tunnel_ended(self) -> None:
        self.told.append(("tunnel_ended",))

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True

    @property
    def statuses(self) -> list[int]:
        return [one[1] for one in self.told if one[0] == "respond"]


class ScriptedReplica:
    """A replica's codec; `sent` is what it was given."""

    def __init__(self, *, rested_since: float = 0.0, ended: bool = False) -> None:
        self.idle_since, self.reused = rested_since, True
        self.client: Requester | None = None
        self.sent = b""
        self.held = self.closed = self.ended_in_order = self.input_ended = False
        self._ended = ended

    def begin(self, client: Requester, data: bytes) -> None:
        self.client, self.sent = client, data

    def send(self, data: bytes) -> None:
        self.sent += data

    def send_end(self) -> bool:
        self.input_ended = True
        return not self._ended

    def hold(self) -> None:
        self.held = True

    def release(self) -> None:
        self.held = False

    def close(self) -> None:
        self.closed = True

    def end(self) -> None:
        self.ended_in_order = True


class Scripted:
    """One exchange of a service with `replicas` connections at rest, the first of them next."""

    def __init__(self, *replicas: ScriptedReplica, **options: Any) -> None:
        plane = Plane(connections=0, **options)
        self.deadlines, self.backend, self.endpoint, self.listener = (
            plane.deadlines, plane.backend, plane.endpoint, plane.listener,
        )  # fmt: skip
        self.endpoint.idle = list(reversed(replicas))  # type: ignore[arg-type]
        self.stream = ScriptedStream()
        self.client = Client(self.listener, PEER, 80)
        self.exchange = Exchange(self.client, self.stream)

    def ask(self, method: bytes = b"GET", *, length: int = 0, fields: bytes = b"", complete: bool = True) -> None:
        """The head, and that all is here which has come with it."""
        self.exchange.head(self.request(method, length, fields), complete)
        if not complete:
            self.exchange.proceed()

    @staticmethod
    def request(method: bytes, length: int = 0, fields: bytes = b"") -> Request:
        request = Request(method, b"/", 1)
        request.authority, request.host = b"a", b"a"
        request.length, request.fields = length, b"Host: a\r\n" + fields
        return request

    @property
    def counted(self) -> dict[int, int]:
        """Statuses of the replica's requests and of the gateway's own answers."""
        both = (*self.endpoint.codes.items(), *self.backend.answers.items())
        return {status: sum(number for one, number in both if one == status) for status, _ in both}


OK = Response(200, 1, b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n")
