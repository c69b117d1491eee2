"""Who is at the other end of a client's connection, how far it is believed, and what replicas are told about it.

One object a connection, whatever is spoken on it. A client repeats its fields from request to request: as long as its
codec hands the same Request object on, what follows from the fields is worked out once.
"""

from essaim.gateway.codec.message import Request
from essaim.gateway.protocol.options import ServiceOptions
from essaim.gateway.protocol.tls_policy import TlsPolicy
from essaim.gateway.routing.call import Answer
from essaim.gateway.tls.session import Secured

from .forwarded import extended_lines, field_lines
from .listener import Listener

HTTP_VERSION = b" HTTP/1.1\r\n"
SCHEMES = {b"http": "http", b"https": "https", b"ws": "http", b"wss": "https"}
"""What a proxy may say that its client spoke, and what that is to rules and middlewares."""


class Client:
    __slots__ = (
        "_authority", "_lines", "address", "believed", "called_from", "listener", "many", "port", "request", "tail",
        "tls", "trusted",
    )  # fmt: skip

    def __init__(self, listener: Listener, address: str, port: int, tls: Secured | None = None) -> None:
        """`address`: whose connection it is, or who the proxy that has connected says it is. `port`: of this node."""
        self.listener = listener
        self.address = address
        self.port = port
        self.tls = tls
        # Its connection carries many requests at once.
        self.many = False
        # By whose options it was last asked whether the client is believed.
        self.believed = listener.backend.options
        self.trusted = listener.trusts(address)
        # The last request, who called by it, and what follows its request line on the way to the replica, up to the
        # request id. A trusted proxy's connection has requests of many clients.
        self.request: Request | None = None
        self.called_from = address
        self.tail = b""
        # What the replica is told about an untrusted client that asks for this authority.
        self._authority: bytes | None = None
        self._lines = b""

    @property
    def scheme(self) -> str:
        return "http" if self.tls is None else "https"

    def introduce(self, request: Request) -> None:
        """A request with other fields than the last one's."""
        self.request = request
        self.tail = self._tail(request)

    def believe(self, options: ServiceOptions, request: Request) -> None:
        """Whether the client is believed is for the entry point to say, and for the service that the request is for."""
        if options is self.believed:
            return
        self.believed = options
        trusted = self.listener.trusts(self.address, options)
        # Two services may both believe the peer, but not the same hops before it.
        if trusted != self.trusted or (trusted and request.forwarded):
            self.trusted = trusted
            self.tail = self._tail(request)

    def _tail(self, request: Request) -> bytes:
        authority, tls = request.authority or b"", self.tls
        self.called_from = self.address
        if self.trusted and request.forwarded:
            proven = tls is not None and bool(tls.policy.client_mode)
            self.called_from = client = self.listener.client(self.address, request, self.believed)
            lines = extended_lines(
                self.address, client, self.scheme, authority, request.forwarded,
                proven=proven, websocket=request.is_websocket,
            )  # fmt: skip
        elif request.is_websocket:
            lines = field_lines(self.address, self.scheme, authority, websocket=True)
        else:
            if authority != self._authority:
                self._authority = authority
                self._lines = field_lines(self.address, self.scheme, authority)
            lines = self._lines
        if tls is not None:
            lines += tls.lines
        if request.upgrade:
            lines += b"Connection: upgrade\r\nUpgrade: " + request.upgrade + b"\r\n"
        return HTTP_VERSION + request.fields + lines + b"X-Request-Id: "

    def head(self, request: Request) -> bytes:
        """The head for a replica, where no router has changed it."""
        request_id = self.request_id(request) if self.trusted else self.listener.ids.next()
        return b"%b %b%b%b\r\n\r\n" % (request.method, request.target, self.tail, request_id)

    def changed_head(self, request: Request, target: bytes, fields: bytes) -> bytes:
        """The same with a target and fields that middlewares may have changed."""
        # The tail without its own copy of the fields.
        tail = self.tail[len(HTTP_VERSION) + len(request.fields) :]
        request_id = self.request_id(request)
        return b"%b %b%b%b%b%b\r\n\r\n" % (request.method, target, HTTP_VERSION, fields, tail, request_id)

    def request_id(self, request: Request) -> bytes:
        """A client's own is a claim like any other: it would choose by what its requests are found in everybody's
        logs, and give two requests one name."""
        return (request.request_id if self.trusted else b"") or self.listener.ids.next()

    def spoke(self, request: Request) -> str:
        """The scheme, as far as it is known: a trusted proxy may have ended its TLS."""
        if self.trusted:
            for _, value, line in request.forwarded:
                if line[:18].lower() == b"x-forwarded-proto:" and (spoken := SCHEMES.get(value.lower())):
                    return spoken
        return self.scheme

    def check_guard(self, wanted: TlsPolicy | None) -> None:
        """A connection that was let in by one service's rules does not get at another's, whatever Host it names.

        Raises Answer.
        """
        if wanted is not None and self.tls is not None and self.tls.policy.guard != wanted.guard:
            raise Answer(421, "this connection was not made for this host (RFC 9110, 15.5.20)", last=True)
