"""forwardAuth beside a real Traefik: what the auth server is asked, and what the client and the backend get."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from essaim.cluster.routes import RoutePort, RouteService
from essaim.gateway.supervisor import Gateway
from tests.configs.conftest import program

from .conftest import Backends, endpoint, entry_points, exchange, free_port, table

OK = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n"
# What only one of the two says: their names, ports and clocks, compression.
IGNORED = {
    "accept-encoding", "x-forwarded-server", "x-forwarded-port", "x-real-ip", "forwarded", "x-request-id", "connection",
    "date", "host",
}  # fmt: skip


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
        self.seen: dict[str, dict[str, Any]] = {}

    def handler(self, role: str) -> Any:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
                first, *lines = head.split("\r\n")
                fields = [(name.lower(), value) for name, _, value in (one.partition(": ") for one in lines if one)]
                known = dict(fields)
                body = b""
                if known.get("transfer-encoding") == "chunked":
                    while size := int(await reader.readline(), 16):
                        body += await reader.readexactly(size)
                        await reader.readline()
                    await reader.readline()
                elif "content-length" in known:
                    body = await reader.readexactly(int(known["content-length"]))
                case = known["x-forwarded-host" if role == "auth" else "host"].removesuffix(".example")
                self.seen.setdefault(case, {})[role] = (
                    first,
                    sorted(one for one in fields if one[0] not in IGNORED | {"content-length", "transfer-encoding"}),
                    body,
                )
                answer = CASES[names[case]].answer if role == "auth" else CASES[names[case]].backend
                writer.write(answer.encode())
            writer.close()

        return serve


names = {f"{route}-{number}": name for number, name in enumerate(CASES) for route in ROUTES}


@contextlib.asynccontextmanager
async def traefik(folder: Path, auth: int, backend: int, port: int) -> AsyncIterator[None]:
    def middleware(case: Case) -> dict[str, Any]:
        return {"forwardAuth": {"address": f"http://127.0.0.1:{auth}{case.target}"} | case.options}

    numbered = {str(number): case for number, case in enumerate(CASES.values())}
    dynamic = {
        "routers": {n: {"rule": f"Host(`traefik-{n}.example`)", "service": "s", "middlewares": [n]} for n in numbered}
        | {"ready": {"rule": "Host(`ready.example`)", "service": "s", "middlewares": ["ready"]}},
        "middlewares": {n: middleware(case) for n, case in numbered.items()}
        | {"ready": {"ipAllowList": {"sourceRange": ["192.0.2.1"], "rejectStatusCode": 418}}},
        "services": {"s": {"loadBalancer": {"servers": [{"url": f"http://127.0.0.1:{backend}"}]}}},
    }
    (folder / "dynamic.yml").write_text(yaml.safe_dump({"http": dynamic}))
    static = {
        "entryPoints": {"web": {"address": f"127.0.0.1:{port}"}},
        "providers": {"file": {"filename": str(folder / "dynamic.yml"), "watch": False}},
        "global": {"checkNewVersion": False, "sendAnonymousUsage": False},
    }
    (folder / "traefik.yml").write_text(yaml.safe_dump(static))
    with (folder / "traefik.out").open("wb") as out:
        process = await asyncio.create_subprocess_exec(
            program("traefik"), f"--configFile={folder}/traefik.yml", stdout=out, stderr=out, start_new_session=True
        )
    try:
        async with asyncio.timeout(30):
            while True:
                with contextlib.suppress(OSError):
                    got = await exchange(port, b"GET / HTTP/1.1\r\nHost: ready.example\r\nConnection: close\r\n\r\n")
                    if b" 418 " in got:
                        break
                await asyncio.sleep(0.05)
        yield
    finally:
        process.terminate()
        await process.wait()


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


def what_the_client_got(answer: bytes, method: str) -> tuple[int, list[tuple[str, str]], bytes]:
    head, _, body = answer.partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    fields = sorted((name.lower(), value) for name, _, value in (one.partition(": ") for one in lines))
    status = int(first.split()[1])
    return status, [one for one in fields if one[0] not in IGNORED], body


async def asked(port: int, host: str, case: Case) -> tuple[int, list[tuple[str, str]], bytes]:
    head = f"{case.first}\r\nHost: {host}.example\r\n{case.fields}"
    if "Connection:" not in case.fields:
        head += "Connection: close\r\n"
        got = await exchange(port, f"{head}\r\n{case.body}".encode())
    else:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(f"{head}\r\n{case.body}".encode())
        async with asyncio.timeout(20):
            got = await reader.readuntil(b"\r\n\r\n")
            got += await reader.readexactly(2)
        writer.close()
    return what_the_client_got(got, case.first.split()[0])


async def test_forward_auth_does_as_traefik_does(tmp_path: Path, backends: Backends) -> None:
    recorder = Recorder()
    auth, backend = await backends.serve(recorder.handler("auth")), await backends.serve(recorder.handler("backend"))
    web, other = free_port(), free_port()
    gateway = Gateway(
        mesh_addr="127.0.0.1", state_dir=tmp_path, node_id="n1", workers=1, entry_points=entry_points({"web": web})
    )
    await gateway.start()
    different: list[str] = []
    try:
        await gateway.apply(gateway_table(auth, backend))
        async with traefik(tmp_path, auth, backend, other):
            for number, (name, case) in enumerate(CASES.items()):
                theirs = (await asked(other, f"traefik-{number}", case), recorder.seen.get(f"traefik-{number}", {}))
                for route in ("inside", "outside"):
                    host = f"{route}-{number}"
                    ours = (await asked(web, host, case), recorder.seen.get(host, {}))
                    named = "auth:9091" if route == "inside" else f"127.0.0.1:{auth}"
                    words = {f"traefik-{number}": host, f"127.0.0.1:{auth}": named}
                    different += differences(f"{name} ({route})", adapted(theirs, words), ours)
    finally:
        await gateway.stop(grace=0.2)
    assert not different, "\n".join(different)


def adapted(theirs: Any, words: dict[str, str]) -> Any:
    """Traefik's words with the gateway's names in them, and without its client's name for itself."""
    if isinstance(theirs, str):
        for word, ours in words.items():
            theirs = theirs.replace(word, ours)
        return theirs
    if isinstance(theirs, dict):
        return {key: adapted(value, words) for key, value in theirs.items()}
    if isinstance(theirs, list | tuple):
        kept = (one for one in theirs if one != ("user-agent", "Go-http-client/1.1"))
        return type(theirs)(adapted(one, words) for one in kept)
    return theirs


def is_own(status: int, body: bytes) -> bool:
    """The gateway's own words, where Traefik has none."""
    return body.startswith(b"%d " % status) and body.endswith(b"\n")


def differences(name: str, theirs: Any, ours: Any) -> list[str]:
    ((status, fields, body), seen), ((our_status, our_fields, our_body), our_seen) = theirs, ours
    found = [f"{name}: client {status} {our_status}"] if status != our_status else []
    if set(seen) != set(our_seen):
        found.append(f"{name}: asked {sorted(seen)}, by us {sorted(our_seen)}")
    for role in seen:
        if role in our_seen and seen[role] != our_seen[role]:
            found.append(f"{name}: {role}\n   traefik {seen[role]}\n   essaim  {our_seen[role]}")
    if not body and is_own(our_status, our_body):
        our_body = b""
        fields, our_fields = (
            [one for one in some if not one[0].startswith("content-")] for some in (fields, our_fields)
        )
    if fields != our_fields or body != our_body:
        found.append(f"{name}: answer\n   traefik {fields} {body!r}\n   essaim  {our_fields} {our_body!r}")
    return found
