"""Every option of every middleware that Traefik v3 knows: carried out (EFFECTS), or a warning that names it."""

from typing import Any

import pytest

from essaim.gateway.codec.http1.head import parse_request
from essaim.gateway.protocol.options import ELSEWHERE, HEALTH_LABELS, LABELS, read_options
from essaim.gateway.routing.call import Answer, Call
from essaim.gateway.routing.middlewares.build import KINDS, make_middleware
from essaim.gateway.routing.middlewares.vocabulary import ABSENT, OMITTED, OPTIONS, SERVICE, service_verdict, verdict

from .test_routing import R, labelled, warnings_of

USERS = "ann:{SHA}5en6G6MezRroT3XKqkdPOmY/BfQ="
BASIC = "Authorization: Basic YW5uOnNlY3JldA==\r\n"
PREFLIGHT = "Origin: http://o.example\r\nAccess-Control-Request-Method: PUT\r\n"
ORIGIN = "Origin: http://o.example\r\n"
HOPS = "X-Forwarded-For: 10.1.1.1, 10.2.2.2, 2001:db8::77\r\n"


def made_call(
    fields: str = "", method: str = "GET", path: str = "/", scheme: str = "http", trusted: bool = False, host: str = "a"
) -> Call:
    request = parse_request(f"{method} {path} HTTP/1.1\r\nHost: {host}\r\n{fields}".encode())
    return Call(
        request, path.encode(), b"", request.fields, "192.0.2.7", host.encode(), 0.0, scheme=scheme, trusted=trusted
    )


def effect(kind: str, options: dict[str, str], times: int = 1, **asked: Any) -> str:
    """What the middleware does with (the last of) a request, as text: an answer, or the request and the response."""
    middleware = make_middleware(kind, options)
    for _ in range(times):
        call = made_call(**asked)
        try:
            middleware(call)
        except Answer as answer:
            said = f"{answer.status} {answer.lines.decode()}"
        else:
            head = b"HTTP/1.1 200 OK\r\nVary: Accept\r\n"
            for edit in call.edits:
                head = edit(head)
            said = f"{call.path.decode()} {call.max_body} {call.retries} {call.retry_pause:g} " + (
                call.fields.decode() + head.decode()
            )
    return said


H = "headers"
# Kind, the option in question, all options, the request, and what is (after `!`: is not) seen of it.
EFFECTS: list[tuple[str, str, dict[str, str], dict[str, Any], str]] = [
    ("addprefix", "prefix", {"prefix": "/p"}, {}, "/p/ "),
    ("basicauth", "users", {"users": USERS}, {"fields": BASIC}, "/ "),
    ("basicauth", "realm", {"users": USERS, "realm": "mine"}, {}, 'realm="mine"'),
    ("basicauth", "removeheader", {"users": USERS, "removeheader": "true"}, {"fields": BASIC}, "!Authorization"),
    ("basicauth", "headerfield", {"users": USERS, "headerfield": "X-User"}, {"fields": BASIC}, "X-User: ann\r\n"),
    ("buffering", "maxrequestbodybytes", {"maxrequestbodybytes": "77"}, {}, "/ 77 "),
    (H, "customrequestheaders", {"customrequestheaders.X-A": "1"}, {}, "X-A: 1\r\nHTTP"),
    (H, "customrequestheaders", {"customrequestheaders.Host": "b.example"}, {}, "Host: b.example\r\n"),
    (H, "customresponseheaders", {"customresponseheaders.X-A": "1"}, {}, "Vary: Accept\r\nX-A: 1\r\n"),
    (H, "customresponseheaders", {"customresponseheaders.Vary": ""}, {}, "!Vary"),
    (H, "accesscontrolallowcredentials", {"accesscontrolallowcredentials": "true"}, {}, "Allow-Credentials: true\r\n"),
    (H, "accesscontrolallowheaders", {"accesscontrolallowheaders": "X-A, X-B"},
     {"fields": PREFLIGHT, "method": "OPTIONS"}, "200 Access-Control-Allow-Headers: X-A,X-B\r\n"),
    (H, "accesscontrolallowmethods", {"accesscontrolallowmethods": "GET,PUT"},
     {"fields": PREFLIGHT, "method": "OPTIONS"}, "200 Access-Control-Allow-Methods: GET,PUT\r\n"),
    (H, "accesscontrolmaxage", {"accesscontrolmaxage": "60"},
     {"fields": PREFLIGHT, "method": "OPTIONS"}, "200 Access-Control-Max-Age: 60\r\n"),
    (H, "accesscontrolmaxage", {"accesscontrolmaxage": "60"}, {"fields": ORIGIN, "method": "OPTIONS"}, "/ "),
    (H, "accesscontrolalloworiginlist", {"accesscontrolalloworiginlist": "http://o.example"}, {"fields": ORIGIN},
     "Access-Control-Allow-Origin: http://o.example\r\n"),
    (H, "accesscontrolalloworiginlist", {"accesscontrolalloworiginlist": "http://x.example"}, {"fields": ORIGIN},
     "!Allow-Origin"),
    (H, "accesscontrolalloworiginlist", {"accesscontrolalloworiginlist": "*"}, {"fields": ORIGIN},
     "Access-Control-Allow-Origin: *\r\n"),
    (H, "accesscontrolalloworiginlistregex", {"accesscontrolalloworiginlistregex": "^http://[a-z]\\.example$"},
     {"fields": ORIGIN}, "Access-Control-Allow-Origin: http://o.example\r\n"),
    (H, "accesscontrolexposeheaders", {"accesscontrolexposeheaders": "X-A"}, {}, "Expose-Headers: X-A\r\n"),
    (H, "addvaryheader", {"addvaryheader": "true"}, {}, "Vary: Accept, Origin\r\n"),
    (H, "allowedhosts", {"allowedhosts": "b, c"}, {}, "403 "),
    (H, "allowedhosts", {"allowedhosts": "A, c"}, {}, "/ "),
    (H, "browserxssfilter", {"browserxssfilter": "true"}, {}, "X-XSS-Protection: 1; mode=block\r\n"),
    (H, "custombrowserxssvalue", {"custombrowserxssvalue": "0", "browserxssfilter": "true"}, {},
     "X-XSS-Protection: 0\r\n"),
    (H, "contentsecuritypolicy", {"contentsecuritypolicy": "p"}, {}, "\nContent-Security-Policy: p\r\n"),
    (H, "contentsecuritypolicyreportonly", {"contentsecuritypolicyreportonly": "p"}, {},
     "\nContent-Security-Policy-Report-Only: p\r\n"),
    (H, "contenttypenosniff", {"contenttypenosniff": "true"}, {}, "X-Content-Type-Options: nosniff\r\n"),
    (H, "framedeny", {"framedeny": "true"}, {}, "X-Frame-Options: DENY\r\n"),
    (H, "framedeny", {"framedeny": "false"}, {}, "!X-Frame-Options"),
    (H, "customframeoptionsvalue", {"framedeny": "true", "customframeoptionsvalue": "SAMEORIGIN"}, {},
     "X-Frame-Options: SAMEORIGIN\r\n"),
    (H, "featurepolicy", {"featurepolicy": "p"}, {}, "\nFeature-Policy: p\r\n"),
    (H, "permissionspolicy", {"permissionspolicy": "p"}, {}, "\nPermissions-Policy: p\r\n"),
    (H, "referrerpolicy", {"referrerpolicy": "p"}, {}, "\nReferrer-Policy: p\r\n"),
    (H, "publickey", {"publickey": "pin"}, {"scheme": "https"}, "\nPublic-Key-Pins: pin\r\n"),
    (H, "publickey", {"publickey": "pin"}, {}, "!Public-Key-Pins"),
    (H, "stsseconds", {"stsseconds": "60"}, {"scheme": "https"}, "\nStrict-Transport-Security: max-age=60\r\n"),
    (H, "stsseconds", {"stsseconds": "60"}, {}, "!Strict-Transport-Security"),
    (H, "forcestsheader", {"stsseconds": "60", "forcestsheader": "true"}, {}, "\nStrict-Transport-Security: "),
    (H, "stsincludesubdomains", {"stsseconds": "60", "stsincludesubdomains": "true"}, {"scheme": "https"},
     "max-age=60; includeSubDomains\r\n"),
    (H, "stspreload", {"stsseconds": "60", "stspreload": "true"}, {"scheme": "https"}, "max-age=60; preload\r\n"),
    (H, "isdevelopment", {"stsseconds": "60", "isdevelopment": "true"}, {"scheme": "https"},
     "!Strict-Transport-Security"),
    (H, "isdevelopment", {"allowedhosts": "b", "isdevelopment": "true"}, {}, "/ "),
    ("ipallowlist", "sourcerange", {"sourcerange": "192.0.2.0/24"}, {}, "/ "),
    ("ipallowlist", "rejectstatuscode", {"sourcerange": "10.0.0.0/8", "rejectstatuscode": "404"}, {}, "404 "),
    ("ipallowlist", "ipstrategy.depth", {"sourcerange": "10.2.0.0/16", "ipstrategy.depth": "2"},
     {"fields": HOPS, "trusted": True}, "/ "),
    ("ipallowlist", "ipstrategy.depth", {"sourcerange": "0.0.0.0/0", "ipstrategy.depth": "4"},
     {"fields": HOPS, "trusted": True}, "403 "),
    # A client that is not believed does not choose its address.
    ("ipallowlist", "ipstrategy.depth", {"sourcerange": "10.2.0.0/16", "ipstrategy.depth": "2"},
     {"fields": HOPS}, "403 "),
    ("ipallowlist", "ipstrategy.excludedips",
     {"sourcerange": "10.1.1.1", "ipstrategy.excludedips": "2001:db8::/32, 10.2.2.2"},
     {"fields": HOPS, "trusted": True}, "/ "),
    ("ipallowlist", "ipstrategy.ipv6subnet",
     {"sourcerange": "2001:db8::/128", "ipstrategy.depth": "1", "ipstrategy.ipv6subnet": "64"},
     {"fields": HOPS, "trusted": True}, "/ "),
    ("inflightreq", "amount", {"amount": "1"}, {"times": 2}, "429 "),
    ("inflightreq", "amount", {"amount": "2"}, {"times": 2}, "/ "),
    ("ratelimit", "average", {"average": "1"}, {"times": 2}, "429 "),
    ("ratelimit", "average", {"average": "0"}, {"times": 9}, "/ "),
    ("ratelimit", "burst", {"average": "1", "burst": "3"}, {"times": 3}, "/ "),
    ("ratelimit", "period", {"average": "1", "period": "1m"}, {"times": 2}, "429 Retry-After: 60\r\n"),
    ("redirectregex", "regex", {"regex": "^http://b/", "replacement": "x"}, {}, "/ "),
    ("redirectregex", "replacement", {"regex": "^http://a/(.*)", "replacement": "http://b/$1"}, {"path": "/x"},
     "302 Location: http://b/x\r\n"),
    ("redirectregex", "permanent", {"regex": "^", "replacement": "x", "permanent": "true"}, {}, "301 "),
    ("redirectscheme", "scheme", {"scheme": "https"}, {}, "302 Location: https://a/\r\n"),
    ("redirectscheme", "port", {"scheme": "https", "port": "8443"}, {}, "Location: https://a:8443/\r\n"),
    ("redirectscheme", "permanent", {"scheme": "https", "permanent": "true"}, {}, "301 "),
    ("replacepath", "path", {"path": "/y"}, {}, "/y "),
    ("replacepathregex", "regex", {"regex": "^/z", "replacement": "/y"}, {"path": "/x"}, "/x "),
    ("replacepathregex", "replacement", {"regex": "^/(x)", "replacement": "/y/$1"}, {"path": "/x"}, "/y/x "),
    ("retry", "attempts", {"attempts": "4"}, {}, "/ 0 4 0 "),
    ("retry", "initialinterval", {"attempts": "4", "initialinterval": "100ms"}, {}, "/ 0 4 0.1 "),
    ("stripprefix", "prefixes", {"prefixes": "/v1,/api"}, {"path": "/api/x"}, "/x "),
    ("stripprefix", "forceslash", {"prefixes": "/api", "forceslash": "false"}, {"path": "/api"}, "/ "),
    ("stripprefixregex", "regex", {"regex": "^/v[0-9]+"}, {"path": "/v12/x"}, "/x "),
    ("stripprefixregex", "regex", {"regex": "/v[0-9]+"}, {"path": "/x/v12"}, "/x/v12 "),
]  # fmt: skip
for _kind, _base in (("ratelimit", {"average": "1"}), ("inflightreq", {"amount": "1"})):
    # Two sources that differ in nothing else: the second is not let through.
    EFFECTS += [
        (_kind, "sourcecriterion.requestheadername", _base | {"sourcecriterion.requestheadername": "X-Key"},
         {"fields": "X-Key: k\r\n", "times": 2}, "429 "),
        (_kind, "sourcecriterion.requesthost", _base | {"sourcecriterion.requesthost": "true"}, {"times": 2}, "429 "),
        (_kind, "sourcecriterion.ipstrategy.depth", _base | {"sourcecriterion.ipstrategy.depth": "1"},
         {"fields": HOPS, "trusted": True, "times": 2}, "429 "),
        (_kind, "sourcecriterion.ipstrategy.excludedips",
         _base | {"sourcecriterion.ipstrategy.excludedips": "10.2.2.2"},
         {"fields": HOPS, "trusted": True, "times": 2}, "429 "),
        (_kind, "sourcecriterion.ipstrategy.ipv6subnet", _base | {"sourcecriterion.ipstrategy.ipv6subnet": "64"},
         {"times": 2}, "429 "),
    ]  # fmt: skip
EFFECTS += [("ipwhitelist", *row[1:]) for row in EFFECTS if row[0] == "ipallowlist"]
# These have tests of their own (test_routing, test_breaker, test_forward_auth).
ELSEWHERE_TESTED = {"chain", "circuitbreaker", "forwardauth"}


@pytest.mark.parametrize(
    ("kind", "option", "options", "asked", "seen"), EFFECTS, ids=[f"{row[0]}.{row[1]}" for row in EFFECTS]
)
def test_option_has_its_effect(
    kind: str, option: str, options: dict[str, str], asked: dict[str, Any], seen: str
) -> None:
    said = effect(kind, options, **asked)
    if seen.startswith("!"):
        assert seen[1:] not in said
    elif seen[0] in "/1234567890":
        assert said.startswith(seen)
    else:
        assert seen in said
    assert verdict(kind, option) is None


def test_option_table_says_of_none_that_it_is_carried_out_without_an_effect_in_the_tests() -> None:
    claimed = {(kind, name) for kind, known in OPTIONS.items() for name, reason in known.items() if not reason}
    shown = {(row[0], row[1]) for row in EFFECTS}
    assert {one for one in claimed if one[0] not in ELSEWHERE_TESTED} == shown
    assert KINDS.keys() == OPTIONS.keys() - {"chain"}


@pytest.mark.parametrize("kind", ["ratelimit", "inflightreq"])
@pytest.mark.parametrize(
    ("criterion", "one", "other"),
    [
        ({"requestheadername": "X-Key"}, {"fields": "X-Key: 1\r\n"}, {"fields": "X-Key: 2\r\n"}),
        ({"requesthost": "true"}, {"host": "a"}, {"host": "b"}),
        ({"ipstrategy.depth": "2"}, {"fields": HOPS, "trusted": True}, {"fields": ORIGIN, "trusted": True}),
        ({"ipstrategy.excludedips": "2001:db8::/32"}, {"fields": HOPS, "trusted": True}, {}),
    ],
    ids=["header", "host", "depth", "excluded"],
)
def test_source_criterion_tells_sources_apart(
    kind: str, criterion: dict[str, str], one: dict[str, Any], other: dict[str, Any]
) -> None:
    base = {"average": "1"} if kind == "ratelimit" else {"amount": "1"}
    middleware = make_middleware(kind, base | {f"sourcecriterion.{name}": value for name, value in criterion.items()})
    middleware(made_call(**one))
    middleware(made_call(**other))
    with pytest.raises(Answer):
        middleware(made_call(**one))


@pytest.mark.parametrize(
    ("kind", "option"), [(kind, name) for kind, known in OPTIONS.items() for name, reason in known.items() if reason]
)
def test_option_that_is_not_carried_out_is_a_warning_with_its_name(kind: str, option: str) -> None:
    label = f"traefik.http.middlewares.m.{kind}.{option}"
    warnings = warnings_of(labelled("web", {label: "1"}))
    assert len(warnings) == 1
    assert label in warnings[0]
    assert "is not carried out: " in warnings[0]


@pytest.mark.parametrize(("kind", "option"), [(kind, name) for kind, known in OPTIONS.items() for name in known])
def test_option_that_is_misspelt_is_a_warning_with_the_closest(kind: str, option: str) -> None:
    label = f"traefik.http.middlewares.m.{kind}.{option[:-1]}{option[-1] * 2}x"
    assert [one for one in warnings_of(labelled("web", {label: "1"})) if label in one and "is '" in one]


@pytest.mark.parametrize("kind", sorted(OMITTED))
def test_middleware_that_can_be_done_without_is_left_out_with_a_warning(kind: str) -> None:
    labels = {R + "x.rule": "Host(`a`)", R + "x.middlewares": "m", f"traefik.http.middlewares.m.{kind}": "true"}
    (said,) = warnings_of(labelled("web", labels))
    assert "goes on without it" in said


@pytest.mark.parametrize("kind", sorted(ABSENT))
def test_middleware_that_guards_is_not_left_out(kind: str) -> None:
    labels = {R + "x.rule": "Host(`a`)", R + "x.middlewares": "m", f"traefik.http.middlewares.m.{kind}.address": "y"}
    assert any("router x is not served" in said for said in warnings_of(labelled("web", labels)))


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("headers", {"customrequestheaders.Host": "a b"}),
        ("headers", {"customresponseheaders.Content-Length": "1"}),
        ("headers", {"customresponseheaders.X-A": "1\r\nX-B: 2"}),
        ("headers", {"framedeny": "perhaps"}),
        ("headers", {"accesscontrolalloworiginlistregex": "("}),
        ("basicauth", {"users": USERS, "realm": "a\r\nX-B: 2"}),
        ("basicauth", {"users": USERS, "headerfield": "X B"}),
        ("basicauth", {"realm": "a"}),
        ("ipallowlist", {"sourcerange": "10.0.0.0/8", "rejectstatuscode": "99"}),
        ("ipallowlist", {"sourcerange": "10.0.0.0/8", "ipstrategy.depth": "1", "ipstrategy.excludedips": "10.0.0.1"}),
        ("ratelimit", {"average": "-1"}),
        ("ratelimit", {"average": "1", "period": "often"}),
        ("inflightreq", {"amount": "0"}),
        ("inflightreq", {"amount": "1", "sourcecriterion.requesthost": "1", "sourcecriterion.requestheadername": "a"}),
        ("retry", {"attempts": "0"}),
        ("retry", {"attempts": "2", "initialinterval": "soon"}),
        ("stripprefix", {"prefixes": "/a", "forceslash": "2"}),
        ("circuitbreaker", {"expression": "NetworkErrorRatio() > 0.1", "responsecode": "600"}),
    ],
)
def test_option_with_a_bad_value_is_refused(kind: str, options: dict[str, str]) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        make_middleware(kind, options)


S = "traefik.http.services.web.loadbalancer."


@pytest.mark.parametrize("option", sorted(SERVICE))
def test_service_option_is_read_or_a_warning(option: str) -> None:
    values, _ = SERVICE[option]
    good = next(iter(sorted(values)), "80")
    if good != "\0":
        assert service_verdict(f"loadbalancer.{option}", good) is None
    if values:
        (said,) = [one for one in warnings_of(labelled("web", {S + option: "https"})) if "not carried out" in one]
        assert S + option in said


def test_service_option_that_is_read_has_an_effect() -> None:
    read = [name for name, (values, _) in SERVICE.items() if not values and name != "server.port"]
    values_of = {
        "sticky.cookie.samesite": "lax",
        "sticky.cookie.secure": "true",
        "sticky.cookie.httponly": "true",
        "healthcheck.method": "HEAD",
    }
    for name in read:
        options, warnings = read_options({S + name: values_of.get(name, "200")})
        assert options != read_options({})[0], name
        assert warnings == []
    assert read_options({S + "sticky.cookie": "false"})[0].sticky_cookie == ""


@pytest.mark.parametrize("name", sorted([*LABELS, *(f"healthcheck.{one}" for one in HEALTH_LABELS), *ELSEWHERE]))
def test_label_of_ours_that_is_misspelt_names_the_closest(name: str) -> None:
    label = f"essaim.{name}s"
    (said,) = read_options({label: "1"})[1]
    assert said.startswith(f"label {label} is not known; the closest that is: essaim.")
    assert name.split(".")[0] in said.rpartition("essaim.")[2]


def test_label_of_ours_in_a_group_that_is_misspelt_is_a_warning() -> None:
    assert read_options({"essaim.blance.key": "path"})[1] == [
        "label essaim.blance.key is not known; the closest that is: essaim.balance.key"
    ]
    assert read_options({"essaim.port.8080.protocol": "http", "essaim.schedule": "@daily"})[1] == []
