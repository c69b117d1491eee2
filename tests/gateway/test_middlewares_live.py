"""Middlewares that look at a request's end, or take their time, through a real worker."""

import asyncio
import base64
from collections.abc import AsyncIterator
from pathlib import Path

import bcrypt
import pytest

from essaim.cluster.routes import RoutePort, RouteService
from essaim.gateway.control.supervisor import Gateway
from essaim.gateway.routing.middlewares.passwords import MAX_REMEMBERED, Unproven, Users
from tests.ports import free_port

from .conftest import Backends, endpoint, entry_points, exchange, gateway_with, table

ROUTER = "traefik.http.routers.x."
MIDDLEWARE = "traefik.http.middlewares."


class Entry:
    """A gateway with an entry point `web`."""

    def __init__(self, gateway: Gateway, port: int) -> None:
        self.gateway, self.port = gateway, port

    async def serve(self, replica: int, chain: str, **options: str) -> None:
        labels = {ROUTER + "rule": "PathPrefix(`/`)", ROUTER + "middlewares": chain}
        labels |= {MIDDLEWARE + name.replace("_", "."): value for name, value in options.items()}
        port = RoutePort(protocol="tcp", target_port=80, published_port=0, endpoints=[endpoint("t", replica)])
        await self.gateway.apply(table(1, RouteService(id="id-x", name="x", labels=labels, ports=[port])))

    async def status(self, lines: str = "", body: str = "", method: str = "GET") -> int:
        head = f"{method} / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n{lines}\r\n{body}"
        return int((await exchange(self.port, head.encode())).split()[1])


@pytest.fixture
async def entry(tmp_path: Path) -> AsyncIterator[Entry]:
    port = free_port()
    async with gateway_with(tmp_path, entry_points({"web": port})) as running:
        yield Entry(running, port)


def credentials(user: str, password: str) -> str:
    return "Authorization: Basic " + base64.b64encode(f"{user}:{password}".encode()).decode() + "\r\n"


async def test_replacement_that_is_no_path_gets_the_slash_that_it_lacks(entry: Entry, backends: Backends) -> None:
    replica = await backends.web("t")
    await entry.serve(replica, "p", p_replacepathregex_regex="^/(.*)", p_replacepathregex_replacement="x y?$1")
    answer = await exchange(entry.port, b"GET /a HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n\r\n")
    assert b"GET /x%20y%3Fa HTTP/1.1\r\n" in answer


async def test_circuit_breaker_leaves_a_service_of_errors_alone(entry: Entry, backends: Backends) -> None:
    asked = 0

    async def broken(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal asked
        await reader.readuntil(b"\r\n\r\n")
        asked += 1
        writer.write(b"HTTP/1.1 500 No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        writer.close()

    expression = "ResponseCodeRatio(500, 600, 0, 600) > 0.5"
    await entry.serve(await backends.serve(broken), "cb", cb_circuitbreaker_expression=expression)
    assert [await entry.status() for _ in range(4)] == [500, 503, 503, 503]
    assert asked == 1


async def test_retry_waits_its_initial_interval_between_tries(entry: Entry, backends: Backends) -> None:
    asked: list[float] = []

    async def third_time_lucky(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        asked.append(asyncio.get_running_loop().time())
        if len(asked) == 3:
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        writer.close()

    replica = await backends.serve(third_time_lucky)
    await entry.serve(replica, "re", re_retry_attempts="3", re_retry_initialinterval="200ms")
    assert await entry.status() == 200
    assert asked[1] - asked[0] >= 0.19
    assert asked[2] - asked[1] >= 0.29


async def test_cors_preflight_is_answered_by_the_gateway_with_an_empty_body(entry: Entry, backends: Backends) -> None:
    await entry.serve(await backends.web("t"), "co", co_headers_accesscontrolalloworiginlist="http://o.example")
    asked = b"Host: a\r\nOrigin: http://o.example\r\nConnection: close\r\n"
    answer = await exchange(
        entry.port, b"OPTIONS / HTTP/1.1\r\n" + asked + b"Access-Control-Request-Method: PUT\r\n\r\n"
    )
    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"\r\nAccess-Control-Allow-Origin: http://o.example\r\n" in answer
    assert answer.endswith(b"\r\n\r\n")
    assert b"\r\nContent-Length: 0\r\n" in answer
    assert backends.hits == {}
    answer = await exchange(entry.port, b"GET / HTTP/1.1\r\n" + asked + b"\r\n")
    assert b"\r\nAccess-Control-Allow-Origin: http://o.example\r\n" in answer
    assert backends.hits == {"t": 1}


async def test_in_flight_limit_counts_until_the_response_is_complete(entry: Entry, backends: Backends) -> None:
    asked, answer = asyncio.Event(), asyncio.Event()

    async def slow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        asked.set()
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\na")
        await answer.wait()
        writer.write(b"b")
        writer.close()

    await entry.serve(await backends.serve(slow), "one", one_inflightreq_amount="1")
    first = asyncio.create_task(entry.status())
    await asked.wait()
    assert await entry.status() == 429
    answer.set()
    assert await first == 200
    assert await entry.status() == 200
    # A client that goes away in the middle gives its place back, too.
    asked.clear()
    answer.clear()
    _, writer = await asyncio.open_connection("127.0.0.1", entry.port)
    writer.write(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    await asked.wait()
    writer.transport.abort()
    answer.set()
    async with asyncio.timeout(10):
        while await entry.status() != 200:
            await asyncio.sleep(0.01)


async def test_bcrypt_checks_do_not_hold_up_others_and_are_remembered(entry: Entry, backends: Backends) -> None:
    hashed = bcrypt.hashpw(b"secret", bcrypt.gensalt(12, b"2a")).decode().replace("$", "$$")
    await entry.serve(
        await backends.web("t"), "ba,rl", ba_basicauth_users=f"eve:{hashed}",
        rl_ratelimit_average="1000", rl_ratelimit_burst="1000",
    )  # fmt: skip
    assert await entry.status() == 401
    loop = asyncio.get_running_loop()
    began = loop.time()
    checking = [asyncio.create_task(entry.status(credentials("eve", f"no{number}"))) for number in range(6)]
    during = 0
    while not all(one.done() for one in checking):
        assert await entry.status() == 401
        during += 1
    took = loop.time() - began
    assert {one.result() for one in checking} == {401}
    assert during > 6, f"only {during} other requests were answered in {took:.1f} s"
    right = credentials("eve", "secret")
    assert await entry.status(right + "Content-Length: 5\r\n", "hello", "POST") == 200
    assert [await entry.status(right) for _ in range(5)] == [200] * 5
    assert backends.hits == {"t": 6}


def test_users_bcrypt_is_handed_out_and_remembered_within_a_bound() -> None:
    hashed = bcrypt.hashpw(b"secret", bcrypt.gensalt(4)).decode()
    users = Users(f"eve:{hashed}")

    def verify(password: str) -> bytes | None:
        return users.verify(credentials("eve", password).split(": ")[1].strip().encode())

    for password, name in (("secret", b"eve"), ("wrong", None), ("nul\0", None), ("x" * 100, None)):
        with pytest.raises(Unproven) as raised:
            verify(password)
        raised.value.settle(raised.value.check())
        assert verify(password) == name
    # A flood of wrong ones pushes wrong ones out, and nobody who has a password.
    for number in range(MAX_REMEMBERED):
        users.remember(b"%d" % number, None)
    assert verify("secret") == b"eve"
    with pytest.raises(Unproven):
        verify("wrong")


@pytest.mark.parametrize("hashed", ["$2y$20$" + "a" * 53, "$2y$05$short", "$6$x$y", "plain"])
def test_users_hash_that_cannot_be_checked_is_refused(hashed: str) -> None:
    with pytest.raises(ValueError, match="the password of eve"):
        Users(f"eve:{hashed}")
