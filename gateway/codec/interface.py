"""What a codec and an exchange say to each other, on the client's side and on the replica's.

An exchange is one request and its response. It knows routing, attempts, time-outs, counting and logs, and no framing;
a codec (`http/http1/server.py`, `upstream/connection.py`) knows framing, and nothing of who answers. Four parts:

    client's codec                     exchange                       replica's codec
    ServerConnection ── RequestSink ──► Exchange ── ReplicaStream ──► Upstream
    (ClientStream)   ◄─ ClientStream ──          ◄─── Requester ─────

- Heads are objects (`message.py`), each with its field lines as one block.
- Bodies are pieces of bytes, in order. Of a message whose length is CHUNKED they are the chunked coding as it came,
  trailers in it: from HTTP/1.1 to HTTP/1.1 it passes by unread. A receiver that speaks no chunks says so (`plain_body`)
  before the first piece; it then gets content alone, and the trailer section, if there is one, by a call of its own.
- The last piece of a request says that it is the last (`complete`), as HTTP/2's END_STREAM does; a response's end is a
  call, since it also ends the exchange.
- Back-pressure is the exchange's: who cannot take more says so to the side that the bytes come from, and must still
  take what is on its way. Each of these calls may be made twice.
- Calls are made on the event loop. An exchange that is over (it has said `end`, `drop` or `reset` to its stream, or was
  told `reset`) calls nobody any more, and whatever it is still told has no effect.

Pure: shapes only.
"""

from collections.abc import Callable
from typing import Protocol

from .message import Request, Response


class RequestSink(Protocol):
    """The exchange as the client's codec sees it. In order: `head`, and if a body follows `data` any number of times,
    `proceed` once after what has come together with the head, more `data`; `refuse` or `reset` may come at any time and
    end it."""

    # Set by the client's codec while it is in `ClientStream.respond`: the client knows no chunks.
    plain_body: bool

    @property
    def pending(self) -> object | None:
        """Not None: whether the request may pass is not known yet, and no replica has seen anything of it."""

    def head(self, request: Request, complete: bool) -> None:
        """The request's head; `complete`: no body follows, and it is sent on at once."""

    def data(self, piece: bytes, complete: bool) -> None:
        """Bytes of the body or, after `ClientStream.switch`, of the tunnel; `complete`: the client sends no more."""

    def proceed(self) -> None:
        """What has arrived of the body is handed over: send it on."""

    def refuse(self, status: int, reason: str) -> None:
        """What arrives is not in order, or not in time; the head may be missing. Answered, if no response has begun."""

    def reset(self, orderly: bool) -> None:
        """The client is gone; `orderly`: by ending its side, as a tunnel may end."""

    def pause(self) -> None:
        """The client does not take what it is sent."""

    def resume(self) -> None:
        """The client takes it again."""

    def expire(self) -> None:
        """`ClientStream.deadline` has passed."""


class ClientStream(Protocol):
    """The client's codec as its exchange sees it: one request's way back. `respond` once, `write`, then `end`."""

    # Loop time in seconds. When it has passed, within half a second, the exchange is told (`expire`).
    deadline: float
    # False: the connection takes no request after this one.
    keep_alive: bool
    # Whether the client's bytes are being read; see `pause_reading`.
    reading: bool
    # A piece of the response's body, or of the tunnel. Not a method: for HTTP/1.1 it is the transport's own `write`.
    write: Callable[[bytes], object]

    def respond(self, response: Response, head: bytes | None, data: bytes, body: int, complete: bool) -> None:
        """The final head, and `data[body:]` of its body. `head`: the lines to send instead of `response.head`.

        If `response.untouched`, `data[:body]` are those lines as they came, and the empty line.
        """

    def interim(self, response: Response) -> None:
        """A 1xx response, before the final one."""

    def switch(self, response: Response, protocol: bytes, rest: bytes) -> None:
        """101: from here on both directions are a tunnel's; `rest` is its first bytes."""

    def trailers(self, fields: bytes) -> None:
        """The trailer section's lines, each ended by CRLF, where `plain_body` was asked for; before `end`."""

    def end(self, idle_timeout: float) -> None:
        """The response is complete. The connection may wait so many seconds for its next request."""

    def drop(self) -> None:
        """The same, but what follows on the connection cannot be trusted to be a request."""

    def reset(self) -> None:
        """The response cannot be completed; the client has to see that."""

    def abort(self) -> None:
        """Give the client up."""

    def tunnel_ended(self) -> None:
        """The replica has ended its side of the tunnel, or cannot be told that the client has."""

    def pause_reading(self) -> None:
        """Take no more of the client's bytes."""

    def resume_reading(self) -> None: ...


class Requester(Protocol):
    """The exchange as the replica's codec sees it; the gateway's own questions (`ClusterRequest`) are such, too.

    In order: `interim` any number of times; `respond`, `forward` any number of times, `response_done`; or `switch`,
    `forward`, `tunnel_ended`. `upstream_failed` may come at any time. After it, and after `response_done`, nothing.
    """

    # What the request allows: HEAD, to be sent again, 101; and whether all of it has been sent.
    is_head: bool
    replayable: bool
    wants_upgrade: bool
    request_done: bool
    # The response's content is wanted without chunks; looked at after `respond`.
    plain_body: bool

    def respond(self, response: Response, data: bytes, body: int, complete: bool) -> None:
        """The final head, and `data[body:]` of its body, which is whole if `complete`; see `ClientStream.respond`."""

    def forward(self, data: bytes) -> None:
        """A piece of the response's body, or of the tunnel."""

    def trailers(self, fields: bytes) -> None:
        """The trailer section's lines, each ended by CRLF, where `plain_body` is wanted."""

    def response_done(self) -> None: ...

    def interim(self, response: Response) -> None:
        """A 1xx response other than 101."""

    def switch(self, response: Response, rest: bytes) -> None:
        """101: from here on bytes are bytes; `rest` is the first of them."""

    def tunnel_ended(self) -> None:
        """The replica has ended its side of the tunnel."""

    def upstream_failed(self, reason: str, untouched: bool) -> None:
        """There will be no (more of a) response. `untouched`: nothing of it has come."""

    def pause_sending(self) -> None:
        """The replica cannot take more of the request's body, or of the tunnel."""

    def resume_sending(self) -> None: ...


class ReplicaStream(Protocol):
    """The replica's codec as its exchange sees it: `begin`, `send` any number of times."""

    # Loop time since when it has rested; whether it had carried a request before.
    idle_since: float
    reused: bool

    def begin(self, client: Requester, data: bytes) -> None:
        """Send a request: its head, and what there is of its body."""

    def send(self, data: bytes) -> None:
        """A piece of the request's body, or of the tunnel."""

    def send_end(self) -> bool:
        """End this side of the tunnel; False if the replica has ended the other already."""

    def hold(self) -> None:
        """Read no more of the response."""

    def release(self) -> None: ...

    def close(self) -> None:
        """Give the request up. Nobody is told."""

    def end(self) -> None:
        """The same for a tunnel that has ended in order: what is still to be sent is."""
