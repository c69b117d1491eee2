"""A client's HTTP/1.1 connection, with exchanges that the test plays: what they are told does not depend on how the
bytes are cut, and what they say is framed as the client's version wants it."""

import asyncio
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from essaim.gateway.codec.interface import ClientStream
from essaim.gateway.codec.message import CHUNKED, Request, Response
from essaim.gateway.http.client import Client
from essaim.gateway.http.http1.server import MAX_EARLY, WAIT, ServerConnection

from .plane import FakeTransport, Plane

MESSAGES = [
    b"GET /a?b=1 HTTP/1.1\r\nHost: a\r\nX-A: 1\r\n\r\n",
    b"GET /b HTTP/1.1\r\nHost: a\r\nX-A: 1\r\n\r\n",
    b"\r\nHEAD / HTTP/1.1\r\nHost: b\r\nAccept: */*\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello",
    b"PUT /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5;x=y\r\nhello\r\n0\r\nT: v\r\n\r\n",
    b"GET / HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
    b"GET / HTTP/1.1\nHost: a\n\n",
    b"nonsense\r\n\r\n",
    b"GET /half HTTP/1.1\r\nHo",
]
ANSWER = b"HTTP/1.1 204 No Content\r\n"


class ScriptedExchange:
    """Answers each request when it is complete; what it is told goes to `events`, data joined."""

    def __init__(self, stream: ClientStream, events: list[list[Any]]) -> None:
        self._stream = stream
        self._events = events
        self.pending: object | None = None
        self._complete = self._begun = self._over = self.plain_body = False

    def head(self, request: Request, complete: bool) -> None:
        said = (request.method, request.target, request.minor, request.fields, request.length)
        self._events.append(["head", said, complete])
        self._complete = complete
        if complete:
            self.proceed()

    def data(self, piece: bytes, complete: bool) -> None:
        if self._events[-1][0] != "data":
            self._events.append(["data", b"", False])
        self._events[-1][1] += piece
        self._events[-1][2] = complete
        self._complete = complete
        if complete and self._begun:
            self._end()

    def proceed(self) -> None:
        self._begun = True
        if self._complete:
            self._end()

    def _end(self) -> None:
        if not self._over:
            self._over = True
            self._stream.respond(Response(204, 1, ANSWER), None, ANSWER + b"\r\n", len(ANSWER) + 2, True)
            self._stream.end(75.0)

    def refuse(self, status: int, reason: str) -> None:
        if self._events and self._events[-1][0] == "data":
            # How much of a body has passed before the byte that breaks it is a matter of how it was cut.
            self._events.pop()
        self._events.append(["refuse", status])
        self._over = True
        self._stream.drop()

    def reset(self, orderly: bool) -> None:
        self._events.append(["reset", orderly])

    def pause(self) -> None: ...
    def resume(self) -> None: ...
    def expire(self) -> None: ...


def connection(events: list[list[Any]]) -> tuple[ServerConnection, FakeTransport]:
    def make(client: Client, stream: ClientStream) -> ScriptedExchange:
        return ScriptedExchange(stream, events)

    made = ServerConnection(make, Plane().listener)
    transport = FakeTransport(made)
    made.connection_made(transport)  # type: ignore[arg-type]
    return made, transport


async def told(pieces: list[bytes]) -> tuple[list[list[Any]], bytes]:
    """What the exchanges of a connection are told, and what it wrote."""
    events: list[list[Any]] = []
    made, transport = connection(events)
    for piece in pieces:
        if not (transport.closed or transport.ended):
            made.data_received(piece)
        for _ in range(8):
            # Requests that have arrived early are taken up one a turn of the loop.
            await asyncio.sleep(0)
    transport.close()
    return events, transport.written


@given(st.lists(st.sampled_from(MESSAGES), min_size=1, max_size=4), st.lists(st.integers(0, 600), max_size=12))
async def test_connection_any_split_of_the_bytes_gives_the_same_events(messages: list[bytes], cuts: list[int]) -> None:
    data = b"".join(messages)
    places = sorted({min(cut, len(data)) for cut in cuts} | {0, len(data)})
    pieces = [data[start:end] for start, end in pairwise(places)]
    assert await told(pieces) == await told([data])
    assert await told([data[at : at + 1] for at in range(len(data))]) == await told([data])


def begun(request: bytes) -> tuple[ServerConnection, FakeTransport]:
    """A connection whose request waits for its response; the events are nobody's."""
    made, transport = connection([])
    made.data_received(request)
    return made, transport


def responded(version: bytes, response: Response, *, complete: bool = True, fields: bytes = b"") -> bytes:
    """What a client of that version is sent, which would like to keep its connection."""
    made, transport = begun(b"POST / HTTP/%b\r\nHost: a\r\nContent-Length: 1\r\n%b\r\n" % (version, fields))
    made.state = WAIT
    made.respond(response, None, response.head + b"\r\nok", len(response.head) + 2, complete)
    return transport.written


def response(lines: bytes, length: int, *, untouched: bool = True) -> Response:
    made = Response(200, 1, b"HTTP/1.1 200 OK\r\n" + lines)
    made.length, made.untouched = length, untouched
    return made


@pytest.mark.parametrize("untouched", [True, False])
def test_connection_of_http_1_1_gets_the_response_as_it_is(untouched: bool) -> None:
    said = response(b"Content-Length: 2\r\n", 2, untouched=untouched)
    assert responded(b"1.1", said) == said.head + b"\r\nok"


def test_connection_that_ends_says_so() -> None:
    said = response(b"Content-Length: 2\r\n", 2)
    assert responded(b"1.1", said, fields=b"Connection: close\r\n") == said.head + b"Connection: close\r\n\r\nok"
    assert responded(b"1.0", said) == said.head + b"Connection: close\r\n\r\nok"


def test_connection_of_http_1_0_is_kept_where_that_was_asked_for() -> None:
    said = response(b"Content-Length: 2\r\n", 2)
    kept = responded(b"1.0", said, fields=b"Connection: keep-alive\r\n")
    assert kept == said.head + b"Connection: keep-alive\r\n\r\nok"


def test_connection_of_http_1_0_asks_for_content_without_chunks() -> None:
    made, transport = begun(b"POST / HTTP/1.0\r\nConnection: keep-alive\r\nContent-Length: 1\r\n\r\n")
    exchange: Any = made.exchange
    made.state = WAIT
    said = response(b"Transfer-Encoding: chunked\r\nX: 1\r\n", CHUNKED)
    made.respond(said, None, said.head + b"\r\n", len(said.head) + 2, False)
    assert exchange.plain_body
    assert transport.written == b"HTTP/1.1 200 OK\r\nX: 1\r\nConnection: close\r\n\r\n"
    made.reset()
    assert transport.aborted, "an orderly end would say that the content is whole"


def test_connection_whose_body_is_cut_short_before_it_may_pass_is_a_400() -> None:
    events: list[list[Any]] = []
    made, _ = connection(events)
    made.data_received(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nabc")
    exchange: Any = made.exchange
    exchange.pending = object()
    assert made.eof_received()
    assert events[-1] == ["refuse", 400]


def test_connection_takes_no_more_early_bytes_than_it_may_keep() -> None:
    made, transport = begun(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\n")
    made.state = WAIT
    made.data_received(b"x" * MAX_EARLY)
    assert transport.reading
    made.data_received(b"x")
    assert not transport.reading
