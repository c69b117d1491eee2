"""Real clients against TLS at the gateway: curl, openssl, and the choice of HAProxy beside ours."""

import asyncio
import contextlib
import shutil
from pathlib import Path

import pytest

from essaim.gateway.control.supervisor import Gateway
from tests.ports import free_port

from .authority import TestAuthority, book
from .conftest import Backends, endpoint, service, table
from .test_browser import application, dumped
from .test_routing import labelled
from .test_tls import S, ask, router, serve

pytestmark = pytest.mark.blocking_allowed


async def run(*command: str, feed: bytes = b"") -> tuple[int, str]:
    process = await asyncio.create_subprocess_exec(
        *command, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    async with asyncio.timeout(20):
        output, _ = await process.communicate(feed)
    return process.returncode or 0, output.decode("utf-8", "replace")


async def test_curl_and_openssl_see_what_was_asked_for(
    secure: Gateway, ports: dict[str, int], backends: Backends, authority: TestAuthority, tmp_path: Path
) -> None:
    target = await backends.web("app")
    (tmp_path / "ca.pem").write_text(authority.pem)
    (tmp_path / "client.pem").write_text(authority.client("alice"))
    closed = router("closed", "Host(`closed.example`)") | {S + ".client.ca": "corp", S + ".min": "1.3"}
    services = [
        labelled("open", router("open", "Host(`open.example`)"), target=target),
        labelled("closed", closed, target=target),
    ]
    certificates = [authority.certificate(f"secret {name}", f"{name}.example") for name in ("open", "closed")]
    await serve(secure, book(1, *certificates, authorities=[authority.authority("corp")]))
    await secure.apply(table(1, *services))
    port = ports["websecure"]

    async def curl(name: str, *options: str) -> tuple[int, str]:
        there = ("--resolve", f"{name}:{port}:127.0.0.1", f"https://{name}:{port}/")
        return await run("curl", "-sS", "--noproxy", "*", "--cacert", str(tmp_path / "ca.pem"), *options, *there)

    assert (await curl("open.example"))[1].startswith("app\nGET / HTTP/1.1")
    assert (await curl("open.example", "--tls-max", "1.2"))[0] == 0
    code, said = await curl("closed.example", "--cert", str(tmp_path / "client.pem"))
    assert (code, "CN%3Dalice" in said) == (0, True), said
    assert (await curl("closed.example"))[0] in (35, 52, 55, 56)
    assert (await curl("closed.example", "--cert", str(tmp_path / "client.pem"), "--tls-max", "1.2"))[0] == 35

    async def s_client(*options: str) -> str:
        client = ("openssl", "s_client", "-connect", f"127.0.0.1:{port}", "-CAfile", str(tmp_path / "ca.pem"))
        return (await run(*client, *options, feed=b""))[1]

    said = await s_client("-servername", "open.example", "-alpn", "h2,http/1.1", "-tls1_2")
    assert "ALPN protocol: h2" in said
    assert "Verify return code: 0 (ok)" in said
    assert "Secure Renegotiation IS supported" in said
    assert "ESSAIM GATEWAY DEFAULT CERTIFICATE" in await s_client("-servername", "none.example")
    assert "alert protocol version" in await s_client("-servername", "closed.example", "-tls1_2")
    assert "no peer certificate available" in await s_client("-servername", "open.example", "-tls1_1")


async def test_certificate_is_the_one_that_haproxy_would_show(
    secure: Gateway, backends: Backends, authority: TestAuthority, tmp_path: Path
) -> None:
    """Exact before wildcard, wildcards of one label, the first for everything else."""
    haproxy = shutil.which("haproxy")
    if haproxy is None:
        pytest.skip("haproxy is not installed (tools/debian.sh)")
    certificates = [
        authority.certificate("secret main", "main.example"),
        authority.certificate("secret wild", "*.shop.example"),
        authority.certificate("secret exact", "a.shop.example"),
    ]
    published, other = free_port(), free_port()
    (tmp_path / "certs").mkdir()
    for number, one in enumerate(certificates):
        (tmp_path / "certs" / f"{number}.pem").write_text(one.key + one.chain)
    listed = " ".join(f"crt {tmp_path}/certs/{number}.pem" for number in range(len(certificates)))
    (tmp_path / "haproxy.cfg").write_text(
        "global\n nbthread 1\ndefaults\n mode http\n timeout connect 5s\n timeout client 5s\n timeout server 5s\n"
        f"frontend f\n bind 127.0.0.1:{other} ssl {listed}\n http-request return status 200\n"
    )
    target = await backends.web("app")
    labels = {S: "true", S + ".certificate": "main,wild,exact"}
    await serve(secure, book(1, *certificates))
    await secure.apply(table(1, service("app", published, [endpoint("t", target)], "http", labels)))
    process = await asyncio.create_subprocess_exec(haproxy, "-db", "-f", str(tmp_path / "haproxy.cfg"))
    try:
        async with asyncio.timeout(15):
            while True:
                with contextlib.suppress(OSError):
                    _, writer = await asyncio.open_connection("127.0.0.1", other)
                    writer.close()
                    break
                await asyncio.sleep(0.05)
        names = ["main.example", "a.shop.example", "b.shop.example", "x.a.shop.example", "shop.example", "none", None]
        for name in names:
            ours, theirs = await ask(published, name, host="h"), await ask(other, name, host="h")
            assert ours.names == theirs.names, name
    finally:
        process.kill()
        await process.wait()


async def test_chromium_speaks_https_and_secure_websockets(gateway: Gateway, tmp_path: Path) -> None:
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("chromium is not installed (tools/debian.sh)")
    port = free_port()
    async with application() as replica:
        await gateway.apply(table(1, service("app", port, [endpoint("t", replica)], "http", {S: "true"})))
        dom = await dumped(chromium, tmp_path / "profile", f"https://127.0.0.1:{port}/", "--ignore-certificate-errors")
    assert ">fetched:100000<" in dom
    assert ">socket:HELLO<" in dom
