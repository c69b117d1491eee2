"""Real clients that speak HTTP/2: curl, nghttp, h2load and Chromium, in the clear and behind TLS."""

import asyncio
import re
from pathlib import Path

import pytest

from essaim.gateway.control.supervisor import Gateway
from tests.ports import free_port

from .authority import TestAuthority, book
from .conftest import Backends, endpoint, service, table
from .test_routing import labelled
from .test_tls import router, serve
from .test_tls_clients import run

pytestmark = pytest.mark.blocking_allowed


async def test_curl_asks_by_prior_knowledge_and_by_alpn(
    secure: Gateway, ports: dict[str, int], backends: Backends, authority: TestAuthority, tmp_path: Path
) -> None:
    target, published, posts = await backends.web("app"), free_port(), free_port()
    (tmp_path / "ca.pem").write_text(authority.pem)
    await serve(secure, book(1, authority.certificate("secret open", "open.example")))
    services = [
        labelled("open", router("open", "Host(`open.example`)"), target=target),
        service("plain", published, [endpoint("t", target)], "http"),
        service("posts", posts, [endpoint("p", await backends.serve(echo_body))], "http"),
    ]
    await secure.apply(table(1, *services))
    port = ports["websecure"]

    async def curl(*options: str) -> tuple[int, str]:
        return await run("curl", "-sS", "--noproxy", "*", "-w", "%{http_version}", *options)

    clear = await curl("--http2-prior-knowledge", f"http://127.0.0.1:{published}/x?y")
    assert clear[1].startswith("app\nGET /x?y HTTP/1.1")
    assert clear[1].endswith("\n2")
    there = ("--cacert", str(tmp_path / "ca.pem"), "--resolve", f"open.example:{port}:127.0.0.1")
    code, said = await curl(*there, f"https://open.example:{port}/")
    assert (code, said.endswith("\n2")) == (0, True), said
    code, said = await curl(*there, "--http1.1", f"https://open.example:{port}/")
    assert (code, said.endswith("\n1.1")) == (0, True), said
    body = tmp_path / "body"
    body.write_bytes(b"0123456789" * 100_000)
    received = tmp_path / "received"
    code, said = await curl(
        "--http2-prior-knowledge", "-T", str(body), "-o", str(received), f"http://127.0.0.1:{posts}/"
    )
    assert (code, received.read_bytes() == body.read_bytes()) == (0, True), said


async def echo_body(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A replica that answers with the body that it was sent."""
    while head := await reader.readuntil(b"\r\n\r\n"):
        found = re.search(rb"content-length: (\d+)", head, re.IGNORECASE)
        size = int(found[1]) if found else 0
        body = await reader.readexactly(size)
        while found is None and (line := await reader.readline()) != b"0\r\n":
            body += await reader.readexactly(int(line, 16))
            await reader.readline()
        if found is None:
            await reader.readline()
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        await writer.drain()
