"""Requests and responses through the L7 plane, byte by byte, without sockets."""

import asyncio
import contextlib
import re
from itertools import pairwise

import httptools
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from essaim.gateway.codec.http1.head import FIELD, parse_request
from essaim.gateway.codec.message import CHUNKED, Refused
from essaim.gateway.http.http1.server import LAST_CALL_SECONDS

from .plane import Plane

ID = b"X-Request-Id: fixed\r\n"
REQUESTS = {
    "get": b"GET /a?b HTTP/1.1\r\nHost: a\r\n" + ID + b"\r\n",
    "post": b"POST / HTTP/1.1\r\nHost: a\r\n" + ID + b"Content-Length: 11\r\n\r\nhello world",
    "chunked": b"POST / HTTP/1.1\r\nHost: a\r\n" + ID + b"Transfer-Encoding: chunked\r\n\r\n"
    b"5;x=y\r\nhello\r\nA\r\n0123456789\r\n0\r\nX-T: 1\r\n\r\n",
    "http/1.0": b"GET / HTTP/1.0\r\n" + ID + b"\r\n",
    "empty line first": b"\r\nGET / HTTP/1.1\r\nHost: a\r\n" + ID + b"\r\n",
}
RESPONSES = {
    "length": b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nX: y\r\n\r\nhello",
    "none": b"HTTP/1.1 204 No Content\r\nConnection: keep-alive\r\n\r\n",
    "chunked": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nX-T: 1\r\n\r\n",
    "early hints": b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
    "close": b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok",
    "http/1.0": b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok",
}


def cut(data: bytes, places: list[int]) -> list[bytes]:
    """`data` in pieces, cut at the places (any order, any number, repeats)."""
    edges = sorted({place % (len(data) + 1) for place in places} | {0, len(data)})
    return [data[a:b] for a, b in pairwise(edges)]


def run(request: list[bytes], response: list[bytes]) -> tuple[bytes, bytes, bool]:
    # Trusted, so that the request's own id stays and two runs are the same.
    plane = Plane(trusted=["192.0.2.7"])
    plane.ask(*request)
    far = plane.far
    plane.answer(*response)
    return far.written, plane.near.written, plane.near.closed


CUTS = st.lists(st.integers(0, 400), max_size=12)


@pytest.mark.parametrize("asked", REQUESTS)
@pytest.mark.parametrize("answered", RESPONSES)
@given(first=CUTS, second=CUTS)
def test_plane_any_split_of_the_bytes_gives_the_same_result(
    asked: str, answered: str, first: list[int], second: list[int]
) -> None:
    request, response = REQUESTS[asked], RESPONSES[answered]
    assert run(cut(request, first), cut(response, second)) == run([request], [response])


def test_plane_every_single_split_of_a_chunked_exchange_gives_the_same_result() -> None:
    request, response = REQUESTS["chunked"], RESPONSES["chunked"]
    whole = run([request], [response])
    for place in range(1, len(request)):
        assert run(cut(request, [place]), [response]) == whole
    for place in range(1, len(response)):
        assert run([request], cut(response, [place])) == whole
    assert run([bytes([byte]) for byte in request], [bytes([byte]) for byte in response]) == whole


def test_plane_hop_by_hop_fields_are_removed_both_ways() -> None:
    plane = Plane()
    plane.ask(
        b"GET / HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, X-Hop\r\nX-Hop: 1\r\nKeep-Alive: 1\r\n"
        b"Proxy-Authorization: x\r\nTE: trailers\r\nX-Kept: 2\r\n\r\n"
    )
    sent = plane.far.written
    assert b"X-Kept: 2\r\n" in sent
    assert not re.search(rb"(?mi)^(connection|x-hop|keep-alive|proxy-authorization|te):", sent)
    plane.answer(
        b"HTTP/1.1 200 OK\r\nConnection: X-B\r\nX-B: 1\r\nKeep-Alive: 5\r\nX-C: 1\r\nContent-Length: 0\r\n\r\n"
    )
    assert plane.near.written == b"HTTP/1.1 200 OK\r\nX-C: 1\r\nContent-Length: 0\r\n\r\n"


def test_plane_spoofed_forwarding_fields_of_an_untrusted_client_are_replaced() -> None:
    plane = Plane()
    plane.ask(
        b"GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 6.6.6.6\r\nx-real-ip: 6.6.6.6\r\nForwarded: for=6.6.6.6\r\n"
        b"X_Forwarded_For: 6.6.6.6\r\nX-Forwarded-Proto: https\r\n\r\n"
    )
    sent = plane.far.written
    assert b"6.6.6.6" not in sent
    assert b"https" not in sent
    assert b"X-Forwarded-For: 192.0.2.7\r\nX-Real-IP: 192.0.2.7\r\nX-Forwarded-Proto: http\r\n" in sent
    assert b'Forwarded: for=192.0.2.7;proto=http;host="a"\r\nX-Forwarded-Host: a\r\n' in sent


def test_plane_trusted_proxys_claims_are_kept_and_extended() -> None:
    plane = Plane(trusted=["192.0.2.0/24"])
    plane.ask(b"GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 6.6.6.6\r\nX-Forwarded-Proto: https\r\n\r\n")
    assert (
        b"X-Forwarded-For: 6.6.6.6, 192.0.2.7\r\nX-Real-IP: 6.6.6.6\r\nX-Forwarded-Proto: https\r\n"
        in plane.far.written
    )


def test_plane_pipelined_requests_are_answered_in_order() -> None:
    plane = Plane()
    one, two = (b"GET /%d HTTP/1.1\r\nHost: a\r\n\r\n" % number for number in (1, 2))
    plane.ask(one + two)
    assert plane.far.written.count(b"GET ") == 1
    assert plane.connection.buffer == two


async def test_plane_pipelined_requests_of_a_client_that_has_ended_its_side_are_all_answered() -> None:
    plane = Plane()
    plane.ask(b"".join(b"GET /%d HTTP/1.1\r\nHost: a\r\n\r\n" % number for number in range(4)))
    assert plane.connection.eof_received()
    for number in range(4):
        await asyncio.sleep(0)
        assert plane.far.written.startswith(b"GET /%d " % number)
        plane.far.written = b""
        plane.answer(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n%d" % number)
    assert [part[:1] for part in plane.near.written.split(b"\r\n\r\n")[1:]] == [b"0", b"1", b"2", b"3"]
    assert plane.near.written.count(b"Connection: close") == 1
    assert plane.near.closed


async def test_plane_end_of_the_clients_side_between_two_pipelined_requests_loses_none() -> None:
    plane = Plane()
    plane.ask(b"GET /1 HTTP/1.1\r\nHost: a\r\n\r\nGET /2 HTTP/1.1\r\nHost: a\r\n\r\n")
    plane.answer(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
    assert plane.connection.eof_received()
    await asyncio.sleep(0)
    assert b"GET /2 " in plane.far.written


def test_plane_same_fields_again_are_not_taken_for_another_requests() -> None:
    """The memory of a connection's last fields must not survive a change of version, target form or fields."""
    plane = Plane()
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
    for request, expected in (
        (b"GET /1 HTTP/1.1\r\nHost: a\r\n\r\n", b"GET /1 HTTP/1.1\r\nHost: a\r\n"),
        (b"POST /2 HTTP/1.1\r\nHost: a\r\n\r\n", b"POST /2 HTTP/1.1\r\nHost: a\r\n"),
        (b"GET http://a/3 HTTP/1.1\r\nHost: a\r\n\r\n", b"GET /3 HTTP/1.1\r\nHost: a\r\n"),
        (b"GET /4 HTTP/1.1\r\nHost: b\r\n\r\n", b"GET /4 HTTP/1.1\r\nHost: b\r\n"),
    ):
        plane.far.written = b""
        plane.ask(request)
        assert plane.far.written.startswith(expected)
        plane.answer(answer)
    plane.ask(b"GET http://a/5 HTTP/1.1\r\nHost: b\r\n\r\n")
    assert b"HTTP/1.1 400 " in plane.near.written


@pytest.mark.parametrize(
    ("request_", "response", "expected"),
    [
        # RFC 9110, 9.3.2: no body after HEAD, whatever the fields say.
        (b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n", None),
        # RFC 9110, 15.4.5 and 15.3.5.
        (b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", b"HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n", None),
        (b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", b"HTTP/1.1 204 No Content\r\n\r\n", None),
        # An HTTP/1.0 client knows no chunks (RFC 9112, 7.1 and 2.6).
        (
            b"GET / HTTP/1.0\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nabc",
        ),
        (
            b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx",
            b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nConnection: keep-alive\r\n\r\nx",
        ),
    ],
)
def test_plane_framing_of_responses(request_: bytes, response: bytes, expected: bytes | None) -> None:
    plane = Plane()
    plane.ask(request_)
    plane.answer(response)
    assert plane.near.written == (response if expected is None else expected)


@pytest.mark.parametrize(
    "response",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX : 1\r\n\r\n",
        b"HTTP/1.1 2000 OK\r\n\r\n",
        b"SSH-2.0-x\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"a" * 70000,
    ],
)
def test_plane_invalid_response_is_a_502_and_ends_the_replicas_connection(response: bytes) -> None:
    plane = Plane(retries=0)
    plane.ask(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    far = plane.far
    plane.answer(response)
    assert plane.near.written.startswith(b"HTTP/1.1 502 ")
    assert far.closed


def test_plane_truncated_response_ends_the_clients_connection() -> None:
    plane = Plane()
    plane.ask(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    plane.answer(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc")
    plane.far.close()
    assert plane.near.closed


def test_plane_truncated_response_without_length_is_a_reset_and_not_an_end() -> None:
    plane = Plane()
    plane.ask(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    plane.answer(b"HTTP/1.1 200 OK\r\n\r\nabc")
    plane.upstreams[0].connection_lost(ConnectionResetError())
    assert plane.near.aborted
    whole = Plane()
    whole.ask(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    whole.answer(b"HTTP/1.1 200 OK\r\n\r\nabc")
    whole.far.close()
    assert whole.near.closed
    assert not whole.near.aborted


def test_plane_more_response_than_announced_is_cut_and_not_pooled() -> None:
    plane = Plane()
    plane.ask(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    far = plane.far
    plane.answer(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nxHTTP/1.1 200 OK\r\n\r\n")
    assert plane.near.written.endswith(b"\r\n\r\nx")
    assert far.closed
    assert plane.endpoint.idle == []


def test_plane_idle_connection_of_a_closed_socket_has_a_last_call() -> None:
    """A request may be on its way; the connection does not rest for as long as one otherwise may."""
    served, idle = Plane(), Plane()
    for plane in (served, idle):
        plane.connection.deadline = 75.0
        plane.listener.stop()
        assert plane.connection.deadline == LAST_CALL_SECONDS
    served.ask(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    served.answer(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
    assert b"\r\nConnection: close\r\n" in served.near.written
    assert served.near.closed
    idle.connection.expire()
    assert idle.near.closed


def test_plane_connection_to_a_replica_that_leaves_is_not_kept() -> None:
    plane = Plane()
    plane.ask(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    plane.endpoint.usable = False
    plane.answer(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
    assert plane.far is None
    assert not plane.endpoint.idle
    assert not plane.near.closed


def test_plane_idle_connection_that_speaks_unasked_is_closed() -> None:
    plane = Plane()
    far, upstream = plane.far, plane.upstreams[0]
    upstream.state = 0
    plane.answer(b"HTTP/1.1 408 Request Timeout\r\n\r\n")
    assert far.closed
    assert plane.endpoint.idle == []


def test_plane_idempotent_request_on_a_connection_that_was_closed_is_sent_on_another() -> None:
    plane = Plane(connections=2)
    plane.ask(b"GET /x HTTP/1.1\r\nHost: a\r\n\r\n")
    plane.far.close()
    second = plane.upstreams[1]
    assert second.transport.written.startswith(b"GET /x ")  # type: ignore[union-attr]
    second.data_received(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
    assert plane.near.written.startswith(b"HTTP/1.1 200 ")
    assert plane.endpoint.retries == 1


@pytest.mark.parametrize("begun", [b"HTTP/1.1 200 OK\r\nContent-Le", b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n"])
def test_plane_idempotent_request_whose_answer_has_begun_is_not_sent_on(begun: bytes) -> None:
    plane = Plane(connections=2)
    plane.ask(b"GET /x HTTP/1.1\r\nHost: a\r\n\r\n")
    plane.answer(begun)
    if plane.upstreams[0].transport is not None:
        plane.far.close()
    assert plane.upstreams[1].transport.written == b""  # type: ignore[union-attr]
    assert plane.near.written.startswith(b"HTTP/1.1 502 ")


async def test_plane_post_does_not_ride_on_a_connection_that_has_rested() -> None:
    """Its end may be on the way already, and what was sent could not be sent again."""
    for rested, request, rides in ((0.5, b"POST", True), (2.0, b"POST", False), (2.0, b"GET", True)):
        plane = Plane()
        plane.deadlines.now = rested
        plane.ask(request + b" /x HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx")
        assert bool(plane.far.written) == rides
        assert bool(plane.exchange.attempts) != rides
        plane.near.close()


def test_plane_post_on_a_connection_that_was_closed_is_not_sent_twice() -> None:
    plane = Plane(connections=2)
    plane.ask(b"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx")
    plane.far.close()
    assert plane.upstreams[1].transport.written == b""  # type: ignore[union-attr]
    assert plane.near.written.startswith(b"HTTP/1.1 502 ")


def test_plane_body_over_the_limit_is_refused_before_it_is_sent() -> None:
    plane = Plane(max_body=10)
    plane.ask(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 11\r\n\r\n")
    assert plane.near.written.startswith(b"HTTP/1.1 413 ")
    assert plane.far.written == b""


def test_plane_upgrade_becomes_a_tunnel() -> None:
    plane = Plane()
    plane.ask(b"GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
    far = plane.far
    assert b"Connection: upgrade\r\nUpgrade: websocket\r\n" in far.written
    far.written = b""
    plane.answer(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\nhello")
    assert plane.near.written == (
        b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\nhello"
    )
    plane.ask(b"\x81\x00", b"GET / HTTP/1.1\r\n\r\n")
    assert far.written == b"\x81\x00GET / HTTP/1.1\r\n\r\n"
    plane.answer(b"bye")
    assert plane.near.written.endswith(b"bye")


def test_plane_back_pressure_stops_the_other_side() -> None:
    plane = Plane()
    plane.ask(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    plane.answer(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nabc")
    plane.connection.pause_writing()
    assert not plane.far.reading
    plane.connection.resume_writing()
    assert plane.far.reading
    plane.upstreams[0].pause_writing()
    assert not plane.near.reading


def test_plane_body_that_comes_with_its_head_in_one_big_read_is_read_on() -> None:
    """A pooled connection takes the request at once: the client must not stay paused."""
    plane = Plane()
    plane.ask(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 200000\r\n\r\n" + b"x" * 100_000)
    assert plane.near.reading
    plane.ask(b"x" * 100_000)
    assert plane.far.written.endswith(b"\r\n\r\n" + b"x" * 200_000)


def test_plane_slow_client_at_the_end_of_a_response_does_not_hold_the_pooled_connection() -> None:
    plane = Plane()
    plane.ask(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    plane.answer(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nabc")
    plane.connection.pause_writing()
    plane.answer(b"def")
    assert plane.endpoint.idle == plane.upstreams
    assert plane.far.reading


def test_plane_client_that_takes_nothing_gets_no_further_response() -> None:
    """Else a client that pipelines requests and never reads would have any number of responses kept for it."""
    plane = Plane()
    request = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
    plane.ask(request)
    plane.connection.pause_writing()
    plane.answer(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc")
    assert not plane.near.reading
    plane.far.written = b""
    plane.connection.buffer = request
    plane.connection.resume_writing()
    assert plane.near.reading
    assert plane.far.written.startswith(b"GET / ")


@pytest.mark.parametrize(
    "rest", [b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nabc", b"GET / HTTP/1.1\r\nHo"]
)
async def test_plane_pipelined_request_that_its_client_did_not_finish_is_not_waited_for(rest: bytes) -> None:
    plane = Plane()
    plane.ask(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n" + rest)
    assert plane.connection.eof_received()
    plane.answer(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
    await asyncio.sleep(0)
    assert plane.near.closed or plane.near.ended
    assert plane.endpoint.open == 0


def test_plane_client_that_goes_away_ends_the_replicas_connection() -> None:
    plane = Plane()
    plane.ask(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    far = plane.far
    plane.near.close()
    assert far.closed
    assert plane.endpoint.open == 0


def test_plane_slow_heads_and_bodies_time_out() -> None:
    head = Plane()
    head.ask(b"GET / HTTP/1.1\r\nHo")
    head.connection.expire()
    assert head.near.written.startswith(b"HTTP/1.1 408 ")
    body = Plane()
    body.ask(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\nx")
    body.connection.expire()
    assert body.near.written.startswith(b"HTTP/1.1 408 ")
    idle = Plane()
    idle.connection.expire()
    assert idle.near.closed
    assert idle.near.written == b""
    answer = Plane()
    answer.ask(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    answer.connection.expire()
    assert answer.near.written.startswith(b"HTTP/1.1 504 ")


class Framing:
    """What httptools makes of a request: the second opinion."""

    def __init__(self) -> None:
        self.fields: list[tuple[bytes, bytes]] = []
        self.complete = False

    def on_header(self, name: bytes, value: bytes) -> None:
        self.fields.append((name.lower(), value))

    def on_message_complete(self) -> None:
        self.complete = True


WORD = st.sampled_from(
    [b"GET", b"POST", b" ", b"/", b"HTTP/1.1", b"HTTP/1.0", b"\r\n", b"\n", b"\r", b"Host", b":", b"a", b"\t", b",",
     b"Content-Length", b"Transfer-Encoding", b"chunked", b"0", b"5", b"Connection", b"close", b"\0", b"\xe9", b";"]
)  # fmt: skip


@given(st.lists(WORD, max_size=14))
def test_parser_what_is_accepted_is_accepted_by_httptools_with_the_same_framing(words: list[bytes]) -> None:
    head = b"POST / HTTP/1.1\r\nHost: a\r\nX: " + b"".join(words) + b"\r\n"
    try:
        request = parse_request(head)
    except Refused:
        return
    seen = Framing()
    parser = httptools.HttpRequestParser(seen)
    parser.feed_data(head + b"\r\n")
    assert seen.complete == (request.length == 0)
    lengths = [value for name, value in seen.fields if name == b"content-length"]
    assert (request.length == CHUNKED) == any(name == b"transfer-encoding" for name, _ in seen.fields)
    if request.length > 0:
        assert lengths == [b"%d" % request.length]


@given(st.binary(max_size=60))
def test_parser_any_bytes_are_refused_or_parsed_and_nothing_else_is_raised(data: bytes) -> None:
    for head in (data, b"GET / HTTP/1.1\r\nHost: a\r\n" + data + b"\r\n", b"GET " + data + b" HTTP/1.1\r\nHost: a\r\n"):
        with contextlib.suppress(Refused):
            parse_request(head)


VALUES = st.one_of(
    st.binary(max_size=20), st.sampled_from([b" a=1", b"\t\x80\xff", b"a\rb", b"a\nb", b"a\0", b"\x7f", b""])
)


@given(
    st.sampled_from([b"Cookie", b"Cookie ", b"cookie", b"Coo\xffkie", b""]), st.sampled_from([b":", b"", b"::"]), VALUES
)
def test_parser_lines_of_a_name_that_was_seen_before_are_judged_by_the_grammar_too(
    name: bytes, colon: bytes, value: bytes
) -> None:
    """Cookies are new each time: only their characters are looked at once the name has been."""
    line = name + colon + value
    assume(b"\r\n" not in line)
    parse_request(b"GET / HTTP/1.1\r\nHost: a\r\nCookie: seen\r\n")
    head = b"GET / HTTP/1.1\r\nHost: a\r\n" + line + b"\r\n"
    if not FIELD.fullmatch(line):
        with pytest.raises(Refused):
            parse_request(head)
    else:
        assert parse_request(head).fields == b"Host: a\r\n" + line + b"\r\n"
