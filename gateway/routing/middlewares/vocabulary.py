"""Every middleware and option that Traefik (v3) knows, and what becomes of it here.

An option is carried out, or a warning on the service says why not; what is in no table is taken for misspelt, and the
warning names the closest that is. A middleware that the gateway has not is either left out (a service does the same
without it: OMITTED), or its router is not served (it lets only some requests through: ABSENT).

Pure: names in, verdicts out.
"""

from difflib import get_close_matches

from essaim.cluster.booleans import FALSE, TRUE

CARRIED_OUT = ""
MOST_COMPARED = 100
"""Characters of a name that is compared with others: the time grows with their square."""

_STREAMS = "bodies are streamed here, not buffered"
_FILES = "the gateway reads no files; write the users into the label"
_SSL = "use redirectScheme on a router of the entry point web"
_SHARED = "limits are counted by worker, not in a store"
_REQUEST = "the host is taken from the request alone; essaim.trusted says who is believed in what"
_CLIENT = "auth servers are shown no certificate"
_SAFE = "only what cannot have reached a replica is sent again"

_IP_STRATEGY = ("depth", "excludedips", "ipv6subnet")
_CRITERION = {
    "sourcecriterion.requestheadername": CARRIED_OUT,
    "sourcecriterion.requesthost": CARRIED_OUT,
} | {f"sourcecriterion.ipstrategy.{one}": CARRIED_OUT for one in _IP_STRATEGY}
_ALLOW_LIST = {"sourcerange": CARRIED_OUT, "rejectstatuscode": CARRIED_OUT} | {
    f"ipstrategy.{one}": CARRIED_OUT for one in _IP_STRATEGY
}


def _done(*names: str) -> dict[str, str]:
    return dict.fromkeys(names, CARRIED_OUT)


# By kind and option, in lower case: CARRIED_OUT, or the reason why it is not.
OPTIONS: dict[str, dict[str, str]] = {
    "addprefix": _done("prefix"),
    "basicauth": _done("users", "realm", "removeheader", "headerfield") | {"usersfile": _FILES},
    "buffering": _done("maxrequestbodybytes")
    | dict.fromkeys(("maxresponsebodybytes", "memrequestbodybytes", "memresponsebodybytes"), _STREAMS)
    | {"retryexpression": "use the middleware retry"},
    "chain": _done("middlewares"),
    "circuitbreaker": _done("expression", "checkperiod", "fallbackduration", "recoveryduration", "responsecode"),
    "forwardauth": _done(
        "address", "trustforwardheader", "authresponseheaders", "authresponseheadersregex", "authrequestheaders",
        "addauthcookiestoresponse", "headerfield", "forwardbody", "maxbodysize", "maxresponsebodysize",
        "preservelocationheader", "preserverequestmethod", "authsigninurl", "tls.ca", "tls.insecureskipverify",
    )
    | {"tls.cert": _CLIENT, "tls.key": _CLIENT, "tls.caoptional": "it is a server's matter"},
    "headers": _done(
        "customrequestheaders", "customresponseheaders", "accesscontrolallowcredentials", "accesscontrolallowheaders",
        "accesscontrolallowmethods", "accesscontrolalloworiginlist", "accesscontrolalloworiginlistregex",
        "accesscontrolexposeheaders", "accesscontrolmaxage", "addvaryheader", "allowedhosts", "browserxssfilter",
        "contentsecuritypolicy", "contentsecuritypolicyreportonly", "contenttypenosniff", "custombrowserxssvalue",
        "customframeoptionsvalue", "featurepolicy", "forcestsheader", "framedeny", "isdevelopment", "permissionspolicy",
        "publickey", "referrerpolicy", "stsincludesubdomains", "stspreload", "stsseconds",
    )
    | {"hostsproxyheaders": _REQUEST, "sslproxyheaders": "essaim.trusted says whose X-Forwarded-Proto is believed"}
    | dict.fromkeys(("sslredirect", "ssltemporaryredirect", "sslhost", "sslforcehost"), _SSL),
    "inflightreq": _done("amount") | _CRITERION,
    "ipallowlist": _ALLOW_LIST,
    "ipwhitelist": _ALLOW_LIST,
    "ratelimit": _done("average", "period", "burst")
    | _CRITERION
    | {
        f"redis.{one}": _SHARED
        for one in ("endpoints", "username", "password", "db", "tls", "tls.ca", "tls.cert", "tls.key",
                    "tls.insecureskipverify", "poolsize", "minidleconns", "maxactiveconns", "readtimeout",
                    "writetimeout", "dialtimeout")
    },
    "redirectregex": _done("regex", "replacement", "permanent"),
    "redirectscheme": _done("scheme", "port", "permanent"),
    "replacepath": _done("path"),
    "replacepathregex": _done("regex", "replacement"),
    "retry": _done("attempts", "initialinterval")
    | {"timeout": "essaim.timeout.response limits each try", "maxrequestbodybytes": "64 KiB of a body are kept"}
    | dict.fromkeys(("status", "disableretryonnetworkerror", "retrynonidempotentmethod"), _SAFE),
    "stripprefix": _done("prefixes", "forceslash"),
    "stripprefixregex": _done("regex"),
}  # fmt: skip

OMITTED = {
    "compress": "let the service compress what it sends",
    "contenttype": "no content type is guessed here",
    "errors": "the service's own error pages are passed on",
    "grpcweb": "let the service speak gRPC-Web",
    "passtlsclientcert": "essaim.tls.client.ca tells replicas the subject of a client's certificate, no more",
}
"""A service's router is served without these."""
ABSENT = frozenset({"digestauth", "plugin"})
"""With these it is not."""


def verdict(kind: str, option: str) -> str | None:
    """None: carried out. Else why not, for a warning. Both names as they are spelt."""
    known = OPTIONS.get(kind.lower())
    if known is None:
        if kind.lower() in OMITTED:
            return f"the gateway has no middleware {kind!r}, and goes on without it: {OMITTED[kind.lower()]}"
        if kind.lower() in ABSENT:
            return f"the gateway has no middleware {kind!r}"
        return f"there is no middleware {kind!r}{_closest(kind, [*OPTIONS, *OMITTED, *ABSENT])}"
    name = option.lower()
    if kind.lower() == "headers":
        group, dot, tail = name.partition(".")
        name = group if tail or not dot else name
    reason = known.get(name)
    if reason is None:
        return f"{kind} has no option {option!r}{_closest(name, list(known))}"
    return f"{kind}.{option} is not carried out: {reason}" if reason else None


_HTTP = "replicas are spoken to in HTTP/1.1 without TLS"
_COOKIE = "the sticky cookie lives as long as the browser's session, for all paths of the host"

# Of `traefik.http.services.NAME.loadbalancer.`: the values that are carried out ("" any), and why others are not.
BOOLEANS = TRUE | FALSE | {""}
SERVICE: dict[str, tuple[frozenset[str], str]] = {
    "server.port": (frozenset(), ""),
    "server.scheme": (frozenset({"http"}), _HTTP),
    "server.weight": (frozenset({"1"}), "use essaim.balance.weights"),
    "server.url": (frozenset({"\0"}), "the replicas are the service's tasks"),
    "server.preservepath": (BOOLEANS, ""),
    "passhostheader": (TRUE, "the request's Host is always passed"),
    "serverstransport": (frozenset({"\0"}), "see essaim.timeout.* for the time-outs"),
    "responseforwarding.flushinterval": (frozenset({"\0"}), "every piece of a response is passed on at once"),
    "strategy": (frozenset({"wrr"}), "use essaim.balance"),
    "sticky": (BOOLEANS, "it is true or false"),
    "sticky.cookie": (BOOLEANS, "it is true or false"),
    "sticky.cookie.name": (frozenset(), ""),
    "sticky.cookie.secure": (frozenset(), ""),
    "sticky.cookie.httponly": (frozenset(), ""),
    "sticky.cookie.samesite": (frozenset(), ""),
    "sticky.cookie.maxage": (frozenset({"0"}), _COOKIE),
    "sticky.cookie.path": (frozenset({"/"}), _COOKIE),
    "sticky.cookie.domain": (frozenset({"\0"}), _COOKIE),
    "healthcheck.path": (frozenset(), ""),
    "healthcheck.method": (frozenset(), ""),
    "healthcheck.status": (frozenset(), ""),
    "healthcheck.hostname": (frozenset(), ""),
    "healthcheck.port": (frozenset(), ""),
    "healthcheck.interval": (frozenset(), ""),
    "healthcheck.timeout": (frozenset(), ""),
    "healthcheck.mode": (frozenset({"http"}), "checks are HTTP, or a TCP connection without a path"),
    "healthcheck.scheme": (frozenset({"http"}), _HTTP),
    "healthcheck.followredirects": (FALSE | {""}, "a redirect counts as an answer of its own status"),
    "healthcheck.unhealthyinterval": (frozenset({"\0"}), "a replica that is down is checked at the same interval"),
}  # fmt: skip


def service_verdict(option: str, value: str) -> str | None:
    """As `verdict`, for what stands behind the name of a service; depends on the value, too."""
    name = option.lower().removeprefix("loadbalancer.")
    if name.startswith("healthcheck.headers."):
        return None
    known = SERVICE.get(name) if name != option.lower() else None
    if known is None:
        return f"it is not known to the gateway{_closest(option, [f'loadbalancer.{one}' for one in SERVICE])}"
    values, reason = known
    return f"it is not carried out: {reason}" if values and value.lower() not in values else None


def _closest(name: str, known: list[str]) -> str:
    found = get_close_matches(name.lower(), known, 1, 0.6) if len(name) <= MOST_COMPARED else []
    return f"; is {found[0]!r} meant?" if found else ""
