"""Rules and middlewares beside the real Traefik: what matches there matches here, and becomes the same.

Each rule and each middleware has an entry point of Traefik's; here they are asked in the process.
"""

from pathlib import Path
from typing import Any

import pytest

from essaim.gateway.routing.router import Route, Router
from essaim.gateway.routing.rules import parse_rule

from .beside_traefik import TRAEFIK, answers, asked_of, middleware_differences, traefik
from .conftest import Backends

pytestmark = pytest.mark.skipif(TRAEFIK is None, reason="traefik is not installed")

RULES = [
    "Host(`a.example`)", "Host(`a.example.`)", "Host(`A.EXAMPLE`)", "HostRegexp(`^[a-z]+\\.example$`)", "Host(`::1`)",
    "Host(`a.example`) && !Path(`/x`) || Path(`/y`)", "Path(`/x`)", "PathPrefix(`/api`)", "PathPrefix(`/api/`)",
    "PathPrefix(`/a b`)", "Path(`/é`)", "Path(`/a%2Fb`)", "Path(`/a/b`)", "Path(`/a;b`)", "Path(`/a+b`)",
    "PathPrefix(`/admin`)", "PathRegexp(`^/V[0-9]`)", "PathRegexp(`^/a b$`)", "Header(`X-A`, `1`)",
    "!Header(`X-A`, `1`)", "HeaderRegexp(`X-A`, `^2$`)", "HeaderRegexp(`x-a`, `(?i)ONE`)", "Query(`a`, `1`)",
    "Query(`a`)", "QueryRegexp(`a`, `^1$`)", "Query(`a b`, `c d`)", "Method(`get`)", "Method(`OPTIONS`)",
    "ClientIP(`127.0.0.1`)", "ClientIP(`10.0.0.0/8`) || Method(`PUT`)",
]  # fmt: skip
ASKED = [
    *(("GET", "/", host, "") for host in ("a.example", "a.example.", "A.Example:8080", "b.example", "[::1]:80", "")),
    *(
        ("GET", path, "a.example", "")
        for path in (
            "/x", "/x/", "/api", "/apifoo", "/api/", "/a%20b/c", "/a%20b", "/%C3%A9", "/a%2fb", "/a//b", "/a/./b",
            "/a/c/../b", "/V1", "/v1", "/a+b", "/a%2Bb", "/%61dmin", "/x/%2e%2e/admin", "/admin%2Fx", "/a;b", "/a%3Bb",
            "/y", "/?a=1", "/?a", "/?a=1&a=2", "/?a=2&a=1", "/?a%20b=c%20d", "/?a+b=c+d", "/?%61=%31", "/..//admin",
        )
    ),
    *(
        ("GET", "/", "a.example", fields)
        for fields in ("X-A: 1", "x-a: 2", "X-A: 1\r\nX-A: 2", "X-A: 2\r\nX-A: 1", "X-A: 1, 2", "X-A: one")
    ),
    ("OPTIONS", "/", "a.example", ""), ("get", "/", "a.example", ""), ("PUT", "/x", "a.example", ""),
]  # fmt: skip

MIDDLEWARES: list[tuple[str, dict[str, Any]]] = [
    ("stripPrefix", {"prefixes": ["/api", "/a b"]}),
    ("stripPrefix", {"prefixes": ["/api/"]}),
    ("stripPrefixRegex", {"regex": ["/[a-z]+/[0-9]+"]}),
    ("addPrefix", {"prefix": "/p"}),
    ("addPrefix", {"prefix": "/p q"}),
    ("replacePath", {"path": "/r"}),
    ("replacePathRegex", {"regex": "^/api/(.*)", "replacement": "/z/$1"}),
    ("replacePathRegex", {"regex": "^/api/(.*)", "replacement": "/z/${1}y/$2$1x-${none}"}),
    ("replacePathRegex", {"regex": "^/api/(.*)", "replacement": "/z y/é/$1"}),
    ("redirectRegex", {"regex": "^https?://(.*)", "replacement": "http://$1"}),
    ("redirectRegex", {"regex": "^http://a.example/api/(.*)", "replacement": "https://b.example/${1}$$"}),
    ("redirectRegex", {"regex": "^http://(?P<name>[a-z]+).example/", "replacement": "https://x/${name}/"}),
    ("redirectScheme", {"scheme": "https", "permanent": True}),
    ("redirectScheme", {"scheme": "https", "port": "8443"}),
    ("ipAllowList", {"sourceRange": ["10.0.0.0/8"]}),
]
# At one entry point; a number is the priority.
TOGETHER: list[tuple[str, int]] = [
    ("PathPrefix(`/`)", 0), ("Host(`a.example`)", 0), ("Host(`a.example`) && PathPrefix(`/api`)", 0),
    ("Host(`a.example`) && Path(`/api/x`)", 0), ("HostRegexp(`^[a-z]+\\.example$`)", 0), ("Path(`/x`)", 200),
    ("Host(`b.example`)", 1), ("PathPrefix(`/api`) && !Host(`a.example`)", 0), ("Method(`PUT`)", 150),
    ("Host(`a.example`) || Host(`b.org`)", 0), ("Header(`X-A`, `1`) && Host(`a.example`)", 300),
    ("Query(`a`, `1`)", 45), ("ClientIP(`10.0.0.0/8`)", 1000), ("Path(`/low`)", -5),
]  # fmt: skip


async def test_rules_match_what_they_match_in_traefik(tmp_path: Path, backends: Backends) -> None:
    routers = [{"rule": rule} for rule in [*RULES, "PathPrefix(`/`)"]]
    different: list[str] = []
    async with traefik(tmp_path, await backends.web("s"), routers) as ports:
        for rule, port in zip(RULES, ports, strict=False):
            router = Router()
            router.add(Route(rule, parse_rule(rule), 1, "p", ()))
            for question, (status, line) in zip(ASKED, await answers(port, ASKED), strict=True):
                asked = asked_of(question)
                here = router.find(asked) is not None
                path = asked.path.decode()
                if here != (status == 200) or (here and line.split()[1].partition("?")[0] != path):
                    different.append(f"{rule} {question}: there {status} {line}, here {here} {path}")
    assert not different, "\n".join(different)


async def test_middlewares_make_of_requests_what_they_make_in_traefik(tmp_path: Path, backends: Backends) -> None:
    different = await middleware_differences(tmp_path, await backends.web("s"), MIDDLEWARES)
    assert not different, "\n".join(different)


async def test_the_router_that_takes_a_request_is_the_one_that_takes_it_in_traefik(
    tmp_path: Path, backends: Backends
) -> None:
    routers: list[dict[str, Any]] = [
        {"rule": rule, "priority": priority, "middlewares": [f"m{n}"], "made": {"addPrefix": {"prefix": f"/r{n}"}}}
        | {"entryPoints": ["e0"]}
        for n, (rule, priority) in enumerate(TOGETHER)
    ]
    routers.append({"rule": "PathPrefix(`/`)"})
    router = Router()
    for number, (rule, priority) in enumerate(TOGETHER):
        router.add(Route(f"r{number}", parse_rule(rule), priority or len(rule), "p", ()))
    priorities = [priority or len(rule) for rule, priority in TOGETHER]
    assert len(set(priorities)) == len(priorities), "Traefik has no order among equals"
    asked = [*ASKED, ("GET", "/low", "c.org", ""), ("GET", "/api/x", "b.org", ""), ("PUT", "/api/x", "a.example", "")]
    asked += [
        ("GET", f"{path}?a=1", host, "X-A: 1") for path in ("/x", "/api/x") for host in ("a.example", "b.example")
    ]
    different: list[str] = []
    async with traefik(tmp_path, await backends.web("s"), routers) as ports:
        for question, (_, line) in zip(asked, await answers(ports[0], asked), strict=True):
            found = router.find(asked_of(question))
            if f" /{found.name if found else None}/" not in line:
                different.append(f"{question}: there {line}, here {found and found.name}")
    assert not different, "\n".join(different)
