"""What sloppy replicas send is passed on where it can mean one thing only, and answered for at once where it cannot."""

import asyncio

import pytest

from essaim.gateway.codec.http1.chunked import ChunkReader
from essaim.gateway.codec.http1.head import parse_request, parse_response
from essaim.gateway.codec.message import Refused
from essaim.gateway.control.supervisor import Gateway
from essaim.gateway.health.check import check
from essaim.gateway.protocol.options import HealthOptions
from tests.ports import free_port

from .conftest import Backends, endpoint, exchange, service, table


@pytest.mark.parametrize("upgrade", ["h2c", "h2", "TLS/1.0", "HTTP/2.0", "websocket, h2c", "x"])
def test_upgrade_to_what_would_pass_by_the_rules_is_not_asked_of_a_replica(upgrade: str) -> None:
    fields = f"Host: a\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: {upgrade}\r\nHTTP2-Settings: AA\r\n"
    request = parse_request(f"GET / HTTP/1.1\r\n{fields}".encode())
    assert request.upgrade == b""
    assert request.fields == b"Host: a\r\n"


@pytest.mark.parametrize("upgrade", ["websocket", "WebSocket", "tcp", "SPDY/3.1"])
def test_upgrade_that_is_known_is_passed_on(upgrade: str) -> None:
    head = f"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: {upgrade}\r\n"
    assert parse_request(head.encode()).upgrade == upgrade.encode()


def test_length_that_a_replica_says_twice_is_said_once() -> None:
    found = parse_response(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX-A: 1\r\ncontent-length: 2\r\n")
    assert found.length == 2
    assert found.head.lower().count(b"content-length") == 1
    assert b"X-A: 1\r\n" in found.head
    with pytest.raises(Refused):
        parse_response(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n")
    with pytest.raises(Refused):
        parse_request(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nContent-Length: 2\r\n")


def test_chunk_size_may_be_padded_by_a_replica_and_not_by_a_client() -> None:
    body = b"2  \r\nok\r\n0\t\r\n\r\n"
    reader = ChunkReader(502)
    assert (reader.feed(body), reader.done) == (len(body), True)
    with pytest.raises(Refused):
        ChunkReader().feed(body)
    for odd in (b" 2\r\n", b"2 2\r\n", b"2\n", b"\r\n", b"2 \x00\r\n"):
        with pytest.raises(Refused):
            ChunkReader(502).feed(odd)


@pytest.mark.parametrize("status", [600, 999])
def test_status_beyond_the_classes_is_passed_on(status: int) -> None:
    assert parse_response(b"HTTP/1.1 %d Denied\r\nContent-Length: 0\r\n" % status).status == status


async def test_replica_that_ends_lines_with_lf_alone_is_answered_for_at_once(
    gateway: Gateway, backends: Backends
) -> None:
    async def sloppy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\nContent-Length: 3\n\nok\n")
        await reader.read()

    port = free_port()
    await gateway.apply(table(1, service("web", port, [endpoint("w", await backends.serve(sloppy))], "http")))
    answer = await exchange(port, b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 502 ")
    assert b"ends its lines with LF alone" in answer


@pytest.mark.parametrize(("pieces", "passes"), [([b"he", b"llo wor", b"ld"], True), ([b"hello", b" there"], False)])
async def test_check_finds_text_in_a_body_in_pieces(backends: Backends, pieces: list[bytes], passes: bool) -> None:
    async def slow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")
        for piece in pieces:
            await writer.drain()
            await asyncio.sleep(0)
            writer.write(piece)
        writer.close()

    port = await backends.serve(slow)
    found = await check(HealthOptions(kind="http", body="llo world", timeout=10.0), "127.0.0.1", port)
    assert (found is None) is passes


@pytest.mark.parametrize(
    ("target", "seen"),
    [
        ("/\u00e9?q=\u00fc", b"/%C3%A9?q=%C3%BC"),
        ("/a", b"/a"),
        ("http://a/\u00e9", b"/%C3%A9"),
        ("/\U0001f600", b"/%F0%9F%98%80"),
    ],
)
def test_target_beyond_ascii_is_percent_encoded(target: str, seen: bytes) -> None:
    request = parse_request(f"GET {target} HTTP/1.1\r\nHost: a\r\n".encode())
    assert (request.method, request.target, request.host) == (b"GET", seen, b"a")


@pytest.mark.parametrize(
    "line", [b"G\xc3\xa9T / HTTP/1.1", b"GET / HTTP/1.\xb1", b"GET /\xc3\xa9 x HTTP/1.1", b"GET \xff HTTP/1.1", b"\xff"]
)
def test_request_line_beyond_ascii_elsewhere_is_refused(line: bytes) -> None:
    with pytest.raises(Refused):
        parse_request(line + b"\r\nHost: a\r\n")


async def test_target_beyond_ascii_reaches_the_replica_encoded_on_a_kept_connection(
    gateway: Gateway, backends: Backends
) -> None:
    port = free_port()
    await gateway.apply(table(1, service("web", port, [endpoint("w", await backends.web("w"))], "http")))
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for target, seen in (("/\u00e9", b"GET /%C3%A9 "), ("/a", b"GET /a "), ("/\u00fc", b"GET /%C3%BC ")):
        writer.write(f"GET {target} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 ")
        body = await reader.readuntil(b"\r\n\r\n")
        assert seen in body
    writer.close()
