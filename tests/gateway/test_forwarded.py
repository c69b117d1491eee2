"""What replicas are told of the client's scheme and port, as Traefik tells it."""

import pytest

from essaim.gateway.codec.message import FORWARDED, FORWARDED_FOR
from essaim.gateway.http.forwarded import extended_lines, field_lines, port_of


def fields(lines: bytes) -> dict[str, str]:
    pairs = [line.split(": ", 1) for line in lines.decode().split("\r\n") if line]
    assert len({name for name, _ in pairs}) == len(pairs)
    return dict(pairs)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("host", "scheme", "port"),
    [
        (b"a.example", b"http", b"80"), (b"a.example", b"https", b"443"), (b"a.example", b"wss", b"443"),
        (b"a.example", b"ws", b"80"), (b"a.example:8443", b"http", b"8443"), (b"[::1]", b"http", b"80"),
        (b"[::1]:81", b"https", b"81"), (b"a.example:", b"https", b"443"), (b"", b"http", b"80"),
        (b"a1", b"https", b"443"), (b"[fe80::1]", b"https", b"443"),
    ],
)  # fmt: skip
def test_port_is_the_hosts_or_the_schemes(host: bytes, scheme: bytes, port: bytes) -> None:
    assert port_of(host, scheme) == port


def test_websocket_is_told_as_ws_or_wss() -> None:
    plain = fields(field_lines("192.0.2.1", "http", b"a", websocket=True))
    assert (plain["X-Forwarded-Proto"], plain["X-Forwarded-Port"]) == ("ws", "80")
    secure = fields(field_lines("192.0.2.1", "https", b"a", websocket=True))
    assert (secure["X-Forwarded-Proto"], secure["X-Forwarded-Port"]) == ("wss", "443")
    assert "proto=https" in secure["Forwarded"]


@pytest.mark.parametrize(
    ("claims", "proto", "port"),
    [
        ({}, "http", "8080"),
        ({"X-Forwarded-Proto": "https"}, "https", "8080"),
        ({"X-Forwarded-Proto": "wss", "X-Forwarded-Port": "9"}, "wss", "9"),
    ],
)
def test_claims_of_a_trusted_proxy_stand(claims: dict[str, str], proto: str, port: str) -> None:
    claimed = [(FORWARDED_FOR, b"203.0.113.9", b"X-Forwarded-For: 203.0.113.9")]
    claimed += [(FORWARDED, value.encode(), f"{name}: {value}".encode()) for name, value in claims.items()]
    told = fields(extended_lines("192.0.2.1", "203.0.113.9", "http", b"a:8080", claimed, proven=False))
    assert (told["X-Forwarded-Proto"], told["X-Forwarded-Port"]) == (proto, port)


def test_port_behind_a_proxy_that_says_only_https_is_443() -> None:
    claimed = [(FORWARDED, b"https", b"X-Forwarded-Proto: https")]
    told = fields(extended_lines("192.0.2.1", "192.0.2.1", "http", b"a", claimed, proven=False))
    assert (told["X-Forwarded-Proto"], told["X-Forwarded-Port"]) == ("https", "443")
