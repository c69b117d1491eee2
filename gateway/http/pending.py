"""A request that waits for something before its middlewares can decide: a password's check, an auth server's answer, or
its own body as a whole. What arrives of it meanwhile is kept."""

from typing import Protocol

from essaim.gateway.codec.interface import ClientStream
from essaim.gateway.codec.message import Refused, Request, Response
from essaim.gateway.routing.call import BodyWanted, Call, Undecided
from essaim.gateway.runtime.deadlines import NEVER, Deadlines

from .authorization import Authorization, Cancel
from .held_body import Gathering, Held
from .timeouts import STALLED_SECONDS

MAX_EARLY = 64 << 10
CONTINUE = Response(100, 1, b"HTTP/1.1 100 Continue\r\n")


class Waiting(Protocol):
    """The exchange that waits."""

    deadlines: Deadlines
    stream: ClientStream
    request_done: bool
    # What there is of the body, and its size.
    out: bytes
    received: int

    def decide(self) -> None:
        """The middlewares can go on."""

    def refuse(self, status: int, reason: str) -> None: ...


class Pending:
    """`gathering`: what there is of the body, if that is what is waited for."""

    __slots__ = ("_cancel", "_exchange", "_request", "gathering")

    def __init__(self, exchange: Waiting, request: Request) -> None:
        self._exchange = exchange
        self._request = request
        self._cancel: Cancel | None = None
        self.gathering: Gathering | None = None

    def settle(self, undecided: Undecided, call: Call, authorization: Authorization) -> bool:
        """Begin to find out what the call waits for; False when too much is pending already."""
        stream, deadlines = self._exchange.stream, self._exchange.deadlines
        if isinstance(undecided, BodyWanted):
            held = Held(authorization.auth_servers.room)
            # What the body is held by is given back when the request is over.
            call.after.append(lambda status, seconds: held.release())
            self.gathering = Gathering(undecided, self._request.length, held)
            stream.deadline = deadlines.now + STALLED_SECONDS
            # There may be none, or too much by what the head says; and some may have come while another one decided.
            self._gather(self.gathering, self._exchange.out)
            return True
        stream.deadline = NEVER
        self._cancel = authorization.settle(undecided, self._settled)
        return self._cancel is not None

    def _settled(self) -> None:
        self._cancel = None
        self._exchange.decide()

    def invite(self) -> None:
        """The head is here; a client that waits with the body until it is asked for it is asked."""
        exchange = self._exchange
        if self.gathering is not None and self._request.expects_continue and not exchange.received:
            exchange.stream.interim(CONTINUE)

    def feed(self, piece: bytes) -> None:
        """Keep a piece of the body; the exchange is told when that was the last that is needed."""
        exchange = self._exchange
        exchange.out += piece
        if self.gathering is not None:
            self._gather(self.gathering, piece)
        elif len(exchange.out) > MAX_EARLY and not exchange.request_done:
            exchange.stream.pause_reading()

    def _gather(self, gathering: Gathering, piece: bytes) -> None:
        try:
            done = gathering.feed(piece, 0)
        except Refused as refused:
            self._exchange.refuse(refused.status, refused.reason)
            return
        if done:
            self._exchange.stream.deadline = NEVER
            self._exchange.decide()

    def cancel(self) -> None:
        """Nobody wants to know any more."""
        if self._cancel is not None:
            self._cancel()
            self._cancel = None
