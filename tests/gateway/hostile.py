"""Every label that the gateway reads, out of its own tables, and values that nobody should give them."""

from essaim.gateway.protocol.options import HEALTH_LABELS, LABELS, STICKY_LABELS
from essaim.gateway.protocol.tls_policy import READERS
from essaim.gateway.routing.labels import ROUTER_OPTIONS, TCP_OPTIONS
from essaim.gateway.routing.middlewares.vocabulary import ABSENT, OMITTED, OPTIONS, SERVICE
from essaim.gateway.routing.tcp_middlewares import KINDS as TCP_KINDS

HTTP, TCP = "traefik.http.", "traefik.tcp."
ROUTER = {HTTP + "routers.bad.rule": "Host(`bad.example`)", HTTP + "routers.bad.middlewares": "bad"}
TCP_ROUTER = {
    TCP + "routers.bad.rule": "HostSNI(`bad.example`)",
    TCP + "routers.bad.tls": "true",
    TCP + "routers.bad.middlewares": "bad",
}
TLS_OPTIONS = ("tls", "tls.certresolver", "tls.options", "tls.domains[0].main", "tls.domains[0].sans")
NAMED = ("customrequestheaders", "customresponseheaders")
"""Options of `headers` that a field's name follows."""

OWN = [f"essaim.{name}" for name in LABELS] + [f"essaim.healthcheck.{name}" for name in HEALTH_LABELS]
OWN += ["essaim.tls", *(f"essaim.tls.{name}" for name in READERS)]
MIDDLEWARES = {
    kind: [f"{HTTP}middlewares.bad.{kind}.{option}" + (".X-A" if option in NAMED else "") for option in options]
    for kind, options in OPTIONS.items()
} | {kind: [f"{HTTP}middlewares.bad.{kind}.x"] for kind in (*OMITTED, *sorted(ABSENT))}
TCP_MIDDLEWARES = {kind: [f"{TCP}middlewares.bad.{kind}.{option}"] for kind, (_, option) in TCP_KINDS.items()}
SERVICES = [f"{HTTP}services.bad.loadbalancer.{option}" for option in SERVICE]
SERVICES += [f"{HTTP}services.bad.loadbalancer.sticky.cookie.{name}" for name in STICKY_LABELS]
SERVICES += [f"{HTTP}services.bad.loadbalancer.healthcheck.headers.X-A"]
SERVICES += [f"{TCP}services.bad.loadbalancer.{name}" for name in ("server.port", "proxyprotocol.version")]
ROUTERS = [f"{HTTP}routers.bad.{option}" for option in (*sorted(ROUTER_OPTIONS), *TLS_OPTIONS)]
TCP_ROUTERS = [f"{TCP}routers.bad.{option}" for option in (*sorted(TCP_OPTIONS), *TLS_OPTIONS)]
OTHERS = ["traefik.enable", "traefik.docker.network", "traefik.udp.routers.bad.entrypoints", "traefik.", "essaim.", "x"]

GROUPS: dict[str, list[str]] = {
    "own": OWN, "services": SERVICES, "routers": ROUTERS, "tcp routers": TCP_ROUTERS, "others": OTHERS,
    **{f"middleware {kind}": labels for kind, labels in MIDDLEWARES.items()},
    **{f"TCP middleware {kind}": labels for kind, labels in TCP_MIDDLEWARES.items()},
}  # fmt: skip

MATCHERS = ("Host", "HostRegexp", "Path", "PathRegexp", "Header", "HeaderRegexp", "QueryRegexp", "ClientIP", "Method")
VALUES = [
    "", " ", "\u00b2", "\u0661\u0662", "\uff11\uff12", "inf", "-inf", "nan", "1e999", "1e300", "-1", "+1", "1_0",
    "0x10", "9" * 400, "9" * 15, "9" * 5000 + "s", "9" * 400 + "h", "20000000h", "0s", "1ns", "0", "65536", "true",
    "\x00",
    "a\x00b", "\u202ea", "a\nb", "a\r\nX-B: y", "\ud800", "\U0010ffff", "(" * 400, "(" * 100_000, "a" * 100_000,
    "a,b" * 2000, "=" * 50, ",,,", "((a+)+)+$", "a{99999999999}", "a{1001}", "(?=a)", "\\1", "\\", "[", "%", "{", "${1",
    "`", "@", "10.0.0.0/99", "::/0", "10.0.0.0/8,x", "999.1.1.1", "http://[", "http://a:99999999/", "https://\u2488com",
    "u:$2y$99$" + "a" * 53, "u:$apr1$", ":", "NetworkErrorRatio() > 1e999", "!" * 5000 + "NetworkErrorRatio() > 0",
    "LatencyAtQuantileMS(" + "9" * 500 + ") > 1", "bad", "bad,bad", "v9", "latest=" + "9" * 400, "latest=\u00b2",
    *(f"{name}(`{value}`)" for name in MATCHERS for value in ("((", "a{99999999}", "\u00b2", "*", "a", "/")),
    " || ".join(f"Host(`h{n}`)" for n in range(1000)), "(" * 400 + "Path(`/`)" + ")" * 400,
    "!(" * 3000 + "Path(`/`)" + ")" * 3000, "HostSNI(`*`)", "HostSNIRegexp(`((`)", "ALPN(`\u00b2`)",
]  # fmt: skip


def labels_of(group: str, label: str, value: str) -> dict[str, str]:
    """One label with the value, and what makes the gateway look at it."""
    base = TCP_ROUTER if group.startswith("TCP middleware") or group == "tcp routers" else ROUTER
    return {**base, label: value} if label != "traefik.enable" else {label: value}


def all_of(group: str, value: str) -> dict[str, str]:
    """All labels of a group with the same value."""
    made = {**ROUTER, **TCP_ROUTER} | dict.fromkeys(GROUPS[group], value)
    made.pop("traefik.enable", None)
    return made
