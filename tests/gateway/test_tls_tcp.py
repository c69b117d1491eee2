"""TCP routers at a real gateway: passed through by name, ended, in the clear; in Traefik's order with HTTP's."""

import asyncio
import contextlib
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from essaim.gateway.control.supervisor import Gateway

from .authority import TestAuthority, book, names_of
from .conftest import Backends, exchange, table
from .test_routing import TCP, labelled
from .test_tls import ask, client_hello, router, serve, trusting


def tcp(name: str, rule: str, tls: str = "", points: str = "websecure") -> dict[str, str]:
    labels = {TCP + f"{name}.rule": rule, TCP + f"{name}.entrypoints": points}
    return labels | ({TCP + f"{name}.{tls}": "true"} if tls else {})


@contextlib.asynccontextmanager
async def secure_replica(authority: TestAuthority, tmp_path: Path, *names: str) -> AsyncIterator[int]:
    """A replica that ends TLS itself: says what it is, then what it hears."""
    made = authority.certificate("", *names)
    (tmp_path / "replica.pem").write_text(made.key + made.chain)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "replica.pem")

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"replica\n")
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(65536):
                writer.write(data)
        writer.close()

    server = await asyncio.start_server(talk, "127.0.0.1", 0, ssl=context)
    yield server.sockets[0].getsockname()[1]
    server.close()


async def first_line(port: int, name: str, context: ssl.SSLContext) -> tuple[bytes, list[str]]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context, server_hostname=name)
    async with asyncio.timeout(15):
        line = await reader.readline()
    shown = names_of(writer.get_extra_info("ssl_object").getpeercert(binary_form=True))
    writer.close()
    return line, shown


async def test_connections_go_where_traefik_sends_them(
    secure: Gateway, ports: dict[str, int], backends: Backends, authority: TestAuthority, tmp_path: Path
) -> None:
    """A TCP router for the very name, an HTTP router for it, a TCP router for any name; HTTP in the clear."""
    async with secure_replica(authority, tmp_path, "pass.example", "web.example", "any.example") as replica:
        services = [
            labelled("pass", tcp("pass", "HostSNI(`pass.example`)", "tls.passthrough"), target=replica),
            labelled("ended", tcp("ended", "HostSNI(`ended.example`)", "tls"), target=await backends.echo("ended")),
            labelled("any", tcp("any", "HostSNI(`*`)", "tls.passthrough"), target=replica),
            labelled("web", router("web", "Host(`web.example`)"), target=await backends.web("web")),
        ]
        await serve(secure, book(1, authority.certificate("secret a", "ended.example", "web.example")))
        await secure.apply(table(1, *services))
        port, context = ports["websecure"], trusting(authority)
        assert await first_line(port, "pass.example", context) == (
            b"replica\n", ["pass.example", "web.example", "any.example"],
        )  # fmt: skip
        assert await first_line(port, "ended.example", context) == (b"ended\n", ["ended.example", "web.example"])
        assert (await first_line(port, "any.example", context))[0] == b"replica\n"
        told = await ask(port, "web.example", context)
        assert told.answer.startswith(b"HTTP/1.1 200 ")
        assert told.names == ["ended.example", "web.example"]
        plain = b"GET / HTTP/1.1\r\nHost: web.example\r\nConnection: close\r\n\r\n"
        assert (await exchange(port, plain)).startswith(b"HTTP/1.1 404 ")
        status = (await secure.status())["services"]
        assert [one["tcp_routers"][0]["tls"] for one in status if one["tcp_routers"]] == [
            "passthrough",
            True,
            "passthrough",
        ]


async def test_passthrough_hello_arrives_whole_however_it_was_cut(
    secure: Gateway, ports: dict[str, int], backends: Backends
) -> None:
    labels = tcp("pass", "HostSNI(`pass.example`)", "tls.passthrough")
    await secure.apply(table(1, labelled("pass", labels, target=await backends.echo("replica"))))
    hello = client_hello("pass.example")
    # In two records, a byte at a time at first, with more behind it that is not looked at.
    cut = hello[:3] + (7).to_bytes(2) + hello[5:12] + hello[:3] + (len(hello) - 12).to_bytes(2) + hello[12:]
    reader, writer = await asyncio.open_connection("127.0.0.1", ports["websecure"])
    for byte in cut[:30]:
        writer.write(bytes([byte]))
        await writer.drain()
        await asyncio.sleep(0)
    writer.write(cut[30:] + b"more")
    async with asyncio.timeout(15):
        assert await reader.readline() == b"replica\n"
        assert await reader.readexactly(len(cut) + 4) == cut + b"more"
    writer.close()


async def test_server_speaks_first_where_nothing_is_behind_tls(
    secure: Gateway, ports: dict[str, int], backends: Backends
) -> None:
    labels = tcp("mail", "HostSNI(`*`)", points="web")
    await secure.apply(table(1, labelled("mail", labels, target=await backends.echo("mail"))))
    reader, writer = await asyncio.open_connection("127.0.0.1", ports["web"])
    async with asyncio.timeout(15):
        assert await reader.readline() == b"mail\n"
    writer.close()


@pytest.mark.parametrize(
    ("data", "number"),
    [
        (b"\x16\x03\x01\x00\x04\x02\x00\x00\x00", 10),
        (b"\x16\x03\x01\x00\x00", 50),
        (b"\x16\x03\x01\x00\x06\x01\x00\x00\x02\x03\x03", 50),
    ],
)
async def test_bytes_that_are_no_hello_get_an_alert(
    secure: Gateway, ports: dict[str, int], data: bytes, number: int
) -> None:
    await secure.apply(table(1, labelled("web", router("web", "Host(`web.example`)"))))
    assert await exchange(ports["websecure"], data) == b"\x15\x03\x01\x00\x02\x02" + bytes([number])


async def test_half_close_passes_through_ended_tls(
    secure: Gateway, ports: dict[str, int], backends: Backends, authority: TestAuthority
) -> None:
    """The client's close_notify is the end of its data for the replica, which still answers."""

    async def count(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        data = await reader.read()
        writer.write(b"%d bytes" % len(data))
        writer.close()

    labels = tcp("count", "HostSNI(`count.example`)", "tls")
    await serve(secure, book(1, authority.certificate("secret a", "count.example")))
    await secure.apply(table(1, labelled("count", labels, target=await backends.serve(count))))

    answer = await asyncio.to_thread(half_closed, ports["websecure"], trusting(authority), b"x" * 300_000)
    assert answer == b"300000 bytes"


def half_closed(port: int, context: ssl.SSLContext, data: bytes) -> bytes:
    """Send, say that it was all, and read on: what Python's sockets cannot do behind TLS."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    connection = context.wrap_bio(incoming, outgoing, server_hostname="count.example")
    with socket.create_connection(("127.0.0.1", port), 15) as sock:

        def until_done(step: Callable[[], Any]) -> Any:
            while True:
                try:
                    return step()
                except ssl.SSLWantReadError:
                    sock.sendall(outgoing.read())
                    incoming.write(sock.recv(65536))

        until_done(connection.do_handshake)
        sent = 0
        while sent < len(data):
            sent += connection.write(data[sent:])
        with contextlib.suppress(ssl.SSLWantReadError):
            connection.unwrap()
        sock.sendall(outgoing.read())
        answer = b""
        with contextlib.suppress(ssl.SSLZeroReturnError):
            while True:
                answer += until_done(lambda: connection.read(65536))
        return answer


async def test_tcp_middlewares_refuse_sources_and_crowds(
    secure: Gateway, ports: dict[str, int], backends: Backends
) -> None:
    m = "traefik.tcp.middlewares."
    few = tcp("few", "HostSNI(`*`)", points="web") | {
        TCP + "few.middlewares": "two",
        m + "two.inflightconn.amount": "2",
    }
    none = tcp("none", "HostSNI(`*`)", points="websecure") | {TCP + "none.middlewares": "lan@swarm"}
    none[m + "lan.ipallowlist.sourcerange"] = "10.0.0.0/8, 192.168.0.0/16"
    services = [labelled(name, one, target=await backends.echo(name)) for name, one in (("few", few), ("none", none))]
    await secure.apply(table(1, *services))

    async def line(port: int) -> tuple[bytes, asyncio.StreamWriter]:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        async with asyncio.timeout(15):
            try:
                return await reader.readline(), writer
            except ConnectionError:
                return b"", writer

    (first, one), (second, two), (third, three) = [await line(ports["web"]) for _ in range(3)]
    assert (first, second, third) == (b"few\n", b"few\n", b"")
    one.close()
    async with asyncio.timeout(15):
        while (again := await line(ports["web"]))[0] != b"few\n":
            again[1].close()
            await asyncio.sleep(0.01)
    refused = await line(ports["websecure"])
    assert refused[0] == b""
    for writer in (two, three, again[1], refused[1]):
        writer.close()
