"""Traefik's middlewares, as far as the gateway has them: what happens to a request between its rule and its replica.

A middleware is made from its options (lower-case names with dots, as in the labels) once, and called for each request:
it may change the call, or answer it by raising Answer.

Pure: a call in, a changed call out; time is handed in with it.
"""

import re
from collections.abc import Callable

from essaim.cluster.durations import seconds
from essaim.gateway.protocol.addresses import Networks
from essaim.gateway.protocol.numbers import port, shown
from essaim.gateway.routing.call import (
    Answer,
    Call,
    Middleware,
    Options,
    field_name,
    field_value,
    flag,
    get_field,
    listed,
    number,
    set_field,
)
from essaim.gateway.routing.paths import spelled
from essaim.gateway.routing.pattern import Pattern

from .breaker import Breaker
from .breaker_expression import parse_expression
from .expansion import Expansion, TooLong
from .forward_auth import ForwardAuth
from .headers import Headers
from .in_flight import InFlight
from .passwords import Users
from .source import address_strategy, source_criterion


class StripPrefix:
    """`forceSlash` makes no difference here: what is left of a path always begins with a slash on the wire."""

    def __init__(self, options: Options) -> None:
        self._prefixes = [spelled(one) for one in listed(options["prefixes"])]
        flag(options, "forceslash", "true")

    def __call__(self, call: Call) -> None:
        for prefix in self._prefixes:
            if call.path.startswith(prefix):
                _strip(call, prefix)
                return


class StripPrefixRegex:
    """As Traefik: the first match is looked for anywhere, and its text taken off if the path begins with it."""

    def __init__(self, options: Options) -> None:
        self._patterns = [Pattern(one) for one in listed(options["regex"])]

    def __call__(self, call: Call) -> None:
        for pattern in self._patterns:
            found = pattern.find(call.path)
            text = call.path[slice(*found[0])] if found else b""
            if text and call.path.startswith(text):
                _strip(call, text)
                return


def _strip(call: Call, prefix: bytes) -> None:
    call.fields = set_field(call.fields, b"X-Forwarded-Prefix", prefix)
    rest = call.path[len(prefix) :]
    call.path = rest if rest.startswith(b"/") else b"/" + rest


class AddPrefix:
    def __init__(self, options: Options) -> None:
        self._prefix = spelled("/" + options["prefix"].strip("/"))

    def __call__(self, call: Call) -> None:
        call.path = self._prefix.rstrip(b"/") + call.path


class ReplacePath:
    def __init__(self, options: Options) -> None:
        self._path = spelled(options["path"])

    def __call__(self, call: Call) -> None:
        _replace(call, self._path)


class ReplacePathRegex:
    def __init__(self, options: Options) -> None:
        self._expansion = Expansion(options["regex"], options["replacement"])

    def __call__(self, call: Call) -> None:
        if self._expansion.matches(call.path):
            _replace(call, spelled(_replaced(self._expansion, call.path)))


def _replaced(expansion: Expansion, text: bytes) -> bytes:
    """Raises Answer."""
    try:
        return expansion.replace(text)
    except TooLong:
        raise Answer(500, "a middleware has made a target that is too long") from None


def _replace(call: Call, path: bytes) -> None:
    call.fields = set_field(call.fields, b"X-Replaced-Path", call.path)
    call.path = path if path.startswith(b"/") else b"/" + path


class RedirectScheme:
    def __init__(self, options: Options) -> None:
        self._scheme = options["scheme"]
        if not re.fullmatch(r"[A-Za-z][A-Za-z0-9+.-]*", self._scheme):
            raise ValueError(f"scheme {shown(self._scheme)} is none")
        wanted = _port(options["port"]) if options.get("port") else None
        self._port = f":{wanted}" if wanted and wanted != {"http": 80, "https": 443}.get(self._scheme) else ""
        self._permanent = flag(options, "permanent")

    def __call__(self, call: Call) -> None:
        if call.scheme != self._scheme:
            url = f"{self._scheme}://{call.request.host.decode()}{self._port}".encode() + call.target
            raise _redirect(call, url, self._permanent)


class RedirectRegex:
    """What is redirected to itself passes: it would come back for ever."""

    def __init__(self, options: Options) -> None:
        self._expansion = Expansion(options["regex"], options["replacement"])
        self._permanent = flag(options, "permanent")

    def __call__(self, call: Call) -> None:
        url = f"{call.scheme}://".encode() + call.authority + call.target
        if self._expansion.matches(url) and (other := _replaced(self._expansion, url)) != url:
            raise _redirect(call, other, self._permanent)


class BasicAuth:
    def __init__(self, options: Options) -> None:
        self._users = Users(options["users"])
        self._realm = field_value("realm", options.get("realm", "traefik").replace('"', ""))
        self._remove = flag(options, "removeheader")
        self._header = field_name(options["headerfield"]) if options.get("headerfield") else b""

    def __call__(self, call: Call) -> None:
        user = self._users.verify(get_field(call.fields, b"authorization"))
        if user is None:
            raise Answer(401, "a user and password are needed", b'WWW-Authenticate: Basic realm="%b"\r\n' % self._realm)
        call.user = user
        if self._remove:
            call.fields = set_field(call.fields, b"Authorization", b"")
        if self._header:
            call.fields = set_field(call.fields, self._header, user)


class AllowList:
    def __init__(self, options: Options) -> None:
        self._networks = Networks(listed(options["sourcerange"]))
        self._source = address_strategy(options)
        self._status = number(options, "rejectstatuscode", "403", 200)
        if self._status > 599:
            raise ValueError("rejectStatusCode must be a status from 200 to 599")

    def __call__(self, call: Call) -> None:
        if self._source(call) not in self._networks:
            raise Answer(self._status, "this address is not allowed here")


class RateLimit:
    """A token bucket for each source; counted by each worker, so the node's limit is divided among them.

    No average, or 0, is no limit.
    """

    def __init__(self, options: Options) -> None:
        self._rate = number(options, "average") / (seconds(options.get("period", "1s")) or 1.0)
        self._burst = max(1.0, number(options, "burst", "1"))
        self._source = source_criterion(options)
        self._buckets: dict[bytes, tuple[float, float]] = {}

    def __call__(self, call: Call) -> None:
        if self._rate <= 0:
            return
        source = self._source(call)
        tokens, seen = self._buckets.get(source, (self._burst, call.now))
        tokens = min(self._burst, tokens + (call.now - seen) * self._rate)
        if tokens < 1.0:
            raise Answer(429, "too many requests", b"Retry-After: %d\r\n" % max(1, round((1 - tokens) / self._rate)))
        if len(self._buckets) >= MAX_BUCKETS:
            self._forget(call.now)
        self._buckets[source] = (tokens - 1.0, call.now)

    def _forget(self, now: float) -> None:
        """Full buckets say nothing; if too few are full, all start anew."""
        full = self._burst / self._rate
        self._buckets = {key: one for key, one in self._buckets.items() if now - one[1] < full}
        if len(self._buckets) >= MAX_BUCKETS // 2:
            self._buckets.clear()


class Buffering:
    """Only the limit on the request's body: nothing is buffered, as the gateway streams."""

    def __init__(self, options: Options) -> None:
        self._limit = number(options, "maxrequestbodybytes")

    def __call__(self, call: Call) -> None:
        call.max_body = self._limit or call.max_body


class Retry:
    def __init__(self, options: Options) -> None:
        self._attempts = min(number(options, "attempts", "", 1), MOST_RETRIES)
        self._pause = seconds(options.get("initialinterval", "0"))

    def __call__(self, call: Call) -> None:
        call.retries, call.retry_pause = self._attempts, self._pause


class InFlightReq:
    """So many requests of one source at a time, by worker."""

    def __init__(self, options: Options) -> None:
        self._flights = InFlight(number(options, "amount", "", 1))
        self._source = source_criterion(options)

    @property
    def in_progress(self) -> int:
        """Sources with requests in progress."""
        return self._flights.sources

    def __call__(self, call: Call) -> None:
        source = self._source(call)
        if not self._flights.enter(source):
            raise Answer(429, "too many requests of this source are in progress")
        call.after.append(lambda status, seconds: self._flights.leave(source))


class CircuitBreaker:
    def __init__(self, options: Options) -> None:
        self._status = number(options, "responsecode", "503", 200)
        if self._status > 599:
            raise ValueError("responseCode must be a status from 200 to 599")
        self._breaker = Breaker(
            parse_expression(options["expression"]),
            seconds(options.get("checkperiod", "100ms")),
            seconds(options.get("fallbackduration", "10s")),
            seconds(options.get("recoveryduration", "10s")),
        )

    def __call__(self, call: Call) -> None:
        if not self._breaker.admits(call.now):
            raise Answer(self._status, "circuit breaker open: the service is failing")
        started = call.now
        call.after.append(lambda status, took: self._breaker.saw(status, took, started + took))


MAX_BUCKETS = 65_536
MOST_RETRIES = 100
KINDS: dict[str, Callable[[Options], Middleware]] = {
    "stripprefix": StripPrefix,
    "stripprefixregex": StripPrefixRegex,
    "addprefix": AddPrefix,
    "replacepath": ReplacePath,
    "replacepathregex": ReplacePathRegex,
    "redirectscheme": RedirectScheme,
    "redirectregex": RedirectRegex,
    "headers": Headers,
    "basicauth": BasicAuth,
    "forwardauth": ForwardAuth,
    "ipallowlist": AllowList,
    "ipwhitelist": AllowList,
    "ratelimit": RateLimit,
    "buffering": Buffering,
    "circuitbreaker": CircuitBreaker,
    "inflightreq": InFlightReq,
    "retry": Retry,
}


def make_middleware(kind: str, options: Options) -> Middleware:
    """Raises ValueError with what is wrong with it."""
    make = KINDS.get(kind)
    if make is None:
        raise ValueError(f"the gateway has no middleware {kind!r}; it has: {', '.join(sorted(KINDS))}")
    try:
        return make(options)
    except KeyError as error:
        raise ValueError(f"{kind} needs the option {error.args[0]}") from None
    except ValueError as error:
        raise ValueError(f"{kind}: {error}") from None


def _port(text: str) -> int:
    try:
        return port(text)
    except ValueError as error:
        raise ValueError(f"port {error}") from None


def _redirect(call: Call, url: bytes, permanent: bool) -> Answer:
    """As Traefik: GET may become GET by the older statuses; other methods must stay what they are."""
    status = (301 if permanent else 302) if call.request.method == b"GET" else (308 if permanent else 307)
    # What came from the client must not end the line.
    return Answer(status, "see Location", b"Location: " + re.sub(rb"[\x00-\x20\x7f]", b"", url) + b"\r\n")
