"""The client's address, wherever it counts, and the claims that count for nothing."""

import re
from typing import Any

import pytest

from essaim.gateway.http.exchange import Exchange
from essaim.gateway.http.http1.server import ServerConnection
from essaim.gateway.routing.matchers import Asked
from essaim.gateway.routing.middlewares.build import make_middleware
from essaim.gateway.routing.router import Route, Router
from essaim.gateway.routing.rules import parse_rule
from essaim.gateway.runtime.access_log import AccessLog, Entry
from essaim.gateway.runtime.hashing import hash_key
from essaim.gateway.upstream.backend import Backend, Endpoint

from .plane import FakeTransport, Plane

PROXY = "192.0.2.7"
CHAIN = "X-Forwarded-For: 6.6.6.6\r\nX-Forwarded-For: 203.0.113.9, 10.0.0.1\r\n"
TRUSTED = [PROXY, "10.0.0.0/8"]


def request(fields: str = "", path: str = "/") -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: a\r\n{fields}\r\n".encode()


def sent(plane: Plane, fields: str = "") -> dict[str, list[str]]:
    """The fields that the replica is sent, by their lower-case names."""
    plane.ask(request(fields))
    found: dict[str, list[str]] = {}
    for line in plane.far.written.decode().split("\r\n")[1:]:
        if line:
            name, _, value = line.partition(": ")
            found.setdefault(name.lower(), []).append(value)
    return found


@pytest.mark.parametrize(
    ("trusted", "fields", "client"),
    [
        ([], CHAIN, PROXY),
        ([PROXY], CHAIN, "10.0.0.1"),
        (TRUSTED, CHAIN, "203.0.113.9"),
        (TRUSTED, CHAIN + "X-Real-IP: 6.6.6.6\r\n", "203.0.113.9"),
        (TRUSTED, "X-Real-IP: 6.6.6.6\r\n", PROXY),
        (TRUSTED, "Forwarded: for=6.6.6.6\r\n", PROXY),
        (TRUSTED, "X-Forwarded-For: 6.6.6.6, unknown\r\n", PROXY),
    ],
)
def test_real_ip_is_the_rightmost_address_that_is_not_trusted(trusted: list[str], fields: str, client: str) -> None:
    assert sent(Plane(trusted=trusted), fields)["x-real-ip"] == [client]


def test_forwarded_for_of_a_trusted_proxy_is_kept_whole_and_its_address_appended() -> None:
    found = sent(Plane(trusted=TRUSTED), CHAIN)
    assert found["x-forwarded-for"] == [f"6.6.6.6, 203.0.113.9, 10.0.0.1, {PROXY}"]


CLAIMS = (
    "X-Forwarded-Uri", "X-Forwarded-Method", "X-Forwarded-Prefix", "X-Forwarded-Server", "X-Forwarded-Tls-Client-Cert",
    "X-Forwarded-Tls-Client-Cert-Info", "X_Forwarded_For", "X_Real_Ip", "X_Forwarded_Uri", "X_Request_Id",
)  # fmt: skip


@pytest.mark.parametrize("name", CLAIMS)
def test_claim_of_a_client_that_is_not_trusted_reaches_no_replica(name: str) -> None:
    assert name.lower() not in sent(Plane(), f"{name}: evil\r\n")


@pytest.mark.parametrize("name", ["X-Forwarded-Uri", "X-Forwarded-Method"])
def test_claim_of_a_trusted_proxy_that_the_gateway_has_no_word_for_is_passed_on(name: str) -> None:
    assert sent(Plane(trusted=TRUSTED), f"{name}: said\r\n")[name.lower()] == ["said"]


def test_request_id_of_a_client_that_is_not_trusted_is_made_anew() -> None:
    ids = [sent(Plane(), "X-Request-Id: mine\r\n")["x-request-id"] for _ in range(2)]
    assert all(len(one) == 1 and re.fullmatch(r"[0-9a-f]{16}-1", one[0]) for one in ids)
    assert ids[0] != ids[1]


def test_request_id_of_a_trusted_proxy_is_kept() -> None:
    assert sent(Plane(trusted=TRUSTED), "X-Request-Id: theirs\r\n")["x-request-id"] == ["theirs"]
    assert sent(Plane(trusted=TRUSTED))["x-request-id"] != ["theirs"]


def routed(plane: Plane, rule: str, chain: tuple[Any, ...] = (), key: str = "p") -> Plane:
    router = plane.listener.router or Router()
    router.add(Route(rule, parse_rule(rule), len(rule), key, chain))
    plane.listener.router = router
    plane.listener.backends = {**plane.listener.backends, key: plane.backend}
    return plane


def test_rule_for_a_client_address_sees_the_client_behind_the_proxy() -> None:
    plane = routed(Plane(trusted=TRUSTED), "ClientIP(`203.0.113.9`)")
    plane.listener.alone = True
    assert "host" in sent(plane, CHAIN)
    other = routed(Plane(trusted=TRUSTED), f"ClientIP(`{PROXY}`)")
    other.listener.alone = True
    other.ask(request(CHAIN))
    assert other.near.written.startswith(b"HTTP/1.1 404 ")


@pytest.mark.parametrize(
    ("allowed", "status"), [("203.0.113.0/24", b""), (PROXY, b"HTTP/1.1 403 "), ("6.6.6.6", b"HTTP/1.1 403 ")]
)
def test_allow_list_is_for_the_client_behind_the_proxy(allowed: str, status: bytes) -> None:
    chain = (make_middleware("ipallowlist", {"sourcerange": allowed}),)
    plane = routed(Plane(trusted=TRUSTED), "PathPrefix(`/`)", chain)
    plane.ask(request(CHAIN))
    assert plane.near.written[:13] == status


def test_rate_limit_counts_by_the_client_behind_the_proxy_whatever_the_client_writes() -> None:
    limit = make_middleware("ratelimit", {"average": "1", "burst": "1", "period": "1h"})

    def status(fields: str) -> bytes:
        plane = routed(Plane(trusted=TRUSTED), "PathPrefix(`/`)", (limit,))
        plane.ask(request(fields))
        return plane.near.written[:12]

    assert status("X-Forwarded-For: 1.1.1.1, 203.0.113.9\r\n") == b""
    assert status("X-Forwarded-For: 2.2.2.2, 203.0.113.9\r\n") == b"HTTP/1.1 429"
    assert status("X-Forwarded-For: 1.1.1.1, 203.0.113.10\r\n") == b""


def test_hash_by_source_is_by_the_client_behind_the_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    plane = Plane(trusted=TRUSTED, hash_key="source", balance="hash")
    keys: list[int] = []

    def pick(self: Backend, key: int = 0, tried: Any = None) -> Endpoint:
        keys.append(key)
        return plane.endpoint

    monkeypatch.setattr(Backend, "pick", pick)
    plane.ask(request(CHAIN))
    assert keys == [hash_key(b"203.0.113.9")]


def test_access_log_has_the_client_behind_the_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    entries: list[Entry] = []
    monkeypatch.setattr(AccessLog, "add", lambda self, style, entry: entries.append(entry))
    plane = Plane(trusted=TRUSTED, access_log="json")
    plane.listener.log = AccessLog()
    plane.ask(request(CHAIN))
    plane.answer(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
    assert [entry.client for entry in entries] == ["203.0.113.9"]


def second(plane: Plane) -> tuple[Any, FakeTransport]:
    """Another connection of the same proxy to the same port."""
    client = ServerConnection(Exchange, plane.listener)
    near = FakeTransport(client)
    client.connection_made(near)  # type: ignore[arg-type]
    return client, near


def test_source_limit_counts_requests_of_each_client_behind_a_trusted_proxy_and_not_its_connections() -> None:
    plane = Plane(connections=4, trusted=TRUSTED, max_per_source=1)
    plane.ask(request("X-Forwarded-For: 203.0.113.9\r\n"))
    (again, near), (other, far) = second(plane), second(plane)
    assert not near.closed
    again.data_received(request("X-Forwarded-For: 203.0.113.9\r\n"))
    assert near.written.startswith(b"HTTP/1.1 429 ")
    other.data_received(request("X-Forwarded-For: 203.0.113.10\r\n"))
    assert far.written == b""
    plane.exchange.upstream.data_received(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
    assert plane.near.written.startswith(b"HTTP/1.1 200 ")
    again.data_received(request("X-Forwarded-For: 203.0.113.9\r\n"))
    assert near.written.count(b"HTTP/1.1 429 ") == 1
    for client in (plane.connection, again, other):
        client.transport.abort()
    assert plane.listener.callers._open == {}
    assert plane.listener.sources._open == {}


def test_source_limit_of_clients_that_are_not_trusted_counts_connections() -> None:
    plane = Plane(max_per_source=1)
    _, near = second(plane)
    assert near.aborted


def test_two_services_on_one_connection_each_go_by_the_hops_that_they_trust() -> None:
    one, two = Plane(connections=2, trusted=[PROXY]), Plane(trusted=TRUSTED)
    plane = routed(routed(one, "Path(`/one`)", key="one"), "Path(`/two`)", key="two")
    plane.listener.backends = {"one": one.backend, "two": two.backend}
    chain = "X-Forwarded-For: 203.0.113.9, 10.0.0.1\r\n"
    plane.ask(request(chain, "/one"))
    assert plane.connection.client.called_from == "10.0.0.1"
    plane.exchange.upstream.data_received(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
    plane.ask(request(chain, "/two"))
    assert plane.connection.client.called_from == "203.0.113.9"
    assert b"X-Real-IP: 203.0.113.9\r\n" in two.far.written


def test_rule_for_a_client_address_does_not_depend_on_what_the_last_requests_service_trusts() -> None:
    plane = Plane(trusted=TRUSTED)
    routed(plane, "Path(`/one`)", key="one")
    routed(plane, "Path(`/two`) && ClientIP(`203.0.113.9`)", key="two")
    nowhere = Plane(trusted=[PROXY]).backend
    plane.listener.backend, plane.listener.alone = nowhere, True
    plane.ask(request(CHAIN, "/one"))
    plane.exchange.upstream.data_received(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
    plane.near.written = b""
    plane.ask(request(CHAIN, "/two"))
    assert plane.near.written.startswith(b"HTTP/1.1 404 ")


def test_rule_is_asked_with_the_peers_address_where_nobody_is_trusted() -> None:
    plane = Plane()
    plane.ask(request(CHAIN))
    asked = Asked(plane.exchange.request, b"/", b"", plane.connection.client.called_from)  # type: ignore[arg-type]
    assert parse_rule(f"ClientIP(`{PROXY}`)").matches(asked)
