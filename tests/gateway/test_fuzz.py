"""A whole client connection under bytes that no client would send: no exception, valid answers or the end, bounded
memory, and nothing left behind."""

import asyncio
import re
from itertools import pairwise
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from essaim.gateway.http.http1.reader import MAX_HEAD
from essaim.gateway.http.http1.server import HEAD, MAX_EARLY, ServerConnection
from essaim.gateway.routing.middlewares.build import InFlightReq, make_middleware
from essaim.gateway.routing.router import Route, Router
from essaim.gateway.routing.rules import parse_rule

from .plane import Plane

SEEDS = [
    b"GET /a?b=1 HTTP/1.1\r\nHost: a\r\nX-A: 1\r\n\r\n",
    b"HEAD /strip/x HTTP/1.1\r\nHost: a.example:80\r\nConnection: close, x\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello",
    b"PUT /%2e%2e/ HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5;x=y\r\nhello\r\n0\r\nT: v\r\n\r\n",
    b"GET http://a/ HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n",
    b"OPTIONS * HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 0\r\n\r\n",
    b"GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
]
WORDS = [
    b"\r\n", b"\r", b"\n", b"\0", b" ", b":", b"0\r\n\r\n", b"ffffffffffffffffff\r\n", b"Content-Length: 3\r\n",
    b"Transfer-Encoding: chunked\r\n", b"Host: b\r\n", b"\r\n\r\n", b"\xff\xfe", b"A" * 9_000, b"X: " + b"y" * 40_000,
    b"Content-Length: -1\r\n", b"HTTP/1.1", b"HTTP/9.9", b"%00", b"/../..", b"[::1]",
]  # fmt: skip
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
RESPONSES = [
    ANSWER,
    b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nT: v\r\n\r\n",
    b"HTTP/1.0 200 OK\r\n\r\nuntil the end",
    b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: tcp\r\n\r\nraw",
]


@st.composite
def mutated(draw: st.DrawFn, seeds: list[bytes]) -> bytes:
    """Good messages one after the other, with pieces cut out, put in or overwritten."""
    data = b"".join(draw(st.lists(st.sampled_from(seeds), min_size=1, max_size=5)))
    for _ in range(draw(st.integers(0, 4))):
        at = draw(st.integers(0, len(data)))
        cut = draw(st.sampled_from([0, 0, 1, 2, 7]))
        data = data[:at] + draw(st.one_of(st.sampled_from(WORDS), st.binary(max_size=4))) + data[at + cut :]
    return data


def split(data: bytes, cuts: list[int]) -> list[bytes]:
    places = sorted({cut % (len(data) + 1) for cut in cuts} | {0, len(data)})
    return [data[start:end] for start, end in pairwise(places)]


def responses(written: bytes) -> list[int]:
    """The statuses of what a client was sent; fails on anything that is not a whole response."""
    found = []
    while written:
        head = re.match(rb"HTTP/1\.1 (\d{3}) [^\r\n]*\r\n(?:[^\r\n]+\r\n)*\r\n", written)
        assert head, written[:200]
        length = re.search(rb"\r\ncontent-length: (\d+)\r\n", head[0].lower())
        written = written[head.end() :]
        found.append(int(head[1]))
        # An answer to HEAD has a length and no body; no body here begins like a response.
        if length and written and not written.startswith(b"HTTP/1.1 "):
            assert len(written) >= int(length[1])
            written = written[int(length[1]) :]
    return found


def routed(plane: Plane) -> InFlightReq:
    """Send the plane's requests through a router with middlewares; returns the one that counts."""
    counting = InFlightReq({"amount": "100"})
    chain = (counting, make_middleware("stripprefix", {"prefixes": "/strip"}),
             make_middleware("headers", {"customresponseheaders.X-R": "1"}))  # fmt: skip
    router = Router()
    router.add(Route("r", parse_rule("PathPrefix(`/`) && !Header(`X-A`, `2`)"), 1, "p", chain))
    plane.listener.router, plane.listener.backends = router, {"p": plane.backend}
    return counting


async def drive(pieces: list[bytes], early: bool, through_router: bool) -> None:
    errors: list[dict[str, Any]] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: errors.append(context))
    plane = Plane(connections=40)
    counting = routed(plane) if through_router else None
    connection: ServerConnection = plane.connection
    for piece in pieces:
        if plane.near.closed or plane.near.ended or not plane.near.reading:
            break
        plane.ask(piece)
        for _ in range(40):
            upstream = plane.exchange and plane.exchange.upstream
            if upstream is not None and upstream.transport and (early or plane.exchange.request_done):
                upstream.data_received(ANSWER)
            await asyncio.sleep(0)
            if plane.exchange is not None and plane.exchange.upstream is not None:
                continue
            if not (connection.state == HEAD and b"\r\n\r\n" in connection.buffer):
                break
        kept = len(connection.buffer) + (len(plane.exchange.out) if plane.exchange is not None else 0)
        assert kept <= MAX_EARLY + 2 * MAX_HEAD + 2 * len(piece)
    for _ in range(4):
        plane.deadlines.now += 100_000
        if not plane.near.closed:
            connection.expire()
    assert plane.near.closed
    assert not errors
    assert connection not in plane.deadlines.members
    assert plane.endpoint.open == 0
    assert counting is None or counting.in_progress == 0
    responses(plane.near.written)


CUTS = st.lists(st.integers(0, 100_000), max_size=8)


@settings(max_examples=300)
@given(st.one_of(mutated(SEEDS), st.binary(max_size=300)), CUTS, st.booleans(), st.booleans())
def test_client_connection_any_bytes_in_any_pieces_are_answered_or_ended(
    data: bytes, cuts: list[int], early: bool, through_router: bool
) -> None:
    with asyncio.Runner() as runner:
        runner.run(drive(split(data, cuts), early, through_router))


@settings(max_examples=300)
@given(st.one_of(mutated(RESPONSES), st.binary(max_size=200)), CUTS, st.sampled_from(SEEDS[:5]), st.booleans())
def test_replicas_connection_any_bytes_in_any_pieces_end_in_a_response_or_the_end(
    data: bytes, cuts: list[int], request: bytes, through_router: bool
) -> None:
    plane = Plane(retries=0)
    counting = routed(plane) if through_router else None
    plane.ask(request)
    plane.answer(*split(data, cuts))
    if plane.upstreams[0].transport is not None:
        plane.upstreams[0].transport.close()
    written = plane.near.written
    assert not written or written.startswith(b"HTTP/1.1 ")
    assert len(written) <= len(data) + 500
    assert plane.exchange is None or plane.exchange.upstream is None
    assert plane.endpoint.open == 0
    assert counting is None or counting.in_progress == 0
