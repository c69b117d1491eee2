"""The PROXY protocol: what is written is read back, at any split; what is not valid is refused."""

import asyncio
import contextlib
import ipaddress
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from essaim.gateway.control.supervisor import Gateway
from essaim.gateway.tcp.proxy_protocol import SIGNATURE, BadHeader, header, read_header
from tests.ports import free_port

from .conftest import Backends, endpoint, service, table

ADDRESSES = st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6)).map(str)
PORT = st.integers(0, 65535)


@given(ADDRESSES, ADDRESSES, PORT, PORT, st.sampled_from(["v1", "v2"]), st.binary(max_size=8))
def test_header_is_read_back(source: str, destination: str, port: int, other: int, version: str, rest: bytes) -> None:
    data = header(version, (source, port), (destination, other))
    found = read_header(data + rest)
    assert found is not None
    length, peer = found
    assert length == len(data)
    assert peer is not None
    assert peer[1] == port
    for end in range(len(data)):
        assert read_header(data[:end]) is None


def test_header_of_an_ipv4_client_of_a_dual_stack_socket_is_tcp4() -> None:
    data = header("v1", ("::ffff:192.0.2.1", 5, 0, 0), ("::ffff:192.0.2.2", 80, 0, 0))
    assert data == b"PROXY TCP4 192.0.2.1 192.0.2.2 5 80\r\n"


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\n",
        b"PROXY TCP4 300.0.0.1 1.1.1.1 1 2\r\n",
        b"PROXY TCP6 1.1.1.1 1.1.1.1 1 2\r\n",
        b"PROXY TCP4 1.1.1.1 1.1.1.1 1 99999999 \r\n",
        b"PROXY TCP4 1.1.1.1 1.1.1.1 70000 2\r\n",
        b"PROXY " + b"x" * 200,
        b"\r\n\r\n\x00\r\nQUIT\n\x31\x11\x00\x0c" + b"\0" * 12,
        b"\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x04" + b"\0" * 4,
    ],
)
def test_header_that_is_not_valid_is_refused(data: bytes) -> None:
    with pytest.raises(BadHeader):
        read_header(data)


@given(st.binary(max_size=120))
def test_any_bytes_are_refused_read_or_awaited(data: bytes) -> None:
    for start in (b"", b"PROXY TCP4 ", b"\r\n\r\n\x00\r\nQUIT\n\x21\x11"):
        try:
            read_header(start + data)
        except BadHeader:
            continue


def test_header_with_a_mapped_address_names_an_ipv4_client() -> None:
    """As HAProxy sends it for an IPv4 client of a socket for both."""
    line = b"PROXY TCP6 ::ffff:198.51.100.9 ::ffff:192.0.2.1 4711 80\r\n"
    assert read_header(line) == (len(line), ("198.51.100.9", 4711))
    ip = ipaddress.ip_address
    addresses = ip("::ffff:198.51.100.9").packed + ip("::ffff:192.0.2.1").packed + struct.pack(">HH", 4711, 80)
    data = SIGNATURE + b"\x21\x21" + struct.pack(">H", len(addresses)) + addresses
    assert read_header(data) == (len(data), ("198.51.100.9", 4711))


async def test_gateway_hands_a_trusted_proxys_client_on_to_backends(gateway: Gateway, backends: Backends) -> None:
    """In by v2, out by v1 at layer 4; in by v1, out as fields at layer 7."""
    raw, web = free_port(), free_port()
    accept = {"essaim.proxyprotocol.accept": "true", "essaim.trusted": "127.0.0.0/8"}
    heard: asyncio.Queue[bytes] = asyncio.Queue()

    async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard.put_nowait(await reader.readline())
        writer.close()

    await gateway.apply(
        table(
            1,
            service(
                "raw",
                raw,
                [endpoint("r", await backends.serve(listen))],
                labels={**accept, "essaim.proxyprotocol": "v1"},
            ),
            service("web", web, [endpoint("w", await backends.web("w"))], "http", labels=accept),
        )
    )
    _, writer = await asyncio.open_connection("127.0.0.1", raw)
    writer.write(header("v2", ("198.51.100.9", 4711), ("192.0.2.1", 80)))
    async with asyncio.timeout(20):
        said = b""
        while not said:
            # The active check's connections say nothing.
            said = await heard.get()
    assert said.startswith(b"PROXY TCP4 198.51.100.9 127.0.0.1 4711 ")
    writer.close()
    reader, writer = await asyncio.open_connection("127.0.0.1", web)
    writer.write(header("v1", ("198.51.100.9", 4711), ("192.0.2.1", 80)))
    writer.write(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
    async with asyncio.timeout(20):
        assert b"X-Forwarded-For: 198.51.100.9\r\n" in await reader.read()
    writer.close()
    # A trusted source that sends no header is cut off.
    reader, writer = await asyncio.open_connection("127.0.0.1", web)
    writer.write(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    async with asyncio.timeout(20):
        with contextlib.suppress(ConnectionResetError):
            assert await reader.read() == b""
    writer.close()
