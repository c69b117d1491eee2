"""forwardAuth without a network: what is asked, what an answer does, where the server is, what is held meanwhile."""

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from essaim.gateway.codec.hop_by_hop import NOT_PASSED_ON
from essaim.gateway.codec.message import CHUNKED, Refused
from essaim.gateway.control.plan import Planner
from essaim.gateway.http.held_body import Gathering, Held, Room
from essaim.gateway.protocol.routes import RouteTable
from essaim.gateway.routing.call import Answer, BodyWanted, Call, Verdict
from essaim.gateway.routing.middlewares.auth_server import read_server
from essaim.gateway.routing.middlewares.build import make_middleware
from essaim.gateway.routing.middlewares.forward_auth import MAX_BODY, OWN, ForwardAuth, Question, end_to_end
from essaim.gateway.routing.middlewares.vocabulary import OPTIONS
from essaim.gateway.worker.service_names import ServiceNames

from .conftest import entry_points
from .test_middleware_options import made_call
from .test_routing import R, labelled, warnings_of

CLAIMS = (
    "X-Forwarded-For: 10.1.1.1, 10.2.2.2\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: named\r\n"
    "X-Forwarded-Method: PUT\r\nX-Forwarded-Uri: /claimed\r\nX-Forwarded-Port: 77\r\nX-Real-IP: 10.3.3.3\r\n"
)
PEM = "-----BEGIN CERTIFICATE-----\nx\n-----END CERTIFICATE-----"
ALLOWED = Verdict(200)


def middleware(**options: str) -> ForwardAuth:
    options = {"address": "http://auth:9091/verify"} | {name.replace("_", "."): one for name, one in options.items()}
    made = make_middleware("forwardauth", options)
    assert isinstance(made, ForwardAuth)
    return made


def question(call: Call, **options: str) -> Question:
    with pytest.raises(Question) as raised:
        middleware(**options)(call)
    return raised.value


def asked(call: Call, **options: str) -> str:
    return question(call, **options).message.decode()


def decided(call: Call, verdict: Verdict, **options: str) -> Call:
    """The call as it passes. Raises Answer."""
    made = middleware(**options)
    with pytest.raises(Question) as raised:
        made(call)
    raised.value.settle(verdict)
    made(call)
    return call


def response(call: Call, head: bytes) -> bytes:
    for edit in call.edits:
        head = edit(head)
    return head


def test_question_tells_of_the_request_and_of_nothing_that_the_client_claims() -> None:
    call = made_call(CLAIMS + "Cookie: a=b\r\nContent-Length: 5\r\nExpect: 100-continue\r\n", "POST", "/x")
    call.port, call.query = 8080, b"y=1"
    assert asked(call) == (
        "GET /verify HTTP/1.1\r\nHost: auth:9091\r\nCookie: a=b\r\nX-Forwarded-Method: POST\r\n"
        "X-Forwarded-Proto: http\r\nX-Forwarded-Host: a\r\nX-Forwarded-Uri: /x?y=1\r\nX-Forwarded-Port: 8080\r\n"
        "X-Forwarded-For: 192.0.2.7\r\nX-Real-IP: 192.0.2.7\r\n\r\n"
    )


def test_question_of_a_client_that_is_not_believed_says_nothing_by_other_spellings() -> None:
    call = made_call("X_Forwarded_Method: PUT\r\nX_Forwarded_Uri: /claimed\r\nX_Forwarded_For: 9.9.9.9\r\n")
    said = asked(call, trustforwardheader="true")
    assert "claimed" not in said
    assert "PUT" not in said
    assert "9.9.9.9" not in said


@pytest.mark.parametrize("trusts", [False, True])
@pytest.mark.parametrize("trusted", [False, True])
def test_question_passes_claims_on_only_if_the_gateway_and_the_middleware_believe_them(
    trusts: bool, trusted: bool
) -> None:
    call = made_call(CLAIMS, path="/x", trusted=trusted)
    said = dict(line.split(": ", 1) for line in asked(call, trustforwardheader=str(trusts)).split("\r\n")[1:] if line)
    believed = trusts and trusted
    assert said["X-Forwarded-For"] == ("10.1.1.1, 10.2.2.2, 192.0.2.7" if believed else "192.0.2.7")
    assert said["X-Forwarded-Proto"] == ("https" if believed else "http")
    assert said["X-Forwarded-Host"] == ("named" if believed else "a")
    assert said["X-Forwarded-Method"] == ("PUT" if believed else "GET")
    assert said["X-Forwarded-Uri"] == ("/claimed" if believed else "/x")
    assert said["X-Real-IP"] == "192.0.2.7"


def test_question_over_tls_says_so() -> None:
    call = made_call()
    call.secure = True
    assert "X-Forwarded-Proto: https\r\n" in asked(call)


GIVEN = Verdict(200, ((b"X-User", b"ann"), (b"x-group", b"g"), (b"X-Other", b"o"), (b"Set-Cookie", b"sid=1; Path=/")))
REDIRECT = Verdict(302, ((b"Location", b"../login"),), b"go")
# Option, all options, the request, the verdict, and what is seen: of the question, of an answer, of the request.
EFFECTS: list[tuple[str, dict[str, str], dict[str, Any], Verdict, str]] = [
    ("address", {"address": "http://other/x?y"}, {}, ALLOWED, "GET /x?y HTTP/1.1\r\nHost: other\r\n"),
    ("trustforwardheader", {"trustforwardheader": "true"}, {"fields": CLAIMS, "trusted": True}, ALLOWED,
     "X-Forwarded-Proto: https\r\n"),
    ("authresponseheaders", {"authresponseheaders": "x-user"}, {"fields": "X_USER: eve\r\n"}, GIVEN,
     "to Host: a\r\nX-User: ann\r\n."),
    ("authresponseheadersregex", {"authresponseheadersregex": "^X-(User|Group)$"}, {"fields": "x_group: eve\r\n"},
     GIVEN, "to Host: a\r\nX-User: ann\r\nx-group: g\r\n."),
    ("authrequestheaders", {"authrequestheaders": "x-a"}, {"fields": "X-A: 1\r\nX-B: 2\r\n"}, ALLOWED,
     "Host: auth:9091\r\nX-A: 1\r\nX-Forwarded-Method: GET\r\n"),
    ("addauthcookiestoresponse", {"addauthcookiestoresponse": "sid"}, {}, GIVEN,
     "back HTTP/1.1 200 OK\r\nSet-Cookie: mine=1\r\nSet-Cookie: sid=1; Path=/\r\n"),
    ("headerfield", {"headerfield": "x-user"}, {}, GIVEN, "by ann"),
    ("forwardbody", {"forwardbody": "true"}, {"fields": "Content-Length: 5\r\n", "method": "POST"}, ALLOWED,
     "Content-Length: 5\r\n\r\nhello"),
    ("maxbodysize", {"forwardbody": "true", "maxbodysize": "4"}, {"fields": "Content-Length: 5\r\n"}, ALLOWED, "401 "),
    ("maxresponsebodysize", {"maxresponsebodysize": "77"}, {}, ALLOWED, "limit 77"),
    ("preservelocationheader", {"preservelocationheader": "true"}, {}, REDIRECT, "302 Location: ../login\r\n"),
    ("preservelocationheader", {"address": "http://auth/a/b/c"}, {}, REDIRECT, "302 Location: http://auth/a/login\r\n"),
    ("preserverequestmethod", {"preserverequestmethod": "true"}, {"method": "PUT"}, ALLOWED,
     "PUT /verify HTTP/1.1\r\n"),
    ("authsigninurl", {"authsigninurl": "https://in/"}, {}, Verdict(401), "302 Location: https://in/\r\n"),
    ("authsigninurl", {"authsigninurl": "https://in/"}, {}, Verdict(403), "403 "),
    ("tls.ca", {"tls.ca": PEM}, {}, ALLOWED, PEM),
    ("tls.insecureskipverify", {"tls.insecureskipverify": "true"}, {}, ALLOWED, "unverified True"),
]  # fmt: skip


def effect(options: dict[str, str], asked: dict[str, Any], verdict: Verdict) -> str:
    """All that is seen of a request."""
    call = made_call(**asked)
    made = make_middleware("forwardauth", {"address": "http://auth:9091/verify"} | options)
    try:
        try:
            made(call)
        except BodyWanted as wanted:
            wanted.settle(b"hello" if wanted.limit >= 5 else None)
            made(call)
    except Question as found:
        server = found.server
        said = f"{found.message.decode()} limit {found.limit} {server.authorities} unverified {server.unverified}"
        found.settle(verdict)
    except Answer as answer:
        return f"{answer.status} "
    try:
        made(call)
    except Answer as answer:
        return f"{said} {answer.status} {answer.lines.decode()}"
    head = response(call, b"HTTP/1.1 200 OK\r\nSet-Cookie: sid=old\r\nSet-Cookie: mine=1\r\n").decode()
    return f"{said} to {call.fields.decode()}. by {call.user.decode()} back {head}"


@pytest.mark.parametrize(("option", "options", "asked", "verdict", "seen"), EFFECTS, ids=[row[0] for row in EFFECTS])
def test_option_has_its_effect(
    option: str, options: dict[str, str], asked: dict[str, Any], verdict: Verdict, seen: str
) -> None:
    assert seen in effect(options, asked, verdict)


def test_option_table_says_of_none_that_it_is_carried_out_without_an_effect_in_the_tests() -> None:
    assert {name for name, reason in OPTIONS["forwardauth"].items() if not reason} == {row[0] for row in EFFECTS}


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"address": "auth:9091"},
        {"address": "ftp://auth"},
        {"address": "http://"},
        {"address": "http://a b/"},
        {"address": "http://user:pw@auth/"},
        {"address": "http://auth:99999/"},
        {"address": "http://auth:0/"},
        {"address": "http://auth/\r\nX: y"},
        {"address": "http://auth/\x00"},
        {"address": "http://auth", "trustforwardheader": "perhaps"},
        {"address": "http://auth", "authresponseheadersregex": "("},
        {"address": "http://auth", "maxbodysize": "much"},
        {"address": "http://auth", "maxresponsebodysize": "-2"},
        {"address": "http://auth", "authsigninurl": "https://in/\r\nX: y"},
        {"address": "https://auth", "tls.ca": "/etc/ca.pem"},
    ],
)
def test_options_that_cannot_be_carried_out_keep_the_router_from_being_served(options: dict[str, str]) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        make_middleware("forwardauth", options)
    labels = {R + "x.rule": "Host(`a`)", R + "x.middlewares": "m"} | {
        f"traefik.http.middlewares.m.forwardauth.{name}": value for name, value in options.items()
    }
    assert any("router x is not served" in said for said in warnings_of(labelled("web", labels)))


@pytest.mark.parametrize(
    ("verdict", "status"),
    [
        (Verdict(500, failure="gone"), 500),
        (Verdict(401, failure="long"), 401),
        (Verdict(199), 199),
        (REDIRECT, 302),
    ],
)
def test_verdict_that_is_not_2xx_never_passes(verdict: Verdict, status: int) -> None:
    with pytest.raises(Answer) as raised:
        decided(made_call(), verdict)
    assert raised.value.status == status


@pytest.mark.parametrize("status", [200, 204, 299])
def test_verdict_of_2xx_passes_and_says_nothing_to_the_client(status: int) -> None:
    call = decided(made_call("X-A: 1\r\n"), Verdict(status, ((b"X-B", b"2"),), b"body"))
    assert (call.fields, call.edits) == (b"Host: a\r\nX-A: 1\r\n", [])


def test_second_middleware_asks_anew() -> None:
    call = decided(made_call(), ALLOWED, authresponseheaders="X-User")
    assert "Host: second\r\n" in asked(call, address="http://second")


def test_body_is_gathered_once_for_two_and_each_has_its_limit() -> None:
    call = made_call("Content-Length: 5\r\nExpect: 100-continue\r\n", "POST")
    with pytest.raises(BodyWanted) as raised:
        middleware(forwardbody="true")(call)
    raised.value.settle(b"hello")
    assert asked(call, forwardbody="true").endswith("\r\n\r\nhello")
    assert b"Expect" not in call.fields
    with pytest.raises(Answer) as answer:
        middleware(forwardbody="true", maxbodysize="4")(call)
    assert answer.value.status == 401


def test_refusal_is_relayed_without_the_fields_of_its_hop() -> None:
    fields = end_to_end(
        [(b"Connection", b"close, X-Hop"), (b"x-hop", b"1"), (b"Content-Length", b"2"), (b"Set-Cookie", b"a=1"),
         (b"Set-Cookie", b"b=2"), (b"Keep-Alive", b"1")]
    )  # fmt: skip
    with pytest.raises(Answer) as raised:
        decided(made_call(), Verdict(403, fields, b"no"))
    answer = raised.value
    assert (answer.status, answer.lines, answer.body) == (403, b"Set-Cookie: a=1\r\nSet-Cookie: b=2\r\n", b"no")
    assert answer.relayed


NAMES = st.sampled_from(
    ["X-User", "x-user", "X_User", "X-Auth-Role", "x_auth-role", "Remote-User", "Content-Length", "Connection",
     "X-Forwarded-For", "Host", "Transfer-Encoding", "Authorization"]
)  # fmt: skip


FIELDS = st.lists(st.tuples(NAMES, st.integers(0, 9)), max_size=8)


@given(FIELDS, FIELDS)
def test_fields_of_the_answer_take_the_place_of_the_clients(
    sent: list[tuple[str, int]], given: list[tuple[str, int]]
) -> None:
    call = made_call()
    call.fields = b"".join(f"{name}: {value}\r\n".encode() for name, value in sent)
    decided(
        call, Verdict(200, tuple((name.encode(), b"%d" % value) for name, value in given)),
        authresponseheaders="X-User,Content-Length,Host", authresponseheadersregex="^X-Auth-",
    )  # fmt: skip

    def wanted(name: str) -> bool:
        plain = name.lower().replace("_", "-")
        return plain.encode() not in OWN and (plain == "x-user" or plain.startswith("x-auth-"))

    expected = [(n, v) for n, v in sent if not wanted(n)] + [(n, v) for n, v in given if wanted(n)]
    assert call.fields.decode() == "".join(f"{name}: {value}\r\n" for name, value in expected)


@given(
    st.lists(st.tuples(st.sampled_from(["Connection", "A", "b", "Te", "Upgrade"]), st.sampled_from(["a", "b, c", "x"])))
)
def test_end_to_end_fields_are_those_that_no_hop_owns(fields: list[tuple[str, str]]) -> None:
    found = end_to_end((name.encode(), value.encode()) for name, value in fields)
    nominated = {one.strip() for name, value in fields if name == "Connection" for one in value.split(",")}
    assert [name.decode() for name, _ in found] == [
        name for name, _ in fields if name.lower() not in nominated and name.lower().encode() not in NOT_PASSED_ON
    ]


# -- where the server is -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("address", "stack", "names", "authority"),
    [
        ("http://auth:9091/x", "st", ("st_auth", "auth"), "auth:9091"),
        ("http://tasks.auth/x", "St", ("st_auth", "auth"), "tasks.auth"),
        ("http://auth.example:80", "", ("auth.example",), "auth.example"),
        ("http://10.0.0.1:9", "st", (), "10.0.0.1:9"),
        ("http://[fd00::1]:9", "st", (), "[fd00::1]:9"),
        ("https://auth:443/", "st", ("st_auth", "auth"), "auth"),
        ("https://auth", "", ("auth",), "auth"),
        ("https://auth:80", "", ("auth",), "auth:80"),
    ],
)
def test_address_names_a_service_of_the_stack_then_of_the_cluster(
    address: str, stack: str, names: tuple[str, ...], authority: str
) -> None:
    server = read_server(address, stack)
    assert (server.names, server.authority) == (names, authority)


def test_services_are_found_by_name_as_they_come_and_go() -> None:
    known = ServiceNames()
    known.put("1", "St_auth")
    known.put("2", "auth")
    assert list(known.find(("st_auth", "auth"))) == ["1", "2"]
    known.put("3", "st_auth")
    known.drop("1")
    assert list(known.find(("st_auth",))) == ["3"]
    known.put("3", "other")
    assert list(known.find(("st_auth", "other"))) == ["3"]
    known.drop("3")
    known.drop("3")
    assert list(known.find(("st_auth", "other", "auth"))) == ["2"]


M = "traefik.http.middlewares.m.forwardauth."
ROUTED = {R + "x.rule": "Host(`a`)", R + "x.middlewares": "m", "com.docker.stack.namespace": "st"}


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("http://auth:80/verify", None),
        ("http://st_auth", None),
        ("http://auth:81", "gateways do not reach port 81 of the service st_auth"),
        ("http://nobody:80", "no service is called so"),
        ("https://auth:80", "the service st_auth is asked by http only"),
        ("http://auth.example.org", None),
        ("http://localhost:4181", None),
        ("https://login.example.org", None),
    ],
)
def test_auth_server_that_cannot_be_reached_is_warned_about(address: str, said: str | None) -> None:
    warnings = warnings_of(labelled("st_app", ROUTED | {M + "address": address}), labelled("st_auth", {}))
    assert [said in one for one in warnings if said] == ([True] if said else [])
    assert bool(warnings) == bool(said)


def test_address_is_of_the_stack_whose_labels_say_it() -> None:
    app = {R + "x.rule": "Host(`a`)", R + "x.middlewares": "m@swarm", "com.docker.stack.namespace": "app"}
    auth = {M + "address": "http://auth:80", "com.docker.stack.namespace": "st"}
    services = [labelled("app_web", app), labelled("st_auth", auth)]
    planned = Planner("127.0.0.1", entry_points({"web": 80})).plan(RouteTable(version=1, services=services))
    (router,) = planned.services["id-app_web"].routers
    made = make_middleware(router.chain[0].kind, router.chain[0].options)
    with pytest.raises(Question) as raised:
        made(made_call())
    assert raised.value.server.names == ("st_auth", "auth")
    assert planned.warnings == {}


# -- what is held ------------------------------------------------------------------------------------------------------


def chunked(content: bytes, sizes: list[int]) -> bytes:
    out, rest = b"", content
    for size in sizes:
        piece, rest = rest[:size], rest[size:]
        out += b"%x;a=b\r\n%b\r\n" % (len(piece), piece) if piece else b""
    return out + (b"%x\r\n%b\r\n" % (len(rest), rest) if rest else b"") + b"0\r\nT: v\r\n\r\n"


@given(
    st.binary(max_size=60), st.lists(st.integers(1, 20), max_size=4), st.lists(st.integers(0, 200), max_size=5),
    st.booleans(), st.integers(0, 70),
)  # fmt: skip
def test_gathered_body_is_the_content_or_too_long_however_it_comes(
    content: bytes, sizes: list[int], cuts: list[int], in_chunks: bool, limit: int
) -> None:
    call = made_call()
    room = Room(1000)
    held = Held(room)
    wire = chunked(content, sizes) if in_chunks else content
    gathering = Gathering(BodyWanted(call, limit), CHUNKED if in_chunks else len(content), held)
    data = wire + b"GET / HTTP/1.1"
    done = False
    for start, end in pairwise(sorted({cut % (len(data) + 1) for cut in cuts} | {0, len(data)})):
        done = gathering.feed(data[start:end], 0)
        if done:
            break
    assert done
    assert call.body == (content if len(content) <= limit else None)
    assert call.body_excess == (len(content) > limit)
    held.release()
    assert room.left == 1000


def test_gathering_beyond_the_room_of_the_worker_is_refused() -> None:
    room = Room(10)
    gathering = Gathering(BodyWanted(made_call(), MAX_BODY), 100, Held(room))
    assert not gathering.feed(b"x" * 10, 0)
    with pytest.raises(Refused) as refused:
        gathering.feed(b"x", 0)
    assert refused.value.status == 503
