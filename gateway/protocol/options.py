"""What a service's labels ask of the gateway.

Traefik's own label names are read where Traefik has a word for it (`traefik.http.services.NAME.loadbalancer.*`, names
are case-insensitive as there); the rest are `essaim.*` labels. A label of ours that is misspelt or holds a bad value
leaves the default in place and becomes a warning; nothing is ignored silently.

Pure: labels in, options and warnings out.
"""

import contextlib
import re
from collections.abc import Callable
from difflib import get_close_matches
from typing import Any

import msgspec

from essaim.cluster.durations import seconds
from essaim.cluster.sizes import parse_size

from .addresses import Networks
from .numbers import decimal, flag, port, shown, whole
from .tls_policy import TlsLabels, read_tls

TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
"""The name of a field, a cookie or a method (RFC 9110, 5.6.2)."""
FIELD_VALUE = re.compile(r"[\t -~\x80-\ud7ff\ue000-\U0010ffff]*")
MOST_TRIES, MOST_TIMES, MOST_SHARE = 100, 10_000, 1_000_000
MOST_SUGGESTIONS = 20
"""A service's labels of which a misspelt name is compared with all others: that takes a millisecond each."""

NAMES = ("round_robin", "least_connections", "least_time", "random", "hash")
"""Of the balancing policies (`upstream/balance/choose.py`)."""


class HealthOptions(msgspec.Struct, frozen=True, array_like=True):
    """The active check. Times in seconds; `status` is the accepted range (low, high), both included."""

    kind: str = "tcp"
    path: str = "/"
    method: str = "GET"
    host: str = ""
    headers: dict[str, str] = {}
    status: tuple[int, int] = (200, 399)
    body: str = ""
    port: int = 0
    interval: float = 2.0
    timeout: float = 2.0
    rise: int = 1
    fall: int = 2


class ServiceOptions(msgspec.Struct, frozen=True, array_like=True):
    """Times in seconds, sizes in bytes; 0 means no limit, unless said otherwise."""

    health: HealthOptions = HealthOptions()
    balance: str = "round_robin"
    connect_timeout: float = 3.0
    response_timeout: float = 0.0
    idle_timeout: float = 3600.0
    udp_timeout: float = 60.0
    # Until a replica has answered.
    udp_first: float = 10.0
    drain_idle: float = 2.0
    keepalive_timeout: float = 75.0
    header_timeout: float = 10.0
    queue_timeout: float = 10.0
    queue_limit: int = 1024
    retries: int = 3
    max_body: int = 0
    proxy_protocol: str = ""
    trusted: list[str] = []
    accept_proxy: bool = False
    near: str = ""
    panic: int = 0
    version_weights: dict[str, int] = {}
    hash_key: str = ""
    sticky_cookie: str = ""
    sticky_secure: bool = False
    sticky_http_only: bool = False
    sticky_same_site: str = ""
    access_log: str = ""
    access_sample: float = 1.0
    max_connections: int = 0
    max_per_source: int = 0
    max_service: int = 0
    eject_share: int = 50
    eject_5xx: int = 0
    # Percent; 0 is off.
    eject_rate: int = 0
    eject_window: float = 10.0
    eject_least: int = 20
    slow_start: float = 0.0
    tls: TlsLabels = TlsLabels()


def _text(value: str) -> str:
    return value


def _count(value: str) -> int:
    return whole(value)


def _size(value: str) -> int:
    try:
        return parse_size(value.strip(" "))
    except ValueError:
        raise ValueError("must be a size such as 512, 64k or 1.5m") from None


def _tries(value: str) -> int:
    return whole(value, 0, MOST_TRIES)


def _times(value: str) -> int:
    return whole(value, 1, MOST_TIMES)


def _percent(value: str) -> int:
    try:
        return whole(value, 0, 100)
    except ValueError:
        raise ValueError("must be a percentage from 0 to 100") from None


def _window(value: str) -> float:
    """Workers look at the clock twice a second: parts of less than that would say nothing."""
    length = seconds(value)
    if not 1 <= length <= 3600:
        raise ValueError("must be from 1s to 1h")
    return length


def _span(value: str) -> float:
    """Of a time without which nothing would work."""
    length = seconds(value)
    if length <= 0:
        raise ValueError("must be longer than 0s")
    return length


def _share(value: str) -> float:
    try:
        share = decimal(value)
    except ValueError:
        share = -1.0
    if not 0 <= share <= 1:
        raise ValueError("must be a number from 0 to 1")
    return share


def _status(value: str) -> tuple[int, int]:
    low, _, high = value.partition("-")
    try:
        bounds = (whole(low, 100, 599), whole(high or low, 100, 599))
    except ValueError:
        bounds = (1, 0)
    if bounds[0] > bounds[1]:
        raise ValueError("must be a status such as 200, or a range such as 200-299")
    return bounds


def _headers(value: str) -> dict[str, str]:
    pairs = [item.partition(":") for item in value.split(",") if item.strip()]
    if any(not colon or not TOKEN.fullmatch(name.strip()) for name, colon, _ in pairs):
        raise ValueError("must be a list such as X-A: 1, X-B: 2")
    return {name.strip(): _header_value(content) for name, _, content in pairs}


def _header_value(value: str) -> str:
    if not FIELD_VALUE.fullmatch(value.strip()):
        raise ValueError("a field's value must be printable")
    return value.strip()


def _method(value: str) -> str:
    if not TOKEN.fullmatch(value):
        raise ValueError("must be a method such as GET")
    return value.upper()


def _path(value: str) -> str:
    """As a request has it: a path that is no request would ask for something else, or nothing."""
    if not re.fullmatch(r"[!-~]*", value):
        raise ValueError("must be a path such as /healthy, with %20 for a space")
    return value


def _host(value: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9._:\[\]-]*", value):
        raise ValueError("must be a host")
    return value


def _networks(value: str) -> list[str]:
    """Checked here, so that a worker never meets one that is not valid."""
    found = _list(value)
    Networks(found)
    return found


def _list(value: str) -> list[str]:
    return [item.strip() for item in value.split(",") if item.strip()]


def _weights(value: str) -> dict[str, int]:
    """`latest=5,previous=95` or by spec version number."""
    pairs = [item.partition("=") for item in _list(value)]
    if not pairs or any(not sign for _, sign, _ in pairs):
        raise ValueError("must be a list such as latest=5,previous=95")
    return {name.strip(): whole(number, 0, MOST_SHARE) for name, _, number in pairs}


def _one_of(*allowed: str) -> Callable[[str], str]:
    def check(value: str) -> str:
        if value.lower() not in allowed:
            raise ValueError("must be one of " + ", ".join(allowed))
        return value.lower()

    return check


def _cookie_name(value: str) -> str:
    if not TOKEN.fullmatch(value):
        raise ValueError("is not a cookie's name")
    return value


def _hash_key(value: str) -> str:
    if value not in ("source", "path") and not re.fullmatch(r"(header|cookie):[!-~]+", value):
        raise ValueError("must be source, path, header:NAME or cookie:NAME")
    return value


HEALTH_LABELS: dict[str, tuple[str, Callable[[str], Any]]] = {
    "path": ("path", _path),
    "method": ("method", _method),
    "hostname": ("host", _host),
    "host": ("host", _host),
    "headers": ("headers", _headers),
    "status": ("status", _status),
    "body": ("body", _text),
    "port": ("port", port),
    "interval": ("interval", _span),
    "timeout": ("timeout", _span),
    "rise": ("rise", _times),
    "fall": ("fall", _times),
    "mode": ("kind", _one_of("tcp", "http", "none")),
}

LABELS: dict[str, tuple[str, Callable[[str], Any]]] = {
    "balance": ("balance", _one_of(*NAMES)),
    "balance.key": ("hash_key", _hash_key),
    "balance.near": ("near", _one_of("node", "zone")),
    "balance.weights": ("version_weights", _weights),
    "balance.panic": ("panic", _percent),
    "balance.slowstart": ("slow_start", seconds),
    "timeout.connect": ("connect_timeout", _span),
    "timeout.response": ("response_timeout", seconds),
    "timeout.idle": ("idle_timeout", seconds),
    "timeout.udp": ("udp_timeout", _span),
    "timeout.udp.first": ("udp_first", _span),
    "timeout.drain": ("drain_idle", seconds),
    "timeout.keepalive": ("keepalive_timeout", _span),
    "timeout.header": ("header_timeout", _span),
    "queue.timeout": ("queue_timeout", seconds),
    "queue.limit": ("queue_limit", _count),
    "retries": ("retries", _tries),
    "limit.body": ("max_body", _size),
    "accesslog": ("access_log", _one_of("json", "common")),
    "accesslog.sample": ("access_sample", _share),
    "limit.source": ("max_per_source", _count),
    "limit.service": ("max_service", _count),
    "limit.connections": ("max_connections", _count),
    "proxyprotocol": ("proxy_protocol", _one_of("v1", "v2")),
    "proxyprotocol.accept": ("accept_proxy", flag),
    "trusted": ("trusted", _networks),
    "sticky.cookie": ("sticky_cookie", _cookie_name),
    "eject.share": ("eject_share", _percent),
    "eject.5xx": ("eject_5xx", _count),
    "eject.rate": ("eject_rate", _percent),
    "eject.window": ("eject_window", _window),
    "eject.least": ("eject_least", _times),
}
ELSEWHERE: dict[str, Callable[[str], Any]] = {
    "drain": seconds,
    "placement.strategy": _text,
    "rebalance": _text,
    "schedule": _text,
    "schedule.concurrency": _text,
    "schedule.deadline": seconds,
    "schedule.timezone": _text,
}
"""Labels of ours on services that other rooms read, in lower case only. The API refuses those that cannot be read
(`spec_labels.py`, `cron.py`); of a service that has one from an older release the default holds, and this says so."""
OWN_READER = ("tls", "acme")
"""Groups with a reader of their own, which warns by itself."""
PORT_PROTOCOL = re.compile(r"port\.[0-9]+\.protocol")

STICKY_NAME = "essaim"
"""Of the cookie, where the labels give none."""
STICKY_LABELS: dict[str, tuple[str, Callable[[str], Any]]] = {
    "name": ("sticky_cookie", _cookie_name),
    "secure": ("sticky_secure", flag),
    "httponly": ("sticky_http_only", flag),
    "samesite": ("sticky_same_site", _one_of("none", "lax", "strict")),
}
TRAEFIK_CHECK = re.compile(r"traefik\.http\.services\.[^.]+\.loadbalancer\.healthcheck\.")
TRAEFIK = re.compile(r"traefik\.http\.services\.[^.]+\.loadbalancer\.(healthcheck|sticky\.cookie)(?:\.([a-z0-9.-]+))?$")
TRAEFIK_PROXY = re.compile(r"traefik\.tcp\.services\.[^.]+\.loadbalancer\.proxyprotocol\.version$")


def read_options(labels: dict[str, str]) -> tuple[ServiceOptions, list[str]]:
    """The options that a service's labels ask for, and warnings for what cannot be honoured."""
    options: dict[str, Any] = {}
    health: dict[str, Any] = {}
    warnings: list[str] = []
    for label in sorted(labels):
        place = _place(label, labels[label], options, health)
        if place is None:
            if label.lower().startswith("essaim."):
                warnings += _said_of_others(label, labels[label], suggests=len(warnings) < MOST_SUGGESTIONS)
            continue
        into, (field, convert) = place
        try:
            into[field] = convert(labels[label])
        except ValueError as error:
            warnings.append(f"label {label}={shown(labels[label])} is ignored: {error}")
    asked = any(TRAEFIK_CHECK.match(label.lower()) for label in labels)
    if asked or {"path", "status", "body", "method", "host"} & health.keys():
        health.setdefault("kind", "http")
    if options.get("hash_key"):
        options.setdefault("balance", "hash")
    if options.get("accept_proxy") and not options.get("trusted"):
        warnings.append(
            "label essaim.proxyprotocol.accept has no effect without essaim.trusted (the proxies' addresses)"
        )
    options["tls"], said = read_tls(labels)
    return ServiceOptions(health=HealthOptions(**health), **options), warnings + said


def unreadable(labels: dict[str, str]) -> list[str]:
    """What is wrong with the values of `essaim.*` labels, each with its label; those whose name is not known are not
    looked at."""
    found: list[str] = []
    for label in sorted(labels):
        place = _place(label, labels[label], {}, {}) if label.lower().startswith("essaim.") else None
        if place is not None:
            try:
                place[1][1](labels[label])
            except ValueError as error:
                found.append(f"label {label}={shown(labels[label])}: {error}")
    return found


Place = tuple[dict[str, Any], tuple[str, Callable[[str], Any]]]


def _place(label: str, value: str, options: dict[str, Any], health: dict[str, Any]) -> Place | None:
    """Where a label's value belongs and how it is read; None for labels of others."""
    lower = label.lower()
    if lower.startswith("essaim.healthcheck."):
        found = HEALTH_LABELS.get(lower.removeprefix("essaim.healthcheck."))
        return (health, found) if found else None
    if lower.startswith("essaim."):
        found = LABELS.get(lower.removeprefix("essaim."))
        return (options, found) if found else None
    if TRAEFIK_PROXY.match(lower):
        return options, ("proxy_protocol", lambda value: _one_of("v1", "v2")("v" + value))
    matched = TRAEFIK.match(lower)
    if not matched:
        return None
    kind, name = matched.groups()
    if kind == "healthcheck":
        if name and name.startswith("headers."):
            header = label.rsplit(".", 1)[1]
            return health, ("headers", lambda value: {**health.get("headers", {}), header: _header_value(value)})
        found = HEALTH_LABELS.get(name or "")
        return (health, found) if found else None
    if name is None:
        with contextlib.suppress(ValueError):  # the table of Traefik's options says what is wrong with it
            if flag(value):
                options.setdefault("sticky_cookie", STICKY_NAME)
        return None
    found = STICKY_LABELS.get(name)
    if found and found[0] != "sticky_cookie":
        options.setdefault("sticky_cookie", STICKY_NAME)
    return (options, found) if found else None


def _said_of_others(label: str, value: str, *, suggests: bool) -> list[str]:
    """What is wrong with a label of ours that is not read here."""
    name = label.removeprefix("essaim.")
    if label.lower().split(".")[1] in OWN_READER or PORT_PROTOCOL.fullmatch(name):
        return []
    reader = ELSEWHERE.get(name)
    if reader is None:
        return [f"label {label} is not known{_closest(label.lower()) if suggests else ''}"]
    try:
        reader(value)
    except ValueError as error:
        return [f"label {label}={shown(value)} is ignored: {error}"]
    return []


MOST_COMPARED = 100
"""Characters of a name that are compared: the time grows with their square."""


def _closest(label: str) -> str:
    known = [*LABELS, *(f"healthcheck.{name}" for name in HEALTH_LABELS), *ELSEWHERE, "port.80.protocol"]
    found = get_close_matches(label.removeprefix("essaim.")[:MOST_COMPARED], known, 1, 0.0)
    return f"; the closest that is: essaim.{found[0]}" if found else ""
