"""The other middlewares beside a real Traefik: what the backend gets of a request, and the client of its answer."""

import asyncio
import contextlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from essaim.cluster.routes import RoutePort, RouteService
from tests.ports import free_port

from .conftest import Backends, endpoint, entry_points, exchange, gateway_with, table
from .peer import Answer, Seen, comparable, differences, parsed, read_request, renamed, traefik

USERS = ["ann:{SHA}5en6G6MezRroT3XKqkdPOmY/BfQ="]
RIGHT = "Authorization: Basic YW5uOnNlY3JldA==\r\n"
ORIGIN = "Origin: http://o.example\r\n"
PREFLIGHT = ORIGIN + "Access-Control-Request-Method: PUT\r\n"


@dataclass
class Case:
    """The middlewares in their order (kind, options), and the request."""

    chain: list[tuple[str, dict[str, Any]]]
    first: str = "GET /a/b?c=d HTTP/1.1"
    fields: str = ""


def one(kind: str, first: str = "GET /a/b?c=d HTTP/1.1", fields: str = "", **options: Any) -> Case:
    return Case([(kind, options)], first, fields)


CASES: dict[str, Case] = {
    "stripPrefix": one("stripPrefix", prefixes=["/x", "/a"]),
    "stripPrefix all": one("stripPrefix", "GET /a HTTP/1.1", prefixes=["/a"]),
    "stripPrefix part of a segment": one("stripPrefix", "GET /api HTTP/1.1", prefixes=["/a"]),
    "stripPrefix with query": one("stripPrefix", "GET /a?x HTTP/1.1", prefixes=["/a"]),
    "stripPrefix escaped": one("stripPrefix", "GET /a/%2Fb%20c HTTP/1.1", prefixes=["/a"]),
    "stripPrefix of a claim": one("stripPrefix", fields="X-Forwarded-Prefix: /evil\r\n", prefixes=["/a"]),
    "stripPrefix with a slash": one("stripPrefix", "GET /a/b/ HTTP/1.1", prefixes=["/a/"]),
    "stripPrefixRegex": one("stripPrefixRegex", "GET /v12/x HTTP/1.1", regex=["/v[0-9]+"]),
    "stripPrefixRegex elsewhere": one("stripPrefixRegex", "GET /x/v12 HTTP/1.1", regex=["/v[0-9]+"]),
    "stripPrefixRegex slash": one("stripPrefixRegex", "GET /v1/ HTTP/1.1", regex=["/v[0-9]+/?"]),
    "addPrefix": one("addPrefix", prefix="/p"),
    "addPrefix bare": one("addPrefix", prefix="p"),
    "replacePath": one("replacePath", path="/y"),
    "replacePath query": one("replacePath", "GET /a HTTP/1.1", path="/y z"),
    "replacePathRegex": one("replacePathRegex", regex="^/a/(.*)", replacement="/n/$1/m"),
    "replacePathRegex named": one("replacePathRegex", regex="^/(?P<x>[a-z])/", replacement="/${x}1/"),
    "replacePathRegex miss": one("replacePathRegex", regex="^/z/(.*)", replacement="/n/$1"),
    "replacePathRegex glued": one("replacePathRegex", regex="^/(a)/", replacement="/y$1x/"),
    "redirectScheme": one("redirectScheme", scheme="https", port="8443"),
    "redirectScheme permanent": one("redirectScheme", scheme="https", permanent=True),
    "redirectScheme post": one("redirectScheme", "POST / HTTP/1.1", "Content-Length: 0\r\n", scheme="https"),
    "redirectScheme post permanent": one(
        "redirectScheme", "POST / HTTP/1.1", "Content-Length: 0\r\n", scheme="https", permanent=True
    ),
    "redirectScheme default port": one("redirectScheme", scheme="https", port="443"),
    "redirectScheme same": one("redirectScheme", scheme="http"),
    "redirectRegex": one("redirectRegex", regex="^http://([^/]+)/a/(.*)", replacement="https://$1/$2"),
    "redirectRegex permanent": one("redirectRegex", regex="^http://.*", replacement="https://b/", permanent=True),
    "redirectRegex post": one(
        "redirectRegex", "POST /a HTTP/1.1", "Content-Length: 0\r\n", regex=".*", replacement="https://b/"
    ),
    "redirectRegex same": one("redirectRegex", regex="^(.*)$", replacement="$1"),
    "redirectRegex miss": one("redirectRegex", regex="^https://", replacement="http://b/"),
    "headers": one(
        "headers",
        fields="X-A: 1\r\nX-Gone: 2\r\n",
        customRequestHeaders={"X-A": "3", "X-Gone": "", "X-New": "n"},
        customResponseHeaders={"X-B": "4", "Server": "", "X-From": "gw"},
    ),
    "headers security": one(
        "headers", frameDeny=True, contentTypeNosniff=True, browserXssFilter=True, referrerPolicy="no-referrer",
        stsSeconds=60, stsIncludeSubdomains=True, stsPreload=True, forceSTSHeader=True, permissionsPolicy="x=()",
        contentSecurityPolicy="default-src 'self'",
    ),
    "headers frame": one("headers", frameDeny=True, customFrameOptionsValue="SAMEORIGIN"),
    "headers sts in the clear": one("headers", stsSeconds=60),
    "cors preflight": one(
        "headers", "OPTIONS / HTTP/1.1", PREFLIGHT, accessControlAllowMethods=["GET", "PUT"],
        accessControlAllowHeaders=["X-A"], accessControlAllowOriginList=["http://o.example"], accessControlMaxAge=100,
        addVaryHeader=True,
    ),
    "cors preflight of another": one(
        "headers", "OPTIONS / HTTP/1.1", PREFLIGHT, accessControlAllowMethods=["GET"],
        accessControlAllowOriginList=["http://p.example"],
    ),
    "cors preflight for any": one(
        "headers", "OPTIONS / HTTP/1.1", PREFLIGHT, accessControlAllowOriginList=["*"],
        accessControlAllowCredentials=True,
    ),
    "cors": one(
        "headers", fields=ORIGIN, accessControlAllowOriginList=["http://o.example"], addVaryHeader=True,
        accessControlExposeHeaders=["X-B"], accessControlAllowCredentials=True,
    ),
    "cors for any with credentials": one(
        "headers", fields=ORIGIN, accessControlAllowOriginList=["*"], accessControlAllowCredentials=True
    ),
    "cors for any": one("headers", fields=ORIGIN, accessControlAllowOriginList=["*"]),
    "cors without origin of one": one("headers", accessControlAllowOriginList=["http://o.example"]),
    "cors preflight for any without credentials": one(
        "headers", "OPTIONS / HTTP/1.1", PREFLIGHT, accessControlAllowOriginList=["*"]
    ),
    "redirectScheme head": one("redirectScheme", "HEAD / HTTP/1.1", scheme="https"),
    "redirectRegex dollar": one("redirectRegex", regex="^http://(.*)$", replacement="https://$$$1${2}$x/"),
    "replacePathRegex twice": one("replacePathRegex", regex="[ab]*$", replacement="z"),
    "replacePathRegex space": one("replacePathRegex", regex="^/a", replacement="/x y"),
    "cors pattern": one("headers", fields=ORIGIN, accessControlAllowOriginListRegex=["^http://.*\\.example$"]),
    "cors of another": one("headers", fields=ORIGIN, accessControlAllowOriginList=["http://p.example"]),
    "cors without origin": one("headers", accessControlAllowOriginList=["*"], addVaryHeader=True),
    "basicAuth": one("basicAuth", fields=RIGHT, users=USERS, headerField="X-User"),
    "basicAuth removed": one("basicAuth", fields=RIGHT, users=USERS, removeHeader=True),
    "basicAuth claim": one("basicAuth", fields=RIGHT + "X-User: eve\r\n", users=USERS, headerField="X-User"),
    "basicAuth none": one("basicAuth", users=USERS, realm="mine"),
    "basicAuth wrong": one("basicAuth", fields="Authorization: Basic YW5uOm5v\r\n", users=USERS),
    "ipAllowList": one("ipAllowList", sourceRange=["127.0.0.0/8"]),
    "ipAllowList refused": one("ipAllowList", sourceRange=["192.0.2.0/24"]),
    "ipAllowList status": one("ipAllowList", sourceRange=["192.0.2.0/24"], rejectStatusCode=404),
    "buffering": one("buffering", maxRequestBodyBytes=10),
    "retry": one("retry", attempts=2),
    "inFlightReq": one("inFlightReq", amount=1),
    "rateLimit": one("rateLimit", average=100, burst=1),
    "headers then refused": Case(
        [("headers", {"customResponseHeaders": {"X-B": "4"}, "frameDeny": True}), ("basicAuth", {"users": USERS})]
    ),
    "cors then refused": Case(
        [("headers", {"accessControlAllowOriginList": ["*"]}), ("ipAllowList", {"sourceRange": ["192.0.2.1"]})],
        fields=ORIGIN,
    ),
    "headers then redirected": Case(
        [("headers", {"customResponseHeaders": {"X-B": "4"}}), ("redirectScheme", {"scheme": "https"})]
    ),
    "strip then add": Case([("stripPrefix", {"prefixes": ["/a"]}), ("addPrefix", {"prefix": "/z"})]),
    "strip then redirect": Case(
        [("stripPrefix", {"prefixes": ["/a"]}), ("redirectRegex", {"regex": "^(.*)$", "replacement": "https://b/?u=$1"})]
    ),
    "strip then scheme": Case([("stripPrefix", {"prefixes": ["/a"]}), ("redirectScheme", {"scheme": "https"})]),
}  # fmt: skip
ANSWER = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nServer: s\r\nX-B: b\r\nVary: Accept\r\n\r\nhi"


class Recorder:
    def __init__(self) -> None:
        self.seen: dict[str, Seen] = {}

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            first, fields, body = await read_request(reader)
            host = dict(fields)["host"].removesuffix(".example")
            self.seen[host] = {"backend": (first, comparable(fields), body)}
            writer.write(ANSWER.encode())
        writer.close()


def traefik_config(backend: int) -> dict[str, dict[str, Any]]:
    routers: dict[str, Any] = {}
    middlewares: dict[str, Any] = {}
    for number, case in enumerate(CASES.values()):
        names = [f"{number}-{place}" for place in range(len(case.chain))]
        routers[str(number)] = {"rule": f"Host(`traefik-{number}.example`)", "service": "s", "middlewares": names}
        middlewares |= {name: {kind: options} for name, (kind, options) in zip(names, case.chain, strict=True)}
    services = {"s": {"loadBalancer": {"servers": [{"url": f"http://127.0.0.1:{backend}"}]}}}
    return {"routers": routers, "middlewares": middlewares, "services": services}


def labels() -> dict[str, str]:
    found: dict[str, str] = {}
    for number, case in enumerate(CASES.values()):
        names = [f"{number}-{place}" for place in range(len(case.chain))]
        found[f"traefik.http.routers.{number}.rule"] = f"Host(`essaim-{number}.example`)"
        found[f"traefik.http.routers.{number}.middlewares"] = ",".join(names)
        for name, (kind, options) in zip(names, case.chain, strict=True):
            for option, value in options.items():
                label = f"traefik.http.middlewares.{name}.{kind}.{option}"
                if isinstance(value, dict):
                    found |= {f"{label}.{key}": one for key, one in value.items()}
                else:
                    found[label] = ",".join(value) if isinstance(value, list) else spelt(value)
    return found


def spelt(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


async def asked(port: int, host: str, case: Case) -> Answer:
    request = f"{case.first}\r\nHost: {host}.example\r\n{case.fields}Connection: close\r\n\r\n"
    return parsed(await exchange(port, request.encode()))


async def test_middlewares_do_as_traefiks_do(tmp_path: Path, backends: Backends) -> None:
    recorder = Recorder()
    backend = await backends.serve(recorder)
    web, other = free_port(), free_port()
    different: list[str] = []
    async with gateway_with(tmp_path, entry_points({"web": web})) as gateway:
        port = RoutePort(protocol="tcp", target_port=80, published_port=0, endpoints=[endpoint("t", backend)])
        await gateway.apply(table(1, RouteService(id="app", name="app", labels=labels(), ports=[port])))
        async with traefik(tmp_path, traefik_config(backend), other):
            for number, (name, case) in enumerate(CASES.items()):
                theirs = (await asked(other, f"traefik-{number}", case), recorder.seen.get(f"traefik-{number}", {}))
                host = f"essaim-{number}"
                ours = (await asked(web, host, case), recorder.seen.get(host, {}))
                different += differences(name, renamed(theirs, {f"traefik-{number}": host}), ours)
    assert not different, "\n".join(different)
