"""Traefik's middlewares, as far as the gateway has them: what happens to a request between its rule and its replica.

A middleware is made from its options (lower-case names with dots, as in the labels) once, and called for each request:
it may change the call, or answer it by raising Answer.

Pure: a call in, a changed call out; time is handed in with it.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol

from essaim.gateway.durations import seconds
from essaim.gateway.http1.forwarded import is_trusted, parse_networks
from essaim.gateway.http1.head import Request

from .breaker import Breaker
from .breaker_expression import parse_expression
from .in_flight import InFlight, criterion
from .passwords import Users

Options = dict[str, str]


class Answer(Exception):
    """The gateway answers by itself. `lines`: further fields, each ended by CRLF; `body` instead of the reason."""

    def __init__(self, status: int, reason: str, lines: bytes = b"", body: bytes | None = None) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason
        self.lines = lines
        self.body = body


@dataclass(slots=True)
class Call:
    """A request on its way: `path`, `query` and `fields` (lines, each ended by CRLF) are what the replica will get."""

    request: Request
    path: bytes
    query: bytes
    fields: bytes
    address: str
    authority: bytes
    now: float
    scheme: str = "http"
    max_body: int = 0
    retries: int | None = None
    edits: list[Callable[[bytes], bytes]] = field(default_factory=list)
    # Told when the request is over: the status of its answer, and the seconds that it took.
    after: list[Callable[[int, float], None]] = field(default_factory=list)
    # The middlewares to pass, and how many of them are passed.
    chain: "tuple[Middleware, ...]" = ()
    step: int = 0

    def proceed(self) -> None:
        """Pass the middlewares; after an interruption, those that are left. Raises Answer, and Unproven."""
        while self.step < len(self.chain):
            self.chain[self.step](self)
            self.step += 1

    def end(self, status: int, seconds: float) -> None:
        """The request is over; said again it has no effect."""
        after, self.after = self.after, []
        for tell in reversed(after):
            tell(status, seconds)

    @property
    def target(self) -> bytes:
        return self.path + b"?" + self.query if self.query else self.path


class Middleware(Protocol):
    def __call__(self, call: Call) -> None: ...


class StripPrefix:
    def __init__(self, options: Options) -> None:
        self._prefixes = _list(options["prefixes"])

    def __call__(self, call: Call) -> None:
        for prefix in self._prefixes:
            if call.path.startswith(prefix):
                call.fields = set_field(call.fields, b"X-Forwarded-Prefix", prefix)
                rest = call.path[len(prefix) :]
                call.path = rest if rest.startswith(b"/") else b"/" + rest
                return


class AddPrefix:
    def __init__(self, options: Options) -> None:
        self._prefix = options["prefix"].encode().rstrip(b"/")

    def __call__(self, call: Call) -> None:
        call.path = self._prefix + call.path


class ReplacePath:
    def __init__(self, options: Options) -> None:
        self._path = options["path"].encode()

    def __call__(self, call: Call) -> None:
        call.path = self._path


class ReplacePathRegex:
    def __init__(self, options: Options) -> None:
        self._pattern = re.compile(options["regex"].encode())
        self._replacement = _expansion(options["replacement"])

    def __call__(self, call: Call) -> None:
        call.path = self._pattern.sub(self._replacement, call.path)


class RedirectScheme:
    def __init__(self, options: Options) -> None:
        self._scheme = options["scheme"]
        self._port = f":{int(options['port'])}" if options.get("port") else ""
        self._status = 308 if _flag(options.get("permanent", "false")) else 307

    def __call__(self, call: Call) -> None:
        if call.scheme != self._scheme:
            url = f"{self._scheme}://{call.request.host.decode()}{self._port}".encode() + call.target
            raise _redirect(self._status, url)


class RedirectRegex:
    def __init__(self, options: Options) -> None:
        self._pattern = re.compile(options["regex"].encode())
        self._replacement = _expansion(options["replacement"])
        self._status = 308 if _flag(options.get("permanent", "false")) else 307

    def __call__(self, call: Call) -> None:
        url = f"{call.scheme}://".encode() + call.authority + call.target
        if self._pattern.search(url):
            raise _redirect(self._status, self._pattern.sub(self._replacement, url))


class Headers:
    """Custom request and response fields (an empty value removes), and the security fields that Traefik knows."""

    def __init__(self, options: Options) -> None:
        self._request = _named(options, "customrequestheaders.")
        self._response = _named(options, "customresponseheaders.")
        self._secure: list[tuple[bytes, bytes]] = []
        for option, name, value in SECURITY:
            if option in options and (value is None or _flag(options[option])):
                self._response.append((name, options[option].encode() if value is None else value))
        if age := int(options.get("stsseconds", "0")):
            parts = [f"max-age={age}"]
            parts += ["includeSubDomains"] if _flag(options.get("stsincludesubdomains", "false")) else []
            parts += ["preload"] if _flag(options.get("stspreload", "false")) else []
            self._secure.append((b"Strict-Transport-Security", "; ".join(parts).encode()))
        if _flag(options.get("forcestsheader", "false")):
            self._response += self._secure

    def __call__(self, call: Call) -> None:
        for name, value in self._request:
            call.fields = set_field(call.fields, name, value)
        # HSTS says something behind TLS only (RFC 6797, 7.2).
        response = [*self._response, *self._secure] if call.scheme == "https" else self._response
        if response:
            call.edits.append(partial(_set_fields, response))


class BasicAuth:
    def __init__(self, options: Options) -> None:
        self._users = Users(options["users"])
        self._realm = options.get("realm", "traefik").replace('"', "")
        self._remove = _flag(options.get("removeheader", "false"))
        self._header = options.get("headerfield", "").encode()

    def __call__(self, call: Call) -> None:
        user = self._users.verify(get_field(call.fields, b"authorization"))
        if user is None:
            raise Answer(
                401, "a user and password are needed", f'WWW-Authenticate: Basic realm="{self._realm}"\r\n'.encode()
            )
        if self._remove:
            call.fields = set_field(call.fields, b"Authorization", b"")
        if self._header:
            call.fields = set_field(call.fields, self._header, user)


class AllowList:
    def __init__(self, options: Options) -> None:
        self._networks = parse_networks([one.decode() for one in _list(options["sourcerange"])])

    def __call__(self, call: Call) -> None:
        if not is_trusted(call.address, self._networks):
            raise Answer(403, "this address is not allowed here")


class RateLimit:
    """A token bucket for each source address; counted by each worker, so the node's limit is divided among them."""

    def __init__(self, options: Options) -> None:
        self._rate = float(options["average"]) / (seconds(options.get("period", "1s")) or 1.0)
        self._burst = max(1.0, float(options.get("burst", "1")))
        self._buckets: dict[str, tuple[float, float]] = {}

    def __call__(self, call: Call) -> None:
        if self._rate <= 0:
            return
        tokens, seen = self._buckets.get(call.address, (self._burst, call.now))
        tokens = min(self._burst, tokens + (call.now - seen) * self._rate)
        if tokens < 1.0:
            raise Answer(429, "too many requests", b"Retry-After: %d\r\n" % max(1, round((1 - tokens) / self._rate)))
        if len(self._buckets) >= MAX_BUCKETS:
            self._forget(call.now)
        self._buckets[call.address] = (tokens - 1.0, call.now)

    def _forget(self, now: float) -> None:
        """Full buckets say nothing; if too few are full, all start anew."""
        full = self._burst / self._rate
        self._buckets = {key: one for key, one in self._buckets.items() if now - one[1] < full}
        if len(self._buckets) >= MAX_BUCKETS // 2:
            self._buckets.clear()


class Buffering:
    """Only the limit on the request's body: nothing is buffered, as the gateway streams."""

    def __init__(self, options: Options) -> None:
        self._limit = int(options["maxrequestbodybytes"])

    def __call__(self, call: Call) -> None:
        call.max_body = self._limit


class Retry:
    def __init__(self, options: Options) -> None:
        self._attempts = int(options["attempts"])

    def __call__(self, call: Call) -> None:
        call.retries = self._attempts


class InFlightReq:
    """So many requests of one source at a time, by worker."""

    def __init__(self, options: Options) -> None:
        amount = int(options["amount"])
        if amount < 1:
            raise ValueError("amount must be at least 1")
        self._flights = InFlight(amount)
        self._criterion = criterion(options)

    @property
    def in_progress(self) -> int:
        """Sources with requests in progress."""
        return self._flights.sources

    def __call__(self, call: Call) -> None:
        source = self._criterion(call.address, call.request.host, lambda name: get_field(call.fields, name))
        if not self._flights.enter(source):
            raise Answer(429, "too many requests of this source are in progress")
        call.after.append(lambda status, seconds: self._flights.leave(source))


class CircuitBreaker:
    def __init__(self, options: Options) -> None:
        self._status = int(options.get("responsecode", "503"))
        if not 200 <= self._status <= 599:
            raise ValueError("responseCode must be a status from 200 to 599")
        self._breaker = Breaker(
            parse_expression(options["expression"]),
            seconds(options.get("checkperiod", "100ms")),
            seconds(options.get("fallbackduration", "10s")),
            seconds(options.get("recoveryduration", "10s")),
        )

    def __call__(self, call: Call) -> None:
        if not self._breaker.admits(call.now):
            raise Answer(self._status, "the service does badly and is left alone for a while")
        started = call.now
        call.after.append(lambda status, took: self._breaker.saw(status, took, started + took))


MAX_BUCKETS = 65_536
KINDS: dict[str, Callable[[Options], Middleware]] = {
    "stripprefix": StripPrefix,
    "addprefix": AddPrefix,
    "replacepath": ReplacePath,
    "replacepathregex": ReplacePathRegex,
    "redirectscheme": RedirectScheme,
    "redirectregex": RedirectRegex,
    "headers": Headers,
    "basicauth": BasicAuth,
    "ipallowlist": AllowList,
    "ipwhitelist": AllowList,
    "ratelimit": RateLimit,
    "buffering": Buffering,
    "circuitbreaker": CircuitBreaker,
    "inflightreq": InFlightReq,
    "retry": Retry,
}
SECURITY: tuple[tuple[str, bytes, bytes | None], ...] = (
    ("framedeny", b"X-Frame-Options", b"DENY"),
    ("customframeoptionsvalue", b"X-Frame-Options", None),
    ("contenttypenosniff", b"X-Content-Type-Options", b"nosniff"),
    ("browserxssfilter", b"X-XSS-Protection", b"1; mode=block"),
    ("contentsecuritypolicy", b"Content-Security-Policy", None),
    ("referrerpolicy", b"Referrer-Policy", None),
    ("permissionspolicy", b"Permissions-Policy", None),
)


def known_options(kind: str) -> frozenset[str]:
    """The options that a kind of middleware reads; those of `headers` may have names behind a dot."""
    return OPTIONS[kind]


OPTIONS: dict[str, frozenset[str]] = {
    "stripprefix": frozenset({"prefixes", "forceslash"}),
    "addprefix": frozenset({"prefix"}),
    "replacepath": frozenset({"path"}),
    "replacepathregex": frozenset({"regex", "replacement"}),
    "redirectscheme": frozenset({"scheme", "port", "permanent"}),
    "redirectregex": frozenset({"regex", "replacement", "permanent"}),
    "headers": frozenset({"customrequestheaders", "customresponseheaders", "stsseconds", "stsincludesubdomains",
                          "stspreload", "forcestsheader"} | {one[0] for one in SECURITY}),
    "basicauth": frozenset({"users", "realm", "removeheader", "headerfield"}),
    "ipallowlist": frozenset({"sourcerange"}),
    "ipwhitelist": frozenset({"sourcerange"}),
    "ratelimit": frozenset({"average", "period", "burst"}),
    "buffering": frozenset({"maxrequestbodybytes"}),
    "circuitbreaker": frozenset({"expression", "checkperiod", "fallbackduration", "recoveryduration", "responsecode"}),
    "inflightreq": frozenset({"amount", "sourcecriterion.requestheadername", "sourcecriterion.requesthost"}),
    "retry": frozenset({"attempts", "initialinterval"}),
}  # fmt: skip


def make_middleware(kind: str, options: Options) -> Middleware:
    """Raises ValueError with what is wrong with it."""
    make = KINDS.get(kind)
    if make is None:
        raise ValueError(f"the gateway has no middleware {kind!r}; it has: {', '.join(sorted(KINDS))}")
    try:
        return make(options)
    except KeyError as error:
        raise ValueError(f"{kind} needs the option {error.args[0]}") from None
    except re.error as error:
        raise ValueError(f"{kind}: {error}") from None


def get_field(fields: bytes, name: bytes) -> bytes | None:
    """The first value of a field in a block of lines."""
    for line in fields.split(b"\r\n"):
        key, _, value = line.partition(b":")
        if key.lower() == name.lower():
            return value.strip()
    return None


def set_field(fields: bytes, name: bytes, value: bytes) -> bytes:
    """The block with the field set to one value; removed if that is empty."""
    lower = name.lower()
    kept = [line for line in fields.split(b"\r\n") if line and line.partition(b":")[0].lower() != lower]
    if value:
        kept.append(name + b": " + value)
    return b"".join(line + b"\r\n" for line in kept)


def _set_fields(wanted: list[tuple[bytes, bytes]], head: bytes) -> bytes:
    line, _, fields = head.partition(b"\r\n")
    for name, value in wanted:
        fields = set_field(fields, name, value)
    return line + b"\r\n" + fields


def _redirect(status: int, url: bytes) -> Answer:
    # What came from the client must not end the line.
    return Answer(status, "see Location", b"Location: " + re.sub(rb"[\x00-\x20\x7f]", b"", url) + b"\r\n")


def _expansion(text: str) -> bytes:
    """Go's `$1` and `${1}` as Python writes them."""
    return re.sub(r"\$\{?(\w+)\}?", r"\\g<\1>", text.replace("\\", "\\\\")).encode()


def _list(value: str) -> list[bytes]:
    return [item.strip().encode() for item in value.split(",") if item.strip()]


def _flag(value: str) -> bool:
    return value.lower() in ("true", "1")


def _named(options: Options, prefix: str) -> list[tuple[bytes, bytes]]:
    found = [
        (name[len(prefix) :].encode(), value) for name, value in sorted(options.items()) if name.startswith(prefix)
    ]
    for name, value in found:
        if not re.fullmatch(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+", name) or re.search(r"[\x00-\x08\x0a-\x1f\x7f]", value):
            raise ValueError(f"the field {name.decode()} cannot be set so")
        if name.lower() in (b"host", b"content-length", b"transfer-encoding", b"connection"):
            raise ValueError(f"the field {name.decode()} is the gateway's own")
    return [(name, value.encode()) for name, value in found]
