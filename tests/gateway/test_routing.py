"""Rules, routers, middlewares and the labels that make them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from essaim.gateway.codec.message import Request
from essaim.gateway.control.plan import Planner
from essaim.gateway.control.supervisor import Gateway
from essaim.gateway.protocol.routes import RoutePort, RouteService, RouteTable
from essaim.gateway.routing.call import Answer, Call
from essaim.gateway.routing.matchers import Asked
from essaim.gateway.routing.middlewares.build import make_middleware
from essaim.gateway.routing.middlewares.passwords import Users, apr1
from essaim.gateway.routing.paths import normal
from essaim.gateway.routing.router import Route, Router
from essaim.gateway.routing.rules import BadRule, parse_rule
from tests.ports import free_port

from .conftest import Backends, endpoint, entry_points, exchange, table


def asked(host: str = "a.example", path: str = "/", method: str = "GET", fields: bytes = b"", query: str = "") -> Asked:
    request = Request(method.encode(), path.encode(), 1)
    request.host, request.fields = host.encode(), fields
    return Asked(request, path.encode(), query.encode(), "192.0.2.7")


@pytest.mark.parametrize(
    ("rule", "what", "expected"),
    [
        ("Host(`a.example`)", asked(), True),
        ("Host(`A.Example`)", asked(), True),
        ("Host(`b.example`)", asked(), False),
        ("Host(`b.example`, `a.example`)", asked(), True),
        ("Host(`*.example`)", asked(), True),
        ("Host(`*.example`)", asked("x.a.example"), False),
        ("HostRegexp(`^[a-c]\\.example$`)", asked(), True),
        ("HostRegexp(`^[a-c]{1,2}\\.example$`)", asked(), True),
        ("Host(`*.example`)", asked("a.example."), True),
        ("Host(`[::1]`)", asked("[::1]"), True),
        ("Path(`/x`)", asked(path="/x/"), False),
        ("PathPrefix(`/api`)", asked(path="/api/v1"), True),
        ("PathRegexp(`^/v[0-9]+/`)", asked(path="/v12/x"), True),
        ("Method(`POST`)", asked(), False),
        ("Header(`X-A`, `1`)", asked(fields=b"Host: a\r\nx-a: 1\r\n"), True),
        ("Headers(`X-A`, `1`)", asked(fields=b"X-A: 12\r\n"), False),
        ("HeaderRegexp(`X-A`, `^1`)", asked(fields=b"X-A: 12\r\n"), True),
        ("Query(`a`, `1`)", asked(query="b=2&a=1"), True),
        ("Query(`a=1`)", asked(query="a=2"), False),
        ("QueryRegexp(`a`, `^[0-9]$`)", asked(query="a=7"), True),
        ("ClientIP(`192.0.2.0/24`)", asked(), True),
        ("!Host(`a.example`)", asked(), False),
        ("Host(`a.example`) && !Path(`/x`)", asked(), True),
        ("Path(`/x`) || Path(`/y`) && Method(`POST`)", asked(path="/x"), True),
        ("(Path(`/x`) || Path(`/y`)) && Method(`POST`)", asked(path="/x"), False),
    ],
)
def test_rule_matches(rule: str, what: Asked, expected: bool) -> None:
    assert parse_rule(rule).matches(what) is expected


@pytest.mark.parametrize(
    "rule",
    ["", "Host", "Host()", "Host(`a`", "Hosst(`a`)", "Host(`a`) &&", "Host(`a`) Path(`/`)", "(Host(`a`)", "Path(`x`)",
     "PathRegexp(`(`)", "HostRegexp(`{sub:[a-z]{2,3}}.example`)", "PathPrefix(`/{id}/`)", "Header(`a`)",
     "ClientIP(`x`)", "Host(a)", "&& Host(`a`)"],
)  # fmt: skip
def test_rule_that_cannot_be_read_says_why(rule: str) -> None:
    with pytest.raises(BadRule, match=r"\S"):
        parse_rule(rule)


@given(st.text(alphabet='Host(`a.b`)&|! ,PathPrefix/"', max_size=40))
def test_rule_any_text_is_read_or_refused(text: str) -> None:
    try:
        rule = parse_rule(text)
    except BadRule:
        return
    rule.matches(asked())


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        (b"/a/b", b"/a/b"),
        (b"/%61dmin", b"/admin"),
        (b"/x/../admin", b"/admin"),
        (b"/x/%2e%2e/admin", b"/admin"),
        (b"/../../etc", b"/etc"),
        (b"//a///b/", b"/a/b/"),
        (b"/a/./b/.", b"/a/b/"),
        (b"/a%2fb", b"/a%2Fb"),
        (b"/..", b"/"),
    ],
)
def test_path_has_one_spelling(path: bytes, expected: bytes) -> None:
    assert normal(path) == expected


@given(st.text(alphabet="/.%2eEaA5f", max_size=20))
def test_path_normal_form_is_stable_and_without_dots(path: str) -> None:
    once = normal(b"/" + path.encode())
    assert normal(once) == once
    assert b".." not in once.split(b"/")


def route(name: str, rule: str, priority: int = 0) -> Route:
    return Route(name, parse_rule(rule), priority or len(rule), name, ())


def test_router_prefers_priority_over_kind_of_host() -> None:
    router = Router()
    for one in (
        route("exact", "Host(`a.example`)"),
        route("path", "Host(`a.example`) && PathPrefix(`/api`)"),
        route("any", "PathPrefix(`/api/special`)", 1000),
        route("wild", "Host(`*.example`)"),
        route("last", "PathPrefix(`/`)", 1),
    ):
        router.add(one)

    def found(what: Asked) -> str | None:
        hit = router.find(what)
        return hit.name if hit else None

    assert found(asked()) == "exact"
    assert found(asked(path="/api/x")) == "path"
    assert found(asked(path="/api/special")) == "any"
    assert found(asked("b.example")) == "wild"
    assert found(asked("other.test")) == "last"


def test_router_removed_route_is_gone() -> None:
    router, one = Router(), route("x", "Host(`a.example`) || Host(`b.example`)")
    router.add(one)
    router.remove(one)
    assert router.find(asked()) is None


def call(path: str = "/", fields: bytes = b"Host: a.example\r\n", query: str = "", now: float = 0.0) -> Call:
    request = Request(b"GET", path.encode(), 1)
    request.host = b"a.example"
    return Call(request, path.encode(), query.encode(), fields, "192.0.2.7", b"a.example:80", now)


@pytest.mark.parametrize(
    ("kind", "options", "path", "expected"),
    [
        ("stripprefix", {"prefixes": "/api, /v1"}, "/v1/x", b"/x"),
        ("stripprefix", {"prefixes": "/api"}, "/api", b"/"),
        ("stripprefix", {"prefixes": "/api"}, "/other", b"/other"),
        ("addprefix", {"prefix": "/app"}, "/x", b"/app/x"),
        ("replacepath", {"path": "/y"}, "/x", b"/y"),
        ("replacepathregex", {"regex": "^/a/(.*)", "replacement": "/b/$1"}, "/a/x", b"/b/x"),
    ],
)
def test_middleware_changes_the_path(kind: str, options: dict[str, str], path: str, expected: bytes) -> None:
    one = call(path)
    make_middleware(kind, options)(one)
    assert one.path == expected


@pytest.mark.parametrize(
    ("kind", "options", "status", "line"),
    [
        ("redirectscheme", {"scheme": "https", "permanent": "true"}, 301, b"Location: https://a.example/x?q=1\r\n"),
        ("redirectscheme", {"scheme": "https", "port": "8443"}, 302, b"Location: https://a.example:8443/x?q=1\r\n"),
        (
            "redirectregex",
            {"regex": "^http://a.example:80/(.*)", "replacement": "http://b.example/${1}"},
            302,
            b"Location: http://b.example/x?q=1\r\n",
        ),
        ("basicauth", {"users": "u:{SHA}x"}, 401, b'WWW-Authenticate: Basic realm="traefik"\r\n'),
        ("ipallowlist", {"sourcerange": "10.0.0.0/8"}, 403, b""),
    ],
)
def test_middleware_answers(kind: str, options: dict[str, str], status: int, line: bytes) -> None:
    with pytest.raises(Answer) as answer:
        make_middleware(kind, options)(call("/x", query="q=1"))
    assert (answer.value.status, answer.value.lines) == (status, line)


def test_middleware_headers_set_and_remove_both_ways() -> None:
    options = {"customrequestheaders.X-A": "1", "customrequestheaders.X-B": "", "framedeny": "true",
               "customresponseheaders.Server": "", "stsseconds": "60", "stsincludesubdomains": "true",
               "forcestsheader": "true"}  # fmt: skip
    one = call(fields=b"x-a: 0\r\nX-B: 2\r\nX-C: 3\r\n")
    one.scheme = "https"
    make_middleware("headers", options)(one)
    assert one.fields == b"X-C: 3\r\nX-A: 1\r\n"
    assert one.edits[0](b"HTTP/1.1 200 OK\r\nServer: x\r\nA: b\r\n") == (
        b"HTTP/1.1 200 OK\r\nA: b\r\nX-Frame-Options: DENY\r\n"
        b"Strict-Transport-Security: max-age=60; includeSubDomains\r\n"
    )


def test_middleware_rate_limit_refills() -> None:
    limit = make_middleware("ratelimit", {"average": "2", "burst": "3"})
    for _ in range(3):
        limit(call())
    with pytest.raises(Answer):
        limit(call())
    limit(call(now=0.5))
    with pytest.raises(Answer):
        limit(call(now=0.6))


@pytest.mark.parametrize(
    ("hashed", "password"),
    [
        # Made with `openssl passwd -apr1 -salt SALT PASSWORD`, and with `htpasswd -s`.
        ("$apr1$r31abcde$SZEN.U5sWGGNcv9YsUrqI.", "secret"),
        ("$apr1$ab$HhHCLhwTS7rDL9j2KoleE1", "a much longer passw0rd of many characters"),
        ("{SHA}5en6G6MezRroT3XKqkdPOmY/BfQ=", "secret"),
    ],
)
def test_basic_auth_known_hashes(hashed: str, password: str) -> None:
    import base64

    users = Users(f"ann:{hashed},bob:{hashed.replace('$', '$$')}")
    for name in (b"ann", b"bob"):
        right = base64.b64encode(name + b":" + password.encode())
        assert users.verify(b"Basic " + right) == name
        assert users.verify(b"basic " + right) == name
        assert users.verify(b"Basic " + base64.b64encode(name + b":wrong")) is None
    assert users.verify(b"Basic " + base64.b64encode(b"eve:" + password.encode())) is None
    assert users.verify(b"Basic !!!") is None
    assert users.verify(None) is None


def test_basic_auth_salt_matters() -> None:
    assert apr1(b"secret", b"aaaaaaaa") != apr1(b"secret", b"bbbbbbbb")


def labelled(name: str, labels: dict[str, str], port: int = 80, target: int = 9) -> RouteService:
    ports = [
        RoutePort(protocol="tcp", target_port=port, published_port=0, endpoints=[endpoint(f"{name}.1", target)])
    ]  # fmt: skip
    return RouteService(id=f"id-{name}", name=name, labels=labels, ports=ports)


R = "traefik.http.routers."
TCP = "traefik.tcp.routers."


def warnings_of(*services: RouteService) -> list[str]:
    planned = Planner("127.0.0.1", entry_points({"web": 80})).plan(RouteTable(version=1, services=list(services)))
    return [said for warnings in planned.warnings.values() for said in warnings]


def test_routers_for_one_host_with_different_tls_rules_are_warned_about() -> None:
    a = {R + "a.rule": "Host(`h`) && Path(`/a`)", R + "a.tls": "true", "essaim.tls.min": "1.3"}
    b = {R + "b.rule": "Host(`h`) || Host(`other`)", R + "b.tls": "true"}
    c = {R + "c.rule": "Host(`c`)", R + "c.tls": "true", "essaim.tls.client.ca": "corp"}
    said = "TLS: routers for h at web ask for different rules (a, b): some requests are refused by 421"
    assert warnings_of(labelled("one", a), labelled("two", b), labelled("three", c)) == [said, said]
    assert warnings_of(labelled("one", a), labelled("three", c)) == []


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        ({R + "x.entrypoints": "web"}, "it has no rule"),
        ({R + "x.rule": "Hots(`a`)"}, "there is no matcher 'Hots'"),
        ({R + "x.rule": "Host(`a`)", R + "x.entrypoints": "websecure"}, "the gateway has none; it has: web"),
        ({R + "x.rule": "Host(`a`)", R + "x.tls.options": "mtls@file"}, "cannot be defined by labels"),
        ({R + "x.rule": "Host(`a`)", R + "x.middlewares": "m"}, "there is no middleware 'm'"),
        (
            {R + "x.rule": "Host(`a`)", R + "x.service": "other"},
            "there is no service 'other' with a port",
        ),
        ({R + "x.rule": "Host(`a`)", R + "x.priority": "high"}, "is not a number"),
        ({R + "x.rule": "Host(`a`)", R + "x.ruleSyntax": "v2"}, "is not known to the gateway"),
        ({"traefik.http.middlewares.m.digestauth.users": "x"}, "has no middleware 'digestauth'"),
        ({"traefik.http.middlewares.m.ratelimit.avg": "1"}, "ratelimit has no option 'avg'"),
        ({"traefik.http.services.s.loadbalancer.serverstransport": "x"}, "is not carried out: see essaim.timeout"),
        ({"traefik.http.services.s.loadbalancer.server.prot": "x"}, "is 'loadbalancer.server.port' meant?"),
        ({"traefik.udp.routers.x.entrypoints": "dns"}, "routers for HTTP and TCP only"),
        ({TCP + "x.rule": "HostSNI(`a`)"}, "TCP router x is not served: without tls no name is known"),
        ({TCP + "x.rule": "Host(`a`)", TCP + "x.tls": "true"}, "there is no matcher 'Host'; there are: HostSNI"),
        ({TCP + "x.rule": "HostSNI(`*`)", TCP + "x.middlewares": "m"}, "there is no TCP middleware 'm'"),
        ({"traefik.tcp.middlewares.m.ipallowlist.ranges": "x"}, "is not known to the gateway"),
        (
            {TCP + "x.rule": "HostSNI(`*`)", TCP + "x.middlewares": "m", "traefik.tcp.middlewares.m.tarpit.a": "x"},
            "the gateway has no TCP middleware 'tarpit'",
        ),
        ({"traefik.htpp.routers.x.rule": "Host(`a`)"}, "is not known to the gateway"),
    ],
)
def test_labels_that_cannot_be_honoured_are_warned_about(labels: dict[str, str], said: str) -> None:
    warnings = warnings_of(labelled("web", labels))
    assert any(said in warning for warning in warnings), warnings


def test_labels_of_a_usual_stack_give_no_warning() -> None:
    labels = {
        "traefik.enable": "true",
        "traefik.docker.network": "proxy",
        R + "Web.rule": "Host(`a.example`) && PathPrefix(`/api`)",
        R + "Web.entrypoints": "web",
        R + "Web.middlewares": "Strip@docker, secure",
        "traefik.http.services.web.loadbalancer.server.port": "80",
        "traefik.http.middlewares.strip.stripprefix.prefixes": "/api",
        "traefik.http.middlewares.secure.headers.customrequestheaders.X-From": "essaim",
    }
    assert warnings_of(labelled("web", labels)) == []


def test_planner_unchanged_services_stay_the_same_object() -> None:
    planner = Planner("127.0.0.1", entry_points({"web": 80}))
    one, two = (labelled(name, {R + name + ".rule": f"Host(`{name}`)"}) for name in ("one", "two"))
    first = planner.plan(RouteTable(version=1, services=[one, two]))
    second = planner.plan(RouteTable(version=2, services=[one, labelled("two", {})]))
    assert second.services["id-one"] is first.services["id-one"]
    assert second.services["id-two"] is not first.services["id-two"]


async def test_gateway_routes_by_labels_and_updates_them(
    tmp_path_factory: pytest.TempPathFactory, backends: Backends
) -> None:
    port = free_port()
    running = Gateway(
        mesh_addr="127.0.0.1",
        state_dir=tmp_path_factory.mktemp("g"),
        node_id="n1",
        workers=1,
        entry_points=entry_points({"web": port}),
    )
    await running.start()
    try:
        shop = {
            R + "shop.rule": "Host(`shop.example`) && PathPrefix(`/api`)",
            R + "shop.middlewares": "strip,tag",
            "traefik.http.middlewares.strip.stripprefix.prefixes": "/api",
            "traefik.http.middlewares.tag.headers.customresponseheaders.X-Tag": "yes",
        }
        blog = {R + "blog.rule": "Host(`blog.example`)"}
        replicas = [await backends.web("shop"), await backends.web("blog")]
        services = [labelled("shop", shop, target=replicas[0]), labelled("blog", blog, target=replicas[1])]
        await running.apply(table(1, *services))

        async def ask(host: str, path: str) -> bytes:
            request = f"GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"
            return await exchange(port, request.encode())

        answer = await ask("shop.example", "/api/x?y=1")
        assert b"\r\nX-Tag: yes\r\n" in answer
        assert b"\r\n\r\nshop\nGET /x?y=1 HTTP/1.1\r\nHost: shop.example\r\n" in answer
        assert b"X-Forwarded-Prefix: /api\r\n" in answer
        assert b"\r\n\r\nblog\n" in await ask("blog.example", "/")
        assert (await ask("shop.example", "/")).startswith(b"HTTP/1.1 404 ")
        assert (await ask("none.example", "/")).startswith(b"HTTP/1.1 404 ")
        await running.apply(
            table(2, services[0], labelled("blog", {R + "b.rule": "Host(`new.example`)"}, target=replicas[1]))
        )
        assert (await ask("blog.example", "/")).startswith(b"HTTP/1.1 404 ")
        assert b"\r\n\r\nblog\n" in await ask("new.example", "/")
        await running.apply(table(3))
        assert (await running.status())["listeners"] == []
    finally:
        await running.stop(grace=0.2)
