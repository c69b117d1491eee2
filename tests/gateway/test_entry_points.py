"""Entry points: how they are told, and whom in front of them a gateway believes."""

import asyncio
import contextlib
import re
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pytest

from essaim.gateway.control.plan import Planner
from essaim.gateway.control.supervisor import Gateway
from essaim.gateway.protocol.entry_points import EntryPoint, read_entry_points
from essaim.gateway.tcp.proxy_protocol import header
from tests.ports import free_port

from .conftest import Backends, endpoint, exchange, gateway_with, service, table

R = "traefik.http.routers."
Started = Callable[[EntryPoint], AbstractAsyncContextManager[Gateway]]


def test_entry_points_are_added_moved_and_switched_off() -> None:
    assert read_entry_points(()) == {"web": EntryPoint(80), "websecure": EntryPoint(443)}
    found = read_entry_points(
        ("web=8080", "Mail = 25, trusted=10.1.2.3,trusted=fd00::/8,proxyprotocol", "websecure=off")
    )
    assert found == {"web": EntryPoint(8080), "mail": EntryPoint(25, ("10.1.2.3/32", "fd00::/8"), True)}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("web", "is not NAME=PORT"),
        ("=80", "is not NAME=PORT"),
        ("web=http", "'http' is neither a port nor off"),
        ("web=0", "is neither a port nor off"),
        ("other=443", "the entry points websecure and other have the same port 443"),
        ("web=80,trusted=10.0.0.0/99", "'10.0.0.0/99' is neither an address nor a network"),
        ("web=80,trusted", "'trusted' is neither trusted=NETWORK nor proxyprotocol"),
        ("web=80,proxyprotocol", "proxyprotocol needs trusted=NETWORK"),
    ],
)
def test_entry_points_that_cannot_be_read_say_why(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=re.escape(said)):
        read_entry_points((text,))


@pytest.fixture
def started(tmp_path: Path) -> Started:
    """A gateway with the entry point `web`."""
    return lambda point: gateway_with(tmp_path, {"web": point})


def get(host: str, *, close: bool = True) -> bytes:
    end = "Connection: close\r\n" if close else ""
    return f"GET / HTTP/1.1\r\nHost: {host}\r\nX-Forwarded-For: 203.0.113.5\r\n{end}\r\n".encode()


async def test_proxy_that_the_entry_point_trusts_is_believed(started: Started, backends: Backends) -> None:
    port = free_port()
    web = service("web", 0, [endpoint("w", await backends.web("w"))], "http", labels={R + "web.rule": "Host(`a`)"})
    async with started(EntryPoint(port, ("127.0.0.1/32",))) as gateway:
        await gateway.apply(table(1, web))
        assert b"X-Forwarded-For: 203.0.113.5, 127.0.0.1\r\n" in await exchange(port, get("a"))


async def test_proxy_that_a_routed_service_trusts_is_believed_for_that_service(
    started: Started, backends: Backends
) -> None:
    """On one connection, whichever service comes first: what a service believes holds for no other."""
    port = free_port()
    target = await backends.web("w")
    trusting = {R + "open.rule": "Host(`open`)", "essaim.trusted": "127.0.0.0/8"}
    services = [
        service("open", 0, [endpoint("o", target)], "http", labels=trusting),
        service("shut", 0, [endpoint("s", target)], "http", labels={R + "shut.rule": "Host(`shut`)"}),
    ]
    async with started(EntryPoint(port)) as gateway:
        await gateway.apply(table(1, *services))
        order = ["open", "shut", "shut", "open", "open", "shut"]
        requests = [get(host, close=number == len(order) - 1) for number, host in enumerate(order)]
        answers = (await exchange(port, b"".join(requests))).split(b"HTTP/1.1 200")[1:]
        seen = [b"X-Forwarded-For: 203.0.113.5, 127.0.0.1\r\n" in answer for answer in answers]
        assert seen == [host == "open" for host in order]
        assert all(
            b"X-Forwarded-For: 127.0.0.1\r\n" in a for a, believed in zip(answers, seen, strict=True) if not believed
        )


async def test_entry_point_takes_proxy_headers_from_the_trusted_only(started: Started, backends: Backends) -> None:
    port = free_port()
    labels = {R + "web.rule": "ClientIP(`198.51.100.9`)"}
    web = service("web", 0, [endpoint("w", await backends.web("w"))], "http", labels=labels)
    async with started(EntryPoint(port, ("127.0.0.1/32",), proxy_protocol=True)) as gateway:
        await gateway.apply(table(1, web))
        named = header("v2", ("198.51.100.9", 4711), ("192.0.2.1", 80))
        # The client behind the proxy is routed by, and is not itself believed.
        assert b"X-Forwarded-For: 198.51.100.9\r\n" in await exchange(port, named + get("a"))
        with contextlib.suppress(ConnectionResetError):
            assert await exchange(port, get("a")) == b"", "a trusted proxy that sends no header is cut off"
    async with started(EntryPoint(port, ("192.0.2.0/24",), proxy_protocol=True)) as gateway:
        await gateway.apply(table(1, web))
        assert (await exchange(port, get("a"))).startswith(b"HTTP/1.1 404 "), "it is served as who it is"
        async with asyncio.timeout(10):
            assert (await exchange(port, named + get("a"))).startswith(b"HTTP/1.1 400 ")


async def test_label_that_has_no_effect_at_entry_points_is_warned_about(started: Started, backends: Backends) -> None:
    accept = {"essaim.proxyprotocol.accept": "true", "essaim.trusted": "127.0.0.0/8"}
    replicas = [endpoint("w", await backends.web("w"))]
    services = [
        service("routed", 0, replicas, "http", labels={R + "routed.rule": "Host(`a`)", **accept}),
        service("published", free_port(), replicas, "http", labels=accept),
    ]
    async with started(EntryPoint(free_port())) as gateway:
        await gateway.apply(table(1, *services))
        status = {one["name"]: one["warnings"] for one in (await gateway.status())["services"]}
    assert "--entrypoint" in " ".join(status["routed"])
    assert status["published"] == []


def test_proxy_protocol_that_no_port_can_send_is_warned_about() -> None:
    labels = {"essaim.proxyprotocol": "v2"}
    planned = Planner("", {}).plan(
        table(1, service("web", 80, [], "http", labels), service("raw", 81, [], "tcp", labels))
    )
    assert list(planned.warnings) == ["id-web"]
    assert "essaim.proxyprotocol has no effect" in planned.warnings["id-web"][0]
