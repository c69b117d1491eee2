"""TLS ended by a real gateway: which certificate, which rules, what replicas and clients see of it."""

import asyncio
import contextlib
import os
import signal
import socket
import ssl
from pathlib import Path

import pytest

from essaim.cluster.certificates import AlpnChallenge, Certificate, CertificateBook, HttpChallenge
from essaim.gateway.control.supervisor import Gateway
from tests.ports import free_port

from .authority import TestAuthority, book, names_of
from .conftest import Backends, endpoint, entry_points, exchange, service, table, until
from .test_routing import R, labelled

S = "essaim.tls"


def trusting(authority: TestAuthority, client: Path | None = None) -> ssl.SSLContext:
    context = ssl.create_default_context(cadata=authority.pem)
    if client:
        context.load_cert_chain(client)
    return context


async def serve(gateway: Gateway, certificates: CertificateBook) -> None:
    gateway.set_certificates(certificates)
    await gateway.booked()


class Told:
    """What a connection came to."""

    def __init__(self, answer: bytes, names: list[str], connection: ssl.SSLObject) -> None:
        self.answer = answer
        self.names = names
        self.version = connection.version()
        self.alpn = connection.selected_alpn_protocol()
        self.cipher = connection.cipher()
        self.session = connection.session


async def ask(
    port: int, name: str | None, context: ssl.SSLContext | None = None, host: str = "", path: str = "/", **more: object
) -> Told:
    """One request behind TLS; without a context nothing is verified."""
    if context is None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    reader, writer = await asyncio.open_connection(
        "127.0.0.1", port, ssl=context, server_hostname=name if name is not None else ""
    )
    try:
        request = f"GET {path} HTTP/1.1\r\nHost: {host or name}\r\nConnection: close\r\n"
        request += "".join(f"{key}: {value}\r\n" for key, value in more.items())
        writer.write(request.encode() + b"\r\n")
        async with asyncio.timeout(15):
            answer = await reader.read()
        connection: ssl.SSLObject = writer.get_extra_info("ssl_object")
        return Told(answer, names_of(connection.getpeercert(binary_form=True) or b""), connection)
    finally:
        writer.close()


async def is_refused(port: int, name: str, context: ssl.SSLContext) -> bool:
    """In TLS 1.3 a client learns of it after its handshake, from the alert or the end that comes for an answer."""
    try:
        return not (await ask(port, name, context)).answer
    except (ssl.SSLError, ConnectionError):
        return True


def router(name: str, rule: str, **more: str) -> dict[str, str]:
    labels = {R + f"{name}.rule": rule, R + f"{name}.entrypoints": "websecure", R + f"{name}.tls": "true"}
    return labels | {R + f"{name}.{key}": value for key, value in more.items()}


async def test_certificate_is_chosen_by_name_then_wildcard_then_default(
    secure: Gateway, ports: dict[str, int], backends: Backends, authority: TestAuthority
) -> None:
    target = await backends.web("shop")
    labels = router("shop", "Host(`shop.example`) || Host(`a.wild.example`) || Host(`else.example`)")
    await serve(
        secure,
        book(
            1,
            authority.certificate("secret shop", "shop.example", "www.shop.example"),
            authority.certificate("secret wild", "*.wild.example"),
        ),
    )
    await secure.apply(table(1, labelled("shop", labels, target=target)))
    port = ports["websecure"]
    told = await ask(port, "shop.example", trusting(authority))
    assert told.names == ["shop.example", "www.shop.example"]
    assert told.version == "TLSv1.3"
    assert b"\r\nX-Forwarded-Proto: https\r\n" in told.answer
    assert b";proto=https;" in told.answer
    assert b"X-Forwarded-Port: 443\r\n" in told.answer
    assert (await ask(port, "a.wild.example", trusting(authority))).names == ["*.wild.example"]
    assert (await ask(port, "else.example")).names == ["default.essaim.invalid"]
    services = (await secure.status())["services"]
    assert services[0]["warnings"] == [
        "TLS: no certificate for else.example: clients are shown the gateway's self-signed one"
    ]
    with pytest.raises(ssl.SSLCertVerificationError):
        await ask(port, "else.example", trusting(authority))


async def test_routers_with_tls_and_without_do_not_see_each_others_requests(
    secure: Gateway, ports: dict[str, int], backends: Backends
) -> None:
    target = await backends.web("shop")
    both = {R + "tls.entrypoints": "web,websecure", R + "tls.rule": "Host(`tls.example`)", R + "tls.tls": "true"}
    both |= {R + "plain.entrypoints": "web,websecure", R + "plain.rule": "Host(`plain.example`)"}
    await secure.apply(table(1, labelled("shop", both, target=target)))
    for port in ports.values():
        assert (await ask(port, "tls.example")).answer.startswith(b"HTTP/1.1 200 ")
        assert (await ask(port, "plain.example")).answer.startswith(b"HTTP/1.1 404 ")
        plain = b"GET / HTTP/1.1\r\nHost: %b.example\r\nConnection: close\r\n\r\n"
        assert (await exchange(port, plain % b"plain")).startswith(b"HTTP/1.1 200 ")
        assert (await exchange(port, plain % b"tls")).startswith(b"HTTP/1.1 404 ")


async def test_redirect_to_https_and_hsts(secure: Gateway, ports: dict[str, int], backends: Backends) -> None:
    target = await backends.web("shop")
    m = "traefik.http.middlewares."
    labels = router("shop", "Host(`shop.example`)", middlewares="hsts") | {
        R + "plain.rule": "Host(`shop.example`)",
        R + "plain.entrypoints": "web",
        R + "plain.middlewares": "secure,hsts",
        m + "secure.redirectscheme.scheme": "https",
        m + "secure.redirectscheme.permanent": "true",
        m + "hsts.headers.stsseconds": "300",
    }
    await secure.apply(table(1, labelled("shop", labels, target=target)))
    plain = await exchange(ports["web"], b"GET /a HTTP/1.1\r\nHost: shop.example\r\nConnection: close\r\n\r\n")
    assert plain.startswith(b"HTTP/1.1 301 ")
    assert b"\r\nLocation: https://shop.example/a\r\n" in plain
    assert b"Strict-Transport" not in plain
    told = await ask(ports["websecure"], "shop.example", path="/a")
    assert told.answer.startswith(b"HTTP/1.1 200 ")
    assert b"\r\nStrict-Transport-Security: max-age=300\r\n" in told.answer


async def test_published_ports_end_tls_for_http_and_for_tcp(
    secure: Gateway, backends: Backends, authority: TestAuthority
) -> None:
    web, raw = free_port(), free_port()
    shop = service("shop", web, [endpoint("w", await backends.web("shop"))], "http", {S: "true"})
    line = service("line", raw, [endpoint("e", await backends.echo("line"))], "tcp", {S: f"{raw},1"})
    await serve(secure, book(1, authority.certificate("secret a", "shop.example", "line.example")))
    await secure.apply(table(1, shop, line))
    context = trusting(authority)
    context.set_alpn_protocols(["http/1.1"])
    told = await ask(web, "shop.example", context)
    assert told.answer.startswith(b"HTTP/1.1 200 ")
    assert told.alpn == "http/1.1"
    assert b"X-Forwarded-Proto: https" in told.answer
    refused = await exchange(web, b"GET / HTTP/1.1\r\nHost: shop.example\r\n\r\n")
    assert refused.startswith(b"HTTP/1.1 400 ")
    assert b"HTTPS" in refused
    reader, writer = await asyncio.open_connection(
        "127.0.0.1", raw, ssl=trusting(authority), server_hostname="line.example"
    )
    assert await reader.readline() == b"line\n"
    big = bytes(range(256)) * 4000
    writer.write(big)
    async with asyncio.timeout(15):
        assert await reader.readexactly(len(big)) == big
    writer.close()


async def test_minimum_version_and_ciphers_are_kept_to(
    secure: Gateway, backends: Backends, authority: TestAuthority
) -> None:
    strict, chosen = free_port(), free_port()
    target = await backends.web("shop")
    suite = "ECDHE-ECDSA-CHACHA20-POLY1305"
    services = [
        service("strict", strict, [endpoint("w", target)], "http", {S: "true", S + ".min": "1.3"}),
        service("chosen", chosen, [endpoint("v", target)], "http", {S: "true", S + ".ciphers": suite}),
    ]
    await serve(secure, book(1, authority.certificate("secret a", "shop.example")))
    await secure.apply(table(1, *services))
    old = trusting(authority)
    old.maximum_version = ssl.TLSVersion.TLSv1_2
    with pytest.raises(ssl.SSLError):
        await ask(strict, "shop.example", old)
    assert (await ask(strict, "shop.example", trusting(authority))).version == "TLSv1.3"
    told = await ask(chosen, "shop.example", old)
    assert told.answer.startswith(b"HTTP/1.1 200 ")
    assert (told.version, told.cipher and told.cipher[0]) == ("TLSv1.2", suite)
    old.set_ciphers("ECDHE-ECDSA-AES128-GCM-SHA256")
    with pytest.raises(ssl.SSLError):
        await ask(chosen, "shop.example", old)


async def test_client_certificates_are_demanded_and_told_to_the_replica(
    secure: Gateway, ports: dict[str, int], backends: Backends, authority: TestAuthority, tmp_path: Path
) -> None:
    mine, strange = tmp_path / "mine.pem", tmp_path / "strange.pem"
    mine.write_text(authority.client("alice"))
    strange.write_text(TestAuthority().client("mallory"))
    closed = router("closed", "Host(`closed.example`)") | {S + ".client.mode": "require", S + ".client.ca": "corp"}
    given = router("given", "Host(`given.example`)")
    given |= {S + ".client.mode": "verify-if-given", S + ".client.ca": "corp"}
    opened = router("open", "Host(`open.example`)")
    target = await backends.web("app")
    services = [labelled(name, one, target=target) for name, one in (("c", closed), ("g", given), ("o", opened))]
    names = ("closed.example", "given.example", "open.example")
    certificate = authority.certificate("secret a", *names)
    await serve(secure, book(1, certificate, authorities=[authority.authority("corp")]))
    await secure.apply(table(1, *services))
    port, field = ports["websecure"], "X-Forwarded-Tls-Client-Cert-Info"
    claim = {field: "Subject%3D%22CN%3Droot%22"}
    told = await ask(port, "closed.example", trusting(authority, mine), **claim)
    assert told.answer.count(field.encode()) == 1
    assert f"\r\n{field}: Subject%3D%22O%3DAcme%2C".encode() in told.answer
    assert b"CN%3Dalice%22\r\n" in told.answer
    for context in (trusting(authority), trusting(authority, strange)):
        assert await is_refused(port, "closed.example", context)
    assert await is_refused(port, "given.example", trusting(authority, strange))
    assert b"CN%3Dalice%22\r\n" in (await ask(port, "given.example", trusting(authority, mine))).answer
    assert field.encode() not in (await ask(port, "given.example", trusting(authority), **claim)).answer
    # A connection that was let in for one name does not get at another's service by naming it in Host.
    for spelling in ("closed.example", "closed.example.", "CLOSED.example:443"):
        past = await ask(port, "open.example", trusting(authority), host=spelling)
        assert past.answer.startswith(b"HTTP/1.1 421 ")
        assert b"Connection: close\r\n" in past.answer
    assert (await ask(port, "open.example", trusting(authority))).answer.startswith(b"HTTP/1.1 200 ")


async def test_book_changes_live_and_established_connections_stay(
    secure: Gateway, ports: dict[str, int], backends: Backends, authority: TestAuthority
) -> None:
    target = await backends.web("shop")
    await secure.apply(table(1, labelled("shop", router("shop", "Host(`shop.example`)"), target=target)))
    first = authority.certificate("secret one", "shop.example", "first.example")
    renewed = authority.certificate("acme le shop", "shop.example", "second.example", days=60)
    await serve(secure, book(1, first))
    port = ports["websecure"]
    reader, writer = await asyncio.open_connection(
        "127.0.0.1", port, ssl=trusting(authority), server_hostname="shop.example"
    )
    for version, certificates, shown in (
        (2, [first, renewed], "second.example"),
        (3, [first], "first.example"),
        (2, [renewed], "first.example"),
    ):
        await serve(secure, book(version, *certificates))
        assert shown in (await ask(port, "shop.example", trusting(authority))).names
        writer.write(b"GET / HTTP/1.1\r\nHost: shop.example\r\n\r\n")
        async with asyncio.timeout(15):
            assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 ")
            # The body is the head that the replica saw.
            await reader.readuntil(b"\r\n\r\n")
    writer.close()


async def test_bad_certificate_is_reported_and_the_others_serve(
    secure: Gateway, ports: dict[str, int], backends: Backends, authority: TestAuthority
) -> None:
    target = await backends.web("shop")
    labels = router("shop", "Host(`shop.example`)") | {S + ".certificate": "mixed, gone"}
    good, other = authority.certificate("secret good", "shop.example"), authority.certificate("secret b", "b.example")
    mixed = Certificate(name="secret mixed", chain=good.chain, key=other.key, names=["shop.example"])
    broken = Certificate(name="secret broken", chain="no PEM", key=other.key, names=["shop.example"])
    late = authority.certificate("secret late", "late.example", days=-1)
    await secure.apply(table(1, labelled("shop", labels, target=target)))
    await serve(secure, book(1, good, mixed, broken, late))
    status = await secure.status()
    assert {one["name"]: one["problem"] for one in status["certificates"]} == {
        "secret good": None,
        "secret mixed": "its key does not belong to it",
        "secret broken": "its PEM cannot be read",
        "secret late": None,
    }
    assert status["services"][0]["warnings"] == [
        "TLS: the certificate 'secret mixed' cannot be used: its key does not belong to it",
        "TLS: no certificate for shop.example: clients are shown the gateway's self-signed one",
    ]
    assert status["warnings"] == [
        "certificate secret broken cannot be used: its PEM cannot be read",
        "certificate secret mixed cannot be used: its key does not belong to it",
    ]
    assert "PRIVATE" not in str(status)
    assert (await ask(ports["websecure"], "shop.example")).names == ["default.essaim.invalid"]


async def test_worker_that_is_replaced_serves_by_the_same_book(
    secure: Gateway, ports: dict[str, int], backends: Backends, authority: TestAuthority
) -> None:
    target = await backends.web("shop")
    await secure.apply(table(1, labelled("shop", router("shop", "Host(`shop.example`)"), target=target)))
    await serve(secure, book(1, authority.certificate("secret a", "shop.example")))
    pid = (await secure.status())["workers"][0]["pid"]
    os.kill(pid, signal.SIGKILL)
    async with asyncio.timeout(15):
        while not (workers := (await secure.status())["workers"]) or workers[0]["pid"] == pid:
            await asyncio.sleep(0.02)
    assert (await ask(ports["websecure"], "shop.example", trusting(authority))).names == ["shop.example"]


async def test_session_is_resumed(
    secure: Gateway, ports: dict[str, int], backends: Backends, authority: TestAuthority
) -> None:
    target = await backends.web("shop")
    await secure.apply(table(1, labelled("shop", router("shop", "Host(`shop.example`)"), target=target)))
    await serve(secure, book(1, authority.certificate("secret a", "shop.example")))
    for newest in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
        context = trusting(authority)
        context.maximum_version = newest

        def connect(context: ssl.SSLContext, session: ssl.SSLSession | None) -> tuple[bool, ssl.SSLSession | None]:
            with (
                socket.create_connection(("127.0.0.1", ports["websecure"]), 10) as sock,
                context.wrap_socket(sock, server_hostname="shop.example", session=session) as secured,
            ):
                secured.sendall(b"GET / HTTP/1.1\r\nHost: shop.example\r\nConnection: close\r\n\r\n")
                while secured.recv(65536):
                    pass
                return bool(secured.session_reused), secured.session

        reused, session = await asyncio.to_thread(connect, context, None)
        assert not reused
        assert (await asyncio.to_thread(connect, context, session))[0], newest


async def test_proxy_header_before_tls_tells_the_client(
    secure: Gateway, backends: Backends, authority: TestAuthority
) -> None:
    port = free_port()
    labels = {S: "true", "essaim.proxyprotocol.accept": "true", "essaim.trusted": "127.0.0.0/8"}
    await serve(secure, book(1, authority.certificate("secret a", "shop.example")))
    await secure.apply(table(1, service("shop", port, [endpoint("w", await backends.web("shop"))], "http", labels)))

    def connect() -> bytes:
        with socket.create_connection(("127.0.0.1", port), 10) as sock:
            sock.sendall(b"PROXY TCP4 203.0.113.9 192.0.2.1 4711 443\r\n")
            with trusting(authority).wrap_socket(sock, server_hostname="shop.example") as secured:
                secured.sendall(b"GET / HTTP/1.1\r\nHost: shop.example\r\nConnection: close\r\n\r\n")
                answer = b""
                while data := secured.recv(65536):
                    answer += data
                return answer

    assert b"\r\nX-Forwarded-For: 203.0.113.9\r\n" in await asyncio.to_thread(connect)


async def test_acme_questions_are_answered_without_any_router(
    secure: Gateway, ports: dict[str, int], authority: TestAuthority
) -> None:
    proof = authority.certificate("", "new.example")
    challenges = {
        "http_challenges": [HttpChallenge(token="tok", answer="tok.thumb")],
        "alpn_challenges": [AlpnChallenge(domain="new.example", chain=proof.chain, key=proof.key)],
    }
    await serve(secure, book(1, **challenges))
    path = "/.well-known/acme-challenge/"
    question = f"GET {path}tok HTTP/1.1\r\nHost: new.example\r\nConnection: close\r\n\r\n".encode()
    answer = await exchange(ports["web"], question)
    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
    assert answer.endswith(b"\r\n\r\ntok.thumb")
    assert (await exchange(ports["web"], question.replace(b"tok ", b"other "))).startswith(b"HTTP/1.1 404 ")
    context = trusting(authority)
    context.set_alpn_protocols(["acme-tls/1"])
    _, writer = await asyncio.open_connection(
        "127.0.0.1", ports["websecure"], ssl=context, server_hostname="new.example"
    )
    assert writer.get_extra_info("ssl_object").selected_alpn_protocol() == "acme-tls/1"
    writer.close()
    await serve(secure, book(2))
    assert (await secure.status())["listeners"] == []
    with pytest.raises(ConnectionError):
        await exchange(ports["web"], question)


async def test_acme_question_goes_before_a_redirect(secure: Gateway, ports: dict[str, int], backends: Backends) -> None:
    labels = {
        R + "all.rule": "PathPrefix(`/`)",
        R + "all.entrypoints": "web",
        R + "all.middlewares": "secure",
        "traefik.http.middlewares.secure.redirectscheme.scheme": "https",
    }
    await secure.apply(table(1, labelled("shop", labels, target=await backends.web("shop"))))
    await serve(secure, book(1, http_challenges=[HttpChallenge(token="tok", answer="tok.thumb")]))
    ask = "GET /.well-known/acme-challenge/{} HTTP/1.1\r\nHost: new.example\r\nConnection: close\r\n\r\n"
    assert (await exchange(ports["web"], ask.format("tok").encode())).endswith(b"\r\n\r\ntok.thumb")
    assert (await exchange(ports["web"], ask.format("x").encode())).startswith(b"HTTP/1.1 302 ")


async def test_slow_handshake_is_ended_and_holds_up_nobody(
    secure: Gateway, backends: Backends, authority: TestAuthority
) -> None:
    port = free_port()
    labels = {S: "true", "essaim.timeout.header": "1s"}
    await serve(secure, book(1, authority.certificate("secret a", "shop.example")))
    await secure.apply(table(1, service("shop", port, [endpoint("w", await backends.web("shop"))], "http", labels)))
    hello = client_hello("shop.example")
    connections = []
    # Nothing at all, half a ClientHello, and a whole one without what must follow.
    for data in (b"", hello[:50], hello):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(data)
        connections.append((reader, writer))
    assert (await ask(port, "shop.example", trusting(authority))).answer.startswith(b"HTTP/1.1 200 ")
    for reader, writer in connections:
        async with asyncio.timeout(10):
            with contextlib.suppress(ConnectionError):
                await reader.read()
        writer.close()
    assert "essaim_gateway_tls_refused_handshakes_total 3.0" in await secure.metrics()


def client_hello(name: str) -> bytes:
    """What Python's ssl would send first."""
    outgoing = ssl.MemoryBIO()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    connection = context.wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname=name)
    with pytest.raises(ssl.SSLWantReadError):
        connection.do_handshake()
    return outgoing.read()


async def test_lingering_worker_ends_tls_until_the_next_gateway_does(
    tmp_path: Path, ports: dict[str, int], backends: Backends, authority: TestAuthority
) -> None:
    target = await backends.web("shop")
    routes = table(1, labelled("shop", router("shop", "Host(`shop.example`)"), target=target))
    certificates = book(1, authority.certificate("secret a", "shop.example"))
    port, more = ports["websecure"], {"mesh_addr": "127.0.0.1", "state_dir": tmp_path, "node_id": "n1", "workers": 1}
    first = Gateway(**more, linger=30.0, entry_points=entry_points(ports))  # type: ignore[arg-type]
    await first.start()
    await serve(first, certificates)
    await first.apply(routes)
    await first.stop(leave_workers=True)
    second = Gateway(**more, entry_points=entry_points(ports))  # type: ignore[arg-type]
    try:
        assert (await ask(port, "shop.example", trusting(authority))).answer.startswith(b"HTTP/1.1 200 ")
        await second.start()
        # Its workers serve by what the last ones had, until it is told of a book.
        await second.apply(routes)
        assert (await ask(port, "shop.example", trusting(authority))).names == ["shop.example"]
        await serve(second, book(2, authority.certificate("secret b", "shop.example", "b.example", days=60)))
        assert "b.example" in (await ask(port, "shop.example", trusting(authority))).names
    finally:
        await second.stop(grace=0.2)
    # What a gateway leaves on disk holds no key.
    kept = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert not any(b"PRIVATE KEY" in path.read_bytes() for path in kept)
    await until(lambda: not list((tmp_path / "gateway").glob("*.sock")))
