"""Rules and middlewares beside the real Traefik: what matches there matches here, and becomes the same.

Each rule and each middleware has an entry point of Traefik's; here they are asked in the process.
"""

import asyncio
import contextlib
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from essaim.gateway.codec.http1.head import parse_request
from essaim.gateway.codec.message import Refused
from essaim.gateway.routing.call import Answer, Call
from essaim.gateway.routing.matchers import Asked
from essaim.gateway.routing.middlewares.build import make_middleware
from essaim.gateway.routing.paths import normal
from essaim.gateway.routing.router import Route, Router
from essaim.gateway.routing.rules import parse_rule
from tests.ports import free_port

from .conftest import Backends

TRAEFIK = shutil.which("traefik", path=str(Path(sys.executable).parent))
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
PASSED = [
    (method, path, host, "")
    for method in ("GET", "PUT")
    for path, host in (
        ("/", "a.example"), ("/api", "a.example"), ("/api/", "a.example"), ("/apifoo", "a.example"),
        ("/api/x?y=1", "a.example:8080"), ("/a%20b/c", "a.example"), ("/abc/12/d", "a.example"), ("/api//x", "b.org"),
        ("/?x", "b.org"),
    )
]  # fmt: skip

# At one entry point; a number is the priority.
TOGETHER: list[tuple[str, int]] = [
    ("PathPrefix(`/`)", 0), ("Host(`a.example`)", 0), ("Host(`a.example`) && PathPrefix(`/api`)", 0),
    ("Host(`a.example`) && Path(`/api/x`)", 0), ("HostRegexp(`^[a-z]+\\.example$`)", 0), ("Path(`/x`)", 200),
    ("Host(`b.example`)", 1), ("PathPrefix(`/api`) && !Host(`a.example`)", 0), ("Method(`PUT`)", 150),
    ("Host(`a.example`) || Host(`b.org`)", 0), ("Header(`X-A`, `1`) && Host(`a.example`)", 300),
    ("Query(`a`, `1`)", 45), ("ClientIP(`10.0.0.0/8`)", 1000), ("Path(`/low`)", -5),
]  # fmt: skip

Question = tuple[str, str, str, str]
Outcome = tuple[int, str]
"""A status, and the replica's request line or where the answer leads."""


async def _ask(port: int, question: Question) -> Outcome:
    method, target, host, fields = question
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    lines = f"Host: {host}\r\n{fields}" + ("\r\n" if fields else "")
    writer.write(f"{method} {target} HTTP/1.1\r\n{lines}Connection: close\r\n\r\n".encode())
    async with asyncio.timeout(20):
        answer = await reader.read()
    writer.close()
    head, _, body = answer.decode("latin-1").partition("\r\n\r\n")
    status = int(head.split()[1])
    places = [line.partition(": ")[2] for line in head.split("\r\n") if line.lower().startswith("location:")]
    return status, places[0] if places else body.split("\r\n")[0].partition("\n")[2] if status == 200 else ""


@contextlib.asynccontextmanager
async def _traefik(folder: Path, backend: int, routers: list[dict[str, Any]]) -> AsyncIterator[list[int]]:
    """A Traefik with an entry point for each router, and their ports."""
    ports = [free_port() for _ in routers]
    middlewares = {f"m{n}": router.pop("made") for n, router in enumerate(routers) if "made" in router}
    http: dict[str, Any] = {
        "routers": {f"r{n}": {"entryPoints": [f"e{n}"], **r, "service": "s"} for n, r in enumerate(routers)},
        "services": {"s": {"loadBalancer": {"servers": [{"url": f"http://127.0.0.1:{backend}"}]}}},
    }
    if middlewares:
        http["middlewares"] = middlewares
    (folder / "dynamic.yml").write_text(yaml.safe_dump({"http": http}))
    points = {f"e{n}": {"address": f"127.0.0.1:{port}"} for n, port in enumerate(ports)}
    static = {"entryPoints": points, "providers": {"file": {"filename": str(folder / "dynamic.yml")}}}
    (folder / "static.yml").write_text(yaml.safe_dump(static))
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([str(TRAEFIK), f"--configFile={folder}/static.yml"], stdout=log, stderr=log)
    try:
        async with asyncio.timeout(30):
            while True:
                with contextlib.suppress(OSError, IndexError):
                    if (await _ask(ports[-1], ("GET", "/api", "a.example", "")))[0] != 404:
                        break
                assert process.poll() is None, (folder / "log").read_text()
                await asyncio.sleep(0.05)
        yield ports
    finally:
        process.kill()
        process.wait()


def _asked(question: Question) -> Asked:
    method, target, host, fields = question
    lines = f"Host: {host}\r\n{fields}" + ("\r\n" if fields else "")
    request = parse_request(f"{method} {target} HTTP/1.1\r\n{lines}".encode())
    path, _, query = request.target.partition(b"?")
    return Asked(request, normal(path), query, "127.0.0.1")


async def test_rules_match_what_they_match_in_traefik(tmp_path: Path, backends: Backends) -> None:
    routers = [{"rule": rule} for rule in [*RULES, "PathPrefix(`/`)"]]
    different: list[str] = []
    async with _traefik(tmp_path, await backends.web("s"), routers) as ports:
        for rule, port in zip(RULES, ports, strict=False):
            router = Router()
            router.add(Route(rule, parse_rule(rule), 1, "p", ()))
            for question, (status, line) in zip(ASKED, await _all(port, ASKED), strict=True):
                asked = _asked(question)
                here = router.find(asked) is not None
                path = asked.path.decode()
                if here != (status == 200) or (here and line.split()[1].partition("?")[0] != path):
                    different.append(f"{rule} {question}: there {status} {line}, here {here} {path}")
    assert not different, "\n".join(different)


async def test_middlewares_make_of_requests_what_they_make_in_traefik(tmp_path: Path, backends: Backends) -> None:
    routers: list[dict[str, Any]] = [
        {"rule": "PathPrefix(`/`)", "middlewares": [f"m{n}"], "made": {kind: options}}
        for n, (kind, options) in enumerate(MIDDLEWARES)
    ]
    different: list[str] = []
    async with _traefik(tmp_path, await backends.web("s"), routers) as ports:
        for (kind, options), port in zip(MIDDLEWARES, ports, strict=True):
            for question, there in zip(PASSED, await _all(port, PASSED), strict=True):
                here = _passed(kind, options, question)
                if here != there:
                    different.append(f"{kind} {options} {question[1:3]}: there {there}, here {here}")
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
    async with _traefik(tmp_path, await backends.web("s"), routers) as ports:
        for question, (_, line) in zip(asked, await _all(ports[0], asked), strict=True):
            found = router.find(_asked(question))
            if f" /{found.name if found else None}/" not in line:
                different.append(f"{question}: there {line}, here {found and found.name}")
    assert not different, "\n".join(different)


async def _all(port: int, questions: list[Question]) -> list[Outcome]:
    return await asyncio.gather(*(_ask(port, question) for question in questions))


def _passed(kind: str, options: dict[str, Any], question: Question) -> Outcome:
    labels = {name.lower(): ",".join(v) if isinstance(v, list) else str(v).lower() if isinstance(v, bool) else v
              for name, v in options.items()}  # fmt: skip
    try:
        asked = _asked(question)
        request = asked.request
        call = Call(request, asked.path, asked.query, request.fields, asked.address, request.authority or b"", 0.0)
        make_middleware(kind.lower(), labels)(call)
    except Refused as refused:
        return refused.status, ""
    except Answer as answer:
        return answer.status, answer.lines.decode().removeprefix("Location: ").strip()
    return 200, f"{question[0]} {call.target.decode()} HTTP/1.1"
