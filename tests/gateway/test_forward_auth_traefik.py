"""forwardAuth beside a real Traefik: what the auth server is asked, and what the client and the backend get."""

import asyncio
import contextlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from essaim.cluster.routes import RoutePort, RouteService
from tests.ports import free_port

from .conftest import Backends, endpoint, entry_points, exchange, gateway_with, table
from .peer import Answer, Seen, comparable, differences, parsed, read_request, renamed, traefik

OK = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n"


@dataclass
class Case:
    """An exchange: the middleware's options, the request's first line and fields, and what the auth server answers."""

    options: dict[str, Any] = field(default_factory=dict)
    first: str = "GET /a/b?c=%20d HTTP/1.1"
    fields: str = ""
    body: str = ""
    answer: str = OK + "\r\nok"
    target: str = "/verify?x=1"
    backend: str = OK + "\r\nhi"


CASES: dict[str, Case] = {
    "allowed": Case(),
    "fields": Case(
        {"authResponseHeaders": ["X-User", "x-groups", "X-Gone", "Content-Length", "Connection"]},
        fields="X-User: eve\r\nX-USER: mallory\r\nX-Gone: 1\r\nX-Kept: 2\r\nCookie: a=b\r\nAuthorization: Bearer x\r\n",
        answer=OK + "X-User: ann\r\nX-Groups: a\r\nX-Groups: b\r\nX-Other: no\r\n\r\nok",
    ),
    "pattern": Case(
        {"authResponseHeadersRegex": "^X-Auth-.*"},
        fields="x-auth-user: eve\r\nX-Auth-Old: 1\r\nX-Authentic: 2\r\n",
        answer=OK + "x-auth-user: ann\r\nX-Auth-Role: r\r\nX-Authentic: no\r\n\r\nok",
    ),
    "filter": Case(
        {"authRequestHeaders": ["cookie", "X-Trace"]},
        fields="Cookie: a=b\r\nX-Trace: 7\r\nAuthorization: secret\r\nUser-Agent: me\r\nAccept: */*\r\n",
    ),
    "hop": Case(
        fields="Connection: keep-alive, X-Hop\r\nX-Hop: 1\r\nKeep-Alive: 5\r\nUser-Agent: me\r\n",
    ),
    "no agent": Case(fields="Accept: text/html\r\n"),
    "claims": Case(
        {"trustForwardHeader": True},
        fields="X-Forwarded-For: 9.9.9.9\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: evil\r\n",
    ),
    "method": Case({"preserveRequestMethod": True}, first="DELETE /x HTTP/1.1"),
    "head": Case({"preserveRequestMethod": True}, first="HEAD /x HTTP/1.1", answer=OK + "\r\n", backend=OK + "\r\n"),
    "nobody there": Case({"address": "http://127.0.0.1:1"}, target=""),
    "post": Case(
        first="POST /p HTTP/1.1", fields="Content-Length: 5\r\nContent-Type: text/plain\r\n", body="hello",
    ),
    "body": Case(
        {"forwardBody": True},
        first="POST /p HTTP/1.1", fields="Content-Length: 5\r\nContent-Type: text/plain\r\n", body="hello",
    ),
    "chunks": Case(
        {"forwardBody": True, "maxBodySize": 5},
        first="POST /p HTTP/1.1", fields="Transfer-Encoding: chunked\r\n", body="2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n",
    ),
    "body too long": Case(
        {"forwardBody": True, "maxBodySize": 4},
        first="POST /p HTTP/1.1", fields="Content-Length: 5\r\n", body="hello",
    ),
    "chunks too long": Case(
        {"forwardBody": True, "maxBodySize": 4},
        first="POST /p HTTP/1.1", fields="Transfer-Encoding: chunked\r\n", body="2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n",
    ),
    "refused": Case(
        answer="HTTP/1.1 403 Forbidden\r\nContent-Type: text/html\r\nX-Why: no\r\nContent-Length: 5\r\n\r\n<no/>",
    ),
    "refused head": Case(
        first="HEAD / HTTP/1.1",
        answer="HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Basic realm=x\r\nContent-Length: 2\r\n\r\nno",
    ),
    "refused without a body": Case(answer="HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n"),
    "refused in chunks": Case(
        answer="HTTP/1.1 418 Teapot\r\nContent-Type: a/b\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nno\r\n0\r\n\r\n",
    ),
    "refused until the end": Case(answer="HTTP/1.1 503 Busy\r\nContent-Type: a/b\r\nX-A: 1\r\n\r\nbusy"),
    "refused with hop fields": Case(
        answer="HTTP/1.1 403 No\r\nContent-Type: a/b\r\nKeep-Alive: timeout=5\r\nContent-Length: 0\r\n\r\n",
    ),
    "not modified": Case(answer="HTTP/1.1 304 Not Modified\r\nETag: x\r\n\r\n"),
    "redirect": Case(
        answer="HTTP/1.1 302 Found\r\nLocation: https://login.example/?rd=x\r\nSet-Cookie: a=1; Path=/\r\n"
        "Set-Cookie: b=2; Path=/; HttpOnly\r\nContent-Type: text/html\r\nContent-Length: 2\r\n\r\ngo",
    ),
    "relative redirect": Case(
        answer="HTTP/1.1 303 See Other\r\nLocation: login?a=b\r\nContent-Type: a/b\r\nContent-Length: 0\r\n\r\n",
        target="/auth/verify",
    ),
    "relative redirect kept": Case(
        {"preserveLocationHeader": True},
        answer="HTTP/1.1 307 T\r\nLocation: /login\r\nContent-Type: a/b\r\nContent-Length: 0\r\n\r\n",
    ),
    "sign-in": Case(
        {"authSigninURL": "https://login.example/in"}, answer="HTTP/1.1 401 No\r\nContent-Length: 2\r\n\r\nno",
    ),
    "sign-in for nobody else": Case(
        {"authSigninURL": "https://login.example/in"},
        answer="HTTP/1.1 403 No\r\nContent-Type: a/b\r\nContent-Length: 2\r\n\r\nno",
    ),
    "cookies": Case(
        {"addAuthCookiesToResponse": ["sid", "st"]},
        answer=OK + "Set-Cookie: sid=new; Path=/\r\nSet-Cookie: not=me\r\n\r\nok",
        backend=OK + "Set-Cookie: sid=old\r\nSet-Cookie: mine=1\r\nSet-Cookie: st=2\r\n\r\nhi",
    ),
    "no cookies": Case(
        {"addAuthCookiesToResponse": ["sid"]}, backend=OK + "Set-Cookie: sid=old\r\n\r\nhi",
    ),
    "answer too long": Case({"maxResponseBodySize": 1}),
    "broken answer": Case(answer="HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nok"),
    "no HTTP": Case(answer="hello\r\n\r\n"),
    "no answer": Case(answer=""),
    "early hints": Case(answer="HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + OK + "\r\nok"),
}  # fmt: skip
ROUTES = ("traefik", "inside", "outside")


class Recorder:
    """An auth server and a backend: what each case's request to them was, and a canned answer."""

    def __init__(self) -> None:
        self.seen: dict[str, Seen] = {}

    def handler(self, role: str) -> Any:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
                first, fields, body = await read_request(reader)
                host = dict(fields)["x-forwarded-host" if role == "auth" else "host"].removesuffix(".example")
                told = comparable(fields, "content-length", "transfer-encoding")
                self.seen.setdefault(host, {})[role] = (first, told, body)
                case = CASES[NAMES[host]]
                writer.write((case.answer if role == "auth" else case.backend).encode())
            writer.close()

        return serve


NAMES = {f"{route}-{number}": name for number, name in enumerate(CASES) for route in ROUTES}


def traefik_config(auth: int, backend: int) -> dict[str, dict[str, Any]]:
    numbered = {str(number): case for number, case in enumerate(CASES.values())}
    return {
        "routers": {n: {"rule": f"Host(`traefik-{n}.example`)", "service": "s", "middlewares": [n]} for n in numbered},
        "middlewares": {
            n: {"forwardAuth": {"address": f"http://127.0.0.1:{auth}{case.target}"} | case.options}
            for n, case in numbered.items()
        },
        "services": {"s": {"loadBalancer": {"servers": [{"url": f"http://127.0.0.1:{backend}"}]}}},
    }


def labels_of(name: str, case: Case, address: str) -> dict[str, str]:
    def text(value: Any) -> str:
        return ",".join(value) if isinstance(value, list) else str(value).lower() if value in (True, False) else value

    options = {"address": address + case.target} | case.options
    m = f"traefik.http.middlewares.{name}.forwardauth."
    return {
        f"traefik.http.routers.{name}.rule": f"Host(`{name}.example`)",
        f"traefik.http.routers.{name}.middlewares": name,
    } | {m + option: str(value) if isinstance(value, int) and value not in (0, 1) else text(value)
         for option, value in options.items()}  # fmt: skip


def gateway_table(auth: int, backend: int) -> Any:
    labels: dict[str, str] = {}
    for number, case in enumerate(CASES.values()):
        labels |= labels_of(f"inside-{number}", case, "http://auth:9091")
        labels |= labels_of(f"outside-{number}", case, f"http://127.0.0.1:{auth}")
    labels["com.docker.stack.namespace"] = "st"

    def port(target: int, name: str, real: int) -> RoutePort:
        return RoutePort(protocol="tcp", target_port=target, published_port=0, endpoints=[endpoint(name, real)])

    return table(
        1,
        RouteService(id="app", name="st_app", labels=labels, ports=[port(80, "t", backend)]),
        RouteService(id="auth", name="st_auth", ports=[port(9091, "a", auth)]),
    )


async def asked(port: int, host: str, case: Case) -> Answer:
    head = f"{case.first}\r\nHost: {host}.example\r\n{case.fields}"
    if "Connection:" not in case.fields:
        return parsed(await exchange(port, f"{head}Connection: close\r\n\r\n{case.body}".encode()))
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(f"{head}\r\n{case.body}".encode())
    async with asyncio.timeout(20):
        got = await reader.readuntil(b"\r\n\r\n")
        got += await reader.readexactly(2)
    writer.close()
    return parsed(got)


async def test_forward_auth_does_as_traefik_does(tmp_path: Path, backends: Backends) -> None:
    recorder = Recorder()
    auth, backend = await backends.serve(recorder.handler("auth")), await backends.serve(recorder.handler("backend"))
    web, other = free_port(), free_port()
    different: list[str] = []
    async with gateway_with(tmp_path, entry_points({"web": web})) as gateway:
        await gateway.apply(gateway_table(auth, backend))
        async with traefik(tmp_path, traefik_config(auth, backend), other):
            for number, (name, case) in enumerate(CASES.items()):
                theirs = (await asked(other, f"traefik-{number}", case), recorder.seen.get(f"traefik-{number}", {}))
                for route in ("inside", "outside"):
                    host = f"{route}-{number}"
                    ours = (await asked(web, host, case), recorder.seen.get(host, {}))
                    named = "auth:9091" if route == "inside" else f"127.0.0.1:{auth}"
                    words = {f"traefik-{number}": host, f"127.0.0.1:{auth}": named}
                    different += differences(f"{name} ({route})", renamed(theirs, words), ours)
    assert not different, "\n".join(different)
