"""HTTP/2 from clients to replicas of HTTP/1.1: what the replica is sent, and what the client gets; the client is the
library h2, which checks what it is sent."""

from typing import Any

import h2.config
import h2.connection
import h2.events
import pytest
from h2.errors import ErrorCodes

from essaim.gateway.http.http2.receiver import MAX_STREAMS
from essaim.gateway.http.http2.server import LAST_CALL_SECONDS, LAST_PING
from essaim.gateway.http.http2.stream import MAX_WAITING, WINDOW
from essaim.gateway.http.timeouts import STALLED_SECONDS

from .http2_rows import GET, POST, headers, raw, settings
from .multiplexed import HEAD, Multiplexed

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nX-A: b\r\n\r\nhello"
POSTED = [(":method", "POST"), *HEAD[1:]]


def of(events: list[h2.events.Event], kind: type) -> list[Any]:
    return [event for event in events if isinstance(event, kind)]


def received(events: list[h2.events.Event]) -> bytes:
    return b"".join(event.data for event in of(events, h2.events.DataReceived))


async def test_request_is_answered() -> None:
    plane = Multiplexed()
    plane.request(accept="*/*", cookie="a=b")
    head = plane.asked.split(b"\r\n")
    assert head[:3] == [b"GET / HTTP/1.1", b"Host: a.example", b"accept: */*"]
    assert b"Cookie: a=b" in head
    assert b"X-Forwarded-For: 192.0.2.7" in head
    plane.answer(ANSWER)
    events = plane.exchange_bytes()
    said = dict(of(events, h2.events.ResponseReceived)[0].headers)
    assert said == {":status": "200", "content-length": "5", "x-a": "b"}
    assert received(events) == b"hello"
    assert of(events, h2.events.StreamEnded)
    assert plane.http2.spare() == 1


async def test_cookies_of_several_fields_are_one_field_for_the_replica() -> None:
    plane = Multiplexed()
    plane.request(head=[*HEAD, ("cookie", "a=b"), ("cookie", "c=d"), ("cookie", "e=f")])
    assert b"\r\nCookie: a=b; c=d; e=f\r\n" in plane.asked
    assert plane.asked.count(b"ookie") == 1


async def test_body_of_known_length_passes_as_it_is() -> None:
    plane = Multiplexed()
    plane.request(head=[*POSTED, ("content-length", "5")], body=b"hello")
    assert plane.asked.endswith(b"\r\n\r\nhello")
    assert b"chunked" not in plane.asked


async def test_body_of_unknown_length_is_chunked_for_the_replica_with_its_trailers() -> None:
    plane = Multiplexed()
    number = plane.client.get_next_available_stream_id()
    plane.client.send_headers(number, POSTED)
    plane.client.send_data(number, b"hello")
    plane.exchange_bytes()
    plane.client.send_data(number, b", world")
    plane.client.send_headers(number, [("x-sum", "12")], end_stream=True)
    plane.exchange_bytes()
    assert b"\r\nTransfer-Encoding: chunked\r\n" in plane.asked
    assert plane.asked.endswith(b"\r\n\r\n5\r\nhello\r\n7\r\n, world\r\n0\r\nx-sum: 12\r\n\r\n")


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH"])
async def test_request_that_could_have_content_says_that_it_has_none(method: str) -> None:
    plane = Multiplexed()
    plane.request(head=[(":method", method), *HEAD[1:]])
    assert b"\r\nContent-Length: 0\r\n" in plane.asked


async def test_chunked_response_comes_without_chunks_and_with_its_trailers() -> None:
    plane = Multiplexed()
    plane.request(te="trailers")
    plane.answer(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n5\r\nhel")
    plane.answer(b"lo\r\n", b"1;x=y\r\n!\r\n0\r\nX-Sum: 6\r\n\r\n")
    events = plane.exchange_bytes()
    assert "transfer-encoding" not in dict(of(events, h2.events.ResponseReceived)[0].headers)
    assert received(events) == b"hello!"
    assert of(events, h2.events.TrailersReceived)[0].headers == [("x-sum", "6")]
    assert of(events, h2.events.StreamEnded)


async def test_response_until_the_end_of_the_connection_ends_its_stream_alone() -> None:
    plane = Multiplexed(connections=2)
    plane.request()
    plane.answer(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nsome")
    plane.answer(b"thing")
    plane.upstreams[0].transport.close()  # type: ignore[union-attr]
    events = plane.exchange_bytes()
    assert received(events) == b"something"
    assert of(events, h2.events.StreamEnded)
    assert not plane.near.closed


async def test_response_that_breaks_off_resets_its_stream_alone() -> None:
    plane = Multiplexed()
    plane.request()
    plane.answer(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nsome")
    plane.upstreams[0].transport.close()  # type: ignore[union-attr]
    events = plane.exchange_bytes()
    assert of(events, h2.events.StreamReset)[0].error_code == ErrorCodes.INTERNAL_ERROR
    assert not plane.near.closed


async def test_head_request_and_304_have_no_data() -> None:
    plane = Multiplexed()
    plane.request(head=[(":method", "HEAD"), *HEAD[1:]])
    plane.answer(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n")
    events = plane.exchange_bytes()
    assert dict(of(events, h2.events.ResponseReceived)[0].headers)["content-length"] == "5"
    assert of(events, h2.events.StreamEnded)
    plane.request(if_none_match="x")
    plane.answer(b"HTTP/1.1 304 Not Modified\r\nETag: x\r\n\r\n")
    assert of(plane.exchange_bytes(), h2.events.StreamEnded)


async def test_informational_answers_come_before_the_response() -> None:
    plane = Multiplexed()
    plane.request()
    plane.answer(b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n", ANSWER)
    events = plane.exchange_bytes()
    assert dict(of(events, h2.events.InformationalResponseReceived)[0].headers) == {":status": "103", "link": "</a>"}
    assert received(events) == b"hello"


async def test_response_before_the_request_is_complete_ends_the_request() -> None:
    """RFC 9113, 8.1: the rest of the body is not wanted, and that is no error."""
    plane = Multiplexed()
    number = plane.client.get_next_available_stream_id()
    plane.client.send_headers(number, POSTED)
    plane.client.send_data(number, b"some")
    plane.exchange_bytes()
    plane.answer(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno")
    events = plane.exchange_bytes()
    assert received(events) == b"no"
    assert of(events, h2.events.StreamReset)[0].error_code == ErrorCodes.NO_ERROR
    # What was on its way is no fault.
    plane.send(raw(0, 0, number, b"more"))
    assert not plane.exchange_bytes()
    assert not plane.near.ended


async def test_client_that_resets_its_request_frees_the_replica() -> None:
    plane = Multiplexed()
    number = plane.request()
    plane.client.reset_stream(number, ErrorCodes.CANCEL)
    plane.exchange_bytes()
    assert plane.far is None
    assert plane.endpoint.open == 0
    assert plane.http2.spare() == 1


async def test_streams_share_a_connection_and_are_answered_in_any_order() -> None:
    plane = Multiplexed(connections=2)
    first, second = plane.request(x="1"), plane.request(x="2")
    by_stream = [upstream for upstream in plane.upstreams if upstream.client is not None]
    order = sorted(by_stream, key=lambda upstream: b"x: 1" in upstream.transport.written)  # type: ignore[union-attr]
    for upstream in order:
        upstream.data_received(ANSWER)
    ended = of(plane.exchange_bytes(), h2.events.StreamEnded)
    assert [event.stream_id for event in ended] == [second, first]


async def test_refused_requests_are_answered_on_their_stream_and_others_go_on() -> None:
    plane = Multiplexed(connections=2)
    number = plane.request()
    plane.request(expect="the impossible")
    events = plane.exchange_bytes() or plane.events
    assert dict(of(events, h2.events.ResponseReceived)[0].headers)[":status"] == "417"
    plane.answer(ANSWER)
    assert of(plane.exchange_bytes(), h2.events.StreamEnded)[0].stream_id == number


async def test_fields_beyond_the_limit_are_answered_with_431() -> None:
    plane = Multiplexed(raw=True)
    plane.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + settings())
    # An entry of 4,000 bytes, then many references to it (an HPACK bomb).
    block = headers(GET)[9:] + b"\x40\x01x\x7f\xa1\x1e" + b"y" * 4000 + b"\xbe" * 10_000
    plane.send(raw(1, 5, 1, block))
    client = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True, header_encoding="utf-8"))
    client.initiate_connection()
    client.get_next_available_stream_id()
    client.send_headers(1, HEAD, end_stream=True)
    events = client.receive_data(plane.written)
    assert dict(of(events, h2.events.ResponseReceived)[0].headers)[":status"] == "431"
    assert not plane.near.ended


# -- windows ---------------------------------------------------------------------------------------------------------


async def test_large_response_waits_for_the_clients_windows_and_the_replica_waits_too() -> None:
    plane = Multiplexed()
    plane.request()
    size = 1 << 20
    plane.answer(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size)
    sent = 0
    while plane.far.reading and sent < size:
        plane.answer(bytes(16 << 10))
        sent += 16 << 10
    # 65,535 bytes were let through, and MAX_WAITING wait.
    assert 65_535 + MAX_WAITING < sent < 65_535 + MAX_WAITING + (32 << 10)
    got = 0
    for _ in range(1000):
        events = plane.client.receive_data(plane.written)
        plane.written = b""
        for event in of(events, h2.events.DataReceived):
            got += len(event.data)
            plane.client.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        plane.send(plane.client.data_to_send())
        while plane.far.reading and sent < size:
            plane.answer(bytes(16 << 10))
            sent += 16 << 10
        if got == size:
            break
    assert (got, sent) == (size, size)
    plane.exchange_bytes()
    assert plane.http2.spare() == 1


async def test_request_that_the_replica_does_not_take_is_not_let_in() -> None:
    plane = Multiplexed()
    number = plane.client.get_next_available_stream_id()
    plane.client.send_headers(number, POSTED)
    plane.exchange_bytes()
    assert plane.client.local_flow_control_window(number) == WINDOW
    plane.upstreams[0].pause_writing()
    while (room := plane.client.local_flow_control_window(number)) > 0:
        plane.client.send_data(number, bytes(min(room, 16_384)))
        plane.exchange_bytes()
    assert plane.client.local_flow_control_window(number) == 0
    plane.upstreams[0].resume_writing()
    plane.exchange_bytes()
    assert plane.client.local_flow_control_window(number) == WINDOW


async def test_bodies_longer_than_the_windows_pass_when_the_replica_takes_them() -> None:
    plane = Multiplexed()
    for _ in range(20):
        number = plane.client.get_next_available_stream_id()
        plane.client.send_headers(number, [*POSTED, ("content-length", str(200_000))])
        left = 200_000
        while left:
            piece = min(left, 16_384, plane.client.local_flow_control_window(number))
            assert piece > 0
            plane.client.send_data(number, bytes(piece), end_stream=piece == left)
            plane.exchange_bytes()
            left -= piece
        plane.answer(ANSWER)
        assert received(plane.exchange_bytes()) == b"hello"


async def test_urgent_response_goes_before_others_when_the_connection_has_no_room() -> None:
    plane = Multiplexed(connections=3)
    numbers = [plane.request(priority=value) for value in ("u=5", "u=1", "u=3, i")]
    for upstream in plane.upstreams:
        upstream.data_received(b"HTTP/1.1 200 OK\r\nContent-Length: 60000\r\n\r\n" + bytes(60_000))
    events = plane.client.receive_data(plane.written)
    plane.written = b""
    finished = [event.stream_id for event in of(events, h2.events.StreamEnded)]
    # The connection's window of 65,535 bytes was taken by whichever came first.
    assert len(finished) == 1
    order: list[int] = []
    while len(order) < 2:
        for event in of(events, h2.events.DataReceived):
            plane.client.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        plane.send(plane.client.data_to_send())
        events = plane.client.receive_data(plane.written)
        plane.written = b""
        order += [event.stream_id for event in of(events, h2.events.StreamEnded)]
    left = [number for number in (numbers[1], numbers[2], numbers[0]) if number not in finished]
    assert order == left


# -- time-outs and ends ----------------------------------------------------------------------------------------------


def pass_time(plane: Multiplexed, seconds: float) -> None:
    plane.deadlines.now += seconds
    if plane.http2.deadline <= plane.deadlines.now:
        plane.http2.expire()


async def test_connection_at_rest_is_ended_in_order() -> None:
    plane = Multiplexed()
    plane.request()
    plane.answer(ANSWER)
    plane.exchange_bytes()
    pass_time(plane, plane.options.keepalive_timeout - 1)
    assert not plane.near.ended
    pass_time(plane, 2)
    assert of(plane.exchange_bytes(), h2.events.ConnectionTerminated)[0].error_code == 0
    assert plane.near.ended


async def test_replica_that_does_not_answer_in_time_is_answered_for() -> None:
    plane = Multiplexed(response_timeout=5.0)
    plane.request()
    pass_time(plane, 6)
    events = plane.exchange_bytes()
    assert dict(of(events, h2.events.ResponseReceived)[0].headers)[":status"] == "504"
    assert not plane.near.ended


async def test_client_that_opens_no_window_loses_its_stream() -> None:
    plane = Multiplexed()
    plane.request()
    plane.answer(b"HTTP/1.1 200 OK\r\nContent-Length: 80000\r\n\r\n" + bytes(80_000))
    assert plane.http2.spare() is None
    pass_time(plane, STALLED_SECONDS + 1)
    pass_time(plane, STALLED_SECONDS + 1)
    plane.client.receive_data(plane.written[: -(9 + 4)])
    assert plane.written[-13:] == raw(3, 0, 1, (8).to_bytes(4, "big"))
    assert plane.http2.spare() == 1


async def test_frame_that_does_not_end_in_time_ends_the_connection() -> None:
    plane = Multiplexed(header_timeout=5.0)
    plane.send(b"\x00\x00\x10\x01\x05\x00\x00")
    pass_time(plane, 6)
    assert plane.near.aborted


async def test_frames_that_go_on_are_not_taken_for_one_that_does_not_end() -> None:
    plane = Multiplexed(header_timeout=5.0)
    number = plane.client.get_next_available_stream_id()
    plane.client.send_headers(number, POSTED)
    plane.exchange_bytes()
    for _ in range(10):
        plane.client.send_data(number, b"some of it")
        data = plane.client.data_to_send()
        # Always the end of one frame and the beginning of the next.
        plane.send(data + b"\x00\x00")
        pass_time(plane, 2)
        assert not plane.near.closed
        plane.http2._reader._buffer = b""


async def test_stopped_connection_serves_what_is_open_and_what_is_on_its_way() -> None:
    plane = Multiplexed(connections=2)
    plane.request()
    plane.http2.stop()
    assert plane.written.startswith(raw(7, 0, 0, b"\x7f\xff\xff\xff" + bytes(4)) + raw(6, 0, 0, LAST_PING))
    # The client did not know yet; then it answers the PING, and is told the last stream.
    plane.send(headers(GET, 3) + raw(6, 1, 0, LAST_PING))
    assert raw(7, 0, 0, (3).to_bytes(4, "big") + bytes(4)) in plane.written
    assert not plane.near.ended
    for upstream in plane.upstreams:
        upstream.data_received(ANSWER)
    assert plane.written.count(b"hello") == 2
    assert plane.near.ended


async def test_stopped_connection_of_a_client_that_answers_no_ping_ends_as_well() -> None:
    plane = Multiplexed()
    plane.http2.stop()
    assert not plane.near.ended
    plane.http2._last_call()
    assert plane.near.ended
    assert LAST_CALL_SECONDS < STALLED_SECONDS


async def test_streams_beyond_the_limit_are_refused_and_may_be_asked_again() -> None:
    plane = Multiplexed(connections=MAX_STREAMS)
    plane.send(b"".join(headers(POST, 1 + 2 * number, end=False) for number in range(MAX_STREAMS + 1)))
    last = 1 + 2 * MAX_STREAMS
    assert raw(3, 0, last, (7).to_bytes(4, "big")) in plane.written
    assert not plane.near.ended


# -- WebSockets ------------------------------------------------------------------------------------------------------

CONNECT = [
    (":method", "CONNECT"), (":protocol", "websocket"), (":scheme", "http"), (":authority", "a.example"),
    (":path", "/chat"), ("sec-websocket-version", "13"),
]  # fmt: skip


async def test_websocket_is_a_tunnel_on_its_stream() -> None:
    plane = Multiplexed()
    assert plane.client.remote_settings.enable_connect_protocol
    number = plane.client.get_next_available_stream_id()
    plane.client.send_headers(number, CONNECT)
    plane.exchange_bytes()
    head = plane.asked
    assert head.startswith(b"GET /chat HTTP/1.1\r\nHost: a.example\r\n")
    for line in (b"Connection: upgrade", b"Upgrade: websocket", b"sec-websocket-version: 13", b"Sec-WebSocket-Key: "):
        assert head.count(line) == 1
    plane.answer(
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: x\r\nSec-WebSocket-Protocol: chat\r\n\r\nfirst"
    )
    events = plane.exchange_bytes()
    assert dict(of(events, h2.events.ResponseReceived)[0].headers) == {
        ":status": "200",
        "sec-websocket-protocol": "chat",
    }
    assert received(events) == b"first"
    plane.client.send_data(number, b"ping")
    plane.exchange_bytes()
    assert plane.asked.endswith(b"\r\n\r\nping")
    plane.answer(b"pong")
    assert received(plane.exchange_bytes()) == b"pong"
    plane.client.end_stream(number)
    plane.exchange_bytes()
    assert plane.far.ended
    plane.upstreams[0].eof_received()
    assert of(plane.exchange_bytes(), h2.events.StreamEnded)
    assert plane.http2.spare() == 1


async def test_websocket_that_the_replica_refuses_is_a_response() -> None:
    plane = Multiplexed()
    number = plane.client.get_next_available_stream_id()
    plane.client.send_headers(number, CONNECT)
    plane.exchange_bytes()
    plane.answer(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno")
    events = plane.exchange_bytes()
    assert dict(of(events, h2.events.ResponseReceived)[0].headers)[":status"] == "403"
    assert plane.http2.spare() == 1
